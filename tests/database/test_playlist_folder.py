"""A folder of playlists: what is in it after a night, what stays, and what is never touched."""

import contextlib
import datetime
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote_to_bytes

import av
import cue_album
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import synthetic

from fastdino import ingestion, reports
from fastdino.__main__ import main
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.paths import to_text
from fastdino.core.summary import Summary
from fastdino.database import playlist_folder, publish
from fastdino.database.connection import connect
from fastdino.ingestion import catalog, scan
from fastdino.steps import Playlists

TODAY = datetime.date(2025, 6, 1)
OLD = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
NEW, SURPRISE = "New this week.m3u8", "Surprise of the day.m3u8"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where playlists go."""
    (tmp_path / "lists").mkdir()
    return tmp_path / "lists"


def row(i: int, music: Path, **other: object) -> dict[str, object]:
    """A song as the catalogue has it, in a file that is there."""
    path = other.pop("path", music / f"{i % 3}" / f"{i}.flac")
    made_up = synthetic.song(i) | {"folder": str(music), "added_at": OLD, "path": to_text(path)}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).touch()
    return made_up | other


def publish_songs(home: Home, songs: list[dict[str, object]], *, draw: bool = False) -> None:
    """Let the home be one that holds these songs, published, and before that drawn if asked for."""
    numbers = [int(str(song["track_id"]), 16) for song in songs]
    synthetic.write_catalog(home, songs)
    synthetic.write_model(home)
    shutil.rmtree(home.vectors(synthetic.MODEL_ID), ignore_errors=True)
    synthetic.write_vectors(home, numbers)
    if draw:
        reports.draw_map(home)
    publish(home)


def update(home: Home, folder: Path, **options: object) -> Summary:
    usual = {"paths": "absolute", "songs": 20, "leave_out": (), "today": TODAY}
    return playlist_folder.update(home, folder, **{**usual, **options})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def written(folder: Path) -> dict[str, tuple[int, int]]:
    """What changes when a file is written, though it be the same."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.iterdir()}


def entries(path: Path) -> list[str]:
    """What a player reads of a playlist: lines that are no comments."""
    lines = os.fsdecode(path.read_bytes()).split("\n")
    assert lines[0] == "#EXTM3U"
    return [line for line in lines if line and not line.startswith("#")]


def resolved(playlist: Path, entry: str) -> Path:
    """The file that an entry means, as the format says."""
    if entry.startswith("file://"):
        return Path(os.fsdecode(unquote_to_bytes(entry.removeprefix("file://"))))
    return playlist.parent / entry


def cluster_names(home: Home) -> list[str]:
    with connect(home.database) as db:
        return [n for (n,) in db.execute("SELECT name FROM current_clusters").fetchall()]


def test_two_nights_leave_exactly_the_files_that_should_be_there(home, folder, tmp_path) -> None:
    music = tmp_path / "music"
    songs = [row(i, music) for i in range(48)]
    publish_songs(home, songs, draw=True)
    first = update(home, folder)
    assert first.did_work
    clusters = {f"{name}.m3u8" for name in cluster_names(home)}
    assert len(clusters) >= 3
    assert set(contents(folder)) == clusters | {SURPRISE}
    before, untouched = contents(folder), written(folder)
    assert not update(home, folder).did_work
    assert written(folder) == untouched
    # The second night: one removed, one moved, one new.
    gone, moved = songs[0], songs[1]
    Path(str(gone["path"])).unlink()
    Path(str(moved["path"])).rename(music / "moved.flac")
    new = row(48, music, added_at=datetime.datetime(2025, 5, 30, tzinfo=datetime.UTC))
    publish_songs(home, [row(1, music, path=music / "moved.flac"), *songs[2:], new], draw=True)
    summary = update(home, folder)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    update(home, fresh)
    assert contents(folder) == contents(fresh)
    assert summary.counts["new"] == 1
    after = contents(folder)
    assert set(after) == {f"{name}.m3u8" for name in cluster_names(home)} | {SURPRISE, NEW}
    every = {line for path in folder.iterdir() for line in entries(path)}
    assert not {gone["path"], moved["path"]} & every
    assert {str(music / "moved.flac"), str(new["path"])} <= every
    same = {name for name in after if after[name] == before.get(name)}
    assert same
    assert {name: written(folder)[name] for name in same} == {n: untouched[n] for n in same}


