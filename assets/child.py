"""The child process that Dagster starts for an asset: ``python -m assets.child``.

Belongs here: the child's end of the pipe, that is, its log, its result, its end. Does not: the
work, which is that of ``fastdino.steps``; anything that imports Dagster itself, which
would cost each child, and each of its workers, seconds.
"""

import base64
import io
import logging
import math
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from dagster_pipes import PipesContext, open_dagster_pipes

from fastdino import __version__
from fastdino.core import storage
from fastdino.core.errors import UserError, readable_errors
from fastdino.core.home import Home
from fastdino.core.outcomes import Outcome
from fastdino.core.summary import Relation, Scalar, Summary
from fastdino.core.text import OneLineFormatter, one_line, runnable
from fastdino.steps import data_version, made, perform

log = logging.getLogger("fastdino.child")

GRACE_S = 30.0
# When the last of an asset's steps ended, among what Dagster shows with it.
ENDED = "ended"
PLOT_WIDTH = 960  # pixels


class PipesHandler(logging.Handler):
    """Sends log records to Dagster, where they appear in the run's log as they come."""

    def __init__(self, pipes: PipesContext) -> None:
        super().__init__()
        self.setFormatter(OneLineFormatter())
        self.pipes = pipes

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record, with its traceback where it has one."""
        try:
            if not self.pipes.is_closed:
                self.pipes.log.log(record.levelno, "%s", self.format(record))
        except Exception:  # such as a full disk: no log line is worth a failed step
            self.handleError(record)


def main() -> int:
    """Run the steps that Dagster asked for; returns the exit code.

    A failure is reported through the pipe and ends with 0, so that Dagster shows its message and
    not "failed with code 1"; other codes are left to what no one can report, such as a kill.
    """
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, _interrupt)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    with open_dagster_pipes() as pipes:
        printed = logging.StreamHandler()
        printed.setFormatter(OneLineFormatter("%(asctime)s %(name)s: %(message)s"))
        logging.basicConfig(level=logging.WARNING, handlers=[printed])
        logging.getLogger("fastdino").setLevel(logging.INFO)
        logging.getLogger("fastdino").addHandler(PipesHandler(pipes))
        try:
            done = together(run(pipes.extras))
            pipes.report_asset_materialization(done, data_version_of(pipes.extras))
        except UserError as error:
            report_failure(pipes, one_line(runnable(str(error))), retry=False)
        except Exception as error:
            traceback.print_exc()
            report_failure(pipes, "".join(traceback.format_exception_only(error)), retry=True)
        except KeyboardInterrupt:
            log.warning("interrupted; the next run goes on from here")
            return 130
    return 0


def report_failure(pipes: PipesContext, message: str, *, retry: bool) -> None:
    """Tell Dagster why there is no result, and whether trying again may help."""
    # What a person can mend is said in the message; a traceback would only hide it.
    shown = {"traceback": traceback.format_exc()} if retry else {}
    pipes.report_custom_message({"message": message.strip(), "retry": retry, "metadata": shown})


def run(extras: Mapping[str, Any]) -> list[Outcome]:
    """Run ``extras["steps"]`` on ``extras["home"]``, one after the other.

    Each is a pair of the step's name and its options, as ``fastdino.steps.made`` takes them.

    Raises:
        UserError: a step raised it, or Dagster is of another version.
    """
    if extras["version"] != __version__:
        raise UserError(
            f"{socket.gethostname()}, where the step was sent, has fastdino {__version__} where "
            f"Dagster has {extras['version']}: install the same everywhere"
        )
    os.environ.update(extras.get("settings", {}))
    home, done = Home(Path(extras["home"])), []
    with readable_errors(home.root):
        storage.mount(home.root)
        # All of them before the first: what is wrong with the last one's options is told at once.
        chosen = [made(name, options) for name, options in extras["steps"]]
        storage.take_in(home.root)
        for step in chosen:
            outcome = perform(step, home)
            if outcome is None:
                continue
            log.info("%s", outcome.summary.headline)
            for warning in outcome.summary.warnings:
                log.warning("%s", warning)
            done.append(outcome)
    return done


def data_version_of(extras: Mapping[str, Any]) -> str | None:
    """The version of what the steps ``extras["leaves"]`` leave behind; None if that is nothing."""
    home = Home(Path(extras["home"]))
    with readable_errors(home.root):
        return data_version(home, extras["leaves"])


def together(done: Sequence[Outcome]) -> dict[str, Any]:
    """What Dagster shows of several steps: all that any says, the first where two say it."""
    shown: dict[str, Any] = {}
    warnings: list[str] = []
    for summary in (outcome.summary for outcome in done):
        warnings += map(one_line, map(runnable, summary.warnings))
        shown = {**metadata(summary), **shown}
    shown["did work"] = _typed("bool", any(outcome.summary.did_work for outcome in done))
    if done:
        shown[ENDED] = _typed("timestamp", max(outcome.ended_s for outcome in done))
    if warnings:
        shown["warnings"] = _typed("text", "\n".join(warnings))
    # Tables are last, for they are shown in full length.
    return dict(sorted(shown.items(), key=lambda item: item[0].endswith("(table)")))


def metadata(summary: Summary) -> dict[str, Any]:
    """What Dagster shows with the materialisation: figures, tables, plots and paths."""
    shown: dict[str, Any] = {
        "summary": _typed("text", one_line(runnable(summary.headline))),
        "did work": _typed("bool", summary.did_work),
    }
    if summary.warnings:
        shown["warnings"] = _typed(
            "text", "\n".join(map(one_line, map(runnable, summary.warnings)))
        )
    shown |= {name: _figure(value) for name, value in summary.counts.items()}
    # Said in the label, for a stage may well have a figure, a table and a path of one name.
    for name, png in summary.plots.items():
        image = base64.b64encode(_fitting(png)).decode("ascii")
        shown[f"{name} (plot)"] = _typed("md", f"![{name}](data:image/png;base64,{image})")
    shown |= {f"{name} (path)": _typed("path", str(path)) for name, path in summary.paths.items()}
    # Last, for they are shown in full length.
    shown |= {f"{name} (table)": _table(rows) for name, rows in summary.tables.items() if rows}
    return shown | _relations(summary.relations)


def _relations(relations: Sequence[Relation]) -> dict[str, Any]:
    """Under Dagster's own names what the first relation is; a table of all, and their columns."""
    if not relations:
        return {}
    first = relations[0]
    rows: list[dict[str, Scalar]] = [
        {"table": each.name, "rows": each.rows, "means": each.means} for each in relations
    ]
    columns = {f"{each.name} (columns)": _columns(each) for each in relations[1:]}
    return {
        "dagster/table_name": _typed("text", first.name),
        "dagster/row_count": _typed("int", first.rows),
        "dagster/column_schema": _columns(first),
        **columns,
        "tables (table)": _table(rows),
    }


