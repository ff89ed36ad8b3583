"""What each step did last, kept under the home, and what version its files are of.

Belongs here: keeping a step's summary with when it began and ended, reading it, and one value for
files that changes when they do. Does not: what a step does, or which files are its
(``fastdino.steps``); how an outcome is shown.
"""

import base64
import contextlib
import hashlib
import json
import logging
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastdino.core.home import Home
from fastdino.core.storage import atomic_replace, exclusive_lock, read_json, stamps
from fastdino.core.summary import Column, Relation, Summary

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a step did, and when.

    Attributes:
        summary: as it returned it.
        began_s: when it was started, Unix time.
        ended_s: when it returned.
    """

    summary: Summary
    began_s: float
    ended_s: float


def keep(home: Home, step: str, outcome: Outcome) -> None:
    """Put ``outcome`` in the place of what the step did before."""
    with exclusive_lock(home.outcomes), atomic_replace(_file(home, step)) as part:
        part.write_text(json.dumps(_plain(outcome), default=str), encoding="utf-8")


def last(home: Home, steps: Iterable[str]) -> list[Outcome]:
    """What steps that go together did when they were run last, those of which it was kept.

    One that ended before the first of them had nothing to say since.
    """
    found = [outcome for step in steps if (outcome := _read(_file(home, step)))]
    return [outcome for outcome in found if outcome.ended_s >= found[0].ended_s]


def began_s(home: Home, step: str) -> float:
    """When a step began that has ended, Unix time; without end if that was not kept.

    What was written since then it need not have seen.
    """
    outcome = _read(_file(home, step))
    return outcome.began_s if outcome else math.inf


def version(files: Iterable[tuple[Path, str]]) -> str | None:
    """32 hex characters that stand for names, sizes and times; None if there is no such file.

    Args:
        files: folders, and which files of each, as ``storage.stamps`` takes them.
    """
    digest, found = hashlib.blake2b(digest_size=16), False
    for folder, pattern in files:
        for path, (size, changed) in sorted(stamps(folder, pattern).items()):
            found = True
            line = f"{path.relative_to(folder)}\0{size}\0{changed}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest() if found else None


def _file(home: Home, step: str) -> Path:
    return home.outcomes / f"{step}.json"


def _read(file: Path) -> Outcome | None:
    with contextlib.suppress(FileNotFoundError):
        try:
            return _parsed(read_json(file))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("%s is passed over: %s", file, error)
    return None


def _plain(outcome: Outcome) -> dict[str, Any]:
    summary = asdict(outcome.summary) | {
        "plots": {
            name: base64.b64encode(png).decode("ascii")
            for name, png in outcome.summary.plots.items()
        },
        "paths": {name: str(path) for name, path in outcome.summary.paths.items()},
    }
    return {"began_s": outcome.began_s, "ended_s": outcome.ended_s, "summary": summary}


def _parsed(plain: Mapping[str, Any]) -> Outcome:
    summary = plain["summary"]
    plots = {name: base64.b64decode(png) for name, png in summary["plots"].items()}
    paths = {name: Path(path) for name, path in summary["paths"].items()}
    relations = [
        Relation(**{**each, "columns": [Column(**column) for column in each["columns"]]})
        for each in summary["relations"]
    ]
    read = Summary(**{**summary, "plots": plots, "paths": paths, "relations": relations})
    ended_s = float(plain["ended_s"])
    # Older versions did not keep when a step began.
    return Outcome(read, float(plain.get("began_s", ended_s)), ended_s)
