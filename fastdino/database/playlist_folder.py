"""A folder of playlists that stays up to date, as players and music servers read them.

Belongs here: which playlists there are, how their files are called, and which files of the folder
are ours. Does not: which songs are on one, or the format (``playlists``).

The folder itself holds all that is known of it: a file of ours has a line that says so, and
whoever takes that line out has a file of their own. No other file is replaced or removed.
"""

import contextlib
import dataclasses
import datetime
import itertools
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from fastdino.core import environment
from fastdino.core.errors import UserError
from fastdino.core.files import PART
from fastdino.core.home import Home, expanded
from fastdino.core.paths import to_path
from fastdino.core.storage import atomic_replace, exclusive_lock
from fastdino.core.summary import Summary
from fastdino.database import playlists
from fastdino.database.connection import connect, rows
from fastdino.database.playlists import HEADER, SUFFIX, NoneThere, Playlist, Prefixes
from fastdino.ingestion.scan import Patterns

NEW, SURPRISE = "New this week", "Surprise of the day"
WEEK = datetime.timedelta(days=7)
# The second line of a file of ours; only up to the colon is looked at.
MARK = "#FASTDINO: made anew by every run; take this line out, and the file stays as it is"


def update(
    home: Home,
    folder: Path,
    *,
    paths: str,
    songs: int,
    leave_out: Sequence[str],
    today: datetime.date,
) -> Summary:
    """Let ``folder`` hold a playlist of each cluster, of what is new, and a surprise.

    A file that would be as it is, is not written.

    Args:
        home: where results lie.
        folder: an absolute path; it must be there, for an empty place may be a disk's.
        paths: how songs are named, see ``environment.PLAYLISTS_PATHS``.
        songs: how many songs a playlist has at most.
        leave_out: folders and patterns of which nothing is played.
        today: decides what is new, and seeds the surprise.

    Raises:
        UserError: the folder is not there, cannot be written, or holds songs; there is no database;
            or none of the songs is there. What lies in the folder stays.
    """
    relative_to = folder if paths == "relative" else None
    prefixes = [] if paths in ("absolute", "relative") else prefixes_of(paths)
    with exclusive_lock(home.root, with_all_below=False), connect(home.database) as db:
        _check(db, folder)
        without, cut = _unwanted(db, leave_out)
        chosen = dict(_chosen(db, songs, without, today))
        made = {name: each for name, each in chosen.items() if each.songs}
        if chosen and not made:
            raise NoneThere([path for each in chosen.values() for path in each.missing])
        texts = {name: playlists.m3u8(each, relative_to, prefixes) for name, each in made.items()}
        marked = {
            name: os.fsencode(text.replace(HEADER, f"{HEADER}\n{MARK}", 1))
            for name, text in texts.items()
        }
        try:
            counts, foreign = _bring_up_to_date(folder, marked)
        except OSError as error:
            raise UserError(
                f"the playlists in {folder} cannot be brought up to date ({error.strerror}): make "
                "room there, let this user write there, or set another folder"
            ) from error
    warnings = [
        f"{folder / name} is there and was not made here: it stays as it is, and there is no "
        "playlist of that name"
        for name in foreign
    ]
    return _summary(folder, made, counts, cut, [*warnings, *_misplaced(chosen, prefixes)])


