"""A clock that goes backwards, as after a flat battery: nothing depends on its going on."""

import datetime
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import synthetic
from published import rows

from fastdino import ingestion, reports
from fastdino.core.home import Home
from fastdino.database import publish
from fastdino.ingestion import catalog


@pytest.fixture
def set_back(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have the clock say what it said ten years ago."""

    class Past(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
            return super().now(tz) - datetime.timedelta(days=3650)

    return lambda: monkeypatch.setattr(datetime, "datetime", Past)


def test_what_is_new_then_is_taken_in_and_what_was_there_stays_as_it_is(
    library: Path, tmp_path: Path, home: Home, set_back: Callable[[], None]
) -> None:
    music = tmp_path / "music"
    music.mkdir()
    songs = sorted(library.rglob("*.mp3"))
    shutil.copy(songs[0], music / "a.mp3")
    ingestion.run(home, [music])
    before = catalog.read(home)
    set_back()
    shutil.copy(songs[0], music / "copy of a.mp3")
    shutil.copy(songs[1], music / "b.mp3")
    counts = ingestion.run(home, [music]).counts
    assert (counts["new"], counts["duplicate"], counts["unchanged"]) == (1, 1, 1)
    after = catalog.read(home)
    assert after.filter(path=str(music / "a.mp3")).equals(before)
    assert after["added_at"].min() < before["added_at"][0]
    assert not ingestion.run(home, [music]).did_work


@pytest.mark.thorough
def test_the_map_goes_on_from_the_last_one_and_that_is_published(
    home: Home, set_back: Callable[[], None]
) -> None:
    synthetic.write_home(home, 30)
    reports.draw_map(home)
    publish(home)
    places = "SELECT track_id, x, y FROM songs WHERE x IS NOT NULL ORDER BY track_id"
    before = rows(home, places)
    set_back()
    synthetic.write_home(home, 32)
    assert reports.draw_map(home).did_work
    assert publish(home).did_work
    after = rows(home, places)
    assert len(after) == 32
    assert set(before) < set(after)
    assert not reports.draw_map(home).did_work
    assert not publish(home).did_work
