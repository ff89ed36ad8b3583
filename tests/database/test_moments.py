"""How vectors of moments are kept: in thousandths, each for itself."""

import duckdb
import numpy as np
import pyarrow as pa
import synthetic

from fastdino.core.home import Home
from fastdino.database import moments, publish
from fastdino.embeddings.vectors import schema

DIM = 256


def unit(n: int, seed: int = 0) -> np.ndarray:
    """Unit vectors whose numbers spread the less the later they come, as those of models do."""
    drawn = np.random.default_rng(seed).standard_normal((n, DIM)) * np.arange(1, DIM + 1) ** -0.35
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def table_of(vectors: np.ndarray) -> pa.Table:
    columns = {
        "track_id": [f"{i:032x}" for i in range(len(vectors))],
        "start_s": pa.array(np.zeros(len(vectors), np.float32)),
        "end_s": pa.array(np.full(len(vectors), 10, np.float32)),
        "vec": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM),
    }
    return pa.table(columns, schema=schema(DIM))


def numbers(table: pa.Table) -> np.ndarray:
    return table["vec"].combine_chunks().flatten().to_numpy().reshape(-1, DIM)


def test_similarities_change_by_less_than_three_thousandths_and_nothing_else_changes() -> None:
    vectors = unit(2000)
    given = table_of(vectors)
    kept = moments.rounded(given)
    assert kept.schema == given.schema
    assert kept.drop_columns("vec") == given.drop_columns("vec")
    rounded = numbers(kept)
    assert np.abs(rounded @ rounded.T - vectors @ vectors.T).max() < 0.003
    assert np.abs(rounded - vectors).max() < 0.00051


def test_a_moment_is_kept_the_same_whatever_it_is_published_with() -> None:
    given = table_of(unit(50))
    pieces = [moments.rounded(given.slice(first, 7)) for first in range(0, 50, 7)]
    assert pa.concat_tables(pieces).equals(moments.rounded(given))
    assert len(moments.rounded(given.slice(0, 0))) == 0


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
