"""Showing how far a long piece of work has come.

Belongs here: one progress display, a live bar on a terminal and a log line every few seconds
elsewhere (Dagster's log, a file, cron mail). Does not: what the work is.
"""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator

log = logging.getLogger(__name__)

LOG_EVERY_S = 10.0


class Progress:
    """Counts work done; made by ``progress()``."""

    def __init__(self, title: str, total: float, unit: str) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done = 0.0
        self.note = ""
        self._start = self._logged = time.monotonic()

    def advance(self, amount: float = 1, note: str = "") -> None:
        """Count ``amount`` more units as done; ``note`` is shown beside the count."""
        self.done += amount
        self.note = note or self.note
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._logged >= LOG_EVERY_S:
            self._logged = now
            rate = self.done / max(now - self._start, 1e-9)
            left = (self.total - self.done) / rate if rate else 0.0
            log.info(
                "%s: %.0f of %.0f %s, %.0f s left%s",
                self.title, self.done, self.total, self.unit, left, self.note and f", {self.note}",
            )  # fmt: skip


class _Bar(Progress):
    def __init__(self, title: str, total: float, unit: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        super().__init__(title, total, unit)
        self.bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=Console(stderr=True),
        )
        self.task = self.bar.add_task(title, total=total, note="")

    def _show(self) -> None:
        self.bar.update(self.task, completed=self.done, note=self.note)


@contextlib.contextmanager
def progress(title: str, total: float, unit: str) -> Iterator[Progress]:
    """Show work of ``total`` units, such as ``progress("Decoding", 120, "songs")``."""
    if sys.stderr.isatty():
        shown = _Bar(title, total, unit)
        with shown.bar:
            yield shown
    else:
        yield Progress(title, total, unit)
