"""Vectors from files: every form they come in, and what is wrong with others, told in one line."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastdino.core.errors import UserError
from fastdino.core.paths import to_text
from fastdino.research import peers

WANTED = ["t0", "t1", "t2"]
VECTORS = np.arange(6, dtype=np.float32).reshape(3, 2) + 0.5


@pytest.fixture
def tracks(tmp_path: Path) -> dict[str, list[str]]:
    """Two files beside the vectors' folder, of which one holds two songs."""
    music = tmp_path / "music"
    return {to_text(music / "a.ogg"): ["t0"], to_text(music / "album.flac"): ["t1", "t2"]}


def parquet(file: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), file)
    return file


def npz(file: Path, **arrays: np.ndarray) -> Path:
    np.savez(file, **arrays)
    return file


def test_songs_are_named_by_id_in_any_order_and_others_are_passed_over(tmp_path: Path) -> None:
    ids, order = [*WANTED, "stranger"], [3, 2, 0, 1]
    rows = [*VECTORS, np.zeros(2, np.float32)]
    names, vectors = [ids[i] for i in order], [rows[i].tolist() for i in order]
    files = [
        parquet(tmp_path / "one.parquet", track_id=names, vector=vectors),
        parquet(tmp_path / "two.parquet", track_id=names, vec=vectors, path=["?"] * 4),
        npz(tmp_path / "three.npz", track_ids=np.array(names), vectors=np.array(vectors)),
        npz(tmp_path / "five.npz", track_ids=np.array(names), vectors=np.asfortranarray(vectors)),
        npz(tmp_path / "4.npz", track_ids=np.array(names), vectors=np.array(vectors, np.float16)),
    ]
    for file in files:
        found = peers.read(file, {}, WANTED)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, VECTORS)


def test_songs_are_named_by_path_beside_the_file_or_absolute(
    tmp_path: Path, tracks: dict[str, list[str]]
) -> None:
    paths = ["music/a.ogg", str(tmp_path / "music" / "x" / os.pardir / "album.flac")]
    expected = VECTORS[[0, 1, 1]]
    file = parquet(tmp_path / "p.parquet", path=paths, vec=VECTORS[:2].tolist())
    np.testing.assert_array_equal(peers.read(file, tracks, WANTED), expected)
    file = npz(tmp_path / "p.npz", paths=np.array(paths), vectors=VECTORS[:2])
    np.testing.assert_array_equal(peers.read(file, tracks, WANTED), expected)


def test_of_several_rows_of_a_song_the_first_with_a_vector_counts(tmp_path: Path) -> None:
    file = parquet(
        tmp_path / "p.parquet",
        track_id=["t0", "t0", "t0", "t1", None, "t2"],
        vector=[None, [1, 2], [3, 4], [5, 6], [7, 8], [9, 9]],
    )
    assert peers.read(file, {}, WANTED).tolist() == [[1, 2], [5, 6], [9, 9]]


ROWS = VECTORS.tolist()
WRONG = {
    "no columns": ({"song": WANTED, "vector": ROWS}, "has no 'track_id' or 'path', but song, vec"),
    "no vectors": ({"track_id": WANTED, "x": [1, 2, 3]}, "has no 'vector' or 'vec'"),
    "no lists": ({"track_id": WANTED, "vec": [1.0, 2.0, 3.0]}, "holds no lists of numbers"),
    "lists of text": ({"track_id": WANTED, "vec": [["a"]] * 3}, "holds no lists of numbers"),
    "strangers": ({"track_id": ["x", "y"], "vec": ROWS[:2]}, "none of its 2 rows is of a song"),
    "missing": ({"track_id": ["t0", "t2"], "vec": ROWS[:2]}, r"no vector of 1 of the 3 .*\(t1\)"),
    "lengths": ({"track_id": WANTED, "vec": [[1.0], [1.0, 2.0], [1.0]]}, "have 1 to 2 numbers"),
    "empty": ({"track_id": WANTED, "vec": pa.array([[]] * 3, pa.list_(pa.float32()))}, "0 to 0"),
    "nan": ({"track_id": WANTED, "vec": [[1.0], [float("nan")], [1.0]]}, r"1 vectors .*\(t1\)"),
    "null": ({"track_id": WANTED, "vec": [[1.0], [1.0], [None]]}, r"not finite \(t2\)"),
    "too large": ({"track_id": WANTED, "vec": [[1.0], [1.0], [1e300]]}, r"not finite \(t2\)"),
}


@pytest.mark.parametrize(("columns", "told"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_file_is_told_with_its_name(
    columns: dict[str, object], told: str, tmp_path: Path
) -> None:
    file = parquet(tmp_path / "p.parquet", **columns)
    with pytest.raises(UserError, match=told) as caught:
        peers.read(file, {}, WANTED)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_a_missing_song_is_named_by_its_path(tmp_path: Path, tracks: dict[str, list[str]]) -> None:
    file = parquet(tmp_path / "p.parquet", path=["music/a.ogg"], vec=[[1.0]])
    with pytest.raises(UserError, match=r"no vector of 2 of the 3 .*album\.flac"):
        peers.read(file, tracks, WANTED)


@pytest.mark.parametrize(
    "arrays",
    [
        {"track_ids": np.array(WANTED), "vectors": VECTORS[:2]},
        {"track_ids": np.array(WANTED), "vectors": VECTORS[:, 0]},
        {"track_ids": np.arange(3), "vectors": VECTORS},
        {"track_ids": np.array(WANTED), "vectors": np.array([["a"]] * 3)},
    ],
)
def test_arrays_that_do_not_go_together_are_told(
    arrays: dict[str, np.ndarray], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="do not go together"):
        peers.read(npz(tmp_path / "p.npz", **arrays), {}, WANTED)


def test_what_is_no_such_file_or_none_at_all_is_told_and_nothing_in_it_is_run(
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match=r"cannot be read .*check the name"):
        peers.read(tmp_path / "none.parquet", {}, WANTED)
    pickled = npz(tmp_path / "p.npz", track_ids=np.array(WANTED, object), vectors=VECTORS)
    text, single, cut = tmp_path / "a.parquet", tmp_path / "b.npz", tmp_path / "c.npz"
    text.write_text("path,vec\n")
    with single.open("wb") as opened:
        np.save(opened, VECTORS)
    cut.write_bytes(pickled.read_bytes()[:100])
    damaged = tmp_path / "d.npz"
    np.savez_compressed(damaged, track_ids=np.array(WANTED), vectors=VECTORS)
    content = bytearray(damaged.read_bytes())
    content[60:90] = bytes(30)
    damaged.write_bytes(content)
    for file in (pickled, text, single, cut, damaged):
        with pytest.raises(UserError, match="is no Parquet or npz file, or damaged"):
            peers.read(file, {}, WANTED)
