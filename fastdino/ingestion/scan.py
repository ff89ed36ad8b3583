"""Listing the music files under one or more folders, without opening them.

Belongs here: walking folders, what counts as a music file and what is left out, and refusing to
believe in an empty folder. Does not: what the files hold (``identify``) or what has changed
(``diff``); what is told of what was left out (``skipped``).
"""

import fnmatch
import os
import re
import stat
import unicodedata
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from fastdino.core.errors import UserError
from fastdino.core.paths import to_path, to_text
from fastdino.ingestion import sheets, skipped

# Each is the ending of a file that a test has decoded, but for those that it names.
SUFFIXES = (
    ".3g2", ".3gp", ".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".ape", ".au", ".avi", ".caf",
    ".dff", ".dsf", ".dts", ".eac3", ".ec3", ".flac", ".flv", ".m4a", ".m4b", ".m4r", ".m4v",
    ".mka", ".mkv", ".mlp", ".mov", ".mp1", ".mp2", ".mp3", ".mp4", ".mpc", ".mpga", ".oga", ".ogg",
    ".ogv", ".ogx", ".opus", ".ra", ".rm", ".shn", ".snd", ".spx", ".tak", ".thd", ".tta", ".voc",
    ".w64", ".wav", ".wave", ".weba", ".webm", ".wma", ".wmv", ".wv",
)  # fmt: skip
# What lies beside music and is none: pictures, texts, lists, checksums, and what players and
# editors keep. No one misses these, so they are counted and not listed.
COMPANIONS = frozenset((
    ".avif", ".bmp", ".gif", ".heic", ".ico", ".icns", ".jfif", ".jpe", ".jpeg", ".jpg", ".jxl",
    ".png", ".psd", ".svg", ".tif", ".tiff", ".webp", ".xcf", ".csv", ".diz", ".doc", ".docx",
    ".epub", ".htm", ".html", ".json", ".log", ".md", ".nfo", ".odt", ".pdf", ".ps", ".rtf", ".tex",
    ".txt", ".xml", ".yaml", ".yml", ".asx", ".cue", ".fpl", ".m3u", ".m3u8", ".pls", ".ram",
    ".smi", ".wpl", ".xspf", ".zpl", ".accurip", ".asc", ".crc", ".ffp", ".md5", ".par2", ".sfv",
    ".sha1", ".sha256", ".sha512", ".sig", ".st5", ".db", ".ini", ".itdb", ".itl", ".sqlite",
    ".tsv", ".cfg", ".conf", ".desktop", ".lnk", ".plist", ".url", ".webloc", ".ass", ".idx",
    ".lrc", ".srt", ".sub", ".vtt", ".asd", ".peak", ".pk", ".pkf", ".reapeaks", ".sfk", ".sfl",
    ".torrent",
))  # fmt: skip
# What systems, file servers and programs keep for themselves, in any case; it may well be full of
# songs that were deleted, or of copies. A dot alone hides nothing: there is "...And Justice".
JUNK = frozenset((
    "__macosx", "@eadir", "#recycle", "@recycle", "@recently-snapshot", "@snapshot", "#snapshot",
    "@sharebin", "@tmp", "$recycle.bin", "lost+found", ".@__thumb", ".@upload_cache",
    ".appledouble", ".appledb", ".appledesktop", ".apdisk", ".cache", ".documentrevisions-v100",
    ".dropbox.cache", ".fseventsd", ".git", ".hg", ".svn", ".recycle", ".recycler", ".snapshot",
    ".snapshots", ".spotlight-v100", ".stfolder", ".streams", ".stversions", ".sync",
    ".temporaryitems", ".thumbnails", ".thumbs", ".timemachine", ".trash", ".trashes", ".vol",
    ".zfs", "~snapshot", ".recycle.bin",
    "system volume information", "network trash folder", "temporary items",
))  # fmt: skip
JUNK_BEGINS = (
    "._",
    ".trash-",
    ".trashed-",
    ".pending-",
    ".fuse_hidden",
    ".nfs0",
    ".syncthing.",
    ".~lock.",
    ".smbdelete",
)
# Of Windows XP. In small letters it is an album.
JUNK_EXACTLY = frozenset({"RECYCLER"})
# A file by which its folder asks to be left alone. One of the second kind may hold patterns for
# the program that it is meant for; only an empty one means the whole folder.
MARKS = frozenset({".nomedia", ".ndignore"})

# Far beyond a day of sound, however well recorded. Files that are made up, as those of the system
# that stand for its memory, may claim any size.
LARGEST_BYTES = 100 * 10**9

# The last whole second, in the year 2262, that 64 bits can hold. The last nanosecond is what DuckDB
# takes for infinity.
FARTHEST_NS = 2**63 // 10**9 * 10**9

