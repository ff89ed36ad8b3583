"""The shards: Parquet files of quantised spectrograms, and nothing but numpy and pyarrow to read.

Belongs here: the schema, the writer with its open last shard, the readers. Does not: where
frames come from.
"""

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fastdino.core.errors import UserError, disk_trouble
from fastdino.core.storage import (
    atomic_replace,
    exists,
    fetched,
    listed,
    lists_again,
    stamps,
    unlink,
)

SCHEMA = pa.schema(
    [
        pa.field("track_id", pa.string(), nullable=False),
        pa.field("piece", pa.int32(), nullable=False),
        pa.field("start_frame", pa.int64(), nullable=False),
        pa.field("n_frames", pa.int32(), nullable=False),
        pa.field("n_mels", pa.int16(), nullable=False),
        pa.field("min_db", pa.float32(), nullable=False),
        pa.field("step_db", pa.float32(), nullable=False),
        pa.field("header_s", pa.float64()),
        pa.field("decoded_s", pa.float64(), nullable=False),
        pa.field("salvaged", pa.bool_(), nullable=False),
        pa.field("spectrogram", pa.binary(), nullable=False),
    ]
)
SHARDS = "spectrograms-*.parquet"
INDEX_COLUMNS = [name for name in SCHEMA.names if name != "spectrogram"]

# What ``keep_index`` keeps, and the name of what it says of the shards.
INDEX, INDEXED = "index.parquet", b"shards"

PIECE_FRAMES = 6000
ROW_GROUP_BYTES = 10_000_000
SHARD_BYTES = 256_000_000
# What reading a damaged Parquet file raises, depending on where the damage is.
UNREADABLE = (OSError, ValueError, pa.ArrowException)


@dataclass(frozen=True)
class Piece:
    """At most a minute of one track.

    Attributes:
        frames: uint8 ``[n_frames, n_mels]``, time first; dB = ``min_db + step_db * frames``.
    """

    track_id: str
    frames: np.ndarray


@dataclass(frozen=True)
class TrackInfo:
    """What is said once about a track, on each of its pieces."""

    track_id: str
    min_db: float
    step_db: float
    header_s: float | None
    decoded_s: float
    salvaged: bool


def is_short(decoded_s: float, header_s: float | None) -> bool:
    """Whether ``decoded_s`` falls short of the header by more than its usual inexactness."""
    return header_s is not None and decoded_s < header_s - max(1.0, 0.01 * header_s)


def list_shards(folder: Path) -> list[Path]:
    """The shards in ``folder``, oldest first; empty if there are none."""
    return listed(folder, SHARDS)


def name_of(number: int) -> str:
    """The name of the ``number``-th shard."""
    return f"spectrograms-{number:06d}.parquet"


def number_of(name: str) -> int:
    """The counterpart of ``name_of``."""
    return int(name.removesuffix(".parquet").rpartition("-")[2])


@lists_again
def read_index(folder: Path) -> pa.Table:
    """Every column of every piece but the spectrogram itself, and ``shard``, its file's name.

    Shards that are as they were when ``keep_index`` was last called are not opened for it.

    Raises:
        UserError: a shard is damaged.
    """
    kept = _kept_index(folder)
    tables = []
    for path, now in stamps(folder, SHARDS).items():
        known, stamp = kept.get(path.name, (None, None))
        if known is None or stamp != [*now]:
            known = _columns(path, INDEX_COLUMNS)
            names = pa.array([path.name] * len(known), pa.string())
            known = known.append_column("shard", names)
        tables.append(known)
    return pa.concat_tables(tables or [empty_index()])


def keep_index(folder: Path, index: pa.Table) -> None:
    """Keep what ``read_index`` gave, so that next time it opens only shards that have changed.

    Nothing is written if all of it is kept already.

    To be called by who holds the folder's lock; opening thousands of shards takes a minute.
    """
    rows = {each["values"]: each["counts"] for each in pc.value_counts(index["shard"]).to_pylist()}
    there = stamps(folder, SHARDS)
    about = [[path.name, stamp, rows.get(path.name, 0)] for path, stamp in there.items()]
    said = json.dumps(about).encode()
    with contextlib.suppress(*UNREADABLE):
        if (pq.read_schema(fetched(folder / INDEX)).metadata or {}).get(INDEXED) == said:
            return
    table = index.replace_schema_metadata({INDEXED: said})
    with atomic_replace(folder / INDEX) as part:
        pq.write_table(table, part, compression="zstd", write_page_checksum=True)


