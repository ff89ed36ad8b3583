import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastdino import embeddings
from fastdino.errors import UserError
from fastdino.home import Home
from fastdino.storage import alone
from fastdino.training import stage
from fastdino.training.settings import PRESETS, settings_for
from fastdino.training.stage import run
from tests.training.conftest import songs, write_songs

SETTINGS = dataclasses.replace(PRESETS["tiny"], min_steps=5, crop_s=2.0)


def test_without_spectrograms_training_says_what_to_run_first(home: Home) -> None:
    with pytest.raises(UserError, match="fastdino spectrograms"):
        run(home, SETTINGS)


def test_a_first_run_trains_and_a_second_keeps_the_model(home_with_shards: Home) -> None:
    first = run(home_with_shards, SETTINGS)
    assert first.did_work
    current = json.loads((home_with_shards.models / "current.json").read_text())["model_id"]
    about = json.loads((home_with_shards.model(current) / "model.json").read_text())
    assert about["trained_tracks"] == 12
    assert about["metrics"]["effective_rank"] > 1
    assert first.plots["training curve"].startswith(b"\x89PNG")

    second = run(home_with_shards, SETTINGS)
    assert not second.did_work
    assert second.paths == first.paths


def test_a_collection_grown_by_a_tenth_keeps_its_model_and_by_a_third_gets_another(
    home_with_shards: Home,
) -> None:
    run(home_with_shards, SETTINGS)
    more = {f"new-{k}": v for k, v in songs(artists=1, each=4).items()}
    names = list(more)
    write_songs(home_with_shards, {names[0]: more[names[0]]})
    assert not run(home_with_shards, SETTINGS).did_work
    write_songs(home_with_shards, {name: more[name] for name in names[1:]})
    assert run(home_with_shards, SETTINGS).did_work


def test_another_training_length_or_seed_alone_is_no_reason_to_train_again(
    home_with_shards: Home,
) -> None:
    run(home_with_shards, SETTINGS)
    longer = dataclasses.replace(SETTINGS, minutes=9.0, seed=5)
    assert not run(home_with_shards, longer).did_work
    assert run(home_with_shards, longer, afresh=True).did_work
    assert run(home_with_shards, dataclasses.replace(longer, dim=16)).did_work


def test_new_songs_alone_are_embedded(home_with_shards: Home) -> None:
    run(home_with_shards, SETTINGS)
    assert embeddings.run(home_with_shards).counts["new_tracks"] == 12
    assert not embeddings.run(home_with_shards).did_work
    write_songs(home_with_shards, {"new": songs(1, 1)["00-00"]})
    assert embeddings.run(home_with_shards).counts["new_tracks"] == 1


def test_embedding_before_training_says_what_to_run_first(home_with_shards: Home) -> None:
    with pytest.raises(UserError, match="fastdino train"):
        embeddings.run(home_with_shards)


def test_presets_are_found_by_name_and_keep_what_is_asked_for() -> None:
    assert settings_for("tiny", minutes=3, seed=7) == dataclasses.replace(
        PRESETS["tiny"], minutes=3, seed=7
    )
    assert settings_for("auto").preset in ("cpu", "gpu")


def test_of_two_trainings_at_once_the_second_waits_and_finds_the_model_made(
    home_with_shards: Home,
) -> None:
    with ThreadPoolExecutor() as pool:
        with alone(home_with_shards.models):
            both = [pool.submit(run, home_with_shards, SETTINGS) for _ in range(2)]
        assert sorted(each.result().did_work for each in both) == [False, True]


def test_a_training_killed_after_its_last_step_is_finished_without_training_again(
    home_with_shards: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stage, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            run(home_with_shards, SETTINGS)
    before = (home_with_shards.models / ".training" / "metrics.jsonl").read_text()
    finished = run(home_with_shards, SETTINGS)
    assert (finished.paths["model"] / "metrics.jsonl").read_text() == before
    assert not (finished.paths["model"] / "checkpoint.safetensors").exists()
