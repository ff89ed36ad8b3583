"""Speed of the queries people ask and of what is made for them, at 15,000 songs.

Belongs here: measurements of the published database, of publishing and of placing new songs on a
map, on made-up vectors. Does not: the table (``fastdino.bench.table``).
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np

from fastdino.bench import servers
from fastdino.bench.collection import DIM, SEGMENTS, make_up, song_vectors, track_id
from fastdino.bench.table import Row, in_a_process, peak_memory_mb
from fastdino.core.home import Home
from fastdino.database.publishing import publish

SONGS = 15_000
REPEATS = 15


def rows() -> Iterator[Row]:
    """Measure; takes about a minute."""
    vectors = song_vectors(0, SONGS)
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        make_up(home, SONGS)
        seconds, peak_mb = in_a_process(_publish, home)
        yield Row(f"publish {SONGS:,} songs, {SONGS * SEGMENTS:,} segments", seconds, "s")
        yield Row("peak memory of publishing them", peak_mb, "MB", target="< 1500")
        yield from _queries(home, vectors)
        yield from servers.rows(home)
    yield from _map(vectors)


def _publish(home: Home) -> tuple[float, float]:
    start = time.perf_counter()
    publish(home)
    return time.perf_counter() - start, peak_memory_mb()


def _queries(home: Home, vectors: np.ndarray) -> Iterator[Row]:
    with duckdb.connect(str(home.database), read_only=True) as db:

        def ask(query: str) -> Callable[[int], object]:
            return lambda i: db.execute(query, {"song": track_id(i)}).fetchall()

        def product(i: int) -> object:
            similarity = vectors @ vectors[i]
            best = np.argpartition(-similarity, 11)[:11]
            return best[np.argsort(-similarity[best])]

        yield Row(
            f"SQL similar_to, {SONGS:,} x {DIM}, warm",
            1000 * _median_s(ask("FROM similar_to($song, 10)")),
            "ms",
            "numpy matrix product",
            1000 * _median_s(product),
            "< 50",
        )
        yield Row(
            f"SQL similar_segments, {SONGS * SEGMENTS:,} segments",
            1000 * _median_s(ask("FROM similar_segments($song, 30, 10)")),
            "ms",
        )


def _map(vectors: np.ndarray) -> Iterator[Row]:
    from fastdino.reports.layout import place
    from fastdino.reports.neighbors import nearest

    start = time.perf_counter()
    nearest(vectors, 20)
    yield Row(f"neighbours of {SONGS:,} songs", time.perf_counter() - start, "s", target="a few")
    old, new = vectors[:-30], vectors[-30:]
    positions = np.random.default_rng(1).standard_normal((len(old), 2)) * 20
    start = time.perf_counter()
    place(old, positions, new)
    yield Row(f"place 30 songs on a map of {SONGS - 30:,}", time.perf_counter() - start, "s")


def _median_s(ask: Callable[[int], object]) -> float:
    """Median seconds over several songs, after one to warm up."""
    ask(0)
    times = []
    for i in range(REPEATS):
        start = time.perf_counter()
        ask(i * 997 % SONGS)
        times.append(time.perf_counter() - start)
    return float(np.median(times))
