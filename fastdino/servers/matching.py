"""Which of a music server's songs are which of ours.

Belongs here: telling them apart by path, or else by what their tags and lengths say, and the file
that keeps that. Does not: asking the server (``listing``).

Only songs of the catalogue are ever matched, and no file is looked at: whatever path a server
tells, it can at most be that of a song that is here. The file is replaced whole, by what one asking
has found, so that a server that numbers its songs anew is known by its new ids alone; where asking
fails, it stays as it is.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import polars as pl

from fastdino.core import environment, tables
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.paths import to_path, to_text
from fastdino.core.summary import Summary
from fastdino.core.text import one_line
from fastdino.database.connection import connect, rows
from fastdino.database.playlist_folder import prefixes_of
from fastdino.database.playlists import Prefixes
from fastdino.servers.listing import Server, Song, songs

SCHEMA = pl.Schema(
    {
        "item_id": pl.String,
        # Ours; null if it is not here.
        "track_id": pl.String,
        "matched_by": pl.String,
        "reason": pl.String,
        # As the server tells them.
        "title": pl.String,
        "artist": pl.String,
        "artist_id": pl.String,
        "album": pl.String,
        "path": pl.String,
        "duration_s": pl.Float64,
    }
)
BY_PATH, BY_TAGS = "path", "tags"
SEVERAL = "there are several songs in its file, of which the server makes one"
UNKNOWN = "its path is of no song here, and no song here has its title, artist and album"
OTHER_LENGTH = "a song here has its title, artist and album, but another length"
# Servers tell whole seconds, and what a file claims is not what is in it to the second.
SAME_LENGTH_S = 3.0
# By which servers and tags put several artists into one text.
BETWEEN_ARTISTS = (" • ", "; ")
SHOWN = 100


class _Candidate(NamedTuple):
    track_id: str
    artists: frozenset[str]
    duration_s: float | None


class Known(NamedTuple):
    """What songs of the catalogue go by.

    Attributes:
        paths: by path as stored, the song of a file; None for a file of several.
        folders: the music folders.
        names: by title and album, plain, the songs that have both.
    """

    paths: Mapping[str, str | None]
    folders: tuple[Path, ...]
    names: Mapping[tuple[str, str], list[_Candidate]]


def read(home: Home) -> pl.DataFrame:
    """The server's songs as they were matched last; columns as in ``SCHEMA``.

    Raises:
        UserError: none were yet, or the file is damaged or cannot be read.
    """
    try:
        return tables.read(home.server_ids, SCHEMA)
    except FileNotFoundError:
        raise UserError(
            f"no music server's songs are known yet: set {environment.SERVER.name} and run "
            "`fastdino match`"
        ) from None
    except OSError as error:
        raise UserError(
            f"{home.server_ids} cannot be read ({error.strerror}): look at the disk and who may "
            "read it"
        ) from error
    except ValueError as error:
        raise UserError(f"{home.server_ids} is damaged: run `fastdino match` ({error})") from error


def run(home: Home, server: Server) -> Summary:
    """Ask a server for all its songs, and keep which of them are here.

    Raises:
        UserError: it cannot be asked, has no songs, or none of them is here; what was kept before
            stays.
    """
    with connect(home.database) as db:
        known = known_songs(db)
    paths = environment.SERVER_PATHS.value()
    found = match(songs(server), known, prefixes_of(paths) if paths else [])
    matched = found.filter(pl.col("track_id").is_not_null())
    if found.is_empty():
        raise UserError(f"the music server {server.url} has no songs yet: let it scan its library")
    if matched.is_empty():
        raise UserError(
            f"none of the {len(found):,} songs of {server.url} is here, {_example(found)} for "
            f"instance: set {environment.SERVER_PATHS.name}, or run `fastdino run` with its music"
        )
    is_new = not _stands(home, found)
    if is_new:
        tables.write(home.server_ids, found)
    return _summary(home, found, matched, is_new)


def match(server_songs: Iterable[Song], known: Known, mounted: Prefixes = ()) -> pl.DataFrame:
    """One row a song of the server, by ``item_id``; columns as in ``SCHEMA``.

    Args:
        server_songs: as it tells them.
        known: what songs of the catalogue go by.
        mounted: where our folders are for the server.
    """
    found = []
    for song in server_songs:
        track_id, how = _match(song, known, mounted)
        matched = track_id is not None
        found.append(
            (
                song.item_id, track_id, how if matched else None, None if matched else how,
                song.title, song.artists[0] if song.artists else None, song.artist_id, song.album,
                song.path, song.duration_s,
            )
        )  # fmt: skip
    return pl.DataFrame(found, SCHEMA, orient="row").sort("item_id")


def known_songs(db: duckdb.DuckDBPyConnection) -> Known:
    """What the songs of a published database go by."""
    paths: dict[str, str | None] = {}
    folders = set()
    held = "SELECT path, folder, track_id, start_s FROM files WHERE track_id IS NOT NULL"
    for path, folder, track_id, start_s in rows(db, held):
        paths[path] = None if start_s is not None or path in paths else track_id
        folders.add(Path(to_path(folder)))
    names: dict[tuple[str, str], list[_Candidate]] = {}
    tagged = """
        SELECT track_id, title, album, artist, artists, duration_s FROM tracks ORDER BY track_id
    """
    for track_id, title, album, artist, artists, duration_s in rows(db, tagged):
        key = (_plain(title), _plain(album))
        candidate = _Candidate(track_id, _artists(artist, *artists), duration_s)
        names.setdefault(key, []).append(candidate)
    return Known(paths, tuple(sorted(folders)), names)


def _match(song: Song, known: Known, mounted: Prefixes) -> tuple[str | None, str]:
    """The song here and by what it was found; or None, and why it was not."""
    held = [path for path in _places(song.path, known, mounted) if path in known.paths]
    for path in held:
        if track_id := known.paths[path]:
            return track_id, BY_PATH
    if held:
        return None, SEVERAL
    wanted = _artists(*song.artists)
    alike = [
        each
        for each in known.names.get((_plain(song.title), _plain(song.album)), ())
        if song.title and (wanted & each.artists or not (wanted or each.artists))
    ]
    if not alike:
        return None, UNKNOWN
    off = [(_seconds_apart(song.duration_s, each.duration_s), each.track_id) for each in alike]
    nearest, track_id = min(off)
    return (track_id, BY_TAGS) if nearest <= SAME_LENGTH_S else (None, OTHER_LENGTH)


def _places(path: str | None, known: Known, mounted: Prefixes) -> list[str]:
    """Where a file that the server tells of may lie here, as stored paths."""
    if not path:
        return []
    if not path.startswith("/"):
        return [to_text(folder / path) for folder in known.folders]
    for here, there in mounted:
        rest = path.removeprefix(there.rstrip("/") + "/")
        if rest != path:
            return [to_text(here / rest)] if not rest.startswith("/") else []
    return [to_text(path)]


def _plain(text: str | None) -> str:
    return " ".join(unicodedata.normalize("NFKC", text or "").casefold().split())


def _artists(*names: str | None) -> frozenset[str]:
    """Each name, and each of those that are in one text, plain."""
    found = {_plain(name) for name in names}
    for mark in BETWEEN_ARTISTS:
        found |= {_plain(part) for name in names if name for part in name.split(mark)}
    return frozenset(found - {""})


def _seconds_apart(one: float | None, other: float | None) -> float:
    return float("inf") if one is None or other is None else abs(one - other)


def _stands(home: Home, found: pl.DataFrame) -> bool:
    try:
        return read(home).equals(found)
    except UserError:
        return False


def _example(found: pl.DataFrame) -> str:
    song = found.row(0, named=True)
    return one_line(song["path"] or song["title"] or song["item_id"])


def _summary(home: Home, found: pl.DataFrame, matched: pl.DataFrame, is_new: bool) -> Summary:
    missed = found.filter(pl.col("track_id").is_null())
    how = Counter(matched["matched_by"].to_list())
    reasons = Counter(missed["reason"].to_list())
    counts: dict[str, Any] = {
        "songs_of_the_server": len(found),
        "matched_by_path": how[BY_PATH],
        "matched_by_tags": how[BY_TAGS],
        "not_matched": len(missed),
    }
    told = f"{len(matched):,} of {len(found):,} songs of the server are here"
    return Summary(
        "match",
        f"{told}, {how[BY_PATH]:,} by path and {how[BY_TAGS]:,} by tags"
        + ("" if is_new else "; up to date"),
        is_new,
        counts=counts,
        tables={
            "not matched": [
                {name: song[name] for name in ("reason", "path", "title", "artist", "item_id")}
                for song in missed.head(SHOWN).iter_rows(named=True)
            ]
        },
        paths={"ids": home.server_ids},
        warnings=[
            f"{n:,} songs of the server are not matched, "
            f"{_example(missed.filter(reason=reason))} for instance: {reason}"
            for reason, n in reasons.most_common()
        ],
    )
