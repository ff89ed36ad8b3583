"""What is written can be read again, in order, whatever was in the way."""

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdino.spectrograms import shards
from fastdino.spectrograms.shards import ShardWriter, TrackInfo
from tests.synthetic import shard_to_fill

FIRST = shards.name_of(1)


def info(track_id: str) -> TrackInfo:
    return TrackInfo(track_id, -100.0, 0.5, None, 1.0, False)


def frames(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 80), np.uint8)


def contents(folder: Path) -> dict[str, np.ndarray]:
    parts: dict[str, list[np.ndarray]] = {}
    for shard in shards.list_shards(folder):
        for piece in shards.iter_pieces(shard):
            parts.setdefault(piece.track_id, []).append(piece.frames)
    index = shards.read_index(folder).to_pylist()
    for name, pieces in parts.items():
        rows = [row for row in index if row["track_id"] == name]
        assert [row["piece"] for row in rows] == list(range(len(pieces)))
        assert [row["start_frame"] for row in rows] == [6000 * row["piece"] for row in rows]
    return {name: np.concatenate(pieces) for name, pieces in parts.items()}


@given(runs=st.lists(st.lists(st.integers(1, 13_000), max_size=3), max_size=3))
def test_tracks_come_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, runs: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    written = {}
    for run, lengths in enumerate(runs):
        with ShardWriter(shard_to_fill(folder)) as writer:
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
        with ShardWriter(shard_to_fill(tmp_path)) as writer:
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
    with ShardWriter(tmp_path / FIRST) as writer:
        for name in "abc":
            writer.append(info(name), frames(7000))
    (shard,) = shards.list_shards(tmp_path)
    pieces = list(shards.iter_pieces(shard, {"b", "nobody"}))
    assert [(p.track_id, len(p.frames)) for p in pieces] == [("b", 6000), ("b", 1000)]


def test_an_interrupted_writer_keeps_whole_tracks_and_no_half_ones(tmp_path: Path) -> None:
    class Broken(np.ndarray):
        def __getitem__(self, key: object) -> np.ndarray:
            raise OSError("disk gone")

    with ShardWriter(tmp_path / FIRST) as writer:
        writer.append(info("before"), frames(10))
    with (
        contextlib.suppress(KeyboardInterrupt),
        ShardWriter(tmp_path / FIRST) as writer,
    ):
        writer.append(info("whole"), frames(10))
        raise KeyboardInterrupt
    with (
        pytest.raises(OSError, match="disk gone"),
        ShardWriter(tmp_path / FIRST) as writer,
    ):
        writer.append(info("half"), frames(10).view(Broken))
    assert list(contents(tmp_path)) == ["before", "whole"]
    assert [path.name for path in tmp_path.iterdir()] == ["spectrograms-000001.parquet"]


def test_a_writer_that_is_given_nothing_writes_nothing(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / FIRST) as writer:
        writer.flush()
    assert not list(tmp_path.iterdir())
    assert len(shards.read_index(tmp_path)) == 0
    assert "shard" in shards.read_index(tmp_path).column_names


@given(
    lengths=st.lists(st.integers(1, 13_000), min_size=1, max_size=5),
    flushes=st.sets(st.integers(0, 4)),
)
def test_a_shard_holds_the_same_bytes_however_often_its_writing_was_taken_up(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], flushes: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "ROW_GROUP_BYTES", 500_000)
        with ShardWriter(folder / "whole") as writer:
            for seed, length in enumerate(lengths):
                writer.append(info(f"{seed}"), frames(length, seed))
        writer = ShardWriter(folder / "in parts")
        for seed, length in enumerate(lengths):
            writer.append(info(f"{seed}"), frames(length, seed))
            if seed in flushes:
                writer.flush()
                writer = ShardWriter(folder / "in parts")
        writer.flush()
    assert (folder / "in parts").read_bytes() == (folder / "whole").read_bytes()


def test_a_kept_index_spares_opening_shards_that_have_not_changed_and_only_those(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2, 3):
        with ShardWriter(tmp_path / shards.name_of(number)) as writer:
            writer.append(info(f"{number}"), frames(7_000, number))
    whole = shards.read_index(tmp_path)
    shards.keep_index(tmp_path, whole)
    opened = []

    def noticed(read: Callable[..., object], path: Path, **options: object) -> object:
        opened.append(path.name)
        return read(path, **options)

    for name in ("read_table", "ParquetFile"):
        monkeypatch.setattr(pq, name, functools.partial(noticed, getattr(pq, name)))
    assert shards.read_index(tmp_path).equals(whole)
    assert opened == [shards.INDEX]
    with ShardWriter(tmp_path / shards.name_of(2)) as writer:
        writer.append(info("more"), frames(10))
    (tmp_path / FIRST).unlink()
    opened.clear()
    after = shards.read_index(tmp_path)
    assert after["track_id"].to_pylist() == ["2", "2", "more", "3", "3"]
    assert sorted(opened) == [shards.INDEX, shards.name_of(2)]


@pytest.mark.parametrize("spoilt", [b"", b"PAR1 and nothing more", None])
def test_a_kept_index_that_is_spoilt_or_of_another_kind_is_as_good_as_none(
    tmp_path: Path, spoilt: bytes | None
) -> None:
    with ShardWriter(tmp_path / FIRST) as writer:
        writer.append(info("a"), frames(10))
    whole = shards.read_index(tmp_path)
    if spoilt is None:
        pq.write_table(whole.select(["track_id"]), tmp_path / shards.INDEX)
    else:
        (tmp_path / shards.INDEX).write_bytes(spoilt)
    assert shards.read_index(tmp_path).equals(whole)
