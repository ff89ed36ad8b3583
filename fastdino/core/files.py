"""One file on this computer's disk: being written beside its place, and told from what it was.

Belongs here: what storage and a store's copies are both made of. Does not: putting a file in its
place, and locks, which are another thing where a store is mounted (``fastdino.core.storage``).
"""

import contextlib
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fastdino.core.errors import disk_trouble

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
