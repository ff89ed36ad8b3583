"""Playlists: which songs in which order, what is left out, and files that players can read."""

import errno
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes, urlparse

import av
import duckdb
import pytest
import synthetic

from fastdino import ingestion
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.database import playlists, publish
from fastdino.database.connection import connect
from fastdino.database.playlists import Playlist, Song

APART = 4
BRIDGE, RIVER = synthetic.track_id(0), synthetic.track_id(18)


@pytest.fixture
def db(demo_home: tuple[Home, list[Path]]) -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(demo_home[0].database) as connection:
        yield connection


def song(path: str | Path, **other: object) -> Song:
    return Song(**{"track_id": "t", "title": "T", "artist": "A", "duration_s": 1.6} | other,
                path=Path(path))  # fmt: skip


def entries(text: str) -> list[str]:
    """What a player reads of a playlist."""
    assert text.startswith("#EXTM3U\n")
    return [line for line in text.splitlines() if not line.startswith("#")]


def nearest_repeat(songs: list[Song]) -> int:
    """The least number of places between two songs by one artist; large if none comes twice."""
    last: dict[str | None, int] = {}
    gaps = [1_000]
    for place, heard in enumerate(songs):
        if heard.artist in last:
            gaps.append(place - last[heard.artist])
        last[heard.artist] = place
    return min(gaps)


def test_songs_like_one_begin_with_it_and_its_artist_comes_back_only_after_others(db):
    made = playlists.like(db, "Paper Bridge", 12)
    assert made.songs[0].track_id == BRIDGE
    assert made.name == "Like Paper Bridge"
    assert len({s.track_id for s in made.songs}) == len(made.songs) == 12
    assert nearest_repeat(list(made.songs)) >= APART
    assert Counter(s.artist for s in made.songs)["The Paper Orchard"] == 3
    assert made.missing == []


def test_between_two_songs_lead_others_from_the_one_to_the_other(db):
    made = playlists.between(db, "Paper Bridge", "Distant River", 9)
    assert [made.songs[0].track_id, made.songs[-1].track_id] == [BRIDGE, RIVER]
    assert len({s.track_id for s in made.songs}) == 9
    assert nearest_repeat(list(made.songs)) >= APART
    ids = [s.track_id for s in made.songs]
    query = "FROM songs_between('Paper Bridge', 'Distant River', 50) SELECT track_id"
    lean = "similarity_to_last - similarity_to_first"
    leaning = dict(db.execute(f"{query}, {lean}").fetchall())
    assert leaning[ids[1]] < leaning[ids[-2]]


def test_a_cluster_plays_its_own_songs_alone_the_typical_one_first(db):
    name, size, typical = db.execute(
        "SELECT name, size, medoid_id FROM current_clusters ORDER BY size LIMIT 1"
    ).fetchone()
    made = playlists.cluster(db, name.upper(), 1_000)
    members = db.execute("SELECT track_id FROM songs WHERE cluster = ?", [name]).fetchall()
    assert {s.track_id for s in made.songs} == {track for (track,) in members}
    assert len(made.songs) == size
    assert made.songs[0].track_id == typical


def test_a_surprise_is_another_one_each_time_and_can_be_had_again(db):
    seeds = [1.0, 2.0, 3.0]
    names = [playlists.surprise(db, 6, seed).name for seed in seeds]
    assert len(set(names)) == 3
    assert [playlists.surprise(db, 6, seed).name for seed in seeds] == names
    assert len(playlists.surprise(db, 6).songs) == 6
    for seed in (0.0, 11.0, 20261127.0, -3.5):
        assert len(playlists.surprise(db, 6, seed).songs) == 6


@pytest.mark.parametrize(
    "macro",
    ["like('Paper Bridge'", "between('Paper Bridge', 'Distant River'", "surprise(1"],
)
def test_no_playlist_has_more_songs_than_were_asked_for(db, macro):
    for k in (0, 1, 2, 3):
        places = db.execute(f"SELECT place FROM playlist_{macro}, k := {k})").fetchall()
        assert places == [(place + 1,) for place in range(k)]


def test_what_is_new_since_the_newest_song_is_nothing(db):
    assert db.execute("FROM playlist_new(now())").fetchall() == []


def test_all_songs_are_heard_where_more_are_asked_for_and_artists_take_turns(db):
    made = playlists.like(db, "Paper Bridge", 1_000)
    assert len({s.track_id for s in made.songs}) == len(made.songs) == 59  # one has no vector
    # Towards the end only few artists are left.
    assert nearest_repeat(list(made.songs[:30])) >= APART


