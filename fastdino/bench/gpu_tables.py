"""What came out of ``fastdino bench gpu``, and the tables that it is shown in.

Belongs here: the parts that there are, their figures, the tables of those, and what a step takes on
paper. Does not: measuring (``gpu_parts``), or printing and writing (``gpu``); needs no torch.
"""

import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fastdino import __version__
from fastdino.bench.roofline import CARDS, step_cost
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
COLLECTION_HOURS = 750
NOTHING = "–"
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


def about(result: Result) -> dict[str, str]:
    """The device, and the programs it was measured with, by name."""
    programs = {"fastdino": __version__, "Python": platform.python_version()}
    return {**result.about, **programs, "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"}


def skipped(result: Result) -> list[str]:
    """What was not measured, and why, a line each."""
    found = (each for each in result.figures if not each.values)
    return [f"{each.part}: {each.name} ({one_line(each.note)})" for each in found]


def tables(result: Result) -> Iterator[Table]:
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