def _columns(relation: Relation) -> dict[str, Any]:
    columns = [
        {"name": each.name, "type": each.type, "description": each.means}
        for each in relation.columns
    ]
    return _typed("table_schema", {"columns": columns})


def _typed(kind: str, value: Any) -> dict[str, Any]:
    return {"type": kind, "raw_value": value}


def _figure(value: Scalar) -> dict[str, Any]:
    match value:
        case bool():
            return _typed("bool", value)
        case int():
            return _typed("int", value)
        case float() if math.isfinite(value):
            return _typed("float", _rounded(value))
        case str():
            return _typed("text", one_line(runnable(value)))
        case _:
            return _typed("text", "–" if value is None else str(value))


def _rounded(value: float) -> float:
    """What a person reads of a figure: four digits, and no less than its whole part."""
    return float(f"{value:.4g}") if abs(value) < 1000 else float(round(value))


def _table(rows: Sequence[Mapping[str, Scalar]]) -> dict[str, Any]:
    # A table of Dagster's own, not Markdown: tags come from strangers' files and need no escaping.
    def cell(value: Scalar) -> Scalar:
        return value if isinstance(value, bool | int | str) else _figure(value)["raw_value"]

    def kind(name: str) -> str:
        values = [row[name] for row in rows if row[name] is not None]
        numbers = all(isinstance(value, int | float) for value in values)
        return "float" if values and numbers else "string"

    return _typed(
        "table",
        {
            "schema": [{"name": name, "type": kind(name)} for name in rows[0]],
            "records": [{name: cell(value) for name, value in row.items()} for row in rows],
        },
    )


def _fitting(png: bytes) -> bytes:
    """A picture no wider than Dagster's dialog, which would cut it off."""
    from PIL import Image

    picture, fitting = Image.open(io.BytesIO(png)), io.BytesIO()
    picture.thumbnail((PLOT_WIDTH, PLOT_WIDTH))
    picture.save(fitting, "PNG")
    return fitting.getvalue()


def _interrupt(signum: int, frame: FrameType | None) -> None:
    # Ctrl-C reaches the whole process group and Dagster forwards it as well: once is enough, a
    # second KeyboardInterrupt would break off the first one's cleaning up after the workers.
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end_with(parent: int) -> None:
    # A run that is killed outright cannot tell its child to stop; without this the child would
    # go on writing beside the next run's.
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
