import dataclasses
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from song_shards import songs, write_songs

from fastdino import embeddings
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.storage import exclusive_lock, read_json
from fastdino.reports import model_comparison
from fastdino.training import model as models
from fastdino.training import promotion, registry, stage
from fastdino.training.encoder import Encoder
from fastdino.training.evaluation import FIGURES
from fastdino.training.loop import Run, Start
from fastdino.training.model import SongModel
from fastdino.training.settings import METHOD, PRESETS, Collection, EncoderSettings, settings_for
from fastdino.training.stage import run

SETTINGS = dataclasses.replace(PRESETS["tiny"], min_steps=5, crop_s=2.0)
WIDER = EncoderSettings(widths=(56,), depths=(1,))
# What the preset was before.
OF_TWO_STAGES = EncoderSettings(widths=(32, 48), depths=(1, 1), strides=(4, 2))


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
    trained: Home,
) -> None:
    more = {f"new-{k}": v for k, v in songs(artists=1, each=4).items()}
    names = list(more)
    write_songs(trained, {names[0]: more[names[0]]})
    assert not run(trained, SETTINGS).did_work
    write_songs(trained, {name: more[name] for name in names[1:]})
    assert run(trained, SETTINGS).did_work


def interrupted(home: Home) -> None:
    """A first training that is killed once its last step is saved."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stage, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            run(home, SETTINGS)


def test_a_training_that_goes_on_says_that_it_heard_the_songs_it_began_with(
    home_with_shards: Home, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(home_with_shards)
    late = songs(artists=4, each=1)["03-00"]
    write_songs(home_with_shards, {"late": late})
    with caplog.at_level("INFO"):
        model = run(home_with_shards, SETTINGS).paths["model"]
    assert "Going on from step" in caplog.text
    assert registry.trained_on(model) == songs().keys()
    assert "1 of 13 songs are new to it" in run(home_with_shards, SETTINGS).headline


@pytest.mark.parametrize("known", [True, False])
def test_a_training_that_the_collection_has_outgrown_begins_anew(
    home_with_shards: Home, known: bool, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(home_with_shards)
    if known:
        write_songs(home_with_shards, {f"new-{k}": v for k, v in songs(artists=1).items()})
    else:  # as a program of before left it, or damaged
        (home_with_shards.models / ".training" / registry.TRACKS).unlink()
    with caplog.at_level("INFO"):
        model = run(home_with_shards, SETTINGS).paths["model"]
    assert "Going on from step" not in caplog.text
    assert len(registry.trained_on(model) or ()) == (16 if known else 12)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A home with a model, and one with a candidate as well. Made once: only read them."""
    folder = tmp_path_factory.mktemp("trained")
    write_songs(Home(folder / "one"), songs())
    run(Home(folder / "one"), SETTINGS)
    shutil.copytree(folder / "one", folder / "two")
    run(Home(folder / "two"), SETTINGS, afresh=True)
    return folder / "one", folder / "two"


@pytest.fixture
def trained(once: tuple[Path, Path], home: Home) -> Home:
    """Songs and a model of them."""
    return Home(Path(shutil.copytree(once[0], home.root)))


@pytest.fixture
def waiting(once: tuple[Path, Path], home: Home) -> Home:
    """The same with a candidate."""
    return Home(Path(shutil.copytree(once[1], home.root)))


def model_of(home: Home) -> Path:
    return home.model(registry.current_id(home) or "")


def candidate_of(home: Home) -> Path:
    candidate = registry.candidate(home)
    assert candidate
    return home.model(candidate["model_id"])


def edit(model: Path, **changes: object) -> None:
    registry.write_metadata(model, {**registry.read_checked(model / "model.json"), **changes})


