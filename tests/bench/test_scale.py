"""What driving a cluster costs is measured on files of as many rows as real ones have."""

import re
from pathlib import Path

import pytest

from fastdino.bench import collection, scale
from fastdino.bench.scale import ADDED, SETTINGS, STEPS
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.database.publishing import publish
from fastdino.spectrograms import shards

N = 300


def test_made_up_songs_go_all_the_way_as_real_ones_do(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    scale.make_up(home)
    for step in STEPS.values():
        assert len(list(step(home, N))) == 1
    index = shards.read_index(home.shards(SETTINGS.spec_id))
    assert len(set(index["track_id"].to_pylist())) == N + ADDED
    # Four minutes each on average, so many of which fill a shard.
    names = {path.name for path in shards.list_shards(home.shards(SETTINGS.spec_id))}
    assert len(names) == 3
    assert {path.name for path in home.vectors(collection.MODEL).glob("*.parquet")} == names
    publish(home)


@pytest.mark.thorough
def test_every_step_is_measured_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scale.tempfile, "tempdir", str(tmp_path))
    assert scale.main([N, 2 * N]) == 0
    printed = capsys.readouterr().out
    for step in STEPS:
        measured = re.search(rf"│ {step} .*", printed)
        assert measured
        assert len(re.findall(r"\d s\b", measured[0])) == 2
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale.tempfile, "tempdir", str(tmp_path))
    with pytest.raises(UserError, match="set TMPDIR"):
        scale.main([10**12])
    assert not list(tmp_path.iterdir())
