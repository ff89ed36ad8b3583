"""The vectors as Parquet, one file per model and shard.

Belongs here: reading and writing such a file, which files hold a model's vectors, the song vectors
as one array. Does not: making vectors (``encode``), which model is in use (``training.registry``)
or serving them to SQL (``publishing``).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastdino.core.errors import UserError, disk_trouble
from fastdino.core.home import Home
from fastdino.core.storage import atomic_replace, fetched, listed
from fastdino.spectrograms.shards import UNREADABLE
from fastdino.training import registry

FILES = "*.parquet"
COLUMNS = ["track_id", "start_s", "end_s", "vec"]


def schema(dim: int) -> pa.Schema:
    """Columns of a vector file. A row without ``start_s`` and ``end_s`` is a whole song."""
    return pa.schema(
        [
            pa.field("track_id", pa.string(), nullable=False),
            pa.field("start_s", pa.float32()),
            pa.field("end_s", pa.float32()),
            pa.field("vec", pa.list_(pa.float32(), dim), nullable=False),
        ]
    )


def vector_files(home: Home, model_id: str) -> list[Path]:
    """Files with one model's vectors, those of the newest shard first.

    Shard names sort by age; a song that two files hold is to be taken from the first here.
    """
    return listed(home.vectors(model_id), FILES)[::-1]


def read_vectors(
    path: Path, *, only_songs: bool = False, columns: Sequence[str] = COLUMNS
) -> pa.Table:
    """One file's rows: track_id, start_s and end_s (null for a whole song), vec.

    Args:
        path: the file.
        only_songs: leave out segments, and do not read them from disk.
        columns: those to read.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return pq.read_table(
            fetched(path),
            columns=list(columns),
            filters=pc.field("start_s").is_null() if only_songs else None,
            partitioning=None,
            page_checksum_verification=True,
        )
    except UNREADABLE as error:
        if trouble := disk_trouble(error, path):
            raise trouble from error
        raise UserError(
            f"cannot read {path} ({error}): run `fastdino verify --repair`, then `fastdino run`"
        ) from error


def read_track_ids(path: Path) -> list[str]:
    """The songs that one file has vectors of.

    Raises:
        UserError: the file is damaged.
    """
    return read_vectors(path, only_songs=True, columns=["track_id"])["track_id"].to_pylist()


def write_vectors(path: Path, table: pa.Table) -> None:
    """Write one file's rows, as ``read_vectors`` gives them, atomically.

    Whole songs come first, in a row group of their own: maps are drawn from them alone.
    """
    is_song = pc.is_null(table["start_s"])
    with (
        atomic_replace(path) as part,
        pq.ParquetWriter(
            part,
            table.schema,
            compression="zstd",
            compression_level=1,
            # No two numbers are alike: a dictionary of them is read at a third of the speed.
            use_dictionary=["track_id"],
            write_page_checksum=True,
        ) as file,
    ):
        file.write_table(table.filter(is_song))
        file.write_table(table.filter(pc.invert(is_song)))


def read_songs(home: Home, model_id: str, track_ids: set[str]) -> tuple[list[str], np.ndarray]:
    """Song vectors of the tracks in ``track_ids`` that have one, in order of their ids.

    Returns:
        The track ids, and their unit-length vectors as float32 of shape (songs, dim).
    """
    found: dict[str, np.ndarray] = {}
    for path in vector_files(home, model_id):
        table = read_vectors(path, only_songs=True).combine_chunks()
        ids = table["track_id"].to_pylist()
        values = np.concatenate([c.flatten() for c in table["vec"].chunks] or [np.empty(0)])
        for track_id, vector in zip(ids, values.reshape(len(ids), -1), strict=True):
            if track_id in track_ids:
                found.setdefault(track_id, vector)
    ids = sorted(found)
    if not ids:
        return [], np.empty((0, int(registry.metadata(home, model_id)["dim"])), np.float32)
    return ids, np.stack([found[i] for i in ids]).astype(np.float32)
