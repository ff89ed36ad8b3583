"""Which folders a run looks in, and which options a step takes, however it was started."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import synthetic

from fastdino import demo
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.summary import Summary
from fastdino.ingestion import catalog
from fastdino.steps import COMMANDS, STEPS, Ingest, Step, Train, data_version, made, music_folders


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTDINO_MUSIC", raising=False)


def ingest(home: Home, *music: Path, or_demo: bool = False) -> Summary:
    # Without a folder as on a command line that names none.
    given = {"music": tuple(map(str, music))} if music else {}
    return Ingest(**given, or_demo=or_demo).run(home)


@pytest.mark.parametrize("or_demo", [False, True])
def test_a_run_that_names_no_folder_looks_where_the_one_before_did(
    home: Home, library: Path, tmp_path: Path, or_demo: bool
) -> None:
    others = tmp_path / "other music"
    demo.synthesise(others, artists=1, songs_per_artist=6, seconds=1.0)
    ingest(home, library, others)
    before = catalog.read(home)
    assert not ingest(home, or_demo=or_demo).did_work
    assert catalog.read(home).equals(before)
    assert not (home.root / "demo").exists()


def test_a_folder_that_is_named_or_set_goes_before_those_of_last_time(
    home: Home, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(home, library)
    monkeypatch.setenv("FASTDINO_MUSIC", f"{tmp_path}/a:{tmp_path}/b")
    assert music_folders(home, Ingest().music) == [tmp_path / "a", tmp_path / "b"]
    assert music_folders(home, [f"{tmp_path}/c"]) == [tmp_path / "c"]


def test_what_is_to_be_left_out_is_set_once_for_every_way_to_start(
    home: Home, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTDINO_EXCLUDE", "*.WAV:*/nothing/*")
    excluded = len(list(library.rglob("*.wav")))
    assert f"; {excluded} excluded" in ingest(home, library).headline
    assert catalog.read(home).filter(path=str(next(library.rglob("*.wav")))).is_empty()


def test_where_no_folder_is_known_the_demo_is_taken_if_that_was_asked_for(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def six_songs(folder: Path) -> None:
        synthesise(folder, artists=1, songs_per_artist=6, seconds=1.0)

    synthesise = demo.synthesise
    monkeypatch.setattr(demo, "synthesise", six_songs)
    with pytest.raises(UserError, match="no music folder given"):
        ingest(home)
    assert ingest(home, or_demo=True).counts["songs"] == 6
    song = next((home.root / "demo").rglob("*.flac"))
    song.unlink()
    assert ingest(home, or_demo=True).counts["songs"] == 6
    assert song.exists()


@pytest.mark.parametrize("step", STEPS.values())
def test_a_step_is_the_same_after_a_trip_through_json(step: type[Step]) -> None:
    assert made(step.name, json.loads(json.dumps(step().plain()))) == step()


def test_every_step_of_every_command_has_a_name_to_be_found_by() -> None:
    assert {step for command in COMMANDS.values() for step in command} == set(STEPS.values())
    assert all(STEPS[name].name == name for name in STEPS)


@pytest.mark.parametrize(
    ("step", "options", "told"),
    [
        ("trian", {}, "no step 'trian'"),
        ("train", {"minuets": 3}, "no option 'minuets': it has preset, minutes"),
        ("train", {"minutes": "three"}, "minutes cannot be 'three'"),
        ("train", {"minutes": True}, "minutes cannot be True"),
        ("train", {"seed": 1.5}, "seed cannot be 1.5"),
        ("train", {"seed": -1}, "-1 is no seed"),
        ("train", {"ranks": 0}, "0 ranks are none: give 1 or more"),
        ("compare", {"seeds": 0}, "0 runs of each are none"),
        ("train", {"preset": "CPU"}, "no preset 'CPU': choose one of auto, cpu"),
        ("train", {"minutes": -1}, "-1 minutes are no time to train"),
        ("compare", {"minutes": [1, 0]}, "0 minutes are no time to train"),
        ("compare", {"vectors": ["bliss.npz"]}, "'bliss.npz' names no vectors: write NAME=FILE"),
        ("compare", {"vectors": ["=bliss.npz"]}, "names no vectors"),
        ("compare", {"vectors": ["bliss="]}, "names no vectors"),
        ("playlists", {"songs": 0}, "0 songs are no playlist"),
        *(
            ("playlists", {"paths": each}, f"'{each}' is no way to name songs: give absolute, ")
            for each in ("/a", "a=/b", "/a=b", "/a=")
        ),
        ("ingest", {"music": "/music"}, "music cannot be '/music'"),
        ("embed", {"preset": "cpu"}, "no option 'preset': it has none"),
    ],
)
def test_an_option_there_is_not_or_that_it_cannot_be_is_one_line(
    step: str, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        made(step, options)


def test_plain_values_become_what_the_step_declares() -> None:
    step = made("train", {"minutes": 2, "preset": "tiny"})
    assert step == Train(preset="tiny", minutes=2.0)
    assert isinstance(step, Train)
    assert isinstance(step.minutes, float)


def test_a_user_there_is_not_and_a_list_longer_than_any_name_are_no_crash(home: Home) -> None:
    with pytest.raises(UserError, match="no user nobody-of-that-name here"):
        music_folders(home, ["~nobody-of-that-name/Music"])
    many = ":".join(f"/music/{number}" for number in range(2_000))
    assert len(music_folders(home, [many])) == 2_000


def test_a_model_that_is_being_trained_is_no_new_version_of_the_models(home: Home) -> None:
    synthetic.write_model(home)
    before = data_version(home, [Train.name])
    for beside in (".training", ".forgotten"):
        shutil.copytree(home.model(synthetic.MODEL_ID), home.models / beside)
    assert data_version(home, [Train.name]) == before
    synthetic.write_model(home, "model-b")
    assert data_version(home, [Train.name]) != before
