"""Running all stages in a test, and telling whether anything came of it."""

import hashlib
from pathlib import Path

from fastdino.core.home import Home
from fastdino.core.summary import Summary
from fastdino.steps import COMMANDS, Ingest, Step, Train


def steps(music: Path) -> list[Step]:
    """All steps of a run over this folder, with an encoder that is trained in seconds."""
    options = {Ingest: {"music": (str(music),)}, Train: {"preset": "tiny", "minutes": None}}
    return [step(**options.get(step, {})) for step in COMMANDS["run"]]


def run(home: Home, music: Path) -> dict[str, Summary]:
    """What each step that had something to say did."""
    done = {step.name: step.run(home) for step in steps(music)}
    return {name: summary for name, summary in done.items() if summary}


def contents(folder: Path) -> dict[str, tuple[int, str]]:
    """Time of writing and hash of every file, locks and what each step did last aside."""
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            hashlib.blake2b(path.read_bytes()).hexdigest(),
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock" and path.parent.name != "outcomes"
    }
