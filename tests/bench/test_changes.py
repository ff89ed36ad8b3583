"""What changes of a collection cost is measured on songs that are real."""

import re
import shutil
from pathlib import Path

import pytest

from fastdino.bench import changes
from fastdino.bench.changes import Library
from fastdino.core.errors import UserError
from fastdino.ingestion.identify import identify
from fastdino.spectrograms import SpectrogramSettings
from fastdino.spectrograms.extract import Extracted, Task, extract


def test_made_up_songs_can_be_decoded_and_no_two_are_the_same(tmp_path: Path) -> None:
    library = Library(tmp_path)
    numbers = (0, changes.ARTISTS, 2 * changes.ARTISTS)  # of one artist
    for number in numbers:
        library.write(number)
    found = [identify(str(library.path(number))) for number in numbers]
    assert len({song.track_id for song in found} - {None}) == len(numbers)
    assert [song.title for song in found] == [f"Song {number}" for number in numbers]
    assert {song.artist for song in found} == {"Artist 0"}
    result = extract(Task(library.path(0), tmp_path / "frames", SpectrogramSettings()))
    assert isinstance(result, Extracted)
    assert result.decoded_s == pytest.approx(changes.SONG_S, abs=0.1)
    assert (result.attempts, result.salvaged) == (1, False)


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes.tempfile, "tempdir", str(tmp_path))
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(UserError, match="set TMPDIR"):
        changes.main([free // changes.DISK_BYTES_A_SONG + 1])
    assert not list(tmp_path.iterdir())


@pytest.mark.thorough
def test_every_run_is_measured_and_no_old_song_is_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FASTDINO_PRESET", "tiny")
    monkeypatch.setattr(changes.tempfile, "tempdir", str(tmp_path))
    assert changes.main([250]) == 0
    printed = capsys.readouterr().out
    assert "250 songs" in printed
    for stage in ("ingest", "spectrograms", "embed", "map", "publish", "page"):
        assert len(re.findall(r"[\d.]+ s", re.search(rf"│ {stage} .*", printed)[0])) == 5
    # However the terminal wraps it.
    assert "decoded: 0, embedded: 0, moved on the map: 0" in " ".join(printed.split())
    assert not list(tmp_path.iterdir())
