import dataclasses
import os
import random
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fastdino import demo, ingestion
from fastdino.core import paths
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.ingestion import aliases, catalog, diff, scan, skipped, stage
from fastdino.ingestion.so_far import SoFar
from fastdino.steps import music_folders
from tests.editing import retag

SONGS = 12  # in the small library, beside one copy and one damaged file


def changes(summary: ingestion.Summary) -> list[tuple[object, ...]]:
    """(kind, file name, old file name) of every change."""
    rows = pl.DataFrame(summary.tables["changes"], schema=dict.fromkeys(diff.CHANGES, pl.String))
    names = (pl.col(column).str.split("/").list.last() for column in ("path", "old_path"))
    return rows.select("kind", *names).rows()


def song(folder: Path, suffix: str) -> Path:
    return next(p for p in sorted(folder.rglob(f"*{suffix}")) if p.parent.name != "Unsorted")


def test_a_library_is_catalogued_once_and_then_left_alone(library: Path, home: Home) -> None:
    first = ingestion.run(home, [library])
    assert first.did_work
    assert first.headline == (
        f"{SONGS} songs in {SONGS + 2} files: {SONGS} new, 1 duplicate, 1 unreadable"
    )
    files = catalog.read(home)
    assert files.schema == catalog.SCHEMA
    assert files["path"].is_sorted()
    assert len(catalog.tracks(files)) == SONGS
    (unreadable,) = first.tables["unreadable"]
    assert str(unreadable["path"]).endswith("broken download.m4a")
    assert unreadable["error"]
    written = home.catalog.stat()

    second = ingestion.run(home, [library])
    assert not second.did_work
    assert second.tables["changes"] == []
    assert second.headline == (
        f"{SONGS} songs in {SONGS + 2} files: {SONGS + 1} unchanged, 1 unreadable"
    )
    assert home.catalog.stat().st_ino == written.st_ino
    assert home.catalog.stat().st_mtime_ns == written.st_mtime_ns


def test_every_kind_of_change_is_told_apart_and_nothing_else_is_opened(
    music: Path, home: Home, opened: list[str]
) -> None:
    ingestion.run(home, [music])
    before = catalog.read(home)
    opened.clear()
    song(music, ".m4a").rename(music / "moved.m4a")
    shutil.copy(song(music, ".ogg"), music / "copied.ogg")
    song(music, ".mp3").unlink()
    retag(song(music, ".flac"), music / "part", {"title": "Another title"})
    os.replace(music / "part", song(music, ".flac"))
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 20_000)).astype(np.float32)
    demo.encode(music / "fresh.mp3", noise, demo.RATE, {"title": "Fresh"})

    summary = ingestion.run(home, [music])
    found = changes(summary)
    kinds = [kind for kind, *_ in found]
    assert kinds == ["new", "moved", "duplicate", "retagged", "removed"]
    assert found[0] == ("new", "fresh.mp3", None)
    assert found[1][:2] == ("moved", "moved.m4a")
    assert found[2] == ("duplicate", "copied.ogg", None)
    names = {"fresh.mp3", "moved.m4a", "copied.ogg", song(music, ".flac").name}
    assert set(opened) == names
    same = pl.col("path").str.contains(r"\.(wav|opus)$")
    assert catalog.read(home).filter(same).equals(before.filter(same))
    opened.clear()
    assert not ingestion.run(home, [music]).did_work
    assert opened == []


def test_a_tag_changed_with_the_time_put_back_is_seen(music: Path, home: Home) -> None:
    path = song(music, ".flac")
    ingestion.run(home, [music])
    status = path.stat()
    content = path.read_bytes()
    at = content.lower().index(b"title=") + len(b"title=")
    path.write_bytes(content[:at] + content[at : at + 1].swapcase() + content[at + 1 :])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    summary = ingestion.run(home, [music])
    assert [kind for kind, *_ in changes(summary)] == ["retagged"]


def test_a_rescan_reads_all_files_anew_and_changes_nothing_that_is_so_still(
    music: Path, home: Home
) -> None:
    ingestion.run(home, [music])
    right = catalog.read(home)
    # As if a title had been read wrongly, or changed where nothing shows it.
    catalog.write(home, right.with_columns(title=pl.lit("wrong")))
    assert not ingestion.run(home, [music]).did_work
    assert ingestion.run(home, [music], rescan=True).did_work
    assert catalog.read(home).equals(right)
    assert not ingestion.run(home, [music], rescan=True).did_work


