"""What a GPU does with the recipes, within ten minutes.

Belongs here: running the parts (``gpu_parts``) in a process that is ended when its time is up, and
the tables and files of what came out. Does not: measuring; torch, which only that process loads.

Whatever happens to a part, such as a driver that hangs or a process that crashes, is a line of the
result, and the next part goes on in a new process.
"""

import contextlib
import dataclasses
import logging
import multiprocessing
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path

from fastdino import __version__
from fastdino.bench.roofline import CARDS, step_cost
from fastdino.core.home import Home
from fastdino.core.progress import progress
from fastdino.core.storage import atomic_replace, write_json
from fastdino.core.terminal import print_table
from fastdino.core.text import one_line
from fastdino.spectrograms import SpectrogramSettings
from fastdino.training.settings import PRESETS

# The parts and the seconds that each may take, the most telling ones first.
PARTS = {
    "peaks": 60,
    "presets": 180,
    "real shards": 120,
    "CUDA graphs": 120,
    "quality": 180,
    "kernels": 120,
    "objectives": 150,
    "batch sizes": 600,
}
# Seconds for ending all and writing; for the last measurement of a part beyond its time; for a new
# process to load torch and find the device; and for it to end.
SPARE_S, GRACE_S, START_S, END_S = 10, 30, 120, 3
LOG = "gpu.log"
WIDTH = 80
NOTHING = "–"
COLLECTION_HOURS = 750
TITLES = {
    "presets": "A step on made-up frames",
    "real shards": "A step on the home's own songs",
    "CUDA graphs": "The same step as a CUDA graph, on made-up frames",
    "objectives": "A step of every objective, on made-up frames",
    "batch sizes": "Batch sizes, on made-up frames",
}


