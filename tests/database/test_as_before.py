"""Questions that are answered in another way than they once were: the answers are the same."""

from collections.abc import Iterator

import duckdb
import numpy as np
import pytest
import synthetic

from fastdino.core.home import Home
from fastdino.database import publish

SONGS = 1300
# The macros as they were: every song is looked at for every place, every pair of songs compared.
ONCE = r"""
CREATE TEMP MACRO one_by_one(first_id, last_id, group_id, k, apart, without) AS TABLE
WITH RECURSIVE unwanted AS MATERIALIZED (
    SELECT track_of(name) AS unwanted_id FROM unnest(without::VARCHAR[]) AS given(name)
), ends AS MATERIALIZED (
    SELECT a.track_id AS a_id, a.vec AS a_vec, b.track_id AS b_id, b.vec AS b_vec
    FROM (SELECT first_id AS a_id, nullif(last_id, first_id) AS b_id) AS given
    JOIN current_embeddings AS a ON a.track_id = given.a_id
    LEFT JOIN current_embeddings AS b ON b.track_id = given.b_id
), pool AS MATERIALIZED (
    SELECT
        tracks.track_id AS song_id,
        regexp_replace(tracks.path, '/[^/]*$', '') AS folder,
        CASE WHEN len(tracks.artists) = 0 THEN [lower(folder)]
             ELSE [lower(one) FOR one IN tracks.artists] END AS whose,
        whose[1] || chr(10) || lower(tracks.title) AS called,
        array_inner_product(other.vec, ends.a_vec) AS to_a,
        coalesce(array_inner_product(other.vec, ends.b_vec), to_a) AS to_b,
        CASE song_id WHEN a_id THEN 'first' WHEN b_id THEN 'last' ELSE 'between' END AS part
    FROM ends, current_embeddings AS other JOIN tracks USING (track_id)
    WHERE tracks.track_id NOT IN (FROM unwanted) AND (group_id IS NULL OR part <> 'between'
        OR tracks.track_id IN (SELECT s.track_id FROM songs AS s WHERE s.cluster_id = group_id))
), frame AS MATERIALIZED (
    SELECT
        k - count(*) AS room, coalesce(list(called), []) AS names,
        any_value(whose) FILTER (part = 'first') AS opener,
        any_value(whose) FILTER (part = 'last') AS closer
    FROM pool WHERE part <> 'between'
), way AS (
    SELECT
        0 AS stop, NULL::STRUCT(song VARCHAR, called VARCHAR, whose VARCHAR[]) AS song,
        names AS taken, [opener] AS played
    FROM frame
    UNION ALL
    SELECT
        way.stop + 1,
        max_by(struct_pack(song := song_id, called := called, whose := whose), struct_pack(
            gap := least(apart,
                         coalesce(list_position(
                             [list_has_any(them, whose) FOR them IN way.played], true), apart),
                         CASE WHEN list_has_any(whose, closer) THEN room - way.stop ELSE apart END),
            nearness := to_a + (to_b - to_a) * (way.stop + 1) / (room + 1),
            tie := song_id)) AS found,
        list_append(way.taken, found['called']), list_prepend(found['whose'], way.played)
    FROM way, frame, pool
    WHERE way.stop < room AND part = 'between' AND NOT list_contains(way.taken, called)
    GROUP BY way.stop, way.taken, way.played, room
), placed AS (
    SELECT CASE part WHEN 'first' THEN 0 ELSE k END AS stop, song_id
    FROM pool WHERE part <> 'between'
    UNION ALL SELECT way.stop, way.song['song'] FROM way WHERE way.stop > 0
)
SELECT
    row_number() OVER (ORDER BY placed.stop) AS place, tracks.track_id, tracks.title, tracks.artist,
    tracks.album, tracks.duration_s, tracks.path, tracks.genre, tracks.year
FROM placed JOIN tracks ON tracks.track_id = placed.song_id ORDER BY place;

CREATE TEMP MACRO all_pairs(songs, k := 10) AS TABLE
WITH wanted AS MATERIALIZED (
    SELECT mine.track_id AS wanted_id, mine.vec AS wanted_vec FROM current_embeddings AS mine
    WHERE mine.track_id IN (SELECT sound_of(name) FROM unnest(songs) AS given(name))
), best AS (
    SELECT other.track_id, avg(array_inner_product(other.vec, wanted.wanted_vec)) AS similarity
    FROM current_embeddings AS other, wanted
    WHERE other.track_id NOT IN (SELECT wanted_id FROM wanted)
    GROUP BY other.track_id ORDER BY similarity DESC, other.track_id LIMIT k
)
SELECT
    best.track_id, tracks.title, tracks.artist, tracks.album, best.similarity, tracks.path,
    tracks.genre, tracks.year
FROM best JOIN tracks USING (track_id) ORDER BY best.similarity DESC, best.track_id;

CREATE TEMP MACRO artists_by_pairs(name, k := 10) AS TABLE
WITH mine AS MATERIALIZED (
    SELECT a.vec AS mine_vec FROM (SELECT artist_of(name) AS known) AS given,
        current_embeddings AS a JOIN tracks AS t USING (track_id)
    WHERE is_by(t.artist, t.artists, given.known)
), theirs AS MATERIALIZED (
    SELECT t.track_id AS their_id, unnest(t.artists) AS their_name FROM tracks AS t
    WHERE NOT coalesce(is_by(t.artist, t.artists, name), false)
)
SELECT
    theirs.their_name AS artist, count(DISTINCT theirs.their_id) AS songs,
    avg(array_inner_product(other.vec, mine.mine_vec)) AS similarity
FROM mine, current_embeddings AS other JOIN theirs ON theirs.their_id = other.track_id
GROUP BY theirs.their_name ORDER BY similarity DESC, theirs.their_name LIMIT k;
"""


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """More songs than are looked at first; half of them are alike, by one artist, of few titles."""
    home = Home(tmp_path_factory.mktemp("many"))
    synthetic.write_home(home, SONGS, groups=2, segments=0)
    rng = np.random.default_rng(0)
    songs = []
    for i in range(SONGS):
        artists = [f"Artist {int(60 * rng.random() ** 4)}" for _ in range(rng.integers(0, 4))]
        title = f"Song {rng.integers(1000)}"
        if i % 2 == 0:
            artists, title = ["One"], f"Song {rng.integers(3)}"
        artist = "; ".join(artists) or None
        songs.append({**synthetic.song(i), "artist": artist, "artists": artists, "title": title})
    songs.append({**synthetic.song(SONGS), "artist": "Unheard", "artists": ["Unheard"]})
    synthetic.write_catalog(home, songs)
    publish(home)
    with duckdb.connect(str(home.database), read_only=True) as connection:
        connection.execute(ONCE)
        yield connection


