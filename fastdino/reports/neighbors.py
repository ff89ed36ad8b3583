"""The most similar songs of every song.

Belongs here: exact nearest neighbours by cosine similarity. Does not: where vectors come from or
what neighbours are used for.
"""

import logging
import time

import numpy as np

log = logging.getLogger(__name__)

# Similarities held at a time: 64 MB of them, whatever the size of the collection.
BLOCK = 16_000_000


def nearest(
    vectors: np.ndarray, k: int, queries: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` rows of ``vectors`` most similar to each query, the most similar first.

    Args:
        vectors: unit vectors, float32 [n, dim].
        k: neighbours a query; at most n (n - 1 without ``queries``), or all are returned.
        queries: unit vectors, float32 [m, dim]; by default ``vectors`` themselves, each row then
            not being its own neighbour.

    Returns:
        Indices, int64 [m, k], and cosine similarities, float32 [m, k].
    """
    among_themselves = queries is None
    asked = vectors if queries is None else queries
    k = min(k, len(vectors) - among_themselves)
    indices = np.empty((len(asked), max(k, 0)), np.int64)
    similarities = np.empty((len(asked), max(k, 0)), np.float32)
    if k <= 0:
        return indices, similarities
    start_s = logged_s = time.monotonic()
    rows = max(1, BLOCK // len(vectors))
    for start in range(0, len(asked), rows):
        stop = min(start + rows, len(asked))
        block = asked[start:stop] @ vectors.T
        if among_themselves:
            block[np.arange(stop - start), np.arange(start, stop)] = -np.inf
        # Sorted in two steps: equal similarities then come in order of their index.
        top = np.sort(np.argpartition(-block, k - 1, axis=1)[:, :k], axis=1)
        found = np.take_along_axis(block, top, axis=1)
        order = np.argsort(-found, axis=1, kind="stable")
        indices[start:stop] = np.take_along_axis(top, order, axis=1)
        similarities[start:stop] = np.take_along_axis(found, order, axis=1)
        if time.monotonic() - logged_s > 10:
            logged_s = time.monotonic()
            log.info("neighbours: %d of %d songs", stop, len(asked))
    if len(asked) >= 5_000:
        log.info("neighbours of %d songs in %.1f s", len(asked), time.monotonic() - start_s)
    return indices, np.clip(similarities, -1, 1)


def update(
    vectors: np.ndarray, known: np.ndarray, before: np.ndarray, similarities_before: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """``nearest(vectors, k)`` from what it was before a few songs came or left.

    Only new songs, and those that have lost a neighbour, are compared with all others.

    Args:
        vectors: unit vectors, float32 [n, dim].
        known: which songs were there before, bool [n].
        before: their neighbours then as indices into ``vectors``, int64 [n, k], k < n; -1 for one
            that has left.
        similarities_before: to those, float32 [n, k].

    Returns:
        Indices, int64 [n, k], and cosine similarities, float32 [n, k].
    """
    k = before.shape[1]
    asked = ~known | (before < 0).any(axis=1)
    if not k or asked.mean() > 0.5:
        return nearest(vectors, k)
    indices, similarities = before.copy(), similarities_before.copy()
    found, similar = nearest(vectors, k + 1, vectors[asked])
    itself = found == np.flatnonzero(asked)[:, None]
    # One that is the same as more than k others may not be among its own nearest.
    itself[~itself.any(axis=1), -1] = True
    indices[asked] = found[~itself].reshape(-1, k)
    similarities[asked] = similar[~itself].reshape(-1, k)
    new = np.flatnonzero(~known)
    if len(new):
        found, similar = nearest(vectors[new], k, vectors[~asked])
        found = np.concatenate([before[~asked], new[found]], axis=1)
        similar = np.concatenate([similarities_before[~asked], similar], axis=1)
        order = np.lexsort((found, -similar))[:, :k]
        indices[~asked] = np.take_along_axis(found, order, axis=1)
        similarities[~asked] = np.take_along_axis(similar, order, axis=1)
    return indices, similarities
