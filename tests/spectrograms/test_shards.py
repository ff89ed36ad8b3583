"""What is written can be read again, in order, whatever was in the way."""

import contextlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdino.spectrograms import shards
from fastdino.spectrograms.shards import ShardWriter, TrackInfo


def info(track_id: str) -> TrackInfo:
    return TrackInfo(track_id, -100.0, 0.5, None, 1.0, False)


def frames(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 80), np.uint8)


def contents(folder: Path) -> dict[str, np.ndarray]:
    parts: dict[str, list[shards.Piece]] = {}
    for shard in shards.list_shards(folder):
        for piece in shards.iter_pieces(shard):
            parts.setdefault(piece.track_id, []).append(piece)
    for pieces in parts.values():
        assert [p.piece for p in pieces] == list(range(len(pieces)))
        assert [p.start_frame for p in pieces] == [6000 * p.piece for p in pieces]
    return {name: np.concatenate([p.frames for p in pieces]) for name, pieces in parts.items()}


@given(runs=st.lists(st.lists(st.integers(1, 13_000), max_size=3), max_size=3))
def test_tracks_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, runs: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    written = {}
    for run, lengths in enumerate(runs):
        with ShardWriter(folder) as writer:
            for seed, length in enumerate(lengths):
                written[f"{run}-{seed}"] = frames(length, seed)
                writer.append(info(f"{run}-{seed}"), written[f"{run}-{seed}"])
    found = contents(folder)
    assert list(found) == list(written)
    for name, expected in written.items():
        assert np.array_equal(found[name], expected)


def test_small_additions_fill_the_last_shard_until_it_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 1_000_000)
    monkeypatch.setattr(shards, "ROW_GROUP_BYTES", 200_000)
    for day in range(10):
        with ShardWriter(tmp_path) as writer:
            writer.append(info(f"{day}"), frames(3000, day))
    names = [path.name for path in shards.list_shards(tmp_path)]
    assert names == [f"spectrograms-{n:06d}.parquet" for n in (1, 2)]
    groups = pq.ParquetFile(tmp_path / names[0]).num_row_groups
    assert 2 <= groups <= 5
    assert list(contents(tmp_path)) == [f"{day}" for day in range(10)]
    index = shards.read_index(tmp_path)
    assert index["shard"].to_pylist() == [names[0]] * 5 + [names[1]] * 5
    assert "spectrogram" not in index.column_names


def test_only_the_wanted_tracks_are_read(tmp_path: Path) -> None:
    with ShardWriter(tmp_path) as writer:
        for name in "abc":
            writer.append(info(name), frames(7000))
    (shard,) = shards.list_shards(tmp_path)
    pieces = list(shards.iter_pieces(shard, {"b", "nobody"}))
    assert [(p.track_id, len(p.frames)) for p in pieces] == [("b", 6000), ("b", 1000)]


def test_an_interrupted_writer_keeps_whole_tracks_and_no_half_ones(tmp_path: Path) -> None:
    class Broken(np.ndarray):
        def __getitem__(self, key: object) -> np.ndarray:
            raise OSError("disk gone")

    with ShardWriter(tmp_path) as writer:
        writer.append(info("before"), frames(10))
    with contextlib.suppress(KeyboardInterrupt), ShardWriter(tmp_path) as writer:
        writer.append(info("whole"), frames(10))
        raise KeyboardInterrupt
    with pytest.raises(OSError, match="disk gone"), ShardWriter(tmp_path) as writer:
        writer.append(info("half"), frames(10).view(Broken))
    assert list(contents(tmp_path)) == ["before", "whole"]
    assert [path.name for path in tmp_path.iterdir()] == ["spectrograms-000001.parquet"]


def test_a_writer_that_is_given_nothing_writes_nothing(tmp_path: Path) -> None:
    with ShardWriter(tmp_path) as writer:
        writer.flush()
    assert not list(tmp_path.iterdir())
    assert len(shards.read_index(tmp_path)) == 0
    assert "shard" in shards.read_index(tmp_path).column_names
