"""Differences between arms: what they are, how sure, and what is held against what."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdino.research.paired import Judged, difference, differences

Scores = dict[str, float]


@st.composite
def collections(draw: st.DrawFn) -> tuple[list[Scores], list[Scores], dict[str, str]]:
    """Scores of two arms, some seeds each, and the songs' artists."""
    n = draw(st.integers(3, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    artists = {f"song {i}": str(rng.integers(1 + draw(st.integers(1, 8)))) for i in range(n)}
    arms = [
        [dict(zip(artists, rng.random(n).tolist(), strict=True)) for _ in range(seeds)]
        for seeds in (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    ]
    return arms[0], arms[1], artists


@given(collections())
def test_the_other_way_round_the_difference_is_the_opposite_and_as_sure(
    scored: tuple[list[Scores], list[Scores], dict[str, str]],
) -> None:
    ours, theirs, artists = scored
    one, other = difference(ours, theirs, artists), difference(theirs, ours, artists)
    assert one
    assert other
    assert one.mean == pytest.approx(-other.mean)
    assert one.error == pytest.approx(other.error)
    means = [np.mean([list(seed.values()) for seed in arm]) for arm in (ours, theirs)]
    assert one.mean == pytest.approx(means[0] - means[1])


@given(collections())
def test_an_arm_differs_from_itself_by_nothing_but_what_seeds_do(
    scored: tuple[list[Scores], list[Scores], dict[str, str]],
) -> None:
    ours, _, artists = scored
    found = difference(ours, ours, artists)
    assert found
    assert found.mean == 0
    if found.artists > 1:
        means = [np.mean(list(seed.values())) for seed in ours]
        of_seeds = np.sqrt(2 * np.var(means, ddof=1) / len(means)) if len(means) > 1 else 0
        assert found.error == pytest.approx(of_seeds)
    else:
        assert found.error is None


def test_with_a_song_an_artist_the_error_is_the_usual_one_of_a_mean() -> None:
    rng = np.random.default_rng(0)
    scores = {str(i): float(score) for i, score in enumerate(rng.random(50))}
    none = dict.fromkeys(scores, 0.0)
    found = difference([scores], [none], {song: song for song in scores})
    assert found
    assert found.error == pytest.approx(np.std(list(scores.values()), ddof=1) / np.sqrt(50))


def test_songs_that_only_repeat_their_artist_make_nothing_surer() -> None:
    rng = np.random.default_rng(0)
    once = {str(i): float(score) for i, score in enumerate(rng.random(20))}
    often = {f"{song} {n}": score for song, score in once.items() for n in range(7)}
    artists = {song: song.split()[0] for song in [*once, *often]}
    few, many = (
        difference([scores], [dict.fromkeys(scores, 0.5)], artists) for scores in (once, often)
    )
    assert few
    assert many
    assert many.error == pytest.approx(few.error)
    assert (many.songs, many.artists) == (140, 20)


def test_the_error_is_as_large_as_differences_vary_from_collection_to_collection() -> None:
    rng = np.random.default_rng(0)
    found, errors = [], []
    for _ in range(120):
        sizes = rng.integers(1, 8, 40)
        artist = np.repeat(np.arange(40), sizes)
        score = rng.normal(size=40)[artist] * 0.3 + rng.normal(size=len(artist)) * 0.4
        scores = {str(i): float(each) for i, each in enumerate(score)}
        told = difference(
            [scores], [dict.fromkeys(scores, 0.0)], dict(zip(scores, map(str, artist), strict=True))
        )
        assert told
        assert told.error
        found.append(told.mean)
        errors.append(told.error)
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.2)


def test_only_songs_asked_of_both_are_compared_and_of_none_there_is_no_difference() -> None:
    artists = {"a": "x", "b": "y", "c": "z"}
    found = difference([{"a": 1.0, "b": 1.0}], [{"b": 0.0, "c": 0.0}, {"c": 1.0}], artists)
    assert found
    assert (found.mean, found.songs, found.error) == (1.0, 1, None)
    assert difference([{"a": 1.0}], [{"c": 1.0}], artists) is None
    assert difference([{}], [{}], artists) is None


def judged(arm: str, minutes: float, score: float, seed: int = 0, kind: str = "") -> Judged:
    scores = {"artist_1nn": {str(song): score + song / 100 for song in range(4)}}
    return Judged(arm, kind or arm, minutes, seed, "all", scores)


def test_arms_are_held_against_the_default_of_their_budget_and_levels_against_its_longest() -> None:
    runs = [
        *(judged("fastdino", each, each / 10, seed) for each in (1, 2, 5) for seed in (0, 1)),
        judged("dino", 2, 0.1),
        judged("dino", 7, 0.1),
        judged("mel mean", 0, 0.1),
        judged("bliss", 0, 0.9),
    ]
    found = {
        (row["arm"], row["minutes"]): row
        for row in differences(runs, {str(song): str(song) for song in range(4)})
    }
    told = {
        key: (row["against_minutes"], round(row["difference"], 6)) for key, row in found.items()
    }
    assert told == {
        ("fastdino", 2): (1, 0.1),
        ("fastdino", 5): (2, 0.3),
        ("dino", 2): (2, -0.1),
        ("mel mean", 0): (5, -0.4),
        ("bliss", 0): (5, 0.4),
    }
    assert (found["dino", 2]["seeds"], found["dino", 2]["against_seeds"]) == (1, 2)
    assert all(row["settled"] for row in found.values())


def test_without_the_default_there_is_nothing_to_hold_against() -> None:
    assert differences([judged("dino", 2, 0.1)], {str(song): "x" for song in range(4)}) == []


def test_a_difference_within_two_errors_is_not_settled() -> None:
    artists = {str(song): str(song) for song in range(4)}
    apart = {"artist_1nn": {"0": 0.5, "1": 0.0, "2": 0.1, "3": 0.0}}
    runs = [judged("fastdino", 1, 0.1), Judged("dino", "baseline", 1, 0, "all", apart)]
    (row,) = differences(runs, artists)
    assert abs(row["difference"]) < 2 * row["error"]
    assert not row["settled"]