def test_a_second_model_is_a_candidate_trained_once_and_embedded_beside_the_first(
    trained: Home,
) -> None:
    first = model_of(trained)
    embeddings.run(trained)
    write_songs(trained, {f"new-{k}": v for k, v in songs(artists=1, each=4).items()})

    summary = run(trained, SETTINGS)
    assert "candidate" in summary.headline
    assert summary.paths["model"] == candidate_of(trained)
    assert model_of(trained) == first
    again = run(trained, SETTINGS)
    assert not again.did_work
    assert "fastdino promote" in again.headline

    embedded = embeddings.run(trained)
    assert embedded.counts["new_tracks"] == 4
    assert embedded.counts["candidate_tracks"] == 16
    assert embedded.paths["vectors"] == trained.vectors(first.name)
    compared = model_comparison.compare_candidate(trained)
    assert compared is not None
    assert any("fastdino promote" in warning for warning in compared.warnings)
    assert embedded.headline.endswith("; 16 embedded with the candidate")
    again = embeddings.run(trained)
    assert not again.did_work
    assert again.headline == f"every track has its vectors of model {first.name}"

    assert len(registry.trained_on(first) or ()) == 12
    assert len(registry.trained_on(candidate_of(trained)) or ()) == 16
    promotion.promote(trained)
    assert "candidate" not in run(trained, SETTINGS).headline
    assert not embeddings.run(trained).warnings
    assert model_comparison.compare_candidate(trained) is None


def test_a_model_of_before_a_measure_was_is_shown_without_it_and_not_trained_again(
    trained: Home,
) -> None:
    folder = trained.model(registry.current(trained)["model_id"])
    about = read_json(folder / "model.json")
    del about["digest"]
    for figures in (about["metrics"], *about["quality"].values()):
        del figures["artist_map_other_album"], figures["hubness"]
    (folder / "model.json").write_text(json.dumps(about))
    again = run(trained, SETTINGS)
    assert not again.did_work
    shown = {row["measure"]: row for row in again.tables["quality"]}
    assert tuple(shown) == FIGURES
    assert shown["hubness"] == {
        "measure": "hubness", "model": None, "mel mean+std": None, "untrained": None,
    }  # fmt: skip
    assert shown["effective_rank"]["model"] == about["quality"]["model"]["effective_rank"]
    assert model_comparison.list_models(trained).tables["models"]


def test_damage_to_the_candidate_does_not_keep_the_current_model_from_new_songs(
    waiting: Home,
) -> None:
    (candidate_of(waiting) / "model.safetensors").write_bytes(b"spoilt")
    embedded = embeddings.run(waiting)
    assert embedded.counts["new_tracks"] == 12
    assert any(str(candidate_of(waiting)) in warning for warning in embedded.warnings)


def test_a_model_made_while_the_clock_is_behind_is_still_the_newer_one(trained: Home) -> None:
    edit(model_of(trained), created_at="2099-12-31T23:59:59+00:00")
    run(trained, SETTINGS, afresh=True)
    assert candidate_of(trained).name.startswith("21000101T000000-")


def test_a_warm_model_begins_where_the_current_one_ended_and_says_so(trained: Home) -> None:
    assert read_json(model_of(trained) / "model.json")["started_from"] is None
    run(trained, SETTINGS, afresh=True, warm=True)
    warm = read_json(candidate_of(trained) / "model.json")
    assert warm["started_from"] == model_of(trained).name
    assert warm["metrics"]["steps"] == 2  # a third of five
    promotion.promote(trained)
    assert not run(trained, SETTINGS).did_work
    with pytest.raises(UserError, match="leave --warm away"):
        run(trained, dataclasses.replace(SETTINGS, encoder=WIDER), afresh=True, warm=True)


def test_given_four_times_the_time_a_wider_encoder_is_trained_and_stays_in_use_without(
    home_with_shards: Home,
) -> None:
    def encoder_of(model: Path) -> EncoderSettings:
        return models.load(model, torch.device("cpu"))[0].encoder.settings

    given = dataclasses.replace(SETTINGS, wider=WIDER)
    four_times = dataclasses.replace(given, minutes=20.0)
    run(home_with_shards, dataclasses.replace(given, minutes=19.0))
    assert encoder_of(model_of(home_with_shards)) == given.encoder
    assert not run(home_with_shards, four_times).did_work
    run(home_with_shards, four_times, afresh=True)
    wide = candidate_of(home_with_shards)
    assert encoder_of(wide) == WIDER
    promotion.promote(home_with_shards)
    assert not run(home_with_shards, given).did_work
    # Begun with its weights, another is of its shape, whatever time there is.
    run(home_with_shards, given, afresh=True, warm=True)
    warm = candidate_of(home_with_shards)
    assert encoder_of(warm) == WIDER
    assert read_json(warm / "model.json")["started_from"] == wide.name


