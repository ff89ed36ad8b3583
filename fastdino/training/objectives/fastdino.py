"""FastDINO: every position, a local crop for free, finds its own song among the batch's songs.

Belongs here: the default objective. Does not: the encoder, or the loop around it.

As published, a position's distribution over channels is matched to that of its own song's mean.
Two clusters for the whole collection are a global optimum of that, and the network finds them.
What is kept is what makes the idea quick: one forward pass, one backward, and local views that
cost nothing because a convolution sees only a window. What is new is the question asked: not
"predict your song's mean" but "which of these songs is yours", which no collapsed network can
answer. The song is represented by the mean over its *other* crops, so a position must know what
lasts through a song rather than what it can see of its own few seconds.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdino.training import ranks
from fastdino.training.encoder import Encoder
from fastdino.training.objectives.base import Objective, encode

HIDDEN, WIDTH = 512, 128
TEMPERATURE = 0.1
# Neighbouring positions see nearly the same window: a few drawn at random say as much as all.
POSITIONS = 16


class FastDINO(Objective):
    """Positions against song means, by cross-entropy over the songs of the batch (InfoNCE)."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.head = nn.Sequential(
            nn.Linear(encoder.settings.dim, HIDDEN),
            nn.ReLU(),
            nn.Linear(HIDDEN, WIDTH),
        )

    def forward(
        self, encoder: Encoder, crops: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """See ``Objective``; at least two crops of every song."""
        features = encode(encoder, crops)
        return position_loss(self.head(features).float(), generator), features


def position_loss(local: Tensor, generator: torch.Generator) -> Tensor:
    """InfoNCE of local vectors ``[songs, crops, positions, width]``: a scalar.

    The songs to choose from are those of all ranks.
    """
    songs, crops, positions, _ = local.shape
    local = F.normalize(local, dim=-1)
    means = local.mean(2)
    others = ranks.gathered(F.normalize(means.sum(1, keepdim=True) - means, dim=-1))
    drawn = torch.randint(positions, (POSITIONS,), generator=generator, device=local.device)
    # For each crop index, its positions against every song's mean over the other crops.
    queries = local[:, :, drawn].transpose(0, 1).reshape(crops, songs * len(drawn), -1)
    logits = queries @ others.permute(1, 2, 0) / TEMPERATURE
    first = ranks.rank() * songs
    answers = torch.arange(first, first + songs, device=local.device)
    answers = answers.repeat_interleave(len(drawn))
    return F.cross_entropy(logits.flatten(0, 1), answers.repeat(crops))
