"""What a network of one layer that nobody trained makes of the mel bands.

Belongs here: its fixed weights, and its features. Does not: what learns (``encoder``), or how the
features are pooled (``model``).

Training keeps what tells songs apart, and drops the rest of how they sound. Random features (Rahimi
and Recht, 2007) know nothing, and so drop nothing. Their weights are the same in every model.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdino.training.projection import Projection

# With half or eight times as many, with the same of longer windows, or with other random
# numbers, an artist's songs were found as well.
UNITS = 256
SEED = 1
BIAS = 0.5  # deviation of what is added, beside 1 of what comes in


class RandomFeatures(Projection):
    """Random features of every position, and the projection of their pooled numbers."""

    weight: Tensor
    bias: Tensor

    def __init__(self, n_mels: int, stride: int, dim: int) -> None:
        super().__init__(2 * UNITS, dim)
        generator = torch.Generator().manual_seed(SEED)
        width = stride * n_mels
        weight = torch.randn(UNITS, width, generator=generator) / width**0.5
        self.stride = stride
        self.register_buffer("weight", weight)
        self.register_buffer("bias", BIAS * torch.randn(UNITS, generator=generator))

    def forward(self, frames: Tensor) -> Tensor:
        """Standardised frames ``[batch, time, n_mels]`` to ``[batch, time // stride, UNITS]``."""
        time = frames.shape[1] // self.stride
        positions = frames[:, : time * self.stride].reshape(len(frames), time, -1)
        return F.relu(F.linear(positions, self.weight, self.bias))
