"""What the published database gives back of a lost catalogue."""

import polars as pl
import synthetic

from fastdino import reports
from fastdino.core.home import Home
from fastdino.database import publish
from fastdino.ingestion import catalog
from fastdino.upkeep.verify import recovery


def test_a_lost_catalogue_is_given_back_but_for_what_the_files_are_read_again_for(
    home: Home,
) -> None:
    synthetic.write_home(home, 12)
    reports.draw_map(home)
    publish(home)
    known = catalog.read(home).sort("path")
    found = recovery.files(home)
    assert found is not None
    assert found.schema == catalog.SCHEMA
    left = [*catalog.ADDED, "mtime_ns"]
    assert found.drop(left).equals(known.drop(left))
    assert found.filter(pl.col("mtime_ns") != recovery.LONG_AGO).is_empty()
