"""Comparisons of seconds: what is trained, what is not trained again, what the table says."""

import dataclasses
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from song_shards import songs, write_songs

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.summary import Summary
from fastdino.research import compare
from fastdino.research.table import SUBSETS
from fastdino.steps import Compare
from fastdino.training.evaluation import FIGURES
from fastdino.training.settings import TrainingSettings

SECOND = 1 / 60
ARMS = ["fastdino", "published", "dino", "autoencoder"]


def run(home: Home, names: list[str], *, minutes: float = SECOND / 4, seeds: int = 1) -> Summary:
    return compare.run(home, names=names, minutes=[minutes], seeds=seeds, preset="tiny")


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Songs, and a comparison in which one arm was trained. Made once: only read it."""
    home = Home(tmp_path_factory.mktemp("compared"))
    write_songs(home, songs())
    assert run(home, ["fastdino"]).counts["trained"] == 1
    return home


@pytest.fixture
def compared(once: Home, home: Home) -> Home:
    """The same, to be changed."""
    return Home(Path(shutil.copytree(once.root, home.root)))


def judge(home: Home, **vectors: Path) -> Summary:
    """Compare what there is without training anything, and vectors from files."""
    return compare.run(home, names=[], minutes=[], seeds=1, preset="tiny", vectors=vectors)


def rows(home: Home) -> list[dict[str, object]]:
    table: list[dict[str, object]] = pq.read_table(home.comparison / "results.parquet").to_pylist()
    return table


@pytest.fixture
def tagged_home(home_with_shards: Home) -> Home:
    """A home whose songs have artists: each sound has two, of which one is set aside."""
    aside = [name for i in range(99) if compare.held_out(name := f"artist {i}")]
    kept = [name for i in range(99) if not compare.held_out(name := f"artist {i}")]
    more = {name: sound for name, sound in songs(artists=4).items() if name not in songs()}
    write_songs(home_with_shards, more)
    files = [
        {
            "path": f"/music/{track_id}.ogg",
            "track_id": track_id,
            "artist": (aside if number % 2 else kept)[int(track_id[:2])],
            "album": f"{number}",
            "genre": None,
            "added_at": datetime(2026, 1, 1, tzinfo=UTC),
        }
        for number, track_id in enumerate(sorted(songs(artists=4)))
    ]
    home_with_shards.catalog.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(files), home_with_shards.catalog)
    return home_with_shards


def test_every_arm_is_trained_and_judged_beside_the_floors(home_with_shards: Home) -> None:
    summary = run(home_with_shards, ARMS)
    assert summary.counts["trained"] == len(ARMS)
    found = {str(row["arm"]): row for row in rows(home_with_shards) if row["subset"] == "all"}
    assert set(found) == {*ARMS, "mel mean", "mel mean+std", "nothing learned", "untrained"}
    for name in ARMS:
        assert found[name]["kind"] in ("ours", "baseline")
        for measure in ("steps", "elapsed_s", "heard_s", "flops", "effective_rank"):
            assert float(found[name][measure]) > 0, (name, measure)  # type: ignore[arg-type]
    assert set(FIGURES) < set(found["fastdino"])


def test_a_second_comparison_trains_nothing_and_a_wider_one_only_what_is_new(
    compared: Home,
) -> None:
    before = rows(compared)
    assert not run(compared, ["fastdino"]).did_work
    assert rows(compared) == before
    assert run(compared, ["fastdino", "dino"], seeds=2).counts["trained"] == 3


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


def test_other_songs_mean_other_runs(compared: Home) -> None:
    write_songs(compared, {"another": next(iter(songs().values()))})
    assert run(compared, ["fastdino"]).counts["trained"] == 1
    assert {row["n_tracks"] for row in rows(compared) if row["subset"] == "all"} == {13}


def test_where_nothing_is_asked_what_was_compared_stays_whatever_songs_are_new(
    compared: Home,
) -> None:
    before = rows(compared)
    write_songs(compared, {"another": next(iter(songs().values()))})
    assert Compare(minutes=()).run(compared) is None
    assert rows(compared) == before


def test_runs_of_other_songs_leave_the_table_and_the_user_is_told(compared: Home) -> None:
    assert not judge(compared).warnings
    write_songs(compared, {"another": next(iter(songs().values()))})
    (warning,) = judge(compared).warnings
    assert warning.startswith("1 runs are of other songs than there are now")
    assert {row["kind"] for row in rows(compared)} == {"floor"}
    assert not run(compared, ["fastdino"]).warnings


def test_no_budget_means_only_the_table(home_with_shards: Home) -> None:
    summary = compare.run(home_with_shards, names=ARMS, minutes=[], seeds=1, preset="tiny")
    assert not summary.did_work
    assert {row["kind"] for row in rows(home_with_shards)} == {"floor"}


def test_an_unknown_arm_is_named_with_those_there_are(home_with_shards: Home) -> None:
    with pytest.raises(UserError, match=r"no arm is called 'simclr'.*'fastdino', 'published'"):
        run(home_with_shards, ["simclr"])


def test_without_spectrograms_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="fastdino ingest"):
        run(Home(tmp_path), ["fastdino"])


def test_a_third_of_the_artists_is_set_aside_whatever_the_collection() -> None:
    share = sum(compare.held_out(f"artist {i}") for i in range(3000)) / 3000
    assert 0.3 < share < 0.37


def test_runs_by_a_recipe_that_has_changed_since_leave_the_table(
    compared: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(compared, ["fastdino", "dino"])
    real = compare.arms

    def changed(base: TrainingSettings) -> dict[str, compare.Arm]:
        arms = real(base)
        dino = arms["dino"]
        slower = dataclasses.replace(dino.settings, learning_rate=1e-4)
        return arms | {"dino": dataclasses.replace(dino, settings=slower)}

    monkeypatch.setattr(compare, "arms", changed)
    run(compared, [])
    assert {"fastdino"} == {row["arm"] for row in rows(compared) if row["run"]}


def peer_file(folder: Path, track_ids: Iterable[str], seed: int = 0) -> Path:
    ids = sorted(track_ids)
    vectors = np.random.default_rng(seed).normal(size=(len(ids), 5))
    np.savez(folder / "peer.npz", track_ids=np.array(ids), vectors=vectors)
    return folder / "peer.npz"


def test_vectors_from_a_file_are_judged_on_the_same_songs_and_kept(
    home_with_shards: Home, tmp_path: Path
) -> None:
    file = peer_file(tmp_path, songs())
    assert judge(home_with_shards, **{"a/peer": file}).did_work
    before = rows(home_with_shards)
    (found,) = (row for row in before if row["arm"] == "a/peer" and row["subset"] == "all")
    assert (found["kind"], found["minutes"], found["n_tracks"], found["run"]) == (
        "peer",
        0,
        12,
        None,
    )
    assert found["effective_rank"] is not None
    assert found["level_tilt_share"] is not None
    assert found["alignment"] is None
    file.unlink()
    assert not judge(home_with_shards).did_work
    assert rows(home_with_shards) == before
    # The same name again stands for the new vectors, another is another.
    other = peer_file(tmp_path, songs(), seed=1)
    judge(home_with_shards, **{"a/peer": other, "a-peer": other})
    ranks = {row["arm"]: row["effective_rank"] for row in rows(home_with_shards)}
    assert ranks["a/peer"] == ranks["a-peer"] != found["effective_rank"]


def test_vectors_of_other_songs_leave_the_table_and_the_user_is_told(
    home_with_shards: Home, tmp_path: Path
) -> None:
    judge(home_with_shards, bliss=peer_file(tmp_path, songs()))
    write_songs(home_with_shards, {"another": next(iter(songs().values()))})
    summary = judge(home_with_shards)
    assert "bliss" not in {row["arm"] for row in rows(home_with_shards)}
    assert summary.warnings[0].startswith("the vectors called bliss are of other songs")


def test_vectors_that_lack_a_song_or_are_called_like_an_arm_are_refused(
    home_with_shards: Home, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"peer\.npz: has no vector of 1 of the 12 songs"):
        judge(home_with_shards, bliss=peer_file(tmp_path, sorted(songs())[1:]))
    with pytest.raises(UserError, match="'dino' is an arm of its own"):
        judge(home_with_shards, dino=peer_file(tmp_path, songs()))


@pytest.mark.thorough
def test_each_arm_is_held_against_the_default_song_by_song(
    tagged_home: Home, tmp_path: Path
) -> None:
    names = pq.read_table(tagged_home.catalog)["track_id"].to_pylist()
    summary = compare.run(
        tagged_home,
        names=["fastdino", "dino"],
        minutes=[SECOND / 4],
        seeds=2,
        preset="tiny",
        vectors={"bliss": peer_file(tmp_path, names)},
    )
    table = pq.read_table(summary.paths["differences"]).to_pylist()
    means: dict[tuple[object, object], list[float]] = {}
    for row in rows(tagged_home):
        means.setdefault((row["arm"], row["subset"]), []).append(row["artist_map"])  # type: ignore[arg-type]
    told = {(row["arm"], row["subset"]): row for row in table if row["measure"] == "artist_map"}
    assert {arm for arm, _ in told} == {
        "dino",
        "bliss",
        "mel mean",
        "mel mean+std",
        "nothing learned",
        "untrained",
    }
    assert {subset for _, subset in told} == {
        "all", "chosen on", "held out", "held out, among themselves",
    }  # fmt: skip
    for (arm, subset), row in told.items():
        expected = np.mean(means[arm, subset]) - np.mean(means["fastdino", subset])
        assert row["difference"] == pytest.approx(expected), (arm, subset)
    assert told["dino", "all"]["seeds"] == told["dino", "all"]["against_seeds"] == 2
    assert told["bliss", "all"]["error"] > 0
    assert set(summary.tables) == {f"{title}, differences" for title in SUBSETS.values()}


def test_artists_set_aside_are_searched_among_themselves_as_if_there_were_no_others(
    tagged_home: Home,
) -> None:
    judge(tagged_home)
    found = {row["subset"]: row for row in rows(tagged_home) if row["arm"] == "mel mean"}
    among, asked = found["held out, among themselves"], found["held out"]
    assert among["n_tracks"] == asked["n_tracks"]
    assert float(among["artist_map"]) > float(asked["artist_map"])  # type: ignore[arg-type]
    assert among["effective_rank"] == asked["effective_rank"]
