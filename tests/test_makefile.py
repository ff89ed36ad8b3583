"""What make passes on, and what `make ui` does before and while Dagster runs."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_a_taken_port_is_one_line_and_nothing_is_started() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        # In the environment that runs this test, whatever it is.
        command = ["make", "-o", ".venv/.installed", f"BIN={Path(sys.executable).parent}", "ui"]
        done = subprocess.run(
            [*command, f"PORT={port}"], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 2
    assert re.match(f"Port {port} is taken. If by another make ui, use that one; ", done.stderr)
    assert "dagster" not in done.stdout + done.stderr


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with the Makefile, where python tells what it is given, a line each."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", ".venv/bin/pip", ".venv/.installed"):
        (tmp_path / name).touch()
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    python.chmod(0o755)
    shutil.copy(ROOT / "Makefile", tmp_path)
    return tmp_path


def passed_on(folder: Path, *given: str, **environment: str) -> list[str]:
    """What ``make run`` gives to python after ``run``."""
    # Of a make that runs this test nothing is handed down.
    env = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MUSIC")}
    done = subprocess.run(
        ["make", "--no-print-directory", "run", *given],
        cwd=folder, env=env | environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    return lines[lines.index("run") + 1 :]


@pytest.mark.parametrize("name", ["A$AP Rocky", 'It\'s "$(HOME)" `x`', "a:b", "#1 hits"])
def test_music_folders_of_any_name_are_named_as_they_are(installed: Path, name: str) -> None:
    assert passed_on(installed, f"MUSIC={name}") == ["--or-demo", name]
    assert passed_on(installed, MUSIC=name) == ["--or-demo", name]


def test_without_music_folders_none_is_named(installed: Path) -> None:
    assert passed_on(installed) == ["--or-demo"]


def test_an_environment_that_was_interrupted_as_it_was_made_is_made_again(installed: Path) -> None:
    (installed / ".venv" / "bin" / "pip").unlink()
    (installed / ".venv" / ".installed").unlink()
    command = ["make", "--dry-run", "run"]
    done = subprocess.run(command, cwd=installed, capture_output=True, text=True, check=True)
    assert "-m venv .venv" in done.stdout


@pytest.mark.thorough
def test_started_in_the_background_it_ends_when_told_to_and_its_log_is_clean(
    tmp_path: Path,
) -> None:
    for name in ("Makefile", "dagster.yaml", "workspace.yaml", "assets", "fastdino", "pipelines"):
        (tmp_path / name).symlink_to(ROOT / name)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # As `make ui &` in a script: what is started so ignores Ctrl-C.
    command = ["sh", "-c", 'trap "" INT; exec make "$@"', "sh", "-o", ".venv/.installed"]
    command += [f"BIN={Path(sys.executable).parent}", "ui", f"PORT={port}"]
    log = tmp_path / "log"
    with log.open("w") as told:
        make = subprocess.Popen(
            command, cwd=tmp_path, stdout=told, stderr=told, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while "Serving dagster-webserver" not in log.read_text():
            assert make.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        with socket.create_server(("127.0.0.1", 0)) as free:
            other = free.getsockname()[1]
        second = [*command[:-1], f"PORT={other}"]
        done = subprocess.run(second, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 2
        assert re.match(f"fastdino: Dagster is running here already .* -p {port}.: ", done.stderr)
        time.sleep(5)  # Its daemons and the pipeline's code say what they have to say by then.
        make.terminate()
        make.wait(60)
        deadline = time.monotonic() + 60
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < deadline:  # The one that holds the code is the last to go.
                os.killpg(make.pid, 0)
                time.sleep(0.2)
            pytest.fail("a process of it was left behind")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(make.pid, signal.SIGKILL)
    said = log.read_text()
    assert "Dagster services shut down" in said
    wrong = [line for line in said.splitlines() if "INFO" not in line]
    assert not [line for line in wrong if not line.startswith("make: ")], said
