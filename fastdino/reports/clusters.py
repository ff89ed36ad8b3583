"""Groups of songs that lie together, with numbers and names that stay.

Belongs here: finding groups on a layout, matching them to those of the map before, naming them
from tags. All pure functions. Does not: reading or writing files.

Groups are found in the plane and not among the vectors: on real songs that left a third to half
as many songs without a group, and what one sees lying together is what carries one name.
"""

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

log = logging.getLogger(__name__)

NONE = -1
# A group keeps its number if at least this share of both its old and new songs are the same.
SAME_GROUP = 1 / 3
# A tag names a group if so many of its songs have it, and so many times more than elsewhere; the
# second share is tried where no tag reaches the first.
COMMON = (0.3, 0.12)
OVER_REPRESENTED = 1.25


@dataclass(frozen=True)
class Cluster:
    """A group of songs.

    Attributes:
        cluster_id: its number, the same from map to map.
        name: what people call it.
        terms: the tags that the name is made of; empty if it is named after its typical song.
        size: number of songs.
        medoid: index of its typical song.
        top_genres: genres that stand out, the strongest first.
        top_artists: artists that stand out, the strongest first.
    """

    cluster_id: int
    name: str
    terms: tuple[str, ...]
    size: int
    medoid: int
    top_genres: tuple[str, ...]
    top_artists: tuple[str, ...]


