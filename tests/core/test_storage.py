import contextlib
import json
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic
from published import rows
from safetensors.numpy import save_file

from fastdino import ingestion, reports
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.storage import atomic_replace, exclusive_lock, read_json, write_json
from fastdino.database import publish
from fastdino.page import write_page
from fastdino.upkeep import compaction, verify


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.json"
    write_json(target, {"a": 1})
    write_json(target, {"a": 2})
    assert read_json(target) == {"a": 2}
    assert list(target.parent.iterdir()) == [target]


def test_an_exception_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def fail_half_way() -> None:
        with atomic_replace(target) as part:
            part.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_damaged_json_is_a_value_error(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": ')
    with pytest.raises(json.JSONDecodeError):
        read_json(tmp_path / "x.json")


def hold(folder: Path, ready: "multiprocessing.synchronize.Event") -> None:
    with exclusive_lock(folder):
        ready.set()
        multiprocessing.Event().wait()


def test_a_lock_is_waited_for_and_goes_with_the_process_that_held_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    holder = context.Process(target=hold, args=(tmp_path, ready))
    holder.start()
    assert ready.wait(30)

    def kill_when_waited_for() -> float:
        while "waiting until it ends" not in caplog.text:
            time.sleep(0.01)
        holder.kill()
        return time.monotonic()

    with ThreadPoolExecutor() as pool:
        killed_at = pool.submit(kill_when_waited_for)
        with exclusive_lock(tmp_path):
            assert killed_at.result() <= time.monotonic()
    assert f"another run is writing to {tmp_path}" in caplog.text
    holder.join()


WAITS = """
import sys
from pathlib import Path
import polars  # after which the system's own waiting goes on
from fastdino.core.storage import exclusive_lock
print("waits", flush=True)
with exclusive_lock(Path(sys.argv[1])):
    pass
"""


def test_waiting_for_a_lock_can_be_interrupted(tmp_path: Path) -> None:
    with exclusive_lock(tmp_path):
        command = [sys.executable, "-c", WAITS, str(tmp_path)]
        waiting = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert waiting.stdout
        waiting.stdout.readline()
        time.sleep(0.5)  # so that it has come to the lock
        waiting.send_signal(signal.SIGINT)
        try:
            _, said = waiting.communicate(timeout=20)
        finally:
            waiting.kill()
    assert b"KeyboardInterrupt" in said


def test_whoever_has_the_lock_deletes_what_a_killed_run_had_begun(tmp_path: Path) -> None:
    parts = [
        tmp_path / ".a.0123abcd.part",
        tmp_path / ".a.0123abcd.part.wal",
        tmp_path / ".training" / ".b.0123abcd.part",
        tmp_path / "deep" / "down" / ".c.0123abcd.part",
    ]
    locked = tmp_path / "other"
    kept = [tmp_path / "a", locked / ".lock", locked / ".d.part", locked / "deep" / ".e.part"]
    for path in (*parts, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    with exclusive_lock(tmp_path):
        assert not any(path.exists() for path in parts)
        assert all(path.exists() for path in kept)


def test_files_that_are_not_its_own_are_left_alone(tmp_path: Path) -> None:
    theirs = [
        tmp_path / "music" / ".Emma.part1.mp3.Xa3dQ9",
        tmp_path / ".keep.partners.csv",
        tmp_path / "music" / ".somebody's.0123abcd.part",
    ]
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"theirs")
    (tmp_path / ".music.duckdb.0123abcd.part").write_bytes(b"half")
    with exclusive_lock(tmp_path, with_all_below=False):
        assert all(path.exists() for path in theirs)
        assert not (tmp_path / ".music.duckdb.0123abcd.part").exists()
    with exclusive_lock(tmp_path):
        assert [path.exists() for path in theirs] == [True, True, False]


STEPS: dict[str, tuple[Callable[[Home], Path], Callable[[Home, Path], object]]] = {
    "ingest": (lambda home: home.catalog.parent, lambda home, music: ingestion.run(home, [music])),
    "map": (lambda home: home.root / "maps", lambda home, _: reports.draw_map(home)),
    "publish": (lambda home: home.root, lambda home, _: publish(home)),
    "compact": (lambda home: home.models, lambda home, _: compaction.run(home)),
    "page": (lambda home: home.page.parent, lambda home, _: write_page(home)),
    "verify": (lambda home: home.catalog.parent, lambda home, _: list(verify.check(home))),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_waits_for_whoever_writes_where_it_writes(
    step: str, home: Home, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # All but the vectors: most steps then end with that, once they had their turn.
    synthetic.write_home(home, 30)
    shutil.rmtree(home.root / "vectors")
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "song.mp3").write_bytes(b"")
    folder, run = STEPS[step]
    caplog.set_level(logging.WARNING)
    with ThreadPoolExecutor() as pool:
        with exclusive_lock(folder(home)):
            running = pool.submit(run, home, tmp_path / "music")
            while "waiting until it ends" not in caplog.text:
                assert not running.done()
                time.sleep(0.01)
        with contextlib.suppress(UserError):
            running.result()


def write_database(part: Path) -> None:
    with duckdb.connect(str(part)) as db:
        db.execute("CREATE TABLE a AS SELECT random() FROM range(100_000)")


WRITERS: dict[str, Callable[[Path], object]] = {
    "plain": lambda part: part.write_bytes(bytes(1_000_000)),
    "parquet": lambda part: pq.write_table(pa.table({"a": np.random.rand(100_000)}), part),
    "safetensors": lambda part: save_file({"a": np.zeros(1_000_000)}, part),
    "duckdb": write_database,
}


@pytest.mark.parametrize("library", WRITERS)
def test_a_full_disk_names_the_file_and_leaves_the_old_one_whatever_library_wrote(
    library: str, disk: Callable[[str], Path]
) -> None:
    target = disk("size=64k") / "target"
    write_json(target, {"a": 1})
    with pytest.raises(OSError, match="No space left") as raised, atomic_replace(target) as part:
        WRITERS[library](part)
    assert raised.value.filename == str(target)
    assert read_json(target) == {"a": 1}
    assert not list(target.parent.glob("*.part"))


@pytest.mark.thorough
def test_of_two_runs_at_once_both_end_well_and_train_one_model(home: Home, library: Path) -> None:
    command = [sys.executable, "-m", "fastdino", "run", str(library), "--home", str(home.root)]
    environment = {**os.environ, "FASTDINO_PRESET": "tiny"}
    both = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [each.wait(600) for each in both] == [0, 0]
    assert len(list(home.models.glob("*/model.json"))) == 1
    assert list(verify.check(home)) == []
    assert rows(home, "SELECT count(*) FROM songs WHERE x IS NOT NULL") == [(12,)]
