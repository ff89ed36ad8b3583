"""The server: what it gives, to whom, and that it reads what was published last."""

import json
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import synthetic
from asking import Ask, serving
from starlette.datastructures import Headers

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.paths import to_text
from fastdino.database import publish
from fastdino.page import access, server


@pytest.fixture(scope="module")
def ask(published: Home) -> Iterator[Ask]:
    with serving(published) as ask:
        yield ask


def file_of(home: Home, i: int) -> Path:
    return server.song_file(home.database, synthetic.track_id(i))[0]


def test_a_song_whose_name_is_not_utf8_is_played(library: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    synthetic.write_home(home, 4)
    paths = [tmp_path / os.fsdecode(name) for name in (b"caf\xe9.flac", b"\xff.mp3", b"\xe9.wav")]
    try:
        shutil.copy(next(library.rglob("*.flac")), paths[0])
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    paths[1].write_bytes(b"no song")
    songs = [synthetic.song(i) for i in range(4)]
    for song, path in zip(songs, paths, strict=False):
        song["path"] = to_text(path)
    synthetic.write_catalog(home, songs)
    publish(home)
    assert file_of(home, 0) == paths[0]
    with serving(home) as ask:
        status, headers, body = ask(f"/audio/{synthetic.track_id(0)}")
        assert (status, headers["content-type"]) == (200, "audio/flac")
        assert body == paths[0].read_bytes()
        assert ask(f"/audio/{synthetic.track_id(0)}.wav")[0] == 200
        status, _, body = ask(f"/audio/{synthetic.track_id(1)}.wav")
        assert (status, body.split(b" cannot")[0]) == (415, f"{tmp_path}/\\xff.mp3".encode())
        status, _, body = ask(f"/audio/{synthetic.track_id(2)}")
        assert (status, body.split(b" is not")[0]) == (404, f"{tmp_path}/\\xe9.wav".encode())


def test_the_page_is_at_the_root(ask: Ask, published: Home) -> None:
    status, headers, body = ask("/")
    assert (status, body) == (200, published.page.read_bytes())
    assert headers["content-type"].startswith("text/html")
    assert headers["content-security-policy"] == "frame-ancestors 'none'"


def test_songs_are_sent_as_they_are_and_in_parts(ask: Ask, published: Home) -> None:
    for i, kind in enumerate(("audio/flac", "audio/mpeg", "audio/ogg", "audio/x-wav")):
        whole = file_of(published, i).read_bytes()
        status, headers, body = ask(f"/audio/{synthetic.track_id(i)}")
        assert (status, headers["content-type"], body) == (200, kind, whole)
        status, headers, body = ask(f"/audio/{synthetic.track_id(i)}", Range="bytes=100-199")
        assert (status, body) == (206, whole[100:200])
        assert headers["content-range"] == f"bytes 100-199/{len(whole)}"


def test_no_song_is_decoded_only_to_say_how_long_it_is(ask: Ask) -> None:
    path = f"/audio/{synthetic.track_id(2)}.wav"
    whole = ask(path)
    status, headers, body = ask(path, method="HEAD")
    assert (status, body) == (200, b"")
    assert headers["content-length"] == whole[1]["content-length"] == str(len(whole[2]))
    assert headers["content-type"] == "audio/wav"
    status, headers, _ = ask(path, method="HEAD", Range="bytes=10-19")
    assert (status, headers["content-length"]) == (206, "10")


def test_only_songs_of_the_catalogue_are_sent(ask: Ask, published: Home) -> None:
    inside = published.root.name
    for name in (
        "nothing",
        "..%2f..%2fetc%2fpasswd",
        f"..%2f{inside}%2fmusic.duckdb",
        "%2fetc%2fpasswd",
    ):
        assert ask(f"/audio/{name}")[0] == 404
        assert ask(f"/audio/{name}.wav")[0] == 404
    assert ask("/music.duckdb")[0] == 404
    assert ask("/audio/../../etc/passwd")[0] == 404


def test_what_is_no_sound_is_never_sent_as_a_page(ask: Ask) -> None:
    _, headers, _ = ask(f"/audio/{synthetic.track_id(4)}")
    assert headers["content-type"] == "application/octet-stream"
    assert headers["x-content-type-options"] == "nosniff"
    status, _, body = ask(f"/audio/{synthetic.track_id(4)}.wav")
    assert status == 415
    assert b"cannot be played" in body


def test_a_song_whose_file_is_gone_says_so(ask: Ask) -> None:
    status, _, body = ask(f"/audio/{synthetic.track_id(6)}")
    assert status == 404
    assert b"Is its disk mounted?" in body


def test_another_copy_of_a_song_is_played_if_the_first_is_gone(home: Home, library: Path) -> None:
    gone = synthetic.song(0)
    there = {**gone, "path": str(next(library.rglob("*.mp3")))}
    synthetic.write_home(home, 1)
    synthetic.write_catalog(home, [gone, there])
    publish(home)
    assert str(file_of(home, 0)) == there["path"]


def test_moments_are_those_that_sql_finds(ask: Ask, published: Home) -> None:
    status, _, body = ask(f"/similar-moments?song={synthetic.track_id(2)}&at=14.5")
    found = json.loads(body)
    assert (status, found["from_s"], found["to_s"]) == (200, 10, 20)
    assert found == server.moments_like(published.database, synthetic.track_id(2), 14.5)
    assert len(found["moments"]) == 7
    assert set(found["moments"][0]) == {"song", "from_s", "to_s", "similarity"}
    similarities = [moment["similarity"] for moment in found["moments"]]
    assert similarities == sorted(similarities, reverse=True)


def test_at_its_end_and_beyond_a_song_is_asked_for_its_last_moment(home: Home) -> None:
    # What a player says is rounded, and the ends of moments are, downwards.
    synthetic.write_home(home, 8)
    file = next(home.vectors(synthetic.MODEL_ID).glob("*.parquet"))
    vectors = pl.read_parquet(file)
    vectors.with_columns(pl.col("end_s") - pl.lit(0.04, pl.Float32)).write_parquet(file)
    publish(home)
    with serving(home) as ask:
        last = ask(f"/similar-moments?song={synthetic.track_id(2)}&at=19")
        assert last[0] == 200
        assert json.loads(last[2])["from_s"] == 10
        for at in ("19.96", "20.0", "20.3", "1e9"):
            status, _, body = ask(f"/similar-moments?song={synthetic.track_id(2)}&at={at}")
            assert (status, body) == (200, last[2]), at


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("", 400),
        ("?song=x", 400),
        ("?song=x&at=soon", 400),
        ("?song=' OR 1=1 --&at=1", 404),
        ("?song=x&at=nan", 400),
        ("?song=x&at=-1e999", 400),
        ("?song=x&at=-1", 400),
    ],
)  # fmt: skip
def test_questions_that_make_no_sense_are_refused(ask: Ask, query: str, status: int) -> None:
    assert ask(f"/similar-moments{query.replace(' ', '%20')}")[0] == status


