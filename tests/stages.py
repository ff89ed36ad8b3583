"""Running all stages in a test, and telling whether anything came of it."""

import hashlib
from argparse import Namespace
from pathlib import Path

from fastdino.core.home import Home
from fastdino.core.summary import Summary
from fastdino.steps import COMMANDS, STEPS


def options(music: Path) -> Namespace:
    learning = {"preset": "tiny", "minutes": None, "seed": 0, "afresh": False, "warm": False}
    return Namespace(music=[str(music)], or_demo=False, **learning)


def run(home: Home, music: Path) -> dict[str, Summary]:
    return {name: STEPS[name](home, options(music)) for name in COMMANDS["run"]}


def contents(folder: Path) -> dict[str, tuple[int, str]]:
    """Time of writing and hash of every file, locks aside."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            hashlib.blake2b(path.read_bytes()).hexdigest(),
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }
