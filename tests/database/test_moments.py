"""How moments are kept: vectors in thousandths, and sketches by which those alike are found."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
import synthetic

from fastdino.core.home import Home
from fastdino.database import moments, publish
from fastdino.embeddings.vectors import schema, write_vectors

DIM = 256
# As similar_segments was when it compared every moment.
WHOLE_SEARCH = """
CREATE TEMP MACRO whole_search(song, at_s, k := 10) AS TABLE
WITH wanted AS MATERIALIZED (
    SELECT mine.track_id AS wanted_id, mine.vec AS wanted_vec FROM current_segments AS mine
    WHERE mine.track_id IN (SELECT track_of(song) WHERE moment_of(song, at_s) IS NOT NULL)
    ORDER BY abs((mine.start_s + mine.end_s) / 2 - at_s) LIMIT 1
), moments AS (
    SELECT
        other.track_id, other.start_s AS from_s, other.end_s AS to_s,
        array_inner_product(other.vec, wanted.wanted_vec) AS similarity
    FROM current_segments AS other, wanted WHERE other.track_id <> wanted.wanted_id
), best AS (
    SELECT
        moments.track_id, max(moments.similarity) AS similarity,
        max_by((moments.from_s, moments.to_s), moments.similarity) AS span
    FROM moments GROUP BY moments.track_id ORDER BY similarity DESC, moments.track_id LIMIT k
)
SELECT
    best.track_id, tracks.title, tracks.artist, best.span[1] AS from_s, best.span[2] AS to_s,
    best.similarity, tracks.path, tracks.genre, tracks.year