@dataclass(frozen=True)
class Figures:
    """One measurement.

    Attributes:
        part: what it belongs to, see ``PARTS``.
        name: what was measured.
        values: what came out, by name; empty where nothing did.
        note: why nothing did, or what to know of it.
    """

    part: str
    name: str
    values: dict[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of text under a title.

    Attributes:
        title: what they are of.
        columns: their names; a line's end in one is kept where there is little room.
        rows: a text for each column.
        note: what to know of them.
    """

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


@dataclass
class Result:
    """All that came out so far.

    Attributes:
        about: the device and what drives it, by name.
        figures: in the order in which they came.
    """

    about: dict[str, str] = field(default_factory=dict)
    figures: list[Figures] = field(default_factory=list)


def main(home: Home, minutes: float) -> int:
    """Measure for at most so many minutes, print tables and write them; returns the exit code.

    ``gpu.json``, ``gpu.md`` and ``gpu.log`` are in the home's folder ``bench``, and hold what has
    been measured whenever this ends.
    """
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    deadline = time.monotonic() + 60 * minutes - SPARE_S
    home.bench.mkdir(parents=True, exist_ok=True)
    (home.bench / LOG).write_bytes(b"")
    result = Result()
    with progress("Measuring", len(PARTS), "parts") as shown:
        for part in _measure(home, deadline, result):
            _write(home, result)
            shown.advance(1, part)
    _write(home, result)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    for name, value in _about(result).items():
        console.print(f"{name}: {value}", markup=False)
    for table in _tables(result):
        drawn = RichTable(
            box=box.SIMPLE_HEAD, title=table.title, title_justify="left", padding=(0, 1, 0, 0)
        )
        for number, column in enumerate(table.columns):
            drawn.add_column(column, justify="right" if number else "left")
        for row in table.rows:
            drawn.add_row(*map(escape, row))
        print_table(console, drawn)
        if table.note:
            console.print(table.note + "\n", markup=False)
    for skipped in _skipped(result):
        console.print(f"not measured: {skipped}", markup=False)
    for name in ("gpu.md", "gpu.json", LOG):
        console.print(f"written: {home.bench / name}", markup=False, soft_wrap=True)
    return 0


def _measure(home: Home, deadline: float, result: Result) -> Iterator[str]:
    """Run all parts, whatever becomes of one; yields the name of each that is over."""
    waiting = list(PARTS)
    while waiting and time.monotonic() < deadline:
        with _process(home, waiting, deadline) as pipe:
            start_s, trouble = START_S, ""
            while waiting and not trouble:
                part = waiting.pop(0)
                most_s = PARTS[part] + GRACE_S + start_s
                trouble = _taken_in(pipe, min(deadline, time.monotonic() + most_s), result)
                if trouble:
                    result.figures.append(Figures(part, "what is left of it", note=trouble))
                start_s = 0
                yield part
    for part in waiting:
        result.figures.append(Figures(part, part, note="no time"))
        yield part


@contextlib.contextmanager
def _process(home: Home, parts: Sequence[str], deadline: float) -> Iterator[Connection]:
    """A process that measures, ended at the end of the block with all that it started."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="fastdino-bench-") as folder:
        made = (theirs, home, Path(folder), list(parts), deadline)
        process = context.Process(target=_serve, args=made)
        process.start()
        theirs.close()
        try:
            yield ours
            process.join(END_S)
        finally:
            ours.close()
            # The process is no leader of others before it has got so far, nor once it has ended.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.kill()
            process.join()


def _serve(
    pipe: Connection, home: Home, folder: Path, parts: Sequence[str], deadline: float
) -> None:
    os.setsid()  # so that what this process starts can be ended with it
    said = os.open(home.bench / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(said, 1)
    os.dup2(said, 2)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    from fastdino.bench import gpu_parts

    gpu_parts.serve(pipe, gpu_parts.Bench(home, folder), parts, deadline)


def _taken_in(pipe: Connection, until: float, result: Result) -> str:
    """Add the figures of one part; returns why some are missing."""
    while pipe.poll(max(0.0, until - time.monotonic())):
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            return f"its process ended, see {LOG}"
        if message is None:
            return ""
        if isinstance(message, Figures):
            result.figures.append(message)
        else:
            result.about = message
    return "its time was up"


def _write(home: Home, result: Result) -> None:
    """Write what there is so far."""
    about = _about(result)
    figures = [dataclasses.asdict(each) for each in result.figures]
    write_json(home.bench / "gpu.json", {"about": about, "figures": figures})
    lines = ["# fastdino bench gpu", "", *(f"- {name}: {about[name]}" for name in about), ""]
    for table in _tables(result):
        lines += [f"## {table.title}", ""]
        cells = [tuple(map(_unbroken, table.columns))]
        cells += [("---", *["---:"] * (len(table.columns) - 1)), *table.rows]
        lines += ["| " + " | ".join(each.replace("|", "/") for each in row) + " |" for row in cells]
        lines += ["", *([table.note, ""] if table.note else [])]
    if skipped := _skipped(result):
        lines += ["## Not measured", "", *(f"- {each}" for each in skipped), ""]
    with atomic_replace(home.bench / "gpu.md") as part:
        part.write_text("\n".join(lines), encoding="utf-8")


def _unbroken(column: str) -> str:
    return column.replace("-\n", "").replace("\n/", "/").replace("\n", " ")


def _about(result: Result) -> dict[str, str]:
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    return {**result.about, "fastdino": __version__, "Python": platform.python_version()} | {
        "date": now
    }


def _skipped(result: Result) -> list[str]:
    skipped = (each for each in result.figures if not each.values)
    return [f"{each.part}: {each.name} ({one_line(each.note)})" for each in skipped]


def _tables(result: Result) -> Iterator[Table]:
    """Everything that was measured, and what can be told beforehand."""
    measured = [each for each in result.figures if each.values]
    of = {part: [each for each in measured if each.part == part] for part in PARTS}
    peak = max((each.values.get("flops", 0.0) for each in of["peaks"]), default=0.0)
    for part, figures in of.items():
        if not figures:
            continue
        if part == "peaks":
            yield _peaks(figures)
        elif part == "quality":
            yield _quality(figures)
        elif part == "kernels":
            yield _kernels(figures)
        else:
            yield _steps(TITLES[part], figures, peak)
        if part == "presets":
            yield _passes(figures)
    yield paper()


def _peaks(figures: Sequence[Figures]) -> Table:
    rows = []
    for each in figures:
        flops, moved = each.values.get("flops"), each.values.get("bytes_per_s")
        rows.append((each.name, _number(flops, 1e12), _number(moved, 1e9)))
    return Table("What the device does at most", ("", "TFLOP/s", "GB/s"), rows)


def _steps(title: str, figures: Sequence[Figures], peak: float) -> Table:
    hours = figures[0].values["hours"]
    columns = (
        "", "ms", "crops\n/s", "TFLOP\n/s", "of\npeak", "draw-\ning", "opti-\nmiser", "GB",
        "com-\npiling",
    )  # fmt: skip
    rows = []
    for each in figures:
        values = each.values
        flops = values.get("flops")
        rows.append(
            (
                each.name,
                _number(values["step_s"], 1e-3),
                _number(values["crops_per_s"]),
                _number(flops, 1e12),
                _share(flops / peak if flops and peak else None),
                _share(values["drawing"]),
                _share(values["optimiser"]),
                _number(values.get("step_bytes"), 1e9),
                f"{values['compile_s']:.0f} s" if values["compile_s"] else NOTHING,
            )
        )
    return Table(f"{title}, {hours:,.3g} h", columns, rows)


def _passes(figures: Sequence[Figures]) -> Table:
    rows = [(each.name, _number(each.values["pass_s"])) for each in figures]
    return Table(f"One pass over {COLLECTION_HOURS} hours", ("", "seconds"), rows)


def _quality(figures: Sequence[Figures]) -> Table:
    rows = [
        (
            each.name,
            _number(each.values.get("training_s")),
            f"{each.values['artist_1nn']:.3f}",
            each.note,
        )
        for each in figures
    ]
    compile_s = max(each.values.get("compile_s", 0.0) for each in figures)
    said = f"Seconds of training; compiling, {compile_s:.0f} s, and evaluating are not counted."
    return Table("Time to quality", ("", "seconds", "artist\n1-NN", ""), rows, said)


def _kernels(figures: Sequence[Figures]) -> Table:
    rows = [
        (each.name, *(_number(each.values[name]) for name in ("learn", "optimise")))
        for each in figures
    ]
    columns = ("", "forward,\nbackward", "optimiser")
    return Table("Kernels a step (on a CPU: operations)", columns, rows)


def paper() -> Table:
    """What a step of each recipe takes at least, by what makers say of their cards."""
    rows = []
    for preset in ("cpu", "gpu"):
        cost = step_cost(PRESETS[preset], SpectrogramSettings().frames_per_s)
        for card in CARDS:
            computing, moving = cost.seconds(card)
            rows.append(
                (
                    f"{preset}, {card.name}",
                    _number(cost.flops + cost.other_flops, 1e9),
                    _number(cost.moved_bytes, 1e9),
                    _number(computing, 1e-3),
                    _number(moving, 1e-3),
                    "operations" if computing > moving else "memory",
                )
            )
    columns = ("", "GFLOP", "GB", "ms to\ncompute", "ms to\nmove", "bound by")
    said = "; ".join(
        f"{card.name} {card.flops / 1e12:.0f} TFLOP/s, {card.bytes_per_s / 1e12:.2f} TB/s"
        for card in CARDS
    )
    return Table("A step on paper", columns, rows, f"By their makers' figures: {said}.")


def _number(value: float | None, unit: float = 1.0) -> str:
    if value is None:
        return NOTHING
    scaled = value / unit
    return f"{scaled:,.0f}" if abs(scaled) >= 100 else f"{scaled:.3g}"


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{_number(100 * value)} %"
