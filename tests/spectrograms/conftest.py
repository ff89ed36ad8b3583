"""Sounds to decode."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from fastdino.core.workers import WorkerFailure
from fastdino.spectrograms.extract import Extracted, Task, extract
from fastdino.spectrograms.settings import SpectrogramSettings

Extract = Callable[[Path], tuple[Extracted | WorkerFailure, np.ndarray]]
Record = Callable[..., Path]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """Write a file of a quiet chord: ``record("a.flac", seconds=2, rate=8000, channels=8)``."""

    def write(name: str, seconds: float = 2.0, rate: int = 16_000, channels: int = 1) -> Path:
        t = np.arange(int(seconds * rate)) / rate
        wave = 0.1 * (np.sin(2 * np.pi * 440 * t) + np.sin(2 * np.pi * 1320 * t))
        path = tmp_path / name
        soundfile.write(path, np.repeat(wave[:, None], channels, axis=1), rate)
        return path

    return write


@pytest.fixture
def extracted(tmp_path: Path) -> Extract:
    """What a worker makes of a file, here and now: the outcome and the frames."""

    def work(path: Path) -> tuple[Extracted | WorkerFailure, np.ndarray]:
        settings = SpectrogramSettings()
        spool = tmp_path / "spool"
        result = extract(Task(path, spool, settings))
        if isinstance(result, WorkerFailure):
            return result, np.empty((0, settings.n_mels), np.uint8)
        return result, np.fromfile(spool, np.uint8).reshape(-1, settings.n_mels)

    return work
