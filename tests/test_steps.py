"""Which folders a run looks in, however it was started."""

from argparse import Namespace
from pathlib import Path

import pytest

from fastdino import demo
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.ingestion import catalog
from fastdino.steps import ingest, music_folders


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTDINO_MUSIC", raising=False)


def options(*music: Path, or_demo: bool = False) -> Namespace:
    return Namespace(music=[str(folder) for folder in music], or_demo=or_demo)


@pytest.mark.parametrize("or_demo", [False, True])
def test_a_run_that_names_no_folder_looks_where_the_one_before_did(
    home: Home, library: Path, tmp_path: Path, or_demo: bool
) -> None:
    others = tmp_path / "other music"
    demo.synthesise(others, artists=1, songs_per_artist=6, seconds=1.0)
    ingest(home, options(library, others))
    before = catalog.read(home)
    assert not ingest(home, options(or_demo=or_demo)).did_work
    assert catalog.read(home).equals(before)
    assert not (home.root / "demo").exists()


def test_a_folder_that_is_named_or_set_goes_before_those_of_last_time(
    home: Home, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(home, options(library))
    monkeypatch.setenv("FASTDINO_MUSIC", f"{tmp_path}/a:{tmp_path}/b")
    assert music_folders(home, []) == [tmp_path / "a", tmp_path / "b"]
    assert music_folders(home, [f"{tmp_path}/c"]) == [tmp_path / "c"]


def test_where_no_folder_is_known_the_demo_is_taken_if_that_was_asked_for(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def six_songs(folder: Path) -> None:
        synthesise(folder, artists=1, songs_per_artist=6, seconds=1.0)

    synthesise = demo.synthesise
    monkeypatch.setattr(demo, "synthesise", six_songs)
    with pytest.raises(UserError, match="no music folder given"):
        ingest(home, options())
    assert ingest(home, options(or_demo=True)).counts["songs"] == 6
    song = next((home.root / "demo").rglob("*.flac"))
    song.unlink()
    assert ingest(home, options(or_demo=True)).counts["songs"] == 6
    assert song.exists()
