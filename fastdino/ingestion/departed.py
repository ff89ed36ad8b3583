"""When songs that have left the collection were first seen.

Belongs here: keeping that for as long as the home lives, so that what comes back, from a disk that
was away or because a pattern no longer names it, is not new. Does not: what was computed of them,
which shards, vectors and maps keep.
"""

import polars as pl

from fastdino.core import tables
from fastdino.core.home import Home
from fastdino.ingestion import catalog

SCHEMA = pl.Schema({name: catalog.SCHEMA[name] for name in ("track_id", "added_at")})
# What follows if it is lost.
WITHOUT = "songs that left before count as new when they come back"


def read(home: Home) -> pl.DataFrame:
    """All that have ever left, sorted by ``track_id``; some may be there again.

    Raises:
        UserError: the file is damaged.
    """
    return tables.read_kept(home.departed, SCHEMA, WITHOUT)


def keep(home: Home, known: pl.DataFrame, before: pl.DataFrame, after: pl.DataFrame) -> None:
    """Add to what is ``known`` the songs that have left between two catalogues, if any have."""
    left = before.join(after, on="track_id", how="anti").select(SCHEMA.names()).drop_nulls()
    every = pl.concat([known, left]).group_by("track_id").agg(pl.col("added_at").min())
    every = every.sort("track_id")
    if not every.equals(known):
        tables.write(home.departed, every)


def first_seen_kept(known: pl.DataFrame, before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """The catalogue ``after``, with files of songs that come back as old as these are."""
    arrived = after.join(before, on="path", how="anti")
    seen = arrived.select("path", "track_id").join(known, on="track_id")
    return catalog.first_seen(after, seen)
