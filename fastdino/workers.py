"""Running a function over many tasks in processes that can be killed.

Belongs here: one process pool with a time limit per task, for code that reads untrusted files
and may hang, crash or eat memory. Does not: what the tasks do.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class WorkerFailure:
    """Why a task has no result: it raised, ran out of time, or took its process down."""

    reason: str


def available_cores() -> int:
    """Cores that this process may use (an affinity mask or a container may allow fewer)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_workers(
    function: Callable[[T], R],
    tasks: Iterable[T],
    *,
    timeout_s: Callable[[T], float],
    workers: int | None = None,
) -> Iterator[tuple[T, R | WorkerFailure]]:
    """Yield ``(task, result)`` as tasks finish, in no particular order.

    Args:
        function: importable at module level; runs in a spawned process.
        tasks: taken lazily, a few ahead of the workers, so a long list costs no memory.
        timeout_s: seconds a task may take before its process is killed.
        workers: processes; all available cores by default.
    """
    from pebble import ProcessPool

    workers = workers or available_cores()
    waiting: dict[Future[R], T] = {}
    pool = ProcessPool(max_workers=workers, context=multiprocessing.get_context("spawn"))
    try:
        for task in tasks:
            waiting[pool.schedule(function, args=(task,), timeout=timeout_s(task))] = task
            if len(waiting) >= 2 * workers:
                yield from _finished(waiting)
        while waiting:
            yield from _finished(waiting)
        pool.close()
        pool.join()
    finally:
        pool.stop()
        pool.join()


def _finished(waiting: "dict[Future[R], T]") -> Iterator[tuple[T, R | WorkerFailure]]:
    from pebble import ProcessExpired

    done, _ = wait(waiting, return_when=FIRST_COMPLETED)
    for future in done:
        task = waiting.pop(future)
        try:
            yield task, future.result()
        except TimeoutError as error:
            yield task, WorkerFailure(f"took longer than {error.args[1]:.0f} s and was stopped")
        except ProcessExpired as error:
            yield task, WorkerFailure(f"crashed the decoder (exit code {error.exitcode})")
        except Exception as error:
            yield task, WorkerFailure(str(error) or type(error).__name__)
