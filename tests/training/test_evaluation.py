import numpy as np
import pytest

from fastdino.training.evaluation import artist_1nn, effective_rank


def test_rank_is_near_one_after_a_collapse_and_near_the_width_without() -> None:
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(500, 16))
    line = rng.normal(size=(500, 1)) * rng.normal(size=(1, 16))
    assert effective_rank(spread) > 15
    assert effective_rank(line) == pytest.approx(1, abs=0.01)


def test_identical_vectors_have_a_rank_but_no_error() -> None:
    assert effective_rank(np.ones((10, 4))) == pytest.approx(1, abs=1)


def test_songs_beside_their_artists_other_songs_score_one() -> None:
    vectors = np.array([[1, 0], [1, 0.1], [-1, 0], [-1, 0.1]])
    assert artist_1nn(vectors, ["a", "a", "b", "b"]) == 1.0
    assert artist_1nn(vectors, ["a", "b", "a", "b"]) == 0.0


def test_artists_with_one_song_are_possible_wrong_answers_but_not_asked_about() -> None:
    vectors = np.array([[1, 0], [1, 0.02], [-1, 0], [1, 0.01]])
    assert artist_1nn(vectors, ["a", "a", "b", "c"]) == 0.0


def test_without_an_artist_named_twice_there_is_no_figure() -> None:
    assert artist_1nn(np.eye(3), ["a", None, None]) is None
