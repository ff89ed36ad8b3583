"""What a run has read of files before it writes the catalogue, for the next one if it is stopped.

Belongs here: keeping what files hold while others are looked into, and finding it again. Does not:
looking into them (``identify``), or what a finished run knows (``catalog``).

To look into all files of a large collection takes hours. What was found lies in parts that are only
ever added, so that the cost does not grow with what is there already.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import polars as pl

from fastdino.core import tables
from fastdino.core.failures import MACHINE
from fastdino.core.home import Home
from fastdino.core.storage import remove_folder
from fastdino.ingestion import identify
from fastdino.ingestion.identify import Identified

FLUSH_EVERY_S = 60.0
# A file is the same as long as these are.
KEY = ("path", "size", "mtime_ns", "ctime_ns")
SCHEMA = pl.Schema(
    {
        "path": pl.String(),
        "size": pl.Int64(),
        "mtime_ns": pl.Int64(),
        "ctime_ns": pl.Int64(),
        "versions": pl.String(),  # of ``identify``
        "found": pl.String(),  # JSON of an ``Identified``
    }
)


class SoFar:
    """What was found by this run, and by those before it that were stopped.

    To be used while the catalogue's lock is held.
    """

    def __init__(self, home: Home, *, rescan: bool) -> None:
        """Read what there is; a ``rescan`` goes by nothing but what one has found."""
        self._folder = home.so_far
        self._kind = "rescan" if rescan else "ingest"
        self._parts = sorted(self._folder.glob(f"{self._kind}-*.parquet"))
        self._rows: list[tuple[Any, ...]] = []
        self._flushed = time.monotonic()
        frames = [SCHEMA.to_frame()]
        for part in self._parts:
            try:
                frames.append(tables.read(part, SCHEMA))
            except ValueError:
                continue  # Damaged: its files are looked into again.
        self._known = pl.concat(frames).filter(versions=_versions())

    def known(self, files: pl.DataFrame) -> dict[str, Identified]:
        """What those of ``files``, as listed, hold that are as they were, by path."""
        same = self._known.join(files, on=KEY, how="semi").select("path", "found")
        return {path: Identified(**json.loads(found)) for path, found in same.iter_rows()}

    def add(self, file: Sequence[Any], found: Identified) -> None:
        """Keep what a ``file``, given by its ``KEY``, holds.

        But not where the computer failed: the next run is another try.

        Raises:
            OSError: the disk refuses it.
        """
        if found.error_kind != MACHINE:
            self._rows.append((*file, _versions(), json.dumps(asdict(found))))
        if self._rows and time.monotonic() - self._flushed > FLUSH_EVERY_S:
            part = self._folder / f"{self._kind}-{len(self._parts):06}.parquet"
            tables.write(part, pl.DataFrame(self._rows, SCHEMA, orient="row"))
            self._parts.append(part)
            self._rows, self._flushed = [], time.monotonic()

    def forget(self) -> None:
        """Delete all of it, once the catalogue is written."""
        remove_folder(self._folder)


def _versions() -> str:
    return f"{identify.VERSION} {identify.FAILED_VERSION}"
