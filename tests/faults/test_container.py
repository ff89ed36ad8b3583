"""The image builds and its services start, as far as that can be tried without an engine."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import container
import pytest
import yaml
from container import ROOT, Image

from fastdino import demo

GIGABYTES = 16
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


def test_music_is_only_read_and_dagster_is_for_this_computer_alone() -> None:
    for service in COMPOSE["services"].values():
        music, home = service["volumes"]
        assert music.endswith(":/music:ro")
        assert home == "home:/app/var"
        assert service["healthcheck"]["test"][0] == "CMD"
    assert COMPOSE["services"]["dagster"]["ports"] == ["127.0.0.1:3000:3000"]


def test_only_what_runs_steps_ends_what_died_and_it_has_longer_to_end_than_a_step_may_take() -> (
    None
):
    (running,) = (
        service
        for service in COMPOSE["services"].values()
        if "pipelines.start" in " ".join(service["command"])
    )
    assert "dagster-daemon run" in running["command"][-1]


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
