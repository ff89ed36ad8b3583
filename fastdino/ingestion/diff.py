"""What differs between two looks at a collection.

Belongs here: pure functions over frames. Does not: anything that touches a file.
"""

from datetime import datetime

import polars as pl

from fastdino.ingestion.catalog import SCHEMA, first_seen
from fastdino.ingestion.identify import CANNOT_READ, FAILED_VERSION, VERSION

TAGS = (
    "title", "artist", "artists", "album", "album_artist", "genre", "genres", "year",
    "original_year", "track_number", "recording_mbid", "isrc", "cue",
)  # fmt: skip
# What may differ without anyone being told of it.
QUIET = (
    "path", "identified_by", "audio_id", "ctime_ns", "attempts", "next_try_at", "own_sheet",
    "sheets",
)  # fmt: skip
# By which version a row of today is.
IDENTIFIED_BY = (
    pl.when(pl.col("error").is_null())
    .then(VERSION)
    .otherwise(FAILED_VERSION)
    .cast(SCHEMA["identified_by"])
)
# The order in which people are told.
KINDS = {
    "new": "a recording that was not there before",
    "moved": "a known recording under a new path, gone from the old one",
    "duplicate": "a further copy of a recording that is there as well",
    "retagged": "the same recording with other tags",
    "recut": "the same recording, cut into other songs by a CUE sheet",
    "replaced": "another recording under the same path",
    "repaired": "could not be used before and can now",
    "unreadable": "cannot be used, and was not there or was fine before",
    "removed": "gone",
    "touched": "written again with nothing changed that matters",
}
CHANGES = pl.Schema(
    {
        "kind": pl.Enum(list(KINDS)),
        "path": pl.String(),
        "old_path": pl.String(),
        "track_id": pl.String(),
    }
)


def unchanged(before: pl.DataFrame, listed: pl.DataFrame, now: datetime) -> pl.DataFrame:
    """Rows of the catalogue ``before`` that still hold: same path, size and times as ``listed``.

    Some programs put the old time of writing back when they have changed a tag; the time of
    changing gives them away.

    Files that could not be read are left out: reading may work now. So are those that another
    version of this program has read, or failed at, and those that the computer failed at and that
    are to be tried again by ``now``.
    """
    usable = before.filter(
        ~pl.col("error").fill_null("").str.starts_with(CANNOT_READ),
        pl.col("identified_by").eq_missing(IDENTIFIED_BY),
        pl.col("next_try_at").is_null() | (pl.col("next_try_at") > now),
    )
    return usable.join(listed, on=("path", "size", "mtime_ns", "ctime_ns"), how="semi")


def with_known_ids(
    before: pl.DataFrame, opened: pl.DataFrame, aliases: pl.DataFrame
) -> pl.DataFrame:
    """Files just opened, with the track that each holds: ``track_id`` from ``audio_id``.

    They are the same but where an older version, which took tags behind the sound for sound, has
    given the recording another id. That stays, so that nothing has to be computed anew.

    Args:
        before: the catalogue so far.
        opened: columns path, size, mtime_ns, audio_id and others.
        aliases: what was carried over before, audio_id and track_id.
    """
    known = before.filter(pl.col("track_id").is_not_null())
    # Of a file that is as it was, whatever this version makes of it.
    older = known.filter(pl.col("identified_by").ne_missing(VERSION)).drop("audio_id")
    same = ("size", "mtime_ns")
    found = opened.select("path", *same, "audio_id")
    stayed = found.join(older, on=("path", *same))
    # One that was renamed since is told by its size and time, if no other has these.
    gone = older.join(opened, on="path", how="anti").unique(same, keep="none")
    moved = found.join(older, on="path", how="anti").unique(same, keep="none").join(gone, on=same)
    names = ("audio_id", "track_id", "added_at")
    first = aliases.with_columns(added_at=pl.lit(None, older.schema["added_at"])).select(names)
    aliases = (
        pl.concat([first, *(each.select(names) for each in (known, stayed, moved))])
        .filter(
            pl.col("audio_id").is_not_null(),
            pl.col("audio_id") != pl.col("track_id"),
            # Of several ids that turn out to be of one recording its own goes before all.
            ~pl.col("audio_id").is_in(known["track_id"].implode()),
        )
        .sort("added_at", "track_id", nulls_last=False)
        .unique("audio_id", keep="first", maintain_order=True)
        .select("audio_id", "track_id")
    )
    joined = opened.join(aliases, on="audio_id", how="left", maintain_order="left")
    return joined.with_columns(pl.coalesce("track_id", "audio_id").alias("track_id"))