def test_moved_songs_keep_the_day_they_were_first_seen_and_copies_do_not(
    music: Path, home: Home
) -> None:
    ingestion.run(home, [music])
    before = catalog.read(home)
    moved = music.rename(music.with_name("renamed"))
    copied = moved / "copied.flac"
    shutil.copy(song(moved, ".flac"), copied)
    ingestion.run(home, [moved])
    after = catalog.read(home)
    days = dict(before.select("path", "added_at").rows())
    for path, day in after.filter(pl.col("error").is_null()).select("path", "added_at").rows():
        old = path.replace(str(moved), str(music), 1)
        assert (day == days[old]) if path != str(copied) else (day > max(days.values()))
    tracks = {home: catalog.tracks(files) for home, files in ((0, before), (1, after))}
    columns = ["track_id", "added_at"]
    assert tracks[0].select(columns).equals(tracks[1].select(columns))


def test_a_path_keeps_the_day_it_was_first_seen(music: Path, home: Home) -> None:
    ingestion.run(home, [music])
    before = catalog.read(home)
    path = song(music, ".wav")
    path.write_bytes(song(music, ".flac").read_bytes())
    ingestion.run(home, [music])
    after = catalog.read(home)
    assert after["added_at"].equals(before["added_at"])
    assert after.filter(path=str(path))["codec"].item() == "flac"


@pytest.mark.parametrize("what", ["gone", "empty"])
def test_a_folder_that_disappears_between_runs_changes_nothing(
    what: str, music: Path, home: Home
) -> None:
    ingestion.run(home, [music])
    content = home.catalog.read_bytes()
    shutil.rmtree(music)
    if what == "empty":
        music.mkdir()
    with pytest.raises(UserError, match=rf"{music}.*Nothing was changed"):
        ingestion.run(home, [music])
    assert home.catalog.read_bytes() == content


def test_a_missing_folder_leaves_no_catalogue_behind(tmp_path: Path, home: Home) -> None:
    with pytest.raises(UserError, match="nowhere"):
        ingestion.run(home, [tmp_path / "nowhere"])
    assert not home.catalog.exists()


