"""The collection as one file: every tool opens it, and what is in it is what the database holds."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
import synthetic
from published import rows
from safetensors.numpy import load_file

from fastdino import reports
from fastdino.__main__ import main, parser
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.database import export, publish

KINDS = tuple(export.FORMATS)


@pytest.fixture
def made(demo_home, tmp_path: Path) -> Callable[[str], Path]:
    """Writes the demo library's file of a kind."""

    def make(kind: str) -> Path:
        target = tmp_path / export.FORMATS[kind][0]
        assert export.main(demo_home[0], kind, target) == 0
        return target

    return make


def test_the_command_offers_the_formats_there_are() -> None:
    for kind in KINDS:
        assert parser().parse_args(["export", kind]).format == kind
    with pytest.raises(SystemExit):
        parser().parse_args(["export", "csv"])


def test_a_file_of_the_usual_name_is_written_where_one_is(
    demo_home, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    for kind in KINDS:
        assert main(["--home", str(demo_home[0].root), "export", kind]) == 0
    told = capsys.readouterr().out
    assert sorted(os.listdir()) == [
        "atlas.parquet", "songs.npz", "songs.parquet", "songs.safetensors"
    ]  # fmt: skip
    assert told.count("60 songs") == 1
    assert told.count("59 songs") == 3
    assert "embedding-atlas atlas.parquet --text text --x x --y y --neighbors neighbors" in told


def test_parquet_has_every_song_with_all_that_is_known_of_it(demo_home, made) -> None:
    songs = pl.read_parquet(made("parquet"))
    with duckdb.connect(str(demo_home[0].database), read_only=True) as db:
        expected = db.sql("FROM songs ORDER BY track_id").pl()
        vectors = dict(db.execute("SELECT track_id, vec FROM current_embeddings").fetchall())
        near = "SELECT neighbor_id FROM current_neighbors WHERE track_id = ? ORDER BY rank"
        for track_id, neighbors in songs.select("track_id", "neighbors").drop_nulls().rows():
            assert neighbors == [each for (each,) in db.execute(near, [track_id]).fetchall()]
    assert songs.select(expected.columns).drop("added_at").equals(expected.drop("added_at"))
    assert songs["added_at"].dt.epoch().equals(expected["added_at"].dt.epoch())
    assert songs.schema["vec"] == pl.Array(pl.Float32, 32)
    for track_id, vec in songs.select("track_id", "vec").rows():
        assert vec is None if track_id not in vectors else np.array_equal(vec, vectors[track_id])
    assert songs["vec"].null_count() == 1


def test_pandas_and_duckdb_read_the_parquet(made) -> None:
    path = made("parquet")
    frame = pd.read_parquet(path)
    assert np.stack(frame["vec"].dropna()).shape == (59, 32)
    assert str(frame["added_at"].dtype.tz).endswith("UTC")
    found = duckdb.execute("SELECT count(*), count(vec) FROM read_parquet(?)", [str(path)])
    assert found.fetchone() == (60, 59)


def test_npz_opens_without_pickles_and_neighbours_are_rows(demo_home, made) -> None:
    arrays = np.load(made("npz"), allow_pickle=False)
    assert {len(arrays[name]) for name in arrays} == {59}
    similar = arrays["vec"] @ arrays["vec"].T
    np.fill_diagonal(similar, -1)
    assert np.array_equal(similar.argmax(1), arrays["neighbors"][:, 0])
    assert np.allclose(similar.max(1), arrays["similarities"][:, 0], atol=1e-6)
    query = "SELECT title, path, coalesce(year, 0), x, y, coalesce(cluster_id, -1), epoch(added_at)"
    query += " FROM songs JOIN current_embeddings USING (track_id) ORDER BY track_id"
    title, path, year, x, y, cluster, added_at = zip(*rows(demo_home[0], query), strict=True)
    for name, values in (
        ("title", title), ("path", path), ("year", year), ("cluster_id", cluster),
    ):  # fmt: skip
        assert arrays[name].tolist() == list(values)
    assert np.allclose(arrays["xy"], np.transpose([x, y]))
    assert arrays["added_at"].astype(float).tolist() == list(added_at)


def test_safetensors_has_the_same_numbers_and_tags_as_json_lines(made) -> None:
    tensors, arrays = load_file(made("safetensors")), np.load(made("npz"))
    for name in ("vec", "xy", "cluster_id", "neighbors", "similarities"):
        assert np.array_equal(tensors[name], arrays[name], equal_nan=name != "cluster_id")
    songs = [json.loads(line) for line in tensors["songs"].tobytes().splitlines()]
    assert [song["track_id"] for song in songs] == arrays["track_id"].tolist()
    assert songs[0]["genres"] == ["Folk"]


def test_the_atlas_points_at_rows_of_its_own(made) -> None:
    table = pq.read_table(made("atlas"))
    rows_of = table["track_id"].to_pylist()
    assert len(rows_of) == 59
    near = table["neighbors"].to_pylist()
    assert all(0 <= number < 59 for each in near for number in each["ids"])
    assert all(number not in each["ids"] for number, each in enumerate(near))
    assert all(each["distances"] == sorted(each["distances"]) for each in near)
    assert table["text"][0].as_py() == "Paper Bridge – The Paper Orchard"


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_collection_gives_the_same_bytes(made, kind: str) -> None:
    first = made(kind).read_bytes()
    assert made(kind).read_bytes() == first


def test_hostile_tags_stay_what_they_are(home, tmp_path, capsys) -> None:
    wild = 'A\n{"x": 1}\0\x1b[31m"\u2028' + "ä" * 3000
    songs = [synthetic.song(i) for i in range(12)]
    songs[0] |= {"title": wild, "artist": "=cmd|' /C calc'!A0"}
    synthetic.write_home(home, 12)
    synthetic.write_catalog(home, songs)
    reports.draw_map(home)
    publish(home)
    for kind in KINDS:
        assert export.main(home, kind, tmp_path / kind) == 0
    assert wild in pl.read_parquet(tmp_path / "parquet")["title"].to_list()
    tensors = load_file(tmp_path / "safetensors")
    lines = [json.loads(line) for line in tensors["songs"].tobytes().split(b"\n")[:-1]]
    assert wild in [line["title"] for line in lines]
    assert wild[: export.LONGEST_TEXT] in np.load(tmp_path / "npz")["title"].tolist()
    assert "\x1b" not in capsys.readouterr().out


def test_no_file_of_others_is_replaced_and_a_failure_leaves_what_was_there(
    demo_home, tmp_path, monkeypatch
) -> None:
    home = demo_home[0]
    for kind in KINDS:
        target = tmp_path / f"mine.{kind}"
        for content in (b"dear diary", b"", b"PAR1 nonsense PAR1", b"PK\5\6" + bytes(18)):
            target.write_bytes(content)
            with pytest.raises(UserError, match="choose another name with -o"):
                export.main(home, kind, target)
            assert target.read_bytes() == content
        target.unlink()
        export.main(home, kind, target)
        before = target.read_bytes()
        assert export.main(home, kind, target) == 0
        with pytest.raises(UserError, match="is a folder"):
            export.main(home, kind, tmp_path)
        with pytest.raises(UserError, match="cannot write"):
            export.main(home, kind, Path("/proc/none/file"))
        monkeypatch.setattr(export, "HEARD", "SELECT {what} FROM nothing_of_that_name ")
        monkeypatch.setattr(export, "SONGS", "FROM nothing_of_that_name")
        monkeypatch.setattr(export, "ATLAS", "FROM nothing_of_that_name")
        with pytest.raises(UserError, match="of another version"):
            export.main(home, kind, target)
        monkeypatch.undo()
        assert target.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"mine.{k}" for k in KINDS)


