"""Where songs lie in the plane.

Belongs here: laying out all songs, placing new ones on a standing layout, and how well a layout
shows what is similar. Does not: deciding which of these is due, or files.

t-SNE on cosine distances, by openTSNE. Collections too small for it get their two main components.
"""

import logging
import math
import time
from typing import Any

import numpy as np

from fastdino.core.machine import available_cores
from fastdino.core.progress import progress
from fastdino.reports.neighbors import Neighbors, nearest

log = logging.getLogger(__name__)
# What it says of its own workings is nothing to the user.
logging.getLogger("openTSNE").setLevel(logging.WARNING)

SEED = 0
MOST_PERPLEXITY = 30.0
PLACING_PERPLEXITY = 5.0
# Below this many songs t-SNE has nothing to weigh.
FEWEST = 12
# From here on interpolation is quicker than the tree.
INTERPOLATE_FROM = 3_000
NEW_SPREAD = 1e-4
# At the usual rate, the number of songs, a few songs never leave the small heap they start in.
LEAST_RATE = 10.0
# Of laying out around songs that hold on: so often so many steps, and after each they are drawn so
# far back to where they were.
ROUNDS = 10
ROUND_STEPS = 25
DRAWN_BACK = 0.5
SAMPLE = 2_000


class _Cosine:
    """Exact cosine neighbours in the shape openTSNE asks for.

    Args:
        vectors: unit vectors, float32 [n, dim].
        known: their neighbours and similarities, as ``nearest`` has them; may be left out where
            only those of others are asked for.
    """

    def __init__(self, vectors: np.ndarray, k: int, known: Neighbors | None = None) -> None:
        self.vectors, self.n_samples, self.k, self.known = vectors, len(vectors), k, known

    def build(self) -> tuple[np.ndarray, np.ndarray]:
        assert self.known
        return self._as_distances(self.known[0][:, : self.k], self.known[1][:, : self.k])

    def query(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        return self._as_distances(*nearest(self.vectors, k, queries))

    @staticmethod
    def _as_distances(
        indices: np.ndarray, similarities: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        return indices, (1.0 - similarities).astype(np.float64)


def lay_out(vectors: np.ndarray, known: Neighbors, start: np.ndarray | None = None) -> np.ndarray:
    """Lay out songs afresh.

    Args:
        vectors: unit vectors, float32 [n, dim].
        known: each song's neighbours and its similarity to them, as ``nearest`` has them, [n, k];
            k is at least ``most_neighbors(n)``.
        start: positions to start from, [n, 2], so that the new layout resembles an old one.

    Returns:
        Positions, float64 [n, 2], centred.
    """
    began_s = time.monotonic()
    layout = _main_components(vectors) if start is None else start
    if len(vectors) >= FEWEST:
        layout = np.asarray(_optimised(vectors, known, _spread(layout)), np.float64)
    if len(vectors) >= 2_000:
        log.info("laid out %d songs in %.0f s", len(vectors), time.monotonic() - began_s)
    return layout - layout.mean(axis=0)


def lay_out_around(
    vectors: np.ndarray, known: Neighbors, start: np.ndarray, holding: np.ndarray
) -> np.ndarray:
    """Lay out songs again, some of which stay close to where they are.

    They start from where they are and not, as all do in ``lay_out``, from one small heap: groups
    then have no chance to swap places. Without being drawn back they move much
    further (Procrustes distance 0.016 and not 0.001, when a tenth is added to 280 real songs), for
    no more true neighbours.

    Args:
        vectors: unit vectors, float32 [n, dim].
        known: as for ``lay_out``.
        start: where songs are, the new ones as ``place`` put them, [n, 2].
        holding: indices of the songs that stay close, [m].

    Returns:
        Positions, float64 [n, 2].
    """
    if len(vectors) < FEWEST:
        return start
    began_s = time.monotonic()
    embedding = _embedding(vectors, known, start)
    with progress("Laying out the map", ROUNDS, "rounds") as shown:
        for _ in range(ROUNDS):
            embedding.optimize(n_iter=ROUND_STEPS, momentum=0.8, inplace=True)
            moved = aligned(np.asarray(embedding, np.float64), holding, start[holding])
            moved[holding] += DRAWN_BACK * (start[holding] - moved[holding])
            embedding[:] = moved
            shown.advance(1)
    if len(vectors) >= 2_000:
        log.info("laid out %d songs in %.0f s", len(vectors), time.monotonic() - began_s)
    return aligned(np.asarray(embedding, np.float64), holding, start[holding])


def perplexity(n: int) -> float:
    """How many neighbours of a song count when ``n`` songs are laid out.

    In a small collection an artist has a handful of songs: with the usual 30 neighbours they would
    be drawn together with half of all others.
    """
    return min(MOST_PERPLEXITY, max(math.sqrt(n), 5.0), (n - 1) / 3)


def most_neighbors(n: int) -> int:
    """How many neighbours of each song are looked at when ``n`` songs are laid out."""
    return min(n - 1, int(3 * perplexity(n)))


def _optimised(vectors: np.ndarray, known: Neighbors, start: np.ndarray) -> np.ndarray:
    embedding = _embedding(vectors, known, start)
    with progress("Laying out the map", 750, "steps") as shown:

        def advance(*_: object) -> None:
            shown.advance(50)

        # The usual schedule: groups first form under exaggeration, then find their shape.
        watched = {"inplace": True, "callbacks": advance, "callbacks_every_iters": 50}
        for steps, exaggeration, momentum in ((250, 12, 0.5), (500, 1, 0.8)):
            embedding.optimize(
                steps,
                exaggeration=exaggeration,
                momentum=momentum,
                learning_rate=max(len(vectors) / exaggeration, LEAST_RATE),
                **watched,
            )
    return embedding


def _jobs(n: int) -> int:
    # Threads pay off for many songs only; for few they mostly wait for each other.
    return available_cores() if n >= INTERPOLATE_FROM else 1


def _embedding(vectors: np.ndarray, known: Neighbors, positions: np.ndarray) -> Any:
    import openTSNE

    n = len(vectors)
    affinities = openTSNE.affinity.PerplexityBasedNN(
        knn_index=_Cosine(vectors, most_neighbors(n), known),
        perplexity=perplexity(n),
        n_jobs=_jobs(n),
    )
    return _of(affinities, positions, _jobs(n))


def _of(affinities: Any, positions: np.ndarray, jobs: int = 1) -> Any:
    import openTSNE

    many = len(positions) >= INTERPOLATE_FROM
    return openTSNE.TSNEEmbedding(
        positions,
        affinities,
        negative_gradient_method="fft" if many else "bh",
        random_state=SEED,
        n_jobs=jobs,
    )


def _main_components(vectors: np.ndarray) -> np.ndarray:
    """The two directions of largest spread; [n, 2], zeros where there are fewer."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0)
    # Of the small side's Gram matrix, not of all songs' vectors: quick at any size.
    _, directions = np.linalg.eigh(centred.T @ centred)
    main = directions[:, :-3:-1]
    # Eigenvectors have no sign of their own; without one, the same songs could come out mirrored.
    main = main * np.where(main[np.abs(main).argmax(axis=0), range(main.shape[1])] < 0, -1, 1)
    layout = np.zeros((len(vectors), 2))
    layout[:, : main.shape[1]] = centred @ main
    return layout


def _spread(layout: np.ndarray) -> np.ndarray:
    """Shrink to the tiny extent that t-SNE starts from; songs in one spot are told apart."""
    jitter = np.random.default_rng(SEED).standard_normal(layout.shape) * NEW_SPREAD / 100
    return layout / max(layout.std(), 1e-12) * NEW_SPREAD + jitter


def place(vectors: np.ndarray, positions: np.ndarray, new_vectors: np.ndarray) -> np.ndarray:
    """Find positions for new songs among songs that stay exactly where they are.

    Args:
        vectors: unit vectors of the songs that have a place, float32 [n, dim].
        positions: their places as ``lay_out`` or this function made them, [n, 2].
        new_vectors: unit vectors of the new songs, float32 [m, dim].

    Returns:
        Positions of the new songs, float64 [m, 2].
    """
    if len(vectors) < FEWEST:
        return _among_neighbours(vectors, positions, new_vectors)
    near = min(PLACING_PERPLEXITY, (len(vectors) - 1) / 3)
    embedding = _placed(vectors, positions, near)
    # openTSNE moves its copy of the layout to the middle; the new songs are moved back with it.
    placed = embedding.transform(new_vectors, perplexity=near)
    moved_by = positions[0] - np.asarray(embedding)[0]
    return np.asarray(placed, np.float64) + moved_by


def _placed(vectors: np.ndarray, positions: np.ndarray, perplexity: float) -> Any:
    """A finished layout that songs can be added to."""
    import openTSNE
    from scipy.sparse import csr_matrix

    class OfNewSongs(openTSNE.affinity.PerplexityBasedNN):
        """How near new songs are to the others; how near those are to each other is not asked."""

        def __init__(self) -> None:
            self.knn_index = _Cosine(vectors, int(3 * perplexity))
            self.perplexity = perplexity
            self.n_jobs, self.verbose = 1, False
            self.P = csr_matrix((len(vectors), len(vectors)))

    return _of(OfNewSongs(), positions)


def _among_neighbours(
    vectors: np.ndarray, positions: np.ndarray, new_vectors: np.ndarray
) -> np.ndarray:
    indices, similarities = nearest(vectors, 3, new_vectors)
    weights = np.exp(10.0 * similarities)[:, :, None]
    return (positions[indices] * weights).sum(axis=1) / weights.sum(axis=1)


def aligned(layout: np.ndarray, shared: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Turn, mirror and shift a layout so that shared songs lie as near as can be to a reference.

    Distances stay as they are, or songs could no longer be placed on the layout.

    Args:
        layout: [n, 2].
        shared: indices into ``layout`` of the songs that the reference has too, [m].
        reference: where the reference has them, [m, 2].
    """
    if not len(shared):
        return layout
    mine, theirs = layout[shared].mean(axis=0), reference.mean(axis=0)
    u, _, vt = np.linalg.svd((layout[shared] - mine).T @ (reference - theirs))
    return (layout - mine) @ (u @ vt) + theirs


def distance(before: np.ndarray, after: np.ndarray) -> float | None:
    """Procrustes distance between two layouts of the same songs, [n, 2] each.

    The squared distances that are left when one has been turned, mirrored, shifted and scaled onto
    the other, as a share of its spread: 0 for the same shape, towards 1 for nothing in common.
    None where there are too few songs for a shape.
    """
    from scipy.spatial import procrustes

    if len(before) < 3:
        return None
    try:
        return float(procrustes(before, after)[2])
    except ValueError:  # all in one place
        return None


def quality(
    vectors: np.ndarray, neighbors: np.ndarray, positions: np.ndarray, k: int = 10
) -> dict[str, float | None]:
    """How well a layout shows what is similar, on at most 2,000 songs.

    Args:
        vectors: unit vectors, float32 [n, dim].
        neighbors: indices of each song's most similar songs, [n, k or more].
        positions: [n, 2].
        k: neighbours of a song that count.

    Returns:
        ``neighbor_recall``: share of the ``k`` most similar songs that are among the ``k`` nearest
        in the plane; ``trustworthiness``: 1 if no songs lie near each other that are not similar.
        None where there are too few songs to tell.
    """
    from sklearn.manifold import trustworthiness
    from sklearn.neighbors import NearestNeighbors

    n = len(vectors)
    if n < 2 * k + 2:
        return {"neighbor_recall": None, "trustworthiness": None}
    sample = np.sort(np.random.default_rng(SEED).permutation(n)[:SAMPLE])
    # Each song is its own nearest in both lists, which are one longer to make up for it.
    similar = np.concatenate([sample[:, None], neighbors[sample, :k]], axis=1)
    near = (
        NearestNeighbors(n_neighbors=k + 1)
        .fit(positions)
        .kneighbors(positions[sample], return_distance=False)
    )
    shared = [len(np.intersect1d(a, b)) - 1 for a, b in zip(similar, near, strict=True)]
    trust = trustworthiness(vectors[sample], positions[sample], n_neighbors=k, metric="cosine")
    return {
        "neighbor_recall": round(float(np.clip(shared, 0, k).mean()) / k, 4),
        "trustworthiness": round(float(trust), 4),
    }
