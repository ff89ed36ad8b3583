"""The checks on files as the stages leave them, and on the same files spoiled."""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import dagster as dg
import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic

from assets import database, embeddings, ingestion, spectrograms, training
from assets.stage import HomeFolder
from fastdino.core import outcomes, tables, text
from fastdino.core.home import Home
from fastdino.core.outcomes import Outcome
from fastdino.core.summary import Summary
from fastdino.database import publish
from fastdino.ingestion import catalog as files_catalog
from fastdino.spectrograms import stage
from fastdino.spectrograms.settings import SpectrogramSettings
from fastdino.spectrograms.shards import ShardWriter, TrackInfo, name_of
from fastdino.steps import Embed, Publish, Spectrograms, Step
from fastdino.training import registry

SONGS = 12
GROUPS = 12
SHARDS = SpectrogramSettings().spec_id


def decode(home: Home, songs: Iterable[int]) -> None:
    """Append silent spectrograms to the shards."""
    home.shards(SHARDS).mkdir(parents=True, exist_ok=True)
    with ShardWriter(home.shards(SHARDS) / name_of(1)) as writer:
        for i in songs:
            info = TrackInfo(synthetic.track_id(i), -90.0, 0.375, 0.2, 0.2, False)
            writer.append(info, np.zeros((20, 80), np.uint8))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """All that the stages leave of twelve songs, published. Made once: only read it."""
    home = Home(tmp_path_factory.mktemp("sound"))
    synthetic.write_home(home, SONGS)
    decode(home, range(SONGS))
    publish(home)
    return home


@pytest.fixture
def made(sound: Home, home: Home) -> Home:
    """A copy of it to spoil."""
    shutil.copytree(sound.root, home.root)
    return home


def look(check: Callable[..., object], home: Home) -> dg.AssetCheckResult:
    result = check(home=HomeFolder(path=str(home.root)))
    assert isinstance(result, dg.AssetCheckResult)
    return result


def edit_model(home: Home, **changes: object) -> None:
    path = home.model(synthetic.MODEL_ID) / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


ALL_CHECKS = [
    ingestion.catalog_has_songs,
    spectrograms.every_track_is_accounted_for,
    spectrograms.few_files_failed,
    training.model_has_not_collapsed,
    training.model_beats_mel_statistics,
    training.model_fits_the_collection,
    training.new_songs_are_of_a_known_kind,
    embeddings.vectors_are_sound,
    embeddings.every_track_has_a_vector,
    database.database_matches_the_files,
]


@pytest.mark.parametrize("check", ALL_CHECKS, ids=lambda check: check.check_key.name)
def test_a_check_passes_on_what_the_stages_leave(
    check: dg.AssetChecksDefinition, sound: Home
) -> None:
    result = look(check, sound)
    assert result.passed, result.description


@pytest.mark.parametrize("check", ALL_CHECKS, ids=lambda check: check.check_key.name)
def test_a_check_fails_and_says_what_to_do_when_there_is_nothing(
    check: dg.AssetChecksDefinition, home: Home
) -> None:
    result = look(check, home)
    assert not result.passed
    assert re.search(r"run .(\S*fastdino|make) \w+|materialise \w+", str(result.description))


@pytest.mark.parametrize("check", ALL_CHECKS, ids=lambda check: check.check_key.name)
def test_a_check_fails_and_says_why_where_its_disk_refuses(
    check: dg.AssetChecksDefinition, tmp_path: Path
) -> None:
    result = look(check, Home(tmp_path / ("long" * 100)))
    assert not result.passed
    assert "File name too long; choose a shorter name" in str(result.description)


@pytest.mark.parametrize("check", ALL_CHECKS, ids=lambda check: check.check_key.name)
def test_a_check_says_what_to_do_in_a_line_and_as_one_can_type_it_here(
    check: dg.AssetChecksDefinition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "program", lambda: "bin/fastdino")
    said = str(look(check, Home(tmp_path / "two\nlines")).description)
    assert "\n" not in said
    assert re.search(r"run .(bin/fastdino|make) \w+|materialise \w+", said)


@pytest.mark.parametrize("check", ALL_CHECKS, ids=lambda check: check.check_key.name)
def test_checks_on_quality_warn_and_checks_on_the_files_block(
    check: dg.AssetChecksDefinition, home: Home
) -> None:
    (spec,) = check.check_specs
    warns = look(check, home).severity is dg.AssetCheckSeverity.WARN
    assert spec.blocking is not warns
    assert spec.description


def test_a_catalogue_without_a_usable_file_stops_the_run(home: Home) -> None:
    synthetic.write_catalog(home, [{**synthetic.song(0), "track_id": None, "error": "empty"}])
    assert not look(ingestion.catalog_has_songs, home).passed


