"""Shards of made-up songs, for tests of what learns from them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fastdino.core.home import Home
from fastdino.spectrograms import SpectrogramSettings
from fastdino.spectrograms.shards import ShardWriter, TrackInfo
from tests.synthetic import shard_to_fill

# Networks this small gain nothing from threads, and lose much to them on a busy machine.
torch.set_num_threads(1)


def song(artist: int, number: int, n_frames: int) -> np.ndarray:
    """Frames with a colour of their artist's and a beat of their own, uint8 [n_frames, 80]."""
    rng = np.random.default_rng([artist, number])
    colour = np.random.default_rng(artist).uniform(40, 160, size=80)
    beat = 50 * np.sin(np.arange(n_frames) / (3 + 2 * number))[:, None]
    return np.clip(colour + beat + rng.normal(0, 12, (n_frames, 80)), 0, 255).astype(np.uint8)


def write_songs(home: Home, names: dict[str, np.ndarray]) -> Path:
    """Append songs to the shards of a home; returns the folder."""
    settings = SpectrogramSettings()
    folder = home.shards(settings.spec_id)
    folder.mkdir(parents=True, exist_ok=True)
    with ShardWriter(shard_to_fill(folder)) as writer:
        for track_id, frames in names.items():
            seconds = len(frames) / settings.frames_per_s
            info = TrackInfo(track_id, settings.min_db, settings.step_db, seconds, seconds, False)
            writer.append(info, frames)
    return folder


def songs(artists: int = 3, each: int = 4, n_frames: int = 900) -> dict[str, np.ndarray]:
    return {
        f"{artist:02d}-{number:02d}": song(artist, number, n_frames + 37 * number)
        for artist in range(artists)
        for number in range(each)
    }


@pytest.fixture
def home_with_shards(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    write_songs(home, songs())
    return home
