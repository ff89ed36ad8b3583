"""Groups of songs that lie together, with numbers and names that stay.

Belongs here: finding groups on a layout, keeping or matching those of the map before, saying what
became of them, naming them from tags. All pure functions. Does not: reading or writing files.

Groups are found in the plane and not among the vectors: on real songs that left a third to half
as many songs without a group, and what one sees lying together is what carries one name.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

log = logging.getLogger(__name__)

NONE = -1
# Group of a song that the map before did not have.
UNKNOWN = -2
# Sizes from which a group counts, as multiples of the usual one: a change of groups is plain if it
# shows at each of them.
GRAINS = (0.5, 0.75, 1.0, 1.4, 2.0)
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


@dataclass(frozen=True)
class Change:
    """What became of a group between two maps.

    Attributes:
        cluster_id: the group.
        kind: ``born``, of songs that were in no group or not there; ``split`` off another, which
            most of its songs were in; ``merged`` into another, which most of its songs are in now;
            ``died``, its songs having gone or being in no group, or in several.
        other_id: the group it split off or merged into; None for the other kinds.
        songs: how many it has, for ``merged`` and ``died`` had.
    """

    cluster_id: int
    kind: str
    other_id: int | None
    songs: int


def fewest(n: int, grain: float = 1.0) -> int:
    """How many songs make a group where there are ``n`` in all."""
    return max(3, round(0.4 * grain * math.sqrt(n)))


def find(
    positions: np.ndarray,
    neighbors: np.ndarray,
    grain: float = 1.0,
    tree: "csr_matrix | None" = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find groups on a layout.

    Args:
        positions: [n, 2].
        neighbors: indices of each song's most similar songs, [n, k].
        grain: below 1 for smaller groups, above for larger ones.
        tree: what ``spanning_tree`` makes of the positions, where it is known already.

    Returns:
        Group of each song from 0 on, -1 for none, int64 [n]; and how clearly it belongs there,
        from 0 to 1, float32 [n].
    """
    from sklearn.cluster import HDBSCAN

    n = len(positions)
    smallest = fewest(n, grain)
    if n < 2 * smallest:
        return np.full(n, NONE), np.zeros(n, np.float32)
    tree = spanning_tree(positions) if tree is None else tree
    for method in ("eom", "leaf"):
        found = HDBSCAN(
            min_cluster_size=smallest,
            min_samples=1,
            metric="precomputed",
            cluster_selection_method=method,
            copy=True,
        ).fit(tree)
        labels = found.labels_.astype(np.int64)
        # Now and then the whole map but for one corner comes out as one group.
        if 2 * np.bincount(labels + 1)[1:].max(initial=0) <= n:
            break
    return joined(labels, found.probabilities_, neighbors)


def spanning_tree(positions: np.ndarray) -> "csr_matrix":
    """All that HDBSCAN needs to know of a layout, in the time of sorting it.

    Where a song with one other makes a neighbourhood (``min_samples`` of 2, the song itself being
    one), HDBSCAN's distance is the usual one. The shortest tree that joins all songs is then part
    of their Delaunay triangulation. Given its edges alone, HDBSCAN finds what it finds when it
    compares each song with each other, to the order of groups.

    Args:
        positions: [n, 2].

    Returns:
        Lengths of the tree's edges, [n, n].
    """
    from scipy.sparse import csgraph, csr_matrix

    n = len(positions)
    ends = _triangulated(positions)
    # Sparse matrices leave zeros out.
    least = 1e-200
    lengths = np.maximum(np.linalg.norm(positions[ends[0]] - positions[ends[1]], axis=1), least)
    tree = csgraph.minimum_spanning_tree(csr_matrix((lengths, ends), (n, n)))
    _, parents = csgraph.breadth_first_order(tree, 0, directed=False)
    children = np.arange(1, n)
    parents = parents[1:]
    lengths = np.maximum(np.linalg.norm(positions[parents] - positions[children], axis=1), least)
    # Edges count as going away from the first song: the way back is longer by as little as can
    # be. And that a song is near itself keeps its core distance, the least in a row, out of it.
    return csr_matrix(
        (
            np.concatenate([lengths, np.nextafter(lengths, np.inf), np.zeros(n)]),
            (
                np.concatenate([parents, children, np.arange(n)]),
                np.concatenate([children, parents, np.arange(n)]),
            ),
        ),
        (n, n),
    )