@pytest.mark.parametrize(
    ("hours", "minutes", "channels"),
    [(10, None, 128), (10, 19.9, 128), (10, 20, 256), (750, 119, 128), (750, 120, 256)],
)
def test_how_wide_the_encoder_is_follows_from_the_time_and_not_from_the_songs_alone(
    hours: int, minutes: float | None, channels: int
) -> None:
    on = Collection(hours, tracks=20 * hours)
    assert settings_for("cpu", minutes=minutes).with_time(on).encoder.dim == channels


def test_a_warm_model_begins_with_the_first_stage_of_one_that_has_two(trained: Home) -> None:
    folder, cpu = model_of(trained), torch.device("cpu")
    _, about = models.load(folder, cpu)
    torch.manual_seed(5)
    old = SongModel.of(Encoder(OF_TWO_STAGES), about["dim"])
    models.save(folder, old, {**about, "method": 4})
    begun: list[Start | None] = []

    def watched(*args: Any, start: Start | None, **rest: Any) -> Run:
        begun.append(start)
        return Run(*args, start=start, **rest)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stage, "Run", watched)
        assert run(trained, SETTINGS, afresh=True, warm=True).did_work
    (start,) = begun
    assert start is not None
    frames = torch.rand(2, 64, 80)
    assert torch.equal(start.encoder(frames), old.encoder.first(1)(frames))


