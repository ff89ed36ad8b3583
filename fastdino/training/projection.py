"""From pooled numbers of any kind to a vector: fitted once, on segments of many songs.

Belongs here: the directions that are kept, how much each counts, and unit vectors. Does not: what
is pooled (``model``, ``timbre``).

What differs from one part of a song to the next does not tell whose song it is. So directions are
divided by how far they spread *within* songs: linear discriminant analysis with every song as a
class of its own (within-class covariance normalisation, Hatch et al., 2006). No label is needed:
that two segments are of one song is known. Few songs tell that spread badly; the fewer they are,
the more of it is taken from what half whitening divides by, the directions' deviations.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Of the widest direction's variance: less than what is left of rounding in single precision.
NO_SPREAD = 1e-12
# Rows that directions are found from; more would change little, and take long: of as many numbers
# as a covariance has they are costly.
FOUND_ON = 2000


class Projection(nn.Module):
    """A fitted map from pooled numbers of one kind to unit vectors."""

    center: Tensor
    projection: Tensor

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("projection", torch.eye(width, dim))

    @property
    def width(self) -> int:
        """How many numbers a song is pooled to."""
        return self.projection.shape[0]

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.projection.shape[1]

    def fit_projection(self, pooled: Tensor, songs: Tensor) -> None:
        """Fit centre and directions; see ``fitted_projection``."""
        center, projection = fitted_projection(pooled, songs, self.dim)
        self.center.copy_(center)
        self.projection.copy_(projection)

    def vectors(self, pooled: Tensor) -> Tensor:
        """``[n, width]`` to float64 unit vectors ``[n, dim]``."""
        return projected(pooled, self.center, self.projection)


def divided(pooled: Tensor, parts: Sequence[Projection]) -> Iterator[tuple[Projection, Tensor]]:
    """Each part, and which of the pooled numbers ``[n, all widths]`` are its own ``[n, width]``."""
    return zip(parts, pooled.split([part.width for part in parts], -1), strict=True)


def projected(pooled: Tensor, center: Tensor, projection: Tensor) -> Tensor:
    """Float64 unit vectors: in single precision the last bits depend on the number of threads."""
    return F.normalize((pooled.double() - center.double()) @ projection.double(), dim=-1)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Unit vectors that count the same, each ``[n, its dim]``, as one ``[n, dim]``."""
    return F.normalize(torch.cat(list(parts), -1), dim=-1)


def fitted_projection(pooled: Tensor, songs: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Centre ``[width]`` and projection ``[width, dim]``, float64.

    The projection turns to the ``dim`` widest directions and whitens there what is within songs.
    Directions in which rows do not spread, as those of a few songs, are zero. If they do not spread
    at all, as those of a single short song, they are kept as they are.

    Args:
        pooled: ``[n, width]``, segments of many songs.
        songs: int64 ``[n]``, which song each is of, counted from 0.
        dim: length of what rows are projected to.
    """
    center, directions, deviations = principal(pooled[:: -(-len(pooled) // FOUND_ON)], dim)
    if not len(deviations):
        return center, torch.eye(len(center), dim, dtype=center.dtype, device=center.device)
    within, freedom = scatter_within((pooled.double() - center) @ directions, songs)
    share = len(within) / (len(within) + freedom)
    spread = (1 - share) * _level(within) + share * _level(deviations.diag())
    values, turns = torch.linalg.eigh(spread)
    projection = directions @ (turns * values.rsqrt() @ turns.mT)
    return center, F.pad(projection, (0, dim - projection.shape[1]))


def principal(pooled: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Centre ``[width]``, the at most ``dim`` widest directions ``[width, k]``, deviations ``[k]``.

    The widest comes first; those without spread are left out. All float64.
    """
    pooled = pooled.double()
    center = pooled.mean(0)
    centred = pooled - center
    # Of few rows, directions come out of the products of rows with rows: the smaller matrix.
    if len(pooled) < pooled.shape[1]:
        variances, rows = torch.linalg.eigh(centred @ centred.T / len(pooled))
        directions = centred.T @ rows
        directions /= directions.norm(dim=0).clamp_min(1e-300)
    else:
        variances, directions = torch.linalg.eigh(centred.T @ centred / len(pooled))
    # eigh gives the widest last.
    variances, directions = variances.flip(0)[:dim], directions.flip(1)[:, :dim]
    if variances[0] <= NO_SPREAD * center.square().sum():
        return torch.zeros_like(center), directions[:, :0], variances[:0]
    kept = variances > NO_SPREAD * variances[0]
    return center, directions[:, kept], variances[kept].sqrt()


def scatter_within(rows: Tensor, songs: Tensor) -> tuple[Tensor, int]:
    """Covariance ``[k, k]`` of ``[n, k]`` around each song's mean, and its degrees of freedom."""
    counts = torch.bincount(songs).to(rows)
    sums = rows.new_zeros(len(counts), rows.shape[1]).index_add_(0, songs, rows)
    around = rows - (sums / counts.clamp_min(1)[:, None])[songs]
    freedom = len(rows) - int((counts > 0).sum())
    return around.mT @ around / max(1, freedom), freedom


def _level(spread: Tensor) -> Tensor:
    """The same with a mean of 1 on its diagonal; nothing stays nothing."""
    return spread / spread.diagonal().mean().clamp_min(1e-300)
