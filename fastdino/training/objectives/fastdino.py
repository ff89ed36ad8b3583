"""FastDINO: every position, a local crop for free, finds its own song among the batch's songs.

Belongs here: the default objective. Does not: the encoder, or the loop around it.

As published, a position's distribution over channels is matched to that of its own song's mean.
Two clusters for the whole collection are a global optimum of that, and the network finds them.
What is kept is what makes the idea quick: one forward pass, one backward, and local views that
cost nothing because a convolution sees only a window. What is new is the question asked: not
"predict your song's mean" but "which of these songs is yours", which no collapsed network can
answer. The song is represented by the mean over its *other* crops, so a position must know what
lasts through a song rather than what it can see of its own moment.

So that the question stays worth asking once it can be answered, a position is asked as well which
*other* songs are like its own: the answer is how the songs' means lie at the time, and songs that
sound alike are not driven apart for good.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdino.training import ranks
from fastdino.training.encoder import Encoder
from fastdino.training.objectives.base import Objective, encode

HIDDEN, WIDTH = 512, 128
TEMPERATURE = 0.1
# Neighbouring positions see nearly the same window: each fourth tells a crop's mean as well as all,
# in two thirds of a step's time, and a few of those, drawn at random, ask as much.
EVERY, POSITIONS = 4, 16
# Of "which songs are like yours" beside "which is yours".
LIKENESS = 0.5


class FastDINO(Objective):
    """Positions against song means, by cross-entropy over the songs of the batch."""

    every = EVERY

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.head = nn.Sequential(
            nn.Linear(encoder.settings.dim, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH)
        )

    def forward(
        self, encoder: Encoder, crops: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """See ``Objective``; at least two crops of every song."""
        features = encode(encoder, crops, self.every)
        return position_loss(self.head(features).float(), generator), features


def position_loss(local: Tensor, generator: torch.Generator) -> Tensor:
    """What local vectors ``[songs, crops, positions, width]`` do not know of their songs: a scalar.

    The songs to choose from are those of all ranks.
    """
    songs, crops, positions, _ = local.shape
    local = F.normalize(local, dim=-1)
    means = local.mean(2)
    others = ranks.gathered(F.normalize(means.sum(1, keepdim=True) - means, dim=-1))
    drawn = torch.randint(positions, (POSITIONS,), generator=generator, device=local.device)
    # For each crop index, its positions against every song's mean over the other crops.
    queries = local[:, :, drawn].transpose(0, 1).flatten(1, 2)
    keys = others.transpose(0, 1)
    logits = queries @ keys.mT / TEMPERATURE
    first = ranks.rank() * songs
    answers = torch.arange(first, first + songs, device=local.device)
    own = F.cross_entropy(logits.flatten(0, 1), answers.repeat_interleave(len(drawn)).repeat(crops))
    # Of a song alone nothing is alike.
    if keys.shape[1] == 1:
        return own
    with torch.no_grad():
        alike = _without(keys[:, answers] @ keys.mT / TEMPERATURE, answers).softmax(-1)
    answers = answers.repeat_interleave(len(drawn))
    said = _without(logits, answers).log_softmax(-1)
    likeness = -(alike.repeat_interleave(len(drawn), 1) * said).sum(-1).mean()
    return own + LIKENESS * likeness


def _without(logits: Tensor, own: Tensor) -> Tensor:
    """``[crops, rows, songs]`` where each row's own song cannot be chosen."""
    songs = torch.arange(logits.shape[-1], device=logits.device)
    return logits.masked_fill(own[:, None] == songs, -1e4)