FROM best JOIN tracks USING (track_id) ORDER BY best.similarity DESC, best.track_id;
"""
SONGS, MOMENTS = 2100, 100


def unit(n: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    """Unit vectors whose numbers spread the less the later they come, as those of models do."""
    drawn = np.random.default_rng(seed).standard_normal((n, dim)) * np.arange(1, dim + 1) ** -0.35
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def table_of(vectors: np.ndarray) -> pa.Table:
    columns = {
        "track_id": [synthetic.track_id(i) for i in range(len(vectors))],
        "start_s": pa.array(np.zeros(len(vectors), np.float32)),
        "end_s": pa.array(np.full(len(vectors), 10, np.float32)),
        "vec": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM),
    }
    return pa.table(columns, schema=schema(DIM))


def numbers(table: pa.Table) -> np.ndarray:
    return table["vec"].combine_chunks().flatten().to_numpy().reshape(-1, DIM)


def distances(table: pa.Table) -> np.ndarray:
    """How many bits of every two sketches differ."""
    words = table["sketch"].combine_chunks().flatten()
    bits = np.unpackbits(np.stack([word.to_numpy() for word in words], 1).view(np.uint8), axis=1)
    return (bits[:, None] != bits[None]).sum(-1)


def test_similarities_change_by_less_than_three_thousandths_and_nothing_else_changes() -> None:
    vectors = unit(2000)
    given = table_of(vectors)
    kept = moments.kept(given)
    assert kept.drop_columns("sketch").schema == given.schema
    assert kept.drop_columns(["vec", "sketch"]) == given.drop_columns("vec")
    rounded = numbers(kept)
    assert np.abs(rounded @ rounded.T - vectors @ vectors.T).max() < 0.003
    assert np.abs(rounded - vectors).max() < 0.00051


def test_the_more_bits_of_two_sketches_differ_the_wider_the_angle() -> None:
    # Pairs, of which one is the other turned by an angle.
    wanted = np.linspace(0, np.pi, 40)
    one, other = unit(40), unit(40, seed=1)
    other -= (one * other).sum(1, keepdims=True) * one
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    turned = np.cos(wanted)[:, None] * one + np.sin(wanted)[:, None] * other
    kept = moments.kept(table_of(np.concatenate([one, turned.astype(np.float32)])))
    angles = np.pi * distances(kept)[range(40), range(40, 80)] / moments.BITS
    assert np.abs(angles - wanted).max() < 0.25
    assert angles[0] == 0


def test_a_moment_is_kept_the_same_whatever_it_is_published_with() -> None:
    given = table_of(unit(50))
    pieces = [moments.kept(given.slice(first, 7)) for first in range(0, 50, 7)]
    assert pa.concat_tables(pieces).equals(moments.kept(given))
    assert len(moments.kept(given.slice(0, 0))) == 0


@pytest.mark.parametrize("dim", [1, 8, 384, 600])
def test_vectors_of_any_length_have_sketches(dim: int) -> None:
    vectors = unit(3, dim=dim)
    columns = {**dict.fromkeys(("start_s", "end_s"), pa.array(np.zeros(3, np.float32)))}
    given = pa.table({
        "track_id": ["a", "b", "c"], **columns,
        "vec": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim),
    }, schema=schema(dim))  # fmt: skip
    assert (np.diag(distances(moments.kept(given))) == 0).all()


def test_duckdb_finds_the_thousandths_and_keeps_them_in_a_quarter_of_the_room(home: Home) -> None:
    synthetic.write_home(home, 700, dim=DIM, segments=8)
    publish(home)
    with duckdb.connect(str(home.database), read_only=True) as db:
        found = "SELECT DISTINCT compression FROM pragma_storage_info('segments') "
        found += "WHERE column_name = 'vec' AND segment_type = 'FLOAT'"
        assert db.execute(found).fetchall() == [("ALP",)]
        vectors = db.execute("SELECT vec FROM segments LIMIT 100").fetchnumpy()["vec"]
    steps = np.stack(list(vectors)) * moments.STEPS
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-4)


def connected(home: Home) -> duckdb.DuckDBPyConnection:
    db = duckdb.connect(str(home.database), read_only=True)
    db.execute(WHOLE_SEARCH)
    return db


def test_of_few_moments_all_are_compared(demo_home: tuple[Home, list[Path]]) -> None:
    with connected(demo_home[0]) as db:
        songs = db.execute("SELECT track_id FROM current_embeddings ORDER BY ALL").fetchall()
        for number, (song,) in enumerate(songs[::9]):
            asked = [song, number % 3 * 10, 1 + number % 30]
            found = db.execute("FROM similar_segments(?, ?, ?)", asked).fetchall()
            assert found == db.execute("FROM whole_search(?, ?, ?)", asked).fetchall()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """So many moments that they are searched by sketches; those of the last songs are all alike."""
    home = Home(tmp_path_factory.mktemp("many"))
    dim = 64
    synthetic.write_catalog(home, [synthetic.song(i) for i in range(SONGS)])
    synthetic.write_model(home, dim=dim)
    rng = np.random.default_rng(0)
    groups = unit(SONGS // 50, seed=1, dim=dim)[np.arange(SONGS) // 50]
    songs = groups + 0.9 * unit(SONGS, seed=2, dim=dim)
    vectors = songs[:, None] + rng.standard_normal((SONGS, MOMENTS, dim), np.float32) / dim**0.5
    vectors[-110:] = vectors[-1, -1] + 0.01 * vectors[-110:]
    vectors = np.concatenate([songs[:, None], vectors], axis=1)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    starts = [None, *(10.0 * i for i in range(MOMENTS))]
    ends = [None, *(10.0 * i + 10 for i in range(MOMENTS))]
    table = pa.table({
        "track_id": np.repeat([synthetic.track_id(i) for i in range(SONGS)], 1 + MOMENTS),
        "start_s": pa.array(starts * SONGS, pa.float32()),
        "end_s": pa.array(ends * SONGS, pa.float32()),
        "vec": pa.FixedSizeListArray.from_arrays(
            pa.array(vectors.astype(np.float32).ravel()), dim
        ),
    })  # fmt: skip
    write_vectors(home.vectors(synthetic.MODEL_ID) / "spectrograms-000001.parquet", table)
    publish(home)
    with connected(home) as db:
        yield db


def asked_of(db: duckdb.DuckDBPyConnection, song: int, k: int) -> tuple[list[tuple], list[tuple]]:
    """What is found, and what a whole search finds."""
    asked = [synthetic.track_id(song), 500, k]
    searches = ("similar_segments", "whole_search")
    found, all_of_them = (db.execute(f"FROM {s}(?, ?, ?)", asked).fetchall() for s in searches)
    return found, all_of_them


def test_of_many_moments_those_found_are_those_of_a_whole_search(many) -> None:
    same = []
    for song in range(0, SONGS - 200, 250):
        found, expected = asked_of(many, song, 10)
        assert len(found) == 10
        # No similarity is told that is not there, and what is missed is hardly better.
        assert set(found) - set(expected) == {f for f in found if f[5] < expected[-1][5]}
        assert all(e[5] - f[5] < 0.02 for f, e in zip(found, expected, strict=True))
        same.append(len(set(found) & set(expected)) / 10)
    assert np.mean(same) >= 0.99


@pytest.mark.parametrize(("song", "k"), [(3, 500), (SONGS - 1, 20)], ids=["wanted", "alike"])
def test_where_sketches_would_give_too_few_songs_all_moments_are_compared(many, song, k) -> None:
    found, expected = asked_of(many, song, k)
    assert len(found) == k
    assert found == expected
