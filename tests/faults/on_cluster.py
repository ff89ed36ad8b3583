"""The stages on a Ray cluster of a head and two nodes.

Run by ``test_ray_cluster`` in a network of its own, as ``python -m tests.faults.on_cluster SCENARIO
FOLDER``.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from fastdino.core.home import Home
from fastdino.spectrograms import SpectrogramSettings, stage
from tests.untrained import write_model

SPEC = SpectrogramSettings()
SONGS, SECONDS = 24, 90
# Two songs a shard, whatever is said of it elsewhere: the driver alone divides the songs.
DRIVER = f"""
import sys
from fastdino.spectrograms import shards
shards.SHARD_BYTES = {round(1.5 * SECONDS * SPEC.frames_per_s * SPEC.n_mels)}
from fastdino.__main__ import main
sys.exit(main())
"""
# Put into every process of the cluster: what three songs do to the one that decodes them.
HOSTILE = """
import os, signal, time
from fastdino.spectrograms import candidates, extract
candidates.LEAST_LIMIT_S = 4.0
decode = extract.extract
def hostile(task):
    if "hangs" in task.path.name:
        time.sleep(1000)
    if "crashes" in task.path.name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "eats" in task.path.name:
        return len(bytearray(8 << 30))
    return decode(task)
extract.extract = hostile
"""


def music(folder: Path) -> Path:
    folder.mkdir()
    for number in range(SONGS):
        noise = np.random.default_rng(number).normal(0, 0.1, 16_000 * SECONDS)
        soundfile.write(folder / f"{number:02d}.flac", noise, 16_000)
    return folder


def home(folder: Path) -> Home:
    """A home with nothing but a small model, of random weights."""
    made = Home(folder)
    write_model(made)
    return made


def start(home: Home, *command: str, address: str | None = None) -> subprocess.Popen[bytes]:
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
    if address:
        environment["RAY_ADDRESS"] = address
    arguments = [sys.executable, "-c", DRIVER, *command, "--home", str(home.root)]
    return subprocess.Popen(arguments, env=environment)


def run(home: Home, *command: str, address: str | None = None) -> None:
    assert start(home, *command, address=address).wait() == 0, command


def results(home: Home) -> dict[str, bytes]:
    """The bytes of every shard and vector file."""
    found = {
        str(path.relative_to(home.root)): path.read_bytes()
        for kind in ("shards", "vectors")
        for path in (home.root / kind).glob("*/spectrograms-*.parquet")
    }
    assert len(found) == SONGS, sorted(found)  # half as many shards, and as many vector files
    return found


def failures(home: Home) -> list[tuple[Any, ...]]:
    columns = ("path", "reason", "kind", "attempts")
    return stage.read_failures(home.shards(SPEC.spec_id)).select(columns).sort("path").rows()


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def shards_done(home: Home) -> int:
    return len(list(home.shards(SPEC.spec_id).glob("spectrograms-*.parquet")))


def decoding() -> list[str]:
    """Processes that decode songs."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # Of this network alone: others' tests may run beside it.
            here = os.readlink(folder / "ns/net") == os.readlink("/proc/self/ns/net")
            command = (folder / "cmdline").read_bytes()
            if here and b"multiprocessing.spawn" in command:
                found.append(folder.name)
    return found


@contextlib.contextmanager
def cluster() -> Iterator[Any]:
    """A head without cores and two nodes with one each."""
    from ray.cluster_utils import Cluster

    made = Cluster(head_node_args={"num_cpus": 0, "include_dashboard": False}, initialize_head=True)
    nodes = [made.add_node(num_cpus=1) for _ in range(2)]
    try:
        yield made, nodes
    finally:
        made.shutdown()


def begun(folder: Path, songs: str, address: str) -> tuple[Home, subprocess.Popen[bytes]]:
    """A home in which songs are being decoded on the cluster, two shards of them done."""
    made = home(folder)
    run(made, "ingest", songs)
    driver = start(made, "spectrograms", address=address)
    wait_until(lambda: shards_done(made) >= 2)
    return made, driver


def same_bytes(folder: Path) -> None:
    """Undisturbed; with a node removed; with the driver killed; interrupted."""
    songs = str(music(folder / "music"))
    plain = home(folder / "plain")
    for command in (["ingest", songs], ["spectrograms"], ["embed"]):
        run(plain, *command)
    expected = results(plain)
    with cluster() as (ray, (one, _)):
        undisturbed = home(folder / "undisturbed")
        for command in (["ingest", songs], ["spectrograms"], ["embed"]):
            run(undisturbed, *command, address=ray.address)
        assert results(undisturbed) == expected
        print("undisturbed: the same", flush=True)

        killed, driver = begun(folder / "killed", songs, ray.address)
        driver.kill()
        driver.wait()
        done = shards_done(killed)
        assert done < SONGS // 2
        run(killed, "spectrograms", address=ray.address)
        run(killed, "embed", address=ray.address)
        assert results(killed) == expected
        print(f"driver killed after {done} shards: the same", flush=True)

        interrupted, driver = begun(folder / "interrupted", songs, ray.address)
        driver.send_signal(signal.SIGINT)
        assert driver.wait() == 130
        wait_until(lambda: not decoding(), seconds=10)
        # Ended here, without a cluster.
        run(interrupted, "spectrograms")
        run(interrupted, "embed")
        assert results(interrupted) == expected
        print("interrupted: the tasks ended; the same", flush=True)

        bereft, driver = begun(folder / "bereft", songs, ray.address)
        ray.remove_node(one, allow_graceful=False)
        assert driver.wait() == 0
        run(bereft, "embed", address=ray.address)
        assert results(bereft) == expected
        print("a node removed: the same", flush=True)


def hostile(folder: Path) -> None:
    """Songs that hang, crash and eat memory are the same three failures, and no one else's."""
    (folder / "hostile").mkdir()
    (folder / "hostile" / "sitecustomize.py").write_text(HOSTILE)
    os.environ["PYTHONPATH"] = f"{folder / 'hostile'}:{Path(__file__).parents[2]}"
    songs = music(folder / "music")
    for number, what in enumerate(("hangs", "crashes", "eats")):
        shutil.move(songs / f"{number * 7:02d}.flac", songs / f"{number * 7:02d} {what}.flac")
    plain = home(folder / "plain")
    spread = home(folder / "spread")
    run(plain, "ingest", str(songs))
    run(plain, "spectrograms")
    with cluster() as (ray, _):
        run(spread, "ingest", str(songs), address=ray.address)
        run(spread, "spectrograms", address=ray.address)
    assert len(failures(plain)) == 3
    assert failures(spread) == failures(plain)
    folders = [each.root / "shards" for each in (plain, spread)]
    files = [
        {path.name: path.read_bytes() for path in each.rglob("spectrograms-*")} for each in folders
    ]
    assert files[0] == files[1]
    print(json.dumps(failures(spread), indent=1), flush=True)


if __name__ == "__main__":
    {"same_bytes": same_bytes, "hostile": hostile}[sys.argv[1]](Path(sys.argv[2]))