def _check(db: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """See that playlists may be put into a folder."""
    try:
        if not folder.is_dir():
            what = "is no folder" if folder.exists() else "is not there"
            raise UserError(
                f"{folder}, the folder for playlists, {what}: make it, or mount its disk"
            )
    except OSError as error:
        raise UserError(f"{folder}, the folder for playlists: {error.strerror}") from error
    query = "SELECT regexp_replace(path, '/[^/]*$', '') FROM files UNION SELECT folder FROM files"
    real = os.path.realpath(folder)
    if any(os.path.realpath(to_path(each)) == real for (each,) in rows(db, query)):
        raise UserError(
            f"{folder}, the folder for playlists, is one of your music, which is only read: make a "
            "folder of its own for them, in it if need be"
        )


def _unwanted(db: duckdb.DuckDBPyConnection, leave_out: Sequence[str]) -> tuple[list[str], int]:
    """The songs that are on no playlist, and how many of them are for being cut from a file.

    Where in its file a song begins, the format cannot say: a server would play the whole album.
    """
    query = "SELECT track_id FROM tracks WHERE start_s IS NOT NULL ORDER BY track_id"
    cut = [track_id for (track_id,) in rows(db, query)]
    patterns = Patterns([str(expanded(each)).rstrip("/") or "/" for each in leave_out])
    if not leave_out:
        return cut, len(cut)
    query = "SELECT track_id, path, folder FROM files WHERE track_id IS NOT NULL ORDER BY ALL"
    found = {
        track_id: None
        for track_id, path, top in rows(db, query)
        if patterns.cover(os.path.relpath(path, top)) or patterns.cover(path)
    }
    return list({**found, **dict.fromkeys(cut)}), len(cut)


def _chosen(
    db: duckdb.DuckDBPyConnection, n: int, without: Collection[str], today: datetime.date
) -> Iterator[tuple[str, Playlist]]:
    """All playlists that have songs, be they there or not, each with the name of its file."""
    out = list(without)
    heard = {track_id for (track_id,) in rows(db, "SELECT track_id FROM current_embeddings")}
    heard.difference_update(out)
    if not heard:
        return
    midnight = datetime.datetime.combine(today - WEEK, datetime.time()).astimezone()
    query = "SELECT track_id FROM tracks WHERE added_at >= $since"
    if heard.intersection(track_id for (track_id,) in rows(db, query, {"since": midnight})):
        yield NEW + SUFFIX, _made(NEW, playlists.new, db, midnight, n, out)
    seed = float(f"{today:%Y%m%d}")
    yield SURPRISE + SUFFIX, _made(SURPRISE, playlists.surprise, db, n, seed, out)
    query = """
        SELECT c.name, list(s.track_id)
        FROM current_clusters AS c JOIN songs AS s USING (cluster_id)
        GROUP BY c.cluster_id, c.name ORDER BY c.cluster_id
    """
    # Also where there is none of these two today: names must not come and go with them.
    taken = {(name + SUFFIX).casefold() for name in (NEW, SURPRISE)}
    for name, members in rows(db, query):
        if heard.intersection(members):
            playlist = _made(name, playlists.cluster, db, name, n, out)
            file = _free(playlists.file_name(playlist), taken)
            taken.add(file.casefold())
            yield file, playlist


def _made(name: str, make: Callable[..., Playlist], *given: Any) -> Playlist:
    """A playlist, under a name; without songs if none of them is there."""
    try:
        return dataclasses.replace(make(*given), name=name)
    except NoneThere as error:
        return Playlist(name, [], error.missing)


def _free(file: str, taken: Collection[str]) -> str:
    """``file``, or one like it that no file system takes for one of those ``taken``."""
    names = (f"{file.removesuffix(SUFFIX)} ({number}){SUFFIX}" for number in itertools.count(2))
    return next(name for name in itertools.chain([file], names) if name.casefold() not in taken)


def _bring_up_to_date(
    folder: Path, wanted: Mapping[str, bytes]
) -> tuple[dict[str, int], list[str]]:
    """Write what is new or other than it was, remove what is no more wanted; of ours alone.

    Returns:
        How many files were new, changed and removed, and those wanted whose name is someone's.
    """
    there = sorted(os.listdir(folder))
    for name in there:
        # Begun by a run that was killed.
        if PART.fullmatch(name) and name.rpartition(SUFFIX)[2].count(".") == 2:
            (folder / name).unlink(missing_ok=True)
    counts = {"new": 0, "changed": 0, "removed": 0}
    foreign = []
    for name, content in wanted.items():
        path = folder / name
        if os.path.lexists(path):
            if not _is_ours(path):
                foreign.append(name)
                continue
            if path.read_bytes() == content:
                continue
            counts["changed"] += 1
        else:
            counts["new"] += 1
        with atomic_replace(path) as part:
            part.write_bytes(content)
    # Not by name: to some file systems large and small letters are one.
    kept = {_identity(folder / name) for name in wanted}
    for name in there:
        path = folder / name
        if name.endswith(SUFFIX) and _is_ours(path) and _identity(path) not in kept:
            path.unlink()
            counts["removed"] += 1
    return counts, foreign


def _is_ours(path: Path) -> bool:
    if not path.is_file():
        return False
    begin = f"{HEADER}\n{MARK.partition(':')[0]}:".encode()
    try:
        with open(path, "rb") as file:
            return file.read(len(begin)) == begin
    except PermissionError:
        return False


def _identity(path: Path) -> tuple[int, int] | None:
    with contextlib.suppress(FileNotFoundError):
        status = os.lstat(path)
        return status.st_dev, status.st_ino
    return None


def prefixes_of(text: str) -> Prefixes:
    """What ``environment.PLAYLISTS_PATHS`` or ``SERVER_PATHS`` says, the innermost folder first."""
    pairs = [each.rpartition("=") for each in text.split(os.pathsep)]
    found = [(expanded(here), there) for here, _, there in pairs]
    return sorted(found, key=lambda pair: -len(pair[0].parts))


def _misplaced(made: Mapping[str, Playlist], prefixes: Prefixes) -> Iterator[str]:
    """Warnings of songs that are not there, or cannot be told where they are to be played."""
    missing = {path for each in made.values() for path in each.missing}
    if missing:
        yield (
            f"{len(missing):,} songs are not there and so on no playlist, {min(missing)} for "
            "instance: run `fastdino run`, or mount their disk"
        )
    if prefixes:
        paths = {song.path for each in made.values() for song in each.songs}
        outside = {p for p in paths if not any(p.is_relative_to(here) for here, _ in prefixes)}
        if outside:
            yield (
                f"{len(outside):,} songs are in no folder that {environment.PLAYLISTS_PATHS.name} "
                f"names, {min(outside)} for instance: they are named as they are here"
            )


def _summary(
    folder: Path,
    made: Mapping[str, Playlist],
    counts: Mapping[str, int],
    cut: int,
    warnings: Sequence[str],
) -> Summary:
    told = ", ".join(f"{n} {kind}" for kind, n in counts.items() if n) or "up to date"
    albums = f"; {cut:,} songs of albums in one file are left out" if cut else ""
    return Summary(
        "playlists",
        f"{len(made)} playlists in {folder}: {told}{albums}",
        any(counts.values()),
        counts={"playlists": len(made), **counts, "songs_of_one_file": cut},
        tables={
            "playlists": [{"file": name, "songs": len(each.songs)} for name, each in made.items()]
        },
        paths={"playlists": folder},
        warnings=warnings,
    )
