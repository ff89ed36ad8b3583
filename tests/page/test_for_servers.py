"""What music servers ask, as the plugins' logs and OpenSubsonic's documentation have it."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import duckdb
import numpy as np
import polars as pl
import pytest
import synthetic
from asking import Ask, serving, shared
from music_server import told, write_ids

from fastdino.core.home import Home
from fastdino.database import publish
from fastdino.database.connection import connect, rows
from fastdino.page import for_servers
from fastdino.servers import matching

HOSTILE = "</script><script>alert(1)</script>\n\x1b[2J\"'; DROP TABLE tracks; \u202e"


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Sixty songs, of which a server knows all but one; it has one of them twice."""
    home = Home(tmp_path_factory.mktemp("asked") / "home")
    synthetic.write_home(home, 60)
    publish(home)
    here = [told(i, path=synthetic.song(i)["path"]) for i in range(59)]
    here[7]["title"] = HOSTILE
    write_ids(home, [*here, {**here[5], "id": "twice"}])
    return home


@pytest.fixture(scope="module")
def ask(asked: Home) -> Iterator[Ask]:
    with serving(asked) as ask:
        yield ask


def get(ask: Ask, path: str, **query: object) -> tuple[int, Any]:
    status, headers, body = ask(f"{path}?{urlencode(query)}" if query else path)
    assert headers["content-type"] == "application/json"
    assert headers["x-content-type-options"] == "nosniff"
    return status, json.loads(body)


ID = told(3)["id"]
TRACK = {"item_id": str, "title": str, "author": str, "album": str}
# Requests as they stand in logs of the plugins and of what else asks; what each is answered with.
RECORDED: tuple[tuple[str, Any], ...] = (
    (
        f"/api/similar_tracks?eliminate_duplicates=true&item_id={ID}&n=20&radius_similarity=true",
        [{**TRACK, "distance": float}],
    ),
    (f"/api/similar_tracks?item_id={ID}&n=20", [{**TRACK, "distance": float}]),
    (
        "/api/similar_tracks?"
        + urlencode({"title": told(3)["title"], "artist": told(3)["artist"], "n": 20}),
        [{**TRACK, "distance": float}],
    ),
    (
        f"/api/find_path?start_song_id={ID}&end_song_id={told(9)['id']}&max_steps=5",
        {"path": [TRACK], "total_distance": float},
    ),
    (
        f"/api/find_path?start_song_id={ID}&end_song_id={told(9)['id']}",
        {"path": [TRACK], "total_distance": float},
    ),
    (
        f"/api/similar_artists?artist={told(0)['artistId']}&include_component_matches=true&n=3",
        [{"artist": str, "artist_id": str, "divergence": float}],
    ),
    ("/api/search_tracks?search_query=paper%20bridge", [TRACK]),
    ("/api/search_tracks?search_query=paper&start=0&end=1", [TRACK]),
    (f"/api/max_distance?item_id={ID}", {"max_distance": float, "farthest_item_id": str}),
    (
        f"/rest/getSonicSimilarTracks.view?u=demo&p=demo&v=1.16.1&c=test&f=json&id={ID}&count=5",
        {"subsonic-response": {"status": str, "version": str, "type": str, "serverVersion": str,
         "openSubsonic": bool, "sonicMatch": [{"entry": dict, "similarity": float}]}},
    ),
    (
        f"/rest/findSonicPath?startSongId={ID}&endSongId={told(9)['id']}&count=5&f=json",
        {"subsonic-response": {"status": str, "version": str, "type": str, "serverVersion": str,
         "openSubsonic": bool, "sonicMatch": [{"entry": dict, "similarity": float}]}},
    ),
    (
        "/rest/getOpenSubsonicExtensions.view?f=json",
        {"subsonic-response": {"status": str, "version": str, "type": str, "serverVersion": str,
         "openSubsonic": bool, "openSubsonicExtensions": [{"name": str, "versions": [int]}]}},
    ),
)  # fmt: skip


def is_shaped(answer: Any, shape: Any) -> bool:
    if isinstance(shape, list):
        return (
            isinstance(answer, list)
            and bool(answer)
            and all(is_shaped(each, shape[0]) for each in answer)
        )
    if isinstance(shape, dict):
        return answer.keys() == shape.keys() and all(
            is_shaped(answer[name], shape[name]) for name in shape
        )
    return isinstance(answer, shape)


