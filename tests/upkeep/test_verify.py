"""Damage is named and mended: real files of the stages, with bits flipped, cut short, or gone."""

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from music_server import write_ids

from fastdino import spectrograms
from fastdino.__main__ import main
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.database.publishing import COUNTED
from fastdino.embeddings.vectors import read_vectors, write_vectors
from fastdino.ingestion import catalog
from fastdino.spectrograms import SpectrogramSettings, shards, stage
from fastdino.training import registry
from fastdino.training.loop import Run
from fastdino.training.settings import PRESETS, Collection
from fastdino.upkeep import verify
from fastdino.upkeep.verify import Finding, Mender
from fastdino.upkeep.verify import spectrograms as checking
from tests.stages import contents, run, steps

SPEC = SpectrogramSettings()
Damage = Callable[[Path], None]


@pytest.fixture(scope="module")
def finished(library: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Path]:
    """A finished run on the small library and a silent file, its shard in several row groups."""
    folder = tmp_path_factory.mktemp("verify")
    music = Path(shutil.copytree(library, folder / "music"))
    soundfile.write(music / "silence.wav", np.zeros(40_000), 16_000)
    for number in range(50):
        (music / f"tune {number}.mid").touch()
    home = Home(folder / "home")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shards, "ROW_GROUP_BYTES", 100_000)
        run(home, music)
    return home, music


def found(home: Home, *, repair: bool = False) -> list[Finding]:
    return list(verify.check(home, repair=repair))


def tables(home: Home) -> dict[str, list[tuple]]:
    """All rows that are published, but for when files failed and which map of its songs it is."""
    columns = "COLUMNS(lambda c: c NOT IN ('failed_at', 'map_id'))"
    with duckdb.connect(home.database, read_only=True) as db:
        rows = {
            name: db.execute(f"SELECT {columns} FROM {name} ORDER BY ALL").fetchall()
            for name in COUNTED
            if name != "maps"
        }
        rows["maps"] = db.execute(
            "SELECT model_id, is_current, n_tracks, quality FROM maps"
        ).fetchall()
        return rows


