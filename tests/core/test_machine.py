"""A process in a container uses what that may use."""

import os
from pathlib import Path

import pytest

from fastdino.core import machine


@pytest.mark.parametrize(
    ("groups", "limits", "cores", "gigabytes"),
    [
        ("0::/\n", {"memory.max": "max\n", "cpu.max": "max 100000\n"}, 64, 512),
        ("0::/\n", {"memory.max": f"{4 << 30}\n", "cpu.max": "150000 100000\n"}, 1, 4),
        # As of a service: what holds for a group holds for those in it.
        ("0::/a/b\n", {"a/memory.max": f"{8 << 30}\n", "a/b/cpu.max": "300000 100000"}, 3, 8),
        (
            "4:memory:/x\n3:cpu,cpuacct:/x\n0::/\n",
            {
                "memory/memory.limit_in_bytes": f"{2 << 30}\n",
                "cpu/x/cpu.cfs_quota_us": "200000\n",
                "cpu/x/cpu.cfs_period_us": "100000\n",
            },
            2,
            2,
        ),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64, 512),
        (None, {}, 64, 512),
    ],
)
def test_a_containers_limits_are_kept_to(
    groups: str | None,
    limits: dict[str, str],
    cores: int,
    gigabytes: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, text in limits.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    if groups is not None:
        (tmp_path / "groups").write_text(groups)
    monkeypatch.setattr(machine, "FOLDER", tmp_path)
    monkeypatch.setattr(machine, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64))
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 1 << 12, "SC_PHYS_PAGES": 1 << 27}.get)
    assert machine.available_cores() == cores
    assert machine.available_memory() == gigabytes << 30
