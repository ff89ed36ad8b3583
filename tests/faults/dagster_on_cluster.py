"""Dagster's steps on a Ray cluster of a head and two nodes: run by ``test_dagster_on_cluster`` in a
network of its own, as ``python -m tests.faults.dagster_on_cluster SCENARIO FOLDER``.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from fastdino.core.home import Home
from tests.faults import on_cluster

ROOT = Path(__file__).parents[2]
TOKEN = "0123456789abcdef" * 2
STAGES = ("catalog", "spectrogram_shards", "embedding_vectors")
SPEC = on_cluster.SPEC
SHARD_BYTES = round(1.5 * on_cluster.SECONDS * SPEC.frames_per_s * SPEC.n_mels)
# Put into every process: small shards, much to be told, and a song that its decoder dies of.
EVERYWHERE = f"""
import os, signal
from fastdino.core import progress
from fastdino.spectrograms import extract, shards
progress.LOG_EVERY_S = 0.1
shards.SHARD_BYTES = {SHARD_BYTES}
decode = extract.extract
def hostile(task):
    if "damaged" in task.path.name:
        os.kill(os.getpid(), signal.SIGSEGV)
    return decode(task)
extract.extract = hostile
"""


@dataclass
class Dagster:
    """A Dagster of its own, with the project's settings and definitions, for one home."""

    home: Home
    settings: dict[str, str]
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder = self.home.root.with_name(f"{self.home.root.name}-dagster")
        self.folder.mkdir()
        shutil.copy(ROOT / "dagster.yaml", self.folder)

    def start(self, *assets: str, **settings: str) -> subprocess.Popen[bytes]:
        """Make assets, as a person does it by hand."""
        command = ["-m", "dagster", "asset", "materialize", "-m", "pipelines.definitions"]
        environment = {
            **os.environ, "DAGSTER_HOME": str(self.folder), "FASTDINO_HOME": str(self.home.root),
            **self.settings, **settings,
        }  # fmt: skip
        with (self.folder / "printed").open("ab") as printed:
            return subprocess.Popen(
                [sys.executable, *command, "--select", ",".join(assets)],
                cwd=self.folder, env=environment, stdout=printed, stderr=printed,
            )  # fmt: skip

    def run(self, *assets: str, **settings: str) -> "Run":
        self.start(*assets, **settings).wait()
        return self.last

    def cancel(self, started: subprocess.Popen[bytes]) -> None:
        """End a run as Dagster does when someone asks for it in the UI."""
        with self._instance() as instance:
            instance.report_run_canceling(*instance.get_runs(limit=1))
        started.send_signal(signal.SIGINT)
        started.wait()

    def kill(self, started: subprocess.Popen[bytes]) -> None:
        """Kill a run outright; its place in the pool is given back, as Dagster's daemon does it."""
        started.kill()
        started.wait()
        with self._instance() as instance:
            (run,) = instance.get_runs(limit=1)
            instance.report_run_failed(run)
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)

    @property
    def last(self) -> "Run":
        with self._instance() as instance:
            (run,) = instance.get_runs(limit=1)
            return Run(run.status, instance.all_logs(run.run_id))

    @contextlib.contextmanager
    def _instance(self) -> Iterator[dg.DagsterInstance]:
        with contextlib.chdir(self.folder), dg.DagsterInstance.from_config(".") as instance:
            yield instance


@dataclass
class Run:
    status: dg.DagsterRunStatus
    entries: Any

    @property
    def log(self) -> list[str]:
        return [entry.user_message for entry in self.entries]

    def count(self, kind: str) -> int:
        return sum(
            entry.is_dagster_event and entry.dagster_event.event_type_value == kind
            for entry in self.entries
        )

    def shown(self, asset: str) -> dict[str, Any]:
        """What stands beside an asset that was made."""
        (made,) = (
            entry.dagster_event.step_materialization_data.materialization
            for entry in self.entries
            if entry.is_dagster_event
            and entry.dagster_event.event_type_value == "ASSET_MATERIALIZATION"
            and entry.dagster_event.asset_key == dg.AssetKey(asset)
        )
        return {name: value.value for name, value in made.metadata.items()}

    @property
    def why(self) -> str:
        """Why a step failed, as it is shown."""
        (failed,) = (
            entry.dagster_event.step_failure_data
            for entry in self.entries
            if entry.is_dagster_event and entry.dagster_event.is_step_failure
        )
        return str(failed.user_failure_data.description)


def processes(named: str) -> list[int]:
    """Of this network alone: others' tests may run beside it."""
    found, here = [], os.readlink("/proc/self/ns/net")
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if os.readlink(folder / "ns/net") == here and named in command:
                found.append(int(folder.name))
    return found


