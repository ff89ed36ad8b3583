"""What a comparison found, as a table.

Belongs here: names and order of methods ("arms") and of metrics, means and spreads over seeds, and
how differences are written. Does not: training or measuring (``compare``), the differences
(``paired``), figures, the page.

One row of results is one arm trained for so many minutes with one seed, judged on one subset of
the songs. A figure that could not be measured is null there and a dash here; a spread is shown
only where there are several seeds to have one.
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from fastdino.core.summary import Scalar
from fastdino.reports.palette import NONE, color

MISSING = "–"
SUBSETS = {
    "all": "All songs",
    "chosen on": "Artists chosen on",
    "held out": "Artists set aside",
    "held out, among themselves": "Artists set aside, among themselves",
}


@dataclass(frozen=True)
class Measure:
    """One figure of the results.

    Attributes:
        key: its column.
        name: what people call it.
        says: one sentence.
        digits: after the decimal point.
        better: 1 if more is better, -1 if less is, 0 if neither in itself.
    """

    key: str
    name: str
    says: str
    digits: int = 3
    better: int = 1


MEASURES = (
    Measure(
        "artist_1nn",
        "Artist 1-NN",
        "Share of songs whose most similar song is by the same artist.",
    ),
    Measure(
        "artist_1nn_other_album",
        "Artist 1-NN, other album",
        "The same of songs whose artist has another album, with songs of the song's own album, or "
        "of none that is known, left out.",
    ),
    Measure(
        "artist_map",
        "Artist mAP",
        "How far up a song's list of similar songs those of its artist stand: mean average "
        "precision.",
    ),
    Measure(
        "artist_map_other_album",
        "Artist mAP, other album",
        "The same of songs whose artist has another album, with songs of the song's own album, or "
        "of none that is known, left out.",
    ),
    Measure(
        "label_knn",
        "Label kNN",
        "Share of songs whose label (genre) its ten most similar songs by other artists agree on.",
    ),
    Measure(
        "hubness",
        "Hubness",
        "Skewness of how often a song is among another's ten most similar; high if a few songs are "
        "everybody's neighbours.",
        digits=2,
        better=-1,
    ),
    Measure(
        "effective_rank",
        "Effective rank",
        "How many directions the vectors spread over; a few mean collapse.",
        digits=1,
    ),
    Measure(
        "target_entropy",
        "Target entropy",
        "Entropy of the published method's targets, as a share of the greatest possible; at 0"
        " all weight lies on one channel, at 1 it is even on all.",
        better=0,
    ),
    Measure(
        "alignment",
        "Alignment",
        "Mean squared distance between stretches of one song, as unit vectors; low too after "
        "a collapse.",
        better=-1,
    ),
    Measure(
        "uniformity",
        "Uniformity",
        "How evenly songs spread over the sphere; 0 if all lie on one point, lower is more even.",
        digits=2,
        better=-1,
    ),
    Measure(
        "gain_invariance",
        "Gain invariance",
        "Similarity of a song and the same song played louder.",
    ),
    Measure(
        "eq_invariance",
        "EQ invariance",
        "Similarity of a song and the same song with other bass and treble.",
    ),
    Measure(
        "level_tilt_share",
        "Level and tilt share",
        "Share of the vectors' variance that loudness and spectral tilt alone explain.",
        better=-1,
    ),
)


@dataclass(frozen=True)
class Arm:
    """How an arm is shown.

    Attributes:
        name: in the results.
        kind: "ours", "baseline", "peer", "floor" or "ablation".
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

    @property
    def trained(self) -> bool:
        """Whether it gets better with time: all but floors and vectors from elsewhere."""
        return self.kind not in ("floor", "peer")


KINDS = ("ours", "baseline", "peer", "floor", "ablation")
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
        "nothing learned",
        "floor",
        "Nothing learned",
        "Random features and how the bands move together: all of a vector that is not learned.",
        dash="longdash",
    ),
    Arm(
        "untrained",
        "floor",
        "Untrained encoder",
        "The same encoder with random weights, and how the bands move together.",
        dash="dashdot",
    ),
)


def arms(results: pl.DataFrame) -> list[Arm]:
    """The arms that results hold: each kind as in ``KINDS``, each arm as in ``ARMS``.

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
        if kind == "peer":
            says = "Vectors that another program made, read from a file."
            found.append(Arm(name, kind, name, says, color(next(fresh)), dash="dash"))
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


def formatted(means: pl.DataFrame) -> list[dict[str, Scalar]]:
    """The rows of a ``table`` as people read them: "0.512 ± 0.021", a dash where nothing is known.

    Measures that are known of no arm are left out.
    """
    shown = [m for m in MEASURES if means[m.key].is_not_null().any()]
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


def differences_tables(apart: pl.DataFrame) -> dict[str, list[dict[str, Scalar]]]:
    """Differences to the default as people read them, by subset; subsets without any are left out.

    "+0.031 ± 0.012 *": the mean difference and its standard error, with a star where it is more
    than two of them.

    Args:
        apart: as ``paired.differences`` tells them.
    """
    known = {measure.key: measure for measure in MEASURES}
    measures = [key for key in known if (apart["measure"] == key).any()]
    labels = {arm.name: arm.label for arm in arms(apart)} if len(apart) else {}
    order = list(labels)
    tables: dict[str, list[dict[str, Scalar]]] = {}
    for subset, title in SUBSETS.items():
        rows = apart.filter(pl.col("subset") == subset)
        by_run: dict[tuple[str, float], dict[str, dict[str, Any]]] = {}
        for row in rows.iter_rows(named=True):
            by_run.setdefault((row["arm"], row["minutes"]), {})[row["measure"]] = row
        shown: list[dict[str, Scalar]] = []
        for (arm, minutes), told in sorted(
            by_run.items(), key=lambda each: (order.index(each[0][0]), each[0][1])
        ):
            any_row = next(iter(told.values()))
            shown.append(
                {
                    title: labels[arm],
                    "min": f"{minutes:g}" if minutes else MISSING,
                    "against": f"FastDINO {any_row['against_minutes']:g} min",
                    "seeds": f"{any_row['seeds']}, {any_row['against_seeds']}",
                    **{
                        known[key].name.removeprefix("Artist "): _difference(told.get(key))
                        for key in measures
                    },
                }
            )
        if shown:
            tables[title] = shown
    return tables


def _difference(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return MISSING
    error = MISSING if row["error"] is None else f"{row['error']:.3f}"
    return f"{row['difference']:+.3f} ± {error}{' *' if row['settled'] else ''}"


def _figure(mean: float | None, deviation: float | None, digits: int) -> str:
    if mean is None:
        return MISSING
    spread = "" if deviation is None else f" ± {deviation:.{digits}f}"
    return f"{mean:.{digits}f}{spread}"


def _amount(value: float | None, digits: int) -> str:
    # Floors are not trained: nothing to count.
    return f"{value:,.{digits}f}" if value else MISSING
