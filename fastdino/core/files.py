"""One file on this computer's disk: being written beside its place, told from what it was, locked.

Belongs here: what storage and a store's copies are both made of. Does not: putting a file in its
place, and locks of folders, which are another thing where a store is mounted
(``fastdino.core.storage``).
"""

import contextlib
import fcntl
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from fastdino.core.errors import disk_trouble

LOOK_EVERY_S = 0.05
# A file that ``part_of`` had begun, or what a library put beside it, such as a database's log.
PART = re.compile(r"\..+\.[0-9a-f]{8}\.part(\..+)?", re.DOTALL)


class Stamp(NamedTuple):
    """What tells a file from what it was before: bytes, and when it was written or its version."""

    size: int
    version: str


@contextlib.contextmanager
def part_of(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target``, which is for the caller to put in its place.

    Raises:
        OSError: see ``atomic_replace``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.part"
    try:
        yield part
    except Exception as error:
        trouble = disk_trouble(error, target)
        if trouble is None:
            raise
        if trouble.filename == str(part):
            trouble.filename = str(target)
        raise trouble from error
    finally:
        part.unlink(missing_ok=True)


def try_lock(file: IO[str] | int) -> bool:
    """Lock an open file, or that of a number, unless another process has: then it is false."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_lock(file: IO[str]) -> None:
    """Lock an open file as soon as no other process does.

    It is asked again and again: the system's own waiting goes on after an interrupt, where polars
    is loaded.
    """
    while not try_lock(file):
        time.sleep(LOOK_EVERY_S)