@pytest.mark.parametrize(("line", "shape"), RECORDED, ids=[line[:40] for line, _ in RECORDED])
def test_what_the_plugins_were_seen_to_ask_is_answered(ask: Ask, line: str, shape: Any) -> None:
    status, answer = get(ask, line)
    assert status == 200
    assert is_shaped(answer, shape), answer


def test_a_shared_server_is_asked_with_its_token_as_bearer(asked: Home) -> None:
    sharing, token = shared(asked)
    with serving(asked, sharing) as ask:
        for line, _ in RECORDED:
            assert ask(line)[0] == 401
            assert ask(line, Authorization=f"Bearer {token[:-1]}")[0] == 401
            status, _, body = ask(line, Authorization=f"Bearer {token}")
            assert status == 200
            assert b"/music" not in body
            assert ask(line, method="HEAD", Authorization=f"Bearer {token}")[2] == b""
            assert ask(line, method="POST", Authorization=f"Bearer {token}")[0] == 405


def test_similar_tracks_are_those_that_sql_finds(ask: Ask, asked: Home) -> None:
    _, found = get(ask, "/api/similar_tracks", item_id=ID, n=58)
    with connect(asked.database) as db:
        query = "SELECT track_id, similarity FROM similar_to($song, 59)"
        near = rows(db, query, {"song": synthetic.track_id(3)})
    of_server = [(int(t, 16), s) for t, s in near if t != synthetic.track_id(59)]
    assert [song["item_id"] for song in found] == [told(i)["id"] for i, _ in of_server]
    distances = [song["distance"] for song in found]
    assert np.allclose(distances, [max(0, 1 - s) for _, s in of_server], atol=1e-5)


def test_a_way_is_that_which_sql_finds_and_has_both_ends(ask: Ask, asked: Home) -> None:
    ends = {"start_song_id": told(3)["id"], "end_song_id": told(9)["id"]}
    _, found = get(ask, "/api/find_path", **ends, max_steps=7)
    with connect(asked.database) as db:
        query = "SELECT track_id FROM songs_between($first, $last, 5)"
        values = {"first": synthetic.track_id(3), "last": synthetic.track_id(9)}
        between = [told(int(t, 16))["id"] for (t,) in rows(db, query, values)]
    ids = [song["item_id"] for song in found["path"]]
    assert ids == [told(3)["id"], *between, told(9)["id"]]
    _, as_counted = get(ask, "/api/find_path", **ends, count=7)
    assert as_counted == found
    _, sonic = get(ask, "/rest/findSonicPath", startSongId=ID, endSongId=told(9)["id"], count=7)
    matches = sonic["subsonic-response"]["sonicMatch"]
    assert [each["entry"]["id"] for each in matches] == ids
    assert matches[0]["similarity"] == pytest.approx(1)
    assert all(0 <= each["similarity"] <= 1 for each in matches)


def test_similar_artists_are_those_that_sql_finds_by_name_and_by_id(ask: Ask, asked: Home) -> None:
    name = told(0)["artist"]
    status, found = get(ask, "/api/similar_artists", artist=name.upper(), n=3)
    assert (status, found) == get(ask, "/api/similar_artists", artist=told(0)["artistId"], n=3)
    with connect(asked.database) as db:
        like = rows(db, "SELECT artist FROM artists_like($name, 3)", {"name": name})
    assert [each["artist"] for each in found] == [artist for (artist,) in like]
    assert get(ask, "/api/similar_artists", artist="Nobody here")[0] == 404


def test_a_database_that_is_damaged_or_of_before_is_one_line(home: Home) -> None:
    synthetic.write_home(home, 6)
    publish(home)
    write_ids(home, [told(i) for i in range(6)])
    with duckdb.connect(str(home.database)) as db:
        db.execute("DROP VIEW current_embeddings")
    with serving(home) as ask:
        status, _, body = ask(f"/api/similar_tracks?item_id={ID}")
    assert (status, b"of another version" in body) == (503, True)


