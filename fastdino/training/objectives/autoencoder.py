"""An autoencoder: the frames, through a bottleneck, back again. A baseline.

Belongs here: the bottleneck, the decoder, the reconstruction error. Does not: the encoder.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdino.training.encoder import Block, Encoder
from fastdino.training.objectives.base import Objective, encode

# Each position stands for ``stride`` frames, 640 numbers at the default shape.
BOTTLENECK = 32
DEPTH = 2


class Autoencoder(Objective):
    """Mean squared error of the frames, each band at unit deviation, behind a narrow bottleneck."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        shape = encoder.settings
        self.bottleneck = nn.Linear(shape.dim, BOTTLENECK)
        self.decoder = nn.Sequential(
            nn.Linear(BOTTLENECK, shape.dim),
            *(Block(shape.dim, shape.kernel, shape.expansion) for _ in range(DEPTH)),
            nn.LayerNorm(shape.dim),
            nn.Linear(shape.dim, shape.stride * shape.n_mels),
        )

    def forward(
        self, encoder: Encoder, crops: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """See ``Objective``."""
        features = encode(encoder, crops)
        drawn = self.decoder(self.bottleneck(features).flatten(0, 1))
        frames = drawn.unflatten(-1, (-1, crops.shape[-1])).flatten(1, 2)
        wanted = encoder.standardise(crops.flatten(0, 1)[:, : frames.shape[1]])
        return F.mse_loss(frames.float(), wanted), features
