"""Numbers and names of clusters: what stays when songs come and go."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.cluster import HDBSCAN

from fastdino.reports import clusters

# Each song: its group found now, and on the map before (-2: not there).
pairs = st.lists(st.tuples(st.integers(-1, 5), st.integers(-2, 5)), min_size=1, max_size=80)


def arrays(songs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray, int]:
    labels, before = np.array(songs).T
    return labels, before, int(max(before.max(), -1)) + 1


@given(pairs)
def test_renumbering_keeps_the_groups_as_they_are(songs):
    labels, before, next_id = arrays(songs)
    lasting = clusters.matched(labels, before, next_id)
    assert ((lasting == -1) == (labels == -1)).all()
    assert len({*zip(labels.tolist(), lasting.tolist(), strict=True)}) == len(set(labels.tolist()))
    assert len(set(lasting.tolist())) == len(set(labels.tolist()))


@given(pairs)
def test_a_number_is_either_kept_with_a_third_of_the_songs_or_never_used_before(songs):
    labels, before, next_id = arrays(songs)
    lasting = clusters.matched(labels, before, next_id)
    for number in set(lasting.tolist()) - {-1}:
        mine = lasting == number
        if number < next_id:
            either = (mine & (before > -2)) | (before == number)
            assert (mine & (before == number)).sum() * 3 >= either.sum()
        else:
            assert number < next_id + len(set(labels.tolist()))


@given(pairs, st.permutations(range(6)))
def test_the_same_groups_under_other_labels_keep_their_numbers(songs, order):
    _, before, next_id = arrays(songs)
    before = np.maximum(before, -1)
    labels = np.array([order[g] if g >= 0 else -1 for g in before])
    np.testing.assert_array_equal(clusters.matched(labels, before, next_id), before)


def test_the_largest_group_gets_the_first_number():
    labels = np.array([0, 1, 1, 1, 2, 2])
    np.testing.assert_array_equal(clusters.matched(labels, np.full(6, -2), 0), [2, 0, 0, 0, 1, 1])


def test_a_song_without_group_joins_the_one_of_most_of_its_neighbours():
    labels = np.array([0, 0, 0, 1, -1, -1])
    neighbors = np.array([[1, 2], [0, 2], [0, 1], [0, 1], [0, 1], [3, 5]])
    joined, probabilities = clusters.joined(labels, np.ones(6), neighbors[:, :2])
    np.testing.assert_array_equal(joined, [0, 0, 0, 1, 0, 1])
    assert probabilities[4] == 1
    assert probabilities[5] == 0.5


def heaps(*sizes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Songs in heaps far from each other: their places, most similar songs, and heaps."""
    heap = np.repeat(np.arange(len(sizes)), sizes)
    centres = 20 * np.stack([heap % 3, heap // 3], axis=1)
    places = centres + np.random.default_rng(0).standard_normal((len(heap), 2))
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    return places, np.argsort(distances, axis=1)[:, 1:11], heap


def compared_with_each(places: np.ndarray, smallest: int, method: str) -> HDBSCAN:
    return HDBSCAN(
        min_cluster_size=smallest, min_samples=2, cluster_selection_method=method, copy=True
    ).fit(places)


def of_tree(places: np.ndarray, smallest: int, method: str) -> HDBSCAN:
    return HDBSCAN(
        min_cluster_size=smallest,
        min_samples=1,
        metric="precomputed",
        cluster_selection_method=method,
        copy=True,
    ).fit(clusters.spanning_tree(places))


@pytest.mark.parametrize("method", ["eom", "leaf"])
@given(
    n=st.integers(6, 200),
    seed=st.integers(0, 2**32 - 1),
    at_anothers=st.floats(0, 1),
    on_a_line=st.booleans(),
    smallest=st.integers(2, 12),
)
def test_groups_from_the_tree_are_those_found_when_all_songs_are_compared(
    method, n, seed, at_anothers, on_a_line, smallest
):
    rng = np.random.default_rng(seed)
    places = 20 * rng.standard_normal((5, 2))[rng.integers(0, 5, n)] + rng.standard_normal((n, 2))
    many = int(at_anothers * n)
    places[rng.permutation(n)[:many]] = places[rng.integers(0, n, many)]
    if on_a_line:
        places[:, 1] = 3 * places[:, 0]
    smallest = min(smallest, n // 2)
    found, expected = (f(places, smallest, method) for f in (of_tree, compared_with_each))
    np.testing.assert_array_equal(found.labels_, expected.labels_)
    np.testing.assert_array_equal(
        found.probabilities_.astype(np.float32), expected.probabilities_.astype(np.float32)
    )


def test_songs_that_all_lie_in_one_spot_have_a_tree_too():
    tree = clusters.spanning_tree(np.ones((9, 2)))
    assert (tree.data < 1e-100).all()
    assert (of_tree(np.ones((9, 2)), 3, "eom").labels_ == -1).all()


def test_songs_stay_in_their_groups_and_new_ones_join_them():
    places, near, heap = heaps(30, 25, 25, 20)
    before = heap + 4
    before[::9] = clusters.UNKNOWN
    labels, clearness = clusters.update(places, near, before, 8)
    np.testing.assert_array_equal(labels, heap + 4)
    assert (clearness > 0).all()
    assert clusters.changes(labels, before, {4: 30, 5: 25, 6: 25, 7: 20}) == []


def test_a_group_in_two_heaps_is_split_and_the_larger_part_keeps_the_number():
    places, near, heap = heaps(30, 29, 20, 20)
    before = np.maximum(heap, 1)  # the first two are one group
    before[:4] = clusters.UNKNOWN  # so that its parts are of 26 and 29 songs
    labels, _ = clusters.update(places, near, before, 9)
    # Half of it, or nearly, in one heap is not plain enough: it falls in three first.
    np.testing.assert_array_equal(labels, np.maximum(heap, 1))
    before = np.where(heap < 3, 0, 1)
    labels, _ = clusters.update(places, near, before, 9)
    np.testing.assert_array_equal(labels, np.array([0, 9, 10, 1])[heap])
    assert clusters.changes(labels, before, {0: 79, 1: 20}) == [
        clusters.Change(9, "split", 0, 29), clusters.Change(10, "split", 0, 20),
    ]  # fmt: skip


def test_two_groups_in_one_heap_are_one_under_the_number_of_the_larger():
    places, near, heap = heaps(30, 20, 20)
    before = heap.copy()
    before[:12] = 7
    labels, _ = clusters.update(places, near, before, 8)
    np.testing.assert_array_equal(labels, heap)
    sizes = {0: 18, 1: 20, 2: 20, 7: 12}
    assert clusters.changes(labels, before, sizes) == [clusters.Change(7, "merged", 0, 12)]


def test_new_songs_of_their_own_kind_are_a_new_group_and_a_song_left_alone_joins_another():
    places, near, heap = heaps(30, 25, 1, 12)
    before = heap.copy()
    before[heap == 3] = clusters.UNKNOWN
    labels, _ = clusters.update(places, near, before, 5)
    np.testing.assert_array_equal(labels, np.array([0, 1, 1, 5])[heap])
    assert clusters.changes(labels, before, {0: 30, 1: 25, 2: 14}) == [
        clusters.Change(5, "born", None, 12), clusters.Change(2, "died", None, 14),
    ]  # fmt: skip


@given(pairs)
def test_every_group_that_comes_or_goes_is_told_once(songs):
    labels, before, _ = arrays(songs)
    sizes = {int(g): int((before == g).sum()) for g in np.unique(before) if g >= 0}
    told = clusters.changes(labels, before, sizes)
    now = set(labels.tolist()) - {-1}
    assert sorted(c.cluster_id for c in told) == sorted(sizes.keys() ^ now)
    for change in told:
        assert (change.kind in ("born", "split")) == (change.cluster_id not in sizes)
        assert (change.other_id is None) == (change.kind in ("born", "died"))


def listed(values) -> list[list[str]]:
    """A text is all that a song has, a tuple is several."""
    return [[value] if isinstance(value, str) else [*value] for value in values]


def names(labels, genres, artists=None, before=None) -> list[str]:
    n = len(labels)
    tags = {"genre": listed(genres), "artist": listed(artists or [()] * n)}
    vectors = np.eye(n, dtype=np.float32)
    titles = [f"Song {i}" for i in range(n)]
    found = clusters.describe(np.array(labels), vectors, titles, tags, before or {})
    return [c.name for c in found]


def test_names_come_from_tags_that_stand_out():
    genres = ["Lo-fi"] * 4 + ["Jazz"] * 4
    artists = ["Rusted"] * 4 + ["A", "B", "C", "D"]
    assert names([0] * 4 + [1] * 4, genres, artists) == ["Lo-fi, Rusted", "Jazz"]


def test_of_several_genres_and_artists_each_counts():
    genres = [("Lo-fi", "Jazz"), ("Jazz",), ("Dub", "Jazz"), ("Jazz", "Jazz"), *["Ska"] * 4]
    artists = [("A", "Rusted"), ("Rusted",), ("Rusted", "B"), ("C",), *"DEFG"]
    assert names([0] * 4 + [1] * 4, genres, artists) == ["Jazz, Rusted", "Ska"]


def test_a_tag_that_all_songs_have_names_nothing():
    assert names([0] * 3 + [1] * 3, ["Rock"] * 6) == ["Like “Song 0”", "Like “Song 3”"]


def test_clusters_that_would_have_one_name_are_told_apart_by_their_typical_song():
    labels = [0] * 3 + [1] * 3 + [2] * 6
    assert names(labels, ["Dub"] * 6 + ["Ska"] * 6) == [
        "Dub, like “Song 0”", "Dub, like “Song 3”", "Ska",
    ]  # fmt: skip


def test_names_that_differ_in_case_only_are_one_name():
    assert names([0] * 3 + [1] * 3 + [2] * 6, ["Dub"] * 3 + ["dub"] * 3 + ["Ska"] * 6) == [
        "Dub, like “Song 0”", "dub, like “Song 3”", "Ska",
    ]  # fmt: skip


def test_a_name_stays_while_its_tags_are_still_common_and_a_newcomer_gets_the_longer_one():
    labels = [0] * 4 + [1] * 4 + [2] * 8
    genres = ["Dub", "Dub", "Reggae", "Reggae", *["Dub"] * 4, *["Ska"] * 8]
    before = {0: ("Dub", ["Dub"])}
    assert names(labels, genres, before=before) == ["Dub", "Dub, like “Song 4”", "Ska"]


def test_a_name_goes_with_its_tags():
    before = {0: ("Polka", ["Polka"])}
    assert names([0] * 3 + [1] * 3, ["Dub"] * 3 + ["Ska"] * 3, before=before) == ["Dub", "Ska"]


def test_a_name_that_came_from_a_tag_does_not_come_and_go_with_it():
    labels, rest = [0] * 20 + [1] * 20, [()] * 18 + ["Ska"] * 20
    # Too few for a new name, and enough to keep one.
    few = ["Dub", "Dub", *rest]
    assert names(labels, few) == ["Like “Song 0”", "Ska"]
    assert names(labels, few, before={0: ("Dub", ["Dub"])}) == ["Dub", "Ska"]
    enough = ["Dub"] * 4 + rest[2:]
    assert names(labels, enough, before={0: ("Like “Song 0”", [])}) == ["Dub", "Ska"]
    assert names(labels, [()] * 2 + rest, before={0: ("Dub", ["Dub"])}) == ["Like “Song 0”", "Ska"]
