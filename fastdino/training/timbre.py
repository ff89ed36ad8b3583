"""How the mel bands of a song move together: the part of a vector that is counted, not learned.

Belongs here: sums over frames from which a covariance of the bands follows, and its logarithm. Does
not: the network or its features (``encoder``, ``model``), or how pooled numbers of any kind become
a vector (``projection``).

A covariance says nothing of a song's own level or colour: what is constant through a song, as an
equaliser, drops out of it. That is what the network, which learns a recording, does not give.
Covariances lie on a curved space, where distances are taken between logarithms (Arsigny et al.,
2006).
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from fastdino.training.projection import Projection

# Of the widest direction's variance: less than rounding decibels to 255 steps leaves.
QUIETEST = 1e-5
# Added to the variance of every whitened direction, which is 1 over the collection: few frames, as
# a segment's, tell little of those that hardly move.
RIDGE = 0.1


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


class Timbre(Projection):
    """Covariances of mel bands to vectors; fitted once on a collection."""

    whitening: Tensor

    def __init__(self, n_mels: int, dim: int) -> None:
        super().__init__(n_mels * (n_mels + 1) // 2, dim)
        self.register_buffer("whitening", torch.eye(n_mels))

    def fit_bands(self, everything: Products) -> None:
        """Fit what makes bands uncorrelated and equally wide over the collection."""
        spread, directions = torch.linalg.eigh(everything.covariance.cpu())
        spread = spread.clamp_min(max(float(spread[-1]), 1.0) * QUIETEST)
        self.whitening.copy_(directions * spread.rsqrt())

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