def _triangulated(positions: np.ndarray) -> np.ndarray:
    """Pairs of songs that lie beside each other: indices, [2, m], each pair once.

    Songs in one spot are each beside the first of them: in whatever order they are joined, one
    after the other comes to it, and no two halves of a spot are ever taken for groups.
    """
    from scipy.spatial import Delaunay, QhullError

    spots, first, spot = np.unique(positions, axis=0, return_index=True, return_inverse=True)
    others = np.setdiff1d(np.arange(len(positions)), first)
    try:
        found = Delaunay(spots)
        corners = found.simplices
        # Those too near to another to be a corner of anything are beside that one.
        pairs = [corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]], found.coplanar[:, ::2]]
        beside = np.unique(np.sort(np.concatenate(pairs), axis=1), axis=0).T
    except QhullError:  # all on one line, or in a spot or two
        centred = spots - spots.mean(axis=0)
        along = np.argsort(centred @ np.linalg.svd(centred, full_matrices=False)[2][0])
        beside = np.stack([along[:-1], along[1:]])
    return np.concatenate([first[beside], [first[spot[others]], others]], axis=1)


def update(
    positions: np.ndarray, neighbors: np.ndarray, before: np.ndarray, next_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """Groups on a layout on which songs hardly moved: those of before, where nothing speaks aloud.

    Found afresh, a fifth of all songs would be in other groups whenever a few are added, only
    because a group that just about fell in two now just about does not. So songs stay in their
    group, and it is looked at coarsely and finely. A group is split if at every grain no group
    found holds half of it, into the parts that even the coarsest finds. Groups are one if at every
    grain one group found holds half of each. One that hardly has songs any more goes. Songs in no
    group, such as the new ones, make a group if they are most of one found, and otherwise go with
    the nearest song of the one they are in.

    Args:
        positions: [n, 2].
        neighbors: indices of each song's most similar songs, [n, k].
        before: each song's group on the map before, -1 for none, -2 for a song it did not have.
        next_id: the first number never used yet.

    Returns:
        Groups in their lasting numbers, int64 [n], and how clearly each song belongs there,
        float32 [n].
    """
    from scipy.spatial import cKDTree

    tree = spanning_tree(positions)
    found = {grain: find(positions, neighbors, grain, tree) for grain in GRAINS}
    usual, clearness = found[1.0]
    coarse, _ = found[GRAINS[-1]]
    smallest = fewest(len(positions))
    labels = np.where(before >= 0, before, NONE)
    holders = {
        group: tuple(_holder(each[labels == group]) for each, _ in found.values())
        for group in _by_size(labels)
    }
    lasting: dict[tuple[int, ...], int] = {}
    for group, holding in holders.items():
        members = labels == group
        if set(holding) == {NONE}:
            for part in _by_size(np.where(members, coarse, NONE))[1:]:
                leaving = members & (coarse == part)
                labels[leaving] = next_id if leaving.sum() >= smallest else NONE
                next_id += int(leaving.sum() >= smallest)
        elif NONE not in holding:
            labels[members] = lasting.setdefault(holding, group)
    for group in _by_size(labels):
        if 2 * (labels == group).sum() < smallest:
            labels[labels == group] = NONE
    for group in _by_size(usual):
        housed = np.flatnonzero((usual == group) & (labels >= 0))
        homeless = np.flatnonzero((usual == group) & (labels == NONE))
        if len(homeless) >= max(smallest, len(housed) + 1):
            labels[homeless] = next_id
            next_id += 1
        elif len(housed) and len(homeless):
            _, nearest = cKDTree(positions[housed]).query(positions[homeless])
            labels[homeless] = labels[housed[nearest]]
    alike = (labels[neighbors] == labels[:, None]).sum(axis=1) / max(neighbors.shape[1], 1)
    clearness = np.where(usual >= 0, clearness, alike)
    return joined(labels, np.where(labels >= 0, clearness, 0), neighbors)


def _by_size(labels: np.ndarray) -> list[int]:
    """Groups, the largest first."""
    groups, counts = np.unique(labels[labels >= 0], return_counts=True)
    return groups[np.lexsort((groups, -counts))].tolist()


def _holder(found: np.ndarray, of: int | None = None) -> int:
    """The group found that half of some songs or more are in, -1 if there is none.

    Args:
        found: the group of each song, -1 for none.
        of: how many songs they are, where some are not among ``found``.
    """
    counts = np.bincount(found + 1)[1:]
    half = (len(found) if of is None else of) / 2
    return int(counts.argmax()) if counts.max(initial=0) >= max(half, 1) else NONE


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

    new, old = (np.unique(groups[groups >= 0]) for groups in (labels, before))
    known = labels[before > UNKNOWN], before[before > UNKNOWN]
    here, had = (np.searchsorted(*pair) for pair in zip((new, old), known, strict=True))
    # Of songs that both maps have: those of each pair of groups, of each new and each old one.
    shared = np.zeros((len(new), len(old)), np.int64)
    in_both = (known[0] >= 0) & (known[1] >= 0)
    np.add.at(shared, (here[in_both], had[in_both]), 1)
    new_sizes = np.bincount(here[known[0] >= 0], minlength=len(new))
    old_sizes = np.bincount(had[known[1] >= 0], minlength=len(old))
    lasting: dict[int, int] = {}
    for i, j in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
        either = new_sizes[i] + old_sizes[j] - shared[i, j]
        if shared[i, j] and shared[i, j] >= SAME_GROUP * either:
            lasting[int(new[i])] = int(old[j])
    # The largest of the new groups first: it gets the first number when nothing stood before.
    for group in _by_size(labels):
        if group not in lasting:
            lasting[group] = next_id
            next_id += 1
    return np.array([lasting.get(int(g), NONE) for g in labels], np.int64)


def changes(labels: np.ndarray, before: np.ndarray, sizes: Mapping[int, int]) -> list[Change]:
    """What became of groups from one map to the next; nothing of those that are on both.

    Args:
        labels: each song's group, -1 for none, [n].
        before: each song's group on the map before, -1 for none, -2 for a song it did not have.
        sizes: groups on the map before, and how many songs they had.
    """
    found = []
    for group in _by_size(labels):
        if group not in sizes:
            came_from = before[labels == group]
            source = _holder(np.maximum(came_from, NONE))
            kind, other = ("born", None) if source == NONE else ("split", source)
            found.append(Change(group, kind, other, len(came_from)))
    for group in sorted(set(sizes) - set(labels.tolist())):
        target = _holder(labels[before == group], sizes[group])
        kind, other = ("died", None) if target == NONE else ("merged", target)
        found.append(Change(group, kind, other, sizes[group]))
    return found


def medoid(vectors: np.ndarray) -> int:
    """Index of the vector with the highest mean similarity to all; [n, dim] unit vectors."""
    return int((vectors @ vectors.sum(axis=0)).argmax())


def describe(
    labels: np.ndarray,
    vectors: np.ndarray,
    titles: Sequence[str],
    tags: Mapping[str, Sequence[Sequence[str]]],
    before: Mapping[int, tuple[str, Sequence[str]]],
) -> list[Cluster]:
    """Name all groups, each differently.

    Args:
        labels: each song's group, [n].
        vectors: unit vectors, [n, dim].
        titles: each song's title.
        tags: every ``genre`` and every ``artist`` of each song.
        before: name and terms of groups on the map before, by number. A group keeps its name
            while a fair share of its songs still have its terms.
    """
    overall = {field: _songs_with(values) for field, values in tags.items()}
    clusters: list[Cluster] = []
    for group in (int(g) for g in np.unique(labels) if g >= 0):
        members = np.flatnonzero(labels == group).tolist()
        typical = members[medoid(vectors[members])]
        counts = {field: _songs_with(values[i] for i in members) for field, values in tags.items()}
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
            # None by now is no other name: at the threshold it would come and go.
            and (old_terms or not terms)
            and min(share.values(), default=1) >= COMMON[1] / 2
        ):
            name, terms = old_name, tuple(old_terms)
        clusters.append(
            Cluster(group, name, terms, len(members), typical, top["genre"], top["artist"])
        )
    return _told_apart(clusters, titles, {name for name, _ in before.values()})


def _songs_with(values: Iterable[Sequence[str]]) -> Counter[str]:
    """How many songs have each tag."""
    return Counter(tag for of_one in values for tag in set(of_one))


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
    # Whoever asks for a cluster does so in any case.
    taken: set[str] = set()
    result: dict[int, Cluster] = {}
    wanted = Counter(c.name.casefold() for c in clusters)
    # Names from the map before come first, so that it is the newcomer who gets the longer name.
    for c in sorted(clusters, key=lambda c: (c.name not in kept, c.cluster_id)):
        name = c.name
        alike = wanted[name.casefold()] > 1
        if name.casefold() in taken or (alike and name not in kept):
            name = f"{name}, like “{titles[c.medoid]}”"
        number = 2
        while name.casefold() in taken:
            name = f"{c.name} ({number})"
            number += 1
        taken.add(name.casefold())
        result[c.cluster_id] = replace(c, name=name)
    return [result[c.cluster_id] for c in clusters]
