"""What a comparison of training methods found: a table, pictures, a page.

Belongs here: names and order of methods ("arms") and measures, means and spreads over seeds,
drawing. Does not: training or measuring (``fastdino.research.compare``); how the page looks and
behaves, which is ``comparison.html``.

One row of results is one arm trained for so many minutes with one seed, judged on one subset of
the songs. A figure that could not be measured is null there and a dash here; a spread is shown
only where there are several seeds to have one.
"""

import io
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.storage import atomic_replace, exclusive_lock, read_json
from fastdino.core.summary import Scalar, Summary
from fastdino.page.page import render
from fastdino.reports.palette import NONE, color
from fastdino.spectrograms import SpectrogramSettings
from fastdino.training.settings import PRESETS, EncoderSettings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MISSING = "–"
SUBSETS = {"all": "All songs", "chosen on": "Artists chosen on", "held out": "Artists set aside"}
# Of a line, as matplotlib draws what plotly calls by these names.
DASHES = {"dash": (0, (6, 3)), "dot": (0, (1, 2)), "dashdot": (0, (6, 2, 1, 2))}
INK, SOFT, LINE = "#1d2129", "#626875", "#dfe1e6"
# Points of a drawn training curve: a run logs thousands, of which a screen shows hundreds.
CURVE_POINTS = 120
# Draws that the influence on one output position is averaged over.
DRAWS = 32


@dataclass(frozen=True)
class Measure:
    """One figure of the results.

    Attributes:
        key: its column.
        name: what people call it.
        digits: after the decimal point.
        better: 1 if more is better, -1 if less is, 0 if neither in itself.
        says: one sentence.
    """

    key: str
    name: str
    digits: int
    better: int
    says: str


MEASURES = (
    Measure(
        "artist_1nn",
        "Artist 1-NN",
        3,
        1,
        "Share of songs whose most similar song is by the same artist.",
    ),
    Measure(
        "artist_1nn_other_album",
        "Artist 1-NN, other album",
        3,
        1,
        "The same, with songs of the song's own album left out.",
    ),
    Measure(
        "artist_map",
        "Artist mAP",
        3,
        1,
        "How far up a song's list of similar songs those of its artist stand: mean average "
        "precision.",
    ),
    Measure(
        "label_knn",
        "Label kNN",
        3,
        1,
        "Share of songs whose label (genre) its ten most similar songs by other artists agree on.",
    ),
    Measure(
        "effective_rank",
        "Effective rank",
        1,
        1,
        "How many directions the vectors spread over; a few mean collapse.",
    ),
    Measure(
        "target_entropy",
        "Target entropy",
        3,
        0,
        "Entropy of the published method's targets, as a share of the greatest possible; at 0 all "
        "weight lies on one channel, at 1 it is even on all.",
    ),
    Measure(
        "alignment",
        "Alignment",
        3,
        -1,
        "Mean squared distance between stretches of one song, as unit vectors; low too after a "
        "collapse.",
    ),
    Measure(
        "uniformity",
        "Uniformity",
        2,
        -1,
        "How evenly songs spread over the sphere; 0 if all lie on one point, lower is more even.",
    ),
    Measure(
        "gain_invariance",
        "Gain invariance",
        3,
        1,
        "Similarity of a song and the same song played louder.",
    ),
    Measure(
        "eq_invariance",
        "EQ invariance",
        3,
        1,
        "Similarity of a song and the same song with other bass and treble.",
    ),
    Measure(
        "level_tilt_share",
        "Level and tilt share",
        3,
        -1,
        "Share of the vectors' variance that loudness and spectral tilt alone explain.",
    ),
)


@dataclass(frozen=True)
class Arm:
    """How an arm is shown.

    Attributes:
        name: in the results.
        kind: "ours", "baseline", "floor" or "ablation".
        label: what people call it.
        says: one sentence on what it is.
        color: ``#rrggbb``, the same in pictures and page, to be seen on white and on black.
        marker: of its points, as matplotlib names it.
        dash: of its line.
    """

    name: str
    kind: str
    label: str
    says: str = ""
    color: str = NONE
    marker: str = "o"
    dash: str = "solid"


