"""Checking ``music.duckdb``.

Belongs here: reading it to the last block, and beside the files it is published from. Does not: any
repair but deleting it, as it is made from those files alone.
"""

from pathlib import Path

import duckdb

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.database.connection import count_rows
from fastdino.database.publishing import (
    fingerprint_of,
    is_what_would_be_published,
    published_fingerprint,
    unreadable,
)
from fastdino.ingestion import catalog, skipped
from fastdino.training import registry
from fastdino.upkeep.verify.finding import Finding, Findings, Mender


def check(home: Home, expected: set[str] | None, *, repair: bool) -> Findings:
    """Check the published database.

    Args:
        home: where it is.
        expected: the songs that should have a vector in it; None if something else is wrong, and
            it cannot be told whether it holds what it should.
        repair: delete it if it is damaged, and can be published again.
    """
    try:
        files = catalog.read(home)
        left_out = skipped.read(home)
        model_id = registry.current(home)["model_id"]
        fingerprint = fingerprint_of(home)
        can_publish = True
    except (UserError, OSError, TypeError, LookupError):
        can_publish = False
    if not home.database.exists():
        if can_publish:
            yield Finding(home.database, "it is missing", "publishes it", Mender.RUN)
        return
    wrong = unreadable(home.database)
    if wrong is None and can_publish and expected is not None:
        # A copy of a home has other times, so another fingerprint: what is in the files decides.
        if published_fingerprint(home.database) != fingerprint and not is_what_would_be_published(
            home
        ):
            yield Finding(
                home.database,
                "it was published from other files than are there now",
                "publishes it anew",
                Mender.RUN,
            )
            return
        counts = _counts(home.database, model_id)
        rows = {
            "tracks": len(catalog.track_ids(files)),
            "files": len(catalog.songs(files)),
            "skipped": len(left_out),
            "embeddings": len(expected),
        }
        wrong = "; ".join(
            f"table {name} has {counts[name]:,} rows where the files have {n:,}"
            for name, n in rows.items()
            if counts[name] != n
        )
    if not wrong:
        return
    if not can_publish:
        # Left for now: it may be all there is. What is mended above has another time afterwards,
        # so that it is published anew.
        mend = "replaces it, once what stands above is mended"
        yield Finding(home.database, wrong, mend, Mender.RUN)
        return
    found = Finding(home.database, wrong, "deleted; the next run publishes it again")
    yield found.settled(home.database.unlink, repair=repair)


def _counts(database: Path, model_id: str) -> dict[str, int]:
    """Rows of its tables; embeddings are of one model."""
    with duckdb.connect(str(database), read_only=True) as db:
        counts = {name: count_rows(db, name) for name in ("tracks", "files", "skipped")}
        query = "SELECT count(*) FROM embeddings WHERE model_id = ?"
        ((counts["embeddings"],),) = db.execute(query, [model_id]).fetchall()
    return counts
