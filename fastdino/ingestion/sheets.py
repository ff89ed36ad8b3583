"""Albums in one file: which songs the CUE sheets beside a file, or the one within, make of it.

Belongs here: finding and reading sheets, telling which file one is of, the songs that come of it,
and what is said where it does not fit. Does not: what stands in a sheet (``cue``); the catalogue's
columns (``catalog``).

A file stays one row of the catalogue, known by its audio. Its songs stand in that row, each known
by the file's audio and its place in it: moving file and sheet, or mending a title, keeps them.
"""

import contextlib
import functools
import hashlib
import os
import stat
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from fastdino.core.paths import to_path, to_text
from fastdino.ingestion import catalog, cue, encodings
from fastdino.ingestion.split_albums import File, Folder, folded, is_long_enough
from fastdino.ingestion.tags import BETWEEN, clean, genre_names, in_page, isrc, repaired, year

# Of what is made of sheets: those of a catalogue of before are looked at once more.
VERSION = 3
SUFFIX = ".cue"
# A sheet of ninety-nine tracks takes a hundredth of it.
LARGEST_BYTES = 1 << 20


class Unreadable(cue.SheetError):
    """A sheet that the disk, or who owns it, does not let be read; this may change unseen."""


@dataclass(frozen=True)
class Beside:
    """A sheet in a folder: its name as stored, what it says, or why that cannot be told.

    It is written in ``encoding``, and so may the names be of the files that it is of.
    """

    name: str
    says: cue.Sheet | cue.SheetError
    encoding: str = "utf-8"


def is_sheet(name: str) -> bool:
    """Whether a file of this name is a CUE sheet; ``._x`` is what a Mac keeps beside ``x``."""
    return name.lower().endswith(SUFFIX) and not name.startswith("._")


