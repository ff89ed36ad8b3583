"""Songs of several artists: each of them is known everywhere in the database."""

from collections.abc import Iterator

import duckdb
import pytest
import synthetic
from published import rows

from fastdino import reports
from fastdino.core.home import Home
from fastdino.database import publish

SONGS = 36
DUET = {
    "artist": "Silver Foxes feat. Ára",
    "artists": ["Silver Foxes", "Ára"],
    "genre": "Dub; Ska",
    "genres": ["Dub", "Ska"],
    "title": "Along the Canal",
    "album": "Rooms",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A small collection in which one song is a duet, as one file of an old one is."""
    home = Home(tmp_path_factory.mktemp("artists"))
    synthetic.write_home(home, SONGS)
    songs = [synthetic.song(i) for i in range(SONGS)]
    synthetic.write_catalog(home, [{**songs[0], **DUET}, *songs[1:]])
    reports.draw_map(home)
    publish(home)
    return home


@pytest.fixture
def db(home: Home) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(str(home.database), read_only=True) as connection:
        yield connection


def test_lists_are_there_for_every_song_also_of_files_that_an_older_version_read(db) -> None:
    for table in ("tracks", "songs"):
        query = f"SELECT artists, genres FROM {table} ORDER BY track_id"
        first, second, *_ = db.execute(query).fetchall()
        assert first == (DUET["artists"], DUET["genres"])
        assert second == ([synthetic.song(1)["artist"]], [synthetic.genre_of(1)])


@pytest.mark.parametrize(
    "words",
    ["ara along the canal", "Silver Foxes, Along the Canal", "ára canal", "silver foxs along canal",
     "ara along the cannal rooms", "silver foxes feat. ára along the canal"],
)  # fmt: skip
def test_a_song_is_found_by_each_of_its_artists(db, words: str) -> None:
    found = db.execute("SELECT title, score FROM find_song(?)", [words]).fetchall()
    assert found[0][0] == DUET["title"]


def test_songs_by_someone_are_their_own_and_those_they_are_a_guest_on(db) -> None:
    other = synthetic.song(1)["artist"]
    query = "SELECT title, with_others_first FROM songs_by(?)"
    assert db.execute(query, ["ÁRA"]).fetchall() == [(DUET["title"], True)]
    assert db.execute(query, ["silver foxes"]).fetchall() == [(DUET["title"], False)]
    assert db.execute(query, [DUET["artist"]]).fetchall() == [(DUET["title"], False)]
    count = db.execute("SELECT count(*) FROM tracks WHERE artist = ?", [other]).fetchone()
    assert len(db.execute(query, [other]).fetchall()) == count[0]
    assert db.execute(query, ["nobody"]).fetchall() == []


def test_artists_like_one_are_single_artists_and_not_those_of_the_songs_they_share(db) -> None:
    other = synthetic.song(1)["artist"]
    like = dict(db.execute("SELECT artist, songs FROM artists_like(?, 50)", [other]).fetchall())
    assert (like["Ára"], like["Silver Foxes"]) == (1, 1)
    assert other not in like
    assert DUET["artist"] not in like
    like = dict(db.execute("SELECT artist, songs FROM artists_like('ára', 50)").fetchall())
    assert other in like
    assert "Silver Foxes" not in like


def test_a_guest_is_not_heard_twice_in_a_row(tmp_path) -> None:
    home = Home(tmp_path)
    synthetic.write_home(home, 8)
    songs = [synthetic.song(i) for i in range(8)]
    by = [["A"], ["B", "A"], ["A", "C"], ["D"], ["E"], ["D", "A"], ["F"], ["G"]]
    several = [{"artist": "; ".join(who), "artists": who} for who in by]
    synthetic.write_catalog(home, [{**s, **who} for s, who in zip(songs, several, strict=True)])
    reports.draw_map(home)
    publish(home)
    query = "SELECT artists FROM playlist_like(?, 4) JOIN tracks USING (track_id) ORDER BY place"
    played = [who for (who,) in rows(home, query, synthetic.track_id(0))]
    assert played[0] == ["A"]
    assert len(played) == 4
    assert sum("A" in who for who in played) == 1
