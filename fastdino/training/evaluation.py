"""How good vectors are: figures that need no listening.

Belongs here: measures over vectors and labels, used alike by training, checks, benchmarks and
comparisons. Does not: making the vectors, or reading labels.
"""

from collections.abc import Sequence

import numpy as np


def effective_rank(vectors: np.ndarray) -> float:
    """RankMe (Garrido et al., 2023): e to the entropy of the singular values, centred.

    Near 1 when all vectors lie on a line, as after a collapse; at most
    ``min(n - 1, dim)``.
    """
    singular = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False)
    share = singular / max(singular.sum(), 1e-12)
    share = share[share > 0]
    return float(np.exp(-(share * np.log(share)).sum()))


def centred_unit(vectors: np.ndarray) -> np.ndarray:
    """``[n, dim]`` moved to zero mean, each row then of unit length."""
    centred = vectors.astype(np.float64) - vectors.mean(0, dtype=np.float64)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)


def artist_1nn(vectors: np.ndarray, artists: Sequence[str | None]) -> float | None:
    """Share of songs whose nearest other song (cosine, centred) is by the same artist.

    Only artists with two songs or more are asked about; all songs can be the answer.

    Args:
        vectors: ``[n, dim]``.
        artists: ``n`` names, None where unknown.

    Returns:
        0 to 1, or None if no artist has two songs.
    """
    unit = centred_unit(vectors)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    names = np.array([name or "" for name in artists])
    known, counts = np.unique(names, return_counts=True)
    asked = np.isin(names, known[(counts > 1) & (known != "")])
    if not asked.any():
        return None
    return float((names[similarity.argmax(1)] == names)[asked].mean())
