"""Differences between arms, song by song, and how sure they are.

Belongs here: which run is held against which, the mean difference and its standard error. Does not:
what a song scored (``training.evaluation``), how it is shown (``table``).

Two arms are asked the same songs, of which some are hard for both: the differences song by song
vary less than the scores do. What a song scored is first averaged over an arm's seeds. The standard
error then has two parts, added in quadrature:

- *over songs*, robust to clusters (Liang & Zeger, 1986): songs of an artist rise and fall together,
  so it is the artists' sums of deviations that count as independent;
- *over seeds*, the variance of each arm's mean from seed to seed over the number of its seeds. Of
  one seed it is not known and counts as nothing, as for what does not depend on a seed: the error
  of an arm trained once is too small.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# What every arm is held against.
DEFAULT = "fastdino"


class Judged(NamedTuple):
    """A run, judged on a subset of the songs.

    Attributes:
        arm: its name.
        kind: of the arm.
        minutes: of training; 0 of what was not trained.
        seed: of everything random.
        subset: of the songs.
        outcomes: by measure and track id, what the songs that were asked scored.
    """

    arm: str
    kind: str
    minutes: float
    seed: int
    subset: str
    outcomes: Mapping[str, Mapping[str, float]]


class Difference(NamedTuple):
    """By how much an arm is above the one it is held against.

    Attributes:
        mean: over songs.
        error: its standard error; None where all songs are by one artist.
        songs: asked of both.
        artists: of these songs.
    """

    mean: float
    error: float | None
    songs: int
    artists: int


def difference(
    ours: Sequence[Mapping[str, float]],
    theirs: Sequence[Mapping[str, float]],
    artists: Mapping[str, str],
) -> Difference | None:
    """The mean difference of two arms over the songs that both were asked.

    Args:
        ours: of each seed, what the songs scored, by track id.
        theirs: the same of the other arm, which may have other seeds.
        artists: by track id, of all the songs asked.

    Returns:
        None if no song was asked of both.
    """
    one, other = _over_seeds(ours), _over_seeds(theirs)
    songs = sorted(one.keys() & other.keys())
    if not songs:
        return None
    apart = np.array([one[song] - other[song] for song in songs])
    mean = float(apart.mean())
    _, artist = np.unique([artists[song] for song in songs], return_inverse=True)
    clusters = int(artist.max()) + 1
    if clusters < 2:
        return Difference(mean, None, len(songs), clusters)
    sums = np.bincount(artist, apart - mean)
    over_songs = clusters / (clusters - 1) * float((sums**2).sum()) / len(songs) ** 2
    error = float(np.sqrt(over_songs + _of_seeds(ours, songs) + _of_seeds(theirs, songs)))
    return Difference(mean, error, len(songs), clusters)


def differences(judged: Sequence[Judged], artists: Mapping[str, str]) -> list[dict[str, Any]]:
    """Every arm and budget against the default, by subset and measure.

    An arm is held against the default of the same budget; what is not trained, against the default
    of the largest budget; the default itself, against its next smaller budget. Where the default
    was not given that budget there is no row.

    Args:
        judged: all runs, each judged on every subset.
        artists: by track id, of all the songs asked.

    Returns:
        ``arm``, ``kind``, ``minutes``, ``subset``, ``measure``, ``against_minutes``, ``seeds``,
        ``against_seeds``, ``difference``, ``error``, ``songs``, ``artists``, ``settled``: whether
        the difference is more than two standard errors.
    """
    arms: dict[tuple[str, str, float, str], list[Judged]] = {}
    for run in judged:
        arms.setdefault((run.arm, run.kind, run.minutes, run.subset), []).append(run)
    found = []
    for (arm, kind, minutes, subset), runs in sorted(arms.items()):
        budgets = sorted(b for name, _, b, of in arms if (name, of) == (DEFAULT, subset))
        against = _budget_against(arm, minutes, budgets)
        if against is None:
            continue
        references = next(
            theirs
            for (name, _, budget, of), theirs in arms.items()
            if (name, budget, of) == (DEFAULT, against, subset)
        )
        for measure in runs[0].outcomes:
            told = difference(
                [run.outcomes[measure] for run in runs],
                [run.outcomes[measure] for run in references],
                artists,
            )
            if told:
                found.append(
                    {
                        "arm": arm, "kind": kind, "minutes": minutes, "subset": subset,
                        "measure": measure, "against_minutes": against, "seeds": len(runs),
                        "against_seeds": len(references), "difference": told.mean,
                        "error": told.error, "songs": told.songs, "artists": told.artists,
                        "settled": told.error is not None and abs(told.mean) > 2 * told.error,
                    }
                )  # fmt: skip
    return found


def _budget_against(arm: str, minutes: float, budgets: Sequence[float]) -> float | None:
    """The default's budget that an arm is held against, of those there are, in ascending order."""
    if arm == DEFAULT:
        budgets = [budget for budget in budgets if budget < minutes]
    elif minutes:
        budgets = [budget for budget in budgets if budget == minutes]
    return budgets[-1] if budgets else None


def _over_seeds(outcomes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    scores: dict[str, list[float]] = {}
    for seed in outcomes:
        for song, score in seed.items():
            scores.setdefault(song, []).append(score)
    return {song: float(np.mean(each)) for song, each in scores.items()}


def _of_seeds(outcomes: Sequence[Mapping[str, float]], songs: Sequence[str]) -> float:
    """Variance of the mean over ``songs`` that comes of the seeds."""
    means = [np.mean([seed[song] for song in songs if song in seed]) for seed in outcomes]
    return float(np.var(means, ddof=1) / len(means)) if len(means) > 1 else 0.0
