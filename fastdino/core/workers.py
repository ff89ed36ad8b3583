"""Running a function over many tasks in processes that can be killed.

Belongs here: worker processes with a time limit per task and a limit of memory, for code that reads
untrusted files and may hang, crash, eat memory or talk on the terminal. Does not: what the tasks
do.

Every worker has a pipe of its own, so that one killed in the middle of anything harms no other.
"""

import contextlib
import logging
import multiprocessing
import os
import re
import resource
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from fastdino.core.errors import UserError
from fastdino.core.failures import FILE, MACHINE
from fastdino.core.machine import available_cores
from fastdino.core.text import one_line

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

# What a process may take beside what it has when it starts. Opening and decoding a sound song takes
# a tenth of it, of any length, and PyTorch a quarter; a small file can make others of any size.
MEMORY_BYTES = 3 << 30
# Of what libraries say of a task; what is more than a pipe holds is not even kept.
HEARD_BYTES = 2000
# One may be killed as it starts, when memory is short; so many in a row are not by chance.
MOST_FAILED_STARTS = 5
# How they are started: anew, whatever threads and locks this process has.
CONTEXT = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class WorkerFailure:
    """Why a task has no result: it raised, ran out of time, or took its process down.

    Attributes:
        reason: for people.
        kind: what is to blame, see ``fastdino.core.failures``.
    """

    reason: str
    kind: str = FILE


class WorkerPool(Generic[T, R]):
    """Processes that each do one task at a time, kept from one ``map`` to the next.

    Whatever happens to one task is that task's ``WorkerFailure``; the others go on, in a new
    process where the old one was lost. The end of the ``with`` block kills the workers.
    """

    def __init__(
        self,
        function: Callable[[T], R],
        *,
        timeout_s: Callable[[T], float],
        workers: int | None = None,
    ) -> None:
        """Set up a pool; no process is started before there is a task for it.

        Args:
            function: importable at module level; runs in a spawned process, which may take
                ``MEMORY_BYTES`` (on Linux).
            timeout_s: seconds a task may take before its process is killed.
            workers: processes at most; all available cores by default.
        """
        self._function, self._timeout_s = function, timeout_s
        self._most = workers or available_cores()
        self._workers: list[_Worker[T, R]] = []
        self._failed_starts = 0  # in a row

    def map(
        self,
        tasks: Iterable[T | None],
        instead: Callable[[T, WorkerFailure], T | None] = lambda task, failure: None,
    ) -> Generator[tuple[T, R | WorkerFailure], None, None]:
        """Yield ``(task, result)`` as tasks finish, in no particular order.

        Closing the iterator kills the workers that are at a task.

        Args:
            tasks: taken lazily, one for each worker that is free, so a long list costs no memory.
                None says that there is nothing to do before another task is finished.
            instead: what is to be done next where a task failed, if anything.

        Raises:
            UserError: ``function`` raised it, as what hinders every task alike, such as a full
                disk; or worker processes do not start.
        """
        waiting, next_ones = iter(tasks), deque[T]()
        more = True
        try:
            more = self._fill(next_ones, waiting)
            while busy := [worker for worker in self._workers if not worker.idle]:
                finished = self._finished(busy, next_ones)
                self._workers = [worker for worker in self._workers if worker.alive]
                for task, result in finished:
                    if isinstance(result, WorkerFailure):
                        other = instead(task, result)
                        if other is not None:
                            next_ones.append(other)
                # Before the caller gets to see what is finished: its time is the workers' time too.
                if more or next_ones:
                    more = self._fill(next_ones, waiting)
                yield from finished
                if finished:
                    # The caller may have made room for tasks that had to wait.
                    more = more and self._fill(next_ones, waiting)
                elif all(worker.alive for worker in busy):
                    soonest = min(worker.deadline for worker in busy) - time.monotonic()
                    limit = None if soonest == float("inf") else max(0.0, soonest)
                    connection.wait([worker.pipe for worker in busy], limit)
        finally:
            self._end([worker for worker in self._workers if not worker.idle])

    def _finished(
        self, busy: "list[_Worker[T, R]]", next_ones: deque[T]
    ) -> list[tuple[T, R | WorkerFailure]]:
        """What is finished by now; the tasks of workers that ended as they started are put back."""
        finished = []
        for worker in busy:
            was_up = worker.is_up
            if found := worker.finished():
                finished.append(found)
            if worker.is_up and not was_up:
                self._failed_starts = 0
            elif not (worker.is_up or worker.alive):
                self._failed_starts += 1
                if self._failed_starts == MOST_FAILED_STARTS:
                    raise UserError(_do_not_start(worker.process.exitcode))
                next_ones.append(worker.task)
        return finished

    def _fill(self, next_ones: deque[T], waiting: Iterator[T | None]) -> bool:
        """Give every free worker a task; false if there are no more tasks."""
        while any(worker.idle for worker in self._workers) or len(self._workers) < self._most:
            try:
                task = next_ones.popleft() if next_ones else next(waiting)
            except StopIteration:
                return False
            if task is None:
                return True
            worker = next((worker for worker in self._workers if worker.idle), None)
            if worker is None:
                worker = _Worker(self._function)
                self._workers.append(worker)
            worker.give(task, self._timeout_s(task))
        return True

    def _end(self, workers: "list[_Worker[T, R]]") -> None:
        for worker in workers:
            worker.end()
        self._workers = [worker for worker in self._workers if worker.alive]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._end(self._workers)


