"""What a comparison found, as pictures: quality over time, collapse, what one position sees.

Belongs here: drawing them with matplotlib, for docs, Dagster and the terminal's folder of figures.
Does not: the figures of the page, which it draws itself (``comparison.html``); means and spreads
(``table``).
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from fastdino.reports.palette import NONE
from fastdino.reports.pictures import png
from fastdino.research.table import ARMS, MEASURES, Arm, Measure, arms, table
from fastdino.spectrograms import SpectrogramSettings
from fastdino.training.settings import EncoderSettings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of a line, as matplotlib draws what plotly calls by these names.
DASHES = {
    "dash": (0, (6, 3)),
    "longdash": (0, (10, 3)),
    "dot": (0, (1, 2)),
    "dashdot": (0, (6, 2, 1, 2)),
}
INK, SOFT, LINE = "#1d2129", "#626875", "#dfe1e6"
# Points of a drawn training curve: a run logs thousands, of which a screen shows hundreds.
CURVE_POINTS = 120
# Of the song that a crop is shown in.
SONG_S = 200.0
# Draws that the influence on one output position is averaged over.
DRAWS = 32


def quality_figure(results: pl.DataFrame, subset: str = "all") -> bytes:
    """Artist 1-NN and artist mAP over minutes of training; PNG.

    Lines are means over seeds, bands one standard deviation, dots single seeds; floors and
    vectors from elsewhere, which are not trained, are levels. Ablations are left to the table.
    """
    from matplotlib.figure import Figure

    single = results.filter(pl.col("subset") == subset, pl.col("kind") != "ablation")
    means = table(single, subset)
    figure = Figure(figsize=(10, 4.2), dpi=160, facecolor="white")
    panels = figure.subplots(1, 2, gridspec_kw={"wspace": 0.74})
    shown = (m for m in MEASURES if m.key in ("artist_1nn", "artist_map"))
    for axes, measure in zip(panels, shown, strict=True):
        _draw_quality(axes, measure, means, single)
    figure.subplots_adjust(left=0.045, right=0.825, bottom=0.13, top=0.91)
    return png(figure)


def _draw_quality(
    axes: "Axes", measure: Measure, means: pl.DataFrame, single: pl.DataFrame
) -> None:
    budgets = means.filter(pl.col("minutes") > 0)["minutes"].unique().sort().to_list() or [1.0]
    axes.set_xscale("log")
    axes.set_xlim(budgets[0] / 1.13, budgets[-1] * 1.13)
    axes.set_xticks(budgets, [f"{minutes:g}" for minutes in budgets])
    axes.minorticks_off()
    ends: list[tuple[Arm, float, float]] = []
    for arm in arms(means):
        own = means.filter(pl.col("arm") == arm.name).drop_nulls(measure.key)
        if own.is_empty():
            continue
        x, y = own["minutes"].to_numpy(), own[measure.key].to_numpy()
        if not arm.trained:
            level = SOFT if arm.kind == "floor" else arm.color
            axes.axhline(y[0], color=level, linestyle=DASHES[arm.dash], linewidth=1.3, zorder=1)
            ends.append((arm, axes.get_xlim()[1], y[0]))
            continue
        spread = own[f"{measure.key}_sd"].fill_null(0).to_numpy()
        if len(x) > 1:
            axes.fill_between(x, y - spread, y + spread, color=arm.color, alpha=0.16, linewidth=0)
        else:
            axes.errorbar(x, y, spread, color=arm.color, linewidth=1.5)
        runs = single.filter(pl.col("arm") == arm.name)
        axes.plot(runs["minutes"], runs[measure.key], ".", color=arm.color, alpha=0.5, markersize=4)
        axes.plot(
            x, y, color=arm.color, linewidth=2.6 if arm.kind == "ours" else 1.9, marker=arm.marker,
            markersize=6.5, markeredgecolor="white", markeredgewidth=1, zorder=3,
        )  # fmt: skip
        ends.append((arm, x[-1], y[-1]))
    axes.margins(y=0.06)
    axes.set_title(measure.name, loc="left", fontsize=12, fontweight="bold", color=INK)
    axes.set_xlabel("minutes of training, wall time", fontsize=10, color=SOFT)
    _name_ends(axes, ends)
    _bare(axes)


def _name_ends(axes: "Axes", ends: Sequence[tuple[Arm, float, float]]) -> None:
    """Write each arm's name to the right of where its line ends, none over another."""
    from scipy.optimize import isotonic_regression

    if not ends:
        return
    low, high = axes.get_ylim()
    ends = sorted(ends, key=lambda end: end[2])
    # Heights that are nearest to the wanted ones and at least one line of text apart.
    apart = 0.062 * (high - low) * np.arange(len(ends))
    heights = isotonic_regression([y for _, _, y in ends] - apart).x + apart
    heights = heights.clip(low + apart, high - apart[::-1])
    for (arm, x, y), height in zip(ends, heights, strict=True):
        axes.annotate(
            arm.label, (x, y), (1.07, (height - low) / (high - low)), textcoords="axes fraction",
            va="center", fontsize=9, color=SOFT if arm.kind == "floor" else INK,
            fontweight="bold" if arm.kind == "ours" else "normal", annotation_clip=False,
            parse_math=False,  # people name peers as they like
            arrowprops={
                "arrowstyle": "-", "color": arm.color, "linewidth": 1, "relpos": (0, 0.5),
                "shrinkA": 1, "shrinkB": 4 if arm.trained else 0,
            },
        )  # fmt: skip


