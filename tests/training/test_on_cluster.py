"""``fastdino train --ranks N``: a real Ray cluster, in a network of its own."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from doubled import KILL_AT
from song_shards import songs, write_songs
from test_torchrun import HERE, LINE, end, most, steps, trained

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.steps import Train
from fastdino.training.on_cluster import resources

ADDRESS = "127.0.0.1:6379"
Start = Callable[..., "subprocess.Popen[str]"]


def node(cpus: int, gpus: int = 0, alive: bool = True) -> dict[str, Any]:
    return {"Alive": alive, "Resources": {"CPU": float(cpus), "GPU": float(gpus)}}


def test_ranks_share_out_the_cores_that_there_are() -> None:
    assert resources([node(16), node(16)], 2) == {"CPU": 16}
    assert resources([node(16), node(16)], 3) == {"CPU": 8}
    assert resources([node(16), node(4)], 4) == {"CPU": 4}
    assert resources([node(2), node(64, alive=False)], 2) == {"CPU": 1}


def test_every_rank_has_a_gpu_where_there_are_any() -> None:
    assert resources([node(16, 4), node(64)], 4) == {"CPU": 4, "GPU": 1}
    assert resources([node(16, 1), node(8, 1)], 2) == {"CPU": 8, "GPU": 1}


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        ([node(2)], "room for 2 ranks, each with a core of its own: give --ranks 2 at most"),
        ([node(16, 2), node(64)], "room for 2 ranks, each with a GPU"),
    ],
)
def test_a_cluster_with_too_little_room_says_how_many_ranks_it_can_have(
    nodes: list[dict[str, Any]], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        resources(nodes, 3)


def test_ranks_without_a_cluster_say_how_to_have_them(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match=r"set RAY_ADDRESS .*torchrun --nproc-per-node 3"):
        Train(preset="tiny", ranks=3).run(home)


@pytest.fixture(scope="module")
def inside() -> Iterator[list[str]]:
    """A cluster of one computer with four cores, as far as it knows; what runs a command there.

    All processes in there end with the test.
    """
    pytest.importorskip("ray")
    space = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    space += ["--map-root-user", "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
    if subprocess.run([*space, "true"], capture_output=True).returncode:
        pytest.skip("needs a network of its own")
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    host, port = ADDRESS.split(":")
    # A short name: those of sockets in there have a limit.
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        head = subprocess.Popen(
            [
                *space, *ray, "start", "--head", "--block", "--node-ip-address", host,
                "--port", port, "--num-cpus", "4", "--include-dashboard=false",
                "--temp-dir", folder, "--disable-usage-stats",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            time.sleep(1)
            children = Path(f"/proc/{head.pid}/task/{head.pid}/children").read_text().split()
            enter = ["nsenter", "--target", children[0], "--user", "--net", "--pid", "--mount"]
            enter.append("--preserve-credentials")
            for _ in range(60):
                command = [*enter, *ray, "health-check", "--address", ADDRESS]
                if subprocess.run(command, capture_output=True).returncode == 0:
                    break
                time.sleep(1)
            yield enter
        finally:
            head.kill()
            head.wait()


@pytest.fixture
def start(home: Home, inside: list[str]) -> Start:
    """Start training on so many ranks of the cluster, in double precision or as it is."""

    def begin(
        n_ranks: int, *line: str, doubled: bool = True, **environment: str
    ) -> "subprocess.Popen[str]":
        program = [str(HERE / "doubled.py")] if doubled else ["-m", "fastdino"]
        command = [sys.executable, *program, *(line or LINE), "--ranks", str(n_ranks)]
        return subprocess.Popen(
            [*inside, *command, "--home", str(home.root)],
            env={**os.environ, "RAY_ADDRESS": ADDRESS, "GLOO_SOCKET_IFNAME": "lo", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return begin


@pytest.mark.thorough
def test_ranks_of_a_cluster_learn_what_one_process_learns_also_if_one_is_lost(
    home: Home, start: Start
) -> None:
    write_songs(home, songs(artists=8, each=12))
    code, said = end(start(1))
    assert code == 0, said
    alone, n_steps = trained(home), steps(home)
    assert n_steps >= 30
    for n_ranks, lost_at in ((2, ""), (4, ""), (2, "7")):
        shutil.rmtree(home.models)
        code, said = end(start(n_ranks, **{KILL_AT: lost_at}))
        assert code == 0, said
        assert said.count("✓ train") == 1
        assert "Training on 96 tracks" in said
        assert ("Going on from step 7" in said) == bool(lost_at)
        assert steps(home) == n_steps
        assert most(trained(home), alone) < 1e-10


@pytest.mark.thorough
def test_what_is_wrong_on_the_cluster_is_one_line(home: Home, start: Start) -> None:
    home.root.mkdir()
    for n_ranks, told in (
        (2, "there are no spectrograms to train on"),
        (5, "the cluster has room for 4 ranks"),
    ):
        code, said = end(start(n_ranks, doubled=False))
        assert code == 2, said
        assert said.count(told) == 1
        assert "Traceback" not in said
    write_songs(home, songs())
    code, said = end(start(3, doubled=False))
    assert code == 2, said
    assert "a batch of 8 songs cannot be shared out evenly to 3 ranks" in said


@pytest.mark.thorough
def test_an_interrupt_ends_the_ranks_and_the_next_run_goes_on(home: Home, start: Start) -> None:
    write_songs(home, songs(artists=30, each=30, n_frames=2000))
    running = start(2, doubled=False)
    metrics = home.models / ".training" / "metrics.jsonl"
    deadline = time.monotonic() + 600
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)
    code, said = end(running)
    assert code != 0
    assert "interrupted; the next run goes on from here" in said
    # Had a rank not ended it would have the lock, and this would wait for it.
    code, said = end(start(1, *LINE[:-1], "0.02", doubled=False))
    assert code == 0, said
