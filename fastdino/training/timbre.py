"""How the mel bands of a song move together: the part of a vector that is counted, not learned.

Belongs here: sums over frames from which a covariance of the bands follows, its logarithm, and
directions that pooled numbers of any kind spread in. Does not: the network or its features
(``encoder``, ``model``).

A covariance says nothing of a song's own level or colour: what is constant through a song, as an
equaliser, drops out of it. That is what the network, which learns a recording, does not give.
Covariances lie on a curved space, where distances are taken between logarithms (Arsigny et al.,
2006).
"""

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Of the widest direction's variance: less than what is left of rounding in single precision.
NO_SPREAD = 1e-12
# The same, for bands: less than rounding decibels to 255 steps leaves.
QUIETEST = 1e-5
# Added to the variance of every whitened direction, which is 1 over the collection: few frames, as
# a segment's, tell little of those that hardly move.
RIDGE = 0.1
FITTED_ON = 2000


@dataclass
class Products:
    """Running sums of frames and of their products, exact in any order.

    Attributes:
        total: float64 ``[n_mels]``, sum over positions of whole numbers.
        products: float64 ``[n_mels, n_mels]``, sum of every band times every band.
        count: positions summed.
    """

    total: Tensor
    products: Tensor
    count: int

    @classmethod
    def of(cls, positions: Tensor) -> "Products":
        """Sums of ``[positions, n_mels]``, as ``merged`` gives them."""
        return cls(positions.sum(0), positions.T @ positions, len(positions))

    def __add__(self, other: "Products") -> "Products":
        return Products(
            self.total + other.total, self.products + other.products, self.count + other.count
        )

    @property
    def covariance(self) -> Tensor:
        """float64 ``[n_mels, n_mels]``."""
        mean = self.total / self.count
        return self.products / self.count - mean[:, None] * mean


def total(sums: Iterable[Products]) -> Products:
    """All of them together; at least one."""
    return functools.reduce(Products.__add__, sums)


def merged(frames: Tensor, stride: int) -> Tensor:
    """Sums of ``stride`` frames: uint8 ``[frames, n_mels]`` to float64 ``[positions, n_mels]``.

    Fewer frames than that are followed by repeats of the last one.
    """
    lacking = max(0, stride - len(frames))
    frames = torch.cat([frames, frames[-1:].expand(lacking, -1)])
    n = len(frames) // stride
    return frames[: n * stride].reshape(n, stride, -1).sum(1, dtype=torch.float64)


class Timbre(nn.Module):
    """Covariances of mel bands to vectors; fitted once on a collection."""

    whitening: Tensor
    center: Tensor
    projection: Tensor

    def __init__(self, n_mels: int, dim: int) -> None:
        super().__init__()
        self.register_buffer("whitening", torch.eye(n_mels))
        width = n_mels * (n_mels + 1) // 2
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("projection", torch.eye(width, dim))

    @property
    def width(self) -> int:
        """How many numbers a song is pooled to."""
        return self.projection.shape[0]

    def fit_bands(self, everything: Products) -> None:
        """Fit what makes bands uncorrelated and equally wide over the collection."""
        spread, directions = torch.linalg.eigh(everything.covariance.cpu())
        spread = spread.clamp_min(max(float(spread[-1]), 1.0) * QUIETEST)
        self.whitening.copy_(directions * spread.rsqrt())

    def fit_projection(self, pooled: Tensor) -> None:
        """Fit centre and directions to ``[n, width]`` pooled segments of many songs."""
        # More would change little, and take long: directions of so many numbers are costly.
        pooled = pooled[:: -(-len(pooled) // FITTED_ON)]
        center, directions = principal(pooled, self.projection.shape[1])
        self.center.copy_(center)
        self.projection.copy_(directions)

    def pooled(self, parts: Iterable[Products]) -> Tensor:
        """The logarithms of the whitened bands' covariances: float32 ``[parts, width]``."""
        turn = self.whitening.double()
        whitened = torch.stack([turn.T @ part.covariance @ turn for part in parts])
        ridge = RIDGE * torch.eye(len(turn), dtype=torch.float64, device=turn.device)
        spread, directions = torch.linalg.eigh(whitened + ridge)
        logarithms = directions * spread.clamp_min(RIDGE / 2).log()[:, None] @ directions.mT
        rows, columns = torch.triu_indices(*logarithms.shape[1:], device=turn.device)
        # A number that stands twice counts twice.
        weights = torch.where(rows == columns, 1.0, 2.0).sqrt()
        return (logarithms[:, rows, columns] * weights).float()

    def vectors(self, pooled: Tensor) -> Tensor:
        """``[n, width]`` to float64 unit vectors ``[n, dim]``."""
        return projected(pooled, self.center, self.projection)


def projected(pooled: Tensor, center: Tensor, projection: Tensor) -> Tensor:
    """Float64 unit vectors: in single precision the last bits depend on the number of threads."""
    return F.normalize((pooled.double() - center.double()) @ projection.double(), dim=-1)


def joined(halves: Sequence[Tensor]) -> Tensor:
    """Unit vectors that count the same, each ``[n, its dim]``, as one: float32 ``[n, dim]``."""
    return F.normalize(torch.cat(list(halves), -1), dim=-1).float()


def principal(pooled: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Centre ``[width]`` and the ``dim`` widest directions ``[width, dim]`` of ``[n, width]``.

    Each direction is divided by the square root of its deviation: half whitened. Unwhitened, a few
    loud directions decide; whitened in full, noise does. Directions in which rows do not spread, as
    those of a few songs, are zero. If they do not spread at all, as those of a single short song,
    they are kept as they are.
    """
    pooled = pooled.double()
    center = pooled.mean(0)
    centred = pooled - center
    # Of few rows, directions come out of the products of rows with rows: the smaller matrix.
    if len(pooled) < pooled.shape[1]:
        spread, rows = torch.linalg.eigh(centred @ centred.T / len(pooled))
        directions = centred.T @ rows
        directions /= directions.norm(dim=0).clamp_min(1e-300)
    else:
        spread, directions = torch.linalg.eigh(centred.T @ centred / len(pooled))
    # The widest comes last.
    if spread[-1] <= NO_SPREAD * center.square().sum():
        return torch.zeros_like(center), torch.eye(len(center), dim, dtype=center.dtype)
    kept = spread > NO_SPREAD * spread[-1]
    scale = torch.where(kept, spread.clamp_min(1e-300) / spread[-1], 1.0) ** -0.25
    directions = torch.where(kept, directions * scale, 0.0).flip(1)[:, :dim]
    return center, F.pad(directions, (0, dim - directions.shape[1]))