REASSURANCE = (
    ". Is its disk mounted? Nothing was changed. If the music is gone for good, leave this folder "
    "out"
)
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
        skipped: one row per file or folder left out, as in ``skipped.SCHEMA``.
        companions: number of files such as covers, which are neither.
    """

    files: pl.DataFrame
    folders: tuple[str, ...]
    unlisted: tuple[str, ...]
    skipped: pl.DataFrame
    companions: int


def scan(
    folders: Sequence[Path],
    populated: frozenset[str] = frozenset(),
    exclude: Sequence[str] = (),
) -> Listing:
    """List all music files under ``folders``.

    Links are followed, but no folder is listed twice, however it is reached.

    Args:
        folders: folders of music; nested or repeated ones count once.
        populated: paths known to have held music under these folders so far, as stored.
        exclude: patterns of what to leave out, as in a shell, whatever the case; each is compared
            with a name and with the path within the music folder.

    Raises:
        UserError: a folder is missing, cannot be read, or holds no music.
    """
    tops = _outermost(folders)
    excluded, known = Patterns(exclude), sorted(populated)
    seen: dict[tuple[int, int], str] = {}
    # Where what a music folder leads to was listed, if that was under another path.
    elsewhere: dict[str, list[str]] = {top: [] for top in tops}
    rows: list[Row] = []
    beside: dict[str, str | None] = {}
    left_out: list[tuple[str, str, str, str]] = []
    unlisted: list[str] = []
    companions = 0
    # Real folders first, linked ones last: a file is found under its own path if it has one.
    starts = deque((to_path(top), top) for top in tops)
    queue, links = deque[tuple[str, str]](), deque[tuple[str, str]]()
    while starts or queue or links:
        here, top = (queue or starts or links).popleft()
        start = to_path(top)
        try:
            status = os.stat(here)
            if first_path := seen.get((status.st_dev, status.st_ino)):
                elsewhere[top].append(first_path)
                continue
            seen[status.st_dev, status.st_ino] = to_text(here)
            with os.scandir(here) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if here == start:
                raise UserError(_refusal(top, error, _any_in(top, known))) from error
            unlisted.append(to_text(here))
            rows.append((to_text(here), top, 0, 0, 0, f"cannot be read: {error.strerror}"))
            continue
        # A folder that was named is meant, whatever lies in it.
        if here != start and (mark := _mark(found)):
            left_out.append((to_text(here), top, "marked folder", f"it holds a file {mark}"))
            continue
        first = len(rows)
        for entry in found:
            is_folder = _is_folder(entry, known)
            end = "" if is_folder else skipped.ending(entry.name)
            inside = entry.path[len(os.path.join(start, "")) :]
            if reason := _left_out(entry.name, inside, end, excluded, is_folder):
                left_out.append((to_text(entry.path), top, *reason))
            elif is_folder:
                (links if entry.is_symlink() else queue).append((entry.path, top))
            elif end in SUFFIXES:
                rows += _row(entry, top)
            else:
                companions += 1
        names = [os.path.basename(path) for path, *_ in rows[first:]]
        beside[to_text(here)] = sheets.fingerprint(found, names)
    paths = sorted(path for path, *_ in rows)
    empty: list[tuple[str, bool]] = []
    for top in tops:
        if any(_any_in(folder, paths) for folder in (top, *elsewhere[top])):
            continue
        others = _frame([each for each in left_out if each[1] == top])
        held = _any_in(top, known)
        if others.filter(pl.col("kind").is_in(skipped.WANTED)).is_empty():
            raise UserError(_empty(top, held, skipped.told(others)))
        empty.append((top, held))
    if empty and not rows:
        raise UserError(_all_left_out(*empty[0]))
    with_sheets = [(*row, beside.get(os.path.dirname(row[0]))) for row in rows]
    files = pl.DataFrame(with_sheets, schema=SCHEMA, orient="row")
    return Listing(
        files.unique("path", keep="first").sort("path"),
        tops,
        tuple(unlisted),
        _frame(left_out).unique("path", keep="first").sort("path"),
        companions,
    )


def _any_in(folder: str, paths: Sequence[str]) -> bool:
    """Whether any of ``paths``, which are in order, is in a folder."""
    inside = os.path.join(folder, "")
    at = bisect_left(paths, inside)
    return at < len(paths) and paths[at].startswith(inside)


def _frame(left_out: list[tuple[str, str, str, str]]) -> pl.DataFrame:
    return pl.DataFrame(left_out, schema=skipped.SCHEMA, orient="row")


class Patterns:
    """What a person wants left out."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [
            (each, re.compile(fnmatch.translate(_composed(each)), re.IGNORECASE))
            for each in patterns
        ]

    def cover(self, path: str) -> bool:
        """Whether a file, or a folder that it is in, is left out; ``path`` may be relative."""
        parts = path.strip("/").split("/")
        ways = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        return any(
            self.match(name, way, way is not ways[-1])
            for name, way in zip(parts, ways, strict=True)
        )

    def match(self, name: str, inside: str, is_folder: bool) -> str | None:
        """Why an entry is left out, if it is; ``inside`` is its path within the music folder."""
        # With a slash before it, so that */Podcasts/* is also the one right in the music folder;
        # behind a folder one too, so that it is not even entered.
        name, inside = _composed(name), _composed(inside)
        texts = [name, inside, f"/{inside}", *([f"{inside}/", f"/{inside}/"] * is_folder)]
        for pattern, compiled in self._patterns:
            if any(map(compiled.match, texts)):
                return f"FASTDINO_EXCLUDE has {to_text(pattern)}"
        return None


