"""Speed and memory, each measured beside what it is compared to, in one run.

Belongs here: the shape of a measurement, the table, and what a process has taken so far. Does not:
measuring, which every stage does in a ``bench`` module of its own. Nothing here fails because a
machine is slow.
"""

import multiprocessing
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.terminal import print_table

T = TypeVar("T")

# There is none on a Mac.
STATUS = Path("/proc/self/status")
PARTS = ("spectrograms", "training", "embeddings")


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        measure: what was measured, such as "MP3 to frames, one core".
        ours: what we reach.
        unit: of ``ours`` and ``theirs``.
        compared_to: what ``theirs`` is, such as "ffmpeg program + one STFT".
        theirs: what that reaches in the same run; None where there is nothing to compare with.
        target: what is aimed at, such as ">= 350, ratio >= 1.7".
    """

    measure: str
    ours: float
    unit: str
    compared_to: str = ""
    theirs: float | None = None
    target: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over theirs."""
        return self.ours / self.theirs if self.theirs else None


def peak_memory_mb() -> float:
    """The most memory that this process has had so far."""
    import resource

    # What the system keeps of a process goes on from that which started it.
    if STATUS.exists():
        peak = next(line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(peak.split()[1]) * 1024 / 1e6
    # In bytes on a Mac, in kibibytes elsewhere.
    peak_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_rss * (1 if sys.platform == "darwin" else 1024) / 1e6


def core_seconds() -> float:
    """What this process, and those it started that have ended, have computed so far."""
    import resource

    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def in_a_process(function: Callable[..., T], *given: Any) -> T:
    """What a function returns in a process of its own, so that its memory is that of it alone."""
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawned) as pool:
        return pool.submit(function, *given).result()


def main(home: Home, parts: Sequence[str]) -> int:
    """Measure the named parts (all by default), print a table; returns the exit code.

    Raises:
        UserError: there is no such part.
    """
    from rich.console import Console
    from rich.table import Table

    for part in parts:
        if part not in PARTS:
            raise UserError(f"there is no part {part!r} to measure: name any of {', '.join(PARTS)}")
    table = Table("measure", title="fastdino bench", title_justify="left")
    for column in ("ours", "theirs", "ratio"):
        table.add_column(column, justify="right")
    for column in ("unit", "compared to", "target"):
        table.add_column(column)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 132)
    for part in parts or PARTS:
        with console.status(f"measuring {part}"):
            for row in import_module(f"fastdino.bench.{part}").rows():
                figures = [_number(row.ours), _number(row.theirs), _number(row.ratio)]
                table.add_row(row.measure, *figures, row.unit, row.compared_to, row.target)
        table.add_section()
    print_table(console, table)
    return 0


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
