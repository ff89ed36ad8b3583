"""A made-up collection as the stages before publishing leave it: catalogue, model, vectors.

Belongs here: files in the formats of those stages, without sound. Song number ``i`` is the same
whatever the size of the collection, so that writing it with more songs adds to it.
"""

import datetime
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fastdino.core.home import Home
from fastdino.spectrograms import shards
from fastdino.spectrograms.settings import SpectrogramSettings

MODEL_ID = "model-a"
DIM = 32
GENRES = (
    "Ambient", "Techno", "Folk", "Lo-fi", "Jazz", "Post-Rock", "Drum & Bass", "Chiptune",
    "Classical", "Dub", "Metal", "Disco", "Soul", "Bossa Nova", "Field Recording", "Hip-Hop",
)  # fmt: skip
FIRST = ("Amber", "Hollow", "Paper", "Silver", "Night", "Salt", "Velvet", "Distant", "Copper",
         "Quiet", "Marble", "Winter", "Golden", "Broken", "Northern", "Glass")  # fmt: skip
SECOND = ("Harbour", "Machines", "Orchard", "Signals", "Atlas", "Foxes", "Parade", "Lanterns",
          "Tide", "Gardens", "Choir", "Static", "Meadow", "Engines", "Letters")  # fmt: skip
LINKS = ("of", "under", "beyond", "and the", "without", "for")
START = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)


def track_id(i: int) -> str:
    return f"{i:032x}"


def genre_of(i: int, groups: int = 6) -> str:
    return GENRES[i % groups]


def artist_of(i: int, groups: int = 6) -> int:
    """Number of song ``i``'s artist; artists keep to one genre and have about 12 songs."""
    return (i // (12 * groups)) * groups + i % groups


def _words(seed: int) -> tuple[str, str, str]:
    rng = np.random.default_rng([7, seed])
    return rng.choice(FIRST), rng.choice(LINKS), rng.choice(SECOND)


def song(i: int, groups: int = 6) -> dict[str, object]:
    """Row of ``catalog/files.parquet`` for song ``i``, as versions without lists wrote it."""
    first, _, second = _words(10_000 + artist_of(i, groups))
    title = " ".join(_words(i)).capitalize() if i else "Paper Bridge"
    path = f"/music/{first} {second}/{i:05d} {title}.flac"
    return {
        "path": path, "folder": "/music", "size": 1_000 + i, "mtime_ns": 1_700_000_000_000_000_000,
        "track_id": track_id(i), "error": None, "title": title, "artist": f"{first} {second}",
        "album": f"{first} {_words(i // 6)[2]}", "album_artist": None,
        "genre": genre_of(i, groups), "year": 1970 + i % 50, "track_number": i % 12 + 1,
        "duration_s": 120.0 + i % 200, "codec": "flac", "sample_rate": 44_100, "channels": 2,
        "added_at": START + datetime.timedelta(seconds=i),
    }  # fmt: skip


def write_catalog(home: Home, songs: Iterable[dict[str, object]]) -> None:
    schema: dict[str, Any] = {
        "path": pl.String, "folder": pl.String, "size": pl.Int64, "mtime_ns": pl.Int64,
        "track_id": pl.String, "error": pl.String, "title": pl.String, "artist": pl.String,
        "album": pl.String, "album_artist": pl.String, "genre": pl.String, "year": pl.Int32,
        "track_number": pl.Int32, "duration_s": pl.Float64, "codec": pl.String,
        "sample_rate": pl.Int32, "channels": pl.Int32, "added_at": pl.Datetime("us", "UTC"),
    }  # fmt: skip
    rows = list(songs)
    lists = ("artists", "genres")
    schema |= {name: pl.List(pl.String) for name in lists if any(name in row for row in rows)}
    home.catalog.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows, schema=schema).write_parquet(home.catalog)


def vector(i: int, dim: int = DIM, groups: int = 6) -> np.ndarray:
    """Unit vector of song ``i``: its genre, its artist within it, and itself; float32 [dim]."""
    parts = ((1.0, [1, i % groups]), (0.7, [2, artist_of(i, groups)]), (0.9, [3, i]))
    total = sum(w * np.random.default_rng(seed).standard_normal(dim) for w, seed in parts)
    return (total / np.linalg.norm(total)).astype(np.float32)


def write_model(
    home: Home,
    model_id: str = MODEL_ID,
    dim: int = DIM,
    current: bool = True,
    created_at: str = "2025-02-03T04:05:06+00:00",
) -> None:
    folder = home.model(model_id)
    folder.mkdir(parents=True, exist_ok=True)
    described = {
        "model_id": model_id, "created_at": created_at, "dim": dim,
        "spec_id": SpectrogramSettings().spec_id, "settings": {"preset": "tiny"},
        "trained_tracks": 10, "code_version": "0.1.0", "metrics": {"rank": 21.5},
    }  # fmt: skip
    (folder / "model.json").write_text(json.dumps(described))
    if current:
        (home.models / "current.json").write_text(json.dumps({"model_id": model_id}))


def write_vectors(
    home: Home,
    tracks: Iterable[int],
    model_id: str = MODEL_ID,
    *,
    shard: int = 1,
    dim: int = DIM,
    groups: int = 6,
    segments: int = 2,
) -> None:
    """Write one file of vectors: the song's own and ``segments`` of 10 s each."""
    rows: list[tuple[str, float | None, float | None, np.ndarray]] = []
    for i in tracks:
        vec = vector(i, dim, groups)
        rows.append((track_id(i), None, None, vec))
        for s in range(segments):
            turned = vec + 0.1 * vector(1_000_000 + 10 * i + s, dim, groups)
            rows.append((track_id(i), 10.0 * s, 10.0 * s + 10, turned / np.linalg.norm(turned)))
    schema = pa.schema(
        {"track_id": pa.string(), "start_s": pa.float32(), "end_s": pa.float32(),
         "vec": pa.list_(pa.float32(), dim)}
    )  # fmt: skip
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], []]
    folder = home.vectors(model_id)
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema)
    pq.write_table(table, folder / f"spectrograms-{shard:06d}.parquet", compression="zstd")


def write_home(home: Home, n: int, *, groups: int = 6, dim: int = DIM, segments: int = 2) -> None:
    """Write a catalogue of ``n`` songs, a model, and all their vectors."""
    write_catalog(home, [song(i, groups) for i in range(n)])
    write_model(home, dim=dim)
    write_vectors(home, range(n), dim=dim, groups=groups, segments=segments)


def shard_to_fill(folder: Path) -> Path:
    """The shard that a small addition goes to: the last one if it has room, or else a new one."""
    there = shards.list_shards(folder)
    if there and there[-1].stat().st_size < shards.SHARD_BYTES:
        return there[-1]
    return folder / shards.name_of(shards.number_of(there[-1].name) + 1 if there else 1)
