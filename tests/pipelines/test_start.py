"""Dagster is started once over one history, and what died with it the last time is ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets.at_work import FOLDER, is_at_work
from assets.stage import COLLECTION_POOL, HomeFolder
from fastdino.core.home import Home
from pipelines.start import DIED, end_dead_runs

ROOT = Path(__file__).parents[2]


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster.yaml").touch()
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        instance.event_log_storage.set_concurrency_slots(COLLECTION_POOL, 1)
        yield instance


def run_at_work(instance: dg.DagsterInstance) -> str:
    """A run in the middle of a step, as its process had left it when it was killed."""
    run = instance.add_run(dg.DagsterRun("train", status=dg.DagsterRunStatus.STARTED))
    assert claims(instance, run.run_id)
    return run.run_id


def claims(instance: dg.DagsterInstance, run_id: str) -> bool:
    storage = instance.event_log_storage
    return storage.claim_concurrency_slot(COLLECTION_POOL, run_id, "catalog").is_claimed


def status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run
    return run.status


def test_a_run_that_died_with_dagster_is_failed_says_why_and_gives_its_place_back(
    instance: dg.DagsterInstance,
) -> None:
    dead = run_at_work(instance)
    assert not claims(instance, "another")
    assert end_dead_runs(instance) == 1
    assert status(instance, dead) is dg.DagsterRunStatus.FAILURE
    assert DIED in instance.all_logs(dead)[-1].message
    assert claims(instance, "another")
    assert end_dead_runs(instance) == 0


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.FAILURE),
        (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED),
        (dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.NOT_STARTED),
        (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.SUCCESS),
    ],
)
def test_what_was_to_be_cancelled_is_and_what_was_not_at_work_stays_as_it_is(
    before: dg.DagsterRunStatus, after: dg.DagsterRunStatus, instance: dg.DagsterInstance
) -> None:
    run = instance.add_run(dg.DagsterRun("train", status=before))
    end_dead_runs(instance)
    assert status(instance, run.run_id) is after


def test_a_run_that_dagster_has_left_at_work_goes_on(
    instance: dg.DagsterInstance, home: Home
) -> None:
    @dg.asset
    def slow(context: dg.AssetExecutionContext, home: HomeFolder) -> None:
        assert end_dead_runs(context.instance) == 0
        assert status(context.instance, context.run.run_id) is dg.DagsterRunStatus.STARTED

    resources = {"home": HomeFolder(path=str(home.root))}
    made = dg.materialize([slow], instance=instance, resources=resources)
    assert made.success
    assert not is_at_work(instance, made.run_id)
    assert not list((Path(instance.root_directory) / FOLDER).iterdir())


def test_a_second_one_is_refused_in_one_line_and_after_a_kill_the_next_ends_what_died(
    instance: dg.DagsterInstance, home: Home, tmp_path: Path
) -> None:
    known = {"PYTHONPATH": str(ROOT), "DAGSTER_HOME": str(tmp_path)}
    known["FASTDINO_HOME"] = str(home.root)

    def start(*command: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.start", *command],
            cwd=tmp_path,
            env={**os.environ, **known},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    first = start("sh", "-c", "echo at work; exec sleep 600")
    try:
        assert first.stdout
        assert first.stdout.readline() == "at work\n"
        run_id = run_at_work(instance)
        second = start("echo", "two")
        assert second.communicate(timeout=120) == (
            "",
            "fastdino: Dagster is running here already (sh -c 'echo at work; exec sleep 600'): "
            "use that one, or end it first\n",
        )
        assert second.returncode == 2
        assert status(instance, run_id) is dg.DagsterRunStatus.STARTED
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    third = start("echo", "three")
    assert third.communicate(timeout=120) == (
        "1 run had not ended when Dagster last did: shown as failed, and can be started again\n"
        "three\n",
        "",
    )
    assert third.returncode == 0
    assert status(instance, run_id) is dg.DagsterRunStatus.FAILURE