class _Worker(Generic[T, R]):
    """A process, the pipe to it and the one task that it may be at."""

    def __init__(self, function: Callable[[T], R]) -> None:
        self.pipe, theirs = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_serve, args=(theirs, function), daemon=True)
        self.process.start()
        theirs.close()
        self.deadline = float("inf")
        self.alive, self.idle, self.is_up = True, True, False

    def give(self, task: T, limit_s: float) -> None:
        """Hand over a task. Its time runs from when the process is up."""
        self.task, self._limit_s, self.idle = task, limit_s, False
        if self.is_up:
            self._hand_over()

    def finished(self) -> tuple[T, R | WorkerFailure] | None:
        """The task and its result if there is one by now, or why there will be none.

        Of a process that ended before it was up, and so never saw its task, none.
        """
        try:
            while self.pipe.poll():
                answer = self.pipe.recv()
                if not self.is_up:
                    self.is_up = True
                    self._hand_over()
                    continue
                answer, heard = answer
                if heard:
                    log.debug("%s: %s", self.task, one_line(heard))
                if isinstance(answer, UserError):
                    raise answer
                self.idle, self.deadline = True, float("inf")
                return self.task, answer
        except (EOFError, ConnectionError):
            self.end()
            if not self.is_up:
                return None
            how = _how_it_ended(self.process.exitcode)
            # What kills from outside is most often the system, when memory runs out.
            kind = MACHINE if self.process.exitcode == -signal.SIGKILL else FILE
            return self.task, WorkerFailure(f"crashed its process ({how})", kind)
        if time.monotonic() >= self.deadline:
            self.end()
            told = f"stopped after its {self._limit_s:.0f} s were up"
            return self.task, WorkerFailure(told, MACHINE)
        return None

    def end(self) -> None:
        """End the process at once, whatever it does."""
        self.alive = False
        self.pipe.close()
        self.process.kill()
        self.process.join()

    def _hand_over(self) -> None:
        self.deadline = time.monotonic() + self._limit_s
        # Of one that was killed meanwhile ``finished`` tells.
        with contextlib.suppress(ConnectionError):
            self.pipe.send(self.task)


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"


def _do_not_start(code: int | None) -> str:
    then = "look at what they have printed"
    if code == -signal.SIGKILL:
        then = "memory is short, it seems: end other programs, or let this one have more"
    return (
        f"worker processes do not start ({_how_it_ended(code)}, {MOST_FAILED_STARTS} times in a "
        f"row): {then}. What was done before is kept, and the next run goes on from there"
    )


def _serve(pipe: "connection.Connection[Any, Any]", function: Callable[[T], R]) -> None:
    """What a worker process does until there is nothing more to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _limit_memory()
    heard = _hear_libraries()
    pipe.send("ready")
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        answer: R | WorkerFailure | UserError
        try:
            answer = function(task)
        except UserError as error:
            answer = error
        except MemoryError:
            answer = WorkerFailure("takes more memory than any sound file should", MACHINE)
        except Exception as error:
            answer = WorkerFailure(f"{type(error).__name__}: {error}".removesuffix(": "))
        pipe.send((answer, _heard(heard)))


def _hear_libraries() -> int:
    """Take what libraries in C say on standard error; returns where it is to be read.

    They name no file, and would say it amid all else on the terminal. What Python says, such as a
    log, goes where it went before.
    """
    try:
        before = os.dup(2)
    except OSError:  # it was closed
        before = os.open(os.devnull, os.O_WRONLY)
    sys.stderr = os.fdopen(before, "w", buffering=1, errors="backslashreplace")
    reading, writing = os.pipe()
    # Whoever says more than the pipe holds is to lose it, and not to wait.
    for end in (reading, writing):
        os.set_blocking(end, False)
    os.dup2(writing, 2)
    os.close(writing)
    return reading


def _heard(reading: int) -> str:
    said = bytearray()
    with contextlib.suppress(BlockingIOError):
        while True:
            said += os.read(reading, 1 << 16)
    return said[:HEARD_BYTES].decode(errors="replace").strip()


def _limit_memory() -> None:
    # Not of addresses, of which libraries for GPUs reserve many gigabytes that they never touch.
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:  # not Linux
        return
    held = re.search(r"^VmData:\s+(\d+) kB", status, re.MULTILINE)
    assert held
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    limit = int(held[1]) * 1024 + MEMORY_BYTES
    if most == resource.RLIM_INFINITY or limit < most:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def _end_with_parent() -> None:
    """A worker whose parent was killed must not go on, let alone hang on, for no one."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
