"""Frames as Parquet files that know whether they are still what was written.

Belongs here: writing and reading a polars frame with checksums. Does not: what is in it, or files
that are read a row group at a time, such as shards and vectors.

Of damaged files without checksums, one in ten was read as if it were sound, with other values in
it, and some ended the program from within polars, where nothing can catch it.
"""

import contextlib
from collections.abc import Collection, Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fastdino.core.errors import UserError, disk_trouble
from fastdino.core.storage import atomic_replace, fetched

# Up to here each text of a column is written once, however often it occurs.
DICTIONARY_BYTES = 64 << 20


def write(target: Path, frame: pl.DataFrame) -> None:
    """Write ``frame``, atomically."""
    with atomic_replace(target) as part:
        pq.write_table(
            frame.to_arrow(),
            part,
            compression="zstd",
            dictionary_pagesize_limit=DICTIONARY_BYTES,
            write_page_checksum=True,
        )


def read(
    source: Path, schema: pl.Schema, added: Collection[str] = (), *, missing_ok: bool = False
) -> pl.DataFrame:
    """Read what ``write`` wrote.

    Args:
        source: the file.
        schema: its columns.
        added: of these, those that files of older versions lack: they are null there.
        missing_ok: whether no file is one of no rows.

    Raises:
        OSError: there is no such file, it may not be read, or the disk cannot read it.
        ValueError: it is damaged, or has other columns than ``schema``.
    """
    with _damage_told(source):
        try:
            table = pq.read_table(
                fetched(source), partitioning=None, page_checksum_verification=True
            )
        except FileNotFoundError:
            if missing_ok:
                return schema.to_frame()
            raise
        wanted = schema.to_frame().to_arrow().schema
        for name in schema.names():
            if name in added and name not in table.column_names:
                table = table.append_column(name, pa.nulls(len(table), wanted.field(name).type))
        # Before polars sees it: a damaged description of the columns ends it as well.
        table = table.select(schema.names()).cast(wanted)
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def read_kept(source: Path, schema: pl.Schema, without: str) -> pl.DataFrame:
    """Read what can be done without: no rows if there is no file.

    Args:
        source: the file.
        schema: its columns.
        without: what follows if it is lost, for a person.

    Raises:
        OSError: as ``read`` does.
        UserError: it is damaged.
    """
    try:
        return read(source, schema, missing_ok=True)
    except ValueError as error:
        raise UserError(
            f"{source} is damaged: run `fastdino verify --repair`; {without}"
        ) from error


def check(source: Path, schema: pl.Schema) -> None:
    """See that the disk still holds what ``write`` wrote, in a tenth of the time of reading it.

    Raises:
        OSError, ValueError: as ``read`` does.
    """
    texts = [name for name, kind in schema.items() if kind == pl.String]
    with _damage_told(source):
        pq.read_table(
            fetched(source),
            columns=schema.names(),
            partitioning=None,
            page_checksum_verification=True,
            read_dictionary=texts,
        )


@contextlib.contextmanager
def _damage_told(source: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, ValueError, LookupError, pa.ArrowException) as error:
        # A disk that refuses says nothing about what is on it.
        if trouble := disk_trouble(error, source):
            raise trouble from error
        raise ValueError(f"{source} is damaged or of another version: {error}") from error
