"""What holds of every objective, and the losses against their definitions."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from fastdino.training.encoder import Encoder
from fastdino.training.objectives import OBJECTIVES
from fastdino.training.objectives.dino import DINO, multi_crop_loss, windows
from fastdino.training.objectives.fastdino import (
    LIKENESS,
    POSITIONS,
    TEMPERATURE,
    position_loss,
)
from fastdino.training.objectives.published import published_loss
from fastdino.training.settings import EncoderSettings

SHAPE = EncoderSettings(widths=(16, 24), depths=(1, 1), strides=(4, 2))


def crops(songs: int = 5, n_crops: int = 2, n_frames: int = 160) -> torch.Tensor:
    shape = (songs, n_crops, n_frames, SHAPE.n_mels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(7))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def encoder() -> Encoder:
    torch.manual_seed(0)
    made = Encoder(SHAPE)
    made.band_mean.fill_(127.5)
    made.band_deviation.fill_(73.0)
    return made


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_gives_a_finite_loss_that_reaches_the_whole_encoder(name: str) -> None:
    network = encoder()
    objective = OBJECTIVES[name](network)
    loss, features = objective(network, crops(), seeded())
    assert loss.shape == ()
    assert torch.isfinite(loss)
    assert features.shape == (5, 2, 160 // SHAPE.stride // objective.every, SHAPE.dim)
    loss.backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


# Not DINO's: what it is measured against moves as the teacher grows sure.
@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - {"dino"}))
def test_the_objective_can_be_lowered(name: str) -> None:
    network = encoder()
    objective = OBJECTIVES[name](network)
    learned = nn.ModuleDict({"encoder": network, "objective": objective})
    parameters = [p for p in learned.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, 3e-3)
    losses = []
    for step in range(40):
        loss, _ = objective(network, crops(), seeded(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.after_step(network, step / 40)
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < np.mean(losses[:5])


def test_the_default_loss_asks_for_the_own_song_and_for_those_that_are_like_it() -> None:
    local = torch.randn(3, 2, 9, 6, generator=seeded())
    unit = local / local.norm(dim=-1, keepdim=True)
    means = unit.mean(2)
    own, alike = [], []
    for crop in range(2):
        others = means[:, 1 - crop] / means[:, 1 - crop].norm(dim=-1, keepdim=True)
        for position in torch.randint(9, (POSITIONS,), generator=seeded()).tolist():
            for song in range(3):
                scores = [float(unit[song, crop, position] @ o) / TEMPERATURE for o in others]
                own.append(math.log(sum(map(math.exp, scores))) - scores[song])
                rest = [other for other in range(3) if other != song]
                weights = np.exp([float(others[song] @ others[o]) / TEMPERATURE for o in rest])
                total = math.log(sum(math.exp(scores[o]) for o in rest))
                costs = [total - scores[o] for o in rest]
                alike.append(np.average(costs, weights=weights))
    expected = np.mean(own) + LIKENESS * np.mean(alike)
    assert float(position_loss(local, seeded())) == pytest.approx(expected, rel=1e-5)


def test_a_collapsed_network_cannot_do_better_than_guess_the_song() -> None:
    same = torch.ones(8, 2, 20, 6)
    expected = math.log(8) + LIKENESS * math.log(7)
    assert float(position_loss(same, seeded())) == pytest.approx(expected)


def test_two_clusters_are_nearly_the_best_that_the_published_loss_can_ask_for() -> None:
    """What is wrong with it: it falls as songs fall together."""
    spread = 0.1 * torch.randn(64, 1, 32, generator=seeded())
    sides = torch.zeros(64, 1, 32)
    sides[:32, :, 0] = 10
    sides[32:, :, 1] = 10
    positions = torch.ones(1, 20, 1)
    assert published_loss(sides * positions) < 0.01 < published_loss(spread * positions)


def test_dinos_loss_is_the_mean_over_pairs_of_different_views() -> None:
    views = torch.randn(4, 5, 7, generator=seeded(1))
    wanted = torch.randn(4, 2, 7, generator=seeded(2))
    centre = torch.randn(7, generator=seeded(3))
    temperature = torch.tensor(0.5)
    terms = [
        -(((wanted[s, g] - centre) / 0.5).softmax(0) * (views[s, v] / 0.1).log_softmax(0)).sum()
        for s in range(4)
        for g in range(2)
        for v in range(5)
        if g != v
    ]
    with torch.autocast("cpu", torch.bfloat16):  # as in training, and yet not rounded
        ours = multi_crop_loss(views, wanted, centre, temperature)
    assert float(ours) == pytest.approx(float(torch.stack(terms).mean()), rel=1e-5)


def test_local_views_are_windows_of_their_own_song() -> None:
    songs = torch.arange(3 * 2 * 80).reshape(3, 2, 80, 1).expand(-1, -1, -1, 4)
    cut = windows(songs, seeded())
    assert cut.shape == (3, 6, 20, 4)
    assert (cut[:, :, 1:] - cut[:, :, :-1] == 1).all()
    assert (cut[..., 0] // 160 == torch.arange(3)[:, None, None]).all()


def test_the_teacher_follows_the_student_and_is_what_is_kept() -> None:
    student = encoder()
    objective = DINO(student)
    first = next(student.parameters())
    before = first.detach().clone()
    with torch.no_grad():
        first.add_(1.0)
    objective.after_step(student, 0.0)
    moved = next(objective.kept(student).parameters()) - before
    assert 0 < float(moved.mean()) < 0.1
    assert not any(p.requires_grad for p in objective.teacher.parameters())