def test_a_player_opens_every_entry_absolute_relative_or_moved_elsewhere(
    library, home, folder, tmp_path
) -> None:
    copy = tmp_path / "elsewhere" / "music"
    shutil.copytree(library, copy)
    ingestion.run(home, [library])
    found = [each for each in catalog.read(home).to_dicts() if each["track_id"]]
    ids = {t: i for i, t in enumerate(sorted({each["track_id"] for each in found}))}
    numbered = [each | {"track_id": synthetic.track_id(ids[each["track_id"]])} for each in found]
    publish_songs(home, numbered, draw=True)
    for paths in ("absolute", "relative", f"{library}={copy}"):
        update(home, folder, paths=paths, today=datetime.date.today())
        opened = 0
        for playlist in folder.iterdir():
            for entry in entries(playlist):
                assert Path(entry).is_absolute() == (paths != "relative")
                path = resolved(playlist, entry)
                assert path.resolve().is_relative_to(copy if "=" in paths else library)
                with av.open(str(path)) as container:
                    assert next(container.decode(audio=0)).samples
                opened += 1
        assert opened >= 2 * len(ids)


def test_files_of_others_are_never_replaced_or_removed(home, folder, tmp_path) -> None:
    publish_songs(home, [row(i, tmp_path / "music") for i in range(48)], draw=True)
    name, other, third, *_ = sorted(cluster_names(home))
    taken = folder / f"{name}.m3u8"
    taken.write_text("#EXTM3U\n/my/own.flac\n")
    (folder / f"{other}.m3u8").mkdir()
    os.mkfifo(folder / f"{third}.m3u8")
    (folder / "mine.m3u8").write_text("#EXTM3U\n")
    (folder / "notes.txt").write_text("#EXTM3U\n" + playlist_folder.MARK)
    summary = update(home, folder)
    assert len(summary.warnings) == 3
    assert sum(str(taken) in warning for warning in summary.warnings) == 1
    assert taken.read_text() == "#EXTM3U\n/my/own.flac\n"
    assert (folder / "mine.m3u8").exists()
    assert (folder / "notes.txt").exists()
    # Who takes the line out, has a file of their own.
    surprise = folder / SURPRISE
    mine = surprise.read_text().replace(playlist_folder.MARK + "\n", "")
    surprise.write_text(mine)
    (warning,) = set(update(home, folder).warnings) - set(summary.warnings)
    assert SURPRISE in warning
    assert surprise.read_text() == mine


def test_what_a_killed_run_had_begun_is_taken_away_and_what_others_begin_is_not(
    home, folder, tmp_path
) -> None:
    publish_songs(home, [row(i, tmp_path / "music") for i in range(12)])
    begun = folder / f".{SURPRISE}.0123abcd.part"
    others = [folder / ".song.flac.0123abcd.part", folder / ".x.m3u8.part"]
    for path in (begun, *others):
        path.write_text("half")
    update(home, folder)
    assert not begun.exists()
    assert all(path.exists() for path in others)


def test_names_of_any_kind_stay_inside_the_folder_and_inside_their_line(
    home, folder, tmp_path
) -> None:
    hostile = "A\n#EXTINF:1,x\n/etc/passwd"
    odd = tmp_path / "music" / "new\nline #EXTINF.flac"
    songs = [row(i, tmp_path / "music", genre=f"../{'ab'[i % 2]}/C\n#x") for i in range(24)]
    songs[3] = row(3, tmp_path / "music", title=hostile, artist="Me\r\n/etc/shadow", path=odd)
    publish_songs(home, songs, draw=True)
    update(home, folder, songs=100)
    assert not list(tmp_path.glob("*.m3u8"))
    paths = {str(Path(str(song["path"]))) for song in songs} - {str(odd)} | {odd.as_uri()}
    for playlist in folder.iterdir():
        assert set(entries(playlist)) <= paths
    assert odd.as_uri() in entries(folder / SURPRISE)


