"""DINO (Caron et al., 2021): a student's crops are matched to a slow teacher's. A baseline.

Belongs here: its teacher, head, centring and multi-crop loss. Does not: the encoder.

Two whole crops of a song are the global views; windows cut from them the local ones. The teacher,
a moving average of the student, sees the global views, the student all of them: five passes of
the encoder where FastDINO makes one.
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastdino.training import ranks
from fastdino.training.encoder import Encoder
from fastdino.training.objectives.base import Objective, encode

LOCAL_VIEWS, LOCAL_SHARE = 3, 0.25  # of each global view
PROTOTYPES, HIDDEN, BOTTLENECK = 1024, 512, 128
STUDENT_TEMPERATURE = 0.1
# The teacher's temperature rises over the first part of the run.
TEACHER_TEMPERATURE = (0.04, 0.07)
WARMUP = 0.3
CENTRE_MOMENTUM = 0.9
# The paper's 0.996 is for a hundred thousand steps; a run here has some hundreds, for which 0.95
# was found better than 0.99.
TEACHER_MOMENTUM = 0.95


class Head(nn.Module):
    """A three-layer perceptron, then cosines to prototypes."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU()
        )
        self.narrow = nn.Linear(HIDDEN, BOTTLENECK)
        self.prototypes = nn.Parameter(torch.randn(PROTOTYPES, BOTTLENECK))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., dim]`` to logits ``[..., prototypes]``."""
        x = F.normalize(self.narrow(self.layers(x)), dim=-1)
        return (x @ F.normalize(self.prototypes, dim=-1).T).float()


class DINO(Objective):
    """Cross-entropy from the teacher's view of a song to the student's other views of it."""

    centre: Tensor
    temperature: Tensor

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        self.head = Head(encoder.settings.dim)
        self.teacher = copy.deepcopy(encoder).requires_grad_(False)
        self.teacher_head = copy.deepcopy(self.head).requires_grad_(False)
        self.register_buffer("centre", torch.zeros(PROTOTYPES))
        self.register_buffer("temperature", torch.tensor(TEACHER_TEMPERATURE[0]))

    def forward(
        self, encoder: Encoder, crops: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """See ``Objective``; the crops are the global views, at least two."""
        with torch.no_grad():
            wanted = self.teacher_head(encode(self.teacher, crops).mean(2))
        features = encode(encoder, crops)
        local = encode(encoder, windows(crops, generator))
        views = self.head(torch.cat([features.mean(2), local.mean(2)], 1))
        loss = multi_crop_loss(views, wanted, self.centre, self.temperature)
        self.centre.lerp_(ranks.gathered(wanted).mean((0, 1)), 1 - CENTRE_MOMENTUM)
        return loss, features

    @torch.no_grad()
    def after_step(self, encoder: Encoder, share_done: float) -> None:
        """Move the teacher towards the student."""
        momentum = 1 - (1 - TEACHER_MOMENTUM) * 0.5 * (1 + math.cos(math.pi * share_done))
        pairs = ((self.teacher, encoder), (self.teacher_head, self.head))
        for teacher, student in pairs:
            ours: list[Tensor] = list(teacher.parameters())
            theirs: list[Tensor] = list(student.parameters())
            torch._foreach_lerp_(ours, theirs, 1 - momentum)
        low, high = TEACHER_TEMPERATURE
        self.temperature.fill_(low + (high - low) * min(1.0, share_done / WARMUP))

    def kept(self, encoder: Encoder) -> Encoder:
        """The teacher, which is the better of the two throughout."""
        return self.teacher


def windows(crops: Tensor, generator: torch.Generator) -> Tensor:
    """Cut the local views.

    Args:
        crops: ``[songs, crops, frames, n_mels]``.
        generator: of the places in the songs of all ranks, one after the other.

    Returns:
        ``[songs, crops * LOCAL_VIEWS, frames * LOCAL_SHARE, n_mels]``.
    """
    songs, n_crops, n_frames, n_mels = crops.shape
    length = round(n_frames * LOCAL_SHARE)
    shape = (ranks.world() * songs, n_crops, LOCAL_VIEWS)
    begin = torch.randint(
        n_frames - length + 1, shape, generator=generator, device=crops.device
    ).flatten(2)
    begin = begin[ranks.rank() * songs :][:songs]
    index = begin[..., None] + torch.arange(length, device=crops.device)
    index = index.flatten(2)[..., None].expand(-1, -1, -1, n_mels)
    return crops.gather(2, index).unflatten(2, (LOCAL_VIEWS, length)).flatten(1, 2)


def multi_crop_loss(views: Tensor, wanted: Tensor, centre: Tensor, temperature: Tensor) -> Tensor:
    """Every view of the student against every *other* view of the teacher.

    Args:
        views: the student's logits ``[songs, views, prototypes]``, the global views first.
        wanted: the teacher's ``[songs, global views, prototypes]``.
        centre: ``[prototypes]``, taken off the teacher's logits.
        temperature: the teacher's.

    Returns:
        The mean cross-entropy over pairs, a scalar.
    """
    targets = F.softmax((wanted - centre) / temperature, -1)
    predictions = F.log_softmax(views / STUDENT_TEMPERATURE, -1)
    with torch.autocast(views.device.type, enabled=False):  # which would round both
        # [global views, views], averaged over songs.
        pairs = -torch.einsum("sgk,svk->gv", targets, predictions) / len(views)
    same = torch.eye(*pairs.shape, dtype=torch.bool, device=pairs.device)
    return pairs.masked_fill(same, 0).sum() / (~same).sum()
