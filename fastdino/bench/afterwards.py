"""What everything after embedding costs, of a made-up collection of any size.

Belongs here: the map, the database and the page, made first, looked at when nothing has changed and
made again for a few songs more, and the questions that they answer. Does not: making the collection
up (``collection``); what comes before (``scale``, ``changes``).

All that is measured is done by the pipeline itself. The songs have no files: nothing is decoded.
"""

import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from fastdino.bench import collection, measuring, servers
from fastdino.bench.collection import SEGMENT_S, SEGMENTS, track_id
from fastdino.bench.measuring import Step, Took
from fastdino.core.home import Home
from fastdino.database.connection import connect, rows
from fastdino.steps import DrawMap, Publish, WritePage
from fastdino.steps import Step as Stage
from fastdino.upkeep.verify import published

SIZES = (15_000, 100_000)
ADDED = 10
REPEATS = 9
# Vectors, the database and its standby, and one more while it is written whole.
DISK_BYTES_A_SONG, DISK_BYTES = 65_000, 200_000_000


def _stage(stage: Stage, home: Home, n_songs: int) -> Iterator[None]:
    yield
    stage.run(home)


def _stage_after_adding(stage: Stage, home: Home, n_songs: int) -> Iterator[None]:
    collection.make_up(home, n_songs + ADDED, first=n_songs)
    yield from _stage(stage, home, n_songs)


def _look_for_damage(home: Home, n_songs: int) -> Iterator[None]:
    yield
    for _ in published.check(home, None, repair=False):
        pass


def _question(query: str, home: Home, n_songs: int) -> Iterator[None]:
    """Asked again and again, of other songs each time."""
    with connect(home.database) as db:
        _ask(db, query, n_songs, 0)
        for number in range(1, 1 + REPEATS):
            yield
            _ask(db, query, n_songs, number)


def _question_once(query: str, home: Home, n_songs: int) -> Iterator[None]:
    yield
    with connect(home.database) as db:
        _ask(db, query, n_songs, 0)


def _ask(db: duckdb.DuckDBPyConnection, query: str, n_songs: int, number: int) -> None:
    values: dict[str, Any] = {
        "song": _song(number, n_songs),
        "other": _song(number + 7, n_songs),
        "at_s": SEGMENT_S * (number % SEGMENTS),
    }
    rows(db, query, {name: value for name, value in values.items() if f"${name}" in query})


def _song(number: int, n_songs: int) -> str:
    return track_id(number * 997 % n_songs)


def _first_from_server(path: str, home: Home, n_songs: int) -> Iterator[None]:
    servers.write_ids(home)
    yield
    with servers.serving(home) as ask:
        ask(path.format(song=_song(0, n_songs), other=_song(7, n_songs)))


def _from_server(path: str, home: Home, n_songs: int) -> Iterator[None]:
    with servers.serving(home) as ask:
        ask(path.format(song=_song(0, n_songs), other=_song(7, n_songs)))
        for number in range(1, 1 + REPEATS):
            yield
            ask(path.format(song=_song(number, n_songs), other=_song(number + 7, n_songs)))


MAP, DATABASE, PAGE = DrawMap(), Publish(), WritePage()
SIMILAR, SIMILAR_TRACKS = "FROM similar_to($song)", "/api/similar_tracks?item_id={song}&n=100"
# In this order: each finds what those before it have left.
STEPS: dict[str, Step] = {
    "map: first": partial(_stage, MAP),
    "database: first": partial(_stage, DATABASE),
    "page: first": partial(_stage, PAGE),
    "map: nothing changed": partial(_stage, MAP),
    "database: nothing changed": partial(_stage, DATABASE),
    "page: nothing changed": partial(_stage, PAGE),
    f"map: {ADDED} songs more": partial(_stage_after_adding, MAP),
    f"database: {ADDED} songs more": partial(_stage, DATABASE),
    f"page: {ADDED} songs more": partial(_stage, PAGE),
    "database: looked for damage": _look_for_damage,
    "similar_to, database just opened": partial(_question_once, SIMILAR),
    "similar_to": partial(_question, SIMILAR),
    "similar_segments": partial(_question, "FROM similar_segments($song, $at_s)"),
    "songs_between": partial(_question, "FROM songs_between($song, $other)"),
    "playlist_like": partial(_question, "FROM playlist_like($song)"),
    "playlist_between": partial(_question, "FROM playlist_between($song, $other)"),
    "page served, the first time": partial(_first_from_server, "/"),
    "music server's first question": partial(_first_from_server, SIMILAR_TRACKS),
    "music server's similar_tracks": partial(_from_server, SIMILAR_TRACKS),
    "music server's find_path": partial(
        _from_server, "/api/find_path?start_song_id={song}&end_song_id={other}"
    ),
    "music server's search_tracks": partial(
        _from_server, "/api/search_tracks?search_query=usual+song+1"
    ),
}


def main(sizes: Sequence[int]) -> int:
    """Measure collections of so many songs each, print a table; returns the exit code.

    What was measured is printed even where a later step fails or is interrupted.

    Raises:
        UserError: the disk of the temporary folder is too small.
    """
    found: dict[int, dict[str, Took | None]] = {}
    try:
        for n_songs in sizes or SIZES:
            with tempfile.TemporaryDirectory(prefix="fastdino-bench-") as name:
                needed = DISK_BYTES + n_songs * DISK_BYTES_A_SONG
                measuring.expect_disk(Path(name), needed, n_songs, "--collection 10000")
                home = Home(Path(name) / "home")
                collection.make_up(home, n_songs)
                found[n_songs] = {}
                for step, took in measuring.measure(home, n_songs, STEPS):
                    found[n_songs][step] = took
    finally:
        if found:
            measuring.show("fastdino bench --collection", found, list(STEPS))
    return 0