def fingerprint(entries: Iterable["os.DirEntry[str]"], music: Collection[str]) -> str | None:
    """What stands for the sheets of a folder, and for the ``music`` that they may name.

    None where there is no sheet. As with music, size and times tell whether one has changed.
    """
    seen: list[tuple[object, ...]] = []
    for entry in entries:
        if is_sheet(entry.name):
            seen.append((entry.name,))
            with contextlib.suppress(OSError):
                status = entry.stat()
                seen[-1] += (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    if not seen:
        return None
    text = repr((VERSION, sorted(seen), sorted(music)))
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def applied(rows: pl.DataFrame, listed: pl.DataFrame, opened: Collection[str]) -> pl.DataFrame:
    """The catalogue's ``rows`` with the songs that sheets make of their files.

    Looked at are the sheets of folders in which a sheet, a name or a file has changed.

    Args:
        rows: of the catalogue, but for what sheets say as it was before.
        listed: what ``scan`` lists.
        opened: paths of files that were opened just now.
    """
    # Most folders have no sheet, never had one, and cost nothing.
    there = listed.filter(pl.col("sheets").is_not_null())["path"]
    known_of = ("own_sheet", "sheets", "cue", "sheet_error")
    concerned = rows.filter(
        pl.any_horizontal(pl.col(name).is_not_null() for name in known_of)
        | pl.col("path").is_in(there.implode())
    )
    if concerned.is_empty():
        return rows
    near = {os.path.dirname(path) for path in concerned["path"]}
    others = rows.filter(~catalog.PARENT.is_in(near))
    rows = rows.filter(catalog.PARENT.is_in(near))
    now = dict(listed.select("path", "sheets").iter_rows())
    columns = ("path", "track_id", "duration_s", "own_sheet", "title", "sheets")
    due = {
        os.path.dirname(path)
        for path, *_, known in rows.select(columns).iter_rows()
        if path in now and (path in opened or known != now[path])
    }
    folders: dict[str, list[File]] = {folder: [] for folder in due}
    for *about, _ in rows.select(columns).iter_rows():
        file = File(*about)
        if file.path in now and os.path.dirname(file.path) in due:
            folders[os.path.dirname(file.path)].append(file)
    told = []
    for folder, files in folders.items():
        besides = _read_all(to_path(folder)) if now[files[0].path] else []
        found, wrong = songs_of(files, besides)
        again = any(isinstance(beside.says, Unreadable) for beside in besides)
        for path in (file.path for file in files):
            seen = None if again else now[path]
            told.append((path, seen, found.get(path), wrong.get(path)))
    fresh = ("sheets", "cue", "sheet_error")
    schema = {"path": pl.String(), **{name: rows.schema[name] for name in fresh}}
    looked_at = pl.DataFrame(told, schema=schema, orient="row")
    as_before = rows.join(looked_at, on="path", how="anti")
    looked_at = rows.drop(fresh).join(looked_at, on="path").select(rows.columns)
    return pl.concat([others, as_before, looked_at])


def songs_of(
    files: Sequence[File], besides: Sequence[Beside]
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """The songs in the files of one folder.

    Args:
        files: all of the folder.
        besides: the sheets that lie there.

    Returns:
        Songs, as the catalogue's column ``cue`` has them, of files with a sheet that fits; and why
        others are taken as one song although there is a sheet.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    wrong: dict[str, str] = {}
    folder = Folder(files)
    named = functools.cache(lambda encoding: _Names(files, encoding))

    def take(file: File, name: str, sheet: cue.Sheet, part: cue.Part) -> None:
        if file.track_id is None or file.path in found or folder.holds_tracks_of(part, file):
            return
        try:
            cuts = cue.cuts(part, file.duration_s)
        except cue.SheetError as error:
            wrong.setdefault(file.path, _refusal(name, error))
            return
        if cuts:
            page = _page(sheet)
            found[file.path] = [_song(file.track_id, sheet, cut, page) for cut in cuts]

    astray: list[tuple[str, cue.Part]] = []
    usable = [file for file in files if file.track_id]
    stems = {_stem(file.name) for file in files}
    # Of two sheets of one file, that which has the file's name.
    for beside in sorted(besides, key=lambda each: (_stem(each.name) not in stems, each.name)):
        if isinstance(beside.says, cue.SheetError):
            for file in named(beside.encoding).of(beside.name)[:1] or usable[:1]:
                wrong.setdefault(file.path, _refusal(beside.name, beside.says))
            continue
        for part in beside.says.parts:
            # Where each file is a track, the files are the songs.
            if len(part.audio) < 2:
                continue
            meant = named(beside.encoding).of(part.name) if part.name else []
            if not meant and len(beside.says.parts) == 1:
                meant = named(beside.encoding).of(beside.name)
            for file in meant:
                take(file, beside.name, beside.says, part)
            if not meant and not folder.holds_tracks_of(part):
                astray.append((beside.name, part))
    for file in files:
        if file.own_sheet and file.path not in found:
            try:
                sheet = cue.parse(file.own_sheet)
                if all(len(part.audio) < 2 for part in sheet.parts):
                    continue
                part = _only_part(sheet)
            except cue.SheetError as error:
                wrong.setdefault(file.path, _refusal("the one within", error))
            else:
                take(file, "the one within", sheet, part)
    for name, part in astray:
        named_so = in_page(clean(part.name or ""), None)
        why = f"it is of “{named_so}”, which is not there" if part.name else "it names none"
        left = [file for file in usable if file.path not in found and file.path not in wrong]
        long_enough = [file for file in left if is_long_enough(part, file)]
        for file in left if len(files) == 1 else long_enough[:1]:
            wrong[file.path] = _refusal(name, cue.SheetError(why))
    return found, {path: why for path, why in wrong.items() if path not in found}


def _refusal(name: str, error: cue.SheetError) -> str:
    return f"taken as one song, as its CUE sheet does not fit ({name}): {error}"


class _Names:
    """The files of a folder by what a sheet written in ``encoding`` may call them."""

    def __init__(self, files: Sequence[File], encoding: str) -> None:
        self._whole: dict[str, list[File]] = {}
        self._nearly: dict[str, list[File]] = {}
        for file in files:
            names = {folded(file.name), folded(_name_in(encoding, file.name))}
            for name in names:
                self._whole.setdefault(name, []).append(file)
            for name in names | {os.path.splitext(name)[0] for name in names}:
                self._nearly.setdefault(name, []).append(file)

    def of(self, name: str) -> list[File]:
        """The files of this name; if there is none, those with another suffix, or one more."""
        return self._whole.get(folded(name)) or self._nearly.get(_stem(name), [])


def _name_in(encoding: str, name: str) -> str:
    """A stored name as its bytes read in an encoding; as it is if they are not of that."""
    if name.isascii():
        return name
    try:
        return os.fsencode(to_path(name)).decode(encoding)
    except UnicodeDecodeError:
        return name


def _only_part(sheet: cue.Sheet) -> cue.Part:
    if len(sheet.parts) > 1:
        raise cue.SheetError("it is of several files")
    return sheet.parts[0]


def _page(sheet: cue.Sheet) -> str | None:
    """The code page that a program took for another when it wrote the sheet, see ``encodings``."""
    of_tracks = [track.tags for part in sheet.parts for track in part.tracks]
    texts = [(each.title, each.performer, each.genre) for each in (sheet.tags, *of_tracks)]
    return encodings.code_page(repaired(text) for each in texts for text in each if text)


def _song(recording: str, sheet: cue.Sheet, cut: cue.Cut, page: str | None) -> dict[str, Any]:
    own, of_all = cut.track.tags, sheet.tags

    def text(*given: str | None) -> str | None:
        return next(filter(None, (in_page(repaired(each or ""), page) for each in given)), None)

    place = f"{recording} {cut.start} {'' if cut.end is None else cut.end}"
    return {
        "track_id": hashlib.blake2b(place.encode(), digest_size=16).hexdigest(),
        "start": cut.start,
        "end": cut.end,
        "track_number": cut.track.number,
        "title": text(own.title),
        "artist": text(own.performer, of_all.performer),
        "album": text(of_all.title),
        "album_artist": text(of_all.performer),
        "genre": BETWEEN.join(genre_names(text(own.genre, of_all.genre) or "")) or None,
        "year": year(own.date or of_all.date),
        "isrc": isrc(own.isrc or ""),
    }


def _stem(name: str) -> str:
    return os.path.splitext(folded(name))[0]


def _read_all(folder: str) -> list[Beside]:
    try:
        names = sorted(filter(is_sheet, os.listdir(folder)))
    except OSError:
        return []  # It was there when it was listed; next time its files have changed or are gone.
    return [_read(folder, name) for name in names]


def _read(folder: str, name: str) -> Beside:
    path, name = os.path.join(folder, name), to_text(name)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return Beside(name, cue.SheetError("it is not a file"))
        if status.st_size > LARGEST_BYTES:
            larger = f"it is larger than any: {status.st_size / 1e6:,.0f} MB"
            return Beside(name, cue.SheetError(larger))
        with open(path, "rb") as file:
            content = file.read(LARGEST_BYTES)
    except OSError as error:
        return Beside(name, Unreadable(f"it cannot be read: {error.strerror}"))
    encoding = cue.encoding(content)
    try:
        return Beside(name, cue.parse(content.decode(encoding, "replace")), encoding)
    except cue.SheetError as error:
        return Beside(name, error, encoding)
