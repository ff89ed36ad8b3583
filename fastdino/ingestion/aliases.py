"""Ids that recordings have from older versions of this program, which told sound otherwise.

Belongs here: keeping them for as long as the home lives: a recording that is removed and comes back
is known by its id of old. Does not: finding them (``diff.with_known_ids``).
"""

import polars as pl

from fastdino.core import tables
from fastdino.core.errors import UserError
from fastdino.core.home import Home

SCHEMA = pl.Schema({"audio_id": pl.String(), "track_id": pl.String()})


def read(home: Home) -> pl.DataFrame:
    """All that are known, sorted by ``audio_id``; none if none was ever needed.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return tables.read(home.aliases, SCHEMA, missing_ok=True)
    except ValueError as error:
        raise UserError(
            f"{home.aliases} is damaged: run `fastdino verify --repair`; files that are there now "
            "keep their songs' ids"
        ) from error


def keep(home: Home, known: pl.DataFrame, files: pl.DataFrame) -> None:
    """Add what the catalogue ``files`` knows to what is ``known``, if there is anything new."""
    carried = files.filter(pl.col("audio_id") != pl.col("track_id")).select(SCHEMA.names())
    every = pl.concat([known, carried]).unique("audio_id", keep="first").sort("audio_id")
    if not every.equals(known):
        tables.write(home.aliases, every)