def test_one_recording_in_two_files_and_one_song_in_two_editions_are_heard_once(home, tmp_path):
    songs = [{**synthetic.song(i), "path": f"{tmp_path}/{i}.flac"} for i in range(8)]
    songs[2] |= {"title": str(songs[1]["title"]).upper(), "artist": songs[1]["artist"]}
    copy = {**songs[3], "path": f"{tmp_path}/3, copied.flac"}
    synthetic.write_home(home, 8)
    synthetic.write_catalog(home, [*songs, copy])
    publish(home)
    for row in [*songs, copy]:
        Path(str(row["path"])).touch()
    with connect(home.database) as db:
        found = [s.path.name for s in playlists.like(db, synthetic.track_id(0), 50).songs]
        assert len(found) == 7
        assert len({"1.flac", "2.flac"} & set(found)) == 1
        (tmp_path / "3.flac").unlink()
        assert "3, copied.flac" in [
            s.path.name for s in playlists.like(db, synthetic.track_id(0), 50).songs
        ]


def test_songs_without_an_artist_go_by_their_folder(home, tmp_path):
    songs = [
        {**synthetic.song(i), "artist": None, "path": f"{tmp_path}/{i % 6}/{i}.flac"}
        for i in range(24)
    ]
    synthetic.write_home(home, 24)
    synthetic.write_catalog(home, songs)
    publish(home)
    for row in songs:
        path = Path(str(row["path"]))
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with connect(home.database) as db:
        made = playlists.like(db, synthetic.track_id(0), 12)
    folders = [song.path.parent for song in made.songs]
    assert all(len(set(folders[i : i + APART])) == APART for i in range(len(folders) - APART))


def test_a_song_whose_file_is_gone_makes_room_for_another_and_is_named(demo_home, db):
    _, paths = demo_home
    usual = playlists.like(db, "Paper Bridge", 6)
    gone = [usual.songs[0].path, usual.songs[2].path]
    try:
        for path in gone:
            path.unlink()
        made = playlists.like(db, "Paper Bridge", 6)
        assert sorted(made.missing) == sorted(gone)
        assert len(made.songs) == 6
        assert not {s.path for s in made.songs} & set(gone)
        for path in paths:
            path.unlink(missing_ok=True)
        with pytest.raises(UserError, match=r"none of the songs is there, .*mounted"):
            playlists.like(db, "Paper Bridge", 6)
    finally:
        for path in paths:
            path.touch()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTCONN])
def test_a_file_that_its_disk_or_folder_does_not_give_is_one_that_is_not_there(
    db, monkeypatch, number
):
    usual = playlists.like(db, "Paper Bridge", 6)
    refused = usual.songs[2].path
    of_system = os.stat

    def stat(path, *args, **options):
        if os.fspath(path) == str(refused):
            raise OSError(number, os.strerror(number), str(path))
        return of_system(path, *args, **options)

    monkeypatch.setattr(os, "stat", stat)
    made = playlists.like(db, "Paper Bridge", 6)
    assert made.missing == [refused]
    assert len(made.songs) == 6
    assert playlists.file_of(db, usual.songs[2].track_id) is None


def test_paths_are_absolute_or_relative_to_the_playlist(tmp_path):
    (tmp_path / "real" / "lists").mkdir(parents=True)
    (tmp_path / "lists").symlink_to(tmp_path / "real" / "lists")
    made = Playlist("P", [song(tmp_path / "music" / "ä b.mp3")], [])
    assert entries(playlists.m3u8(made)) == [f"{tmp_path}/music/ä b.mp3"]
    (relative,) = entries(playlists.m3u8(made, tmp_path / "lists"))
    assert relative == "../../music/ä b.mp3"


@pytest.mark.parametrize("music", ["Music", "nas/Music"])
@pytest.mark.parametrize("folder", ["Music/Lists", "nas/Music/Lists", "Lists"])
def test_a_relative_path_stays_in_the_music_folder_whatever_links_it_and_the_playlist_go_by(
    tmp_path, music, folder
):
    (tmp_path / "nas" / "Music" / "Lists").mkdir(parents=True)
    (tmp_path / "Music").symlink_to(tmp_path / "nas" / "Music")
    (tmp_path / "Lists").symlink_to(tmp_path / "Music" / "Lists")
    (tmp_path / "other").mkdir()
    (tmp_path / "Music" / "linked").symlink_to(tmp_path / "other")
    (tmp_path / "other" / "a.mp3").touch()
    made = Playlist("P", [song(tmp_path / music / "linked" / "a.mp3")], [])
    assert entries(playlists.m3u8(made, tmp_path / folder)) == ["../linked/a.mp3"]
    assert (tmp_path / folder / "../linked/a.mp3").is_file()
    assert playlists.outside(made, tmp_path / "Music") == 0
    assert playlists.outside(made, tmp_path / "nas" / "Music") == 0
    assert playlists.outside(made, tmp_path / folder) == 1


