"""Verify: is everything that was made still what was written, and how is it mended?

Belongs here: checking catalogue, shards, models, vectors, maps and database, one module each, and
mending them. Does not: computing anything anew, which is the next run's work; the music, which is
not even looked at.

What the stages can compute again from sound files is deleted when it is damaged: it would be of no
use, and disks that damage files are often full. What they cannot, such as when songs were first
seen or where they lie on the map, is given back from ``music.duckdb``, which has a copy of it; a
damaged catalogue or description of a model is kept as ``*.damaged``. The weights of a model are
left alone: another training would give other ones.
"""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.progress import progress
from fastdino.core.storage import drop_copies, exclusive_lock, folders, stamps
from fastdino.core.text import runnable
from fastdino.upkeep.verify.finding import Finding, Mender, noting

__all__ = ["Finding", "Mender", "check", "main"]


def main(home: Home, *, repair: bool) -> int:
    """Check everything and print what is found; returns the exit code.

    That is 3 if anything is wrong; after a repair, if anything is left that neither it nor the
    next run mends.

    Raises:
        UserError: there is nothing to check, or it may not be read or written to.
    """
    start = time.monotonic()
    wrong: Counter[Mender] = Counter()
    for finding in check(home, repair=repair):
        print(runnable(str(finding)), flush=True)
        if finding.is_wrong:
            wrong[finding.mender] += 1
    seconds = f"({time.monotonic() - start:.1f} s)"
    if not wrong:
        print(f"everything in {home.root} is sound {seconds}")
        return 0
    if wrong[Mender.REPAIR] and not repair:
        todo = runnable("`fastdino verify --repair`, then `fastdino run`")
        print(f"{wrong.total()} wrong {seconds}: {todo}")
    else:
        counts = {
            "mended": wrong[Mender.REPAIR],
            "left for you": wrong[Mender.PERSON],
            "for the next run": wrong[Mender.RUN],
        }
        told = ", ".join(f"{n} {what}" for what, n in counts.items() if n)
        print(f"{told} {seconds}: {runnable('`fastdino run` does the rest')}")
    return 3 if wrong[Mender.PERSON] or not repair else 0


def check(home: Home, *, repair: bool = False) -> Iterator[Finding]:
    """Look at everything in the order in which the stages make it.

    Args:
        home: what to look at; other runs are waited for, and kept out until all findings are taken.
        repair: mend each finding before it is told, so that the next run of the stages computes
            what is missing then and nothing else.

    Raises:
        UserError: there is nothing to check, or it may not be read or written to.
    """
    from fastdino.upkeep.verify import (
        catalogue,
        maps,
        models,
        published,
        servers,
        spectrograms,
        vectors,
    )

    made = [*folders(home.root / "shards"), *folders(home.root / "vectors")]
    if home.models.is_dir() or folders(home.models):
        made = [home.models, *made]
    if not made and not home.catalog.exists():
        raise UserError(f"there is nothing in {home.root} to verify: run `fastdino run` first")
    with contextlib.ExitStack() as held:
        _may_be_read(home)
        held.enter_context(exclusive_lock(home.root, with_all_below=False))
        for folder in (home.catalog.parent, *made, home.root / "maps"):
            held.enter_context(exclusive_lock(folder))
            # What is to be known is whether the store's are sound.
            drop_copies(folder)
        megabytes = _megabytes(home)
        with progress("Checking", megabytes, "MB") as shown:
            told: list[Finding] = []
            known = yield from noting(told, catalogue.check(home, repair=repair))
            shards = yield from noting(told, spectrograms.check(home, known, shown, repair=repair))
            working = yield from noting(told, models.check(home, repair=repair))
            have = yield from noting(
                told, vectors.check(home, known, shards, working, shown, repair=repair)
            )
            # What only follows from the above, and goes with it, is not told as well.
            expected = None if known is None or told else known & have
            yield from noting(told, maps.check(home, expected, repair=repair))
            yield from published.check(home, None if told else expected, repair=repair)
            yield from servers.check(home, repair=repair)


def _megabytes(home: Home) -> float:
    large = [stamps(home.root / kind, "*/*.parquet") for kind in ("shards", "vectors")]
    return sum(stamp.size for files in large for stamp in files.values()) / 1e6


def _may_be_read(home: Home) -> None:
    """What may not be read says nothing about itself, and must not be taken for damaged."""
    for kind in ("catalog", "shards", "models", "vectors", "maps", home.database.name):
        for path in (home.root / kind, *(home.root / kind).rglob("*")):
            if path.exists() and not os.access(path, os.R_OK):
                raise UserError(f"{path} may not be read: change who may, and verify again")
            # Without a repair too: the locks are files.
            if path.is_dir() and not os.access(path, os.W_OK):
                raise UserError(f"{path} may not be written to: change who may, and verify again")