def _kept_index(folder: Path) -> dict[str, tuple[pa.Table, list[int | str]]]:
    """The rows of each shard that ``keep_index`` kept, and the shard's stamp at that time."""
    kept, start = {}, 0
    try:
        table = pq.read_table(
            fetched(folder / INDEX), partitioning=None, page_checksum_verification=True
        ).select(empty_index().schema.names)
        for name, stamp, rows in json.loads(table.schema.metadata[INDEXED]):
            kept[name] = (table.slice(start, rows).replace_schema_metadata(), stamp)
            start += rows
    except (*UNREADABLE, LookupError, TypeError) as error:
        if trouble := disk_trouble(error, folder / INDEX):
            raise trouble from error
        return {}  # none yet, or spoilt: the shards say it all
    return kept


def empty_index() -> pa.Table:
    """What ``read_index`` gives where there is no shard."""
    columns = [SCHEMA.field(name) for name in INDEX_COLUMNS]
    return pa.schema([*columns, pa.field("shard", pa.string())]).empty_table()


def track_ids(shard: Path) -> set[str]:
    """The tracks that a shard holds.

    Raises:
        UserError: the shard is damaged.
    """
    return set(_columns(shard, ["track_id"]).column(0).to_pylist())


def _columns(shard: Path, names: list[str]) -> pa.Table:
    # A shard has many small row groups: ``pq.read_table`` takes eight times as long.
    with _naming(shard), pq.ParquetFile(fetched(shard)) as file:
        return file.read(names, use_threads=False)


def iter_pieces(shard: Path, track_ids: Iterable[str] | None = None) -> Iterator[Piece]:
    """Read a shard's pieces, one row group (some 10 MB) at a time.

    Args:
        shard: one of ``list_shards``.
        track_ids: only these tracks; row groups without them are not read. All if None.

    Raises:
        UserError: the shard is damaged.
    """
    wanted = None if track_ids is None else set(track_ids)
    with _naming(shard), pq.ParquetFile(fetched(shard)) as file:
        for group in range(file.num_row_groups):
            if wanted is not None:
                ids = file.read_row_group(group, columns=["track_id"]).column(0).to_pylist()
                if wanted.isdisjoint(ids):
                    continue
            table = file.read_row_group(group)
            spectrograms = table.column("spectrogram")
            for row, about in enumerate(table.drop_columns("spectrogram").to_pylist()):
                if wanted is None or about["track_id"] in wanted:
                    frames = np.frombuffer(spectrograms[row].as_buffer(), np.uint8)
                    shape = about["n_frames"], about["n_mels"]
                    yield Piece(about["track_id"], frames.reshape(shape))


@contextlib.contextmanager
def _naming(shard: Path) -> Iterator[None]:
    """Whatever reading finds wrong with a shard is told with its name and the way out."""
    try:
        yield
    except UNREADABLE as error:
        if trouble := disk_trouble(error, shard):
            raise trouble from error
        raise UserError(
            f"{shard} cannot be read ({error}): run 'fastdino verify --repair', then 'fastdino run'"
        ) from error


def of_tracks(table: pa.Table, track_ids: Collection[str]) -> pa.Table:
    """The rows of a table, of a shard or of vectors, that are of these tracks."""
    wanted = pa.array(list(track_ids), pa.string())
    return table.filter(pc.is_in(table["track_id"], wanted))


def _row_groups(shard: Path) -> Iterator[pa.Table]:
    # What is copied gets new checksums: damage that went unnoticed here would be sealed by them.
    with _naming(shard), pq.ParquetFile(fetched(shard), page_checksum_verification=True) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group)


def rewrite(shard: Path, keep: Collection[str]) -> None:
    """Write a shard anew with the tracks in ``keep`` alone; without any it is deleted.

    Row groups that cannot be read are left out, so none may hold a part of a track to keep.
    """
    if not keep:
        unlink(shard)
        return
    with (
        atomic_replace(shard) as part,
        _new_file(part) as file,
        pq.ParquetFile(fetched(shard), page_checksum_verification=True) as old,
    ):
        for group in range(old.num_row_groups):
            try:
                table = old.read_row_group(group)
            except UNREADABLE:
                continue
            table = of_tracks(table, keep)
            if len(table):
                file.write_table(table, row_group_size=len(table))