def test_songs_are_searched_for_in_title_and_artist_in_pages(ask: Ask) -> None:
    artist = told(0)["artist"]
    of_artist = [told(i)["id"] for i in range(59) if told(i)["artist"] == artist]
    pages = [
        get(ask, "/api/search_tracks", artist=artist, start=at, end=at + 5)[1]
        for at in range(0, 20, 5)
    ]
    assert sorted(song["item_id"] for page in pages for song in page) == of_artist
    _, found = get(ask, "/api/search_tracks", title="BRIDGE  pâper", artist=artist[:4])
    assert [song["item_id"] for song in found] == [told(0)["id"]]
    both = {"search_query": f"{told(9)['title']} {told(9)['artist']}"}
    assert told(9)["id"] in {song["item_id"] for song in get(ask, "/api/search_tracks", **both)[1]}


def test_the_song_farthest_from_one_is_the_last_of_all(ask: Ask) -> None:
    _, found = get(ask, "/api/similar_tracks", item_id=ID, n=500)
    _, farthest = get(ask, "/api/max_distance", item_id=ID)
    last = {"max_distance": found[-1]["distance"], "farthest_item_id": found[-1]["item_id"]}
    assert farthest == last


def test_a_song_of_two_ids_is_known_by_both_and_told_once(ask: Ask) -> None:
    by_one = get(ask, "/api/similar_tracks", item_id=told(5)["id"])
    assert get(ask, "/api/similar_tracks", item_id="twice") == by_one
    _, found = get(ask, "/api/similar_tracks", item_id=ID, n=500)
    ids = [song["item_id"] for song in found]
    assert len(ids) == len(set(ids)) == 58


def test_editions_and_one_artist_over_and_over_are_left_out_where_asked(ask: Ask) -> None:
    asked_for = {"item_id": ID, "n": 500}
    _, found = get(ask, "/api/similar_tracks", **asked_for, eliminate_duplicates="true")
    artists = [song["author"] for song in found]
    assert max(artists.count(each) for each in artists) == 3
    _, every = get(ask, "/api/similar_tracks", **asked_for, eliminate_duplicates="false")
    assert len(every) > len(found)


@pytest.mark.parametrize(
    ("path", "status", "n"),
    [
        ("/api/similar_tracks?item_id={id}&n=999999999", 200, 58),
        ("/api/similar_tracks?item_id={id}&n=" + "9" * 4_000, 200, 58),
        ("/api/similar_tracks?item_id={id}&n=0", 200, 1),
        ("/api/similar_tracks?item_id={id}&n=-7", 200, 1),
        ("/api/similar_tracks?item_id={id}&n=", 200, 50),
        ("/api/similar_tracks?item_id={id}&n=many", 400, None),
        ("/api/similar_tracks?item_id={id}&n=1e9", 400, None),
        ("/api/similar_tracks?item_id={id}&n=" + "9" * 5_000, 400, None),
        ("/api/similar_tracks", 400, None),
        ("/api/similar_tracks?item_id=", 400, None),
        ("/api/similar_tracks?item_id=nothing", 404, None),
        ("/api/similar_tracks?item_id=..%2f..%2fetc", 404, None),
        ("/api/similar_tracks?item_id=%00", 404, None),
        ("/api/similar_tracks?title=nothing&artist=no%20one", 404, None),
        ("/api/similar_tracks?title=nothing", 400, None),
        (f"/api/similar_tracks?item_id={synthetic.track_id(3)}", 404, None),
        ("/api/max_distance?item_id=nothing", 404, None),
        ("/api/max_distance", 400, None),
        ("/api/find_path?start_song_id={id}", 400, None),
        ("/api/find_path?start_song_id={id}&end_song_id={id}", 400, None),
        ("/api/find_path?start_song_id={id}&end_song_id=nothing", 404, None),
        ("/api/find_path?start_song_id=nothing&end_song_id={id}", 404, None),
        ("/api/similar_artists", 400, None),
        ("/api/search_tracks", 400, None),
        ("/api/search_tracks?search_query=%20", 400, None),
        ("/api/search_tracks?search_query=zzzzqqqq", 200, 0),
        ("/api/search_tracks?search_query=a&start=9999&end=-1", 200, 0),
        ("/rest/getSonicSimilarTracks?id=nothing", 404, None),
        ("/rest/getSonicSimilarTracks", 400, None),
        ("/rest/findSonicPath?startSongId={id}&endSongId=x", 404, None),
        ("/rest/startScan.view", 404, None),
    ],
)
def test_what_is_not_there_is_404_and_what_is_absurd_is_the_nearest_there_is(
    ask: Ask, path: str, status: int, n: int | None
) -> None:
    given, answer = get(ask, path.format(id=ID))
    assert given == status
    if n is not None:
        assert len(answer) == n
    elif path.startswith("/rest"):
        assert answer["subsonic-response"]["status"] == "failed"
        assert answer["subsonic-response"]["error"].keys() == {"code", "message"}
    else:
        assert answer.keys() == {"error"}


