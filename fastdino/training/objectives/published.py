"""FastDINO's loss as it was first published, kept as a baseline.

Belongs here: that loss. Does not: the encoder it was published with
(``training.published_encoder``).

It collapses: one of its global optima is a collection in two clusters, and training finds it. See
``fastdino`` beside this for what replaced it, and ``docs/method.md`` for why.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fastdino.training import ranks
from fastdino.training.encoder import Encoder
from fastdino.training.objectives.base import Objective, encode

TARGET_TEMPERATURE, TEMPERATURE = 0.04, 0.9


class Published(Objective):
    """Every position predicts its crop's mean, as distributions over the channels."""

    def forward(
        self, encoder: Encoder, crops: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """See ``Objective``; every crop stands for itself."""
        features = encode(encoder, crops)
        return published_loss(features.flatten(0, 1).float()), features


def published_loss(features: Tensor) -> Tensor:
    """Of local features ``[batch, positions, dim]``: the cross-entropy, a scalar."""
    means = features.mean(1)
    with torch.no_grad():
        targets = F.softmax((means - ranks.gathered(means).mean(0)) / TARGET_TEMPERATURE, -1)
    predictions = F.log_softmax(features / TEMPERATURE, -1)
    return -(targets[:, None] * predictions).sum(-1).mean()
