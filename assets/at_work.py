"""Whether a run of Dagster's has a living process.

Belongs here: the file that a run's process holds locked. Does not: what becomes of runs that have
none (``pipelines.start``).
"""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

FOLDER = "at_work"


@contextlib.contextmanager
def at_work(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Let it be known that this process is at work on a run; however it ends, that ends with it."""
    file = _file(instance, run_id)
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def is_at_work(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a process is at work on a run, also one that Dagster has left behind at its end."""
    file = _file(instance, run_id)
    try:
        with open(file) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.unlink()
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _file(instance: dg.DagsterInstance, run_id: str) -> Path:
    return Path(instance.root_directory) / FOLDER / run_id