def test_a_track_that_is_in_no_shard_needs_a_reason(made: Home) -> None:
    synthetic.write_catalog(made, [synthetic.song(i) for i in range(SONGS + 1)])
    assert not look(spectrograms.every_track_is_accounted_for, made).passed
    row = {**dict.fromkeys(stage.FAILURES), "track_id": synthetic.track_id(SONGS)}
    tables.write(made.shards(SHARDS) / stage.FAILED, pl.DataFrame([row], stage.FAILURES))
    assert look(spectrograms.every_track_is_accounted_for, made).passed


@pytest.mark.parametrize(
    "check", [spectrograms.every_track_is_accounted_for, spectrograms.few_files_failed]
)
def test_a_damaged_list_of_failures_stops_no_check(
    check: dg.AssetChecksDefinition, made: Home
) -> None:
    (made.shards(SHARDS) / stage.FAILED).write_bytes(b"torn")
    assert look(check, made).passed


def test_many_failed_files_are_worth_a_warning(made: Home) -> None:
    files = files_catalog.read(made).with_columns(
        error=pl.when(pl.int_range(pl.len()) < 3).then(pl.lit("damaged")).otherwise("error")
    )
    files.write_parquet(made.catalog)
    result = look(spectrograms.few_files_failed, made)
    assert not result.passed
    assert str(result.description).startswith("3 of 12 files (25.0%)")


@pytest.mark.parametrize(("rank", "passed"), [(4.0, False), (25.0, True)])
def test_a_collapsed_model_is_noticed(rank: float, passed: bool, made: Home) -> None:
    edit_model(made, trained_tracks=1000, metrics={"effective_rank": rank})
    assert look(training.model_has_not_collapsed, made).passed is passed


@pytest.mark.parametrize(
    ("ours", "mel", "passed"), [((0.2, 0.5), (0.3, 0.4), False), ((0.3, 0.4), (0.2, 0.5), True)]
)
def test_a_model_worse_than_mel_statistics_is_noticed_by_mean_average_precision(
    ours: tuple[float, float], mel: tuple[float, float], passed: bool, made: Home
) -> None:
    measures = ("artist_map", "artist_1nn")
    edit_model(
        made,
        quality={
            "model": dict(zip(measures, ours, strict=True)),
            "mel mean+std": dict(zip(measures, mel, strict=True)),
        },
    )
    result = look(training.model_beats_mel_statistics, made)
    assert result.passed is passed
    assert f"artist 1-NN {ours[1]:.3f}, mel statistics {mel[1]:.3f}" in str(result.description)
    assert result.metadata["artist_map_mel"].value == mel[0]


def test_songs_without_artists_make_no_model_a_bad_one(made: Home) -> None:
    unknown = {"artist_map": None, "artist_1nn": None}
    edit_model(made, quality={"model": unknown, "mel mean+std": unknown})
    result = look(training.model_beats_mel_statistics, made)
    assert result.passed
    assert "artist tag" in str(result.description)


@pytest.mark.parametrize(("ours", "passed"), [(0.2, False), (0.4, True)])
def test_an_older_model_is_judged_by_what_is_known_of_it(
    ours: float, passed: bool, made: Home
) -> None:
    edit_model(made, metrics={"artist_1nn": ours, "artist_1nn_mel": 0.3})
    assert look(training.model_beats_mel_statistics, made).passed is passed


@pytest.mark.parametrize(("trained", "passed"), [(10, True), (9, False)])
def test_a_collection_grown_by_more_than_a_fifth_is_noticed(
    trained: int, passed: bool, made: Home
) -> None:
    edit_model(made, trained_tracks=trained)
    result = look(training.model_fits_the_collection, made)
    assert result.passed is passed
    assert ("run the job train" in str(result.description)) is not passed
    assert result.metadata["growth"].value == pytest.approx(SONGS / trained - 1)


def test_songs_that_could_not_be_decoded_make_no_model_too_small(made: Home) -> None:
    synthetic.write_catalog(made, [synthetic.song(i) for i in range(2 * SONGS)])
    assert look(training.model_fits_the_collection, made).passed


def test_songs_that_left_do_not_make_room_for_new_ones(made: Home) -> None:
    # Of twelve songs trained on three are gone, and three others came: as many as then.
    trained = {synthetic.track_id(i) for i in (*range(SONGS - 3), 100, 101, 102)}
    registry.write_trained_on(made.model(synthetic.MODEL_ID), trained)
    edit_model(made, trained_tracks=SONGS)
    result = look(training.model_fits_the_collection, made)
    assert not result.passed
    assert result.metadata["new_songs"].value == 3


