"""Checking the catalogue, and what it says was left out.

Belongs here: whether they can be read and make sense. Does not: whether they are what the music
folders hold now, which is for ingestion to see.
"""

import os
from collections.abc import Generator

import polars as pl

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.ingestion import aliases, catalog, departed, skipped
from fastdino.upkeep.verify import recovery
from fastdino.upkeep.verify.finding import Finding, reason


def check(home: Home, *, repair: bool) -> Generator[Finding, None, set[str] | None]:
    """Check the catalogue, and what was left out of it.

    Returns:
        The tracks of the collection; None if they cannot be told.
    """
    known = yield from _check_files(home, repair=repair)
    for path, read, then in (
        (home.skipped, skipped.read, "the next ingestion writes it anew"),
        (home.aliases, aliases.read, aliases.WITHOUT),
        (home.departed, departed.read, departed.WITHOUT),
    ):
        try:
            read(home)
        except UserError as error:
            found = Finding(path, reason(path, error), f"deleted; {then}")
            yield found.settled(path.unlink, repair=repair)
    return known


def _check_files(home: Home, *, repair: bool) -> Generator[Finding, None, set[str] | None]:
    wrong = _wrong(home)
    if wrong is None:
        return catalog.track_ids(catalog.read(home))
    files = recovery.files(home)
    aside = home.catalog.with_name(home.catalog.name + ".damaged")
    kept = f"it is set aside as {aside.name}, " if home.catalog.exists() else ""
    found = Finding(
        home.catalog,
        wrong,
        f"{kept}music.duckdb gives back what it knew, and the next ingestion looks into every file"
        if files is not None
        else f"{kept}the next ingestion makes it anew; all songs will count as first seen then",
    )

    def mend() -> None:
        if home.catalog.exists():
            os.replace(home.catalog, aside)
        if files is not None:
            catalog.write(home, files)

    yield found.settled(mend, repair=repair)
    # What was published may lack songs that came later: it does not say which ones are gone.
    return None


def _wrong(home: Home) -> str | None:
    if not home.catalog.exists():
        return "it is missing"
    try:
        files = catalog.read(home)
    except UserError as error:
        return reason(home.catalog, error)
    if files["path"].n_unique() < len(files):
        return "a path is in it twice"
    unusable = pl.col("track_id").is_null()
    if files.filter(unusable != pl.col("error").is_not_null()).height:
        return "it has files with neither a track nor a reason"
    return None
