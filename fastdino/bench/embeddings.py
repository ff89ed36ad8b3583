"""Speed of the queries people ask and of what is made for them, at 15,000 songs.

Belongs here: measurements of the published database, of publishing and of placing new songs on a
map, on random vectors. Does not: the table (``fastdino.bench.table``).
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa

from fastdino.bench import servers
from fastdino.bench.table import Row, peak_memory_mb
from fastdino.core.home import Home
from fastdino.database.publishing import publish
from fastdino.embeddings.vectors import write_vectors
from fastdino.ingestion import catalog
from fastdino.training import registry

SONGS = 15_000
DIM = 256
# Those of a song of four minutes; and songs of so long in a shard.
SEGMENTS = 24
SONGS_A_SHARD = 133
REPEATS = 15


def rows() -> Iterator[Row]:
    """Measure; takes about a minute."""
    vectors = _unit(np.random.default_rng(0).standard_normal((SONGS, DIM)))
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        _write_inputs(home, vectors)
        # In a process of its own, so that its memory is that of publishing alone.
        spawned = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawned) as pool:
            seconds, peak_mb = pool.submit(_publish, home).result()
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
            return lambda i: db.execute(query, {"song": _track_id(i)}).fetchall()

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


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def _track_id(i: int) -> str:
    return f"{i:032x}"


def _write_inputs(home: Home, vectors: np.ndarray) -> None:
    """Write catalogue, model and vectors as the stages before publishing would."""
    ids = [_track_id(i) for i in range(len(vectors))]
    files = pl.DataFrame(
        {
            "path": [f"/music/{i}.flac" for i in ids],
            "folder": "/music",
            "size": 1,
            "mtime_ns": 0,
            "track_id": ids,
        }
    )
    missing = [pl.lit(None, t).alias(n) for n, t in catalog.SCHEMA.items() if n not in files]
    catalog.write(home, files.with_columns(missing).cast(catalog.SCHEMA))
    model = {
        "model_id": "bench",
        "created_at": "2000-01-01T00:00:00+00:00",
        "dim": DIM,
        "spec_id": "bench",
        "trained_tracks": len(ids),
        "settings": {},
        "metrics": {},
    }
    registry.write_metadata(home.model("bench"), model)
    registry.make_current(home, "bench")
    rng = np.random.default_rng(2)
    starts = [None, *(10.0 * i for i in range(SEGMENTS))]
    ends = [None, *(10.0 * i + 10 for i in range(SEGMENTS))]
    for number, first in enumerate(range(0, len(ids), SONGS_A_SHARD), start=1):
        of_songs = vectors[first : first + SONGS_A_SHARD, None]
        noise = 0.02 * rng.standard_normal((len(of_songs), SEGMENTS, DIM))
        rows = np.concatenate([of_songs, of_songs + noise], axis=1).reshape(-1, DIM)
        table = pa.table(
            {
                "track_id": np.repeat(ids[first : first + SONGS_A_SHARD], 1 + SEGMENTS),
                "start_s": pa.array(starts * len(of_songs), pa.float32()),
                "end_s": pa.array(ends * len(of_songs), pa.float32()),
                "vec": pa.FixedSizeListArray.from_arrays(pa.array(_unit(rows).ravel()), DIM),
            }
        )
        write_vectors(home.vectors("bench") / f"spectrograms-{number:06d}.parquet", table)