def test_songs_that_left_alone_need_no_new_model(made: Home) -> None:
    trained = {synthetic.track_id(i) for i in range(3 * SONGS)}
    registry.write_trained_on(made.model(synthetic.MODEL_ID), trained)
    result = look(training.model_fits_the_collection, made)
    assert result.passed
    assert result.metadata["growth"].value == 0


def test_of_a_collection_that_a_candidate_fits_the_job_to_run_is_promote(made: Home) -> None:
    edit_model(made, trained_tracks=6)
    newer = "2026-01-01T00:00:00+00:00"
    synthetic.write_model(made, "model-b", current=False, created_at=newer)
    result = look(training.model_fits_the_collection, made)
    assert not result.passed
    assert str(result.description).endswith("candidate model-b is waiting; run the job promote")


def test_what_was_learned_last_is_judged_before_it_is_promoted(made: Home) -> None:
    newer = "2026-01-01T00:00:00+00:00"
    synthetic.write_model(made, "model-b", current=False, created_at=newer)
    assert look(training.model_has_not_collapsed, made).passed
    path = made.model("model-b") / "model.json"
    collapsed = {**json.loads(path.read_text()), "metrics": {"effective_rank": 0.5}}
    path.write_text(json.dumps(collapsed))
    assert not look(training.model_has_not_collapsed, made).passed


def test_of_a_model_that_does_not_say_what_it_heard_nothing_is_said_of_new_songs(
    made: Home,
) -> None:
    result = look(training.new_songs_are_of_a_known_kind, made)
    assert result.passed
    assert "not known" in str(result.description)


def grown(home: Home, known: Sequence[int], new: Sequence[int]) -> dg.AssetCheckResult:
    """The check on new songs, where a model was trained on some and others came later."""
    songs = [*known, *new]
    synthetic.write_catalog(home, [synthetic.song(i, GROUPS) for i in songs])
    synthetic.write_model(home)
    trained = {synthetic.track_id(i) for i in known}
    registry.write_trained_on(home.model(synthetic.MODEL_ID), trained)
    synthetic.write_vectors(home, songs, groups=GROUPS)
    return look(training.new_songs_are_of_a_known_kind, home)


KNOWN = [i for i in range(408) if i % GROUPS < 6]


def test_new_songs_of_the_known_kinds_need_no_new_model(home: Home) -> None:
    result = grown(home, KNOWN, [i for i in range(408, 480) if i % GROUPS < 6])
    assert result.passed
    assert result.metadata["new_songs"].value == 36
    assert "from 10 on a new model is due" in str(result.description)


def test_new_songs_of_another_kind_are_noticed(home: Home) -> None:
    # Every other song of one more genre, by five artists.
    new = [i for i in range(720) if i % (2 * GROUPS) == 7]
    result = grown(home, KNOWN, new)
    assert not result.passed
    assert result.metadata["mostly_new_neighbors"].value == len(new) == 30
    assert "run the job train with afresh: true" in str(result.description)


def test_a_few_new_songs_of_another_kind_are_no_reason_for_a_new_model(home: Home) -> None:
    new = [i for i in range(720) if i % (8 * GROUPS) == 7]
    assert grown(home, KNOWN, new).passed


def test_without_new_songs_there_is_nothing_to_say_about_them(home: Home) -> None:
    result = grown(home, KNOWN, [])
    assert result.passed
    assert result.metadata["new_songs"].value == 0


@pytest.mark.parametrize("spoiled", [np.nan, np.inf, 2.0])
def test_one_spoiled_number_among_the_vectors_is_found(spoiled: float, made: Home) -> None:
    (file,) = made.vectors(synthetic.MODEL_ID).glob("*.parquet")
    table = pq.read_table(file)
    numbers = table["vec"].combine_chunks().flatten().to_numpy().copy()
    numbers[synthetic.DIM + 5] = spoiled
    vectors = pa.FixedSizeListArray.from_arrays(numbers, synthetic.DIM)
    pq.write_table(table.set_column(3, "vec", vectors), file)
    result = look(embeddings.vectors_are_sound, made)
    assert not result.passed
    assert f"{file}: they are not finite or not of unit length" in str(result.description)


def test_vectors_of_another_dimension_are_found(made: Home) -> None:
    edit_model(made, dim=synthetic.DIM + 1)
    assert not look(embeddings.vectors_are_sound, made).passed


