"""The sensor, tick by tick as Dagster evaluates it, on folders that really change."""

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from assets.stage import HomeFolder
from fastdino import ingestion
from fastdino.core.home import Home
from fastdino.ingestion import catalog
from fastdino.ingestion.scan import scan
from pipelines.definitions import defs
from pipelines.sensors import (
    Failed,
    Watch,
    due,
    fingerprint,
    look,
    refresh_when_music_changes,
)
from pipelines.start import end_dead_runs

MINUTE = 60.0


def put(path: Path, content: bytes = b"sound") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@dataclasses.dataclass
class Daemon:
    """What Dagster's daemon keeps of the sensor from one tick to the next."""

    instance: dg.DagsterInstance
    home: Home
    cursor: str | None = None
    skipped: str = ""

    def tick(self) -> str | None:
        """Evaluate one tick; the key of the run that it requests, if it does."""
        with dg.build_sensor_context(
            instance=self.instance,
            cursor=self.cursor,
            resources={"home": HomeFolder(path=str(self.home.root))},
        ) as context:
            result = refresh_when_music_changes.evaluate_tick(context)
        self.cursor, self.skipped = result.cursor, result.skip_message or ""
        requests = result.run_requests or []
        assert len(requests) <= 1
        return requests[0].run_key if requests else None

    def wait(self, minutes: float) -> None:
        """Make what it saw last as much older, which is what waiting does."""
        watch = Watch.parse(self.cursor)
        assert watch is not None
        since_s = watch.since_s - minutes * MINUTE
        self.cursor = dataclasses.replace(watch, since_s=since_s).cursor

    def later(self, minutes: float) -> str | None:
        """Tick again after some minutes."""
        self.wait(minutes)
        return self.tick()


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as instance:
        yield instance


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A music folder of three files, the one that is configured."""
    for name in ("a/one.mp3", "a/two.mp3", "b/three.mp3"):
        put(tmp_path / "disk" / name)
    monkeypatch.setenv("FASTDINO_MUSIC", str(tmp_path / "disk"))
    monkeypatch.delenv("FASTDINO_QUIET_MINUTES", raising=False)
    return tmp_path / "disk"


@pytest.fixture
def daemon(instance: dg.DagsterInstance, home: Home, folder: Path) -> Daemon:
    """The sensor just switched on, with everything in the folder taken in."""
    ingestion.run(home, [folder])
    return Daemon(instance, home)


def test_the_sensor_asks_for_refresh_and_is_off_at_first() -> None:
    sensor = defs.resolve_sensor_def("refresh_when_music_changes")
    assert sensor.job_name == "refresh"
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
    assert "FASTDINO_QUIET_MINUTES" in str(sensor.description)


def test_nothing_is_requested_while_nothing_changes(daemon: Daemon) -> None:
    assert daemon.tick() is None
    assert daemon.later(minutes=1000) is None
    assert daemon.skipped == "the music folders are as the catalogue knows them"


def test_a_new_song_is_requested_once_after_two_quiet_minutes(daemon: Daemon, folder: Path) -> None:
    daemon.tick()
    put(folder / "a/new.mp3")
    assert daemon.tick() is None
    assert "waiting 120 s more" in daemon.skipped
    assert daemon.later(minutes=1.9) is None
    assert daemon.later(minutes=0.2)
    assert daemon.later(minutes=1000) is None
    assert "was requested" in daemon.skipped
    ingestion.run(daemon.home, [folder])
    assert daemon.tick() is None
    assert "as the catalogue knows them" in daemon.skipped


def test_while_songs_are_copied_in_one_after_the_other_it_waits(
    daemon: Daemon, folder: Path
) -> None:
    for number in range(4):
        put(folder / f"album/{number}.flac")
        assert daemon.tick() is None
        assert daemon.later(minutes=1.9) is None
    assert daemon.later(minutes=0.2)


def test_while_a_file_grows_it_waits(daemon: Daemon, folder: Path) -> None:
    for size in (1, 10, 100):
        put(folder / "long.wav", b"s" * size)
        assert daemon.tick() is None
        assert daemon.later(minutes=1.9) is None
    assert daemon.later(minutes=0.2)


def test_a_file_of_a_far_year_is_a_file_like_any_other(daemon: Daemon, folder: Path) -> None:
    os.utime(folder / "a/one.mp3", (10**10, 10**10))
    daemon.tick()
    assert daemon.later(minutes=2)
    ingestion.run(daemon.home, [folder])
    assert daemon.tick() is None
    assert "as the catalogue knows them" in daemon.skipped


CHANGES: dict[str, Callable[[Path], object]] = {
    "removed": lambda folder: (folder / "a/one.mp3").unlink(),
    "renamed": lambda folder: (folder / "a/one.mp3").rename(folder / "a/first.mp3"),
    "retagged": lambda folder: os.utime(folder / "a/one.mp3", (0, 0)),
    "replaced": lambda folder: put(folder / "a/one.mp3", b"another sound"),
    "folder moved": lambda folder: (folder / "b").rename(folder / "c"),
    "folder removed": lambda folder: shutil.rmtree(folder / "a"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_counts(change: str, daemon: Daemon, folder: Path) -> None:
    daemon.tick()
    CHANGES[change](folder)
    daemon.tick()
    assert daemon.later(minutes=2)


def test_what_is_excluded_does_not_count(
    daemon: Daemon, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTDINO_EXCLUDE", "*/podcasts/*")
    put(folder / "Podcasts/new.mp3")
    daemon.tick()
    assert daemon.later(minutes=2) is None
    monkeypatch.delenv("FASTDINO_EXCLUDE")
    daemon.tick()
    assert daemon.later(minutes=2) is not None


@pytest.mark.parametrize("name", ["cover.jpg", "a/._hidden.mp3", "@eaDir/thumb.mp3"])
def test_what_is_no_music_does_not_count(name: str, daemon: Daemon, folder: Path) -> None:
    put(folder / name)
    daemon.tick()
    assert daemon.later(minutes=2) is None


@pytest.mark.parametrize("mount_point_stays", [True, False])
def test_an_unmounted_disk_is_named_and_requests_nothing(
    mount_point_stays: bool, daemon: Daemon, folder: Path
) -> None:
    daemon.tick()
    folder.rename(folder.with_name("away"))
    if mount_point_stays:
        folder.mkdir()
    for _ in range(2):
        assert daemon.later(minutes=1000) is None
        assert str(folder) in daemon.skipped
        assert "Is its disk mounted?" in daemon.skipped
    if mount_point_stays:
        folder.rmdir()
    folder.with_name("away").rename(folder)
    assert daemon.later(minutes=1000) is None
    assert "as the catalogue knows them" in daemon.skipped


def test_one_of_two_folders_that_is_gone_holds_back_the_other(
    daemon: Daemon, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = folder.with_name("other")
    monkeypatch.setenv("FASTDINO_MUSIC", f"{folder}{os.pathsep}{other}")
    put(folder / "new.mp3")
    assert daemon.tick() is None
    assert str(other) in daemon.skipped
    put(other / "song.mp3")
    daemon.tick()
    assert daemon.later(minutes=2)


def test_a_state_that_comes_back_is_a_change_again_and_one_that_stays_is_not(
    daemon: Daemon, folder: Path
) -> None:
    song = folder / "a/one.mp3"
    status = song.stat()
    keys = []
    for number in range(4):
        if number % 2:
            os.utime(put(song), ns=(status.st_atime_ns, status.st_mtime_ns))
        else:
            song.unlink()
        daemon.tick()
        keys.append(daemon.later(minutes=2 + number))
        assert daemon.tick() is None
        ingestion.run(daemon.home, [folder])
    assert all(keys)
    assert len(set(keys)) == 4


def test_the_key_of_a_run_is_the_same_if_the_daemon_dies_before_it_notes_the_request(
    daemon: Daemon, folder: Path
) -> None:
    put(folder / "new.mp3")
    daemon.tick()
    daemon.wait(minutes=2)
    before = daemon.cursor
    key = daemon.tick()
    daemon.cursor = before
    assert key
    assert daemon.tick() == key


def test_a_run_in_progress_is_waited_for(daemon: Daemon, folder: Path) -> None:
    run = daemon.instance.add_run(dg.DagsterRun("train", status=dg.DagsterRunStatus.STARTED))
    put(folder / "new.mp3")
    daemon.tick()
    assert daemon.later(minutes=1000) is None
    assert run.run_id[:8] in daemon.skipped
    daemon.instance.report_run_canceled(run)
    assert daemon.tick()


def test_a_run_that_died_with_dagster_is_waited_for_until_dagster_is_started_again(
    daemon: Daemon, folder: Path
) -> None:
    daemon.instance.add_run(dg.DagsterRun("train", status=dg.DagsterRunStatus.STARTED))
    put(folder / "new.mp3")
    daemon.tick()
    assert daemon.later(minutes=1000) is None
    end_dead_runs(daemon.instance)
    assert daemon.tick()


def test_the_quiet_time_can_be_set(
    daemon: Daemon, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTDINO_QUIET_MINUTES", "10")
    put(folder / "new.mp3")
    daemon.tick()
    assert daemon.later(minutes=9) is None
    monkeypatch.setenv("FASTDINO_QUIET_MINUTES", "0")
    assert daemon.tick()


def test_a_setting_that_is_wrong_is_told(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDINO_QUIET_MINUTES", "two")
    assert daemon.tick() is None
    assert "FASTDINO_QUIET_MINUTES is 'two': set a number" in daemon.skipped


def test_if_no_folder_is_set_it_looks_where_the_songs_were_found(
    daemon: Daemon, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FASTDINO_MUSIC")
    put(folder / "new.mp3")
    assert daemon.tick() is None
    assert daemon.later(minutes=2)


def test_before_the_first_run_it_says_what_to_do(
    instance: dg.DagsterInstance, home: Home, folder: Path
) -> None:
    daemon = Daemon(instance, home)
    assert daemon.tick() is None
    assert "there is no catalogue" in daemon.skipped


@pytest.mark.parametrize("cursor", ["", "written by hand", "[]", '{"of": "another version"}'])
def test_a_cursor_that_is_not_its_own_is_begun_anew(
    cursor: str, daemon: Daemon, folder: Path
) -> None:
    put(folder / "new.mp3")
    daemon.cursor = cursor
    assert daemon.tick() is None
    assert daemon.later(minutes=2)


def test_the_cursor_stays_small_however_many_files_there_are(daemon: Daemon, folder: Path) -> None:
    for number in range(300):
        put(folder / f"many/{number}.mp3")
    daemon.tick()
    assert len(str(daemon.cursor)) < 120
    assert set(json.loads(str(daemon.cursor))) == {"fingerprint", "since_s", "requested"}


def test_a_sub_folder_that_cannot_be_read_is_no_change(daemon: Daemon, folder: Path) -> None:
    known = catalog.read(daemon.home)
    (folder / "a").rename(folder.with_name("away"))
    seen = scan([folder]).files
    assert fingerprint(known) != fingerprint(seen)
    assert fingerprint(known, [str(folder / "a")]) == fingerprint(seen, [str(folder / "a")])


def test_a_clock_that_is_set_back_begins_the_quiet_time_anew() -> None:
    watch = look(Watch("new", since_s=1_000_000.0), "new", now_s=1_000.0)
    assert due(watch, "old", None, 1_000.0, quiet_s=120.0)[0] is None
    watch = look(watch, "new", now_s=1_120.0)
    assert due(watch, "old", None, 1_120.0, quiet_s=120.0)[0]


def test_after_a_clock_was_set_back_a_failed_refresh_is_not_waited_for() -> None:
    failed = Failed("run", ended_s=1_000_000.0)
    assert due(Watch("same", 0.0), "same", failed, 1_000_001.0, quiet_s=120.0)[0] is None
    assert due(Watch("same", 0.0), "same", failed, 1_000.0, quiet_s=120.0)[0]


@pytest.fixture
def refresh_ends(daemon: Daemon) -> Iterator[Callable[[dg.DagsterRunStatus, float], dg.DagsterRun]]:
    """Have a refresh end with a status, some minutes ago, as Dagster would note it."""
    ended = []

    def end(status: dg.DagsterRunStatus, minutes_ago: float) -> dg.DagsterRun:
        instance = daemon.instance
        run = instance.add_run(dg.DagsterRun("refresh", status=dg.DagsterRunStatus.STARTED))
        ended.append(run)
        kind = {
            dg.DagsterRunStatus.FAILURE: dg.DagsterEventType.PIPELINE_FAILURE,
            dg.DagsterRunStatus.SUCCESS: dg.DagsterEventType.PIPELINE_SUCCESS,
            dg.DagsterRunStatus.CANCELED: dg.DagsterEventType.PIPELINE_CANCELED,
        }[status]
        event = dg.DagsterEvent(kind.value, run.job_name)
        instance.report_dagster_event(
            event, run_id=run.run_id, timestamp=time.time() - minutes_ago * MINUTE
        )
        return run

    yield end
    for run in ended:
        daemon.instance.delete_run(run.run_id)


def test_a_refresh_that_failed_is_tried_again_after_an_hour_also_if_it_wrote_the_catalogue(
    daemon: Daemon, folder: Path, refresh_ends: Callable[..., dg.DagsterRun]
) -> None:
    put(folder / "new.mp3")
    daemon.tick()
    assert daemon.later(minutes=2)
    run = refresh_ends(dg.DagsterRunStatus.FAILURE, minutes_ago=61)
    assert daemon.tick() == f"after-{run.run_id}"
    ingestion.run(daemon.home, [folder])
    run = refresh_ends(dg.DagsterRunStatus.FAILURE, minutes_ago=50)
    assert daemon.tick() is None
    assert f"failed, see run {run.run_id[:8]}; it is tried again in 10 minutes" in daemon.skipped
    run = refresh_ends(dg.DagsterRunStatus.FAILURE, minutes_ago=61)
    # One run follows each failure: a key that is known already starts none.
    assert daemon.tick() == daemon.tick() == f"after-{run.run_id}"
    # Who cancels it does not want it.
    for status in (dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.SUCCESS):
        refresh_ends(status, minutes_ago=1000)
        assert daemon.tick() is None
        assert "as the catalogue knows them" in daemon.skipped


def test_new_songs_need_not_wait_for_the_hour_but_for_copying_to_end(
    daemon: Daemon, folder: Path, refresh_ends: Callable[..., dg.DagsterRun]
) -> None:
    refresh_ends(dg.DagsterRunStatus.FAILURE, minutes_ago=61)
    put(folder / "new.mp3")
    assert daemon.tick() is None
    assert "copying" in daemon.skipped
    refresh_ends(dg.DagsterRunStatus.FAILURE, minutes_ago=1)
    assert daemon.later(minutes=2)
