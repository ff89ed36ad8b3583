"""New songs that keep to themselves, among the vectors of songs that a model was trained on.

Belongs here: telling them. Does not: which songs are new (``training.registry``), or what follows
from it (``assets.training``).

By neighbours, not by distance: a model makes the songs it is trained on differ, and lays others in
between. Of 60 songs of the demo library, new to a model of 281 real ones, 7 % were further from
what it knew than 95 % of its own songs are from each other, which is what chance gives; but 45 %
had mostly each other for neighbours.

By neighbours of other artists: music arrives by the album, and an album's songs are neighbours in
any collection. Of new songs that were like all others, drawn by artist from those 281, one in four
had mostly new neighbours; without their own artist, one in forty.
"""

from collections.abc import Sequence

import numpy as np

NEIGHBORS = 10
# New songs that are looked at; more would not change the share.
SAMPLE = 1_000
SEED = 0
# Similarities held at a time: 16 MB of them.
BLOCK = 4_000_000


def mostly_new_neighbors(
    vectors: np.ndarray, artists: Sequence[str], new: np.ndarray
) -> np.ndarray:
    """For each new song (at most 1,000 of them) whether most of its neighbours are new, too.

    Its neighbours are the ten songs by other artists that are most similar to it, or as many as
    there are. Where new songs are few and like the others, next to none have mostly new ones.

    Args:
        vectors: unit vectors, float32 [n, dim].
        artists: of each song, [n].
        new: which songs are new, bool [n].

    Returns:
        bool [m].
    """
    numbers: dict[str, int] = {}
    by = np.array([numbers.setdefault(artist, len(numbers)) for artist in artists])
    asked = np.flatnonzero(new)
    if len(asked) > SAMPLE:
        asked = np.random.default_rng(SEED).choice(asked, SAMPLE, replace=False)
    k = min(NEIGHBORS, len(vectors))
    found = []
    for rows in np.array_split(asked, 1 + len(asked) * len(vectors) // BLOCK):
        similarity = vectors[rows] @ vectors.T
        similarity[by[rows][:, None] == by] = -np.inf
        nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        others = np.take_along_axis(similarity, nearest, axis=1) > -np.inf
        found.append((new[nearest] & others).sum(axis=1) > others.sum(axis=1) / 2)
    return np.concatenate(found)
