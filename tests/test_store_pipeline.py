"""The whole pipeline on homes whose shards, vectors and models are in a store."""

import re
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

pytest.importorskip("obstore")
pytest.importorskip("moto.server")

import object_store
from object_store import BUCKET, Server

from fastdino.core import storage
from fastdino.core.home import Home
from fastdino.upkeep import verify
from tests.stages import contents, run


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with object_store.server() as running:
        yield running


@pytest.fixture
def store(server: Server, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store of its own, mounted by whoever mounts a home in this test."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    url = f"s3://{BUCKET}/{re.sub(r'[^a-z_]', '', request.node.name)}"
    monkeypatch.setenv("FASTDINO_STORE", url)
    monkeypatch.setattr(storage, "_mounted", {})
    return url


def home_at(folder: Path) -> Home:
    folder.mkdir(exist_ok=True)
    storage.mount(folder)
    storage.take_in(folder)
    return Home(folder)


def songs(home: Home) -> list[tuple]:
    with duckdb.connect(home.database, read_only=True) as db:
        return db.execute("SELECT track_id, vec FROM current_embeddings ORDER BY ALL").fetchall()


def test_a_second_run_does_nothing_and_another_home_takes_what_is_there(
    store: str, library: Path, tmp_path: Path
) -> None:
    a = home_at(tmp_path / "a")
    assert all(summary.did_work for summary in run(a, library).values())
    before = contents(a.root)
    assert not any(summary.did_work for summary in run(a, library).values())
    assert contents(a.root) == before

    b = home_at(tmp_path / "b")
    done = run(b, library)
    assert done["spectrograms"].counts["new_tracks"] == 0
    assert not done["train"].did_work
    assert not done["embed"].did_work
    assert songs(b) == songs(a)
    # What was in the shards was told by their index.
    assert not list(b.root.glob("shards/*/spectrograms-*"))
    assert list(verify.check(b)) == []
    assert not any(summary.did_work for summary in run(a, library).values())
