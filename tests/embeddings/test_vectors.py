"""Song vectors are read from files of any age, a song in two files from the newer."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fastdino.core.home import Home
from fastdino.embeddings import vectors

DIM, SEGMENTS = 4, 3


def rows(songs: list[str], sign: float = 1) -> tuple[pa.Table, np.ndarray]:
    """Rows of songs and their segments as they came, and the songs' vectors."""
    drawn = np.random.default_rng(0).standard_normal((len(songs), 1 + SEGMENTS, DIM), np.float32)
    starts = [None, *map(float, range(SEGMENTS))]
    table = pa.table(
        {
            "track_id": np.repeat(songs, 1 + SEGMENTS),
            "start_s": starts * len(songs),
            "end_s": starts * len(songs),
            "vec": pa.FixedSizeListArray.from_arrays(sign * drawn.ravel(), DIM),
        },
        vectors.schema(DIM),
    )
    return table, sign * drawn[:, 0]


def write_as_of_old(path: Path, table: pa.Table) -> None:
    """Songs among their segments, nothing known of row groups."""
    pq.write_table(table, path, row_group_size=7, write_statistics=False)


@pytest.mark.parametrize("write", [vectors.write_vectors, write_as_of_old])
def test_songs_are_found_in_order_and_the_newer_file_counts(tmp_path, write) -> None:
    home = Home(tmp_path)
    folder = home.vectors("m")
    folder.mkdir(parents=True)
    older, _ = rows(["d", "b", "a"])
    newer, expected = rows(["e", "b", "c"], -1)
    write(folder / "spectrograms-000001.parquet", older)
    write(folder / "spectrograms-000002.parquet", newer)

    wanted = {"a", "b", "c", "e", "elsewhere"}
    ids, found = vectors.read_songs(home, "m", wanted)

    assert ids == vectors.song_ids(home, "m", wanted) == ["a", "b", "c", "e"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[1:], expected[[1, 2, 0]])
    path = folder / "spectrograms-000002.parquet"
    whole = vectors.read_vectors(path)
    assert vectors.read_vectors(path, only_songs=True).equals(
        whole.filter(pa.compute.is_null(whole["start_s"]))
    )
