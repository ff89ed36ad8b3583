import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from scipy.special import softmax
from scipy.stats import entropy, ortho_group, skew
from sklearn.linear_model import LinearRegression
from sklearn.metrics import average_precision_score, r2_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import KNeighborsClassifier

from fastdino.training import metrics
from fastdino.training.metrics import (
    alignment,
    artist_hits,
    artist_precisions,
    centred_unit,
    effective_rank,
    explained_share,
    hubness,
    invariance,
    label_knn,
    mean_outcome,
    target_entropy,
    uniformity,
)


@dataclass
class Songs:
    vectors: np.ndarray
    artists: list[str | None]
    albums: list[str | None]
    labels: list[str | None]

    def __len__(self) -> int:
        return len(self.vectors)

    def taken(self, order: list[int]) -> "Songs":
        return Songs(
            self.vectors[order],
            [self.artists[i] for i in order],
            [self.albums[i] for i in order],
            [self.labels[i] for i in order],
        )


@st.composite
def collections(draw: st.DrawFn) -> Songs:
    """Random vectors, some of a common direction with their artist, names of which some lack."""
    n = draw(st.integers(2, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def names(of: str) -> list[str | None]:
        return [str(name) if name != "-" else None for name in rng.choice(list(of), n)]

    artists = names("abcdefgh-"[draw(st.integers(0, 8)) :])
    vectors = rng.normal(size=(n, draw(st.integers(2, 12)))) + rng.normal()
    return Songs(vectors, artists, names("xyz-"), names("rst-"))


def artist_1nn(*asked: Any) -> float | None:
    return mean_outcome(artist_hits(*asked))


def artist_map(*asked: Any) -> float | None:
    return mean_outcome(artist_precisions(*asked))


def evaluate(songs: Songs) -> list[float | None]:
    return [
        artist_1nn(songs.vectors, songs.artists),
        artist_1nn(songs.vectors, songs.artists, songs.albums),
        artist_map(songs.vectors, songs.artists),
        artist_map(songs.vectors, songs.artists, songs.albums),
        label_knn(songs.vectors, songs.labels, songs.artists, k=3),
        hubness(songs.vectors, k=3),
        alignment(songs.vectors, [name or "" for name in songs.artists]),
        uniformity(songs.vectors),
    ]


def close(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return one == pytest.approx(other, abs=1e-9)


def test_rank_is_near_one_after_a_collapse_and_near_the_width_without() -> None:
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(500, 16))
    line = rng.normal(size=(500, 1)) * rng.normal(size=(1, 16))
    assert effective_rank(spread) > 15
    assert effective_rank(line) == pytest.approx(1, abs=0.01)


def test_identical_vectors_have_a_rank_but_no_error() -> None:
    assert effective_rank(np.ones((10, 4))) == pytest.approx(1, abs=1)


@given(collections(), st.randoms(use_true_random=False))
def test_the_order_of_songs_changes_nothing(songs: Songs, random: object) -> None:
    order = list(np.random.default_rng(random.getrandbits(32)).permutation(len(songs)))  # type: ignore[attr-defined]
    assert all(map(close, evaluate(songs), evaluate(songs.taken(order))))


@given(collections(), st.floats(0.1, 10), st.integers(0, 2**32 - 1))
def test_turning_moving_and_scaling_the_space_changes_nothing(
    songs: Songs, scale: float, seed: int
) -> None:
    turn = ortho_group.rvs(songs.vectors.shape[1], random_state=seed)
    moved = Songs(scale * songs.vectors @ turn + 3, songs.artists, songs.albums, songs.labels)
    assert all(map(close, evaluate(songs), evaluate(moved)))


@given(collections(), st.integers(1, 80))
def test_the_size_of_a_block_changes_nothing(songs: Songs, size: int) -> None:
    whole = evaluate(songs)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(metrics, "BLOCK", size)
        assert all(map(close, whole, evaluate(songs)))


def test_songs_beside_their_artists_other_songs_score_one() -> None:
    vectors = np.array([[1, 0], [1, 0.1], [-1, 0], [-1, 0.1]])
    assert artist_1nn(vectors, ["a", "a", "b", "b"]) == 1.0
    assert artist_1nn(vectors, ["a", "b", "a", "b"]) == 0.0


def test_artists_with_one_song_are_possible_wrong_answers_but_not_asked_about() -> None:
    vectors = np.array([[1, 0], [1, 0.02], [-1, 0], [1, 0.01]])
    assert artist_1nn(vectors, ["a", "a", "b", "c"]) == 0.0


def test_without_an_artist_named_twice_there_is_no_figure() -> None:
    assert artist_1nn(np.eye(3), ["a", None, None]) is None
    assert artist_map(np.eye(3), ["a", None, ""]) is None


def test_a_song_of_the_same_album_is_no_answer_and_one_of_another_album_is() -> None:
    # The album's other song lies nearest, then the wrong artist, then the artist's other album.
    vectors = np.array([[1, 0], [1, 0.01], [1, 0.9], [1, 0.5], [-4, -1.4]])
    artists = ["a", "a", "a", "b", "c"]
    assert artist_1nn(vectors[:2], artists[:2], ["x", "x"]) is None
    assert artist_1nn(vectors, artists, ["x", "x", "y", "y", "z"]) == 0.0
    without_b = [0, 1, 2, 4]
    albums = ["x", "x", "y", "z"]
    assert artist_1nn(vectors[without_b], [artists[i] for i in without_b], albums) == 1.0


def test_songs_of_no_known_album_are_neither_asked_nor_an_answer_where_albums_count() -> None:
    # The artist's song of no known album, nearest of all, may be on the asking song's own.
    vectors = np.array([[1, 0], [1, 0.01], [1, 0.5], [1, 0.9], [-4, -1.4]])
    artists, albums = ["a", "a", "b", "a", "c"], ["x", None, "z", "y", "z"]
    hits = artist_hits(vectors, artists, albums)
    np.testing.assert_array_equal(hits, [0, np.nan, np.nan, 0, np.nan])
    precisions = artist_precisions(vectors, artists, albums)
    np.testing.assert_array_equal(precisions, [1 / 2, np.nan, np.nan, 1 / 2, np.nan])
    assert artist_1nn(vectors, artists, [None, "", "z", "y", "z"]) is None
    assert artist_map(vectors, artists, [None, "", "z", "y", "z"]) is None


def test_another_artists_album_of_the_same_title_leaves_no_wrong_answer_out() -> None:
    vectors = np.array([[1, 0], [1, 0.01], [-1, -0.5], [-1, 0.49]])
    albums = ["Hits", "Hits", "Live", "Own"]
    assert artist_1nn(vectors, ["a", "b", "a", "c"], albums) == 0.0
    assert artist_map(vectors, ["a", "b", "a", "c"], albums) < 1.0  # type: ignore[operator]


def test_of_no_songs_there_is_no_figure() -> None:
    none = np.empty((0, 4), np.float32)
    assert evaluate(Songs(none, [], [], [])) == [None] * 8
    assert invariance(none, none) is None
    assert explained_share(none, none) is None


def others(songs: Songs, i: int, *, albums: bool) -> list[int]:
    """The songs that song ``i`` is compared with, found by looking at each in turn."""

    def left_out(j: int) -> bool:
        if not albums or songs.artists[i] is None or songs.artists[i] != songs.artists[j]:
            return False
        titles = (songs.albums[i], songs.albums[j])
        return None in titles or titles[0] == titles[1]

    return [j for j in range(len(songs)) if j != i and not left_out(j)]


@given(collections(), st.booleans())
def test_hits_and_precisions_are_those_of_asking_each_song_in_turn(
    songs: Songs, albums: bool
) -> None:
    similarity = cosine_similarity(songs.vectors - songs.vectors.mean(0))
    hits, precisions = np.full((2, len(songs)), np.nan)
    for i, artist in enumerate(songs.artists):
        found = others(songs, i, albums=albums)
        wanted = [artist is not None and songs.artists[j] == artist for j in found]
        if any(wanted):
            nearest = max(found, key=lambda j: similarity[i, j])
            hits[i] = songs.artists[nearest] == artist
            precisions[i] = average_precision_score(wanted, similarity[i, found])
    titles = songs.albums if albums else None
    asked = songs.vectors, songs.artists, titles
    np.testing.assert_allclose(artist_hits(*asked), hits)
    np.testing.assert_allclose(artist_precisions(*asked), precisions)


def test_after_a_collapse_the_mean_average_precision_is_that_of_chance() -> None:
    # Of the three other songs that each is asked about one is right.
    assert artist_map(np.ones((4, 3)), ["a", "a", "b", "b"]) == pytest.approx(1 / 3)


@given(collections(), st.integers(1, 12), st.floats(0.02, 2))
def test_label_votes_are_those_of_scikit_learn(songs: Songs, k: int, temperature: float) -> None:
    vectors = songs.vectors - songs.vectors.mean(0)
    answers = []
    for i, (label, artist) in enumerate(zip(songs.labels, songs.artists, strict=True)):
        voters = [
            j
            for j in range(len(songs))
            if j != i and songs.labels[j] and (artist is None or songs.artists[j] != artist)
        ]
        if label and label in [songs.labels[j] for j in voters]:
            classifier = KNeighborsClassifier(
                n_neighbors=min(k, len(voters)),
                metric="cosine",
                weights=lambda distance: np.exp((1 - distance) / temperature),
            ).fit(vectors[voters], [songs.labels[j] for j in voters])
            answers.append(classifier.predict(vectors[[i]])[0] == label)
    expected = float(np.mean(answers)) if answers else None
    assert close(label_knn(songs.vectors, songs.labels, songs.artists, k, temperature), expected)


def test_an_artists_own_songs_have_no_vote_on_its_labels() -> None:
    vectors = np.array([[1, 0], [1, 0.01], [1, 0.1], [-1, 0], [-1, 0.01], [-1, 0.1]])
    labels = ["r", "r", "s", "r", "r", "s"]
    assert label_knn(vectors, labels, ["a", "a", "b", "c", "c", "d"], k=1) == 0.0
    assert label_knn(vectors, labels, ["a", None, "b", "c", "c", "d"], k=1) == pytest.approx(2 / 6)


def test_a_label_of_a_single_artist_is_not_asked_about() -> None:
    assert label_knn(np.eye(4), ["r", "r", "s", None], ["a", "a", "b", "c"]) is None
    assert label_knn(np.eye(4), [None, None, "", None], ["a", "a", "b", "c"]) is None


@given(st.integers(4, 40), st.integers(2, 20), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_hubness_is_the_skewness_of_how_often_songs_are_found(
    n: int, dim: int, k: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors, some = rng.normal(size=(n, dim)) ** 3, rng.random(n) < 0.7
    similarity = cosine_similarity(vectors - vectors.mean(0))
    np.fill_diagonal(similarity, -2)
    found = np.bincount(np.argsort(-similarity)[:, :k].ravel(), minlength=n)
    for looked_at, of in ((np.ones(n, bool), None), (some, some)):
        if n < k + 2 or looked_at.sum() < 2:
            assert hubness(vectors, k, of) is None
        else:
            counts = found[looked_at]
            expected = 0.0 if np.ptp(counts) == 0 else skew(counts)
            assert close(hubness(vectors, k, of), expected)


def test_a_song_that_is_everybodys_neighbour_makes_a_hub_and_a_ring_has_none() -> None:
    angles = 2 * np.pi * np.arange(40) / 40
    ring = np.stack([np.cos(angles), np.sin(angles)], 1)
    assert hubness(ring, k=2) == pytest.approx(0)
    # Two kinds, of each one song that all the others are a little like, each in its own way.
    kind = np.eye(40, 41) * 3 + np.eye(41)[40]
    hub = np.eye(41)[[40]]
    assert (hubness(np.vstack([kind, hub, -kind, -hub]), k=1) or 0) > 5


@given(st.integers(2, 40), st.integers(2, 20), st.floats(0.01, 1), st.integers(0, 2**32 - 1))
def test_target_entropy_is_that_of_scipy(n: int, dim: int, heat: float, seed: int) -> None:
    means = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    targets = softmax((means.astype(np.float64) - means.mean(0, dtype=np.float64)) / heat, axis=1)
    found = target_entropy(means, heat)
    assert found == pytest.approx(entropy(targets.mean(0)) / np.log(dim), abs=1e-9)
    assert -1e-9 <= found <= 1 + 1e-9


def test_target_entropy_tells_a_collapse_into_clusters_from_health() -> None:
    rng = np.random.default_rng(0)
    dim = 64
    healthy = target_entropy(np.eye(dim)[rng.integers(dim, size=5000)])
    clusters = target_entropy(np.eye(dim)[rng.integers(2, size=5000)])
    assert healthy > 0.95
    assert target_entropy(np.ones((5000, dim))) == pytest.approx(1)
    assert clusters == pytest.approx(np.log(2) / np.log(dim), abs=0.01)


@given(collections())
def test_alignment_is_the_mean_over_songs_of_the_mean_over_pairs(songs: Songs) -> None:
    owners = [ord(name or "-") for name in songs.artists]
    unit = centred_unit(songs.vectors)
    apart = [
        np.mean([((a - b) ** 2).sum() for a, b in itertools.combinations(theirs, 2)])
        for owner in set(owners)
        if len(theirs := unit[np.array(owners) == owner]) > 1
    ]
    assert close(alignment(songs.vectors, owners), float(np.mean(apart)) if apart else None)


def test_alignment_is_none_apart_for_equal_segments_and_two_for_unrelated_ones() -> None:
    rng = np.random.default_rng(0)
    songs = rng.normal(size=(200, 64))
    owners = [str(i) for i in range(200)] * 3
    assert alignment(np.tile(songs, (3, 1)), owners) == pytest.approx(0, abs=1e-9)
    assert alignment(rng.normal(size=(600, 64)), owners) == pytest.approx(2, abs=0.05)
    assert alignment(songs, owners[:200]) is None


@given(collections(), st.floats(0.1, 5))
def test_uniformity_is_that_of_its_paper(songs: Songs, t: float) -> None:
    squares = pdist(centred_unit(songs.vectors), "sqeuclidean")
    assert uniformity(songs.vectors, t) == pytest.approx(np.log(np.exp(-t * squares).mean()))


def test_uniformity_is_nought_after_a_collapse_and_far_below_when_spread_out() -> None:
    assert uniformity(np.ones((50, 8))) == pytest.approx(0, abs=1e-6)
    assert uniformity(np.random.default_rng(0).normal(size=(500, 256))) == pytest.approx(
        -4, abs=0.1
    )
    assert uniformity(np.ones((1, 8))) is None


def test_invariance_is_one_if_nothing_changes_and_nought_if_nothing_is_left() -> None:
    rng = np.random.default_rng(0)
    songs = rng.normal(size=(400, 64)) + 5
    assert invariance(songs, songs) == pytest.approx(1)
    assert invariance(songs, rng.normal(size=(400, 64)) + 5) == pytest.approx(0, abs=0.05)
    assert invariance(songs, 10 - songs) == pytest.approx(-1, abs=0.01)


def test_a_shift_that_all_changed_songs_share_counts_against_invariance() -> None:
    songs = np.random.default_rng(0).normal(size=(400, 64))
    assert invariance(songs, songs + 1) == pytest.approx(np.sqrt(0.5), abs=0.03)


@given(st.integers(8, 60), st.integers(1, 10), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_the_explained_share_is_the_adjusted_r2_of_scikit_learn(
    n: int, dim: int, f: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n, f)) * rng.uniform(0.01, 100, f) - 20
    vectors = factors @ rng.normal(size=(f, dim)) + rng.normal(size=(n, dim)) * 10
    unit = centred_unit(vectors)
    fitted = LinearRegression().fit(factors, unit).predict(factors)
    r2 = r2_score(unit, fitted, multioutput="variance_weighted")
    expected = 1 - (1 - r2) * (n - 1) / (n - f - 1)
    assert explained_share(vectors, factors) == pytest.approx(expected, abs=1e-6)


def test_noise_explains_nothing_and_the_cause_explains_all() -> None:
    rng = np.random.default_rng(0)
    causes = rng.normal(size=(300, 2))
    angle = np.arctan2(*causes.T)
    on_a_circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    shares = [explained_share(causes, rng.normal(size=(300, 20))) for _ in range(20)]
    assert np.mean([share or 0 for share in shares]) == pytest.approx(0, abs=0.02)
    assert explained_share(on_a_circle, on_a_circle) == pytest.approx(1, abs=0.01)


def test_a_factor_that_is_constant_or_said_twice_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    vectors, factor = rng.normal(size=(40, 5)), rng.normal(size=(40, 1))
    expected = explained_share(vectors, factor)
    assert close(explained_share(vectors, np.hstack([factor, factor * 3 - 7])), expected)
    assert close(explained_share(vectors, np.hstack([factor, np.full((40, 1), 0.3)])), expected)


def test_too_few_songs_or_none_that_differ_leave_nothing_to_explain() -> None:
    rng = np.random.default_rng(0)
    assert explained_share(rng.normal(size=(3, 5)), rng.normal(size=(3, 2))) is None
    assert explained_share(np.full((9, 5), 0.1), rng.normal(size=(9, 2))) is None


def test_asking_each_half_of_the_songs_and_taking_the_mean_is_asking_all() -> None:
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(60, 8))
    names = [str(name) for name in rng.permutation(np.arange(60) % 6)]
    others = [str(name) for name in range(60)]
    half = np.arange(60) < 30

    def measures(asked: np.ndarray | None) -> np.ndarray:
        found = [
            mean_outcome(artist_hits(vectors, names), asked),
            mean_outcome(artist_precisions(vectors, names), asked),
            label_knn(vectors, names, others, asked=asked),
        ]
        return np.array(found, float)

    np.testing.assert_allclose(measures(None), (measures(half) + measures(~half)) / 2)
    assert not np.allclose(measures(half), measures(~half))