KINDS = ("ours", "baseline", "floor", "ablation")
# Colours of Okabe and Ito, which people with any colour vision tell apart; floors are grey.
ARMS = (
    Arm(
        "fastdino",
        "ours",
        "FastDINO",
        "Every position of the convolution, a local crop for free, finds its own song among those "
        "of the batch. One forward and one backward pass a step; no teacher, no decoder.",
        "#0072b2",
    ),
    Arm(
        "published",
        "baseline",
        "FastDINO as published",
        "Every position predicts the softmax of its own song's mean; batch, crops and optimiser as "
        "published too.",
        "#d55e00",
        "s",
    ),
    Arm(
        "published loss",
        "baseline",
        "The published loss",
        "The same loss with FastDINO's batch, crops and optimiser, which make many more steps.",
        "#e69f00",
        "v",
    ),
    Arm(
        "dino",
        "baseline",
        "DINO",
        "A student that sees local crops follows a slowly moving teacher that sees global ones "
        "(Caron et al., 2021).",
        "#009e73",
        "D",
    ),
    Arm(
        "autoencoder",
        "baseline",
        "Autoencoder",
        "Squeezes a crop through a bottleneck and draws its spectrogram anew.",
        "#cc79a7",
        "^",
    ),
    Arm(
        "mel mean+std",
        "floor",
        "Mel mean + std",
        "Mean and deviation of every mel band over the song; nothing is learned.",
        dash="dash",
    ),
    Arm(
        "mel mean",
        "floor",
        "Mel mean",
        "Mean of every mel band over the song; nothing is learned.",
        dash="dot",
    ),
    Arm(
        "untrained",
        "floor",
        "Untrained encoder",
        "The same encoder with random weights: what its shape alone gives.",
        dash="dashdot",
    ),
)


def arms(results: pl.DataFrame) -> list[Arm]:
    """The arms that results hold: ours, baselines, floors, ablations; each kind as in ``ARMS``.

    Arms that ``ARMS`` does not list come after those that it does, by name. "fastdino, AdamW" is
    described as FastDINO with that one change.
    """
    known = {arm.name: arm for arm in ARMS}
    fresh = itertools.count(2)  # the first two are much like FastDINO's and DINO's
    found = []
    for name, kind in sorted(results.select("arm", "kind").unique().rows()):
        if name in known:
            found.append(known[name])
            continue
        base, _, change = name.partition(", ")
        label, says = name, ""
        if base in known and change:
            label = f"{known[base].label}, {change}"
            says = f"{known[base].label} with one change: {change}."
        found.append(Arm(name, kind, label, says, color(next(fresh)), "v"))
    listed = list(known)
    return sorted(
        found,
        key=lambda arm: (
            KINDS.index(arm.kind),
            listed.index(arm.name) if arm.name in known else len(listed),
        ),
    )


def table(results: pl.DataFrame, subset: str = "all") -> pl.DataFrame:
    """Means and spreads over seeds, one row for each arm and budget, in the order of ``arms``.

    Args:
        results: as ``fastdino.research.compare`` writes them.
        subset: of the songs judged on, one of ``SUBSETS``.

    Returns:
        ``arm``, ``kind``, ``minutes``, ``seeds``; of every measure the mean and, as
        ``<measure>_sd``, the standard deviation (null for a single seed); means of ``steps``,
        ``heard_h`` (hours of audio trained on) and ``pflop``.
    """
    figures = [
        column
        for measure in MEASURES
        for column in (
            pl.col(measure.key).mean(),
            pl.col(measure.key).std().alias(f"{measure.key}_sd"),
        )
    ]
    order = {arm.name: number for number, arm in enumerate(arms(results))}
    return (
        results.filter(pl.col("subset") == subset)
        .group_by("arm", "kind", "minutes")
        .agg(
            pl.len().alias("seeds"),
            *figures,
            pl.col("steps").mean(),
            (pl.col("heard_s").mean() / 3600).alias("heard_h"),
            (pl.col("flops").mean() / 1e15).alias("pflop"),
        )
        .sort(pl.col("arm").replace_strict(order, return_dtype=pl.Int64), "minutes")
    )


def formatted(
    means: pl.DataFrame, measures: Sequence[Measure] = MEASURES
) -> list[dict[str, Scalar]]:
    """The rows of a ``table`` as people read them: "0.512 ± 0.021", a dash where nothing is known.

    Args:
        means: from ``table``.
        measures: which to show; those that are known of no arm are left out in any case.
    """
    shown = [m for m in measures if means[m.key].is_not_null().any()]
    labels = {arm.name: arm.label for arm in arms(means)}
    return [
        {
            "arm": labels[row["arm"]],
            "minutes": f"{row['minutes']:g}" if row["minutes"] else MISSING,
            "seeds": str(row["seeds"]),
            **{m.name: _figure(row[m.key], row[f"{m.key}_sd"], m.digits) for m in shown},
            "steps": _amount(row["steps"], 0),
            "hours heard": _amount(row["heard_h"], 1),
            "PFLOP": _amount(row["pflop"], 2),
        }
        for row in means.iter_rows(named=True)
    ]


