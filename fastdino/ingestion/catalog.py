"""The catalogue: a Parquet file with one row per file of the collection.

Belongs here: its columns, reading, writing, and the step from files to tracks. Does not: how rows
come about (``scan``, ``identify``) or what changed between two catalogues (``diff``).
"""

import polars as pl

from fastdino.core import tables
from fastdino.core.errors import UserError
from fastdino.core.home import Home

SCHEMA = pl.Schema(
    {
        "path": pl.String(),  # absolute; the key
        "folder": pl.String(),  # the music folder it was found under
        "size": pl.Int64(),
        "mtime_ns": pl.Int64(),
        "track_id": pl.String(),  # null if the file cannot be used, and only then
        "error": pl.String(),  # why it cannot
        "title": pl.String(),
        "artist": pl.String(),  # all of them, as people read them
        "artists": pl.List(pl.String()),  # each by itself; null if there is none or not known yet
        "album": pl.String(),
        "album_artist": pl.String(),
        "genre": pl.String(),
        "genres": pl.List(pl.String()),
        "year": pl.Int32(),
        "original_year": pl.Int32(),  # of the first release
        "track_number": pl.Int32(),
        "recording_mbid": pl.String(),  # MusicBrainz' identifier of the recording
        "isrc": pl.String(),
        "duration_s": pl.Float64(),
        "codec": pl.String(),
        "sample_rate": pl.Int32(),
        "channels": pl.Int32(),
        "added_at": pl.Datetime("us", "UTC"),  # when this path was first seen
        "identified_by": pl.Int16(),  # version of ``identify`` that read the file
    }
)
# Columns that catalogues of older versions lack. They are null until the files have been read anew,
# which the next ingest does.
ADDED = ("artists", "genres", "original_year", "recording_mbid", "isrc", "identified_by")


def empty() -> pl.DataFrame:
    """A catalogue of no files."""
    return pl.DataFrame(schema=SCHEMA)


def read(home: Home) -> pl.DataFrame:
    """The catalogue, sorted by path.

    Raises:
        UserError: there is none yet, or it is damaged.
        OSError: the disk cannot read it, or it may not be read.
    """
    try:
        return tables.read(home.catalog, SCHEMA, ADDED)
    except FileNotFoundError:
        raise UserError(
            f"there is no catalogue in {home.root} yet: run `fastdino ingest` first"
        ) from None
    except ValueError as error:
        raise UserError(
            f"{home.catalog} is damaged or of another version: delete it and run `fastdino "
            "ingest`; spectrograms, models and vectors are kept"
        ) from error


def write(home: Home, files: pl.DataFrame) -> None:
    """Replace the catalogue by ``files``, which has the columns of ``SCHEMA``."""
    tables.write(home.catalog, files.select(SCHEMA.names()))


def tracks(files: pl.DataFrame) -> pl.DataFrame:
    """One row per recording, sorted by ``track_id``.

    Everything is that of its first file (by ``added_at``, then path): the columns of ``SCHEMA``
    without ``error``, and ``n_files``. A missing title is replaced by the file's name; ``artists``
    and ``genres`` are never null, and of files that an older version read hold the one text known.
    """
    name = pl.col("path").str.extract(r"([^/]*)$").str.replace(r"(?s)\.[^.]*$", "")
    return (
        files.filter(pl.col("track_id").is_not_null())
        .sort("added_at", "path")
        .with_columns(
            pl.col("title").fill_null(name),
            *(
                pl.coalesce(several, pl.concat_list(pl.col(one)).list.drop_nulls())
                for one, several in (("artist", "artists"), ("genre", "genres"))
            ),
            pl.len().over("track_id").cast(pl.Int32).alias("n_files"),
        )
        .drop("error")
        .unique("track_id", keep="first", maintain_order=True)
        .sort("track_id")
    )
