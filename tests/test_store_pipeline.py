"""The stages and the upkeep on homes whose shards, vectors and models are in a store."""

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
from published import rows

pytest.importorskip("obstore")
pytest.importorskip("moto.server")

import object_store
import obstore
import synthetic
from object_store import BUCKET, Breaking, Server

from assets import child
from assets.stage import HomeFolder
from fastdino import __version__
from fastdino.core import storage
from fastdino.core.home import Home
from fastdino.core.storage import fetched, folders
from fastdino.embeddings.vectors import read_songs
from fastdino.spectrograms import SpectrogramSettings, shards
from fastdino.spectrograms.shards import ShardWriter, TrackInfo
from fastdino.training import promotion, registry
from fastdino.upkeep import compaction, verify
from tests.stages import contents, run

SPEC = SpectrogramSettings()
FRAMES = 300


@pytest.fixture
def store(s3: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of its own, mounted by whoever mounts a home in this test."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    url = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    monkeypatch.setenv("FASTDINO_STORE", url)
    monkeypatch.setattr(storage, "_mounted", {})
    return url


def mounted(folder: Path) -> Home:
    folder.mkdir(exist_ok=True)
    storage.mount(folder)
    storage.take_in(folder)
    return Home(folder)


@pytest.fixture
def two(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Home, Home]:
    """A home of before there was a store, with 24 songs in six shards and vectors of two models.

    And another with the same catalogue, and nothing else.
    """
    monkeypatch.setattr(shards, "SHARD_BYTES", 4 * FRAMES * SPEC.n_mels)
    monkeypatch.setattr(shards, "ROW_GROUP_BYTES", 2 * FRAMES * SPEC.n_mels)
    home = Home(tmp_path / "a")
    folder = home.shards(SPEC.spec_id)
    folder.mkdir(parents=True)
    for i in range(24):
        frames = np.random.default_rng(i).integers(0, 256, (FRAMES, SPEC.n_mels), np.uint8)
        info = TrackInfo(synthetic.track_id(i), SPEC.min_db, SPEC.step_db, None, 3.0, False)
        with ShardWriter(synthetic.shard_to_fill(folder)) as writer:
            writer.append(info, frames)
    synthetic.write_home(home, 0)
    synthetic.write_model(home, "model-b", current=False)
    for model_id in (synthetic.MODEL_ID, "model-b"):
        (home.model(model_id) / registry.WEIGHTS).write_bytes(b"weights")
        for number, shard in enumerate(shards.list_shards(folder), start=1):
            held = sorted(int(track, 16) for track in shards.track_ids(shard))
            synthetic.write_vectors(home, held, model_id, shard=number)
    keep_only(home, range(24))
    other = Home(tmp_path / "b")
    keep_only(other, range(24))
    return mounted(home.root), mounted(other.root)


def keep_only(home: Home, songs: range) -> None:
    synthetic.write_catalog(home, [synthetic.song(i) for i in songs])


def spectrograms(home: Home) -> dict[str, bytes]:
    folder = home.shards(SPEC.spec_id)
    pieces = (piece for shard in shards.list_shards(folder) for piece in shards.iter_pieces(shard))
    return {piece.track_id: piece.frames.tobytes() for piece in pieces}


def vectors(home: Home, model_id: str = synthetic.MODEL_ID) -> list[str]:
    return read_songs(home, model_id, set(map(synthetic.track_id, range(24))))[0]


def test_what_a_home_of_before_had_is_there_for_another(two: tuple[Home, Home]) -> None:
    a, b = two
    assert registry.current_id(b) == synthetic.MODEL_ID
    assert registry.model_ids(b) == ["model-a", "model-b"]
    assert spectrograms(b) == spectrograms(a)
    assert len(spectrograms(b)) == len(vectors(b)) == 24
    assert registry.size_mb(b, "model-b") == registry.size_mb(a, "model-b") > 0


def test_the_index_spares_another_home_to_fetch_what_it_does_not_read(
    two: tuple[Home, Home],
) -> None:
    a, b = two
    folder = a.shards(SPEC.spec_id)
    shards.keep_index(folder, shards.read_index(folder))
    there = b.shards(SPEC.spec_id)
    assert shards.read_index(there).equals(shards.read_index(folder))
    assert not list(there.glob("spectrograms-*"))


def test_a_model_is_promoted_for_all_and_forgotten_by_all(two: tuple[Home, Home]) -> None:
    a, b = two
    assert promotion.promote(b, "model-b").did_work
    assert registry.current_id(a) == "model-b"
    assert promotion.promote(a, "previous").did_work
    assert registry.current_id(b) == synthetic.MODEL_ID
    assert vectors(b, "model-b")
    assert promotion.forget(a, "model-b").did_work
    assert registry.model_ids(b) == ["model-a"]
    assert folders(b.root / "vectors") == [b.vectors("model-a")]
    assert not promotion.forget(b, "model-b").did_work
    # The copies that another home has left do not bring it back.
    storage.take_in(b.root)
    assert registry.model_ids(b) == ["model-a"]


def test_a_child_of_dagster_s_and_its_checks_look_into_the_store(two: tuple[Home, Home]) -> None:
    _, b = two
    storage._mounted.clear()
    extras = {"version": __version__, "home": str(b.root), "steps": [("models", {})]}
    [models] = child.run(extras)
    assert {row["model"] for row in models.summary.tables["models"]} == {"model-a", "model-b"}
    storage._mounted.clear()
    home = HomeFolder(path=str(b.root)).open()
    assert registry.model_ids(home) == ["model-a", "model-b"]


def test_compaction_on_one_home_is_seen_by_another(two: tuple[Home, Home]) -> None:
    a, b = two
    before = spectrograms(b)
    for home in two:
        keep_only(home, range(0, 24, 3))
    assert compaction.run(a).counts["shards"] == 2
    kept = {synthetic.track_id(i) for i in range(0, 24, 3)}
    for home in two:
        assert spectrograms(home) == {track: before[track] for track in kept}
        assert set(vectors(home)) == set(vectors(home, "model-b")) == kept
    assert not compaction.run(b).did_work


def test_what_is_damaged_in_the_store_is_mended_there_and_a_damaged_copy_is_no_damage(
    two: tuple[Home, Home],
) -> None:
    a, b = two
    shard = shards.list_shards(a.shards(SPEC.spec_id))[2]
    status, sound = shard.stat(), shard.read_bytes()
    spoilt = sound[: len(sound) // 3] + b"spoilt" + sound[len(sound) // 3 + 6 :]
    shard.write_bytes(spoilt)
    os.utime(shard, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not any(finding.path == shard for finding in verify.check(a))
    assert fetched(shard).read_bytes() == sound

    obstore.put(storage._mounted[a.root]._objects, str(shard.relative_to(a.root)), spoilt)
    assert any(finding.path == shard for finding in verify.check(a))
    there = b.root / shard.relative_to(a.root)
    assert any(finding.path == there for finding in verify.check(b, repair=True))
    assert not any(finding.path == shard for finding in verify.check(a, repair=True))
    lost = 24 - len(spectrograms(a))
    assert 0 < lost < 4
    assert spectrograms(a) == spectrograms(b)


def songs(home: Home) -> list[tuple]:
    return rows(home, "SELECT track_id, vec FROM current_embeddings ORDER BY ALL")


def own(home: Home) -> dict[str, tuple[int, str]]:
    """Contents of all files, but for when copies were last asked for."""
    found = contents(home.root)
    return {name: what for name, what in found.items() if not name.startswith(".store/")}


def objects(home: Home) -> dict[str, object]:
    there = obstore.list(storage._mounted[home.root]._objects).collect()
    return {each["path"]: each["e_tag"] for each in there if not each["path"].startswith(".locks")}


@pytest.mark.thorough
def test_a_second_run_does_nothing_and_another_home_takes_what_is_there(
    store: str, library: Path, tmp_path: Path
) -> None:
    a = mounted(tmp_path / "a")
    assert all(summary.did_work for summary in run(a, library).values())
    before = own(a), objects(a)
    assert not any(summary.did_work for summary in run(a, library).values())
    assert (own(a), objects(a)) == before

    b = mounted(tmp_path / "b")
    done = run(b, library)
    assert done["spectrograms"].counts["new_tracks"] == 0
    assert not done["train"].did_work
    assert not done["embed"].did_work
    assert songs(b) == songs(a)
    # What was in the shards was told by their index.
    assert not list(b.root.glob("shards/*/spectrograms-*"))
    assert list(verify.check(b)) == []
    assert not any(summary.did_work for summary in run(a, library).values())
    assert objects(a) == before[1]


def command(home: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "fastdino", *words, "--home", str(home)]


@pytest.mark.thorough
def test_of_two_drivers_at_once_on_two_homes_one_waits_and_both_end_well(
    store: str, s3: Server, library: Path, tmp_path: Path
) -> None:
    environment = object_store.clean_environment(s3, FASTDINO_STORE=store, FASTDINO_PRESET="tiny")
    both = [
        subprocess.Popen(
            command(tmp_path / name, "run", str(library)),
            env=environment, stderr=subprocess.PIPE, text=True,
        )
        for name in "ab"
    ]  # fmt: skip
    told = [each.communicate(timeout=600)[1] for each in both]
    assert [each.returncode for each in both] == [0, 0], told
    assert any("waiting until it ends" in each for each in told)
    a, b = (mounted(tmp_path / name) for name in "ab")
    assert len(registry.model_ids(a)) == 1
    assert songs(a) == songs(b)
    assert len(songs(a)) == 12
    assert list(verify.check(a)) == []


@pytest.mark.thorough
@pytest.mark.parametrize("after", [3_000, 100_000, 300_000, 500_000])
def test_a_run_that_is_killed_in_the_middle_of_what_it_sends_goes_on(
    after: int, store: str, s3: Server, library: Path, tmp_path: Path
) -> None:
    slow = Breaking(s3.port)
    slow.stall_after = after
    environment = object_store.clean_environment(s3, FASTDINO_STORE=store, FASTDINO_PRESET="tiny")
    through = {**environment, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{slow.port}"}
    words = command(tmp_path / "a", "run", str(library))
    running = subprocess.Popen(words, env=through, stdout=subprocess.DEVNULL)
    while not slow.stalled and running.poll() is None:
        time.sleep(0.01)
    assert slow.stalled
    running.send_signal(signal.SIGKILL)
    running.wait()
    slow.close()

    b = mounted(tmp_path / "b")
    for shard in shards.list_shards(b.shards(SPEC.spec_id)):
        assert shards.track_ids(shard)
    for model_id in registry.model_ids(b):
        assert registry.read_weights(b.model(model_id), registry.metadata(b, model_id))
    (tmp_path / "a" / storage.ADDRESS).unlink()  # it names the proxy, which is no more
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    a = mounted(tmp_path / "a")
    assert list(verify.check(a)) == []
    assert len(songs(a)) == 12
    assert len(registry.model_ids(a)) == 1
    assert not (a.root / "not-in-store").exists()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"FASTDINO_STORE": "s3://not-there"}, "there is no bucket not-there"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "cannot be used now"),
        ({"AWS_PROFILE": "nobody"}, "AWS_PROFILE"),
    ],
)
def test_a_command_ends_with_2_and_one_line_and_what_is_there_stays(
    settings: dict[str, str], told: str, two: tuple[Home, Home], s3: Server, tmp_path: Path
) -> None:
    a, _ = two
    environment = object_store.clean_environment(s3, FASTDINO_STORE=os.environ["FASTDINO_STORE"])
    before = objects(a)
    home = tmp_path / "c"
    shutil.copytree(a.root / "catalog", home / "catalog")
    done = subprocess.run(
        command(home, "embed"), env={**environment, **settings}, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert told in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert "not-to-be-told" not in done.stderr
    assert objects(a) == before
