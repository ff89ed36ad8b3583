"""The vectors as Parquet, one file per model and shard.

Belongs here: reading and writing such a file, which files hold a model's vectors, the song vectors
as one array. Does not: making vectors (``encode``), which model is in use (``training.registry``)
or serving them to SQL (``publishing``).
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastdino.errors import UserError, disk_trouble
from fastdino.home import Home
from fastdino.spectrograms.shards import UNREADABLE
from fastdino.storage import replacing
from fastdino.training import registry

COLUMNS = ["track_id", "start_s", "end_s", "vec"]


def vector_files(home: Home, model_id: str) -> list[Path]:
    """Files with one model's vectors, those of the newest shard first.

    Shard names sort by age; a song that two files hold is to be taken from the first here.
    """
    return sorted(home.vectors(model_id).glob("*.parquet"), reverse=True)


def read_vectors(path: Path) -> pa.Table:
    """One file's rows: track_id, start_s and end_s (null for a whole song), vec.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return pq.read_table(
            path, columns=COLUMNS, partitioning=None, page_checksum_verification=True
        )
    except UNREADABLE as error:
        if trouble := disk_trouble(error, path):
            raise trouble from error
        raise UserError(
            f"cannot read {path} ({error}): run `fastdino verify --repair`, then `fastdino run`"
        ) from error


def write_vectors(path: Path, table: pa.Table) -> None:
    """Write one file's rows, as ``read_vectors`` gives them, atomically."""
    with replacing(path) as part:
        pq.write_table(
            table, part, compression="zstd", compression_level=1, write_page_checksum=True
        )


def read_songs(home: Home, model_id: str, track_ids: set[str]) -> tuple[list[str], np.ndarray]:
    """Song vectors of the tracks in ``track_ids`` that have one, in order of their ids.

    Returns:
        The track ids, and their unit-length vectors as float32 of shape (songs, dim).
    """
    found: dict[str, np.ndarray] = {}
    for path in vector_files(home, model_id):
        table = read_vectors(path)
        table = table.filter(pc.is_null(table["start_s"])).combine_chunks()
        ids = table["track_id"].to_pylist()
        values = np.concatenate([c.flatten() for c in table["vec"].chunks] or [np.empty(0)])
        for track_id, vector in zip(ids, values.reshape(len(ids), -1), strict=True):
            if track_id in track_ids:
                found.setdefault(track_id, vector)
    ids = sorted(found)
    if not ids:
        return [], np.empty((0, int(registry.about(home, model_id)["dim"])), np.float32)
    return ids, np.stack([found[i] for i in ids]).astype(np.float32)