def test_bad_files_are_rows_and_the_good_ones_do_not_suffer(music: Path, home: Home) -> None:
    rng = random.Random(4)
    whole = song(music, ".mp3").read_bytes()
    bad = {
        "empty.mp3": b"",
        "noise.mp3": rng.randbytes(200_000),
        "noise.flac": rng.randbytes(200_000),
        "text.mp3": b"a letter, not a song\n" * 1000,
        "dots.wav": b"." * 10,
    }
    for name, content in bad.items():
        (music / name).write_bytes(content)
    (music / "dangling.ogg").symlink_to(music / "nothing")
    (music / "circle").symlink_to(music)
    (music / "folder.mp3").mkdir()
    os.mkfifo(music / "pipe.wav")
    (music / "truncated.mp3").write_bytes(whole[: len(whole) // 3])
    (music / "🎵 odd\nname.mp3").write_bytes(whole)

    summary = ingestion.run(home, [music])
    files = catalog.read(home)
    errors = dict(files.drop_nulls("error").select("path", "error").iter_rows())
    names = {Path(path).name for path in errors}
    assert names == {*bad, "dangling.ogg", "pipe.wav", "broken download.m4a"}
    assert summary.counts["songs"] == SONGS + 1, "the truncated one is a track of its own"
    assert files.filter(path=str(music / "🎵 odd\nname.mp3"))["track_id"].item()
    assert files.filter(pl.col("error").is_null() == pl.col("track_id").is_null()).is_empty()
    assert not ingestion.run(home, [music]).did_work


def test_a_folder_with_nothing_usable_is_catalogued_with_a_warning(
    tmp_path: Path, home: Home
) -> None:
    (tmp_path / "music").mkdir()
    (tmp_path / "music/empty.mp3").touch()
    summary = ingestion.run(home, [tmp_path / "music"])
    assert summary.headline == "0 songs in 1 file: 1 unreadable"
    assert any("none of the files" in warning for warning in summary.warnings)


def test_the_folders_given_are_the_collection(music: Path, home: Home, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(song(music, ".wav"), other / "copy.wav")
    ingestion.run(home, [music])
    both = ingestion.run(home, [music, other])
    assert changes(both) == [("duplicate", "copy.wav", None)]
    assert not both.warnings
    one = ingestion.run(home, [other])
    assert one.counts["files"] == 1
    assert one.counts["removed"] == SONGS + 2
    assert any(str(music) in warning for warning in one.warnings)


def test_the_same_files_through_an_outer_folder_are_no_change(music: Path, home: Home) -> None:
    inner = music / demo.ARTISTS[0].name
    ingestion.run(home, [inner])
    summary = ingestion.run(home, [music, inner])
    assert not summary.warnings
    assert summary.counts["touched"] == 3, "only the folder they count under is another"
    assert catalog.read(home)["folder"].unique().to_list() == [str(music)]


def test_a_folder_that_was_renamed_or_is_given_by_another_name_does_not_count_as_left_out(
    music: Path, home: Home, tmp_path: Path
) -> None:
    ingestion.run(home, [music])
    inner = ingestion.run(home, [folder for folder in music.iterdir() if folder.is_dir()])
    assert not inner.warnings
    moved = music.rename(tmp_path / "another disk")
    summary = ingestion.run(home, [moved])
    assert summary.counts["moved"] == SONGS + 1
    assert not summary.warnings


def test_what_a_locked_folder_holds_is_kept(music: Path, home: Home) -> None:
    others = (aliases.SCHEMA.to_frame(), SoFar(home, rescan=False))
    before = stage.look(catalog.SCHEMA.to_frame(), scan.scan([music]), *others)
    locked = str(music / demo.ARTISTS[0].name)
    listing = scan.scan([music])
    hidden = pl.col("path").str.starts_with(locked)
    listing = dataclasses.replace(listing, files=listing.files.filter(~hidden), unlisted=(locked,))
    assert stage.look(before, listing, *others).equals(before)


@pytest.mark.parametrize("what", ["gone", "in a circle", "a file"])
def test_what_lies_behind_a_link_that_leads_nowhere_is_kept_and_told(
    what: str, music: Path, home: Home, tmp_path: Path
) -> None:
    disk = (music / demo.ARTISTS[0].name).rename(tmp_path / "disk")
    link = music / "usb"
    link.symlink_to(disk)
    ingestion.run(home, [music])
    before = catalog.read(home).filter(pl.col("error").is_null())
    disk.rename(tmp_path / "away")
    if what == "in a circle":
        disk.symlink_to(link)
    elif what == "a file":
        disk.touch()
    summary = ingestion.run(home, [music])
    kept = catalog.read(home).filter(pl.col("error").is_null())
    if what == "a file":  # then that is what is there now
        assert summary.counts["removed"] == 3
        return
    assert kept.equals(before)
    assert summary.counts["removed"] == 0
    assert summary.warnings == [f"{link} cannot be read: what the catalogue knows of it was kept"]
    assert not ingestion.run(home, [music]).did_work
    # Whoever takes the link away means it; another that leads nowhere never held music.
    link.rename(music / "other")
    assert ingestion.run(home, [music]).counts["removed"] == 4
    assert not any("cannot be read" in text for text in ingestion.run(home, [music]).warnings)


def test_a_catalogue_that_is_damaged_is_named(music: Path, home: Home) -> None:
    home.catalog.parent.mkdir(parents=True)
    home.catalog.write_bytes(b"not parquet")
    with pytest.raises(UserError, match=r"files\.parquet is damaged"):
        ingestion.run(home, [music])


def test_half_a_collection_gone_is_believed_but_said_aloud(music: Path, home: Home) -> None:
    ingestion.run(home, [music])
    for artist in demo.ARTISTS[:3]:
        shutil.rmtree(music / artist.name)
    summary = ingestion.run(home, [music])
    assert summary.counts["removed"] == 9
    assert any("9 of 14 files are gone" in warning for warning in summary.warnings)


def test_what_was_left_out_is_told_kept_and_written_only_when_it_changes(
    music: Path, home: Home
) -> None:
    ingestion.run(home, [music])
    assert not home.skipped.exists()
    for number in range(1_000):
        (music / f"cover {number}.jpg").touch()
    for name in ("a.mid", "b.mid", "c.xyz"):
        (music / name).touch()
    for folder in ("#recycle", "a/@eaDir", "b/@eaDir"):
        (music / folder).mkdir(parents=True)
        shutil.copy(song(music, ".wav"), music / folder / "deleted.wav")
    summary = ingestion.run(home, [music])
    assert summary.did_work
    assert summary.headline.endswith(
        "1 unreadable; 3 files not looked at: 2 .mid, 1 .xyz; 3 folders skipped: @eaDir, #recycle"
    )
    assert (summary.counts["skipped"], summary.counts["companions"]) == (6, 1_000)
    assert [row["path"] for row in summary.tables["skipped"]][:2] == [
        f"{music}/#recycle", f"{music}/a.mid",
    ]  # fmt: skip
    assert len(skipped.read(home)) == 6
    assert skipped.read(home).schema == skipped.SCHEMA
    written = home.skipped.stat()

    again = ingestion.run(home, [music])
    assert not again.did_work
    assert again.headline.endswith("@eaDir, #recycle")
    assert home.skipped.stat().st_ino == written.st_ino

    home.skipped.write_bytes(b"not parquet")
    with pytest.raises(UserError, match=r"skipped\.parquet is damaged"):
        skipped.read(home)
    assert ingestion.run(home, [music]).did_work
    assert len(skipped.read(home)) == 6
    for name in ("a.mid", "b.mid", "c.xyz", "#recycle", "a", "b"):
        path = music / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert ingestion.run(home, [music]).did_work
    assert skipped.read(home).is_empty()
    assert not ingestion.run(home, [music]).did_work


def test_what_a_locked_folder_left_out_is_kept(ordinary_user: Path) -> None:
    (ordinary_user / "music/locked/#recycle").mkdir(parents=True)
    (ordinary_user / "music/empty.mp3").touch()
    home = Home(ordinary_user / "home")
    ingestion.run(home, [ordinary_user / "music"])
    before = skipped.read(home)
    (ordinary_user / "music/locked").chmod(0)
    assert ingestion.run(home, [ordinary_user / "music"]).counts["skipped"] == 1
    (ordinary_user / "music/locked").chmod(0o700)
    assert skipped.read(home).equals(before)


def test_excluded_songs_leave_the_catalogue_and_come_back(music: Path, home: Home) -> None:
    ingestion.run(home, [music])
    artist = demo.ARTISTS[0].name
    summary = ingestion.run(home, [music], [f"*/{artist.upper()}/*", "*.opus"])
    assert summary.counts["removed"] == 5
    assert summary.headline.endswith(f"; 2 excluded; 1 folder skipped: {artist}")
    assert not ingestion.run(home, [music], [f"*/{artist.upper()}/*", "*.opus"]).did_work
    assert ingestion.run(home, [music]).counts["songs"] == SONGS


def test_songs_that_come_back_are_as_old_as_they_were_wherever_they_lie_then(
    music: Path, home: Home
) -> None:
    def days() -> dict[str, object]:
        tracks = catalog.tracks(catalog.read(home))
        return dict(tracks.select("track_id", "added_at").rows())

    ingestion.run(home, [music])
    before = days()
    folder = music / demo.ARTISTS[0].name
    for name in ("elsewhere", "and back"):
        ingestion.run(home, [music], [f"*/{folder.name}/*"])
        # Another run, which has nothing to do with them.
        os.utime(song(music, ".wav"))
        ingestion.run(home, [music], [f"*/{folder.name}/*"])
        assert 0 < len(days()) < SONGS
        folder = folder.rename(music / name)
        ingestion.run(home, [music])
        assert days() == before


def test_names_in_any_bytes_are_songs(music: Path, home: Home) -> None:
    odd = music / os.fsdecode(b"caf\xe9")
    try:
        odd.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    names = [os.fsdecode(b"f\xfcr Elise.mp3"), "\U0010fee9.mp3", "ü.mp3"]
    for name in names:
        shutil.copy(song(music, ".mp3"), odd / name)
    summary = ingestion.run(home, [odd])
    assert summary.counts["unreadable"] == 0
    files = catalog.read(home)
    assert {paths.to_path(path) for path in files["path"]} == {str(odd / name) for name in names}
    assert files["track_id"].n_unique() == 1
    assert files["folder"].unique().to_list() == [paths.to_text(odd)]
    assert not ingestion.run(home, [odd]).did_work
    assert music_folders(home, []) == [odd]
    # As older versions had it in their catalogues.
    old = pl.lit(f"{music}/f\\xfcr Elise.mp3")
    why = pl.lit("has a name that is not valid UTF-8: rename it")
    catalog.write(home, files.with_columns(path=old, error=why, track_id=None).head(1))
    assert {kind for kind, *_ in changes(ingestion.run(home, [odd]))} == {
        "new", "duplicate", "removed",
    }  # fmt: skip
    assert catalog.read(home)["path"].equals(files["path"])
    untagged = files.with_columns(title=pl.lit(None, pl.String))
    assert r"f\xfcr Elise" in {
        catalog.tracks(untagged.slice(row, 1))["title"].item() for row in range(3)
    }


def test_a_folder_of_which_all_is_excluded_was_given_all_the_same(
    music: Path, home: Home, tmp_path: Path
) -> None:
    (tmp_path / "talks").mkdir()
    shutil.copy(song(music, ".wav"), tmp_path / "talks/one.wav")
    ingestion.run(home, [music, tmp_path / "talks"])
    summary = ingestion.run(home, [music, tmp_path / "talks"], ["one.wav"])
    assert summary.counts["removed"] == 1
    assert [text for text in summary.warnings if "was not given" in text] == []
