"""The stage: only what is new is done, what failed is known, nothing that was done is lost."""

import datetime
import os
import shutil
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Iterable, Iterator
from pathlib import Path

import formats
import numpy as np
import polars as pl
import pytest
import soundfile
from joined import BEHIND

from fastdino import ingestion, spectrograms
from fastdino.core import tables, workers
from fastdino.core.errors import UserError
from fastdino.core.failures import FILE, MACHINE, MISSING, WAITS
from fastdino.core.home import Home
from fastdino.ingestion import catalog
from fastdino.spectrograms import SpectrogramSettings, candidates, parcels, shards, stage
from fastdino.spectrograms.decode import VERSION
from fastdino.spectrograms.filling import Filler, Outcome
from fastdino.spectrograms.parcels import Parcel

SETTINGS = SpectrogramSettings()
FRAMES = 25  # of DTS, in a file of ``formats``


def made(home: Home) -> list[str]:
    index = shards.read_index(home.shards(SETTINGS.spec_id)).to_pylist()
    return sorted(row["track_id"] for row in index if row["piece"] == 0)


def wanted(home: Home) -> list[str]:
    return sorted(catalog.tracks(catalog.read(home))["track_id"])


def test_a_library_is_decoded_once_and_then_only_what_is_new(home: Home, music: Path) -> None:
    soundfile.write(music / "silence.wav", np.zeros(40_000), 16_000)
    ingestion.run(home, [music])
    first = spectrograms.run(home)
    failures = stage.read_failures(home.shards(SETTINGS.spec_id))
    assert first.did_work
    assert first.counts["new_tracks"] == len(made(home)) >= 12
    assert failures.filter(pl.col("path").str.ends_with("silence.wav"))["reason"].to_list() == [
        "silent throughout"
    ]
    assert set(made(home)) | set(failures["track_id"]) == set(wanted(home))
    assert not any(home.scratch.iterdir())

    # A worker that cannot be started would show that one was.
    again = spectrograms.run(home)
    assert not again.did_work
    assert again.counts["failures"] == len(failures)

    soundfile.write(music / "new.flac", np.random.default_rng(0).normal(0, 0.1, 40_000), 16_000)
    (music / "silence.wav").unlink()
    shutil.rmtree(next(path for path in music.iterdir() if path.is_dir()))
    ingestion.run(home, [music])
    added = spectrograms.run(home)
    assert added.counts["new_tracks"] == 1
    assert added.counts["new_hours"] == pytest.approx(2.5 / 3600, abs=1e-3)
    assert len(made(home)) == first.counts["new_tracks"] + 1  # what is gone may come back
    assert len(shards.list_shards(home.shards(SETTINGS.spec_id))) == 1


