"""Neighbours are exact, also where only what changed is looked at."""

import numpy as np
import pytest
import synthetic

from fastdino import reports
from fastdino.core.home import Home
from fastdino.embeddings.vectors import read_songs
from fastdino.reports.neighbors import nearest, update
from tests.reports.test_map import records


def songs(n: int) -> np.ndarray:
    return np.stack([synthetic.vector(i) for i in range(n)])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (range(80), range(80)),
        (range(80), range(90)),
        (range(90), [i for i in range(90) if i % 9]),
        (range(85), [i for i in range(92) if i % 17]),
        (range(10), range(90)),
    ],
    ids=["nothing", "more", "fewer", "both", "most are new"],
)
def test_what_is_brought_up_to_date_is_what_is_found_from_nothing(before, after) -> None:
    k, vectors = 7, songs(92)
    near, similarities = nearest(vectors[list(before)], k)
    place = {song: row for row, song in enumerate(after)}
    known = np.isin(list(after), list(before))
    old = [song for song in after if song in before]
    rows = [list(before).index(song) for song in old]
    here = np.full((len(place), k), -1)
    here[known] = [[place.get(list(before)[i], -1) for i in near[row]] for row in rows]
    similar = np.zeros((len(place), k), np.float32)
    similar[known] = similarities[rows]

    found = update(vectors[list(after)], known, here, similar)

    expected = nearest(vectors[list(after)], k)
    assert np.array_equal(found[0], expected[0])
    assert found[1] == pytest.approx(expected[1], abs=1e-6)


def test_songs_that_are_all_the_same_are_each_others_neighbours_and_not_their_own() -> None:
    vectors = np.repeat(songs(2), 15, axis=0)
    near, similarities = nearest(vectors[:-1], 4)
    known = np.arange(30) < 29
    near, similarities = np.vstack([near, [[-1] * 4]]), np.vstack([similarities, [[0] * 4]])
    found, similar = update(vectors, known, near, similarities.astype(np.float32))
    assert not (found == np.arange(30)[:, None]).any()
    assert (found // 15 == np.arange(30)[:, None] // 15).all()
    assert similar == pytest.approx(1, abs=1e-6)


def test_a_map_that_songs_came_to_and_left_has_the_neighbours_of_a_new_one(home: Home) -> None:
    for there in (range(60), range(63), range(2, 63)):
        synthetic.write_home(home, 63)
        synthetic.write_catalog(home, [synthetic.song(i) for i in there])
        reports.draw_map(home)
    ids, vectors = read_songs(home, synthetic.MODEL_ID, {synthetic.track_id(i) for i in there})
    near, similarities = nearest(vectors, 20)
    found = records(home, "neighbors").sort("track_id", "rank")
    assert found["neighbor_id"].to_list() == [ids[i] for i in near.ravel()]
    assert found["similarity"].to_list() == pytest.approx(similarities.ravel().tolist(), abs=1e-6)
