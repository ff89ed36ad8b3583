"""Which songs go into which shard: known beforehand, and the same after an interruption."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastdino.spectrograms import SpectrogramSettings, parcels, shards
from fastdino.spectrograms.candidates import Candidate
from fastdino.spectrograms.parcels import Parcel

SETTINGS = SpectrogramSettings()
SECOND = round(SETTINGS.frames_per_s * SETTINGS.n_mels)


def song(name: str, seconds: float | None = 240.0, size: int = 4_000_000) -> Candidate:
    return Candidate(name, f"/music/{name}.mp3", size, 1, seconds)


def divided(
    songs: list[Candidate],
    sizes: dict[str, int] | None = None,
    planned: dict[str, str] | None = None,
) -> dict[int, list[str]]:
    found = parcels.parcels(songs, sizes or {}, SETTINGS, planned)
    return {shards.number_of(p.shard): [c.track_id for c in p.candidates] for p in found}


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_BYTES", 600 * SECOND)


def test_a_shard_takes_songs_until_it_is_full_by_the_catalogues_lengths() -> None:
    songs = [song(name) for name in "abcdefg"]
    assert divided(songs) == {1: ["a", "b", "c"], 2: ["d", "e", "f"], 3: ["g"]}
    assert divided([]) == {}


def test_new_songs_go_into_the_last_shard_while_it_has_room() -> None:
    songs = [song(name) for name in "abcd"]
    sizes = {shards.name_of(1): 600 * SECOND, shards.name_of(2): 300 * SECOND}
    assert divided(songs, sizes) == {2: ["a", "b"], 3: ["c", "d"]}
    full = {shards.name_of(4): 700 * SECOND}
    assert divided(songs, full) == {5: ["a", "b", "c"], 6: ["d"]}


def test_a_file_that_tells_no_length_or_a_wild_one_counts_by_its_size_or_a_days_worth() -> None:
    assert divided([song("a", None, 10_000_000), song("b")]) == {1: ["a"], 2: ["b"]}
    assert song("endless", 1e12).expected_s == 24 * 3600


@given(
    names=st.lists(st.integers(0, 99), unique=True, max_size=20),
    lengths=st.lists(st.integers(1, 900), min_size=20, max_size=20),
    new=st.lists(st.integers(100, 199), unique=True, max_size=5),
    data=st.data(),
)
def test_what_is_left_of_an_interrupted_run_goes_where_it_was_to_go(
    names: list[int], lengths: list[int], new: list[int], data: st.DataObject
) -> None:
    songs = [song(str(n), s) for n, s in zip(names, lengths, strict=False)]
    first = divided(songs)
    plan = {track: shards.name_of(n) for n, tracks in first.items() for track in tracks}
    done = data.draw(st.sets(st.sampled_from(sorted(plan))) if plan else st.just(set()))
    left = [each for each in songs if each.track_id not in done]
    # Shards are of the size they have come to so far; whichever are there.
    seconds = {each.track_id: each.expected_s for each in songs}
    sizes = {
        shards.name_of(n): round(SECOND * sum(seconds[t] for t in tracks if t in done))
        for n, tracks in first.items()
        if done & set(tracks)
    }
    again = divided([song(str(n), 300) for n in new] + left, sizes, plan)
    for number, tracks in first.items():
        left_here = [track for track in tracks if track not in done]
        assert again.get(number, [])[: len(left_here)] == left_here
    assert sorted(t for tracks in again.values() for t in tracks) == sorted(
        [*map(str, new), *(each.track_id for each in left)]
    )


def test_a_plan_is_read_as_it_was_written_and_a_spoilt_one_is_none(tmp_path: Path) -> None:
    assert parcels.read_plan(tmp_path) == {}
    plan = [Parcel(shards.name_of(n), (song(f"{n}a"), song(f"{n}b"))) for n in (2, 1)]
    parcels.write_plan(tmp_path, plan)
    read = parcels.read_plan(tmp_path)
    assert list(read.items()) == [
        (track, shards.name_of(n)) for n in (2, 1) for track in (f"{n}a", f"{n}b")
    ]
    path = next(tmp_path.iterdir())
    path.write_bytes(path.read_bytes()[:-9])
    assert parcels.read_plan(tmp_path) == {}
    parcels.drop_plan(tmp_path)
    assert not any(tmp_path.iterdir())
