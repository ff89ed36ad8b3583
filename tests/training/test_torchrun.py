"""``torchrun -m fastdino train``: real ranks, in a network of their own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from doubled import KILL_AT
from safetensors.torch import load_file
from song_shards import songs, write_songs

from fastdino.core.home import Home
from fastdino.core.text import runnable
from fastdino.training import registry

pytestmark = pytest.mark.thorough

HERE = Path(__file__).parent
# Of torchrun's, which listens to every network that there is: here that is loopback alone.
ALONE = ("unshare", "--net", "--map-root-user", "sh", "-c", 'ip link set lo up; exec "$@"', "sh")
LINE = ("train", "--preset", "tiny", "--minutes", "1000")

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(home: Home) -> Start:
    """Start training on so many ranks; in double precision, or as it is."""
    if subprocess.run([*ALONE, "true"], capture_output=True).returncode:
        pytest.skip("needs a network of its own")

    def begin(
        n_ranks: int, *line: str, doubled: bool = True, **environment: str
    ) -> "subprocess.Popen[str]":
        program = [str(HERE / "doubled.py")] if doubled else ["-m", "fastdino"]
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", f"{n_ranks}"]
        return subprocess.Popen(
            [
                *ALONE, sys.executable, *(torchrun if n_ranks > 1 else ()), *program,
                *(line or LINE), "--home", str(home.root),
            ],
            env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )  # fmt: skip

    return begin


def end(started: "subprocess.Popen[str]") -> tuple[int, str]:
    """Its exit code and all that it printed."""
    said, _ = started.communicate(timeout=600)
    return started.returncode, said


def trained(home: Home) -> dict[str, torch.Tensor]:
    """The encoder of the one model there is."""
    (name,) = registry.model_ids(home)
    weights = load_file(home.model(name) / "model.safetensors")
    return {name: value for name, value in weights.items() if name.startswith("encoder.")}


def steps(home: Home) -> int:
    (name,) = registry.model_ids(home)
    return int(json.loads((home.model(name) / "model.json").read_text())["metrics"]["steps"])


def most(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    assert one
    return max(float((value - other[name]).abs().max()) for name, value in one.items())


def test_ranks_started_by_torchrun_learn_what_one_process_learns_and_one_may_end_it(
    home: Home, start: Start
) -> None:
    write_songs(home, songs(artists=8, each=12))
    code, said = end(start(1))
    assert code == 0, said
    alone, n_steps = trained(home), steps(home)
    assert n_steps >= 30
    for n_ranks in (2, 4):
        shutil.rmtree(home.models)
        code, said = end(start(n_ranks))
        assert code == 0, said
        assert said.count("✓ train") == 1
        assert steps(home) == n_steps
        assert most(trained(home), alone) < 1e-10

    for before, after in ((2, 1), (1, 2)):
        shutil.rmtree(home.models)
        code, said = end(start(before, **{KILL_AT: "7"}))
        assert code != 0
        assert "✓" not in said
        code, said = end(start(after))
        assert code == 0, said
        assert "Going on from step 7" in said
        assert most(trained(home), alone) < 1e-10


def test_what_is_wrong_is_said_once_and_ends_all_ranks(home: Home, start: Start) -> None:
    code, said = end(start(2, doubled=False))
    assert code != 0
    assert said.count("there are no spectrograms to train on") == 1
    write_songs(home, songs())
    code, said = end(start(3, doubled=False))
    assert code != 0
    assert said.count("a batch of 8 songs cannot be shared out evenly to 3 ranks") == 1
    code, said = end(start(2, "report", doubled=False))
    assert code != 0
    assert runnable("run 'fastdino report' without it") in said
    code, said = end(start(2, *LINE, "--ranks", "2", doubled=False))
    assert code != 0
    assert "leave --ranks away" in said


def test_a_second_run_finds_the_model_of_the_first(home: Home, start: Start) -> None:
    write_songs(home, songs())
    for mark in ("✓ train", "· train"):
        code, said = end(start(2, doubled=False))
        assert code == 0, said
        assert said.count(mark) == 1


def test_an_interrupt_ends_all_ranks_and_the_next_run_goes_on(home: Home, start: Start) -> None:
    write_songs(home, songs(artists=30, each=30, n_frames=2000))
    running = start(2, doubled=False)
    metrics = home.models / ".training" / "metrics.jsonl"
    deadline = time.monotonic() + 600
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)
    code, said = end(running)
    assert code != 0
    assert said.count("interrupted; the next run goes on from here") == 1
    with pytest.raises(ProcessLookupError):
        os.killpg(running.pid, 0)
