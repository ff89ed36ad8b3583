"""Playlists: songs in an order to hear them in, as M3U8 files that any player opens.

Belongs here: which of the songs' files are there, and the format. Does not: which songs follow
each other, which is what the ``playlist_`` macros of the database say; how a song is named on the
command line (``questions``); a folder of playlists that is kept up to date (``playlist_folder``).
"""

import datetime
import os
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from fastdino.core.errors import UserError
from fastdino.core.paths import shown, to_path
from fastdino.core.storage import atomic_replace
from fastdino.core.text import one_line, steers
from fastdino.database.connection import rows

HEADER = "#EXTM3U"
SUFFIX = ".m3u8"
LENGTH = 20
# Longest name of a file, in bytes, on every common file system, with room for the suffix.
MAX_NAME = 200
# What songs' paths begin with here, and with what where they are played.
Prefixes = Sequence[tuple[Path, str]]


@dataclass(frozen=True)
class Song:
    """A song on a playlist.

    Attributes:
        path: of all files that hold it the first one that is there.
        start_s: where it begins in that file, if there are several songs in it.
        end_s: where it ends; None for the end of the file.
    """

    track_id: str
    title: str
    artist: str | None
    duration_s: float | None
    path: Path
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class Playlist:
    """What to hear, in order.

    Attributes:
        name: what to call it.
        songs: none of them twice.
        missing: paths of songs that would be on it if one of their files were there.
    """

    name: str
    songs: Sequence[Song]
    missing: Sequence[Path]


class NoneThere(UserError):
    """None of the songs that would be on a playlist is there.

    Attributes:
        missing: their paths.
    """

    def __init__(self, missing: Sequence[Path]) -> None:
        super().__init__(
            f"none of the songs is there, {missing[0]} for instance: is the disk mounted?"
            if missing
            else "there is no song to play: run `fastdino embed`, it tells which have no vectors "
            "and why"
        )
        self.missing = missing


def like(db: duckdb.DuckDBPyConnection, song: str, n: int = LENGTH) -> Playlist:
    """A song, by ``track_id`` or title, and those that sound like it.

    Raises, as the others below:
        NoneThere: none of the songs' files is there.
        UserError: the database is damaged.
    """
    query = "playlist_like($song, k := $k, without := $without)"
    found, missing = _chosen(db, query, n, song=song)
    return Playlist(f"Like {_title(db, song)}", found, missing)


def between(db: duckdb.DuckDBPyConnection, first: str, last: str, n: int = LENGTH) -> Playlist:
    """Songs that lead from one song to another, both by ``track_id`` or title."""
    query = "playlist_between($first, $last, k := $k, without := $without)"
    found, missing = _chosen(db, query, n, first=first, last=last)
    return Playlist(f"From {_title(db, first)} to {_title(db, last)}", found, missing)


def cluster(
    db: duckdb.DuckDBPyConnection, name: str, n: int = LENGTH, without: Sequence[str] = ()
) -> Playlist:
    """The most typical songs of a cluster of the current map, by its name.

    No song is on it whose ``track_id`` is one of ``without``: here and below.
    """
    query = "playlist_cluster($name, k := $k, without := $without)"
    found, missing = _chosen(db, query, n, without, name=name)
    return Playlist(name, found, missing)


def surprise(
    db: duckdb.DuckDBPyConnection,
    n: int = LENGTH,
    seed: float | None = None,
    without: Sequence[str] = (),
) -> Playlist:
    """Songs that lead from one picked at random to one quite unlike it."""
    query = "playlist_surprise($seed, k := $k, without := $without)"
    seed = random.random() if seed is None else seed
    found, missing = _chosen(db, query, n, without, seed=seed)
    return Playlist(f"From {found[0].title} to {found[-1].title}", found, missing)


def new(
    db: duckdb.DuckDBPyConnection,
    since: datetime.datetime,
    n: int = LENGTH,
    without: Sequence[str] = (),
) -> Playlist:
    """The songs that were added ``since`` then, each followed by older ones like it."""
    query = "playlist_new($since, k := $k, without := $without)"
    found, missing = _chosen(db, query, n, without, since=since)
    return Playlist(f"New since {since:%Y-%m-%d}", found, missing)


def _title(db: duckdb.DuckDBPyConnection, song: str) -> str:
    query = "SELECT title FROM tracks WHERE track_id = track_of($song)"
    return str(rows(db, query, {"song": song})[0][0])


