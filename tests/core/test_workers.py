"""Whatever a task does to its process, the other tasks get done."""

import contextlib
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any

import pytest

from fastdino.core import workers
from fastdino.core.errors import UserError
from fastdino.core.failures import MACHINE
from fastdino.core.workers import MEMORY_BYTES, WorkerFailure, WorkerPool


@pytest.fixture(autouse=True)
def _spawned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Started as they are for people."""
    monkeypatch.setattr(workers, "CONTEXT", multiprocessing.get_context("spawn"))


def misbehave(task: str) -> int:
    match task:
        case "hang":
            time.sleep(1000)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "leave":
            os._exit(0)
        case "raise":
            raise ValueError("no good")
        case "talk":
            os.write(2, b"\n[lib.c:42] error: bare\x1b[2J\n")
            logging.getLogger("worker").warning("logged")
            print("printed", file=sys.stderr)
        case "babble":
            for _ in range(100):
                with contextlib.suppress(BlockingIOError):
                    os.write(2, b"x" * 9_999)
        case "eat":
            return len(bytearray(2 * MEMORY_BYTES))
        case "disk full":
            raise UserError("no space left")
    return os.getpid()


def outcomes(
    tasks: Iterable[str], limit_s: float = 60, workers: int | None = None
) -> Generator[tuple[str, int | WorkerFailure], None, None]:
    with WorkerPool(misbehave, timeout_s=lambda _: limit_s, workers=workers) as pool:
        yield from pool.map(tasks)


def test_bad_tasks_fail_with_a_reason_and_the_rest_are_done() -> None:
    tasks = ["fine", "hang", "segfault", "killed", "leave", "raise", "eat"]
    tasks += ["fine"] * 20
    found = list(outcomes(tasks, limit_s=1, workers=2))
    failures = {task: result for task, result in found if isinstance(result, WorkerFailure)}
    machine_s = {task for task, failure in failures.items() if failure.kind == MACHINE}
    assert machine_s == {"hang", "killed", "eat"}
    assert {task: failure.reason for task, failure in failures.items()} == {
        "hang": "stopped after its 1 s were up",
        "segfault": "crashed its process (SIGSEGV)",
        "killed": "crashed its process (SIGKILL)",
        "leave": "crashed its process (exit code 0)",
        "raise": "ValueError: no good",
        "eat": "takes more memory than any sound file should",
    }
    fine = [result for task, result in found if task == "fine"]
    assert len(fine) == 21
    # Two to begin with and one for each that was lost: the others are kept.
    assert len(set(fine)) <= 6


def test_tasks_are_taken_as_they_are_needed() -> None:
    taken = 0

    def tasks() -> Iterator[str]:
        nonlocal taken
        for _ in range(1000):
            taken += 1
            yield "fine"

    results = outcomes(tasks(), workers=1)
    for _ in range(3):
        next(results)
    results.close()
    assert taken <= 5


def test_what_hinders_every_task_is_raised() -> None:
    with pytest.raises(UserError, match="no space left"):
        list(outcomes(["disk full"], workers=1))


def test_no_process_is_started_for_nothing() -> None:
    assert list(outcomes([])) == []


def test_workers_that_cannot_start_are_an_error_not_a_failure_of_every_task(
    tmp_path: Path,
) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import math\n"
        "from fastdino.core.workers import WorkerPool\n"
        "with WorkerPool(math.sqrt, timeout_s=lambda _: 9, workers=1) as pool:\n"
        "    print(list(pool.map([4.0])))\n"
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert run.returncode != 0
    assert "worker processes do not start" in run.stderr


class Killed(SpawnProcess):
    def start(self) -> None:
        super().start()
        self.kill()


class KillsWhatStarts(SpawnContext):
    """Makes processes of which the first are killed before they are up."""

    def __init__(self, first: int) -> None:
        self.first = first

    def Process(self, **what: Any) -> SpawnProcess:  # type: ignore[override]
        self.first -= 1
        return (Killed if self.first >= 0 else SpawnProcess)(**what)


@pytest.mark.parametrize("cores", [1, 3])
def test_a_worker_that_is_killed_as_it_starts_costs_no_task(
    cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "CONTEXT", KillsWhatStarts(workers.MOST_FAILED_STARTS - 1))
    tasks = ["fine"] * 5 + ["raise"]
    found = list(outcomes(tasks, workers=cores))
    failures = [result for _, result in found if isinstance(result, WorkerFailure)]
    assert sorted(task for task, _ in found) == tasks
    assert failures == [WorkerFailure("ValueError: no good")]


def test_where_every_worker_is_killed_as_it_starts_a_person_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "CONTEXT", KillsWhatStarts(1000))
    with pytest.raises(UserError, match=r"do not start \(SIGKILL, 5 times in a row\): memory is"):
        list(outcomes(["fine"] * 9, workers=2))


def test_a_worker_that_is_killed_between_two_tasks_costs_no_more_than_the_next() -> None:
    with WorkerPool(misbehave, timeout_s=lambda _: 60, workers=1) as pool:
        ((_, first),) = pool.map(["fine"])
        assert isinstance(first, int)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: not is_running(first))
        (_, second), (_, third) = pool.map(["fine", "fine"])
    assert second == WorkerFailure("crashed its process (SIGKILL)", MACHINE)
    assert isinstance(third, int)


def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, time\n"
        "from fastdino.core.workers import WorkerPool\n"
        "def tell(task):\n"
        "    open(task, 'w').write(str(os.getpid()))\n"
        "    os.rename(task, task + '.pid')\n"
        "    time.sleep(1000)\n"
        "if __name__ == '__main__':\n"
        "    with WorkerPool(tell, timeout_s=lambda _: 999) as pool:\n"
        f"        list(pool.map([{str(tmp_path / 'w')!r}]))\n"
    )
    parent = subprocess.Popen([sys.executable, script])
    told = tmp_path / "w.pid"
    wait_until(told.exists)
    parent.kill()
    parent.wait()
    worker = int(told.read_text())
    wait_until(lambda: not is_running(worker))


def is_running(pid: int) -> bool:
    try:
        # A zombie that no one has collected yet does not run.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_what_libraries_say_is_told_with_the_task_and_never_bare(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "fastdino.core.workers")
    tasks = ["talk", "fine", "babble", "fine", "talk"]
    found = list(outcomes(tasks, workers=1))
    assert not [result for _, result in found if isinstance(result, WorkerFailure)]
    assert capfd.readouterr().err.splitlines() == ["logged", "printed"] * 2
    talk, babble, again = (record.getMessage() for record in caplog.records)
    assert talk == again == "talk: [lib.c:42] error: bare [2J"
    assert babble.startswith("babble: xxx")
    assert len(babble) < 3_000