def find(positions: np.ndarray, neighbors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find groups on a layout.

    Args:
        positions: [n, 2].
        neighbors: indices of each song's most similar songs, [n, k].

    Returns:
        Group of each song from 0 on, -1 for none, int64 [n]; and how clearly it belongs there,
        from 0 to 1, float32 [n].
    """
    from sklearn.cluster import HDBSCAN

    n = len(positions)
    fewest = max(3, round(0.4 * math.sqrt(n)))
    if n < 2 * fewest:
        return np.full(n, NONE), np.zeros(n, np.float32)
    found = HDBSCAN(min_cluster_size=fewest, min_samples=2, copy=True).fit(positions)
    return joined(found.labels_.astype(np.int64), found.probabilities_, neighbors)


def joined(
    labels: np.ndarray, probabilities: np.ndarray, neighbors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Let songs without a group join the one that most of their similar songs are in.

    Args:
        labels: group of each song, -1 for none, [n].
        probabilities: how clearly each belongs there, [n].
        neighbors: indices of each song's most similar songs, [n, k].

    Returns:
        New labels, int64 [n], and probabilities, float32 [n]: for those who joined, the share of
        similar songs in that group, which is at least a half.
    """
    labels, probabilities = labels.copy(), probabilities.astype(np.float32)
    votes = {i: Counter(labels[neighbors[i]].tolist()) for i in np.flatnonzero(labels == NONE)}
    for i, counts in votes.items():
        del counts[NONE]
        group, count = max(counts.items(), key=lambda item: (item[1], -item[0]), default=(NONE, 0))
        if count and 2 * count >= neighbors.shape[1]:
            labels[i], probabilities[i] = group, count / neighbors.shape[1]
    return labels, probabilities


def matched(labels: np.ndarray, before: np.ndarray, next_id: int) -> np.ndarray:
    """Renumber groups so that those that were there before keep their number.

    Groups are paired so that as many songs as possible are shared; a pair counts if its groups
    are at least a third the same among the songs that both maps have.

    Args:
        labels: groups found now, -1 for none, [n].
        before: each song's group on the map before, -1 for none, -2 for a song it did not have.
        next_id: the first number never used yet; groups not there before get this and the next.

    Returns:
        Groups in their lasting numbers, int64 [n].
    """
    from scipy.optimize import linear_sum_assignment

    new = [int(g) for g in np.unique(labels) if g >= 0]
    old = [int(g) for g in np.unique(before) if g >= 0]
    shared = np.array([[((labels == a) & (before == b)).sum() for b in old] for a in new])
    lasting: dict[int, int] = {}
    if new and old:
        known = before > -2
        for i, j in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
            either = (((labels == new[i]) & known) | (before == old[j])).sum()
            if shared[i, j] and shared[i, j] >= SAME_GROUP * either:
                lasting[new[i]] = old[j]
    # The largest of the new groups first: it gets the first number when nothing stood before.
    for group in sorted(set(new) - set(lasting), key=lambda g: (-(labels == g).sum(), g)):
        lasting[group] = next_id
        next_id += 1
    return np.array([lasting.get(int(g), NONE) for g in labels], np.int64)


def medoid(vectors: np.ndarray) -> int:
    """Index of the vector with the highest mean similarity to all; [n, dim] unit vectors."""
    return int((vectors @ vectors.sum(axis=0)).argmax())


def describe(
    labels: np.ndarray,
    vectors: np.ndarray,
    titles: Sequence[str],
    tags: Mapping[str, Sequence[str | None]],
    before: Mapping[int, tuple[str, Sequence[str]]],
) -> list[Cluster]:
    """Name all groups, each differently.

    Args:
        labels: each song's group, [n].
        vectors: unit vectors, [n, dim].
        titles: each song's title.
        tags: ``genre`` and ``artist`` of each song.
        before: name and terms of groups on the map before, by number. A group keeps its name
            while a fair share of its songs still have its terms.
    """
    overall = {field: Counter(v for v in values if v) for field, values in tags.items()}
    clusters: list[Cluster] = []
    for group in (int(g) for g in np.unique(labels) if g >= 0):
        members = np.flatnonzero(labels == group).tolist()
        typical = members[medoid(vectors[members])]
        counts = {
            field: Counter(v for v in (values[i] for i in members) if v)
            for field, values in tags.items()
        }
        for common in COMMON:
            top = {
                field: _standing_out(
                    counts[field], overall[field], len(members), len(labels), common
                )
                for field in tags
            }
            if any(top.values()):
                break
        terms = (*top["genre"][:2], *top["artist"][: 1 if top["genre"] else 2])
        name = ", ".join(terms) or f"Like “{titles[typical]}”"
        old_name, old_terms = before.get(group, ("", ()))
        share = {t: max(c[t] for c in counts.values()) / len(members) for t in old_terms}
        if (
            old_name
            and bool(old_terms) == bool(terms)
            and min(share.values(), default=1) >= COMMON[1] / 2
        ):
            name, terms = old_name, tuple(old_terms)
        clusters.append(
            Cluster(group, name, terms, len(members), typical, top["genre"], top["artist"])
        )
    return _told_apart(clusters, titles, {name for name, _ in before.values()})


def _standing_out(
    inside: Counter[str], overall: Counter[str], size: int, n: int, common: float
) -> tuple[str, ...]:
    """Tags common in a group and rarer elsewhere, the strongest first."""
    scored = []
    for tag, count in inside.items():
        share, share_overall = count / size, overall[tag] / n
        if count >= 2 and share >= common and share >= OVER_REPRESENTED * share_overall:
            scored.append((-share * math.log(share / share_overall), tag))
    return tuple(tag for _, tag in sorted(scored))


def _told_apart(clusters: list[Cluster], titles: Sequence[str], kept: set[str]) -> list[Cluster]:
    """Add the typical song to names that several groups would have, and a number if that fails."""
    taken: set[str] = set()
    result: dict[int, Cluster] = {}
    wanted = Counter(c.name for c in clusters)
    # Names from the map before come first, so that it is the newcomer who gets the longer name.
    for c in sorted(clusters, key=lambda c: (c.name not in kept, c.cluster_id)):
        name = c.name
        if name in taken or (wanted[name] > 1 and name not in kept):
            name = f"{name}, like “{titles[c.medoid]}”"
        number = 2
        while name in taken:
            name = f"{c.name} ({number})"
            number += 1
        taken.add(name)
        result[c.cluster_id] = Cluster(**{**vars(c), "name": name})
    return [result[c.cluster_id] for c in clusters]