def collapse_figure(curves: Mapping[str, Sequence[Sequence[Mapping[str, float]]]]) -> bytes:
    """Effective rank of a batch, and loss, over seconds of training; PNG.

    Thick lines are means over seeds, thin ones single runs. Losses of different methods have
    different scales: each is drawn as a share of what it was at the start.

    Args:
        curves: of each arm, by name, the logged rows of each of its runs (``read_curves``).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.9), dpi=160, facecolor="white")
    panels = figure.subplots(1, 2, gridspec_kw={"wspace": 0.16})
    titles = ("Effective rank of a batch", "Loss, as a share of its start")
    by_name = {arm.name: arm for arm in ARMS}
    for axes, logged, title in zip(panels, ("rank", "loss"), titles, strict=True):
        for name, runs in curves.items():
            arm = by_name.get(name) or Arm(name, "ablation", name)
            if logged == "loss":
                runs = [
                    [{**row, "loss": row["loss"] / (abs(run[0]["loss"]) or 1.0)} for row in run]
                    for run in runs
                ]
            for run in runs:
                axes.plot(*thinned(run, logged), color=arm.color, linewidth=0.8, alpha=0.35)
            every = list(itertools.chain(*runs))
            axes.plot(
                *thinned(every, logged), color=arm.color, label=arm.label, linewidth=2.2, zorder=3
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
        axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)
        axes.set_xlabel("seconds of training", fontsize=10, color=SOFT)
        _bare(axes)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, ncols=len(labels) or 1, frameon=False, fontsize=9.5, labelcolor=INK,
        loc="lower center",
    )  # fmt: skip
    figure.subplots_adjust(left=0.05, right=0.985, bottom=0.24, top=0.91)
    return png(figure)


def thinned(rows: Sequence[Mapping[str, float]], figure: str) -> tuple[np.ndarray, np.ndarray]:
    """A logged figure over seconds, averaged within stretches that grow with the time passed."""
    seconds = np.array([row["elapsed_s"] for row in rows]).clip(0.1)
    values = np.array([row[figure] for row in rows])
    edges = np.geomspace(seconds.min(), seconds.max(), CURVE_POINTS + 1)
    stretch = np.searchsorted(edges[1:-1], seconds, side="right")
    _, stretch, sizes = np.unique(stretch, return_inverse=True, return_counts=True)
    return np.bincount(stretch, seconds) / sizes, np.bincount(stretch, values) / sizes


def influence(encoder: EncoderSettings, n_frames: int) -> np.ndarray:
    """How much each input frame moves the middle output position of an untrained encoder.

    Measured by gradients: of random directions of that position's features with respect to random
    frames.

    Returns:
        ``[n_frames]``, 1 where it is greatest, exactly 0 outside the receptive field.
    """
    import torch

    from fastdino.training.encoder import Encoder

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Encoder(encoder)
        frames = torch.randn(DRAWS, n_frames, encoder.n_mels, requires_grad=True)
        features = network(frames)
        position = features[:, features.shape[1] // 2]
        (gradient,) = torch.autograd.grad(position, frames, torch.randn_like(position))
    strength = gradient.square().mean((0, 2)).sqrt().numpy()
    return np.asarray(strength / strength.max())


def receptive_field_figure(encoder: EncoderSettings, crop_s: float) -> bytes:
    """What one output position sees: within the crop, and beside the song it has to know; PNG.

    The curve is measured (``influence``), not drawn from the formula.

    Args:
        encoder: the network's shape.
        crop_s: seconds of a training crop.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Polygon

    frames_per_s = SpectrogramSettings().frames_per_s
    n_frames = round(crop_s * frames_per_s)
    strength = influence(encoder, n_frames)
    seen = np.flatnonzero(strength)
    first, last = seen[0] / frames_per_s, (seen[-1] + 1) / frames_per_s
    seconds = (seen + 0.5) / frames_per_s
    # In powers of ten: most of the weight of an untrained network is central.
    powers = np.log10(strength[seen]).clip(-8)
    ours, start = ARMS[0].color, 0.3 * SONG_S

    figure = Figure(figsize=(10, 4.2), dpi=160, facecolor="white")
    song, crop = figure.subplots(2, 1, gridspec_kw={"height_ratios": (1, 6.5), "hspace": 0.3})
    song.barh(0, SONG_S, color="#eceef2")
    song.barh(0, crop_s, left=start, color=ours, alpha=0.3)
    song.barh(0, last - first, left=start + first, color=ours)
    song.set(xlim=(0, SONG_S), ylim=(-0.4, 0.4))
    song.text(SONG_S, 0, f"{SONG_S:g} s  ", ha="right", va="center", fontsize=10, color=SOFT)
    song.set_axis_off()
    _head(song, "The song that every position has to find among others", 1.25)

    for shift in (-0.3, -0.15, 0.15, 0.3):
        crop.fill_between(seconds + shift * crop_s, -8, powers, color=NONE, alpha=0.13, linewidth=0)
    crop.fill_between(seconds, -8, powers, color=ours, alpha=0.25, linewidth=0)
    crop.plot(seconds, powers, color=ours, linewidth=1.6)
    positions = (np.arange(n_frames // encoder.stride) + 0.5) * encoder.stride / frames_per_s
    crop.plot(positions, np.full(len(positions), -8.55), "|", color=NONE, markersize=6)
    crop.plot((first + last) / 2, -8.55, "o", color=ours, markersize=7)
    crop.plot([first, last], [0.6, 0.6], "|-", color=ours, markersize=8, mew=1.6, linewidth=1.6)
    crop.text(
        (first + last) / 2, 1.2, f"one position sees {last - first:.1f} s", ha="center",
        fontsize=10, color=INK,
    )  # fmt: skip
    crop.set(xlim=(0, crop_s), ylim=(-9.1, 3.4))
    crop.set_yticks([-8, -6, -4, -2, 0], ["10⁻⁸", "10⁻⁶", "10⁻⁴", "10⁻²", "1"])
    _head(crop, f"A crop of {crop_s:g} s: {len(positions)} positions, each a local view", 0.91)
    crop.set_xlabel("seconds of the crop", fontsize=10, color=SOFT)
    crop.set_ylabel("influence, untrained", fontsize=10, color=SOFT, y=0.35)
    _bare(crop)
    figure.subplots_adjust(left=0.07, right=0.985, bottom=0.12, top=0.92)
    # From the crop's place in the song to the crop.
    corners = [
        *song.transData.transform([(start, -0.4), (start + crop_s, -0.4)]),
        *crop.transAxes.transform([(1, 1), (0, 1)]),
    ]
    funnel = figure.transFigure.inverted().transform(corners)
    figure.add_artist(Polygon(funnel, color=ours, alpha=0.08, linewidth=0))
    return png(figure)


def _head(axes: "Axes", text: str, height: float) -> None:
    axes.text(
        0, height, text, transform=axes.transAxes, fontsize=11, fontweight="bold", color=INK
    )  # fmt: skip


def _bare(axes: "Axes") -> None:
    """Leave of the frame what is read: a grid along y and the base line."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.grid(axis="y", color=LINE, linewidth=0.7)
    axes.tick_params(which="both", labelcolor=SOFT, labelsize=9.5, length=0)
    axes.set_axisbelow(True)