def test_before_there_are_vectors_or_a_map_that_is_told(home, tmp_path) -> None:
    synthetic.write_catalog(home, [synthetic.song(0)])
    synthetic.write_model(home)
    publish(home)
    assert export.main(home, "parquet", tmp_path / "songs.parquet") == 0
    for kind, told in (("npz", "embed"), ("safetensors", "embed"), ("atlas", "report")):
        with pytest.raises(UserError, match=f"run `fastdino {told}`"):
            export.main(home, kind, tmp_path / "file")
    assert [path.name for path in tmp_path.glob("*.*")] == ["songs.parquet"]
    synthetic.write_home(home, 3)
    publish(home)
    assert export.main(home, "npz", tmp_path / "songs.npz") == 0
    assert np.isnan(np.load(tmp_path / "songs.npz")["xy"]).all()


@pytest.mark.thorough
def test_memory_does_not_grow_with_the_collection(tmp_path) -> None:
    peaks = {}
    for songs in (2_000, 40_000):
        home = Home(tmp_path / str(songs))
        synthetic.write_home(home, songs, dim=256, segments=0)
        publish(home)
        for kind in ("parquet", "npz", "safetensors"):
            code = (
                "import sys\nfrom pathlib import Path\n"
                "from fastdino.core.home import Home\nfrom fastdino.database import export\n"
                "export.MEMORY = '200MB'\n"
                "export.main(Home(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3]))\n"
                "status = Path('/proc/self/status').read_text()\n"
                "print(status.partition('VmHWM:')[2].split()[0])"
            )
            command = [sys.executable, "-c", code, home.root, kind, tmp_path / f"{songs}.{kind}"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            peaks[songs, kind] = int(done.stdout.split()[-1]) / 1024
    for kind in ("parquet", "npz", "safetensors"):
        # Twenty times as many songs, of 40 MB of vectors: no more than DuckDB may take.
        assert peaks[40_000, kind] - peaks[2_000, kind] < 250, peaks


@pytest.mark.thorough
def test_hugging_face_datasets_open_the_parquet(made, tmp_path) -> None:
    datasets = pytest.importorskip("datasets", reason="needs datasets: pip install datasets")
    path = str(made("parquet"))
    loaded = datasets.load_dataset(
        "parquet", data_files=path, split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.num_rows == 60
    assert len(loaded[0]["vec"]) == 32


@pytest.mark.thorough
def test_embedding_atlas_opens_its_file_by_the_command_that_is_printed(made) -> None:
    if not importlib.util.find_spec("embedding_atlas"):
        pytest.skip("needs embedding-atlas: pip install embedding-atlas")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = export.atlas_command(made("atlas")).split()
    program = Path(sys.executable).with_name(words[0])
    options = ["--host", "127.0.0.1", "--port", str(port), "--no-auto-port"]
    with subprocess.Popen([program, *words[1:], *options], stdout=subprocess.DEVNULL) as server:
        try:
            address = f"http://127.0.0.1:{port}/data/metadata.json"
            for _ in range(120):
                time.sleep(1)
                try:
                    described = json.load(urllib.request.urlopen(address, timeout=10))
                    break
                except OSError:
                    assert server.poll() is None
        finally:
            server.terminate()
    assert described["props"]["data"]["projection"] == {"x": "x", "y": "y"}
    assert described["props"]["data"]["neighbors"] == "neighbors"
