"""How long a music server waits for what it asks, over HTTP.

Belongs here: the questions of ``fastdino.page.for_servers``, to the real server, on a published
home of made-up songs. Does not: making that home, which ``collection`` does.
"""

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import polars as pl

from fastdino.bench.table import Row
from fastdino.core import tables
from fastdino.core.home import Home
from fastdino.database.connection import connect
from fastdino.page import server
from fastdino.page.access import ADDRESS
from fastdino.servers import matching

REPEATS = 60
TARGET_MS = 100


def rows(home: Home) -> Iterator[Row]:
    """Measure; takes seconds.

    Args:
        home: has a published database; its songs' ids are taken for the server's.
    """
    songs = write_ids(home)

    def song(i: int) -> str:
        return songs[i * 997 % len(songs)]

    questions: dict[str, Callable[[int], str]] = {
        "similar_tracks, 100": lambda i: f"/api/similar_tracks?item_id={song(i)}&n=100",
        "find_path, 25": lambda i: (
            f"/api/find_path?start_song_id={song(i)}&end_song_id={song(i + 7)}&max_steps=25"
        ),
    }
    with serving(home) as ask:
        start = time.perf_counter()
        ask(questions["similar_tracks, 100"](0))
        told = f"music server's first question, {len(songs):,} songs"
        yield Row(told, 1000 * (time.perf_counter() - start), "ms")
        for name, question in questions.items():
            times = []
            for i in range(REPEATS):
                start = time.perf_counter()
                ask(question(i))
                times.append(1000 * (time.perf_counter() - start))
            for what, share in (("median", 0.5), ("95th percentile", 0.95)):
                ours = float(np.quantile(times, share))
                yield Row(f"{name}, over HTTP, {what}", ours, "ms", target=f"< {TARGET_MS}")


def write_ids(home: Home) -> list[str]:
    """Take the songs' own ids for a server's; returns them."""
    with connect(home.database) as db:
        ours = db.sql("SELECT track_id, title, artist, album, path, duration_s FROM tracks").pl()
    known = ours.with_columns(item_id="track_id", matched_by=pl.lit(matching.BY_PATH))
    missing = [pl.lit(None, t).alias(n) for n, t in matching.SCHEMA.items() if n not in known]
    found = known.with_columns(missing).select(matching.SCHEMA.names()).cast(matching.SCHEMA)
    tables.write(home.server_ids, found)
    return found["item_id"].sort().to_list()


@contextlib.contextmanager
def serving(home: Home) -> Iterator[Callable[[str], bytes]]:
    """The page's server on a free port of this computer, and a way to ask it."""
    with socket.create_server((ADDRESS, 0)) as listening:
        port = listening.getsockname()[1]
        running = server.serving(home, port)
        thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()

        def ask(path: str) -> bytes:
            connection = http.client.HTTPConnection(ADDRESS, port, timeout=60)
            with contextlib.closing(connection):
                connection.request("GET", path)
                answer = connection.getresponse()
                assert answer.status == 200, path
                return answer.read()

        try:
            yield ask
        finally:
            running.should_exit = True
            thread.join(10)