def _chosen(
    db: duckdb.DuckDBPyConnection,
    query: str,
    n: int,
    unwanted: Sequence[str] = (),
    **values: Any,
) -> tuple[list[Song], list[Path]]:
    """The songs that ``query`` names; those whose files are gone make room for others."""
    without = list(unwanted)
    missing: list[Path] = []
    while True:
        asked = f"""
            SELECT track_id, songs.title, songs.artist, songs.duration_s, songs.path, start_s, end_s
            FROM {query} JOIN tracks AS songs USING (track_id) ORDER BY place
        """
        found = rows(db, asked, {**values, "k": n, "without": without})
        songs = []
        gone = []
        for track_id, title, artist, duration_s, path, *place in found:
            if there := file_of(db, track_id):
                songs.append(Song(track_id, title, artist, duration_s, there, *place))
            else:
                gone.append((track_id, Path(to_path(path))))
        missing += [path for _, path in gone]
        if not songs:
            raise NoneThere(missing)
        if not gone:
            return songs, missing
        without += [track_id for track_id, _ in gone]


def file_of(db: duckdb.DuckDBPyConnection, track_id: str) -> Path | None:
    """Of all files that hold a song the first one that is there, if any is.

    What cannot be looked at, in a folder that is closed or on a disk that is gone, is not there.
    """
    query = """
        SELECT files.path FROM files JOIN tracks USING (track_id) WHERE track_id = $track_id
        ORDER BY files.path <> tracks.path, files.path
    """
    paths = (Path(to_path(path)) for (path,) in rows(db, query, {"track_id": track_id}))
    return next((path for path in paths if os.path.isfile(path)), None)


def m3u8(playlist: Playlist, folder: Path | None = None, prefixes: Prefixes = ()) -> str:
    """The playlist as text; paths are absolute, or relative to ``folder``, or begin as
    ``prefixes`` say.

    Where a song lies in a file of several is told as VLC reads it. The format has no words for it.
    They are those of the system: ``os.fsencode`` makes what is to be written of it.
    """
    lines = [HEADER, f"#PLAYLIST:{one_line(playlist.name)}"]
    for song in playlist.songs:
        seconds = -1 if song.duration_s is None else round(song.duration_s)
        name = f"{song.artist} - {song.title}" if song.artist else song.title
        lines.append(f"#EXTINF:{seconds},{one_line(name)}")
        if song.start_s is not None:
            lines.append(f"#EXTVLCOPT:start-time={song.start_s:.3f}")
        if song.end_s is not None:
            lines.append(f"#EXTVLCOPT:stop-time={song.end_s:.3f}")
        lines.append(_entry(song.path, folder, prefixes))
    return "\n".join(lines) + "\n"


def _entry(path: Path, folder: Path | None, prefixes: Prefixes) -> str:
    for here, there in prefixes:
        if path.is_relative_to(here):
            path = Path(there, path.relative_to(here))
            break
    text = _way(folder, path) if folder else str(path)
    # Bytes that are not UTF-8 go into an address too, for players that want all of the file to be
    # UTF-8; but there are no relative ones.
    plain = shown(text) if folder else text
    # An address leads to this computer alone, so it is the last resort for what is to be moved.
    if folder and (text.startswith("#") or text != text.lstrip()):
        text = f"{os.curdir}{os.sep}{text}"
    # What would end the line, lose its spaces, or be taken for a comment or an address.
    if any(map(steers, plain)) or text != text.strip() or text.startswith("#") or "://" in text:
        return path.as_uri()
    return text


def _way(folder: Path, path: Path) -> str:
    """The relative path from a folder to a file: of those that lead there the one least far up.

    Both may be known by links, and of a folder that is one, players go up from where it leads. So
    each part of ``path`` is also followed, and the names below it stay as they are.
    """
    real = os.path.realpath(folder)
    ways = [
        os.path.relpath(Path(os.path.realpath(top), path.relative_to(top)), real)
        for top in reversed(path.parents)
    ]
    return min(ways, key=lambda way: way.split(os.sep).count(os.pardir))


def file_name(playlist: Playlist) -> str:
    """The playlist's name as that of a file, on any file system."""
    plain = re.sub(r'[\\/:*?"<>|]', "_", one_line(playlist.name)).lstrip(".")
    short = plain.encode()[:MAX_NAME].decode(errors="ignore").rstrip(" .")
    return (short or "playlist") + SUFFIX


def write(playlist: Playlist, target: Path, *, relative: bool = False) -> None:
    """Write ``playlist`` to ``target``, over a playlist that is there already.

    Args:
        playlist: what to write.
        target: the file.
        relative: whether paths are relative to the folder of ``target``, so that it can be moved
            together with the music.

    Raises:
        UserError: it cannot be written, or something else than a playlist is there.
    """
    try:
        if target.exists() and not _is_playlist(target):
            raise UserError(f"{target} is there and is no playlist: choose another name with -o")
        with atomic_replace(target) as part:
            text = m3u8(playlist, target.parent if relative else None)
            part.write_bytes(os.fsencode(text))
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}") from error


def outside(playlist: Playlist, folder: Path) -> int:
    """How many of its songs do not lie below ``folder``."""
    return sum(_way(folder, song.path).startswith(os.pardir + os.sep) for song in playlist.songs)


def _is_playlist(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(HEADER)) == HEADER.encode()
