"""Ingestion: which songs there are.

Belongs here: finding files (``scan``), telling recordings apart and reading tags (``identify``),
what changed (``diff``), the catalogue (``catalog``), what was left out (``skipped``), and the stage
that does all that (``stage``).
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