def test_no_two_playlists_share_a_file_whatever_letters_are_one_to_a_file_system(
    home, folder, tmp_path
) -> None:
    publish_songs(home, [row(i, tmp_path / "music") for i in range(48)], draw=True)
    names = iter(["AC/DC", "ac_dc", "new this week", "x"])
    clusters = [next(names, None) or f"other {i}" for i in range(len(cluster_names(home)))]
    folder_of_map = next(home.maps(synthetic.MODEL_ID).glob("*/clusters.parquet"))
    table = pl.read_parquet(folder_of_map).sort("cluster_id")
    table.with_columns(name=pl.Series(clusters)).write_parquet(folder_of_map)
    publish(home)
    update(home, folder)
    expected = {"AC_DC.m3u8", "ac_dc (2).m3u8", "new this week (2).m3u8", SURPRISE}
    assert expected <= set(contents(folder))


@pytest.mark.parametrize("paths", ["relative", "mapped"])
def test_songs_are_named_as_they_are_known_where_they_are_played(
    home, folder, tmp_path, paths
) -> None:
    one, two = tmp_path / "one", tmp_path / "one" / "two"
    songs = [row(i, one if i % 2 else two) for i in range(12)]
    bytes_only = two / os.fsdecode(b"caf\xe9.flac")
    songs[4] = row(4, two, path=bytes_only)
    publish_songs(home, songs)
    how = {"relative": "relative", "mapped": f"{one}=/music:{two}=/more"}
    summary = update(home, folder, paths=how[paths], songs=12)
    assert not summary.warnings
    found = set(entries(folder / SURPRISE))
    assert len(found) == 12
    if paths == "relative":
        assert {f"../one/two/{2 % 3}/2.flac", os.fsdecode(b"../one/two/caf\xe9.flac")} <= found
    else:
        assert {"/music/0/3.flac", "/more/2/2.flac", "file:///more/caf%E9.flac"} <= found


def test_songs_that_no_prefix_covers_are_named_as_here_and_told(home, folder, tmp_path) -> None:
    publish_songs(home, [row(i, tmp_path / "music") for i in range(6)])
    (warning,) = update(home, folder, paths="/elsewhere=/music").warnings
    assert "6 songs are in no folder that FASTDINO_PLAYLISTS_PATHS names" in warning
    assert str(tmp_path / "music" / "0" / "3.flac") in entries(folder / SURPRISE)


def test_what_is_left_out_is_on_no_playlist(home, folder, tmp_path) -> None:
    music = tmp_path / "music"
    songs = [row(i, music) for i in range(18)]
    # A copy elsewhere does not bring it back.
    songs.append(row(2, music, path=music / "copy.flac"))
    publish_songs(home, songs)
    for given in (str(music / "2"), "2", "*/2/*", "2/*.FLAC"):
        update(home, folder, leave_out=(given,), songs=100)
        found = {line for path in folder.iterdir() for line in entries(path)}
        assert {Path(line).parent.name for line in found} == {"0", "1"}, given
    update(home, folder, leave_out=(str(music),))
    assert contents(folder) == {}


