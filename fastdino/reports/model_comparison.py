"""The models side by side: what each of them is, and what another choice would change.

Belongs here: ``fastdino models``, and measuring the candidate beside the current model on the same
songs. Does not: choosing one (``training.promotion``).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.summary import Scalar, Summary
from fastdino.embeddings.vectors import read_songs
from fastdino.reports import map_files
from fastdino.reports.neighbors import nearest_to
from fastdino.spectrograms.settings import SpectrogramSettings
from fastdino.training import labels, metrics, registry

NEIGHBORS = 10
# Songs that are asked; more would not change the figures.
SAMPLE = 1_000
SEED = 0
# Of the figures at the end of a model's training, those that are listed.
LISTED = {"artist 1-NN": "artist_1nn", "artist mAP": "artist_map", "rank": "effective_rank"}
# What can be done with a candidate.
CHOICE = (
    "'fastdino promote' (in Dagster, the job promote) puts it to use, 'fastdino forget NAME' "
    "deletes it"
)
# No cluster of the standing map.
NONE = -1


@dataclass(frozen=True)
class Comparison:
    """The candidate beside the current model.

    Attributes:
        shared: of a song's ten nearest songs, the share that both models find, 0 to 1.
        rows: a measure each, with the columns "measure", "current" and "candidate".
    """

    shared: float
    rows: Sequence[Mapping[str, Scalar]]


def list_models(home: Home) -> Summary:
    """List all models, and compare the candidate with the current one.

    What is wrong with the candidate is a warning: it can be forgotten by its name.

    Raises:
        UserError: there is no model, or which one is in use cannot be told.
    """
    current, candidate = registry.current(home), registry.candidate(home)
    roles = {current["model_id"]: "current"}
    if candidate:
        roles[candidate["model_id"]] = "candidate"
    found, warnings = registry.models(home)
    rows = [
        {
            "model": about["model_id"],
            "is": roles.get(about["model_id"], "kept"),
            "songs": about["trained_tracks"],
            **{name: _rounded(about["metrics"].get(key), 2) for name, key in LISTED.items()},
            "MB": round(registry.size_mb(home, about["model_id"]), 1),
        }
        for about in reversed(found)
    ]
    tables: dict[str, Sequence[Mapping[str, Scalar]]] = {"models": rows}
    headline = f"model {current['model_id']} is in use; no candidate is waiting"
    if candidate:
        compared, wrong = _compared(home, current, candidate)
        warnings += wrong
        tables["candidate beside current"] = compared.rows if compared else []
        headline = f"{waiting(current, candidate, compared)}: {CHOICE}"
    return Summary(
        "models",
        headline,
        did_work=False,
        tables=tables,
        warnings=warnings,
    )


def compare_candidate(home: Home) -> Summary | None:
    """Compare the candidate with the current model; None if no candidate of today's settings waits.

    What is wrong with the candidate is a warning, as nothing that is published depends on it.

    Raises:
        UserError: there is no model, or which one is in use cannot be told.
    """
    current, candidate = registry.current(home), registry.candidate(home)
    if candidate is None or candidate["spec_id"] != SpectrogramSettings().spec_id:
        return None
    compared, warnings = _compared(home, current, candidate)
    warnings.append(
        f"{waiting(current, candidate, compared)}: 'fastdino models' compares them, {CHOICE}"
    )
    return Summary(
        "candidate",
        "compared with the model in use" if compared else "nothing to compare it by yet",
        did_work=False,
        tables={"candidate beside current": compared.rows} if compared else {},
        warnings=warnings,
    )


def _compared(
    home: Home, current: Mapping[str, Any], candidate: Mapping[str, Any]
) -> tuple[Comparison | None, list[str]]:
    """What ``compare`` gives, or a warning in its place."""
    try:
        return compare(home, current, candidate), []
    except UserError as error:
        return None, [f"candidate {candidate['model_id']}: {error}"]


def waiting(
    current: Mapping[str, Any], candidate: Mapping[str, Any], compared: Comparison | None
) -> str:
    """What to tell a person of a candidate."""
    finds = f", and finds {compared.shared:.0%} of the same nearest songs" if compared else ""
    return f"candidate {candidate['model_id']} is waiting beside {current['model_id']}{finds}"


def compare(
    home: Home, current: Mapping[str, Any], candidate: Mapping[str, Any]
) -> Comparison | None:
    """Measure two models on the songs that both have vectors of.

    Args:
        home: where everything is.
        current: what is said of the model in use.
        candidate: what is said of the other.

    Returns:
        None if they have not two songs of the catalogue in common yet.

    Raises:
        UserError: the catalogue or vectors are damaged, or vectors are not numbers.
    """
    known = labels.read(home.catalog)
    pair = {"current": current, "candidate": candidate}
    have, vectors = {}, {}
    for role, about in pair.items():
        ids, vectors[role] = read_songs(home, about["model_id"], set(known))
        have[role] = np.array(ids, object)
    both, *places = np.intersect1d(have["current"], have["candidate"], return_indices=True)
    if len(both) < 2:
        return None
    for role, found in zip(pair, places, strict=True):
        vectors[role] = vectors[role][found]
    asked = np.arange(len(both))
    if len(asked) > SAMPLE:
        asked = np.sort(np.random.default_rng(SEED).choice(asked, SAMPLE, replace=False))
    near = {role: nearest_to(vectors[role], NEIGHBORS, asked)[0] for role in pair}
    clusters = _clusters(home, current["model_id"], both)
    by = [known[track_id].artist for track_id in both[asked]]
    sample = {role: vectors[role][asked] for role in pair}
    shared = overlap(near["current"], near["candidate"])
    mean = metrics.mean_outcome

    def row(measure: str, value: Callable[[str], Scalar]) -> dict[str, Scalar]:
        return {"measure": measure, **{role: _rounded(value(role)) for role in pair}}

    rows = [
        row("songs with vectors", lambda role: len(have[role])),
        row("songs trained on", lambda role: pair[role]["trained_tracks"]),
        row("artist 1-NN", lambda role: mean(metrics.artist_hits(sample[role], by))),
        row("artist mAP", lambda role: mean(metrics.artist_precisions(sample[role], by))),
        row("effective rank", lambda role: metrics.effective_rank(sample[role])),
        row(
            "songs amid their cluster", lambda role: cluster_agreement(near[role], asked, clusters)
        ),
        row("nearest songs shared", lambda role: shared if role == "candidate" else None),
    ]
    return Comparison(shared, rows)


def overlap(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Mean share of neighbours [m, k] that are among the other's neighbours of the same song."""
    same = (ours[:, :, None] == theirs[:, None, :]).any(axis=2)
    return float(same.mean())


