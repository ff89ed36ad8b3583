from pathlib import Path

import numpy as np
import pytest
import torch
from song_shards import song, write_songs

from fastdino.core.home import Home
from fastdino.spectrograms.shards import list_shards
from fastdino.training.sampler import CropSampler, frame_budget, places, window

CPU = torch.device("cpu")


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """Six shards of two songs, each frame holding its song's number in every band."""
    files = []
    for shard in range(6):
        home = Home(tmp_path / str(shard))
        numbers = (2 * shard, 2 * shard + 1)
        names = {f"song-{n}": np.full((300 + 100 * n, 80), n, np.uint8) for n in numbers}
        files += list_shards(write_songs(home, names))
    return files


def test_crops_of_a_song_are_of_that_song(shards: list[Path]) -> None:
    sampler = CropSampler(shards, device=CPU, budget_bytes=10**9, seed=0)
    assert sampler.resident
    batch = sampler.batch(0, 12, 2, 100)
    assert batch.shape == (12, 2, 100, 80)
    per_song = batch.flatten(1)
    assert (per_song == per_song[:, :1]).all()
    assert sorted(per_song[:, 0].tolist()) == list(range(12)), "each song once"


def test_a_batch_larger_than_the_collection_repeats_songs(shards: list[Path]) -> None:
    sampler = CropSampler(shards[:1], device=CPU, budget_bytes=10**9, seed=0)
    assert sampler.batch(0, 5, 2, 100).shape[0] == 5


def test_a_batch_depends_on_seed_and_step_alone(shards: list[Path]) -> None:
    first = CropSampler(shards, device=CPU, budget_bytes=10**9, seed=1)
    first.batch(0, 4, 2, 50)
    second = CropSampler(shards, device=CPU, budget_bytes=10**9, seed=1)
    assert torch.equal(first.batch(7, 4, 2, 50), second.batch(7, 4, 2, 50))
    assert not torch.equal(first.batch(7, 4, 2, 50), first.batch(8, 4, 2, 50))


def test_a_song_shorter_than_a_crop_is_repeated(tmp_path: Path) -> None:
    frames = song(0, 0, 130)
    files = list_shards(write_songs(Home(tmp_path), {"short": frames}))
    crop = CropSampler(files, device=CPU, budget_bytes=10**9, seed=0).batch(0, 1, 1, 300)[0, 0]
    assert np.array_equal(crop.numpy(), np.concatenate([frames, frames, frames[:40]]))


def test_crops_of_a_long_song_lie_in_different_parts_of_it(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(250, dtype=np.uint8)[:, None], 80, axis=1).repeat(8, axis=0)
    files = list_shards(write_songs(Home(tmp_path), {"ramp": ramp}))
    sampler = CropSampler(files, device=CPU, budget_bytes=10**9, seed=0)
    for step in range(20):
        early, late = sampler.batch(step, 1, 2, 100)[0, :, 0, 0].tolist()
        assert early < 125 <= late + 13


def test_a_narrow_window_moves_over_the_whole_collection_within_its_budget(
    shards: list[Path],
) -> None:
    budget = 500_000
    sampler = CropSampler(shards, device=CPU, budget_bytes=budget, seed=0, steps_per_shard=3)
    assert not sampler.resident
    seen: set[int] = set()
    for step in range(3 * len(shards)):
        batch = sampler.batch(step, 4, 2, 50)
        assert (batch.flatten(1) == batch.flatten(1)[:, :1]).all()
        seen |= set(batch[:, 0, 0, 0].tolist())
        assert sampler._frames.numel() <= budget
    assert seen == set(range(12))


def test_songs_that_a_shard_gains_meanwhile_change_nothing(shards: list[Path]) -> None:
    first = CropSampler(shards, device=CPU, budget_bytes=500_000, seed=0, steps_per_shard=1)
    undisturbed = [first.batch(step, 4, 2, 50) for step in range(12)]
    grown = CropSampler(shards, device=CPU, budget_bytes=500_000, seed=0, steps_per_shard=1)
    for number, shard in enumerate(shards):
        late = np.full((4000, 80), 200 + number, np.uint8)
        write_songs(Home(shard.parents[2]), {f"late-{number}": late})
    for step, batch in enumerate(undisturbed):
        assert torch.equal(grown.batch(step, 4, 2, 50), batch)


