"""Ingestion: which songs there are.

Belongs here: finding files (``scan``) and what was left out (``skipped``), telling recordings apart
(``identify``), their tags (``tags``, from ``tag_blocks``, in the right ``encodings``), the songs in
a file with a CUE sheet (``sheets``), what changed (``diff``), the catalogue (``catalog``), and the
stage that does all that (``stage``).
Does not: decoding; the music folders are only ever read.
"""

from collections.abc import Sequence
from pathlib import Path

from fastdino.core.home import Home
from fastdino.core.summary import Summary

__all__ = ["run"]


def run(
    home: Home, folders: Sequence[Path], exclude: Sequence[str] = (), *, rescan: bool = False
) -> Summary:
    """Bring the catalogue up to date with what ``folders`` hold; see ``ingestion.stage.run``."""
    from fastdino.ingestion import stage

    return stage.run(home, folders, exclude, rescan=rescan)
