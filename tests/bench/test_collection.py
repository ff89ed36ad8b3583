from pathlib import Path

import numpy as np

from fastdino.bench.collection import MODEL, SEGMENTS, make_up, song_vectors, track_id
from fastdino.core.home import Home
from fastdino.embeddings.vectors import read_songs, read_vectors, vector_files
from fastdino.ingestion import catalog


def test_songs_that_come_to_a_made_up_collection_change_no_other(tmp_path: Path) -> None:
    home = Home(tmp_path)
    make_up(home, 150)
    before = {path: path.read_bytes() for path in vector_files(home, MODEL)}

    make_up(home, 160, first=150)

    ids = {track_id(number) for number in range(160)}
    assert set(catalog.tracks(catalog.read(home))["track_id"]) == ids
    assert {path: path.read_bytes() for path in before} == before
    newest = read_vectors(vector_files(home, MODEL)[0])
    assert set(newest["track_id"].to_pylist()) == {track_id(number) for number in range(150, 160)}
    assert len(newest) == 10 * (1 + SEGMENTS)
    names, vectors = read_songs(home, MODEL, ids)
    made = dict(zip(map(track_id, range(160)), song_vectors(0, 160), strict=True))
    np.testing.assert_allclose(vectors, [made[name] for name in names], atol=1e-6)
