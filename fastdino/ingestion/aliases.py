"""Ids that recordings have from older versions of this program, which told sound otherwise.

Belongs here: keeping them for as long as the home lives: a recording that is removed and comes back
is known by its id of old. Does not: finding them (``diff.with_known_ids``).
"""

import polars as pl

from fastdino.core import tables
from fastdino.core.home import Home

SCHEMA = pl.Schema({"audio_id": pl.String(), "track_id": pl.String()})
# What follows if it is lost.
WITHOUT = "files that are there now keep their songs' ids"


def read(home: Home) -> pl.DataFrame:
    """All that are known, sorted by ``audio_id``; none if none was ever needed.

    Raises:
        UserError: the file is damaged.
    """
    return tables.read_kept(home.aliases, SCHEMA, WITHOUT)


def keep(home: Home, known: pl.DataFrame, files: pl.DataFrame) -> None:
    """Add what the catalogue ``files`` knows to what is ``known``, if there is anything new."""
    carried = files.filter(pl.col("audio_id") != pl.col("track_id")).select(SCHEMA.names())
    every = pl.concat([known, carried]).unique("audio_id", keep="first").sort("audio_id")
    if not every.equals(known):
        tables.write(home.aliases, every)
