"""Comparisons of seconds: what is trained, what is not trained again, what the table says."""

import dataclasses
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from song_shards import songs, write_songs

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.summary import Summary
from fastdino.research import compare
from fastdino.training.evaluation import FIGURES
from fastdino.training.settings import TrainingSettings

SECOND = 1 / 60
ARMS = ["fastdino", "published", "dino", "autoencoder"]


def run(home: Home, names: list[str], *, minutes: float = SECOND / 4, seeds: int = 1) -> Summary:
    return compare.run(home, names=names, minutes=[minutes], seeds=seeds, preset="tiny")


def rows(home: Home) -> list[dict[str, object]]:
    table: list[dict[str, object]] = pq.read_table(home.comparison / "results.parquet").to_pylist()
    return table


def test_every_arm_is_trained_and_judged_beside_the_floors(home_with_shards: Home) -> None:
    summary = run(home_with_shards, ARMS)
    assert summary.counts["trained"] == len(ARMS)
    found = {str(row["arm"]): row for row in rows(home_with_shards) if row["subset"] == "all"}
    assert set(found) == {*ARMS, "mel mean", "mel mean+std", "untrained"}
    for name in ARMS:
        assert found[name]["kind"] in ("ours", "baseline")
        for measure in ("steps", "elapsed_s", "heard_s", "flops", "effective_rank"):
            assert float(found[name][measure]) > 0, (name, measure)  # type: ignore[arg-type]
    assert set(FIGURES) < set(found["fastdino"])


def test_a_second_comparison_trains_nothing_and_a_wider_one_only_what_is_new(
    home_with_shards: Home,
) -> None:
    run(home_with_shards, ["fastdino"])
    before = rows(home_with_shards)
    assert not run(home_with_shards, ["fastdino"]).did_work
    assert rows(home_with_shards) == before
    assert run(home_with_shards, ["fastdino", "dino"], seeds=2).counts["trained"] == 3


def test_an_interrupted_run_goes_on(
    home_with_shards: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = compare.embed_sample

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    run(home_with_shards, [])
    monkeypatch.setattr(compare, "embed_sample", killed)
    with pytest.raises(KeyboardInterrupt):
        run(home_with_shards, ["fastdino"], minutes=SECOND)
    monkeypatch.setattr(compare, "embed_sample", real)
    metrics = next(home_with_shards.comparison.glob("runs/fastdino-*/metrics.jsonl"))
    before = metrics.read_text()
    run(home_with_shards, ["fastdino"], minutes=SECOND)
    assert metrics.read_text() == before  # trained already; only judged


def test_other_songs_mean_other_runs(home_with_shards: Home) -> None:
    run(home_with_shards, ["fastdino"])
    write_songs(home_with_shards, {"another": next(iter(songs().values()))})
    assert run(home_with_shards, ["fastdino"]).counts["trained"] == 1
    assert {row["n_tracks"] for row in rows(home_with_shards) if row["subset"] == "all"} == {13}


def test_no_budget_means_only_the_table(home_with_shards: Home) -> None:
    summary = compare.run(home_with_shards, names=ARMS, minutes=[], seeds=1, preset="tiny")
    assert not summary.did_work
    assert {row["kind"] for row in rows(home_with_shards)} == {"floor"}


def test_an_unknown_arm_is_named_with_those_there_are(home_with_shards: Home) -> None:
    with pytest.raises(UserError, match=r"no arm is called 'simclr'.*fastdino, published"):
        run(home_with_shards, ["simclr"])


def test_without_spectrograms_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fastdino ingest"):
        run(Home(tmp_path), ["fastdino"])


def test_a_third_of_the_artists_is_set_aside_whatever_the_collection() -> None:
    share = sum(compare.held_out(f"artist {i}") for i in range(3000)) / 3000
    assert 0.3 < share < 0.37


def test_runs_by_a_recipe_that_has_changed_since_leave_the_table(
    home_with_shards: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(home_with_shards, ["fastdino", "dino"])
    real = compare.arms

    def changed(base: TrainingSettings) -> dict[str, compare.Arm]:
        arms = real(base)
        dino = arms["dino"]
        slower = dataclasses.replace(dino.settings, learning_rate=1e-4)
        return arms | {"dino": dataclasses.replace(dino, settings=slower)}

    monkeypatch.setattr(compare, "arms", changed)
    run(home_with_shards, [])
    assert {"fastdino"} == {row["arm"] for row in rows(home_with_shards) if row["run"]}
