"""What a step takes of the process that it runs in, and how that grows with the collection.

Belongs here: measuring steps one by one, each in a process of its own, and the table of several
collections beside each other. Does not: the steps (``scale``, ``afterwards``).
"""

import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastdino.bench.table import in_a_process, peak_memory_mb
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.progress import progress
from fastdino.core.terminal import print_table

# Gets ready up to its first ``yield``, and is measured from there on. What is between one ``yield``
# and the next is one go, of which it may have several.
Step = Callable[[Home, int], Iterator[None]]
# What the kernel says of a process; there is none on a Mac.
WRITTEN = Path("/proc/self/io")


@dataclass(frozen=True)
class Took:
    """What one go of a step took.

    Attributes:
        seconds: of wall time, the median of all goes.
        core_seconds: that its process computed, without what others did for it; on average.
        peak_mb: memory that the process had at most, with what it needs before it begins.
        written_mb: that it sent to the disk in all goes; None where that is not known.
    """

    seconds: float
    core_seconds: float
    peak_mb: float
    written_mb: float | None


def expect_disk(folder: Path, needed: int, n_songs: int, command: str) -> None:
    """Whether there is room for ``needed`` bytes in a temporary folder.

    Args:
        folder: where to work.
        needed: bytes, at most.
        n_songs: that take so much.
        command: that measures fewer.

    Raises:
        UserError: there is not.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{n_songs:,} songs take up to {needed / 1e9:.1f} GB in {folder.parent}, where "
            f"{free / 1e9:.1f} GB are free: set TMPDIR to a folder with more, or measure fewer: "
            f"fastdino bench {command}"
        )


def measure(
    home: Home, n_songs: int, steps: Mapping[str, Step]
) -> Iterator[tuple[str, Took | None]]:
    """Take each step, in a process of its own; yields its name and what it took.

    That is None where the system ended the process, as it does where memory runs out.
    """
    with progress(f"{n_songs:,} songs", len(steps), "steps") as shown:
        for name, step in steps.items():
            shown.advance(0, note=name)
            try:
                took = in_a_process(_took, step, home, n_songs)
            except BrokenProcessPool:
                took = None
            shown.advance()
            yield name, took


def _took(step: Step, home: Home, n_songs: int) -> Took:
    goes = step(home, n_songs)
    next(goes)
    seconds = []
    computed, written = _core_seconds(), _written_mb()
    ended = False
    while not ended:
        start = time.perf_counter()
        ended = next(goes, StopIteration) is StopIteration
        seconds.append(time.perf_counter() - start)
    return Took(
        float(np.median(seconds)),
        (_core_seconds() - computed) / len(seconds),
        peak_memory_mb(),
        None if written is None else (_written_mb() or 0) - written,
    )


def _core_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _written_mb() -> float | None:
    if not WRITTEN.exists():
        return None
    said = dict(line.split(": ") for line in WRITTEN.read_text().splitlines())
    return int(said["write_bytes"]) / 1e6


def show(title: str, found: Mapping[int, Mapping[str, Took | None]], steps: Sequence[str]) -> None:
    """Print a table: a line for each step, columns for each number of songs."""
    from rich.console import Console
    from rich.table import Table

    table = Table("step", title=title, title_justify="left")
    for n_songs in found:
        table.add_column(f"{n_songs:,} songs", justify="right")
    if len(found) > 1:
        table.add_column("grows as", justify="right")
    for name in steps:
        cells = [_cell(of[name]) if name in of else "" for of in found.values()]
        growth = [_growth({n: of.get(name) for n, of in found.items()})] if len(found) > 1 else []
        table.add_row(name, *cells, *growth)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    print_table(console, table)
    console.print(
        "Seconds, those of a core that were computed, MB of memory at most (with the interpreter "
        "and its libraries), and MB written."
    )


def _cell(took: Took | None) -> str:
    if took is None:
        return "ended by the system"
    written = "" if took.written_mb is None else _figure(took.written_mb)
    figures = f"{_figure(took.core_seconds):>6} {took.peak_mb:6,.0f} {written:>6}"
    return f"{_figure(took.seconds)} s {figures}"


def _figure(value: float) -> str:
    return f"{value:,.{3 if value < 0.1 else 2 if value < 1 else 1 if value < 10 else 0}f}"


def _growth(found: Mapping[int, Took | None]) -> str:
    """The power of the number of songs that what was computed grows with."""
    seconds = {n: max(took.core_seconds, 1e-4) for n, took in found.items() if took}
    if len(seconds) < 2:
        return ""
    power: Any = np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0]
    return f"N^{power:.2f}"