@pytest.mark.parametrize(
    "name", ["a\nb.mp3", "a\rb.mp3", "a\u2028b.mp3", "a.mp3 ", "\x1b[2J.mp3", "a\u202eb.mp3"]
)
def test_a_path_that_a_line_cannot_hold_is_written_as_an_address(tmp_path, name):
    made = Playlist("P", [song(tmp_path / name)], [])
    (line,) = entries(playlists.m3u8(made))
    address = urlparse(line)
    assert (address.scheme, unquote(address.path)) == ("file", str(tmp_path / name))
    assert entries(playlists.m3u8(made, tmp_path)) == [line]


@pytest.mark.parametrize("name", ["#1 hit.mp3", " a.mp3", "http:/x.mp3", "http://x.mp3"])
def test_a_relative_path_is_taken_neither_for_a_comment_nor_for_an_address(tmp_path, name):
    made = Playlist("P", [song(tmp_path / name)], [])
    (line,) = playlists.m3u8(made, tmp_path).splitlines()[3:]
    assert line in ("./#1 hit.mp3", "./ a.mp3", "http:/x.mp3")
    assert tmp_path / line == tmp_path / name, "and stays where both are moved together"


def test_a_path_that_is_not_utf8_is_an_address_or_where_it_is_relative_its_own_bytes(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9 \xc3\xbc.mp3")
    made = Playlist("P", [song(path)], [])
    target = tmp_path / "p.m3u8"
    playlists.write(made, target)
    address = target.read_text(encoding="ascii").splitlines()[-1]
    assert unquote_to_bytes(address.removeprefix("file://")) == os.fsencode(path)
    playlists.write(made, target, relative=True)
    assert target.read_bytes().splitlines()[-1] == b"caf\xe9 \xc3\xbc.mp3"


def test_tags_stay_in_their_line_and_say_who_plays_for_how_long():
    wild = song("/m/a.mp3", title="A\nhttp://evil.example/\x1b[31m", artist="Me\r\nYou")
    unknown = song("/m/b.mp3", artist=None, duration_s=None)
    lines = playlists.m3u8(Playlist("Two\nlines", [wild, unknown], [])).splitlines()
    assert lines == [
        "#EXTM3U", "#PLAYLIST:Two lines",
        "#EXTINF:2,Me You - A http://evil.example/ [31m", "/m/a.mp3",
        "#EXTINF:-1,T", "/m/b.mp3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("Like AC/DC: live?", "Like AC_DC_ live_.m3u8"),
        ("../../etc/passwd", "_.._etc_passwd.m3u8"),
        ("...", "playlist.m3u8"),
        ("ä" * 300, "ä" * 100 + ".m3u8"),
    ],
)
def test_a_playlists_file_is_called_after_it_on_any_file_system(name, file):
    assert playlists.file_name(Playlist(name, [], [])) == file


def test_a_playlist_replaces_a_playlist_and_nothing_else(tmp_path):
    made = Playlist("P", [song("/m/a.mp3")], [])
    target = tmp_path / "p.m3u8"
    playlists.write(made, target)
    playlists.write(made, target)
    assert target.read_text(encoding="utf-8") == playlists.m3u8(made)
    target.write_text("dear diary")
    with pytest.raises(UserError, match=re.escape(str(target))):
        playlists.write(made, target)
    assert target.read_text() == "dear diary"
    with pytest.raises(UserError, match="cannot write"):
        playlists.write(made, tmp_path)


def test_a_player_opens_every_entry(library, home, tmp_path):
    ingestion.run(home, [library])
    catalogued = [row for row in _catalogue(home) if row["track_id"]]
    numbers = {t: i for i, t in enumerate(sorted({row["track_id"] for row in catalogued}))}
    synthetic.write_home(home, len(numbers))
    # The vectors are those of made-up songs, so the songs are given their numbers.
    synthetic.write_catalog(
        home,
        [row | {"track_id": synthetic.track_id(numbers[row["track_id"]])} for row in catalogued],
    )
    publish(home)
    with connect(home.database) as db:
        made = playlists.like(db, "Paper Bridge", 50)
    target = tmp_path / "lists" / "all.m3u8"
    playlists.write(made, target, relative=True)
    found = entries(target.read_text(encoding="utf-8"))
    assert len(found) == len(numbers)
    for entry in found:
        with av.open(str(target.parent / entry)) as container:
            assert next(container.decode(audio=0)).samples


def _catalogue(home: Home) -> list[dict[str, object]]:
    from fastdino.ingestion import catalog

    return catalog.read(home).to_dicts()
