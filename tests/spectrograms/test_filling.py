"""Shards hold the same bytes in whatever order songs are done, and however a run ends."""

import itertools
import random
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from fastdino import ingestion, spectrograms
from fastdino.core.home import Home
from fastdino.core.workers import WorkerFailure, WorkerPool
from fastdino.spectrograms import SpectrogramSettings, filling, shards, stage

SPEC = SpectrogramSettings()
SONGS = 13


class Shuffled(WorkerPool[Any, Any]):
    """A pool that does tasks here, some at a time, each lot in another order."""

    seed = 0

    def map(
        self,
        tasks: Iterable[Any],
        instead: Callable[[Any, WorkerFailure], Any] = lambda task, failure: None,
    ) -> Generator[tuple[Any, Any], None, None]:
        rng, waiting = random.Random(self.seed), iter(tasks)
        while lot := [task for task in itertools.islice(waiting, 5) if task is not None]:
            rng.shuffle(lot)
            for task in lot:
                result = self._function(task)
                other = instead(task, result) if isinstance(result, WorkerFailure) else None
                yield task, result
                if other is not None:
                    yield other, self._function(other)


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "WorkerPool", Shuffled)
    monkeypatch.setattr(shards, "SHARD_BYTES", round(5 * SPEC.frames_per_s * SPEC.n_mels))
    monkeypatch.setattr(filling, "OPEN_PARCELS", 3)


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Songs of two seconds, one of them damaged, one damaged in one of its two files."""
    folder = tmp_path_factory.mktemp("music")
    for number in range(SONGS):
        noise = np.random.default_rng(number).normal(0, 0.1, 32_000)
        soundfile.write(folder / f"{number:02d}.wav", noise, 16_000)
    soundfile.write(folder / "05.wav", np.zeros(32_000), 16_000)
    (folder / "97.wav").write_bytes((folder / "07.wav").read_bytes())
    return folder


def written(home: Home) -> dict[str, bytes]:
    folder = home.shards(SPEC.spec_id)
    assert not (folder / "plan.parquet").exists()
    assert not any(home.scratch.iterdir())
    return {path.name: path.read_bytes() for path in shards.list_shards(folder)}


def made(home: Home, music: Path) -> dict[str, bytes]:
    ingestion.run(home, [music])
    spectrograms.run(home)
    return written(home)


@pytest.fixture(scope="module")
def expected(music: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filling, "WorkerPool", Shuffled)
        patch.setattr(shards, "SHARD_BYTES", round(5 * SPEC.frames_per_s * SPEC.n_mels))
        return made(Home(tmp_path_factory.mktemp("expected")), music)


@pytest.mark.parametrize("seed", [1, 2])
def test_in_whatever_order_songs_are_done(
    seed: int, tmp_path: Path, music: Path, expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert len(expected) >= 4
    monkeypatch.setattr(Shuffled, "seed", seed)
    monkeypatch.setattr(filling, "FLUSH_EVERY_S", 0.0)
    assert made(Home(tmp_path), music) == expected


@pytest.mark.parametrize("after", [1, 9])
def test_however_early_a_run_is_interrupted_and_taken_up_again(
    after: int, tmp_path: Path, music: Path, expected: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    home, folder = Home(tmp_path), Home(tmp_path).shards(SPEC.spec_id)
    ingestion.run(home, [music])
    real = Shuffled.map

    def broken_off(self: Shuffled, *arguments: Any) -> Any:
        yield from itertools.islice(real(self, *arguments), after)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Shuffled, "seed", after)
        patch.setattr(Shuffled, "map", broken_off)
        with pytest.raises(KeyboardInterrupt):
            spectrograms.run(home)
    kept = len(shards.read_index(folder))
    assert kept < SONGS - 1
    assert (folder / "plan.parquet").exists()
    spectrograms.run(home)
    assert written(home) == expected


def test_a_song_whose_first_file_cannot_be_decoded_keeps_its_place(
    tmp_path: Path, music: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = filling.extract.in_worker

    def refused(task: Any) -> Any:
        return WorkerFailure("no") if task.path.name == "07.wav" else real(task)

    monkeypatch.setattr(filling.extract, "in_worker", refused)
    home = Home(tmp_path)
    assert made(home, music) == expected
    failures = stage.read_failures(home.shards(SPEC.spec_id))
    assert sorted(Path(path).name for path in failures["path"]) == ["05.wav", "07.wav"]