def test_songs_of_an_album_in_one_file_are_left_out_and_counted(home, folder, tmp_path) -> None:
    music = tmp_path / "music"
    cue_album.write(music / "album.flac")
    (music / "album.cue").write_text(cue_album.SHEET)
    ingestion.run(home, [music])
    album = catalog.read(home)
    assert len(catalog.track_ids(album)) == 3
    publish_songs(home, [row(i, music) for i in range(6)])
    catalog.write(home, pl.concat([album, catalog.read(home)]).sort("path"))
    synthetic.write_vectors(home, [6], shard=2)
    vectors = home.vectors(synthetic.MODEL_ID) / "spectrograms-000002.parquet"
    table = pq.read_table(vectors)
    ids = pa.array([sorted(catalog.track_ids(album))[0]] * len(table), pa.string())
    pq.write_table(table.set_column(0, "track_id", ids), vectors)
    publish(home)
    summary = update(home, folder)
    assert summary.counts["songs_of_one_file"] == 3
    assert "3 songs of albums in one file are left out" in summary.headline
    assert str(music / "album.flac") not in entries(folder / SURPRISE)


def test_what_is_new_is_what_was_first_seen_within_a_week_and_its_like(
    home, folder, tmp_path
) -> None:
    music = tmp_path / "music"
    seen = datetime.datetime(2025, 5, 28, tzinfo=datetime.UTC)
    songs = [row(i, music, **({"added_at": seen} if i in (7, 8) else {})) for i in range(48)]
    publish_songs(home, songs, draw=True)
    update(home, folder)
    found = entries(folder / NEW)
    assert len(found) == 20
    assert found[0] == songs[7]["path"]
    assert found[10] == songs[8]["path"]
    with connect(home.database) as db:
        like = "SELECT path FROM similar_to(?, 20)"
        near = {path for (path,) in db.execute(like, [songs[7]["track_id"]]).fetchall()}
        assert db.execute("SELECT count(*) FROM songs WHERE added_at = ?", [seen]).fetchall() == [
            (2,)
        ]
    assert set(found[1:10]) <= near
    update(home, folder, today=TODAY + datetime.timedelta(days=7))
    assert NEW not in contents(folder)


def test_the_surprise_is_the_days(home, folder, tmp_path) -> None:
    publish_songs(home, [row(i, tmp_path / "music") for i in range(48)])
    days = [TODAY + datetime.timedelta(days=n) for n in range(4)]
    texts = []
    for day in days:
        update(home, folder, today=day)
        texts.append(entries(folder / SURPRISE))
    assert len({tuple(text) for text in texts}) == 4
    update(home, folder, today=days[0])
    assert entries(folder / SURPRISE) == texts[0]


def test_a_folder_that_is_no_good_is_one_line_and_what_lies_there_stays(
    home, folder, tmp_path
) -> None:
    music = tmp_path / "music"
    publish_songs(home, [row(i, music) for i in range(6)])
    (tmp_path / "file").touch()
    for bad, told in (
        (tmp_path / "gone", "is not there: make it, or mount its disk"),
        (tmp_path / "file", "is no folder"),
        (music, "is one of your music, which is only read"),
        (music / "1", "is one of your music"),
        (Path("/proc/self/mem/x"), "folder for playlists"),
    ):
        with pytest.raises(UserError, match=told) as raised:
            update(home, bad)
        assert str(bad) in str(raised.value)
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "gone").exists()
    for path in music.rglob("*.flac"):
        path.rename(path.with_suffix(".away"))
    update_before = contents(folder)
    with pytest.raises(UserError, match="is the disk mounted"):
        update(home, folder)
    assert contents(folder) == update_before


def test_a_playlist_none_of_whose_songs_is_there_is_told_and_stops_no_other(
    home, folder, tmp_path
) -> None:
    seen = datetime.datetime(2025, 5, 28, tzinfo=datetime.UTC)
    songs = [row(i, tmp_path / "music") for i in range(48)]
    songs[0] |= {"added_at": seen}
    publish_songs(home, songs, draw=True)
    update(home, folder)
    before = contents(folder)
    with connect(home.database) as db:
        query = "SELECT cluster, list(path) FROM songs WHERE cluster IS NOT NULL GROUP BY cluster"
        of_cluster = dict(db.execute(query).fetchall())
    name = next(name for name, paths in of_cluster.items() if songs[0]["path"] in paths)
    gone = [Path(path) for path in of_cluster[name]]
    for path in gone:
        path.unlink()
    summary = update(home, folder)
    assert set(contents(folder)) == set(before) - {f"{name}.m3u8", NEW}
    (warning,) = summary.warnings
    assert f"{len(gone)} songs are not there" in warning
    for path in gone:
        path.touch()
    update(home, folder)
    assert contents(folder) == before