def test_a_resumed_narrow_window_draws_what_an_undisturbed_one_draws(shards: list[Path]) -> None:
    def sampler() -> CropSampler:
        return CropSampler(shards, device=CPU, budget_bytes=500_000, seed=3, steps_per_shard=2)

    undisturbed = sampler()
    batches = [undisturbed.batch(step, 3, 2, 50) for step in range(11)]
    assert torch.equal(sampler().batch(10, 3, 2, 50), batches[10])


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_that_hold_the_whole_collection_take_slices_of_the_one_batch(
    shards: list[Path], world: int
) -> None:
    whole = CropSampler(shards, device=CPU, budget_bytes=10**9, seed=0)
    ranks = [
        CropSampler(shards, device=CPU, budget_bytes=10**9, seed=0, rank=rank, world=world)
        for rank in range(world)
    ]
    for step in (0, 5):
        slices = [each.batch(step, 16, 2, 50) for each in ranks]
        assert torch.equal(torch.cat(slices), whole.batch(step, 16, 2, 50))


def test_ranks_share_out_a_collection_that_does_not_fit_and_each_goes_through_its_part(
    shards: list[Path],
) -> None:
    def of(rank: int) -> CropSampler:
        return CropSampler(
            shards, device=CPU, budget_bytes=10, seed=0, steps_per_shard=2, rank=rank, world=2
        )

    seen: list[set[int]] = []
    for rank in range(2):
        sampler = of(rank)
        assert not sampler.resident
        drawn = set()
        for step in range(2 * len(shards)):
            batch = sampler.batch(step, 4, 2, 50)
            assert batch.shape == (2, 2, 50, 80)
            drawn |= set(batch[:, 0, 0, 0].tolist())
            assert len(sampler._slots) == 1
        # Of the seed, the step and its shards: a resumed rank draws the same.
        assert torch.equal(of(rank).batch(step, 4, 2, 50), batch)
        seen.append(drawn)
    assert seen[0] | seen[1] == set(range(12))
    assert not seen[0] & seen[1]


def test_what_is_too_much_for_one_rank_may_lie_in_the_memory_of_several(
    shards: list[Path],
) -> None:
    budget = 500_000

    def sampler(rank: int, world: int) -> CropSampler:
        return CropSampler(shards, device=CPU, budget_bytes=budget, seed=0, rank=rank, world=world)

    assert not sampler(0, 1).resident
    assert all(sampler(rank, 6).resident for rank in range(6))
    # More ranks than shards: some have one in common.
    batches = [sampler(rank, 9).batch(0, 9, 1, 50) for rank in range(9)]
    assert all(batch.shape == (1, 1, 50, 80) for batch in batches)
    assert len({int(batch[0, 0, 0, 0]) for batch in batches}) > 5


def test_a_window_is_as_wide_as_memory_allows_with_room_for_the_shard_that_is_read_ahead() -> None:
    lengths = [5, 1, 1, 1]
    assert [window(lengths, budget) for budget in (0, 5, 7, 8, 100)] == [1, 1, 1, 4, 4]
    even = [4, 4, 4, 4]
    assert [window(even, budget) for budget in (8, 11, 12, 15, 16)] == [1, 1, 2, 2, 4]
    assert places(even, 2) == 12
    assert places(lengths, 4) == 8


def test_the_window_may_jump_while_the_next_shard_is_being_read(shards: list[Path]) -> None:
    for _ in range(5):
        sampler = CropSampler(shards, device=CPU, budget_bytes=500_000, seed=0, steps_per_shard=1)
        for step in (0, 7, 2, 11):
            batch = sampler.batch(step, 4, 2, 50)
            assert (batch.flatten(1) == batch.flatten(1)[:, :1]).all()


@pytest.mark.parametrize("budget_bytes", [10**9, 600_000])
def test_which_songs_are_judged_depends_on_neither_where_a_run_got_to_nor_its_crops(
    shards: list[Path], budget_bytes: int
) -> None:
    sampler = CropSampler(shards, device=CPU, budget_bytes=budget_bytes, seed=0)
    judged = [name for name, _ in sampler.tracks(3, seed=0)]
    looked_at = sampler.sample_frames(50)
    sampler.batch(5 * sampler.steps_per_shard, 4, 1, 100)
    assert [name for name, _ in sampler.tracks(3, seed=0)] == judged
    assert torch.equal(sampler.sample_frames(50), looked_at)
    if sampler.resident:
        other = CropSampler(shards, device=CPU, budget_bytes=budget_bytes, seed=1)
        assert [name for name, _ in other.tracks(3, seed=0)] == judged
    for name, frames in sampler.tracks(3, seed=0):
        assert (frames == int(name.removeprefix("song-"))).all()


@pytest.mark.parametrize(
    ("free_gb", "kept_gb", "expected_gb"), [(80, 0, 53), (8, 0, 2), (24, 0, 14), (10, 14, 14)]
)
def test_frames_leave_room_for_a_step_on_any_gpu(
    free_gb: int, kept_gb: int, expected_gb: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free_gb * 10**9, 80 * 10**9))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: kept_gb * 10**9)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 0)
    assert frame_budget(torch.device("cuda")) // 10**9 == expected_gb
