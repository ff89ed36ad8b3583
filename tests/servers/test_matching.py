"""Which songs of a music server are which of ours, whatever the server tells."""

import socket
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import synthetic
from music_server import PASSWORD, USER, Music, dawdles, sends, told

from fastdino import servers
from fastdino.__main__ import main
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.summary import Summary
from fastdino.servers import listing, matching


def match(home: Home) -> Summary:
    summary = servers.match(home)
    assert summary
    return summary


def matched(home: Home) -> dict[str, tuple[str | None, str | None]]:
    """By the server's id: number of our song, or None, and by what, or why not."""
    frame = matching.read(home)
    return {
        row["item_id"]: (row["track_id"], row["matched_by"] or row["reason"])
        for row in frame.iter_rows(named=True)
    }


def test_songs_are_found_by_path_in_pages_and_a_second_asking_writes_nothing(
    published: Home, music: Music
) -> None:
    summary = match(published)
    assert matched(published) == {told(i)["id"]: (synthetic.track_id(i), "path") for i in range(10)}
    assert summary.counts["matched_by_path"] == 10
    assert len(music.asked) == 5  # four pages of three, and one that is empty
    before = published.server_ids.stat().st_mtime_ns
    assert not match(published).did_work
    assert published.server_ids.stat().st_mtime_ns == before


