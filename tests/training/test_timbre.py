import torch
from hypothesis import given
from hypothesis import strategies as st

from fastdino.training.timbre import Products, Timbre, merged, total


def song(seed: int, n: int = 800, bands: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(n, bands, generator=generator) @ torch.randn(
        bands, bands, generator=generator
    )
    return (100 + 8 * mixed).clamp(40, 180).to(torch.uint8)


def fitted() -> Timbre:
    timbre = Timbre(6, 4)
    timbre.fit_bands(total(Products.of(merged(song(seed), 8)) for seed in range(8)))
    timbre.fit_projection(pooled(timbre, *map(song, range(8))), torch.arange(8))
    return timbre


def pooled(timbre: Timbre, *songs: torch.Tensor) -> torch.Tensor:
    return timbre.pooled(Products.of(merged(each, 8)) for each in songs)


def test_what_is_constant_through_a_song_makes_no_difference() -> None:
    timbre = fitted()
    equalised = song(3) + torch.tensor([0, 40, 3, 9, 60, 21], dtype=torch.uint8)
    torch.testing.assert_close(
        timbre.vectors(pooled(timbre, equalised)), timbre.vectors(pooled(timbre, song(3)))
    )


def test_songs_whose_bands_move_in_other_ways_are_told_apart() -> None:
    timbre = Timbre(6, 12)
    songs = [song(seed, 16_000) for seed in range(8)]
    timbre.fit_bands(total(Products.of(merged(each, 8)) for each in songs))
    timbre.fit_projection(pooled(timbre, *songs), torch.arange(8))
    halves = [pooled(timbre, half) for each in songs for half in each.chunk(2)]
    vectors = timbre.vectors(torch.cat(halves))
    nearest = (vectors @ vectors.T - 2 * torch.eye(16)).argmax(1)
    assert nearest.tolist() == [row ^ 1 for row in range(16)]


@given(st.lists(st.integers(1, 700), min_size=1, max_size=5))
def test_sums_of_parts_are_those_of_the_whole_to_the_last_bit(lengths: list[int]) -> None:
    positions = merged(song(1, 8 * sum(lengths)), 8)
    whole, parts = Products.of(positions), total(map(Products.of, positions.split(lengths)))
    assert torch.equal(whole.products, parts.products)
    assert torch.equal(whole.total, parts.total)
    assert whole.count == parts.count


def test_the_logarithm_is_that_of_the_whitened_covariance() -> None:
    timbre = fitted()
    turn = timbre.whitening.double()
    covariance = torch.cov(merged(song(2), 8).T, correction=0)
    spread, directions = torch.linalg.eigh(turn.T @ covariance @ turn + 0.1 * torch.eye(6))
    logarithm = directions @ torch.diag(spread.log()) @ directions.T
    found = pooled(timbre, song(2))[0]
    # Distances are those of the whole matrices.
    torch.testing.assert_close(found.norm(), logarithm.norm().float())


def test_silence_and_a_single_frame_have_a_vector() -> None:
    timbre = fitted()
    silence, frame = torch.zeros(400, 6, dtype=torch.uint8), song(1)[:1]
    vectors = timbre.vectors(pooled(timbre, silence, frame))
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2, dtype=torch.float64))
    silent = Timbre(6, 4)
    silent.fit_bands(Products.of(merged(silence, 8)))
    silent.fit_projection(pooled(silent, silence), torch.zeros(1, dtype=torch.long))
    assert torch.isfinite(silent.vectors(pooled(silent, silence, frame))).all()
