"""A file that is another one by the time it is decoded gives no spectrogram, and has not failed."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import cue_album
import numpy as np
import pytest
import soundfile

from fastdino import ingestion, spectrograms
from fastdino.core import tables
from fastdino.core.failures import CHANGED
from fastdino.core.home import Home
from fastdino.core.workers import WorkerFailure
from fastdino.ingestion import catalog
from fastdino.spectrograms import SpectrogramSettings, decode, extract, shards, stage
from fastdino.spectrograms.extract import Extracted, Known, Task

SETTINGS = SpectrogramSettings()
STALE = WorkerFailure("changed since ingest", CHANGED)


def tone(path: Path, pitch: float, seconds: float = 2.0) -> Path:
    """A tone, written at a time that all files of it share."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(int(seconds * 16_000)) / 16_000)
    soundfile.write(path, wave, 16_000)
    os.utime(path, ns=(10**18 + 5, 10**18 + 5))
    return path


def swap(one: Path, other: Path) -> None:
    aside = one.with_suffix(".aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def loudest_bands(home: Home) -> dict[str, int]:
    """The loudest mel band of each song, by the name of its file."""
    names = {
        track_id: Path(path).name
        for track_id, path in catalog.read(home).select("track_id", "path").iter_rows()
    }
    return {
        names[piece.track_id]: int(piece.frames.mean(0).argmax())
        for shard in shards.list_shards(home.shards(SETTINGS.spec_id))
        for piece in shards.iter_pieces(shard)
    }


def test_files_that_swap_their_names_after_ingest_are_left_to_the_next_run(
    home: Home, tmp_path: Path
) -> None:
    music = tmp_path / "music"
    low, high = tone(music / "low.wav", 300), tone(music / "high.wav", 3000)
    tone(music / "other.wav", 1000)
    ingestion.run(home, [music])
    swap(low, high)
    summary = spectrograms.run(home)
    assert summary.headline.endswith("2 files changed since ingest, 1 in all")
    assert summary.warnings == [
        f"2 files changed since ingest, such as {high}: the next run takes them in"
    ]
    assert list(loudest_bands(home)) == ["other.wav"]
    # They wait for nothing: neither for an hour, nor for one more change.
    failures = stage.read_failures(home.shards(SETTINGS.spec_id))
    assert failures["kind"].to_list() == [CHANGED] * 2
    assert (failures["next_try_at"] <= failures["failed_at"]).all()

    ingestion.run(home, [music])
    assert spectrograms.run(home).counts["new_tracks"] == 2
    heard = loudest_bands(home)
    assert heard["high.wav"] < heard["other.wav"] < heard["low.wav"]
    assert stage.read_failures(home.shards(SETTINGS.spec_id)).is_empty()


def test_another_file_of_the_track_may_still_be_what_it_was(home: Home, tmp_path: Path) -> None:
    music = tmp_path / "music"
    first = tone(music / "1.wav", 300)
    shutil.copy(first, music / "2.wav")
    ingestion.run(home, [music])
    tone(first, 3000)
    summary = spectrograms.run(home)
    assert summary.counts["new_tracks"] == 1
    assert f"such as {first}" in summary.warnings[0]
    ingestion.run(home, [music])
    assert spectrograms.run(home).counts["new_tracks"] == 1
    heard = loudest_bands(home)
    assert heard["2.wav"] < heard["1.wav"]


def test_an_album_in_one_file_that_changed_is_one_file(home: Home, tmp_path: Path) -> None:
    album = cue_album.write(tmp_path / "music" / "album.flac")
    album.with_suffix(".cue").write_text(cue_album.SHEET)
    ingestion.run(home, [album.parent])
    cue_album.write(album, seed=1)
    summary = spectrograms.run(home)
    assert summary.counts["new_tracks"] == 0
    assert summary.warnings[0].startswith("1 file changed since ingest")


def test_a_home_whose_catalogue_has_no_times_of_changing_goes_by_the_others(
    home: Home, tmp_path: Path
) -> None:
    music = tmp_path / "music"
    tone(music / "same.wav", 300)
    longer = tone(music / "longer.wav", 1000)
    ingestion.run(home, [music])
    tables.write(home.catalog, catalog.read(home).drop(catalog.ADDED))
    tone(longer, 1000, seconds=3.0)
    summary = spectrograms.run(home)
    assert list(loudest_bands(home)) == ["same.wav"]
    assert str(longer) in summary.warnings[0]


def test_on_a_cluster_times_may_be_told_in_whole_seconds(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tone(tmp_path / "a.wav", 300)
    size, exact_ns = path.stat().st_size, 10**18 + 1_999_999_999
    os.utime(path, ns=(10**18, 10**18))
    assert Known(size, exact_ns).is_of(path.stat())
    assert not Known(size, exact_ns + 10).is_of(path.stat())
    assert not Known(size + 1, exact_ns).is_of(path.stat())
    assert not Known(size, 10**18, path.stat().st_ctime_ns + 1).is_of(path.stat())

    seen: list[object] = []

    def everywhere(make: object, plan: object, **how: object) -> Iterator[object]:
        seen.append(plan)
        yield from ()

    ingestion.run(home, [tmp_path])
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(stage.cluster, "everywhere", everywhere)
    spectrograms.run(home)
    ((parcel,),) = seen
    assert [each.known for each in parcel.candidates] == [Known(size, 10**18)]


@pytest.mark.parametrize("seconds", [2.0, 0.1])
def test_a_file_that_is_written_to_while_it_is_decoded_gives_nothing(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tone(tmp_path / "a.wav", 300, seconds)
    status = path.stat()
    known = Known(status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    task = Task(path, tmp_path / "spool", SETTINGS, known=known)

    def written_to(path: Path, start_s: float, channel: int | None) -> decode.Sound:
        sound = decode.with_libsndfile(path, start_s, channel)
        os.utime(path)
        return sound

    assert isinstance(extract.extract(task), Extracted) is (seconds > 1)
    monkeypatch.setattr(extract, "decoders", lambda path, codec: (("libsndfile", written_to),))
    assert extract.extract(task) == STALE
    # Another time it is not even opened.
    monkeypatch.delattr(extract, "decoders")
    assert extract.extract(task) == STALE
