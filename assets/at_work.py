"""Whether a run of Dagster's has a living process.

Belongs here: the file that a run's process holds locked. Does not: what becomes of runs that have
none (``pipelines.start``).
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import dagster as dg

from fastdino.core.files import try_lock, wait_for_lock

FOLDER = "at_work"


@contextlib.contextmanager
def at_work(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Let it be known that this process is at work on a run; however it ends, that ends with it."""
    file = _file(instance, run_id)
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w") as lock:
        wait_for_lock(lock)
        try:
            yield
        finally:
            file.unlink(missing_ok=True)


def is_at_work(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a process is at work on a run, also one that Dagster has left behind at its end."""
    file = _file(instance, run_id)
    with contextlib.suppress(FileNotFoundError), open(file) as lock:
        if not try_lock(lock):
            return True
        file.unlink()
    return False


def _file(instance: dg.DagsterInstance, run_id: str) -> Path:
    return Path(instance.root_directory) / FOLDER / run_id
