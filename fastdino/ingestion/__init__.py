"""Ingestion: which songs there are.

Belongs here: finding files (``scan``), telling recordings apart (``identify``), their tags
(``tags``, from ``tag_blocks``, in the right ``encodings``), what changed (``diff``), the catalogue
(``catalog``), and the stage that does all that (``stage``).
Does not: decoding; the music folders are only ever read.
"""

from collections.abc import Sequence
from pathlib import Path

from fastdino.core.home import Home
from fastdino.core.summary import Summary

__all__ = ["run"]


def run(home: Home, folders: Sequence[Path]) -> Summary:
    """Bring the catalogue up to date with what ``folders`` hold; see ``ingestion.stage.run``."""
    from fastdino.ingestion import stage

    return stage.run(home, folders)
