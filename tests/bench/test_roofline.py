"""What a step costs on paper is what it costs."""

import dataclasses
from pathlib import Path

import pytest
import torch
from song_shards import songs, write_songs
from torch.utils.flop_counter import FlopCounterMode

from fastdino.bench.roofline import CARDS, step_cost
from fastdino.core.home import Home
from fastdino.spectrograms.shards import list_shards
from fastdino.training.loop import Run
from fastdino.training.sampler import CropSampler
from fastdino.training.settings import PRESETS, Collection

FRAMES_PER_S = 100
CPU = torch.device("cpu")


@pytest.mark.parametrize("preset", ["cpu", "gpu"])
def test_parameters_and_operations_are_those_of_a_real_step(tmp_path: Path, preset: str) -> None:
    settings = dataclasses.replace(PRESETS[preset], songs=4)
    shards = list_shards(write_songs(Home(tmp_path), songs()))
    sampler = CropSampler(shards, device=CPU, budget_bytes=10**9, seed=0)
    run = Run(
        settings,
        sampler,
        collection=Collection(0.0, 0),
        frames_per_s=FRAMES_PER_S,
        device=CPU,
        folder=tmp_path,
    )
    with FlopCounterMode(display=False) as counter:
        run.one_step()
    cost = step_cost(settings, FRAMES_PER_S)
    assert cost.parameters == sum(p.numel() for p in run.learned.parameters())
    counted = sum(
        flops
        for operation, flops in counter.get_flop_counts()["Global"].items()
        # Counted there as if every channel saw all others.
        if operation is not torch.ops.aten.convolution_backward
    )
    assert cost.flops + cost.other_flops == pytest.approx(counted, rel=0.02)


def test_twice_the_songs_are_twice_the_encoder_s_work_and_the_same_optimiser_s() -> None:
    one = step_cost(PRESETS["gpu"], FRAMES_PER_S)
    two = step_cost(dataclasses.replace(PRESETS["gpu"], songs=512), FRAMES_PER_S)
    assert two.flops == 2 * one.flops
    assert one.moved_bytes < two.moved_bytes < 2 * one.moved_bytes
    for card in CARDS:
        assert all(a < b for a, b in zip(one.seconds(card), two.seconds(card), strict=True))
