"""The demo library as all stages leave it, without having listened to it.

Belongs here: titles, artists, albums and genres as ``fastdino.demo`` plans them, with made-up
vectors: songs of one artist lie together, and artists of one genre near each other.
"""

import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import synthetic

from fastdino import demo, reports
from fastdino.core.home import Home
from fastdino.database import publish
from fastdino.ingestion import skipped
from fastdino.spectrograms.settings import SpectrogramSettings
from fastdino.spectrograms.shards import ShardWriter, TrackInfo, name_of

DIM = 32
SECONDS = 30.0
SEGMENT_S = 10.0
MODELS = ("model-b", "model-a")  # the current one last
# Songs without a genre, one with a wrong one, and one that could not be decoded.
GENRES = {4: None, 33: None, 16: "Polka"}
UNDECODED = 59
# Half of a download.
CUT = 7


def write(home: Home, music: Path) -> list[dict[str, object]]:
    """Publish sixty songs, said to lie in ``music``; returns their rows of the catalogue."""
    songs = [_row(i, song) for i, song in enumerate(demo.plan(music, 10, 6, SECONDS))]
    broken = {**songs[0], "track_id": None, "error": "not audio", "path": f"{music}/broken.m4a"}
    twin = {**songs[0], "path": f"{music}/copy.mp3", "added_at": synthetic.START.replace(year=2026)}
    synthetic.write_catalog(home, [*songs, broken, twin])
    bins = "a system or a program keeps it for itself"
    left_out = [
        ("#recycle", "junk folder", bins),
        ("a.mid", "format", ".mid is no format that is read"),
        ("b.mid", "format", ".mid is no format that is read"),
    ]
    rows = [(f"{music}/{name}", str(music), kind, why) for name, kind, why in left_out]
    skipped.write(home, pl.DataFrame(rows, skipped.SCHEMA, orient="row"))
    folder = home.shards(SpectrogramSettings().spec_id)
    folder.mkdir(parents=True)
    names = ("track_id", "path", "size", "mtime_ns")
    failed = {name: songs[UNDECODED][name] for name in names} | {
        "reason": "stopped after its 61 s were up",
        "kind": "machine",
        "next_try_at": synthetic.START + datetime.timedelta(hours=1),
        "failed_at": synthetic.START,
    }
    pl.DataFrame([failed]).write_parquet(folder / "failures.parquet")
    with ShardWriter(folder / name_of(1)) as writer:  # all that is needed: one that is cut
        half = TrackInfo(synthetic.track_id(CUT), -90.0, 0.375, 2 * SECONDS, SECONDS, False)
        writer.append(half, np.ones((300, 80), np.uint8))
    for number, model_id in enumerate(MODELS):
        synthetic.write_model(home, model_id, DIM)
        _write_vectors(home, model_id, number)
        reports.draw_map(home)
    publish(home)
    return songs


def _row(i: int, song: demo.Song) -> dict[str, object]:
    return {
        **synthetic.song(i), "path": str(song.path), "folder": str(song.path.parents[2]),
        "title": song.title, "artist": song.artist.name, "album": song.album,
        "album_artist": song.artist.name, "year": song.year, "track_number": song.track,
        "genre": GENRES.get(i, song.artist.genre), "duration_s": SECONDS,
        "codec": song.path.suffix[1:],
        "added_at": synthetic.START + datetime.timedelta(days=9 * i),
    }  # fmt: skip


def _write_vectors(home: Home, model_id: str, seed: int) -> None:
    rows: list[tuple[str, float | None, float | None, np.ndarray]] = []
    for i in range(60):
        if i == UNDECODED:
            continue
        vec = _vector(i, seed)
        rows.append((synthetic.track_id(i), None, None, vec))
        for start_s in np.arange(0, SECONDS, SEGMENT_S):
            turned = _unit(vec + 0.1 * np.random.default_rng([i, int(start_s)]).normal(size=DIM))
            rows.append((synthetic.track_id(i), start_s, start_s + SEGMENT_S, turned))
    schema = pa.schema(
        {"track_id": pa.string(), "start_s": pa.float32(), "end_s": pa.float32(),
         "vec": pa.list_(pa.float32(), DIM)}
    )  # fmt: skip
    columns = [list(column) for column in zip(*rows, strict=True)]
    home.vectors(model_id).mkdir(parents=True)
    table = pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema)
    pq.write_table(table, home.vectors(model_id) / "spectrograms-000001.parquet")


def _vector(i: int, seed: int) -> np.ndarray:
    genre, artist = i // 12, i // 6
    # Song 31 is song 30 in another edition, as far as anyone can hear.
    own = 30 if i == 31 else i
    parts = ((1.0, [1, genre]), (0.9, [2, artist]), (0.6, [3, own, seed]))
    return _unit(sum(w * np.random.default_rng(s).normal(size=DIM) for w, s in parts))


def _unit(vector: np.ndarray) -> np.ndarray:
    return (vector / np.linalg.norm(vector)).astype(np.float32)