def changes(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """One row per path that changed between two catalogues.

    What is known of an unchanged file only because another version has read it is no change.

    Args:
        before: columns of the catalogue's ``SCHEMA``, ``path`` unique.
        after: the same.

    Returns:
        Columns of ``CHANGES``, sorted by kind and path. ``old_path`` is set for moved files; such
        an old path has no row of its own unless it holds something else now. ``track_id`` is what
        the path holds now, or held if it was removed.
    """
    both = before.join(after, on="path", how="full", coalesce=True, suffix="_after").with_columns(
        was=pl.col("size").is_not_null(), is_=pl.col("size_after").is_not_null()
    )
    differs = {c: pl.col(c).ne_missing(pl.col(f"{c}_after")) for c in SCHEMA if c not in QUIET}
    same_file = ~pl.any_horizontal(differs[c] for c in ("size", "mtime_ns", "folder"))
    read_anew = same_file & pl.col("identified_by").ne_missing(pl.col("identified_by_after"))
    failed, fails = pl.col("error").is_not_null(), pl.col("error_after").is_not_null()
    stayed = (
        both.filter("was", "is_")
        .select(
            "path",
            track_id="track_id_after",
            kind=pl.when(fails & differs["error"])
            .then(pl.lit("unreadable"))
            .when(failed & ~fails)
            .then(pl.lit("repaired"))
            .when(differs["track_id"])
            .then(pl.lit("replaced"))
            .when(~read_anew & (_cuts("cue").ne_missing(_cuts("cue_after"))))
            .then(pl.lit("recut"))
            .when(read_anew)
            .then(None)
            .when(pl.any_horizontal(differs[tag] for tag in TAGS))
            .then(pl.lit("retagged"))
            .when(pl.any_horizontal(differs.values()))
            .then(pl.lit("touched")),
        )
        .drop_nulls("kind")
    )
    appeared = both.filter(~pl.col("was")).select("path", "error_after", track_id="track_id_after")
    broken = appeared.filter(pl.col("error_after").is_not_null())
    arrived = _ranked(appeared.filter(pl.col("track_id").is_not_null()), "path")
    # Paths that a track has left, either gone or taken over by something else: gone ones first.
    left = both.filter("was", pl.col("track_id").is_not_null(), differs["track_id"])
    pairs = _ranked(left, "is_", "path").select("track_id", "rank", old_path="path")
    placed = arrived.join(pairs, on=("track_id", "rank"), how="left")
    moved = placed.filter(pl.col("old_path").is_not_null())
    others = _ranked(placed.filter(pl.col("old_path").is_null()).drop("rank"), "path")
    present = after.filter(pl.col("track_id").is_not_null()).join(others, on="path", how="anti")
    first_copy = (pl.col("rank") == 0) & ~pl.col("track_id").is_in(present["track_id"].implode())
    removed = both.filter(~pl.col("is_")).join(
        moved, left_on="path", right_on="old_path", how="anti"
    )
    parts = (
        stayed,
        broken.with_columns(kind=pl.lit("unreadable")),
        moved.with_columns(kind=pl.lit("moved")),
        others.with_columns(
            kind=pl.when(first_copy).then(pl.lit("new")).otherwise(pl.lit("duplicate"))
        ),
        removed.select("path", "track_id", kind=pl.lit("removed")),
    )
    rows = pl.concat(parts, how="diagonal").select("kind", "path", "old_path", "track_id")
    return rows.cast(CHANGES).sort("kind", "path")


def _cuts(column: str) -> pl.Expr:
    return pl.col(column).list.eval(pl.element().struct.field("track_id"))


def first_seen_kept(
    before: pl.DataFrame, after: pl.DataFrame, changed: pl.DataFrame
) -> pl.DataFrame:
    """The catalogue ``after`` with moved files added when they were under their old paths.

    ``changed`` is what ``changes`` says of the two; it stays true of what is returned.
    """
    moved = changed.filter(kind="moved").select("path", "old_path")
    seen = moved.join(before.select("added_at", old_path="path"), on="old_path")
    return first_seen(after, seen)


def _ranked(rows: pl.DataFrame, *order: str) -> pl.DataFrame:
    """Add ``rank``: 0, 1, ... among the rows of one track, in the given order."""
    ranks = pl.int_range(pl.len()).over("track_id").alias("rank")
    return rows.sort(*order).with_columns(ranks)
