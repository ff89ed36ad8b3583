"""Listing the music files under one or more folders, without opening them.

Belongs here: walking folders, what counts as a music file, and refusing to believe in an empty
folder. Does not: what the files hold (``identify``) or what has changed (``diff``).
"""

import os
import stat
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from fastdino.core.errors import UserError
from fastdino.ingestion import sheets

SUFFIXES = (
    ".aac", ".aif", ".aifc", ".aiff", ".ape", ".au", ".caf", ".dsf", ".flac", ".m4a", ".m4b",
    ".mka", ".mp2", ".mp3", ".mpc", ".oga", ".ogg", ".opus", ".tak", ".tta", ".w64", ".wav",
    ".wma", ".wv",
)  # fmt: skip
# What file servers and desktops leave lying about. Hidden names (such as ._x) are skipped anyway.
JUNK_FOLDERS = frozenset({"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information"})

# Far beyond a day of sound, however well recorded. Files that are made up, as those of the system
# that stand for its memory, may claim any size.
LARGEST_BYTES = 100 * 10**9

SCHEMA = pl.Schema(
    {
        "path": pl.String(),
        "folder": pl.String(),
        "size": pl.Int64(),
        "mtime_ns": pl.Int64(),
        "ctime_ns": pl.Int64(),
        "error": pl.String(),
        "sheets": pl.String(),
    }
)


# Of ``SCHEMA``.
Row = tuple[str, str, int, int, int, str | None]


@dataclass(frozen=True)
class Listing:
    """What lies in the music folders.

    Attributes:
        files: one row per music file, as in ``SCHEMA``; ``error`` says why one cannot be opened,
            ``sheets`` stands for the CUE sheets beside it.
        folders: the given folders, absolute, without those that lie inside others.
        unlisted: sub-folders that could not be read; what they hold is unknown, not gone.
    """

    files: pl.DataFrame
    folders: tuple[str, ...]
    unlisted: tuple[str, ...]


def scan(folders: Sequence[Path], populated: frozenset[str] = frozenset()) -> Listing:
    """List all music files under ``folders``.

    Links are followed, but no folder is listed twice, however it is reached.

    Args:
        folders: folders of music; nested or repeated ones count once.
        populated: paths known to have held music under these folders so far.

    Raises:
        UserError: a folder is missing, cannot be read, or holds no music.
    """
    tops = _outermost(folders)
    seen: set[tuple[int, int]] = set()
    rows: list[Row] = []
    beside: dict[str, str | None] = {}
    unlisted: list[str] = []
    for top in tops:
        before = len(rows)
        held = any(path.startswith(os.path.join(top, "")) for path in populated)
        # Real folders first, linked ones last: a file is found under its own path if it has one.
        queue, links = deque([top]), deque[str]()
        while queue or links:
            here = (queue or links).popleft()
            try:
                status = os.stat(here)
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                with os.scandir(here) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                if here == top:
                    raise UserError(_refusal(top, error, held)) from error
                unlisted.append(_printable(here))
                rows.append((_printable(here), top, 0, 0, 0, f"cannot be read: {error.strerror}"))
                continue
            first = len(rows)
            for entry in found:
                if entry.name.startswith(".") or entry.name in JUNK_FOLDERS:
                    continue
                try:
                    if entry.is_dir():
                        (links if entry.is_symlink() else queue).append(entry.path)
                        continue
                except OSError:
                    pass  # A link in a circle: no folder, and as a file it gets its row below.
                if os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                    rows += _row(entry, top)
            names = [os.path.basename(path) for path, *_ in rows[first:]]
            beside[_printable(here)] = sheets.fingerprint(found, names)
        if len(rows) == before:
            raise UserError(_empty(top, held))
    with_sheets = [(*row, beside.get(os.path.dirname(row[0]))) for row in rows]
    files = pl.DataFrame(with_sheets, schema=SCHEMA, orient="row")
    return Listing(files.unique("path", keep="first").sort("path"), tops, tuple(unlisted))


def _row(entry: "os.DirEntry[str]", top: str) -> list[Row]:
    path, size, mtime_ns, ctime_ns, error = _printable(entry.path), 0, 0, 0, None
    try:
        status = entry.stat()
        size, mtime_ns, ctime_ns = status.st_size, status.st_mtime_ns, status.st_ctime_ns
        if not stat.S_ISREG(status.st_mode):
            error = "is not a file but a pipe, socket or device"
        elif path != entry.path:
            error = "has a name that is not valid UTF-8: rename it"
        elif not size:
            error = "is empty (0 bytes)"
        elif size > LARGEST_BYTES:
            error = f"is larger than any song: {size / 1e9:,.0f} GB"
    except FileNotFoundError:
        if not entry.is_symlink():
            return []  # Gone since the folder was listed.
        error = "is a link to a file that is not there"
    except OSError as problem:
        error = f"cannot be read: {problem.strerror}"
    return [(path, top, size, mtime_ns, ctime_ns, error)]


def _outermost(folders: Sequence[Path]) -> tuple[str, ...]:
    """Absolute paths of ``folders``, in order, without those equal to or inside of others."""
    real = {os.path.realpath(f): os.path.abspath(f) for f in reversed(folders)}
    inner = {a for a in real for b in real if a != b and a.startswith(os.path.join(b, ""))}
    return tuple(sorted(_printable(given) for r, given in real.items() if r not in inner))


def _printable(path: str) -> str:
    """``path`` as text that can be stored: bytes that are not UTF-8 written as ``\\xff``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _refusal(top: str, error: OSError, held: bool) -> str:
    if isinstance(error, FileNotFoundError):
        what = f"there is no folder {top}"
    elif isinstance(error, NotADirectoryError):
        return f"{top} is not a folder: name the folder that the music is in"
    else:
        what = f"cannot read the folder {top}: {error.strerror}"
    return f"{what}{_reassurance() if held else ': check the name'}"


def _empty(top: str, held: bool) -> str:
    if held:
        return f"{top} held music before and is empty now{_reassurance()}"
    return f"no music files in {top} (looked for {', '.join(SUFFIXES)})"


def _reassurance() -> str:
    return (
        ". Is its disk mounted? Nothing was changed. If the music is gone for good, "
        "leave this folder out"
    )