def _figure(mean: float | None, deviation: float | None, digits: int) -> str:
    if mean is None:
        return MISSING
    spread = "" if deviation is None else f" ± {deviation:.{digits}f}"
    return f"{mean:.{digits}f}{spread}"


def _amount(value: float | None, digits: int) -> str:
    # Floors are not trained: nothing to count.
    return f"{value:,.{digits}f}" if value else MISSING


def as_markdown(means: pl.DataFrame, measures: Sequence[str] = ()) -> str:
    """A ``table`` in Markdown, for the README, logs and Dagster.

    Args:
        means: from ``table``.
        measures: keys of those to show, in this order; by default all that are known.
    """
    by_key = {measure.key: measure for measure in MEASURES}
    rows = formatted(means, [by_key[key] for key in measures] or MEASURES)
    if not rows:
        return ""
    lines = [list(rows[0]), ["---", *["---:"] * (len(rows[0]) - 1)]]
    lines += [[str(cell).replace("|", "\\|") for cell in row.values()] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def quality_figure(results: pl.DataFrame, subset: str = "all") -> bytes:
    """Artist 1-NN and artist mAP over minutes of training; PNG.

    Lines are means over seeds, bands one standard deviation, dots single seeds; floors, which are
    not trained, are levels. Ablations are left to the table.
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
    return _png(figure)


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
        if arm.kind == "floor":
            axes.axhline(y[0], color=SOFT, linestyle=DASHES[arm.dash], linewidth=1.3, zorder=1)
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
            arrowprops={
                "arrowstyle": "-", "color": arm.color, "linewidth": 1, "relpos": (0, 0.5),
                "shrinkA": 1, "shrinkB": 0 if arm.kind == "floor" else 4,
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
                axes.plot(*_thinned(run, logged), color=arm.color, linewidth=0.8, alpha=0.35)
            every = list(itertools.chain(*runs))
            axes.plot(
                *_thinned(every, logged), color=arm.color, label=arm.label, linewidth=2.2, zorder=3
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
    return _png(figure)


def _thinned(rows: Sequence[Mapping[str, float]], figure: str) -> tuple[np.ndarray, np.ndarray]:
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


def receptive_field_figure(
    encoder: EncoderSettings, crop_s: float = 10.0, song_s: float = 200.0
) -> bytes:
    """What one output position sees: within the crop, and beside the song it has to know; PNG.

    The curve is measured (``influence``), not drawn from the formula.

    Args:
        encoder: the network's shape.
        crop_s: seconds of a training crop.
        song_s: seconds of the song that the crop is shown in.
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
    ours, start = ARMS[0].color, 0.3 * song_s

    figure = Figure(figsize=(10, 4.2), dpi=160, facecolor="white")
    song, crop = figure.subplots(2, 1, gridspec_kw={"height_ratios": (1, 6.5), "hspace": 0.3})
    song.barh(0, song_s, color="#eceef2")
    song.barh(0, crop_s, left=start, color=ours, alpha=0.3)
    song.barh(0, last - first, left=start + first, color=ours)
    song.set(xlim=(0, song_s), ylim=(-0.4, 0.4))
    song.text(song_s, 0, f"{song_s:g} s  ", ha="right", va="center", fontsize=10, color=SOFT)
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
        (first + last) / 2, 0.95, f"one position sees {last - first:.1f} s", ha="center",
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
    return _png(figure)


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


def _png(figure: "Figure") -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    picture = io.BytesIO()
    FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()


def read_curves(home: Home, results: pl.DataFrame) -> dict[str, list[list[dict[str, float]]]]:
    """The logs of every arm's longest runs: of each arm a list of runs, each a list of rows.

    A run is left out whose log is not there (any more).
    """
    runs = results.drop_nulls("run").unique("run").sort("seed", "run")
    longest = runs.filter(pl.col("minutes") == pl.col("minutes").max().over("arm"))
    curves: dict[str, list[list[dict[str, float]]]] = {}
    for arm in arms(results):
        for run in longest.filter(pl.col("arm") == arm.name)["run"]:
            log = home.comparison / "runs" / run / "metrics.jsonl"
            if log.exists() and (lines := log.read_text(encoding="utf-8").splitlines()):
                curves.setdefault(arm.name, []).append([json.loads(line) for line in lines])
    return curves


def gather(
    results: pl.DataFrame,
    curves: Mapping[str, Sequence[Sequence[Mapping[str, float]]]],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """All that the page shows, as plain values."""
    subsets = [subset for subset in SUBSETS if (results["subset"] == subset).any()]
    known = [m for m in MEASURES if results[m.key].is_not_null().any()]
    keys = [m.key for m in known]
    single = results.select("arm", "minutes", "seed", "subset", *keys)
    seeds = results.filter(pl.col("kind") != "floor")["seed"].n_unique()
    return {
        "facts": _facts(about, seeds),
        "subsets": {
            subset: {
                "name": SUBSETS[subset],
                "tracks": results.filter(pl.col("subset") == subset)["n_tracks"].max(),
                "means": table(results, subset).to_dicts(),
            }
            for subset in subsets
        },
        "measures": [asdict(m) for m in known],
        "arms": [asdict(arm) for arm in arms(results)],
        "runs": single.filter(pl.col("minutes") > 0).to_dicts(),
        "curves": {
            arm: [
                {
                    figure: _thinned(run, figure)[1].round(5).tolist()
                    for figure in ("elapsed_s", "rank", "loss")
                }
                for run in runs
            ]
            for arm, runs in curves.items()
        },
    }


def _facts(about: Mapping[str, Any], seeds: int) -> str:
    """The line under the headline."""
    parts = []
    if "device" in about:
        parts.append(str(about["device"]))
    if "tracks" in about:
        parts.append(f"{about['tracks']:,} songs")
    if "hours" in about:
        parts.append(f"{about['hours']:,.1f} hours")
    return " · ".join([*parts, f"up to {seeds} seed{'s' * (seeds != 1)}"])


def page(
    results: pl.DataFrame,
    curves: Mapping[str, Sequence[Sequence[Mapping[str, float]]]],
    about: Mapping[str, Any],
    path: Path,
) -> None:
    """Write the page: one file that needs no network.

    Args:
        results: as ``fastdino.research.compare`` writes them.
        curves: from ``read_curves``.
        about: what it was measured on, as far as known: ``device``, ``tracks``, ``hours``.
        path: where to write it.
    """
    template = resources.files(__package__).joinpath("comparison.html").read_text(encoding="utf-8")
    shown = gather(results, curves, about)
    with atomic_replace(path) as part:
        part.write_text(render(template, shown, ""), encoding="utf-8")


def _about(home: Home) -> dict[str, Any]:
    """What the comparison was made on: ``device``, ``tracks``, ``hours``, ``preset``."""
    try:
        return dict(read_json(home.comparison / "about.json"))
    except FileNotFoundError:
        return {}


def run(home: Home) -> Summary:
    """Draw what has been compared so far: ``reports/comparison.html`` and ``comparison/figures``.

    Raises:
        UserError: nothing has been compared yet.
    """
    file = home.comparison / "results.parquet"
    if not file.exists():
        raise UserError("there is nothing to compare yet: run 'fastdino compare' first")
    results, about = pl.read_parquet(file, glob=False), _about(home)
    curves = read_curves(home, results)
    target = home.root / "reports" / "comparison.html"
    with exclusive_lock(target.parent):
        page(results, curves, about, target)
    recipe = PRESETS[about.get("preset", "cpu")]
    subsets = [subset for subset in SUBSETS if (results["subset"] == subset).any()]
    plots = {
        **{
            "quality" if subset == "all" else f"quality, {subset}": quality_figure(results, subset)
            for subset in subsets
        },
        "collapse": collapse_figure(
            {arm.name: curves[arm.name] for arm in ARMS if arm.name in curves}
        ),
        "receptive field": receptive_field_figure(recipe.encoder, recipe.crop_s),
    }
    figures = home.comparison / "figures"
    with exclusive_lock(home.comparison):
        for name, picture in plots.items():
            with atomic_replace(
                figures / f"{name.replace(', ', ' ').replace(' ', '_')}.png"
            ) as part:
                part.write_bytes(picture)
    return Summary(
        "comparison",
        f"{len(arms(results))} arms compared in {results['run'].drop_nulls().n_unique()} runs",
        did_work=True,
        tables={SUBSETS[subset]: formatted(table(results, subset)) for subset in subsets},
        plots=plots,
        paths={"page": target, "figures": figures, "results": file},
    )