@pytest.mark.parametrize(("k", "apart"), [(1, 4), (2, 0), (9, 1), (20, 4), (12, 70)])
def test_a_playlist_has_the_songs_it_has_if_all_are_looked_at_for_each_place(db, k, apart) -> None:
    rng = np.random.default_rng([k, apart])
    for first in (8, *rng.integers(0, SONGS, 2).tolist()):
        last = synthetic.track_id(int(rng.integers(0, SONGS)))
        without = [synthetic.track_id(int(i)) for i in rng.integers(0, SONGS, 5)]
        asked = [synthetic.track_id(first), last if first % 2 else None, None, k, apart, without]
        found = db.execute("FROM in_turn(?, ?, ?, ?, ?, ?)", asked).fetchall()
        assert len(found) == k
        # It once had both ends, be there room for them or not.
        assert found == db.execute("FROM one_by_one(?, ?, ?, ?, ?, ?)", asked).fetchall()[:k]


def same(found: list[tuple], expected: list[tuple], similarity: int) -> bool:
    """Whether rows are the same, but for the rounding of a similarity in single precision."""
    told, wanted = ([row[similarity] for row in rows] for rows in (found, expected))
    rest, rest_wanted = (
        sorted((*row[:similarity], *row[similarity + 1 :]) for row in rows)
        for rows in (found, expected)
    )
    return told == pytest.approx(wanted, abs=1e-6) and rest == rest_wanted


@pytest.mark.parametrize("n", [0, 1, 2, 50])
def test_songs_like_several_are_those_that_are_most_alike_on_average(db, n: int) -> None:
    given = [synthetic.track_id(i * 7) for i in range(n)] * 2
    asked = "SELECT * REPLACE (coalesce(genre, '') AS genre) FROM {}(?::VARCHAR[], 30)"
    found, expected = (
        db.execute(asked.format(macro), [given]).fetchall()
        for macro in ("similar_to_all", "all_pairs")
    )
    assert len(found) == (30 if n else 0)
    assert same(found, expected, 4)


def test_artists_alike_are_those_whose_songs_are_alike_on_average(db) -> None:
    for name in ("artist 0", "Artist 31", "One", "Unheard"):
        found, expected = (
            db.execute(f"FROM {macro}(?, 100)", [name]).fetchall()
            for macro in ("artists_like", "artists_by_pairs")
        )
        assert bool(found) == (name != "Unheard")
        assert same(found, expected, 2)
