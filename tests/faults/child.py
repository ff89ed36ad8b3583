"""A command in a process of its own, killed at a chosen moment.

Belongs here: the process and the moment. Does not: what has to hold afterwards.

The process is forked from one that has loaded the heavy packages already, which saves seconds a
run; from there on it is ``python -m fastdino`` with worker processes of its own. SIGKILL ends
all of them together, as a power cut would.
"""

import json
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from fastdino.core.home import Home
from fastdino.core.workers import WorkerFailure, WorkerPool
from tests.preloaded import context

TOUCHING = {"open", "os.link", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}
LIMIT_S = 300.0

Touched = dict[str, int]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Moment:
    """When to kill.

    Attributes:
        place: what lies at the top of the home, such as "models" or "music.duckdb".
        nth: just before something there is opened, renamed, made or removed for the nth time;
            most of what is touched is written, and what was written before is not flushed yet.
        delay_s: or so long after that.
    """

    place: str
    nth: int
    delay_s: float = 0.0

    @classmethod
    def drawn(cls, rng: random.Random, touched: Touched) -> "Moment":
        """One of those that an undisturbed run has, all places alike; every third is delayed.

        Half of them are where a stage ends: there it puts in place what it has made.
        """
        place = rng.choice(sorted(touched))
        last = touched[place]
        first = rng.choice((1, max(1, last - 30)))
        return cls(place, rng.randint(first, last), rng.choice((0.0, 0.0, rng.uniform(0.0, 1.0))))


def run(
    home: Home, command: list[str], log: Path, moment: Moment | None = None, *, workers: bool = True
) -> Touched | None:
    """Run a command such as ``["run", "/music"]``.

    Args:
        home: where results lie.
        command: what stands after ``fastdino``.
        log: file for what is printed.
        moment: when to kill, if at all.
        workers: whether songs are opened and decoded by worker processes; they take seconds to
            start.

    Returns:
        How often each place was touched, or None if the run was killed.
    """
    process = context().Process(target=_run, args=(home.root, command, log, moment, workers))
    process.start()
    process.join(LIMIT_S)
    if process.exitcode is None:
        os.killpg(process.pid or 0, signal.SIGKILL)
        raise AssertionError(f"{moment}: hangs\n{log.read_text()}")
    if process.exitcode == -signal.SIGKILL:
        return None
    assert process.exitcode == 0, f"{moment}: exit code {process.exitcode}\n{log.read_text()}"
    return dict(json.loads(log.read_text().splitlines()[-1]))


class InThisProcess(WorkerPool[T, R]):
    """What a ``WorkerPool`` does, without the workers."""

    def map(
        self,
        tasks: Iterable[T | None],
        instead: Callable[[T, WorkerFailure], T | None] = lambda task, failure: None,
    ) -> Generator[tuple[T, R | WorkerFailure], None, None]:
        """Yield each task with its result, in order."""
        for first in tasks:
            task = first
            while task is not None:
                result = self._function(task)
                failed = isinstance(result, WorkerFailure)
                other = instead(task, result) if failed else None
                yield task, result
                task = other


def _run(root: Path, command: list[str], log: Path, moment: Moment | None, workers: bool) -> None:
    os.setsid()
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)

    from fastdino.__main__ import main
    from fastdino.embeddings import encode
    from fastdino.ingestion import identify, so_far
    from fastdino.spectrograms import filling
    from fastdino.training import loop

    # After every file, song and step, not every minute: a small library has those moments too.
    encode.FLUSH_EVERY_S = filling.FLUSH_EVERY_S = so_far.FLUSH_EVERY_S = 0.0
    loop.CHECKPOINT_EVERY_S = loop.LOG_EVERY_S = 0.0
    if not workers:
        identify.WorkerPool = filling.WorkerPool = InThisProcess  # type: ignore[misc]
    touched: Touched = {}

    def notice(event: str, details: tuple[object, ...]) -> None:
        if event not in TOUCHING or not isinstance(details[0], str | bytes | Path):
            return
        path = Path(os.fsdecode(details[0]))
        if not path.is_relative_to(root) or path == root or path.name == ".lock":
            return
        place = path.relative_to(root).parts[0]
        place = "music.duckdb" if "music.duckdb" in place else place
        touched[place] = touched.get(place, 0) + 1
        if moment and (place, touched[place]) == (moment.place, moment.nth):
            kill = threading.Timer(moment.delay_s, os.killpg, (os.getpgrp(), signal.SIGKILL))
            kill.daemon = True
            kill.run() if not moment.delay_s else kill.start()

    sys.addaudithook(notice)
    code = main([*command, "--home", str(root)])
    print(json.dumps(touched), flush=True)
    sys.exit(code)