def flip(path: Path, at: int | None = None) -> None:
    """Flip a bit; of a Parquet file, one among its values."""
    content = bytearray(path.read_bytes())
    if at is None and path.suffix == ".parquet":
        column = pq.read_metadata(path).row_group(0).column(0)
        at = (column.dictionary_page_offset or column.data_page_offset) + 40
    content[len(content) // 3 if at is None else at] ^= 4
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def delete(path: Path) -> None:
    path.unlink()


def shard_of(home: Home) -> Path:
    (shard,) = shards.list_shards(home.shards(SPEC.spec_id))
    return shard


def vectors_of(home: Home) -> Path:
    return home.vectors(registry.current(home)["model_id"]) / shard_of(home).name


def map_of(home: Home) -> Path:
    folder = home.maps(registry.current(home)["model_id"])
    return folder / json.loads((folder / "current.json").read_text())["map_id"]


FILES: dict[str, Callable[[Home], Path]] = {
    "catalogue": lambda home: home.catalog,
    "skipped": lambda home: home.skipped,
    "shard": shard_of,
    "spec.json": lambda home: home.shards(SPEC.spec_id) / "spec.json",
    "failures": lambda home: home.shards(SPEC.spec_id) / "failures.parquet",
    "current model": lambda home: home.models / "current.json",
    "model.json": lambda home: home.model(registry.current(home)["model_id"]) / "model.json",
    "vectors": vectors_of,
    "current map": lambda home: map_of(home).parent / "current.json",
    "map.json": lambda home: map_of(home) / "map.json",
    "points": lambda home: map_of(home) / "points.parquet",
    "members": lambda home: map_of(home) / "members.parquet",
    "neighbors": lambda home: map_of(home) / "neighbors.parquet",
    "clusters": lambda home: map_of(home) / "clusters.parquet",
    "database": lambda home: home.database,
}


def test_a_sound_home_gives_no_findings_and_nothing_changes(collection: tuple[Home, Path]) -> None:
    home, _ = collection
    before = contents(home.root)
    assert found(home) == []
    assert found(home, repair=True) == []
    assert main(["verify", "--home", str(home.root)]) == 0
    assert contents(home.root) == before


# Every second file in one way, the others before all stages; all in all ways when there is time.
DAMAGES = [
    pytest.param(
        what,
        damage,
        marks=() if number % 2 == 0 and number % 3 == way else pytest.mark.thorough,
    )
    for number, what in enumerate(FILES)
    for way, damage in enumerate((flip, cut, delete))
    # That nothing failed or was left out is no damage: the next run finds what does or is.
    if damage is not delete or what not in ("failures", "skipped")
]


@pytest.mark.parametrize(("what", "damage"), DAMAGES)
def test_damage_is_named_and_after_repair_and_a_run_all_tables_are_as_before(
    collection: tuple[Home, Path], what: str, damage: Damage
) -> None:
    home, music = collection
    before = tables(home)
    path = FILES[what](home)
    if (what, damage) == ("catalogue", flip):
        path.write_bytes(b"nonsense" + path.read_bytes())
    elif path.suffix == ".json" and damage is flip:
        path.write_text(path.read_text().replace('"', "", 1))
    else:
        damage(path)

    told = [finding for finding in found(home) if finding.is_wrong]
    assert any(finding.path in (path, path.parent) for finding in told)
    assert not any(finding.mended for finding in told)
    assert main(["verify", "--repair", "--home", str(home.root)]) == 0
    summaries = run(home, music)

    assert not summaries["train"].did_work
    assert tables(home) == before
    assert found(home) == []


def test_a_plain_copy_of_a_home_is_sound_until_something_in_its_files_is_another(
    collection: tuple[Home, Path], tmp_path: Path
) -> None:
    home, _ = collection
    # As cp -r does: every file gets a time of its own.
    copy = Home(Path(shutil.copytree(home.root, tmp_path / "copy", copy_function=shutil.copyfile)))
    os.utime(copy.catalog, (0, 0))
    assert found(copy) == []
    assert main(["verify", "--home", str(copy.root)]) == 0

    catalog.write(copy, catalog.read(copy).with_columns(title=pl.lit("Another")))
    (finding,) = found(copy)
    assert (finding.path, finding.mender) == (copy.database, Mender.RUN)
    assert "other files than are there now" in str(finding)


def test_what_an_older_version_has_published_is_published_anew_and_not_damaged(
    collection: tuple[Home, Path],
) -> None:
    home, music = collection
    before = tables(home)
    with duckdb.connect(home.database) as db:
        db.execute("DROP TABLE skipped; UPDATE published SET fingerprint = 'of old'")
    home.skipped.unlink()  # nor did it write this
    (finding,) = found(home)
    assert (finding.path, finding.mender) == (home.database, Mender.RUN)
    assert run(home, music)["publish"].did_work
    assert tables(home) == before


@pytest.mark.parametrize(
    ("what", "damage"),
    [
        pytest.param(
            what,
            damage,
            marks=() if number % 2 and number // 2 % 2 == way else pytest.mark.thorough,
        )
        for number, what in enumerate(FILES)
        for way, damage in enumerate((flip, cut))
    ],
)
def test_no_stage_ends_with_anything_but_an_error_that_says_what_to_do(
    collection: tuple[Home, Path], what: str, damage: Damage
) -> None:
    home, music = collection
    damage(FILES[what](home))
    home.page.unlink()  # so that it is made from whatever there is
    told = []
    for step in steps(music):
        try:
            step.run(home)
        except UserError as error:
            told.append(str(error))
    assert all("fastdino" in message for message in told)


def test_lost_neighbours_are_found_again_by_the_next_run_and_no_song_moves(
    collection: tuple[Home, Path],
) -> None:
    home, music = collection
    before = tables(home)
    flip(map_of(home) / "neighbors.parquet")
    assert run(home, music)["map"].did_work
    assert tables(home) == before


def test_only_the_songs_of_a_damaged_row_group_are_decoded_again(
    collection: tuple[Home, Path],
) -> None:
    home, music = collection
    before, shard = tables(home), shard_of(home)
    group = pq.read_metadata(shard).row_group(1)
    column = group.column(shards.SCHEMA.names.index("spectrogram"))
    assert 0 < group.num_rows < 12
    flip(shard, column.data_page_offset + 1_000)

    told = found(home)
    assert [finding.path for finding in told] == [shard]
    assert f"{group.num_rows} of its 12 songs" in str(told[0])
    found(home, repair=True)
    summaries = run(home, music)

    assert summaries["spectrograms"].counts["new_tracks"] == group.num_rows
    assert not any(summaries[step].did_work for step in ("train", "embed", "map"))
    assert tables(home) == before


def test_vectors_that_are_no_directions_are_computed_again_and_no_others(
    collection: tuple[Home, Path],
) -> None:
    home, music = collection
    before, path = tables(home), vectors_of(home)
    table = read_vectors(path)
    values = table["vec"].combine_chunks().flatten().to_numpy().copy().reshape(len(table), -1)
    values[0], values[-1, 0] = 0, np.nan
    ids = {table["track_id"][0].as_py(), table["track_id"][-1].as_py()}
    spoilt = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
    write_vectors(path, table.set_column(3, table.schema.field("vec"), spoilt))

    assert path in [finding.path for finding in found(home, repair=True)]
    assert ids.isdisjoint(read_vectors(path)["track_id"].to_pylist())
    assert run(home, music)["embed"].counts["new_tracks"] == len(ids) == 2
    assert tables(home) == before


def test_a_song_in_two_shards_stays_in_the_older(collection: tuple[Home, Path]) -> None:
    home, _ = collection
    first = shard_of(home)
    second = first.with_name("spectrograms-000002.parquet")
    shutil.copy(first, second)
    shutil.copy(vectors_of_name(home, first.name), vectors_of_name(home, second.name))
    assert "an older shard holds as well" in str(found(home)[0])
    assert [finding.path.name for finding in found(home, repair=True)] == [second.name] * 2
    assert shards.list_shards(first.parent) == [first]
    assert not vectors_of_name(home, second.name).exists()
    assert found(home) == []


def vectors_of_name(home: Home, name: str) -> Path:
    return home.vectors(registry.current(home)["model_id"]) / name


def test_songs_that_left_are_kept_by_a_repair_and_dropped_by_a_compaction(
    collection: tuple[Home, Path], tmp_path: Path
) -> None:
    home, music = collection
    before = tables(home)
    song = next(path for path in sorted(music.rglob("*.flac")) if path.is_file())
    shutil.move(song, tmp_path / song.name)
    run(home, music)
    content = shard_of(home).read_bytes()

    assert [finding.mender for finding in found(home)] == [Mender.COMPACTION]
    assert main(["verify", "--home", str(home.root)]) == 0
    found(home, repair=True)
    assert shard_of(home).read_bytes() == content

    assert main(["compact", "--home", str(home.root)]) == 0
    assert found(home) == []
    summaries = run(home, music)
    assert not any(summaries[step].did_work for step in ("spectrograms", "embed", "publish"))
    assert shard_of(home).stat().st_size < len(content)

    shutil.move(tmp_path / song.name, song)
    summaries = run(home, music)
    assert summaries["spectrograms"].counts["new_tracks"] == 1
    assert tables(home)["embeddings"] == before["embeddings"]


def test_without_the_database_a_damaged_map_gives_way_to_the_one_before_and_no_song_moves(
    collection: tuple[Home, Path],
) -> None:
    home, music = collection
    before = tables(home)["map_points"]
    t = np.arange(5 * 22_050) / 22_050
    soundfile.write(music / "new.wav", 0.3 * np.sin(2 * np.pi * (200 + 90 * t) * t), 22_050)
    run(home, music)
    cut(map_of(home) / "points.parquet")
    home.database.unlink()
    assert "stands again" in str(found(home, repair=True)[0])
    run(home, music)
    after = tables(home)["map_points"]
    assert len(after) == len(before) + 1
    assert set(before) < set(after)


@pytest.mark.parametrize("damage", [flip, cut, delete])
def test_without_the_database_a_lost_catalogue_is_made_anew_and_what_was_computed_is_kept(
    collection: tuple[Home, Path], damage: Damage
) -> None:
    home, music = collection
    before = tables(home)["embeddings"]
    cut(home.catalog)
    spoilt = home.catalog.read_bytes()
    damage(home.database)
    assert main(["verify", "--repair", "--home", str(home.root)]) == 0
    assert home.catalog.with_name("files.parquet.damaged").read_bytes() == spoilt
    summaries = run(home, music)
    assert not any(summaries[step].did_work for step in ("spectrograms", "train", "embed", "map"))
    assert tables(home)["embeddings"] == before
    assert found(home) == []


def test_a_damaged_model_is_left_to_a_person_and_nothing_of_it_is_touched(
    collection: tuple[Home, Path],
) -> None:
    home, _ = collection
    weights = home.model(registry.current(home)["model_id"]) / "model.safetensors"
    flip(weights)  # one bit: it can still be loaded
    before = contents(home.root)
    for arguments in ([], ["--repair"]):
        assert main(["verify", *arguments, "--home", str(home.root)]) == 3
    (told,) = found(home)
    assert (told.path, told.mender) == (weights, Mender.PERSON)
    assert "train --afresh" in told.mend
    assert contents(home.root) == before


def test_vectors_that_no_model_can_compute_again_are_set_aside_and_not_deleted(
    collection: tuple[Home, Path],
) -> None:
    home, _ = collection
    path = vectors_of(home)
    cut(home.model(registry.current(home)["model_id"]) / "model.safetensors")
    cut(path)
    spoilt = path.read_bytes()
    found(home, repair=True)
    assert path.with_name(path.name + ".damaged").read_bytes() == spoilt


def test_a_model_that_is_not_in_use_keeps_its_vectors(collection: tuple[Home, Path]) -> None:
    home, _ = collection
    old = registry.current(home)["model_id"]
    shutil.copytree(home.model(old), home.model("other"))
    registry.write_metadata(home.model("other"), {**registry.current(home), "model_id": "other"})
    registry.make_current(home, "other")
    kept = contents(home.vectors(old))
    found(home, repair=True)
    assert contents(home.vectors(old)) == kept


@pytest.mark.parametrize("damage", [cut, lambda path: path.write_bytes(b"")])
def test_a_damaged_checkpoint_is_deleted(collection: tuple[Home, Path], damage: Damage) -> None:
    home, _ = collection
    from fastdino.training.device import best_device
    from fastdino.training.sampler import CropSampler

    folder = home.models / ".training"
    folder.mkdir()
    device = best_device()
    sampler = CropSampler([shard_of(home)], device=device, budget_bytes=10**9, seed=0)
    settings = dataclasses.replace(PRESETS["tiny"], min_steps=1)
    training = Run(
        settings,
        sampler,
        collection=Collection(0.01, 4),
        frames_per_s=100.0,
        device=device,
        folder=folder,
    )
    training.save()
    assert found(home) == []
    damage(training.checkpoint)
    assert [finding.path for finding in found(home, repair=True)] == [training.checkpoint]
    assert not training.checkpoint.exists()


def test_a_damaged_list_of_what_a_model_was_trained_on_is_deleted(
    collection: tuple[Home, Path],
) -> None:
    home, music = collection
    path = home.model(registry.current(home)["model_id"]) / registry.TRACKS
    flip(path)
    assert [finding.path for finding in found(home, repair=True)] == [path]
    assert not path.exists()
    assert not run(home, music)["train"].did_work
    assert found(home) == []


def test_an_empty_home_has_nothing_to_verify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--home", str(tmp_path / "nothing")]) == 2
    assert "fastdino run" in capsys.readouterr().err


def test_every_finding_is_one_line_that_begins_with_the_file(
    collection: tuple[Home, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    home, _ = collection
    cut(shard_of(home))
    assert main(["verify", "--home", str(home.root)]) == 3
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith(f"{shard_of(home)}: ")
    assert "With --repair:" in first


def test_the_last_line_counts_what_was_mended_and_what_the_next_run_is_for(
    collection: tuple[Home, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    home, _ = collection
    cut(shard_of(home))

    def last(*options: str) -> str:
        main(["verify", "--home", str(home.root), *options])
        return re.sub(r" \(.*? s\)", "", capsys.readouterr().out.splitlines()[-1])

    assert last().startswith("1 wrong: ")
    assert last("--repair").startswith("1 mended, 1 for the next run: ")
    again = last()
    assert again.startswith("1 for the next run: ")
    assert "fastdino run" in again
    assert "--repair" not in again


def write_shard(folder: Path) -> tuple[Path, dict[str, bytes]]:
    """A shard of tracks from a second to two minutes; and each track's frames."""
    rng = np.random.default_rng(0)
    lengths = {"a": 6_000, "b": 12_000, "c": 100, "d": 7_000, "e": 6_000, "f": 900}
    frames = {name: rng.integers(0, 256, (n, 80), np.uint8) for name, n in lengths.items()}
    with shards.ShardWriter(folder / shards.name_of(1)) as writer:
        for name, each in frames.items():
            info = shards.TrackInfo(name, SPEC.min_db, SPEC.step_db, None, len(each) / 100, False)
            writer.append(info, each)
    return shards.list_shards(folder)[0], {name: each.tobytes() for name, each in frames.items()}


def read_shard(shard: Path) -> dict[str, bytes]:
    frames: dict[str, bytes] = {}
    for piece in shards.iter_pieces(shard):
        frames[piece.track_id] = frames.get(piece.track_id, b"") + piece.frames.tobytes()
    return frames


def test_wherever_bits_flip_what_is_kept_of_a_shard_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "ROW_GROUP_BYTES", 700_000)
    shard, written = write_shard(tmp_path)
    content, rng = shard.read_bytes(), np.random.default_rng(1)
    kept = []
    # All over it, and where what describes the rest is.
    places = [
        *rng.integers(0, len(content), 20),
        *rng.integers(len(content) - 9_000, len(content), 80),
    ]
    for place in places:
        shard.write_bytes(content)
        flip(shard, int(place))
        sound = checking.inspect(shard, SPEC).sound
        shards.rewrite(shard, sound)
        left = read_shard(shard) if sound else {}
        assert left == {name: written[name] for name in sound}, place
        kept.append(len(sound))
    assert 0 in kept
    assert max(kept) == len(written)
    assert any(0 < n < len(written) for n in kept)


def test_a_damaged_shard_ends_a_stage_with_its_name_and_the_way_out(tmp_path: Path) -> None:
    shard, _ = write_shard(tmp_path)
    content = shard.read_bytes()
    cut(shard)
    with pytest.raises(UserError, match=f"{shard}.*verify --repair"):
        shards.read_index(tmp_path)
    with pytest.raises(UserError, match=f"{shard}.*verify --repair"):
        list(shards.iter_pieces(shard))
    # Copying the last shard to add to it must not seal the damage, nor lose what follows it.
    shard.write_bytes(content)
    flip(shard, 100_000)
    spoilt = shard.read_bytes()
    info = shards.TrackInfo("new", SPEC.min_db, SPEC.step_db, None, 1.0, False)
    with (
        pytest.raises(UserError, match=f"{shard}.*verify --repair"),
        shards.ShardWriter(shard) as writer,
    ):
        writer.append(info, np.ones((100, 80), np.uint8))
    assert shard.read_bytes() == spoilt
    assert [path.name for path in tmp_path.iterdir()] == [shard.name]


def test_a_models_description_is_given_back_whole(collection: tuple[Home, Path]) -> None:
    home, _ = collection
    before = registry.current(home)
    cut(home.model(before["model_id"]) / "model.json")
    (finding,) = found(home, repair=True)
    assert "not known" not in finding.mend
    assert registry.current(home) == before
    assert found(home) == []


def test_what_an_older_version_has_published_does_not_tell_of_a_model_is_said(
    collection: tuple[Home, Path],
) -> None:
    home, _ = collection
    before = registry.current(home)
    with duckdb.connect(home.database) as db:
        db.execute("ALTER TABLE models DROP COLUMN described")
    cut(home.model(before["model_id"]) / "model.json")
    (finding,) = (each for each in found(home, repair=True) if each.mender is Mender.REPAIR)
    assert "by which method it was trained and how good it was is not known" in finding.mend
    after = registry.current(home)
    assert set(before) - set(after) == {"method", "started_from", "quality", "weights_digest"}
    assert {name: said for name, said in before.items() if name in after}.items() <= after.items()


def test_a_damaged_list_of_failures_is_tried_again(collection: tuple[Home, Path]) -> None:
    home, _ = collection
    cut(home.shards(SPEC.spec_id) / "failures.parquet")
    assert spectrograms.run(home).counts["failures"] == 1


def test_a_damaged_list_of_failures_is_written_anew_though_nothing_fails(
    collection: tuple[Home, Path],
) -> None:
    home, _ = collection
    folder = home.shards(SPEC.spec_id)
    (failed,) = stage.read_failures(folder)["path"]
    catalog.write(home, catalog.read(home).filter(pl.col("path") != failed))
    cut(folder / "failures.parquet")
    spectrograms.run(home)
    assert stage.sound_failures(folder).is_empty()
    assert not spectrograms.run(home).did_work


def test_a_list_of_failures_of_old_is_not_damaged(collection: tuple[Home, Path]) -> None:
    home, _ = collection
    path = home.shards(SPEC.spec_id) / "failures.parquet"
    pl.read_parquet(path).drop(stage.ADDED).write_parquet(path)
    assert path not in {finding.path for finding in found(home)}


@pytest.mark.parametrize("kept", ["aliases", "departed"])
def test_what_is_kept_of_songs_that_left_is_named_and_taken_out_if_it_is_damaged(
    collection: tuple[Home, Path], kept: str
) -> None:
    home, music = collection
    damaged: Path = getattr(home, kept)
    damaged.write_bytes(b"spoilt")
    assert [finding.path for finding in found(home)] == [damaged]
    assert not run(home, music)["ingest"].tables["changes"]
    assert main(["verify", "--repair", "--home", str(home.root)]) == 0
    assert found(home) == []
    assert not run(home, music)["ingest"].tables["changes"]


def test_damaged_ids_of_a_music_server_are_named_and_taken_out(
    collection: tuple[Home, Path],
) -> None:
    home, _ = collection
    write_ids(home, [{"id": "1"}])
    assert found(home) == []
    cut(home.server_ids)
    assert [finding.path for finding in found(home)] == [home.server_ids]
    assert main(["verify", "--repair", "--home", str(home.root)]) == 0
    assert not home.server_ids.exists()
