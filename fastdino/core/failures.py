"""What is to blame for a failure of one file, and when it is worth trying again.

Belongs here: telling the file's own damage from what this computer did not manage. Does not: where
failures are kept, which is the stages' (the catalogue, ``failures.parquet``).
"""

from datetime import datetime, timedelta

# The file is: damaged, silent, too short. It is tried again when it changes.
FILE = "file"
# Nothing here can decode it. It is tried again when it changes, or when someone asks for it.
FORMAT = "format"
# The computer is: it killed the worker, ran out of memory or time, or its disk failed. It is tried
# again by itself.
MACHINE = "machine"
# No one is: the file is another one than the catalogue knows, which the next run will have read.
CHANGED = "changed"
# No one is: the file is not there, as on a disk that was unplugged.
MISSING = "missing"
# What says nothing about a song: every run tries it, and no try of these counts as one.
PASSING = (CHANGED, MISSING)

# After the first try, the second and so on; from then on always after so long as the last.
WAITS = (timedelta(hours=1), timedelta(days=1), timedelta(weeks=1), timedelta(weeks=4))


def next_try(kind: str, attempts: int, now: datetime) -> datetime | None:
    """When to try again after so many attempts; None if only a change of the file can help."""
    if kind in PASSING:
        return now
    return now + WAITS[min(attempts, len(WAITS)) - 1] if kind == MACHINE else None
