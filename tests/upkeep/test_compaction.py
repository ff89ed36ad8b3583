"""Songs that left give their room back, and nothing else is lost or computed again."""

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest

from fastdino.core import storage
from fastdino.core.home import Home
from fastdino.database.publishing import publish
from fastdino.embeddings import encode
from fastdino.embeddings import vectors as vector_store
from fastdino.embeddings.vectors import (
    read_songs,
    read_vectors,
    song_ids,
    vector_files,
    write_vectors,
)
from fastdino.spectrograms import SpectrogramSettings, shards
from fastdino.spectrograms.shards import ShardWriter, TrackInfo
from fastdino.upkeep import compaction
from tests import synthetic

SPEC = SpectrogramSettings()
FRAMES = 300
N = 24
# Of those that the catalogue is to keep in some tests.
TRACKS = {synthetic.track_id(i) for i in range(0, N, 4)}


@pytest.fixture
def full(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Twenty-four songs in six shards, with the vectors of two models."""
    monkeypatch.setattr(shards, "SHARD_BYTES", 4 * FRAMES * SPEC.n_mels)
    monkeypatch.setattr(shards, "ROW_GROUP_BYTES", 2 * FRAMES * SPEC.n_mels)
    add(home, range(N))
    synthetic.write_model(home, "model-b", current=False)
    synthetic.write_home(home, 0)
    assert len(shards.list_shards(folder_of(home))) == N // 4
    for model_id in (synthetic.MODEL_ID, "model-b"):
        for number, shard in enumerate(shards.list_shards(folder_of(home)), start=1):
            held = sorted(int(track, 16) for track in shards.track_ids(shard))
            synthetic.write_vectors(home, held, model_id, shard=number)
    return home


def add(home: Home, songs: range) -> None:
    folder_of(home).mkdir(parents=True, exist_ok=True)
    for i in songs:
        frames = np.random.default_rng(i).integers(0, 256, (FRAMES, SPEC.n_mels), np.uint8)
        info = TrackInfo(synthetic.track_id(i), SPEC.min_db, SPEC.step_db, None, 3.0, False)
        with ShardWriter(synthetic.shard_to_fill(folder_of(home))) as writer:
            writer.append(info, frames)


def folder_of(home: Home) -> Path:
    return home.shards(SPEC.spec_id)


def keep_only(home: Home, songs: list[int]) -> None:
    synthetic.write_catalog(home, [synthetic.song(i) for i in songs])


def spectrograms(home: Home) -> dict[str, bytes]:
    return {
        piece.track_id: piece.frames.tobytes()
        for shard in shards.list_shards(folder_of(home))
        for piece in shards.iter_pieces(shard)
    }


def vectors(home: Home, model_id: str) -> dict[tuple[str, float | None], list[float]]:
    table = pa.concat_tables([read_vectors(path) for path in vector_files(home, model_id)])
    return {(row["track_id"], row["start_s"]): row["vec"] for row in table.to_pylist()}


def missing(home: Home) -> set[str]:
    """Tracks of which vectors would be computed."""
    todo = encode._todo(folder_of(home), home.vectors(synthetic.MODEL_ID))
    return {track for parcel in todo for track in parcel.tracks}


def test_songs_that_left_are_dropped_and_what_is_left_of_their_shards_is_joined(
    full: Home,
) -> None:
    before, of_b = spectrograms(full), vectors(full, "model-b")
    left = [i for i in range(N) if i % 4 == 0]
    keep_only(full, left)

    summary = compaction.run(full)

    kept = {synthetic.track_id(i) for i in left}
    assert list(spectrograms(full)) == sorted(kept)  # in the order in which they came
    assert spectrograms(full) == {track: before[track] for track in kept}
    assert vectors(full, "model-b") == {key: of_b[key] for key in of_b if key[0] in kept}
    assert len(shards.list_shards(folder_of(full))) == 2
    assert {path.name for path in vector_files(full, "model-b")} == {
        path.name for path in shards.list_shards(folder_of(full))
    }
    assert missing(full) == set()
    assert summary.counts["dropped"] == N - len(left)
    assert summary.counts["freed_mb"] > 0
    assert not compaction.run(full).did_work


def test_whole_shards_of_songs_that_left_are_deleted_and_new_songs_go_on_after_the_others(
    full: Home,
) -> None:
    keep_only(full, list(range(8)))
    compaction.run(full)
    add(full, range(N, N + 2))
    assert missing(full) == {synthetic.track_id(i) for i in (N, N + 1)}
    assert list(spectrograms(full)) == [synthetic.track_id(i) for i in [*range(8), N, N + 1]]


def test_nothing_is_written_where_no_song_has_left(full: Home) -> None:
    keep_only(full, list(range(N)))
    before = {path: path.stat().st_mtime_ns for path in full.root.rglob("*.parquet")}
    assert not compaction.run(full).did_work
    assert {path: path.stat().st_mtime_ns for path in full.root.rglob("*.parquet")} == before


def test_whenever_it_is_killed_no_song_is_lost_or_computed_again_and_the_next_one_ends_it(
    full: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [i for i in range(N) if i % 3 == 0 and not 8 <= i < 12]
    keep_only(full, left)
    before, of_a = spectrograms(full), vectors(full, synthetic.MODEL_ID)
    kept = {synthetic.track_id(i) for i in left}
    real_replace, real_unlink = os.replace, Path.unlink
    for spared in itertools.count():
        home = Home(Path(shutil.copytree(full.root, tmp_path / str(spared))))
        remaining = spared

        def change() -> None:
            nonlocal remaining
            if not remaining:
                raise KeyboardInterrupt
            remaining -= 1

        def replace(part: Path, target: Path) -> None:
            change()
            real_replace(part, target)

        def unlink(path: Path, missing_ok: bool = False) -> None:
            if not path.name.endswith(".part"):
                change()
            real_unlink(path, missing_ok)

        with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
            patched.setattr(os, "replace", replace)
            patched.setattr(Path, "unlink", unlink)
            compaction.run(home)
            break
        here = spectrograms(home)
        assert {track: here[track] for track in kept} == {track: before[track] for track in kept}
        assert not missing(home) & kept
        found = vectors(home, synthetic.MODEL_ID)
        assert all(found[key] == of_a[key] for key in of_a if key[0] in kept)

        compaction.run(home)
        assert set(spectrograms(home)) == kept
        assert {key[0] for key in vectors(home, synthetic.MODEL_ID)} == kept
        assert len(shards.read_index(folder_of(home))) == len(kept)
        assert not missing(home)
    assert spared > 10


def test_vectors_left_by_one_that_was_killed_are_work_for_the_next_one(
    full: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep_only(full, [i for i in range(N) if i % 4 == 0])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(compaction, "_drop_left_over_vectors", killed)
        with pytest.raises(KeyboardInterrupt):
            compaction.run(full)
    summary = compaction.run(full)
    assert summary.did_work
    assert summary.headline.startswith("0 songs dropped that left the collection, ")
    assert not compaction.run(full).did_work


@pytest.mark.parametrize(
    ("module", "read"),
    [
        (vector_store, lambda home: len(read_songs(home, synthetic.MODEL_ID, TRACKS)[0])),
        (vector_store, lambda home: len(song_ids(home, synthetic.MODEL_ID, TRACKS))),
        (vector_store, lambda home: publish(home).counts["songs_with_vectors"]),
        (shards, lambda home: len(shards.read_index(folder_of(home)))),
    ],
    ids=["read_songs", "song_ids", "publish", "read_index"],
)
def test_who_reads_while_files_are_joined_lists_them_again(
    full: Home, monkeypatch: pytest.MonkeyPatch, module: ModuleType, read: Callable[[Home], int]
) -> None:
    keep_only(full, [i for i in range(N) if i % 4 == 0])

    def first_join(path: Path) -> Path:
        if path.name != shards.INDEX:
            monkeypatch.undo()
            compaction.run(full)
        return storage.fetched(path)

    monkeypatch.setattr(module, "fetched", first_join)
    assert read(full) == len(TRACKS)


def test_vectors_of_a_song_whose_spectrogram_is_lost_are_kept(full: Home) -> None:
    lost = shards.list_shards(folder_of(full))[-1]
    tracks = shards.track_ids(lost)
    lost.unlink()
    keep_only(full, [i for i in range(N) if i != 0])
    compaction.run(full)
    assert tracks <= {key[0] for key in vectors(full, synthetic.MODEL_ID)}
    publish(full)
    assert not compaction.run(full).did_work


def test_songs_are_embedded_a_file_at_a_time_and_read_without_their_segments(home: Home) -> None:
    synthetic.write_home(home, 30, segments=6)
    [path] = vector_files(home, synthetic.MODEL_ID)
    before = read_vectors(path)
    write_vectors(path, before)
    songs = read_vectors(path, only_songs=True)
    assert songs["start_s"].null_count == len(songs) == 30
    key = [("track_id", "ascending"), ("start_s", "ascending")]
    assert read_vectors(path).sort_by(key).equals(before.sort_by(key))
