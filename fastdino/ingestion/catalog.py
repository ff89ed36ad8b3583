"""The catalogue: a Parquet file with one row per file of the collection.

Belongs here: its columns, reading, writing, and the step from files to tracks. Does not: how rows
come about (``scan``, ``identify``) or what changed between two catalogues (``diff``).
"""

import polars as pl

from fastdino.core import tables
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.paths import SHOWN
from fastdino.ingestion.cue import FRAMES_PER_S

# A song in a file that holds several, as a CUE sheet says: its place in 1/75 s, and its tags. The
# last one ends with the file, and so has no end of its own.
CUE_SONG = pl.Struct(
    {
        "track_id": pl.String(),
        "start": pl.Int64(),
        "end": pl.Int64(),
        "track_number": pl.Int32(),
        "title": pl.String(),
        "artist": pl.String(),
        "album": pl.String(),
        "album_artist": pl.String(),
        "genre": pl.String(),
        "year": pl.Int32(),
        "isrc": pl.String(),  # catalogues of older versions lack it
    }
)
SCHEMA = pl.Schema(
    {
        "path": pl.String(),  # absolute, as ``core.paths`` writes it; the key
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
        "audio_id": pl.String(),  # hash of the sound; track_id, but for files of older versions
        "ctime_ns": pl.Int64(),
        "error_kind": pl.String(),  # what is to blame, see ``fastdino.core.failures``
        "attempts": pl.Int16(),  # how often it was tried so far, where that is the computer
        "next_try_at": pl.Datetime("us", "UTC"),  # and when it is tried again
        "own_sheet": pl.String(),  # the CUE sheet within it
        "sheets": pl.String(),  # what stands for those beside it, see ``sheets.fingerprint``
        "cue": pl.List(CUE_SONG),  # the songs in it, if a sheet says that there are several
        "sheet_error": pl.String(),  # why it counts as one although there is a sheet
    }
)
# Columns that catalogues of older versions lack. They are null until the files have been read anew,
# which the next ingest does.
ADDED = (
    "artists", "genres", "original_year", "recording_mbid", "isrc",
    "identified_by", "audio_id", "ctime_ns", "error_kind", "attempts", "next_try_at",
    "own_sheet", "sheets", "cue", "sheet_error",
)  # fmt: skip

# The folder that the file is in.
PARENT = pl.col("path").str.replace(r"(?s)/[^/]*$", "")
# The file's name without its suffix.
NAME = (
    pl.col("path").str.extract(r"([^/]*)$").str.replace(r"(?s)\.[^.]*$", "").str.replace_many(SHOWN)
)


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
            f"there is no catalogue in {home.root} yet: run `make run`, or `fastdino run FOLDER` "
            "with that of your music"
        ) from None
    except ValueError as error:
        raise UserError(
            f"{home.catalog} is damaged or of another version: delete it and run `fastdino "
            "ingest`; spectrograms, models and vectors are kept"
        ) from error


def write(home: Home, files: pl.DataFrame) -> None:
    """Replace the catalogue by ``files``, which has the columns of ``SCHEMA``."""
    tables.write(home.catalog, files.select(SCHEMA.names()))


def songs(files: pl.DataFrame) -> pl.DataFrame:
    """One row per file and song in it; of a file that cannot be used, its own row.

    The columns are those of ``SCHEMA`` but for what is known of sheets, and where the song lies in
    the file: ``start_s`` and ``end_s``, both null if it is all of it, ``end_s`` alone if it ends
    with the file. What a sheet does not tell of a song is that of the file, save the title.
    """
    nowhere = pl.lit(None, pl.Float64)
    kept = files.drop("own_sheet", "sheets", "sheet_error")
    is_cut = pl.col("cue").list.len().fill_null(0) > 0
    whole = kept.filter(~is_cut).drop("cue").with_columns(start_s=nowhere, end_s=nowhere)
    song = {name: pl.col("cue").struct.field(name) for name in CUE_SONG.to_schema()}
    shared = ("artist", "album", "genre", "year")
    start_s, end_s = _seconds(song["start"]), _seconds(song["end"])
    number = song["track_number"].cast(pl.String).str.zfill(2)
    cut = (
        kept.filter(is_cut)
        .explode("cue")
        .with_columns(
            *(pl.coalesce(song[name], name).alias(name) for name in shared),
            *(
                pl.when(song[one].is_null())
                .then(many)
                .otherwise(pl.concat_list(song[one]))
                .alias(many)
                for one, many in (("artist", "artists"), ("genre", "genres"))
            ),
            # The file's are of one recording, and of which cannot be told.
            recording_mbid=pl.lit(None, pl.String),
            isrc=song["isrc"],
            track_id=song["track_id"],
            title=pl.coalesce(song["title"], pl.format("{} {}", NAME, number)),
            track_number=song["track_number"],
            album_artist=pl.coalesce("album_artist", song["album_artist"]),
            duration_s=pl.coalesce(
                _seconds(song["end"] - song["start"]), pl.col("duration_s") - start_s
            ),
            start_s=start_s,
            end_s=end_s,
        )
        .drop("cue")
    )
    return pl.concat([whole, cut]).sort("path", "start_s")


def _seconds(frames: pl.Expr) -> pl.Expr:
    # Polars multiplies by 1/75, which makes 15.000000000000002 of 1125.
    return (frames / FRAMES_PER_S).round(6)


def track_ids(files: pl.DataFrame) -> set[str]:
    """The songs that ``files`` hold."""
    return set(songs(files)["track_id"].drop_nulls())


def first_seen(files: pl.DataFrame, seen: pl.DataFrame) -> pl.DataFrame:
    """The catalogue with the paths of ``seen`` added at its times, whatever was said of them."""
    known = seen.select("path", seen_at="added_at")
    joined = files.join(known, on="path", how="left", maintain_order="left")
    return joined.with_columns(added_at=pl.coalesce("seen_at", "added_at")).drop("seen_at")


def tracks(files: pl.DataFrame) -> pl.DataFrame:
    """One row per song, sorted by ``track_id``.

    Everything is that of its first file (by ``added_at``, then path) that names an artist, or else
    of the first: the columns of ``songs`` without ``error``, and ``n_files``. But it was added with
    the first of all. A missing title is replaced by the file's name; ``artists`` and ``genres`` are
    never null, and of files that an older version read hold the one text known.
    """
    return (
        songs(files)
        .filter(pl.col("track_id").is_not_null())
        .sort(pl.col("artist").is_null(), "added_at", "path")
        .with_columns(
            pl.col("added_at").min().over("track_id"),
            pl.col("title").fill_null(NAME),
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