def cluster_agreement(near: np.ndarray, asked: np.ndarray, clusters: np.ndarray) -> float | None:
    """Share of the songs in a cluster that lie in the midst of it: most of their neighbours do too.

    A stand-in for the clusters that a map of these vectors would have, which would take minutes to
    draw. Of the standing map's own model it says how much of that map the vectors bear out.

    Args:
        near: neighbours of each song asked, [m, k].
        asked: those songs, [m].
        clusters: cluster of every song on the standing map, -1 for none, [n].

    Returns:
        None if no song that is asked is in a cluster of two.
    """
    own = clusters[asked]
    others = np.array([(clusters == cluster).sum() - 1 for cluster in own])
    possible = np.minimum(others, near.shape[1])
    within = (clusters[near] == own[:, None]).sum(axis=1)
    judged = (own != NONE) & (possible > 0)
    return float((2 * within > possible)[judged].mean()) if judged.any() else None


def _clusters(home: Home, model_id: str, track_ids: np.ndarray) -> np.ndarray:
    standing = map_files.read_standing(home, model_id)
    members = dict(standing.songs.select("track_id", "cluster_id").rows()) if standing else {}
    return np.array([members.get(track_id, NONE) for track_id in track_ids])


def _rounded(value: Scalar, digits: int = 3) -> Scalar:
    return round(value, digits) if isinstance(value, float) else value
