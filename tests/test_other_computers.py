"""On a computer that lacks what only Linux has, as macOS does, everything works.

None of the tests' computers is one. What Python and the system have only on Linux is hidden here:
``/proc`` and ``/sys`` are empty, functions and constants are deleted, and processes are spawned.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastdino.core import machine

ROOT = Path(__file__).parents[1]
# What ``os``, ``select``, ``resource``, ``signal`` and ``time`` of macOS do not have.
HIDE = """
import fcntl, multiprocessing, os, resource, select, signal, time
for module, names in (
    (os, "sched_getaffinity sched_setaffinity sched_getparam posix_fadvise posix_fallocate "
     "fdatasync pipe2 memfd_create eventfd getrandom splice copy_file_range getxattr listxattr "
     "setxattr removexattr pidfd_open unshare setns getresuid O_TMPFILE O_PATH O_DIRECT "
     "O_NOATIME O_LARGEFILE"),
    (fcntl, "F_SETLEASE F_GETLEASE F_SETSIG F_GETSIG F_NOTIFY"),
    (select, "epoll"),
    (resource, "prlimit"),
    (signal, "sigtimedwait sigwaitinfo SIGRTMIN SIGRTMAX SIGPWR SIGPOLL"),
    (time, "CLOCK_BOOTTIME CLOCK_TAI"),
):
    for name in names.split():
        module.__dict__.pop(name, None)
multiprocessing.set_start_method("spawn")
"""


def without_linux(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    """Run ``command``, and all that it starts, where these things are hidden."""
    (folder / "sitecustomize.py").write_text(HIDE)
    hidden = 'mount -t tmpfs none /proc && mount -t tmpfs none /sys && exec "$@"'
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", hidden, "sh", *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", "FASTDINO_PRESET": "tiny"},
        capture_output=True,
        text=True,
        timeout=600,
    )


needs_mounts = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"),
    reason="needs root and unshare: /proc is hidden in a mount namespace",
)


@needs_mounts
def test_what_is_said_to_be_hidden_is(tmp_path: Path) -> None:
    look = "import os; print(os.listdir('/proc'), hasattr(os, 'sched_getaffinity'))"
    done = without_linux(tmp_path, sys.executable, "-c", look)
    assert done.stdout == "[] False\n", done.stderr


def test_cores_are_counted_where_no_one_says_which_may_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert 1 <= machine.available_cores() <= (os.cpu_count() or 1)


@needs_mounts
def test_music_is_taken_in_by_processes_without_a_limit_of_memory(
    library: Path, tmp_path: Path
) -> None:
    home = str(tmp_path / "home")
    fastdino = (sys.executable, "-m", "fastdino", "--home", home)
    done = without_linux(tmp_path, *fastdino, "ingest", str(library))
    assert done.returncode == 0, done.stderr
    assert "12 songs in 14 files" in done.stdout


@needs_mounts
@pytest.mark.thorough
def test_the_whole_pipeline_runs_and_so_does_dagster_s_child(library: Path, tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    fastdino = (sys.executable, "-m", "fastdino", "--home", home)
    for command in (
        ["run", str(library)],
        ["run"],
        ["verify"],
        ["compact"],
        ["playlist", "--surprise", "-o", "-"],
    ):
        done = without_linux(tmp_path, *fastdino, *command)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    dagster = [
        sys.executable, "-c",
        "from assets.ingestion import catalog, catalog_has_songs\n"
        "from assets.pipes import pipes_client\n"
        "from assets.stage import HomeFolder\n"
        "import dagster as dg\n"
        "if __name__ == '__main__':\n"
        f"    given = {{'home': HomeFolder(path={home!r}), 'pipes': pipes_client()}}\n"
        "    assert dg.materialize([catalog, catalog_has_songs], resources=given).success\n",
    ]  # fmt: skip
    done = without_linux(tmp_path, *dagster)
    assert done.returncode == 0, done.stderr