def test_a_path_of_any_length_has_both_ends(ask: Ask) -> None:
    ends = {"start_song_id": told(3)["id"], "end_song_id": told(9)["id"]}
    for steps, length in ((-1, 2), (2, 2), (3, 3), (10**12, 59)):
        _, found = get(ask, "/api/find_path", **ends, max_steps=steps)
        ids = [song["item_id"] for song in found["path"]]
        assert (ids[0], ids[-1]) == tuple(ends.values())
        assert len(ids) == len(set(ids)) <= length


def test_a_hostile_title_is_text_and_nothing_else(ask: Ask) -> None:
    _, found = get(ask, "/api/similar_tracks", item_id=ID, n=500)
    assert HOSTILE in {song["title"] for song in found}


def test_jellyfin_s_ids_are_known_with_dashes_and_without(home: Home) -> None:
    synthetic.write_home(home, 8)
    publish(home)
    ids = [f"{i:08x}5872788ea90354027fea3881" for i in range(8)]
    songs = [told(i, id=ids[i], path=synthetic.song(i)["path"]) for i in range(8)]
    write_ids(home, songs)
    dashed = re.sub(r"(.{8})(.{4})(.{4})(.{4})(.{12})", r"\1-\2-\3-\4-\5", ids[1]).upper()
    with serving(home) as ask:
        plain = get(ask, "/api/similar_tracks", item_id=ids[1])
        assert plain == get(ask, "/api/similar_tracks", item_id=dashed)
        assert plain[0] == 200


def test_what_is_published_and_matched_anew_is_seen_at_once(home: Home) -> None:
    synthetic.write_home(home, 8)
    with serving(home) as ask:
        assert ask("/api/similar_tracks?item_id=x")[0] == 503
        publish(home)
        status, _, body = ask("/api/similar_tracks?item_id=x")
        assert (status, b"set FASTDINO_SERVER" in body) == (503, True)
        songs = [told(i, path=synthetic.song(i)["path"]) for i in range(8)]
        write_ids(home, songs)
        assert get(ask, "/api/similar_tracks", item_id=ID)[0] == 200
        write_ids(home, [{**song, "id": f"new{song['id']}"} for song in songs])
        assert get(ask, "/api/similar_tracks", item_id=ID)[0] == 404
        assert get(ask, "/api/similar_tracks", item_id=f"new{ID}")[0] == 200
        # Published anew, without the song: its id stands for nothing now.
        synthetic.write_catalog(home, [synthetic.song(i) for i in range(8) if i != 3])
        publish(home)
        assert get(ask, "/api/similar_tracks", item_id=f"new{ID}")[0] == 404
        assert matching.read(home).filter(pl.col("track_id") == synthetic.track_id(3)).height == 1


def test_songs_of_which_nothing_has_been_heard_yet_are_404(home: Home) -> None:
    synthetic.write_home(home, 4)
    synthetic.write_vectors(home, range(2))
    publish(home)
    write_ids(home, [told(i, path=synthetic.song(i)["path"]) for i in range(4)])
    with serving(home) as ask:
        assert get(ask, "/api/similar_tracks", item_id=told(3)["id"]) == (
            404, {"error": for_servers.UNKNOWN},
        )  # fmt: skip
        _, found = get(ask, "/api/similar_tracks", item_id=told(0)["id"])
        assert [song["item_id"] for song in found] == [told(1)["id"]]