@contextlib.contextmanager
def cluster() -> Iterator[Any]:
    """A head without cores, which takes jobs, and two nodes with one each."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": True, "dashboard_host": "127.0.0.1"}
    made = Cluster(head_node_args=head, initialize_head=True)
    for _ in range(2):
        made.add_node(num_cpus=1)
    try:
        yield made
    finally:
        made.shutdown()


def begin(folder: Path) -> tuple[Path, dict[str, bytes], list[tuple[Any, ...]]]:
    """Songs, one of them damaged; and what one computer makes of them, without Dagster."""
    (folder / "everywhere").mkdir()
    (folder / "everywhere" / "sitecustomize.py").write_text(EVERYWHERE)
    os.environ["PYTHONPATH"] = f"{folder / 'everywhere'}:{ROOT}"
    songs = on_cluster.music(folder / "music")
    shutil.move(songs / "07.flac", songs / "07 damaged.flac")
    plain = on_cluster.home(folder / "plain")
    for command in (["ingest", str(songs)], ["spectrograms"], ["embed"]):
        on_cluster.run(plain, *command)
    return songs, on_cluster.results(plain), on_cluster.failures(plain)


def same_and_told(dagster: Dagster, expected: dict[str, bytes], failures: Any) -> Run:
    """Make everything, and look at what came out and at what was said of it."""
    run = dagster.run(*STAGES)
    assert run.status is dg.DagsterRunStatus.SUCCESS, run.log
    assert on_cluster.results(dagster.home) == expected
    assert on_cluster.failures(dagster.home) == failures
    assert any(line.startswith("Decoding: ") and " s left" in line for line in run.log), run.log
    assert any("07 damaged.flac" in line for line in run.log), run.log
    (row,) = run.shown("spectrogram_shards")["failures (table)"].records
    assert "07 damaged.flac" in str(row.data)
    return run


def half_done(dagster: Dagster) -> subprocess.Popen[bytes]:
    """Start decoding, and come back while it goes on."""
    assert dagster.run("catalog").status is dg.DagsterRunStatus.SUCCESS
    started = dagster.start("spectrogram_shards")
    on_cluster.wait_until(lambda: on_cluster.shards_done(dagster.home) >= 2)
    return started


def ended_here(dagster: Dagster, expected: dict[str, bytes]) -> None:
    """Go on where it was stopped; nothing is lost or done twice."""
    assert 2 <= on_cluster.shards_done(dagster.home) < on_cluster.SONGS // 2
    assert dagster.run(*STAGES[1:]).status is dg.DagsterRunStatus.SUCCESS
    assert on_cluster.results(dagster.home) == expected


def driver(folder: Path) -> None:
    """The step's process is the cluster's driver: undisturbed; cancelled; killed outright."""
    songs, *expected = begin(folder)
    with cluster() as ray:
        settings = {"RAY_ADDRESS": ray.address, "FASTDINO_MUSIC": str(songs)}

        same_and_told(Dagster(on_cluster.home(folder / "undisturbed"), settings), *expected)
        print("undisturbed: the same", flush=True)

        dagster = Dagster(on_cluster.home(folder / "cancelled"), settings)
        dagster.cancel(half_done(dagster))
        on_cluster.wait_until(lambda: not on_cluster.decoding(), seconds=10)
        assert dagster.last.status is dg.DagsterRunStatus.CANCELED
        ended_here(dagster, expected[0])
        print("cancelled: the tasks ended; the same", flush=True)

        dagster = Dagster(on_cluster.home(folder / "killed"), settings)
        dagster.kill(half_done(dagster))
        on_cluster.wait_until(lambda: not processes("assets.child"), seconds=30)
        on_cluster.wait_until(lambda: not on_cluster.decoding(), seconds=10)
        ended_here(dagster, expected[0])
        print("killed outright: the tasks ended; the same", flush=True)


def jobs(folder: Path) -> None:
    """Each step is a job: undisturbed; cancelled; killed; wrong; no token; and no one there."""
    songs, *expected = begin(folder)
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    with cluster() as ray:
        address = f"http://{ray.head_node.webui_url}"
        # Not where the jobs go: an address for the command line, which nobody answers.
        settings = {
            "RAY_API_SERVER_ADDRESS": address, "RAY_ADDRESS": "127.0.0.1:1",
            "FASTDINO_MUSIC": str(songs),
        }  # fmt: skip

        dagster = Dagster(on_cluster.home(folder / "undisturbed"), settings)
        same_and_told(dagster, *expected)
        shown = dagster.run("collection_map").shown("collection_map")
        assert shown["map (plot)"].startswith("![map](data:image/png;base64,")
        print("undisturbed: the same", flush=True)

        dagster = Dagster(on_cluster.home(folder / "cancelled"), settings)
        dagster.cancel(half_done(dagster))
        assert not processes("assets.child")
        on_cluster.wait_until(lambda: not on_cluster.decoding(), seconds=10)
        assert dagster.last.status is dg.DagsterRunStatus.CANCELED
        assert not list(dagster.home.scratch.glob("pipe-*"))
        ended_here(dagster, expected[0])
        print("cancelled: the job ended; the same", flush=True)

        dagster = Dagster(on_cluster.home(folder / "killed"), settings)
        started = half_done(dagster)
        for child in processes("assets.child"):
            os.kill(child, signal.SIGKILL)
        started.wait()
        assert dagster.last.status is dg.DagsterRunStatus.SUCCESS
        assert dagster.last.count("STEP_UP_FOR_RETRY") == 1
        assert dagster.run("embedding_vectors").status is dg.DagsterRunStatus.SUCCESS
        assert on_cluster.results(dagster.home) == expected[0]
        print("the job killed: tried once more; the same", flush=True)

        run = dagster.run("catalog", FASTDINO_MUSIC=str(folder / "unmounted"))
        assert run.status is dg.DagsterRunStatus.FAILURE
        assert str(folder / "unmounted") in run.why
        assert "Traceback" not in run.why
        assert run.count("STEP_UP_FOR_RETRY") == 0
        print("what a person can mend: told at once", flush=True)

        refused(dagster.run("catalog", RAY_AUTH_TOKEN=TOKEN[::-1]), address)
        print("without the cluster's token: told at once", flush=True)

    refused(dagster.run("catalog"), address)
    print("no one there: told at once", flush=True)


def refused(run: Run, address: str) -> None:
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert f"{address}, takes no jobs from here" in run.why
    assert "\n" not in run.why
    assert run.count("STEP_UP_FOR_RETRY") == 0
    assert not any(secret in line for line in run.log for secret in (TOKEN, TOKEN[::-1]))


if __name__ == "__main__":
    {"driver": driver, "jobs": jobs}[sys.argv[1]](Path(sys.argv[2]))
