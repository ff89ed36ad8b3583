"""Neighbours are exact, also where only what changed is looked at."""

import numpy as np
import pytest
import synthetic

from fastdino import reports
from fastdino.core.home import Home
from fastdino.embeddings.vectors import read_songs
from fastdino.reports import neighbors
from fastdino.reports.neighbors import nearest, nearest_to, update
from tests.reports.test_map import records


def songs(n: int) -> np.ndarray:
    return np.stack([synthetic.vector(i) for i in range(n)])


def test_neighbours_are_those_of_the_highest_similarity_without_the_song_itself() -> None:
    vectors, asked = songs(60), np.array([5, 40])
    similarity = vectors[asked] @ vectors.T
    similarity[[0, 1], asked] = -2
    expected = np.argsort(-similarity, axis=1)[:, :10]
    assert nearest_to(vectors, 10, asked)[0].tolist() == expected.tolist()


@pytest.mark.parametrize("n", [2, 5, 11, 30])
def test_songs_all_alike_have_neighbours_too_and_none_is_its_own(n: int) -> None:
    near, _ = nearest_to(np.ones((n, 1), np.float32), 10, np.arange(n))
    assert near.shape == (n, min(10, n - 1))
    assert not (near == np.arange(n)[:, None]).any()


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


def alike(n: int, dim: int = 24) -> np.ndarray:
    """Unit vectors in heaps, a third of them the same as others, many times over."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((20, dim))[rng.integers(0, 20, n)]
    vectors += 0.5 * rng.standard_normal((n, dim))
    vectors[rng.integers(0, n, n // 4)] = vectors[rng.integers(0, 9, n // 4)]
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("columns", [neighbors.COLUMNS, 250, 77])
@pytest.mark.parametrize("k", [1, 90])
def test_of_many_songs_the_same_are_found_as_when_all_are_sorted(monkeypatch, columns, k) -> None:
    vectors = alike(500)
    monkeypatch.setattr(neighbors, "MANY", 0)
    monkeypatch.setattr(neighbors, "ROWS", 256)
    monkeypatch.setattr(neighbors, "COLUMNS", columns)
    near, similarities = nearest(vectors, k)
    products = vectors @ vectors.T
    np.fill_diagonal(products, -2)
    expected = np.sort(products, axis=1)[:, : -k - 1 : -1]
    assert similarities == pytest.approx(expected, abs=1e-6)
    assert np.take_along_axis(products, near, axis=1) == pytest.approx(expected, abs=1e-6)
    assert all(len(set(of_one)) == k for of_one in near.tolist())


def test_of_many_songs_equal_ones_come_in_order_and_the_first_of_them_stay(monkeypatch) -> None:
    monkeypatch.setattr(neighbors, "MANY", 0)
    monkeypatch.setattr(neighbors, "COLUMNS", 200)
    # Products of these are exact, so equal ones are.
    vectors = np.eye(8, dtype=np.float32)[np.random.default_rng(0).integers(0, 8, 700)]
    near, similarities = nearest(vectors, 120)
    products = vectors @ vectors.T
    np.fill_diagonal(products, -2)
    expected = np.argsort(-products, axis=1, kind="stable")[:, :120]
    np.testing.assert_array_equal(near, expected)
    np.testing.assert_array_equal(similarities, np.take_along_axis(products, expected, axis=1))


def test_many_songs_are_asked_for_among_others(monkeypatch) -> None:
    vectors = alike(900)
    few = nearest(vectors[:500], 30, vectors[500:])
    monkeypatch.setattr(neighbors, "MANY", 0)
    many = nearest(vectors[:500], 30, vectors[500:])
    assert many[1] == pytest.approx(few[1], abs=1e-6)
    assert (many[0] == few[0]).mean() > 0.5  # but for those that are all the same


def test_neighbours_found_for_the_layout_are_those_of_the_table(monkeypatch) -> None:
    vectors = songs(300)
    for many in (neighbors.MANY, 0):
        monkeypatch.setattr(neighbors, "MANY", many)
        more, fewer = nearest(vectors, 90), nearest(vectors, 20)
        np.testing.assert_array_equal(more[0][:, :20], fewer[0])
        np.testing.assert_array_equal(more[1][:, :20], fewer[1])
