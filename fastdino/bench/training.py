"""How fast a training step is.

Belongs here: the default recipe's step beside that of the method as published, on the same crops,
and beside plain matrix products, in the same process. Does not: how well either learns.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fastdino.bench.roofline import step_cost
from fastdino.bench.table import Row
from fastdino.spectrograms import SpectrogramSettings
from fastdino.spectrograms.shards import ShardWriter, TrackInfo, list_shards, name_of
from fastdino.training.device import best_device, multiplies_in
from fastdino.training.loop import Run
from fastdino.training.objectives.published import published_loss
from fastdino.training.published_encoder import LEARNING_RATE, PublishedEncoder
from fastdino.training.sampler import CropSampler
from fastdino.training.settings import Collection, EncoderSettings, settings_for

SONGS, SONG_S = 64, 180
# Of the collection that the method was first made for.
COLLECTION_HOURS = 750
STEPS = 8
# A product takes a small part of a step.
PRODUCTS = 10
# The published step is long, and none of its time is per batch: fewer crops measure the same.
PUBLISHED_CROPS = 8


def rows() -> Iterator[Row]:
    """Measure; takes a minute or two on two cores."""
    settings = settings_for("auto")
    spec = SpectrogramSettings()
    device = best_device()
    with tempfile.TemporaryDirectory(prefix="fastdino-bench-") as name:
        folder = Path(name)
        _noise(folder, spec)
        sampler = CropSampler(list_shards(folder), device=device, budget_bytes=10**10, seed=0)
        run = Run(
            settings,
            sampler,
            collection=Collection(SONGS * SONG_S / 3600, SONGS),
            frames_per_s=spec.frames_per_s,
            device=device,
            folder=folder,
        )
        crops = settings.songs * settings.crops
        loading: list[float] = []
        ours: list[float] = []
        theirs: list[float] = []
        plain: list[float] = []
        published = _published_step(
            sampler.batch(0, PUBLISHED_CROPS, 1, run.crop_frames).flatten(0, 1)
        )
        multiply, product_flops = _product(settings.encoder, crops * run.crop_frames, device)
        if device.type == "cuda":
            run.compile()
        run.one_step()
        published()
        multiply()
        for step in range(STEPS):  # taken in turns, so that both meet the same disturbances
            ours.append(_seconds(run.one_step, device))
            draw = (step, settings.songs, settings.crops, run.crop_frames)
            loading.append(_seconds(lambda draw=draw: sampler.batch(*draw), device))  # type: ignore[misc]
            theirs.append(_seconds(published, device))
            plain.append(_seconds(lambda: [multiply() for _ in range(PRODUCTS)], device))
        step_s = statistics.median(ours)
        yield Row(
            f"training step, preset {settings.preset}",
            crops / step_s,
            f"crops/s of {settings.crop_s:.0f} s",
            "encoder and loss as published",
            PUBLISHED_CROPS / statistics.median(theirs),
        )
        frames = crops * run.crop_frames
        speed = settings.encoder.learning_flops(frames, run.objective.every) / step_s
        yield Row("  the same", speed / 1e9, "GFLOP/s")
        plain_speed = PRODUCTS * product_flops / statistics.median(plain)
        cost = step_cost(settings, spec.frames_per_s)  # head and optimiser multiply, too
        share = 100 * (cost.flops + cost.other_flops) / step_s / plain_speed
        yield Row("  of what plain matrix products do", share, "%", target=">= 75")
        crops_of_all = COLLECTION_HOURS * 3600 / settings.crop_s
        yield Row(
            f"  one pass over {COLLECTION_HOURS} hours",
            crops_of_all / crops * step_s / 60,
            "minutes",
        )
        share = 100 * statistics.median(loading) / step_s
        yield Row("  of it drawing crops", share, "% of the step", target="< 5")


def _noise(folder: Path, spec: SpectrogramSettings) -> None:
    rng = np.random.default_rng(0)
    n_frames = round(SONG_S * spec.frames_per_s)
    with ShardWriter(folder / name_of(1)) as writer:
        for number in range(SONGS):
            frames = rng.integers(0, 256, (n_frames, spec.n_mels), dtype=np.uint8)
            info = TrackInfo(str(number), spec.min_db, spec.step_db, SONG_S, SONG_S, False)
            writer.append(info, frames)


def _published_step(crops: torch.Tensor) -> Callable[[], None]:
    torch.manual_seed(0)
    encoder = PublishedEncoder().to(crops.device)
    optimizer = torch.optim.Adam(encoder.parameters(), LEARNING_RATE)

    def step() -> None:
        loss = published_loss(encoder(crops.float() / 255))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _product(
    shape: EncoderSettings, n_frames: int, device: torch.device
) -> tuple[Callable[[], Tensor], float]:
    """The encoder's largest matrix product, by itself; and its floating-point operations."""
    positions, width, hidden = n_frames // shape.stride, shape.dim, shape.expansion * shape.dim
    dtype = multiplies_in(device)
    a = torch.randn(positions, width, device=device, dtype=dtype)
    b = torch.randn(width, hidden, device=device, dtype=dtype)
    return lambda: a @ b, 2.0 * positions * width * hidden


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
