import torch
from hypothesis import given
from hypothesis import strategies as st

from fastdino.training.projection import fitted_projection, principal, projected, scatter_within


def rows(n: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def test_the_widest_directions_are_kept() -> None:
    spread = torch.tensor([9.0, 4.0, 1.0, 0.01])
    turn = torch.linalg.qr(rows(7, 7)).Q[:4]
    placed = rows(4000, 4, 1) * spread @ turn + 3
    center, directions, deviations = principal(placed, 3)
    torch.testing.assert_close(deviations, spread[:3].double(), rtol=0.05, atol=0)
    torch.testing.assert_close(
        ((placed.double() - center) @ directions).std(0), deviations, rtol=0.05, atol=0
    )
    # Three rows spread in two directions; what more there was would be rounding errors.
    assert principal(placed[:3], 6)[1].shape == (7, 2)


def test_directions_are_the_same_from_few_rows_as_from_many() -> None:
    placed = rows(30, 40)
    few, many = principal(placed, 5)[1], principal(placed.repeat(2, 1), 5)[1]
    torch.testing.assert_close((few.T @ many).abs().diagonal(), torch.ones(5, dtype=torch.float64))


def test_what_changes_within_songs_counts_little() -> None:
    """Songs differ in six numbers and change, much more, in a seventh."""
    songs = torch.arange(200).repeat_interleave(8)
    own = torch.cat([rows(200, 6), torch.zeros(200, 1)], 1)[songs]
    changing = rows(1600, 7, 1) * torch.tensor([0.1] * 6 + [5.0])
    pooled = own + changing
    center, projection = fitted_projection(pooled, songs, 7)
    firsts = pooled[::8]
    vectors, others = (projected(each, center, projection) for each in (firsts, pooled[1::8]))
    found = (vectors @ others.T).argmax(1) == torch.arange(200)
    plain = torch.cdist(firsts, pooled[1::8]).argmin(1) == torch.arange(200)
    assert found.float().mean() > 0.9 > 0.5 > plain.float().mean()


def test_few_songs_are_half_whitened() -> None:
    """Of a segment each, how far songs spread within themselves is not known."""
    pooled = rows(2000, 4) * torch.tensor([9.0, 4.0, 1.0, 0.25])
    center, projection = fitted_projection(pooled, torch.arange(2000), 4)
    deviations = ((pooled.double() - center) @ projection).std(0)
    expected = torch.tensor([3.0, 2.0, 1.0, 0.5], dtype=torch.float64)
    torch.testing.assert_close(
        deviations / deviations[0], expected / expected[0], rtol=0.05, atol=0
    )


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 12))
def test_any_few_segments_of_any_songs_give_finite_directions(songs: list[int], dim: int) -> None:
    pooled = rows(len(songs), 8, len(songs)) + 5
    center, projection = fitted_projection(pooled, torch.tensor(songs), dim)
    assert projection.shape == (8, dim)
    assert torch.isfinite(projected(pooled, center, projection)).all()


@given(st.lists(st.integers(0, 5), min_size=2, max_size=40))
def test_scatter_within_songs_is_what_their_covariances_pool_to(songs: list[int]) -> None:
    placed, owners = rows(len(songs), 3).double(), torch.tensor(songs)
    found, freedom = scatter_within(placed, owners)
    groups = [placed[owners == song] for song in set(songs)]
    expected = sum(torch.cov(each.T, correction=0) * len(each) for each in groups)
    assert freedom == len(songs) - len(groups)
    torch.testing.assert_close(found * max(1, freedom), expected)
