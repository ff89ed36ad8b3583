"""What lies in the music folders and was not looked at.

Belongs here: its columns, reading and writing them, and telling it in a few words. Does not:
deciding what is left out (``scan``).
"""

import os
from collections import Counter
from collections.abc import Iterable

import polars as pl

from fastdino.core import tables
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.text import counted

KINDS = {
    "format": "a file of a kind that is not read",
    "excluded": "a file that a pattern of FASTDINO_EXCLUDE names",
    "junk": "a file called like a song that a system has left, such as ._song.mp3",
    "excluded folder": "a folder that a pattern of FASTDINO_EXCLUDE names",
    "marked folder": "a folder with a file .nomedia, or an empty .ndignore",
    "junk folder": "a bin, a snapshot or the like of a system or a program",
}
FOLDERS = tuple(kind for kind in KINDS if kind.endswith("folder"))
# What a person has asked for. Where such a thing is found, its disk is there.
WANTED = ("excluded", "excluded folder", "marked folder")
SCHEMA = pl.Schema(
    {
        "path": pl.String(),  # absolute; the key
        "folder": pl.String(),  # the music folder it was found under
        "kind": pl.String(),  # of KINDS
        "why": pl.String(),
    }
)
# Kinds that are named in one line; of the others only the number.
TOLD = 3


def read(home: Home) -> pl.DataFrame:
    """What the last ingestion left out, sorted by path; nothing if none has said.

    Raises:
        UserError: the file is damaged.
        OSError: the disk cannot read it, or it may not be read.
    """
    try:
        return tables.read(home.skipped, SCHEMA, missing_ok=True)
    except ValueError as error:
        raise UserError(
            f"{home.skipped} is damaged or of another version: run `fastdino ingest`, which "
            "writes it anew"
        ) from error


def write(home: Home, rows: pl.DataFrame) -> None:
    """Replace what is known to be left out by ``rows``, which has the columns of ``SCHEMA``."""
    tables.write(home.skipped, rows.select(SCHEMA.names()))


def ending(name: str) -> str:
    """The end of a file's name that tells its format, in small letters; "" if there is none."""
    end = os.path.splitext(name)[1].lower()
    # What follows the number in "07. A song" is no ending.
    return end if 2 <= len(end) <= 10 and end[1:].isalnum() else ""


def told(rows: pl.DataFrame) -> list[str]:
    """What people are told of ``rows``, in a few words each: only the most frequent are named."""
    by_kind = rows.group_by("kind").agg("path")
    paths = {kind: found for kind, found in by_kind.iter_rows() if kind in KINDS}
    parts = []
    if unread := paths.get("format"):
        kinds = Counter(ending(os.path.basename(path)) or "without an ending" for path in unread)
        named = _most((f"{n:,} {kind}" for kind, n in _ranked(kinds)), "kind")
        parts.append(f"{counted(len(unread), 'file')} not looked at: {named}")
    if excluded := paths.get("excluded"):
        parts.append(f"{len(excluded):,} excluded")
    if folders := [path for kind in FOLDERS for path in paths.get(kind, ())]:
        names = Counter(os.path.basename(path) for path in folders)
        named = _most((name for name, _ in _ranked(names)), "name")
        parts.append(f"{counted(len(folders), 'folder')} skipped: {named}")
    return parts


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _most(named: Iterable[str], what: str) -> str:
    first = list(named)
    left = len(first) - TOLD
    return ", ".join(first[:TOLD]) + f" and {counted(left, f'more {what}')}" * (left > 0)
