import torch

from fastdino.training.random_features import UNITS, RandomFeatures

HOP = 8


def frames(n: int) -> torch.Tensor:
    return torch.randn(1, n, 80, generator=torch.Generator().manual_seed(n))


def test_every_model_has_the_same_random_features() -> None:
    torch.manual_seed(3)
    first = RandomFeatures(80, HOP, 12)
    torch.manual_seed(4)
    assert torch.equal(first(frames(100)), RandomFeatures(80, HOP, 12)(frames(100)))


def test_a_position_s_features_are_of_its_own_frames_alone() -> None:
    features = RandomFeatures(80, HOP, 12)
    whole = frames(8 * HOP + 3)
    assert features(whole).shape == (1, 8, UNITS)
    alone = features(whole[:, 2 * HOP : 3 * HOP])
    torch.testing.assert_close(features(whole)[:, 2:3], alone)


def test_about_half_of_the_units_answer() -> None:
    answers = RandomFeatures(80, HOP, 12)(frames(8000)) > 0
    assert 0.4 < answers.float().mean() < 0.6
    assert answers.float().mean((0, 1)).gt(0.01).all()
