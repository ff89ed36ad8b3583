"""What map, database, page and questions cost is measured on a made-up collection."""

import re
from pathlib import Path

import pytest

from fastdino.bench import afterwards, collection
from fastdino.bench.afterwards import STEPS
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.database.connection import connect, rows
from fastdino.page.page import write_page

N = 300


def test_made_up_songs_go_all_the_way_and_every_question_is_answered(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(afterwards, "REPEATS", 2)
    collection.make_up(home, N)
    for step in STEPS.values():
        goes = list(step(home, N))
        assert len(goes) in (1, afterwards.REPEATS)
    with connect(home.database) as db:
        assert rows(db, "SELECT count(x) FROM songs") == [(N + afterwards.ADDED,)]
    assert not write_page(home).did_work


@pytest.mark.thorough
def test_every_step_is_measured_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(afterwards.tempfile, "tempdir", str(tmp_path))
    assert afterwards.main([N]) == 0
    printed = capsys.readouterr().out
    for step in STEPS:
        measured = re.search(rf"│ {re.escape(step)} +│.*", printed)
        assert measured
        assert re.search(r"\d s +[\d.,]+ +[\d,]+", measured[0])
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(afterwards.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(UserError, match="set TMPDIR"):
        afterwards.main([10**12])
    assert not list(tmp_path.iterdir())