def merge(shards: Mapping[Path, Collection[str]]) -> None:
    """Write shards anew as one, under the name of the first, and delete the others.

    A kill in between leaves tracks in two of them, and loses none.

    Args:
        shards: the tracks to keep of each, at least one in all; in order of age.

    Raises:
        UserError: a shard is damaged.
    """
    target, *others = shards
    with atomic_replace(target) as part, _new_file(part) as file:
        waiting: list[pa.Table] = []
        for shard, keep in shards.items():
            for table in _row_groups(shard):
                waiting.append(of_tracks(table, keep))
                if sum(each.nbytes for each in waiting) >= ROW_GROUP_BYTES:
                    _write_row_group(file, waiting)
                    waiting = []
        _write_row_group(file, waiting)
    for shard in others:
        unlink(shard)


def _write_row_group(file: pq.ParquetWriter, tables: list[pa.Table]) -> None:
    if any(len(table) for table in tables):
        # In one piece: how it was cut up would show in the file.
        table = pa.concat_tables(tables).combine_chunks()
        file.write_table(table, row_group_size=len(table))


def _new_file(path: Path) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path,
        SCHEMA,
        # Spectrograms shrink by a seventh only, and would be read at less than half the speed.
        compression=dict.fromkeys(INDEX_COLUMNS, "zstd") | {"spectrogram": "none"},
        use_dictionary=["track_id"],
        write_statistics=["track_id"],
        # A flipped bit in what is not compressed would go unnoticed otherwise.
        write_page_checksum=True,
    )


class ShardWriter:
    """Appends tracks to a shard, which need not be there yet.

    What is appended can be read after ``flush`` or the end of the ``with`` block. A shard that is
    there is rewritten beside itself and replaced whole, to the same bytes as if all of it had been
    written in one go: so many small additions leave few shards, and a shard does not tell how it
    came about.
    """

    def __init__(self, shard: Path) -> None:
        self.shard = shard
        self._file: pq.ParquetWriter | None = None
        self._waiting: list[pa.Table] = []
        self._waiting_bytes = 0
        self._whole = True

    def append(self, info: TrackInfo, frames: np.ndarray) -> None:
        """Append one track's frames, uint8 ``[n_frames, n_mels]`` (a memory map will do)."""
        self._whole = False
        if self._file is None:
            self._open()
        for piece, start in enumerate(range(0, len(frames), PIECE_FRAMES)):
            part = np.ascontiguousarray(frames[start : start + PIECE_FRAMES])
            row = {
                **vars(info),
                "piece": piece,
                "start_frame": start,
                "n_frames": part.shape[0],
                "n_mels": part.shape[1],
                "spectrogram": part.tobytes(),
            }
            self._add(pa.Table.from_pylist([row], SCHEMA))
        self._whole = True

    def flush(self) -> None:
        """Make everything appended so far readable, and safe from a crash."""
        if self._file is None:
            return
        self._write_waiting()
        self._file.close()
        self._file = None
        self._replacing.__exit__(None, None, None)

    def _open(self) -> None:
        self._replacing = atomic_replace(self.shard)
        self._file = _new_file(self._replacing.__enter__())
        if exists(self.shard):
            for table in _row_groups(self.shard):
                for row in range(len(table)):
                    self._add(table.slice(row, 1))

    def _add(self, piece: pa.Table) -> None:
        self._waiting.append(piece)
        self._waiting_bytes += piece["n_frames"][0].as_py() * piece["n_mels"][0].as_py()
        if self._waiting_bytes >= ROW_GROUP_BYTES:
            self._write_waiting()

    def _write_waiting(self) -> None:
        if self._waiting:
            assert self._file is not None
            _write_row_group(self._file, self._waiting)
            self._waiting, self._waiting_bytes = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        # Whoever interrupts a run keeps the tracks that were done; half a track is dropped.
        if self._whole:
            self.flush()
        elif self._file is not None:
            self._file.close()
            self._replacing.__exit__(kind, *rest)  # type: ignore[arg-type]