def test_what_a_killed_run_had_made_is_put_in_place_and_does_not_stand_for_what_is_asked_for(
    trained: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    def kill_and_ask_for(**changes: object) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(stage, "_put_in_place", killed)
            with pytest.raises(KeyboardInterrupt):
                run(trained, SETTINGS, afresh=True)
        run(trained, dataclasses.replace(SETTINGS, **changes), afresh=True)  # type: ignore[arg-type]

    kill_and_ask_for()
    assert len(registry.model_ids(trained)) == 2
    kill_and_ask_for(seed=7)
    assert len(registry.model_ids(trained)) == 4
    seeds = [about["settings"]["seed"] for about in registry.models(trained)[0]]
    assert seeds == [0, 0, 0, 7]


@pytest.mark.parametrize("moment", ["_put_in_place", "make_current"])
def test_a_training_killed_before_its_model_is_in_use_is_finished_without_training_again(
    home_with_shards: Home, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stage if moment == "_put_in_place" else registry, moment, killed)
        with pytest.raises(KeyboardInterrupt):
            run(home_with_shards, SETTINGS)
    (described,) = home_with_shards.models.rglob("model.json")
    before = described.read_bytes()
    # It trains nothing: there would be another time and another name in the description.
    finished = run(home_with_shards, SETTINGS).paths["model"]
    assert (finished / "model.json").read_bytes() == before
    assert model_of(home_with_shards) == finished
    assert not (home_with_shards.models / ".training").exists()
    assert not (finished / "checkpoint.safetensors").exists()


def test_with_several_models_and_none_chosen_nothing_is_trained(waiting: Home) -> None:
    (waiting.models / "current.json").unlink()
    with pytest.raises(UserError, match="fastdino promote NAME"):
        run(waiting, SETTINGS)


def test_a_current_model_that_cannot_be_read_is_replaced_by_no_one_but_a_person(
    waiting: Home,
) -> None:
    candidate = candidate_of(waiting)
    (model_of(waiting) / "model.json").write_text("[]")
    with pytest.raises(UserError, match="verify --repair"):
        run(waiting, SETTINGS)
    promotion.promote(waiting)
    assert model_of(waiting) == candidate


def test_a_model_of_other_spectrograms_stays_in_use_until_one_that_fits_is_promoted(
    waiting: Home,
) -> None:
    edit(model_of(waiting), spec_id="before")
    assert "candidate" in run(waiting, SETTINGS).headline
    embedded = embeddings.run(waiting)
    assert (embedded.counts["new_tracks"], embedded.counts["candidate_tracks"]) == (0, 12)
    assert "spectrograms of other settings" in embedded.warnings[0]
    promotion.forget(waiting, candidate_of(waiting).name)
    with pytest.raises(UserError, match="fastdino train"):
        embeddings.run(waiting)


def test_another_training_length_or_seed_alone_is_no_reason_to_train_again(
    trained: Home,
) -> None:
    longer = dataclasses.replace(SETTINGS, minutes=9.0, seed=5)
    assert not run(trained, longer).did_work
    assert run(trained, longer, afresh=True).did_work
    assert run(trained, dataclasses.replace(longer, dim=16)).did_work


@pytest.mark.parametrize("method", [None, *range(2, METHOD)])
def test_a_model_of_a_method_before_is_kept_in_use_and_the_run_says_that_there_is_a_better_one(
    trained: Home, method: int | None
) -> None:
    assert "--afresh" not in run(trained, SETTINGS).headline
    path = trained.model(str(registry.current_id(trained))) / "model.json"
    about = json.loads(path.read_text())
    del about["method"], about["digest"]
    if method:  # and none from when methods had no numbers
        about["method"] = method
    # Nor had recipes this number then, and others were other ones.
    del about["settings"]["draws"]
    about["settings"] |= {"encoder": dataclasses.asdict(OF_TWO_STAGES), "passes": 3.0}
    path.write_text(json.dumps(about))
    again = run(trained, SETTINGS)
    assert not again.did_work
    assert "fastdino train --afresh" in again.headline
    assert len(registry.model_ids(trained)) == 1
    assert embeddings.run(trained).counts["new_tracks"] == 12


def test_new_songs_alone_are_embedded(trained: Home) -> None:
    assert embeddings.run(trained).counts["new_tracks"] == 12
    assert not embeddings.run(trained).did_work
    write_songs(trained, {"new": songs(1, 1)["00-00"]})
    assert embeddings.run(trained).counts["new_tracks"] == 1


def test_embedding_before_training_says_what_to_run_first(home_with_shards: Home) -> None:
    with pytest.raises(UserError, match="fastdino train"):
        embeddings.run(home_with_shards)


def test_presets_are_found_by_name_and_keep_what_is_asked_for() -> None:
    assert settings_for("tiny", minutes=3, seed=7) == dataclasses.replace(
        PRESETS["tiny"], minutes=3, seed=7
    )
    assert settings_for("auto").preset in ("cpu", "gpu")


@pytest.mark.parametrize(
    ("hours", "tracks", "steps"),
    [
        (0.5, 60, 60),  # a small one, by min_steps
        (10, 1200, 1125),  # half minutes: ten passes
        (24.2, 538, 841),  # whole songs: each drawn fifty times
        (750, 15_000, 23_438),
    ],
)
def test_a_collection_is_heard_until_its_songs_are_told_apart(
    hours: float, tracks: int, steps: int
) -> None:
    assert PRESETS["cpu"].steps(Collection(hours, tracks)) == steps
    assert PRESETS["cpu"].warm().steps(Collection(hours, tracks)) == max(20, round(steps / 3))


def test_of_two_trainings_at_once_the_second_waits_and_finds_the_model_made(
    home_with_shards: Home,
) -> None:
    with ThreadPoolExecutor() as pool:
        with exclusive_lock(home_with_shards.models):
            both = [pool.submit(run, home_with_shards, SETTINGS) for _ in range(2)]
        assert sorted(each.result().did_work for each in both) == [False, True]


def test_a_training_killed_after_its_last_step_is_finished_without_training_again(
    home_with_shards: Home,
) -> None:
    interrupted(home_with_shards)
    before = (home_with_shards.models / ".training" / "metrics.jsonl").read_text()
    finished = run(home_with_shards, SETTINGS)
    assert (finished.paths["model"] / "metrics.jsonl").read_text() == before
    assert not (finished.paths["model"] / "checkpoint.safetensors").exists()