def test_a_folder_of_its_own_within_the_music_is_used_and_not_taken_for_music(
    home, tmp_path
) -> None:
    music = tmp_path / "music"
    publish_songs(home, [row(i, music) for i in range(6)])
    before = scan.scan([music]).files
    (music / "Playlists").mkdir()
    update(home, music / "Playlists", paths="relative")
    assert "../1/1.flac" in entries(music / "Playlists" / SURPRISE)
    after = scan.scan([music])
    assert after.files.equals(before)
    assert after.skipped.is_empty()


def test_a_disk_that_is_full_or_read_only_is_one_line_and_yesterdays_lists_stay(
    home, tmp_path, disk: Callable[[str], Path]
) -> None:
    music = tmp_path / "music"
    publish_songs(home, [row(i, music) for i in range(24)])
    mounted = disk("size=64k")
    update(home, mounted, songs=5)
    before = contents(mounted)
    disk("size=64k,ro")
    with pytest.raises(UserError, match="Read-only file system"):
        update(home, mounted, songs=6)
    assert not update(home, mounted, songs=5).did_work  # there is nothing to write
    disk("size=64k,rw")
    with contextlib.suppress(OSError):
        (mounted / "full").write_bytes(bytes(65_536))
    with pytest.raises(UserError, match="No space left on device") as raised:
        update(home, mounted, songs=6)
    assert str(mounted) in str(raised.value)
    (mounted / "full").unlink()
    assert contents(mounted) == before


def test_a_database_of_before_is_one_line(home, folder, tmp_path) -> None:
    import duckdb

    new = datetime.datetime(2025, 5, 30, tzinfo=datetime.UTC)
    publish_songs(home, [row(i, tmp_path / "music", added_at=new) for i in range(6)])
    with duckdb.connect(str(home.database)) as db:
        db.execute("DROP MACRO TABLE playlist_new")
    with pytest.raises(UserError, match="of another version"):
        update(home, folder)


def test_where_no_folder_is_named_there_is_nothing_to_do(
    home, folder, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.delenv("FASTDINO_PLAYLISTS", raising=False)
    assert Playlists().run(home) is None
    assert main(["--home", str(home.root), "playlists"]) == 2
    assert "set FASTDINO_PLAYLISTS" in capsys.readouterr().err
    publish_songs(home, [row(i, tmp_path / "music") for i in range(6)])
    monkeypatch.setenv("FASTDINO_PLAYLISTS", str(folder))
    options = ["--paths", "relative", "--songs", "2", "--leave-out", "1", "--leave-out", "x"]
    assert main(["--home", str(home.root), "playlists", *options]) == 0
    assert len(entries(folder / SURPRISE)) == 2
    assert "playlists" in capsys.readouterr().out


@pytest.mark.thorough
def test_a_real_player_reads_the_folder(library, home, folder, tmp_path) -> None:
    if not shutil.which("ffprobe"):
        pytest.skip("needs ffprobe: apt install ffmpeg")
    ingestion.run(home, [library])
    found = [each for each in catalog.read(home).to_dicts() if each["track_id"]]
    ids = {t: i for i, t in enumerate(sorted({each["track_id"] for each in found}))}
    publish_songs(
        home,
        [each | {"track_id": synthetic.track_id(ids[each["track_id"]])} for each in found],
        draw=True,
    )
    update(home, folder, paths="relative")
    for playlist in folder.iterdir():
        for entry in entries(playlist):
            command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", entry]
            done = subprocess.run(command, cwd=playlist.parent, capture_output=True, text=True)
            assert "duration=" in done.stdout, done.stderr
