"""Start Dagster: ``python -m pipelines.start dagster dev ...``.

Belongs here: what has to be done before Dagster runs, by whoever is going to run its steps. Over
one history that is one alone, for two daemons would get in each other's way. Does not: what Dagster
is told of what was made without it (``pipelines.catch_up``).
"""

import logging
import os
import shlex
import signal
import sys
from pathlib import Path

import dagster as dg

from assets.at_work import is_at_work
from assets.stage import HomeFolder
from fastdino.core.errors import UserError, readable_errors
from fastdino.core.files import try_lock
from fastdino.core.text import counted, one_line, runnable
from pipelines.catch_up import catch_up

# Beside Dagster's history: locked by the one that runs, and what that is.
RUNNING = ".running"
AT_WORK = [
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
DIED = (
    "Dagster ended before this run did: the power went, or it was killed. What was made is kept; "
    "started again, it goes on from there."
)


def hold(folder: Path, command: list[str]) -> None:
    """Lock Dagster's history in ``folder`` for as long as this process and what it becomes lives.

    Raises:
        UserError: another one holds it.
    """
    lock = os.open(folder / RUNNING, os.O_RDWR | os.O_CREAT, 0o666)
    if not try_lock(lock):
        running = (folder / RUNNING).read_text()
        raise UserError(
            f"Dagster is running here already ({running}): use that one, or end it first"
        )
    os.ftruncate(lock, 0)
    os.write(lock, shlex.join(command).encode())
    os.set_inheritable(lock, True)


def end_dead_runs(instance: dg.DagsterInstance) -> int:
    """End the runs that a Dagster which is no more had at work; returns how many.

    Dagster itself does not look whether the process of a run still lives: the run would keep its
    place in a pool, and the sensor wait for it, for ever. Told to end, it leaves a run that is at
    work to its own end; such a one goes on. Only for who holds the history's lock.
    """
    begun = instance.get_runs(dg.RunsFilter(statuses=AT_WORK))
    dead = [run for run in begun if not is_at_work(instance, run.run_id)]
    for run in dead:
        if run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, DIED)
        else:
            instance.report_run_failed(run, DIED)
        instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return len(dead)


def main() -> int:
    """Become the command in the arguments, once the instance under ``DAGSTER_HOME`` is ready."""
    logging.basicConfig(level=logging.WARNING)
    command = sys.argv[1:]
    try:
        home = HomeFolder().open()
        with readable_errors(home.root), dg.DagsterInstance.get() as instance:
            hold(Path(instance.root_directory), command)
            dead = end_dead_runs(instance)
            told = catch_up(home, instance)
    except UserError as error:
        print(f"fastdino: {one_line(runnable(str(error)))}", file=sys.stderr)
        return 2
    if dead:
        print(
            f"{counted(dead, 'run')} had not ended when Dagster last did: shown as failed, and can "
            "be started again"
        )
    if told:
        print(f"Dagster is told what was made without it: {', '.join(told)}")
    sys.stdout.flush()
    # What a script starts with & ignores Ctrl-C, and Dagster would then ignore being told to end.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(main())