def test_journeys_are_those_that_sql_finds(ask: Ask, published: Home) -> None:
    first, last = synthetic.track_id(1), synthetic.track_id(6)
    status, _, body = ask(f"/journey/way?song={first}&song={last}")
    way = json.loads(body)["songs"]
    assert (status, way[0], way[-1]) == (200, first, last)
    blend = json.loads(ask(f"/journey/blend?song={first}&song={last}")[2])["songs"]
    assert blend[:2] == [first, last]
    surprise = json.loads(ask("/journey/surprise")[2])["songs"]
    known = {synthetic.track_id(i) for i in range(8)}
    for songs in (way, blend, surprise):
        assert len(songs) == len(set(songs)) > 2
        assert set(songs) <= known


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/journey/home", 404), ("/journey/way", 400), ("/journey/way?song=a", 400),
        ("/journey/way?song=a&song=b", 404), ("/journey/blend?song=a&song=b", 404),
        ("/journey/surprise?song=a", 400), ("/journey/blend?" + "song=a&" * 51, 400),
    ],
)  # fmt: skip
def test_journeys_that_lead_nowhere_are_refused(ask: Ask, path: str, status: int) -> None:
    assert ask(path)[0] == status


def test_what_is_published_anew_is_seen_at_once(home: Home) -> None:
    synthetic.write_home(home, 3)
    publish(home)
    with serving(home) as ask:
        question = f"/similar-moments?song={synthetic.track_id(0)}&at=1"
        assert len(json.loads(ask(question)[2])["moments"]) == 2
        synthetic.write_home(home, 6)
        publish(home)
        assert len(json.loads(ask(question)[2])["moments"]) == 5
        home.database.unlink()
        status, _, body = ask(question)
        assert status == 503
        assert b"run `make run`" in body
        assert ask("/")[0] == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:{port}"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1.evil.example:{port}"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors"},
    ],
)
def test_other_pages_are_refused(ask: Ask, headers: dict[str, str]) -> None:
    for path in ("/", f"/audio/{synthetic.track_id(0)}", "/similar-moments"):
        assert ask(path, **headers)[0] == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "localhost:80"},
        {"host": "127.0.0.1:80", "origin": "http://127.0.0.1:80"},
        {"host": "127.0.0.1:80", "origin": "http://localhost:80"},
        {"host": "127.0.0.1:80", "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"},
        {"host": "127.0.0.1:80", "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},
    ],
)
def test_its_own_page_and_links_to_it_are_answered(headers: dict[str, str]) -> None:
    own = access.origins((access.ADDRESS, "localhost"), 80)
    assert access.refusal(Headers(headers), own, "another name") is None


def test_it_changes_nothing(ask: Ask) -> None:
    assert ask("/")[1].get("access-control-allow-origin") is None


def test_without_a_page_the_user_is_told_what_to_run(home: Home) -> None:
    with pytest.raises(UserError, match="fastdino report"):
        server.main(home, port=0)


@pytest.mark.parametrize("port", [-1, 99_999])
def test_a_port_that_does_not_exist_is_refused(published: Home, port: int) -> None:
    with pytest.raises(UserError, match="--port"):
        server.main(published, port=port)


def test_a_port_that_is_taken_is_named(published: Home) -> None:
    with socket.create_server((access.ADDRESS, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=str(port)):
            server.main(published, port=port)