def _composed(text: str) -> str:
    """``text`` with letters and their accents as one; on disks of a Mac they are apart."""
    return unicodedata.normalize("NFC", text)


def _is_folder(entry: "os.DirEntry[str]", known: Sequence[str]) -> bool:
    """Whether an entry is a folder, or a link that cannot be followed to where one was before."""
    try:
        if entry.is_dir() or not entry.is_symlink():
            return entry.is_dir()
        entry.stat()
        return False
    except OSError:
        return _any_in(to_text(entry.path), known)


def _left_out(
    name: str, inside: str, end: str, excluded: Patterns, is_folder: bool
) -> tuple[str, str] | None:
    """Kind and reason of what is left out; None for songs, companions and folders to enter."""
    if _is_junk(name):
        why = "a system or a program keeps it for itself"
        if is_folder:
            return "junk folder", why
        return ("junk", why) if end in SUFFIXES else None
    if not is_folder and (end in COMPANIONS or (not end and name.startswith("."))):
        return None
    if why_excluded := excluded.match(name, inside, is_folder):
        return "excluded folder" if is_folder else "excluded", why_excluded
    if is_folder or end in SUFFIXES:
        return None
    return "format", f"{end} is no format that is read" if end else "its name has no ending"


def _is_junk(name: str) -> bool:
    plain = name.lower()
    return plain in JUNK or name in JUNK_EXACTLY or plain.startswith(JUNK_BEGINS)


def _mark(entries: "Sequence[os.DirEntry[str]]") -> str | None:
    for entry in entries:
        if (mark := entry.name.lower()) in MARKS:
            try:
                if mark != ".ndignore" or not entry.stat().st_size:
                    return mark
            except OSError:
                pass  # A link to nothing, which asks for nothing.
    return None


def _row(entry: "os.DirEntry[str]", top: str) -> list[Row]:
    path, size, mtime_ns, ctime_ns, error = to_text(entry.path), 0, 0, 0, None
    try:
        status = entry.stat()
        size = status.st_size
        mtime_ns, ctime_ns = _stored(status.st_mtime_ns), _stored(status.st_ctime_ns)
        if not stat.S_ISREG(status.st_mode):
            error = "is not a file but a pipe, socket or device"
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


def _stored(time_ns: int) -> int:
    """A time on disk, or the nearest that can be stored: some programs mistake the unit."""
    return min(max(time_ns, -FARTHEST_NS), FARTHEST_NS)


def _outermost(folders: Sequence[Path]) -> tuple[str, ...]:
    """Absolute paths of ``folders``, in order, without those equal to or inside of others."""
    real = {os.path.realpath(f): os.path.abspath(f) for f in reversed(folders)}
    inner = {a for a in real for b in real if a != b and a.startswith(os.path.join(b, ""))}
    return tuple(sorted(to_text(given) for r, given in real.items() if r not in inner))


def _refusal(top: str, error: OSError, held: bool) -> str:
    if isinstance(error, FileNotFoundError):
        what = f"there is no folder {top}"
    elif isinstance(error, NotADirectoryError):
        return f"{top} is not a folder: name the folder that the music is in"
    else:
        what = f"cannot read the folder {top}: {error.strerror}"
    return f"{what}{REASSURANCE if held else ': check the name'}"


def _empty(top: str, held: bool, instead: Sequence[str]) -> str:
    if held:
        return f"{top} held music before and is empty now{REASSURANCE}"
    there = "".join(f"; {told}" for told in instead)
    return f"no music files in {top}{there} (looked for {', '.join(SUFFIXES)})"


def _all_left_out(top: str, held: bool) -> str:
    why = "FASTDINO_EXCLUDE and files .nomedia and .ndignore leave out all that is in"
    return f"{why} {top}: look at them{'. Nothing was changed' * held}"