def test_of_many_files_that_fail_the_first_are_named_and_all_are_known(
    home: Home, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    music, many = tmp_path / "music", 3 * stage.NAMED
    music.mkdir()
    for number in range(many):
        noise = np.random.default_rng(number).normal(0, 0.1, 4_000)
        soundfile.write(music / f"{number}.wav", noise, 16_000)
    ingestion.run(home, [music])
    with caplog.at_level("WARNING"):
        summary = spectrograms.run(home)
    said = [record.getMessage() for record in caplog.records if "too short" in record.getMessage()]
    assert len(said) == stage.NAMED
    assert "the table failures" in caplog.text
    assert f"{many} files could not be decoded" in summary.warnings[0]
    assert len(stage.read_failures(home.shards(SETTINGS.spec_id))) == many


def test_the_plan_of_a_run_killed_when_all_was_decoded_does_not_stay(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, music = home.shards(SETTINGS.spec_id), tmp_path / "music"
    music.mkdir()
    soundfile.write(music / "song.flac", np.random.default_rng(0).normal(0, 0.1, 40_000), 16_000)
    ingestion.run(home, [music])
    with monkeypatch.context() as killed:
        killed.setattr(parcels, "drop_plan", lambda folder: None)
        spectrograms.run(home)
    assert parcels.read_plan(folder)

    assert not spectrograms.run(home).did_work
    assert not parcels.read_plan(folder)


def test_a_run_ends_hanging_files_and_a_killed_run_is_taken_up_again(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    music = tmp_path / "music"
    music.mkdir()
    for number in range(3):
        noise = np.random.default_rng(number).normal(0, 0.1, 16_000 * (2 + 600 * (number == 2)))
        soundfile.write(music / f"{number}.wav", noise, 16_000)
    ingestion.run(home, [music])
    monkeypatch.setattr(candidates, "LEAST_LIMIT_S", 0.0)
    monkeypatch.setattr(candidates, "LIMIT_S_PER_S", 0.0)
    monkeypatch.setattr(candidates, "LIMIT_S_PER_BYTE", 0.0)
    assert spectrograms.run(home).counts["failures"] == 3
    monkeypatch.undo()
    assert not spectrograms.run(home).did_work
    folder = home.shards(SETTINGS.spec_id)
    assert set(stage.read_failures(folder)["kind"]) == {MACHINE}
    # Their time has come for two of them; the third is asked for.
    failures = stage.read_failures(folder)
    long_ago = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    due = pl.col("path").str.contains(r"[01]\.wav$")
    again = pl.when(due).then(pl.lit(long_ago)).otherwise("next_try_at")
    tables.write(folder / "failures.parquet", failures.with_columns(next_try_at=again))
    assert spectrograms.run(home).counts["new_tracks"] == 2
    assert len(stage.read_failures(folder)) == 1
    assert not spectrograms.run(home).did_work
    monkeypatch.setattr(candidates, "LEAST_LIMIT_S", 0.0)
    monkeypatch.setattr(candidates, "LIMIT_S_PER_S", 0.0)
    monkeypatch.setattr(candidates, "LIMIT_S_PER_BYTE", 0.0)
    spectrograms.run(home, retry=True)
    monkeypatch.undo()
    assert stage.read_failures(folder)["attempts"].to_list() == [2]
    for shard in shards.list_shards(folder):
        shard.unlink()

    (home.shards(SETTINGS.spec_id) / "failures.parquet").unlink()
    run = subprocess.Popen([sys.executable, "-m", "fastdino", "spectrograms", "--home", home.root])
    scratch = home.scratch / f"spectrograms-{SETTINGS.spec_id}"
    end = time.monotonic() + 60
    while not (scratch.exists() and any(scratch.iterdir())):
        assert time.monotonic() < end
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert spectrograms.run(home).counts["tracks"] == 3
    assert made(home) == wanted(home)
    assert not scratch.exists()


def test_a_worker_killed_from_outside_loses_its_song_for_an_hour_and_not_for_good(
    home: Home, tmp_path: Path
) -> None:
    music = tmp_path / "music"
    music.mkdir()
    noise = np.random.default_rng(0).normal(0, 0.1, 16_000 * 1_500)
    soundfile.write(music / "long.wav", noise, 16_000)
    ingestion.run(home, [music])
    run = subprocess.Popen([sys.executable, "-m", "fastdino", "spectrograms", "--home", home.root])
    scratch = home.scratch / f"spectrograms-{SETTINGS.spec_id}"
    end = time.monotonic() + 60
    while not any(scratch.glob("*/*.1")):  # the worker is at it
        assert time.monotonic() < end
        time.sleep(0.005)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    (worker,) = (
        int(child)
        for child in children
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    )
    os.kill(worker, signal.SIGKILL)
    assert run.wait() == 0
    failures = stage.read_failures(home.shards(SETTINGS.spec_id))
    assert failures.select("kind", "attempts").rows() == [(MACHINE, 1)]
    assert failures["reason"].to_list() == ["crashed its process (SIGKILL)"]
    wait = failures["next_try_at"][0] - failures["failed_at"][0]
    assert wait == WAITS[0]
    assert not spectrograms.run(home).did_work
    assert spectrograms.run(home, retry=True).counts["new_tracks"] == 1
    assert stage.read_failures(home.shards(SETTINGS.spec_id)).is_empty()


class Unplugged(Filler):
    """Decodes songs whose disk goes away as that begins."""

    disk = Path()

    def __call__(self, pieces: Iterable[Parcel]) -> Iterator[Outcome]:
        self.disk.rename(self.disk.with_name("gone"))
        yield from super().__call__(pieces)


def test_songs_of_a_disk_that_goes_away_while_decoding_wait_for_nothing_but_the_disk(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, songs = tmp_path / "disk", 4
    disk.mkdir()
    for number in range(songs):
        noise = np.random.default_rng(number).normal(0, 0.1, 32_000)
        soundfile.write(disk / f"{number}.wav", noise, 16_000)
    ingestion.run(home, [disk])
    monkeypatch.setattr(Unplugged, "disk", disk)
    folder = home.shards(SETTINGS.spec_id)
    for _ in range(2):
        summary = stage.run(home, SETTINGS, filler=Unplugged)
        assert summary.headline == f"{songs} files cannot be read now, 0 in all"
        assert summary.counts["unreadable_now"] == songs
        assert "is a disk not mounted?" in "".join(summary.warnings)
        assert set(stage.read_failures(folder)["kind"]) == {MISSING}
        assert set(stage.read_failures(folder)["attempts"]) == {0}
        # Nor is it there for the next run.
        summary = spectrograms.run(home)
        assert summary.headline == f"{songs} files cannot be read now, 0 in all"
        disk.with_name("gone").rename(disk)
    summary = spectrograms.run(home)
    assert summary.counts["new_tracks"] == songs
    assert summary.headline.endswith(f"{songs} in all")
    assert not summary.warnings
    assert stage.read_failures(folder).is_empty()


def test_not_all_is_up_to_date_while_songs_could_not_be_decoded(home: Home, tmp_path: Path) -> None:
    music = tmp_path / "music"
    music.mkdir()
    soundfile.write(music / "silence.wav", np.zeros(40_000), 16_000)
    soundfile.write(music / "song.wav", np.random.default_rng(0).normal(0, 0.1, 40_000), 16_000)
    ingestion.run(home, [music])
    first = spectrograms.run(home)
    assert first.headline.endswith("1 could not be decoded, 1 in all")
    assert "they are tried again when they change, or" in first.warnings[0]
    known = "1 song; 1 could not be decoded before (tried again "
    assert spectrograms.run(home).headline == f"{known}when they change)"

    path = home.shards(SETTINGS.spec_id) / "failures.parquet"
    noon = datetime.datetime(2126, 1, 1, 12).astimezone(datetime.UTC)  # here
    waits = stage.read_failures(path.parent).with_columns(
        kind=pl.lit(MACHINE), next_try_at=pl.lit(noon)
    )
    tables.write(path, waits.cast(stage.FAILURES))
    assert spectrograms.run(home).headline == f"{known}after 2126-01-01 12:00)"

    (music / "silence.wav").unlink()
    ingestion.run(home, [music])
    assert spectrograms.run(home).headline == "1 song, all up to date"


def test_songs_that_left_the_collection_are_not_counted_among_those_that_are_there(
    home: Home, tmp_path: Path
) -> None:
    music = tmp_path / "music"
    music.mkdir()

    def record(name: str, seed: int) -> None:
        noise = np.random.default_rng(seed).normal(0, 0.1, 40_000)
        soundfile.write(music / name, noise, 16_000)
        ingestion.run(home, [music])

    record("one.wav", 1)
    record("two.wav", 2)
    assert spectrograms.run(home).headline.endswith(", 2 in all")
    (music / "one.wav").unlink()
    record("three.wav", 3)
    assert spectrograms.run(home).headline.endswith(", 2 in all and 1 that left the collection")
    known = "2 songs and 1 that left the collection, all up to date"
    assert spectrograms.run(home).headline == known


def test_a_home_made_before_sound_was_told_from_what_is_behind_it_decodes_nothing_again(
    home: Home, music: Path
) -> None:
    tagged = next(music.rglob("*.flac"))
    tagged.write_bytes(tagged.read_bytes() + BEHIND["ID3v1"])
    ingestion.run(home, [music])
    now = catalog.read(home)
    is_tagged = pl.col("path") == str(tagged)
    # As it was: another id for that file, and none of the columns that came since.
    old_id = pl.when(is_tagged).then(pl.lit("0" * 32)).otherwise("track_id")
    tables.write(home.catalog, now.with_columns(track_id=old_id).drop(catalog.ADDED))
    before = catalog.read(home)
    assert spectrograms.run(home).did_work

    summary = ingestion.run(home, [music])
    assert not summary.tables["changes"]
    after = catalog.read(home)
    assert after.select("path", "track_id").equals(before.select("path", "track_id"))
    assert after.drop("track_id").equals(now.drop("track_id"))
    assert not spectrograms.run(home).did_work
    assert not ingestion.run(home, [music]).did_work
    # It goes, and comes back as what it was.
    kept = tagged.read_bytes()
    tagged.unlink()
    ingestion.run(home, [music])
    tagged.write_bytes(kept)
    ingestion.run(home, [music])
    assert catalog.read(home).filter(is_tagged)["track_id"].to_list() == ["0" * 32]
    assert not spectrograms.run(home).did_work
    # A copy without the tag is the same recording, also by its name of old.
    (music / "copy.flac").write_bytes(tagged.read_bytes()[: -len(BEHIND["ID3v1"])])
    assert ingestion.run(home, [music]).counts["duplicate"] == 1


def test_what_an_older_version_could_not_decode_is_tried_once_more(home: Home) -> None:
    folder = home.shards(SETTINGS.spec_id)
    day = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    old = pl.DataFrame(
        [("a", "/a", 1, 1, "a sample rate of 1411200 Hz is not plausible", day)],
        {n: t for n, t in stage.FAILURES.items() if n not in stage.ADDED},
        orient="row",
    )
    tables.write(folder / "failures.parquet", old)
    found = stage.read_failures(folder)
    assert found.schema == stage.FAILURES
    assert found.select("kind", "attempts").rows() == [(FILE, 1)]
    assert stage.not_yet_due(found, day).is_empty()
    now = found.with_columns(tried_by=pl.lit(VERSION, pl.Int16))
    assert stage.not_yet_due(now, day).equals(now)


@pytest.mark.parametrize("is_damaged", [False, True])
def test_dts_on_a_disc_of_sound_is_heard_and_not_its_bytes(
    is_damaged: bool, home: Home, tmp_path: Path
) -> None:
    music = tmp_path / "music"
    music.mkdir()
    formats.write(music / "plain.dts")
    frames = (music / "plain.dts").read_bytes()
    size = len(frames) // FRAMES
    # Each in the room of as many samples as it stands for, as on a CD.
    room = round(formats.SECONDS / FRAMES * 176_400) // 4 * 4
    content = (frames[:size] + bytes(room - size)) * FRAMES
    if is_damaged:
        at = FRAMES // 2 * room + 8
        content = content[:at] + bytes(size) + content[at + size :]
    (music / "plain.dts").unlink()
    with wave.open(str(music / "disc.wav"), "wb") as disc:
        disc.setparams((2, 2, 44_100, 0, "NONE", "not compressed"))
        disc.writeframes(content)
    ingestion.run(home, [music])
    assert catalog.read(home)["codec"].to_list() == ["dts"]
    spectrograms.run(home)
    (shard,) = shards.list_shards(home.shards(SETTINGS.spec_id))
    (piece,) = shards.iter_pieces(shard)
    # A tone, with nothing above it.
    assert piece.frames[10:-10].mean(0)[:30].max() > 100
    assert piece.frames[10:-10].mean(0)[50:75].max() < 10


@pytest.mark.thorough
def test_shards_hold_songs_in_the_catalogues_order_however_long_each_takes(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    music = tmp_path / "music"
    music.mkdir()
    for number, seconds in enumerate((120, 2, 2, 2)):
        noise = np.random.default_rng(number).normal(0, 0.1, 16_000 * seconds)
        soundfile.write(music / f"{number}.wav", noise, 16_000)
    ingestion.run(home, [music])
    monkeypatch.setattr(workers, "available_cores", lambda: 2)
    spectrograms.run(home)
    index = shards.read_index(home.shards(SETTINGS.spec_id)).to_pylist()
    in_shard = [row["track_id"] for row in index if row["piece"] == 0]
    assert in_shard == catalog.read(home)["track_id"].to_list()


def listed(**columns: object) -> pl.DataFrame:
    row = dict.fromkeys(catalog.SCHEMA.names())
    row |= {"track_id": "a", "path": __file__, "size": 1, "mtime_ns": 1, **columns}
    return catalog.songs(pl.DataFrame([row], catalog.SCHEMA))


def failed(**columns: object) -> pl.DataFrame:
    row = {"track_id": "a", "path": __file__, "size": 1, "mtime_ns": 1, "reason": "x", **columns}
    return pl.DataFrame([{**row, "failed_at": None}], stage.FAILURES)


NOTHING = stage.FAILURES.to_frame()


def test_a_track_is_tried_by_its_first_file_then_by_its_others(tmp_path: Path) -> None:
    (tmp_path / "copy").touch()
    files = pl.concat([listed(), listed(path=str(tmp_path / "copy"))])
    (candidate,), missing = candidates.find(files, set(), NOTHING)
    assert [candidate.path, *(other.path for other in candidate.others)] == sorted(files["path"])
    assert not missing
    (other,), _ = candidates.find(files, set(), failed())
    assert other.path == str(tmp_path / "copy")


def test_what_failed_is_tried_again_only_when_it_changed() -> None:
    assert candidates.find(listed(), set(), failed()) == ([], [])
    assert len(candidates.find(listed(mtime_ns=2), set(), failed())[0]) == 1
    assert len(candidates.find(listed(size=2), set(), failed())[0]) == 1
    assert candidates.find(listed(size=2), {"a"}, failed()) == ([], [])


def test_a_file_that_is_not_there_now_has_not_failed() -> None:
    assert candidates.find(listed(path="/nowhere/a.mp3"), set(), NOTHING) == (
        [],
        ["/nowhere/a.mp3"],
    )
    assert candidates.find(listed(track_id=None, error="x"), set(), NOTHING) == ([], [])


def test_longer_and_larger_files_get_more_time() -> None:
    short = candidates.Candidate("a", "a.mp3", 10_000, 1, 10.0)
    hours = candidates.Candidate("a", "a.flac", 3_000_000_000, 1, 36_000.0)
    assert 60 <= candidates.time_limit_s(short) < 70
    assert candidates.time_limit_s(hours) > 3600


def test_a_file_that_claims_to_be_endless_gets_no_more_time_than_its_size_allows() -> None:
    assert candidates.time_limit_s(candidates.Candidate("a", "a.mp3", 10_000, 1, 1e12)) < 70


def test_without_a_catalogue_the_user_is_told_what_to_do(home: Home) -> None:
    with pytest.raises(UserError, match="make run"):
        spectrograms.run(home)


def test_importing_the_package_and_reading_shards_needs_no_torch() -> None:
    code = (
        "import sys; import fastdino.spectrograms, fastdino.spectrograms.shards as s;"
        "assert not {'torch', 'polars', 'av', 'soundfile'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