def test_jellyfin_is_asked_where_no_user_is_named(
    published: Home, music: Music, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FASTDINO_SERVER_USER")
    assert match(published).counts["matched_by_path"] == 10
    assert all(asked.startswith("/Items?") and PASSWORD not in asked for asked in music.asked)
    frame = matching.read(published)
    assert frame["artist_id"].to_list() == [told(i)["artistId"] for i in range(10)]
    assert frame["duration_s"].to_list() == [told(i)["duration"] for i in range(10)]


def test_without_real_paths_songs_are_found_by_title_artist_album_and_length(
    published: Home, music: Music
) -> None:
    others = {"title": told(1)["title"].upper() + " ", "artist": f"Guest • {told(1)['artist']}"}
    made_up = {"path": "Artist/Album/01 - Title.mp3"}
    music.songs = [
        told(0, **made_up),
        told(1, **made_up, **others),
        told(2, **made_up, duration=told(2)["duration"] + 2),
        told(3, **made_up, duration=told(3)["duration"] + 9),
        told(4, **made_up, duration=None),
        told(5, **made_up, artist="Someone else"),
        told(6, **made_up, album="Another"),
        told(7, **made_up, title=None),
    ]
    match(published)
    assert [how for _, how in matched(published).values()] == [
        *["tags"] * 3, *[matching.OTHER_LENGTH] * 2, *[matching.UNKNOWN] * 3,
    ]  # fmt: skip


def test_a_relative_path_is_looked_for_in_the_music_folders(published: Home, music: Music) -> None:
    music.songs = [told(0, title="x", path=told(0)["path"].removeprefix("/srv/"))]
    match(published)
    assert matched(published) == {told(0)["id"]: (synthetic.track_id(0), "path")}


@pytest.mark.parametrize(
    "path",
    [
        "/srv/../../etc/passwd", "/etc/passwd", "/srv/../music/../etc/shadow", "../../etc/passwd",
        "/srv//etc/passwd", "/srv", "/srv/", "", "\0", "/srv/\0", "/srv/\ud800", "a" * 100_000,
        "file:///etc/passwd", "/srv/$(id)", "~/x", 7, None, ["/srv"],
    ],
)  # fmt: skip
def test_a_path_that_lies_is_of_no_song(published: Home, music: Music, path: Any) -> None:
    music.songs = [told(0), told(1, title="Nothing like it", path=path)]
    match(published)
    assert matched(published)[told(1)["id"]] == (None, matching.UNKNOWN)


def test_songs_of_an_album_in_one_file_are_told_and_not_guessed() -> None:
    known = matching.Known({"/music/album.flac": None}, (Path("/music"),), {})
    song = listing.Song("1", "Album", (), None, None, 9.0, "/music/album.flac")
    assert matching.match([song], known)["reason"].to_list() == [matching.SEVERAL]


def test_a_server_that_numbers_its_songs_anew_is_known_by_its_new_ids_alone(
    published: Home, music: Music
) -> None:
    match(published)
    music.songs = [told(i, id=f"new{9 - i}") for i in range(9)]
    assert match(published).did_work
    assert {item: track for item, (track, _) in matched(published).items()} == {
        f"new{9 - i}": synthetic.track_id(i) for i in range(9)
    }


NONSENSE = {
    "no JSON": sends(b"<html>it works</html>"),
    "half of it": sends(b'{"subsonic-response": {"status"'),
    "deep": sends(b"[" * 200_000),
    "a number": sends(7),
    "nothing in it": sends({"subsonic-response": {}}),
    "an error": sends({"subsonic-response": {"status": "failed", "error": {"code": 70}}}),
    "songs that are none": sends(
        {"subsonic-response": {"status": "ok", "searchResult3": {"song": "x"}}}
    ),
    "a song without an id": sends(
        {"subsonic-response": {"status": "ok", "searchResult3": {"song": [{}, 7]}}}
    ),
    "the same for ever": sends(
        {"subsonic-response": {"status": "ok", "searchResult3": {"song": [{"id": "1"}]}}}
    ),
    "elsewhere": sends({}, 302),
    "not found": sends({}, 404),
    "broken": sends({}, 500),
    "no HTTP": lambda handler: handler.wfile.write(b"\xff\xfe" * 100),
    "hangs up": lambda handler: handler.connection.shutdown(socket.SHUT_RDWR),
    "empty": sends({"subsonic-response": {"status": "ok", "searchResult3": {}}}),
    "too much": sends(b" " * 1_001_000),
    "not let in": sends({}, 401),
    "dawdles": dawdles,
}


@pytest.mark.parametrize("way", NONSENSE)
def test_nonsense_is_one_line_without_a_secret_and_what_was_known_stays(
    published: Home, music: Music, monkeypatch: pytest.MonkeyPatch, capfd, way: str
) -> None:
    monkeypatch.setattr(listing, "ANSWER_S", 0.5)
    monkeypatch.setattr(listing, "LARGEST_ANSWER", 1_000_000)
    match(published)
    before = published.server_ids.read_bytes()
    music.instead = NONSENSE[way]
    capfd.readouterr()
    assert main(["match", "--home", str(published.root)]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert music.url in err
    sent = [part for asked in music.asked for part in asked.split("&") if part[:2] in ("t=", "s=")]
    assert sent
    assert not [word for word in (PASSWORD, *(part[2:] for part in sent)) if word in err]
    assert published.server_ids.read_bytes() == before


def test_a_wrong_password_is_told_and_not_shown(
    published: Home, music: Music, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTDINO_SERVER_PASSWORD", "battery staple")
    with pytest.raises(UserError, match="does not let us in: look at the user") as subsonic:
        match(published)
    monkeypatch.delenv("FASTDINO_SERVER_USER")
    with pytest.raises(UserError, match="does not let us in: look at the API key") as jellyfin:
        match(published)
    for key in ("a\r\nX: y", 'a"b', "é"):
        monkeypatch.setenv("FASTDINO_SERVER_PASSWORD", key)
        with pytest.raises(UserError, match="no API key") as wrong:
            match(published)
        assert key not in str(wrong.value)
    assert "battery" not in f"{subsonic.value}{jellyfin.value}"
    assert not published.server_ids.exists()


def test_a_server_that_is_away_is_one_line(published: Home, music: Music, monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("FASTDINO_SERVER", f"http://127.0.0.1:{port}")
    with pytest.raises(UserError, match=rf"127.0.0.1:{port} does not answer \(Connection refused"):
        match(published)


def test_a_server_with_none_of_these_songs_leaves_what_was_known(
    published: Home, music: Music
) -> None:
    match(published)
    before = published.server_ids.read_bytes()
    music.songs = [{"id": "1", "title": "Elsewhere", "path": "/x.mp3", "duration": 1}]
    with pytest.raises(UserError, match=r"none of the 1 songs .* is here, /x.mp3 for instance"):
        match(published)
    assert published.server_ids.read_bytes() == before


def test_what_is_damaged_is_told_and_made_anew(published: Home, music: Music) -> None:
    with pytest.raises(UserError, match="set FASTDINO_SERVER and run `fastdino match`"):
        matching.read(published)
    match(published)
    published.server_ids.write_bytes(b"PAR1" + published.server_ids.read_bytes()[9:])
    with pytest.raises(UserError, match="is damaged: run `fastdino match`"):
        matching.read(published)
    assert match(published).did_work
    assert len(matching.read(published)) == 10


def test_the_password_may_stand_in_a_file_and_is_kept_and_shown_nowhere(
    published: Home, music: Music, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd
) -> None:
    home = ["--home", str(published.root)]
    assert main(["settings"]) == 0
    assert main(["match", *home]) == 0
    monkeypatch.delenv("FASTDINO_SERVER_PASSWORD")
    assert main(["match", *home]) == 2
    (tmp_path / "secret").write_text(f"{PASSWORD}\n")
    monkeypatch.setenv("FASTDINO_SERVER_PASSWORD_FILE", str(tmp_path / "secret"))
    assert main(["match", *home]) == 0
    (tmp_path / "secret").unlink()
    assert main(["match", *home]) == 2
    out, err = capfd.readouterr()
    assert "FASTDINO_SERVER_PASSWORD=(set)\n" in out
    assert "but no password: set FASTDINO_SERVER_PASSWORD or " in err
    assert f"names {tmp_path}/secret, which cannot be read: No such file" in err
    assert PASSWORD not in out + err
    written = [path.read_bytes() for path in published.root.rglob("*") if path.is_file()]
    assert not [1 for each in written if PASSWORD.encode() in each or USER.encode() in each]


def test_what_is_not_named_is_not_asked(published: Home, music: Music, monkeypatch, capfd) -> None:
    monkeypatch.setenv("FASTDINO_SERVER", "")
    assert servers.match(published) is None
    assert main(["match", "--home", str(published.root)]) == 2
    assert "set FASTDINO_SERVER" in capfd.readouterr().err
    assert not music.asked


def test_hostile_names_are_kept_as_text_and_shown_on_one_line(
    published: Home, music: Music, capfd
) -> None:
    music.songs = [told(0), {"id": "x\n1", "title": "\x1b[2J\nx' OR 1=1", "artist": "\ud800"}]
    assert main(["match", "--home", str(published.root)]) == 0
    out = capfd.readouterr().out
    assert "\x1b[2J" not in out
    row = matching.read(published).filter(pl.col("track_id").is_null()).row(0, named=True)
    assert (row["item_id"], row["artist"]) == ("x\n1", "?")


def test_a_server_can_be_slow_and_is_waited_for(published: Home, music: Music) -> None:
    def slowly(handler: Any) -> None:
        music.instead = None
        time.sleep(0.3)
        music.answer(handler)

    music.instead = slowly
    assert match(published).counts["songs_of_the_server"] == 10
