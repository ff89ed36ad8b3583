"""What a GPU does with the recipes, within ten minutes.

Belongs here: running the parts (``gpu_parts``) in a process that is ended when its time is up, and
printing and writing what came out. Does not: measuring; torch, which only that process loads; what
the tables hold (``gpu_tables``).

Whatever happens to a part, such as a driver that hangs or a process that crashes, is a line of the
result, and the next part goes on in a new process.
"""

import contextlib
import dataclasses
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from fastdino.bench.gpu_tables import PARTS, Figures, Result, about, skipped, tables
from fastdino.core.home import Home
from fastdino.core.progress import progress
from fastdino.core.storage import atomic_replace, write_json
from fastdino.core.terminal import print_table

# Seconds for ending all and writing; for the last measurement of a part beyond its time; for a new
# process to load torch and find the device; and for it to end.
SPARE_S, GRACE_S, START_S, END_S = 10, 30, 120, 3
LOG = "gpu.log"
WIDTH = 80


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
    for name, value in about(result).items():
        console.print(f"{name}: {value}", markup=False)
    for table in tables(result):
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
    for each in skipped(result):
        console.print(f"not measured: {each}", markup=False)
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
    device = about(result)
    figures = [dataclasses.asdict(each) for each in result.figures]
    write_json(home.bench / "gpu.json", {"about": device, "figures": figures})
    lines = ["# fastdino bench gpu", "", *(f"- {name}: {device[name]}" for name in device), ""]
    for table in tables(result):
        lines += [f"## {table.title}", ""]
        cells = [tuple(map(_unbroken, table.columns))]
        cells += [("---", *["---:"] * (len(table.columns) - 1)), *table.rows]
        lines += ["| " + " | ".join(each.replace("|", "/") for each in row) + " |" for row in cells]
        lines += ["", *([table.note, ""] if table.note else [])]
    if missing := skipped(result):
        lines += ["## Not measured", "", *(f"- {each}" for each in missing), ""]
    with atomic_replace(home.bench / "gpu.md") as part:
        part.write_text("\n".join(lines), encoding="utf-8")


def _unbroken(column: str) -> str:
    return column.replace("-\n", "").replace("\n/", "/").replace("\n", " ")
