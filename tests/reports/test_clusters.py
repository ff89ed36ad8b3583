"""Numbers and names of clusters: what stays when songs come and go."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

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


def names(labels, genres, artists=None, before=None) -> list[str]:
    n = len(labels)
    tags = {"genre": genres, "artist": artists or [None] * n}
    vectors = np.eye(n, dtype=np.float32)
    titles = [f"Song {i}" for i in range(n)]
    found = clusters.describe(np.array(labels), vectors, titles, tags, before or {})
    return [c.name for c in found]


def test_names_come_from_tags_that_stand_out():
    genres = ["Lo-fi"] * 4 + ["Jazz"] * 4
    artists = ["Rusted"] * 4 + ["A", "B", "C", "D"]
    assert names([0] * 4 + [1] * 4, genres, artists) == ["Lo-fi, Rusted", "Jazz"]


def test_a_tag_that_all_songs_have_names_nothing():
    assert names([0] * 3 + [1] * 3, ["Rock"] * 6) == ["Like “Song 0”", "Like “Song 3”"]


def test_clusters_that_would_have_one_name_are_told_apart_by_their_typical_song():
    labels = [0] * 3 + [1] * 3 + [2] * 6
    assert names(labels, ["Dub"] * 6 + ["Ska"] * 6) == [
        "Dub, like “Song 0”", "Dub, like “Song 3”", "Ska",
    ]  # fmt: skip


def test_a_name_stays_while_its_tags_are_still_common_and_a_newcomer_gets_the_longer_one():
    labels = [0] * 4 + [1] * 4 + [2] * 8
    genres = ["Dub", "Dub", "Reggae", "Reggae", *["Dub"] * 4, *["Ska"] * 8]
    before = {0: ("Dub", ["Dub"])}
    assert names(labels, genres, before=before) == ["Dub", "Dub, like “Song 4”", "Ska"]


def test_a_name_goes_with_its_tags():
    before = {0: ("Polka", ["Polka"])}
    assert names([0] * 3 + [1] * 3, ["Dub"] * 3 + ["Ska"] * 3, before=before) == ["Dub", "Ska"]
