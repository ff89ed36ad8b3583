"""What of this machine the process may use, which in a container or a service may not be all.

Belongs here: cores and memory. Does not: what they are used for.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

# Linux's control groups: which ones the process is in, and a folder for each.
GROUPS, FOLDER = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def available_cores() -> int:
    """Cores that this process may use: an affinity mask or a container may allow fewer."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    cores = affinity or os.cpu_count() or 1
    for group in _groups("cpu"):
        for names in (["cpu.max"], ["cpu.cfs_quota_us", "cpu.cfs_period_us"]):
            with contextlib.suppress(OSError, ValueError):  # none of that name, or it says "max"
                said = " ".join((group / name).read_text() for name in names)
                quota, period = map(int, said.split())
                if quota > 0:
                    cores = min(cores, max(1, quota // period))
    return cores


def available_memory() -> int:
    """Bytes of RAM that this process may use: a container may allow fewer."""
    allowed = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for group in _groups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):
                allowed.append(int((group / name).read_text()))
    return min(allowed)


def _groups(controller: str) -> Iterator[Path]:
    """The folders that may say what this process is allowed of one kind, by either version."""
    with contextlib.suppress(OSError):
        for line in GROUPS.read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers and controller not in controllers.split(","):
                continue
            root = FOLDER / controller if controllers else FOLDER
            # What holds for a group holds for those in it; in a container only the root may be
            # there.
            own = root / group.lstrip("/")
            yield from (each for each in (own, *own.parents) if each.is_relative_to(root))
