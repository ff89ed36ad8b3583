import numpy as np
import pytest

from fastdino.embeddings.drift import SAMPLE, mostly_new_neighbors

DIM = 16


def around(direction: np.ndarray, count: int, spread: float, seed: int) -> np.ndarray:
    """Unit vectors near ``direction``, float32 [count, dim]."""
    noise = np.random.default_rng(seed).standard_normal((count, DIM)) * spread
    vectors = direction / np.linalg.norm(direction) + noise
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


# Eight artists with ten songs each, all different.
KNOWN = np.concatenate([around(np.eye(DIM)[a], 10, 0.05, seed=a) for a in range(8)])
KNOWN_BY = [f"artist {i // 10}" for i in range(80)]


def told(new: np.ndarray, new_by: list[str]) -> np.ndarray:
    is_new = np.arange(len(KNOWN) + len(new)) >= len(KNOWN)
    return mostly_new_neighbors(np.concatenate([KNOWN, new]), KNOWN_BY + new_by, is_new)


def several(count: int) -> list[str]:
    return [f"newcomer {i % 4}" for i in range(count)]


def test_songs_like_those_that_are_known_are_not_among_their_own() -> None:
    new = np.concatenate([around(np.eye(DIM)[a], 2, 0.05, seed=100 + a) for a in range(8)])
    assert not told(new, several(16)).any()


def test_songs_far_from_all_that_is_known_are_among_their_own() -> None:
    assert told(around(np.eye(DIM)[12], 20, 0.1, seed=1), several(20)).all()


def test_so_are_songs_nearer_to_the_known_ones_than_those_to_each_other() -> None:
    new = around(np.eye(DIM)[:8].sum(axis=0), 20, 0.05, seed=1)
    artists = np.arange(80) // 10
    between_artists = (KNOWN @ KNOWN.T)[artists[:, None] != artists]
    assert (new @ KNOWN.T).max(axis=1).min() > np.quantile(between_artists, 0.99)
    assert told(new, several(20)).all()


def test_an_album_is_not_strange_for_sounding_like_itself() -> None:
    assert not told(around(np.eye(DIM)[12], 20, 0.1, seed=1), ["newcomer"] * 20).any()


@pytest.mark.parametrize("known", [0, 1, 5])
def test_few_songs_are_no_error(known: int) -> None:
    is_new = np.arange(known + 3) >= known
    artists = [str(i) for i in range(known + 3)]
    assert len(mostly_new_neighbors(KNOWN[: known + 3], artists, is_new)) == 3


def test_songs_by_nobody_else_have_no_neighbours() -> None:
    assert not mostly_new_neighbors(KNOWN, ["one"] * 80, np.arange(80) >= 60).any()


def test_no_new_songs_are_no_answers() -> None:
    assert len(mostly_new_neighbors(KNOWN, KNOWN_BY, np.zeros(80, bool))) == 0


def test_of_many_new_songs_some_are_looked_at() -> None:
    new = around(np.eye(DIM)[12], SAMPLE + 500, 0.2, seed=1)
    answers = told(new, several(SAMPLE + 500))
    assert len(answers) == SAMPLE
    assert answers.all()
