"""Small pictures of the map and of its past, for Dagster's pages.

Belongs here: drawing them, each on its own light ground so that it can be read on a dark page too.
Does not: computing what they show; the page, which draws for itself.
"""

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from fastdino.reports.palette import NONE, color

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GROUND, INK = "#fbfbfa", "#20242c"
# Panels of the past: title, and its lines by column and name.
PANELS = (
    ("Songs", (("songs", "on the map"), ("new_songs", "new"), ("gone_songs", "gone"))),
    (
        "How true it is",
        (("neighbor_recall", "neighbours kept"), ("trustworthiness", "trustworthiness")),
    ),
    (
        "How far it moved",
        (("median_movement", "median movement"), ("procrustes_distance", "Procrustes distance")),
    ),
    (
        "Clusters",
        (("same_cluster_share", "songs that stayed in theirs"), ("noise_share", "songs in none")),
    ),
)


def of_map(positions: np.ndarray, labels: np.ndarray, names: dict[int, str]) -> bytes:
    """A map, coloured by group; PNG.

    Args:
        positions: [n, 2].
        labels: group of each song, -1 for none, [n].
        names: what to write on the largest groups.
    """
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    figure = Figure(figsize=(8, 5.6), dpi=110, facecolor=GROUND)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.margins(0.12, 0.06)  # names are wide
    size = float(np.clip(6_000 / max(len(positions), 1), 3, 60))
    order = np.argsort(labels, kind="stable")
    colors = [color(int(label)) for label in labels[order]]
    across, up = positions[order].T
    axes.scatter(across, up, s=size, c=colors, alpha=0.85, linewidths=0)
    extent = np.ptp(positions, axis=0).max() or 1.0
    named: list[tuple[float, float]] = []
    for group in sorted(names, key=lambda group: -(labels == group).sum()):
        x, y = np.median(positions[labels == group], axis=0)
        if any(abs(x - a) < 0.25 * extent and abs(y - b) < 0.04 * extent for a, b in named):
            continue  # it would cover the name of a larger one
        named.append((x, y))
        text = names[group] if len(names[group]) <= 32 else names[group][:31] + "…"
        axes.text(
            x, y, text, fontsize=8, ha="center", va="center", color=INK, parse_math=False,
            path_effects=[withStroke(linewidth=2.5, foreground=GROUND)],
        )  # fmt: skip
    return png(figure)


def of_history(history: pl.DataFrame) -> bytes:
    """What is known of all maps of a model, from left to right; PNG.

    Args:
        history: as ``map_files.RECORDS`` has it. Maps that were laid out anew are marked by a line.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 5.6), dpi=110, facecolor=GROUND)
    numbers = np.arange(1, len(history) + 1)
    refits = numbers[(history["drawn_by"] != "transform").to_numpy()]
    for axes, (title, lines) in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
        axes.set_facecolor(GROUND)
        for refit in refits:
            axes.axvline(refit, color=NONE, linewidth=0.8, alpha=0.35)
        for i, (column, name) in enumerate(lines):
            values = history[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
            axes.plot(numbers, values, "o-", color=color(i), markersize=3, label=name)
        axes.set_title(title, fontsize=9, color=INK, loc="left")
        axes.set_ylim(bottom=0)
        if lines[0][0] in ("neighbor_recall", "same_cluster_share"):
            axes.set_ylim(0, 1.05)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(labelsize=8, colors=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=7, frameon=False, labelcolor=INK)
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.1, top=0.95, wspace=0.15, hspace=0.25)
    about = "maps, oldest to newest; grey lines: all songs were laid out"
    figure.text(0.52, 0.02, about, fontsize=8, color=INK, ha="center")
    return png(figure)


def png(figure: "Figure") -> bytes:
    """The drawn picture as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    picture = io.BytesIO()
    with warnings.catch_warnings():
        # A title in a script that the font lacks shows as boxes here; the page shows it right.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()