def test_damaged_bytes_among_the_vectors_are_found_and_it_is_said_what_to_do(made: Home) -> None:
    (file,) = made.vectors(synthetic.MODEL_ID).glob("*.parquet")
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    file.write_bytes(content)
    result = look(embeddings.vectors_are_sound, made)
    assert not result.passed
    assert re.search(f"{file}: .*fastdino verify --repair", str(result.description))
    file.write_bytes(b"torn")
    for check in (embeddings.vectors_are_sound, embeddings.every_track_has_a_vector):
        result = look(check, made)
        assert not result.passed
        assert re.search(f"{file}.*fastdino verify --repair", str(result.description))


def test_a_lost_vector_is_found(made: Home) -> None:
    (file,) = made.vectors(synthetic.MODEL_ID).glob("*.parquet")
    file.unlink()
    synthetic.write_vectors(made, range(1, SONGS))
    result = look(embeddings.every_track_has_a_vector, made)
    assert not result.passed
    assert result.metadata["lost"].value == 1


def test_a_database_older_than_the_catalogue_is_found(made: Home) -> None:
    synthetic.write_catalog(made, [synthetic.song(i) for i in range(SONGS - 1)])
    result = look(database.database_matches_the_files, made)
    assert not result.passed
    assert "tracks: 12 of 11 rows" in str(result.description)


def ended(home: Home, *kinds: type[Step], began_s: float) -> None:
    """Keep of steps that they ended well, having begun then."""
    for kind in kinds:
        done = Outcome(Summary(kind.name, kind.name, True), began_s, time.time())
        outcomes.keep(home, kind.name, done)


def come(home: Home, *, decoded: bool) -> None:
    """Another run adds a song."""
    synthetic.write_catalog(home, [synthetic.song(i) for i in range(SONGS + 1)])
    if decoded:
        decode(home, [SONGS])


@pytest.mark.parametrize(
    ("check", "decoded"),
    [
        (spectrograms.every_track_is_accounted_for, False),
        (embeddings.every_track_has_a_vector, True),
        (database.database_matches_the_files, False),
        (database.database_matches_the_files, True),
    ],
)
def test_a_song_that_comes_while_a_step_runs_is_left_to_the_next_run(
    check: dg.AssetChecksDefinition, decoded: bool, made: Home
) -> None:
    steps = (Spectrograms, Embed, Publish)
    ended(made, *steps, began_s=time.time() - 60)
    come(made, decoded=decoded)
    result = look(check, made)
    assert result.passed, result.description
    assert str(result.description).endswith(
        "; 1 that came or went meanwhile are left to the next run"
    )
    # Which has begun since: then it is lost.
    ended(made, *steps, began_s=time.time() + 60)
    assert not look(check, made).passed


def test_a_vector_lost_from_an_older_shard_is_found_whatever_comes_meanwhile(made: Home) -> None:
    (shard,) = made.shards(SHARDS).glob("spectrograms-*.parquet")
    time.sleep(0.02)  # more than the clock of files goes by
    ended(made, Embed, Publish, began_s=time.time())
    time.sleep(0.02)
    synthetic.write_catalog(made, [synthetic.song(i) for i in range(SONGS + 1)])
    with ShardWriter(shard.with_name(name_of(2))) as writer:
        info = TrackInfo(synthetic.track_id(SONGS), -90.0, 0.375, 0.2, 0.2, False)
        writer.append(info, np.zeros((20, 80), np.uint8))
    assert look(embeddings.every_track_has_a_vector, made).passed
    (file,) = made.vectors(synthetic.MODEL_ID).glob("*.parquet")
    file.unlink()
    synthetic.write_vectors(made, range(1, SONGS))
    result = look(embeddings.every_track_has_a_vector, made)
    assert not result.passed
    assert result.metadata["examples"].value == [synthetic.track_id(0)]


def test_songs_that_leave_or_are_embedded_while_the_database_is_published_stop_no_run(
    made: Home,
) -> None:
    ended(made, Publish, began_s=time.time() - 60)
    synthetic.write_catalog(made, [synthetic.song(i) for i in range(1, SONGS)])
    assert look(database.database_matches_the_files, made).passed
    synthetic.write_catalog(made, [synthetic.song(i) for i in range(SONGS)])
    with duckdb.connect(str(made.database)) as db:
        db.execute(f"DELETE FROM embeddings WHERE track_id = '{synthetic.track_id(0)}'")
    assert look(database.database_matches_the_files, made).passed
    ended(made, Publish, began_s=time.time() + 60)
    assert not look(database.database_matches_the_files, made).passed


def test_a_damaged_database_is_told_with_what_to_do(made: Home) -> None:
    made.database.write_bytes(b"torn" * 5_000)
    result = look(database.database_matches_the_files, made)
    assert not result.passed
    assert re.search(f"{made.database} .*materialise music_duckdb", str(result.description))
