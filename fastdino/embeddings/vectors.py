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
from fastdino.core.storage import atomic_replace, fetched, listed, lists_again
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
        columns: of these, those to read; ``start_s`` must be among them to leave segments out.

    Raises:
        UserError: the file is damaged.
    """
    try:
        with pq.ParquetFile(fetched(path), page_checksum_verification=True) as file:
            groups = range(file.num_row_groups)
            if not only_songs:
                return file.read_row_groups(groups, columns)
            table = file.read_row_groups([i for i in groups if _has_songs(file, i)], columns)
            return table.filter(pc.is_null(table["start_s"]))
    except UNREADABLE as error:
        if trouble := disk_trouble(error, path):
            raise trouble from error
        raise UserError(
            f"cannot read {path} ({error}): run `fastdino verify --repair`, then `fastdino run`"
        ) from error


def _has_songs(file: pq.ParquetFile, group: int) -> bool:
    """Whether there may be rows without ``start_s`` in a row group."""
    said = file.metadata.row_group(group).column(COLUMNS.index("start_s")).statistics
    return said is None or not said.has_null_count or said.null_count > 0


def read_track_ids(path: Path) -> list[str]:
    """The songs that one file has vectors of.

    Raises:
        UserError: the file is damaged.
    """
    table = read_vectors(path, only_songs=True, columns=["track_id", "start_s"])
    return table["track_id"].to_pylist()


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


@lists_again
def song_ids(home: Home, model_id: str, track_ids: set[str]) -> list[str]:
    """Those of ``track_ids`` that have a song vector, sorted: what ``read_songs`` would return."""
    found: set[str] = set()
    for path in vector_files(home, model_id):
        found |= track_ids.intersection(read_track_ids(path))
    return sorted(found)


@lists_again
def read_songs(home: Home, model_id: str, track_ids: set[str]) -> tuple[list[str], np.ndarray]:
    """Song vectors of the tracks in ``track_ids`` that have one, in order of their ids.

    Returns:
        The track ids, and their unit-length vectors as float32 of shape (songs, dim).

    Raises:
        UserError: a file is damaged, or vectors are not numbers.
    """
    rows: dict[str, int] = {}
    parts: list[np.ndarray] = []
    start = 0
    for path in vector_files(home, model_id):
        table = read_vectors(path, only_songs=True, columns=["track_id", "start_s", "vec"])
        for row, track_id in enumerate(table["track_id"].to_pylist(), start):
            if track_id in track_ids:
                rows.setdefault(track_id, row)
        start += len(table)
        parts += [chunk.flatten().to_numpy() for chunk in table["vec"].chunks]
    ids = sorted(rows)
    if not ids:
        return [], np.empty((0, int(registry.metadata(home, model_id)["dim"])), np.float32)
    vectors = np.concatenate(parts).reshape(start, -1)[[rows[track_id] for track_id in ids]]
    # Whatever is computed of them would fail somewhere, or come out wrong.
    if not np.isfinite(vectors).all():
        raise UserError(
            f"vectors of model {model_id} are not finite: train another with "
            "`fastdino train --afresh`"
        )
    return ids, vectors.astype(np.float32, copy=False)
