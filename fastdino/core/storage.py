"""Writing files so that a reader sees the old one or the new one, never half of one.

Belongs here: atomic replacement, locks, and the plain formats (JSON) that need nothing more.
Does not: Parquet schemas, which live with the stage that owns the file.
"""

import contextlib
import fcntl
import json
import logging
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastdino.core.errors import disk_trouble

log = logging.getLogger(__name__)

LOCK = ".lock"
# A file that ``atomic_replace`` had begun, or what a library put beside it, such as a database's
# log.
PART = re.compile(r"\..+\.[0-9a-f]{8}\.part(\..+)?", re.DOTALL)


@contextlib.contextmanager
def atomic_replace(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; on success it is flushed and renamed over it.

    On an exception the temporary file is removed and ``target`` stays as it was. Left-overs of a
    killed process are named ``.<name>.<random>.part`` and are never read.

    Raises:
        OSError: the disk refuses it; names ``target`` whatever the library that wrote raised.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.parent / f".{target.name}.{uuid.uuid4().hex[:8]}.part"
    try:
        yield part
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        os.replace(part, target)
    except Exception as error:
        trouble = disk_trouble(error, target)
        if trouble is None:
            raise
        if trouble.filename == str(part):
            trouble.filename = str(target)
        raise trouble from error
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def exclusive_lock(folder: Path, *, with_all_below: bool = True) -> Iterator[None]:
    """Hold a folder's lock, waiting while another process holds it.

    ``with_all_below`` says that folders inside it are its own too, down to where there is another
    lock. Those of a home are not: people have put it where other files of theirs are.

    Two runs writing to it at once would lose each other's work. The lock goes with the process,
    however it ends; what a killed one had begun in the folder is deleted. So whoever holds it must
    look at what is there now, and not go by what was there before. Who needs several takes them in
    one order, lest two wait for each other: models, shards, vectors, each by name, maps.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("another run is writing to %s: waiting until it ends", folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left_over in _left_over(folder, with_all_below):
            left_over.unlink(missing_ok=True)
        yield


def _left_over(folder: Path, with_all_below: bool) -> Iterator[Path]:
    """What was being written there."""
    for here, inner, names in os.walk(folder):
        if not with_all_below:
            inner.clear()
        if here != str(folder) and LOCK in names:
            inner.clear()
        else:
            yield from (Path(here, name) for name in names if PART.fullmatch(name))


def write_json(target: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic_replace(target) as part:
        part.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_json(source: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON.
    """
    return json.loads(source.read_text(encoding="utf-8"))
