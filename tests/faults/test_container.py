"""The image builds and its services start, as far as that can be tried without an engine."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import container
import dagster as dg
import pytest
import yaml
from container import ROOT, Image
from dagster_graphql import DagsterGraphQLClient

from fastdino import demo
from fastdino.core.home import Home
from fastdino.core.storage import exclusive_lock

GIGABYTES = 16
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


def test_music_is_only_read_and_dagster_is_for_this_computer_alone() -> None:
    for service in COMPOSE["services"].values():
        music, home = service["volumes"]
        assert music.endswith(":/music:ro")
        assert home == "home:/app/var"
        assert service["healthcheck"]["test"][0] == "CMD"
    assert COMPOSE["services"]["dagster"]["ports"] == ["127.0.0.1:3000:3000"]


def test_page_and_daemon_of_dagster_are_one_service_that_ends_what_died() -> None:
    commands = (" ".join(service["command"]) for service in COMPOSE["services"].values())
    (dagster,) = (command for command in commands if "dagster" in command)
    assert "exec python -m pipelines.start dagster dev " in dagster


@pytest.mark.thorough
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"),
    reason="needs root and unshare: services do not see each other's temporary files and processes",
)
def test_a_run_that_waits_for_a_lock_ends_when_dagsters_page_asks_for_it(tmp_path: Path) -> None:
    for name in ("dagster.yaml", "workspace.yaml", "assets", "fastdino", "pipelines"):
        (tmp_path / name).symlink_to(ROOT / name)
    home, temporary, log = Home(tmp_path / "var"), tmp_path / "tmp", tmp_path / "log"
    temporary.mkdir()
    environment = {
        **os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DAGSTER_HOME": str(tmp_path), "FASTDINO_HOME": str(home.root),
        "FASTDINO_MUSIC": str(tmp_path), "TMPDIR": str(temporary),
    }  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8").replace("3000", str(port))
    services = yaml.safe_load(container.filled(text, {"MUSIC": str(tmp_path)}))["services"]
    del services["page"]
    apart = [
        "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
        "sh", "-c", f"mount -t tmpfs none {shlex.quote(str(temporary))} && exec \"$@\"", "sh",
    ]  # fmt: skip

    def healthy(service: dict[str, Any]) -> bool:
        _, *check = service["healthcheck"]["test"]
        done = subprocess.run(check, cwd=tmp_path, env=environment, capture_output=True)
        return not done.returncode

    with ExitStack() as at_end:
        at_end.enter_context(exclusive_lock(home.catalog.parent))
        told = at_end.enter_context(log.open("w"))
        for service in services.values():
            command = [*apart, *service["command"]]
            started = subprocess.Popen(
                command, cwd=tmp_path, env=environment, stdout=told, stderr=told
            )
            at_end.callback(started.wait)
            at_end.callback(started.kill)

        def wait_until(that: Callable[[], bool]) -> None:
            # Dagster itself calls a run ended after two minutes, also where it goes on.
            end = time.monotonic() + 100
            while not that():
                assert time.monotonic() < end, log.read_text()
                time.sleep(0.5)

        wait_until(lambda: all(map(healthy, services.values())))
        page = DagsterGraphQLClient("localhost", port_number=port)
        run_id = page.submit_job_execution("refresh")
        wait_until(lambda: "waiting until it ends" in log.read_text())
        page.terminate_run(run_id)
        wait_until(lambda: page.get_run_status(run_id) is dg.DagsterRunStatus.CANCELED)


def test_the_image_runs_as_no_root_and_holds_no_address_of_a_registry() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    found = list(container.steps(text))
    assert [rest for instruction, rest in found if instruction == "USER"] == ["fastdino"]
    assert "://" not in text


def test_what_is_copied_is_there_and_let_through() -> None:
    through = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [
        name.rstrip("/")
        for instruction, rest in container.steps((ROOT / "Dockerfile").read_text(encoding="utf-8"))
        if instruction == "COPY"
        for name in rest.split()[:-1]
    ]
    assert all((ROOT / name).exists() for name in copied)
    assert {f"!{name}" for name in copied} == {line for line in through if line.startswith("!")}


def test_without_a_folder_of_music_it_is_said_what_to_set() -> None:
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="set MUSIC to the folder of your music"):
        container.filled(text, {})


@pytest.mark.thorough
@pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("debootstrap", "unshare", "chroot", "ip"))),
    reason="needs root, debootstrap, unshare, chroot and ip: it is built in a fresh Debian",
)
def test_it_builds_in_a_fresh_debian_and_every_service_gets_healthy_and_refreshes(
    tmp_path: Path,
) -> None:
    if shutil.disk_usage(tmp_path).free < GIGABYTES << 30:
        pytest.skip(f"needs {GIGABYTES} GB of room: PyTorch is large")
    music, volume, root = tmp_path / "music", tmp_path / "volume", tmp_path / "root"
    demo.synthesise(music, artists=4, songs_per_artist=3, seconds=4.0)
    image = Image(root, {"TORCH_INDEX": os.environ.get("TORCH_INDEX", "")})
    try:
        image.build(ROOT / "Dockerfile")
        # As an engine makes a volume: whose the folder was that it takes the place of.
        volume.mkdir()
        owner = (root / "app/var").stat()
        os.chown(volume, owner.st_uid, owner.st_gid)
        described = {
            "environment": image.environment, "folder": image.folder, "user": image.user,
        }  # fmt: skip
        subprocess.run(
            [
                "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
                sys.executable, "-m", "container", root, json.dumps(described), music, volume,
            ],
            cwd=Path(__file__).parent,
            check=True,
            timeout=3000,
        )  # fmt: skip
    finally:
        shutil.rmtree(root, ignore_errors=True)
