import os
import socket
import unicodedata
from pathlib import Path
from typing import Literal

import pytest

from fastdino.core.errors import UserError
from fastdino.core.paths import to_path, to_text
from fastdino.ingestion import skipped
from fastdino.ingestion.scan import COMPANIONS, JUNK, SUFFIXES, Listing, scan


def put(path: Path, content: bytes = b"sound") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def names(listing: Listing, root: Path) -> list[str]:
    return [os.path.relpath(path, root) for path in listing.files["path"]]


def error_of(listing: Listing, path: Path | str) -> str | None:
    (error,) = listing.files.filter(path=str(path))["error"]
    return str(error) if error else None


def test_music_is_found_at_any_depth_and_nothing_else_is(tmp_path: Path) -> None:
    for name in ("b.mp3", "a/x/y/c.FLAC", "a/d.Opus", "e.m4a"):
        put(tmp_path / name)
    for name in ("cover.jpg", "notes.txt", "mp3", "._b.mp3", ".Trash-1000/f.mp3", "__MACOSX/g.mp3",
                 "a/@eaDir/h.mp3"):  # fmt: skip
        put(tmp_path / name)
    listing = scan([tmp_path])
    assert names(listing, tmp_path) == ["a/d.Opus", "a/x/y/c.FLAC", "b.mp3", "e.m4a"]
    assert listing.files["error"].null_count() == 4
    status = (tmp_path / "b.mp3").stat()
    row = listing.files.row(2, named=True)
    assert (row["size"], row["mtime_ns"]) == (status.st_size, status.st_mtime_ns)
    assert row["folder"] == str(tmp_path)


def left_out(listing: Listing, root: Path) -> dict[str, str]:
    """Kind by path of all that was left out."""
    rows = listing.skipped.select("path", "kind").iter_rows()
    return {os.path.relpath(path, root): kind for path, kind in rows}


def test_a_dot_alone_hides_nothing(tmp_path: Path) -> None:
    songs = ["...And Justice for All/Blackened.mp3", "...Baby One More Time.mp3",
             ".38 Special/Hold On.mp3", ".hidden/song.mp3", "Recycler/song.mp3"]  # fmt: skip
    for name in songs:
        put(tmp_path / name)
    listing = scan([tmp_path])
    assert names(listing, tmp_path) == sorted(songs)
    assert (listing.skipped.height, listing.companions) == (0, 0)


@pytest.mark.parametrize(
    "folder",
    [
        "#recycle", "#Recycle", "@Recycle", "#snapshot", "@Recently-Snapshot", "@Snapshot",
        ".snapshot", ".snapshots", ".zfs", "$RECYCLE.BIN", "$Recycle.Bin", "RECYCLER",
        "System Volume Information", "__MACOSX", "lost+found", "@eaDir", ".Trash", ".Trash-1000",
        ".trash-0", ".Trashes", ".@__thumb", ".AppleDouble", ".Spotlight-V100", ".fseventsd",
        ".TemporaryItems", ".stversions", ".stfolder", ".sync", ".git", ".cache", ".thumbnails",
    ],
)  # fmt: skip
def test_bins_and_snapshots_are_left_out_and_named(folder: str, tmp_path: Path) -> None:
    put(tmp_path / "a/song.mp3")
    put(tmp_path / "a" / folder / "deep/deleted.mp3")
    listing = scan([tmp_path])
    assert names(listing, tmp_path) == ["a/song.mp3"]
    assert left_out(listing, tmp_path) == {f"a/{folder}": "junk folder"}
    assert skipped.told(listing.skipped) == [f"1 folder skipped: {folder}"]
    # Whoever names it means it.
    assert names(scan([tmp_path / "a" / folder]), tmp_path) == [f"a/{folder}/deep/deleted.mp3"]


def test_what_is_not_looked_at_has_a_row_each_and_covers_are_counted(tmp_path: Path) -> None:
    put(tmp_path / "song.mp3")
    for name in ("a.mid", "b.MID", "c.xyz", "no ending", "07. A song", "._song.mp3", "x.zip"):
        put(tmp_path / name)
    for name in ("cover.JPG", "a.cue", "rip.log", ".DS_Store", "._cover.jpg", ".directory"):
        put(tmp_path / name)
    listing = scan([tmp_path])
    assert names(listing, tmp_path) == ["song.mp3"]
    assert left_out(listing, tmp_path) == {
        "._song.mp3": "junk", "07. A song": "format", "a.mid": "format", "b.MID": "format",
        "c.xyz": "format", "no ending": "format", "x.zip": "format",
    }  # fmt: skip
    assert listing.skipped["path"].is_sorted()
    assert set(listing.skipped["folder"]) == {str(tmp_path)}
    assert not listing.skipped["why"].has_nulls()
    assert listing.companions == 6
    assert skipped.told(listing.skipped) == [
        "6 files not looked at: 2 .mid, 2 without an ending, 1 .xyz and 1 more kind"
    ]


def test_no_ending_is_of_two_kinds_and_known_names_are_in_small_letters() -> None:
    assert not COMPANIONS & set(SUFFIXES)
    assert set(skipped.FOLDERS) | set(skipped.WANTED) <= set(skipped.KINDS)
    for name in (*COMPANIONS, *SUFFIXES):
        assert skipped.ending(f"a{name.upper()}") == name
    assert all(name == name.lower() for name in JUNK)


def test_a_folder_may_ask_to_be_left_alone(tmp_path: Path) -> None:
    put(tmp_path / "song.mp3")
    put(tmp_path / "a/deep/one.mp3")
    put(tmp_path / "a/.nomedia", b"")
    put(tmp_path / "b/two.mp3")
    put(tmp_path / "b/.NDIGNORE", b"")
    put(tmp_path / "c/three.mp3")
    put(tmp_path / "c/.ndignore", b"*.instrumental.mp3\n")
    listing = scan([tmp_path])
    assert names(listing, tmp_path) == ["c/three.mp3", "song.mp3"]
    assert left_out(listing, tmp_path) == {"a": "marked folder", "b": "marked folder"}
    assert names(scan([tmp_path / "a"]), tmp_path) == ["a/deep/one.mp3"]


@pytest.mark.parametrize(
    ("pattern", "gone"),
    [
        ("*.instrumental.mp3", {"a/x.Instrumental.MP3": "excluded"}),
        ("*/Podcasts/*", {"podcasts": "excluded folder", "a/Podcasts": "excluded folder"}),
        ("podcasts", {"podcasts": "excluded folder", "a/Podcasts": "excluded folder"}),
        ("a/*", {"a": "excluded folder"}),
        ("a/[yz].*", {"a/y.mp3": "excluded", "a/z.xyz": "excluded"}),
        ("a", {"a": "excluded folder"}),
        ("A/", {"a": "excluded folder"}),
        ("[", {}),
    ],
)  # fmt: skip
def test_patterns_leave_out_what_they_name_in_any_case(
    pattern: str, gone: dict[str, str], tmp_path: Path
) -> None:
    everything = ["a/Podcasts/p.mp3", "a/x.Instrumental.MP3", "a/y.mp3", "podcasts/q.mp3",
                  "song.mp3"]  # fmt: skip
    for name in (*everything, "a/z.xyz", "a/cover.jpg"):
        put(tmp_path / name)
    listing = scan([tmp_path], exclude=["no such thing", pattern])
    below = tuple(f"{path}/" for path in gone)
    assert names(listing, tmp_path) == [
        name for name in everything if name not in gone and not name.startswith(below)
    ]
    excluded = {path: kind for path, kind in left_out(listing, tmp_path).items() if path in gone}
    assert excluded == gone
    assert all(
        why == f"FASTDINO_EXCLUDE has {pattern}"
        for path, why in listing.skipped.select("path", "why").iter_rows()
        if os.path.relpath(path, tmp_path) in gone
    )


@pytest.mark.parametrize("pattern", ["NFC", "NFD"])
@pytest.mark.parametrize("name", ["NFC", "NFD"])
def test_patterns_find_accents_however_they_are_written(
    pattern: Literal["NFC", "NFD"], name: Literal["NFC", "NFD"], tmp_path: Path
) -> None:
    folder = unicodedata.normalize(name, "Hörbücher")
    for file in (f"{folder}/talk.mp3", f"{unicodedata.normalize(name, 'Öl')}.mp3", "song.mp3"):
        put(tmp_path / file)
    asked = [unicodedata.normalize(pattern, text) for text in ("hörbücher", "Ö[lm].*")]
    assert names(scan([tmp_path], exclude=asked), tmp_path) == ["song.mp3"]


def test_a_folder_of_which_all_is_excluded_is_there_but_an_empty_one_is_not_believed(
    tmp_path: Path,
) -> None:
    put(tmp_path / "full/song.mp3")
    put(tmp_path / "talk/Podcasts/one.mp3")
    held = frozenset({str(tmp_path / "talk/Podcasts/one.mp3")})
    both = [tmp_path / "full", tmp_path / "talk"]
    listing = scan(both, held, exclude=["podcasts"])
    assert names(listing, tmp_path) == ["full/song.mp3"]
    assert listing.folders == tuple(map(str, both))
    with pytest.raises(UserError, match=r"leave out all that is in .*talk.* Nothing was changed"):
        scan([tmp_path / "talk"], held, exclude=["podcasts"])
    (tmp_path / "talk/Podcasts").rename(tmp_path / "elsewhere")
    (tmp_path / "talk/lost+found").mkdir()
    put(tmp_path / "talk/cover.jpg")
    with pytest.raises(UserError, match=r"talk held music before .* Nothing was changed"):
        scan(both, held, exclude=["podcasts"])


def test_a_link_in_a_circle_ends(tmp_path: Path) -> None:
    put(tmp_path / "a/song.mp3")
    (tmp_path / "a/up").symlink_to(tmp_path)
    (tmp_path / "a/self").symlink_to(tmp_path / "a/self")
    (tmp_path / "a/self.mp3").symlink_to(tmp_path / "a/self.mp3")
    listing = scan([tmp_path])
    assert names(listing, tmp_path) == ["a/self.mp3", "a/song.mp3"]
    assert error_of(listing, tmp_path / "a/self.mp3")
    assert error_of(listing, tmp_path / "a/song.mp3") is None


def test_a_linked_folder_is_followed_and_found_under_its_own_path_if_it_has_one(
    tmp_path: Path,
) -> None:
    put(tmp_path / "music/z/song.mp3")
    put(tmp_path / "elsewhere/other.mp3")
    (tmp_path / "music/a").symlink_to(tmp_path / "music/z")
    (tmp_path / "music/b").symlink_to(tmp_path / "elsewhere")
    assert names(scan([tmp_path / "music"]), tmp_path) == ["music/b/other.mp3", "music/z/song.mp3"]


def test_of_two_folders_one_may_be_linked_from_the_other(tmp_path: Path) -> None:
    put(tmp_path / "music/song.mp3")
    put(tmp_path / "usb/deep/other.mp3")
    (tmp_path / "music/link").symlink_to(tmp_path / "usb")
    both = [tmp_path / "music", tmp_path / "usb"]
    known_as = frozenset({str(tmp_path / "usb/deep/other.mp3")})
    for folders in (both, both[::-1]):
        for populated in (frozenset[str](), known_as):
            listing = scan(folders, populated)
            assert names(listing, tmp_path) == ["music/song.mp3", "usb/deep/other.mp3"]
            assert listing.files["folder"].to_list() == [str(folder) for folder in both]
    # Only a part of it is linked, from either side of it in the order of names.
    (tmp_path / "music/link").unlink()
    (tmp_path / "music/link").symlink_to(tmp_path / "usb/deep")
    assert names(scan(both), tmp_path) == ["music/song.mp3", "usb/deep/other.mp3"]


def test_a_folder_whose_music_another_folder_links_to_as_well_is_not_empty(tmp_path: Path) -> None:
    put(tmp_path / "disk/deep/song.mp3")
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "link").symlink_to(tmp_path / "disk")
    listing = scan([tmp_path / "a", tmp_path / "b"], frozenset({str(tmp_path / "b/link/deep/x")}))
    assert names(listing, tmp_path) == ["a/link/deep/song.mp3"]
    (tmp_path / "c/link").unlink()
    with pytest.raises(UserError, match=r"no music files in .*/c "):
        scan([tmp_path / "a", tmp_path / "c"])


def test_names_with_emoji_and_newlines_are_kept_as_they_are(tmp_path: Path) -> None:
    odd = put(tmp_path / "🎵 so\nng\t'\"\\.mp3")
    listing = scan([tmp_path])
    assert listing.files["path"].to_list() == [str(odd)]
    assert error_of(listing, odd) is None


def test_names_that_are_not_utf8_are_listed_like_any_other(tmp_path: Path) -> None:
    top = tmp_path / os.fsdecode(b"m\xfcsic")
    try:
        odd = [put(top / os.fsdecode(b"caf\xe9.mp3")), put(top / os.fsdecode(b"f\xe9") / "in.mp3")]
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    put(top / os.fsdecode(b"\xff.xyz"))
    (top / os.fsdecode(b"\xfe.mp3")).symlink_to(top / os.fsdecode(b"nowhere\xe9"))
    listing = scan([top], exclude=["*.none"])
    assert listing.folders == (to_text(top),)
    files = dict(listing.files.select("path", "error").iter_rows())
    assert {path for path in files if files[path] is None} == {to_text(path) for path in odd}
    assert {os.fsencode(to_path(path)) for path in listing.skipped["path"]} == {
        os.fsencode(top) + b"/\xff.xyz"
    }
    for path in (*odd, top / os.fsdecode(b"\xfe.mp3")):
        path.unlink()
    with pytest.raises(UserError, match="held music before"):
        scan([top], frozenset(files))
    # What lies in it is found whichever of the two is given.
    assert scan([put(top / "a.mp3").parent, tmp_path]).folders == (str(tmp_path),)


def test_what_is_no_readable_file_is_a_row_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "empty.mp3", b"")
    os.mkfifo(tmp_path / "pipe.mp3")
    (tmp_path / "dangling.mp3").symlink_to(tmp_path / "nothing")
    put(tmp_path / "folder.mp3/song.mp3")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # A socket's path must be short.
        server.bind("socket.mp3")
    listing = scan([tmp_path])
    assert names(listing, tmp_path) == [
        "dangling.mp3", "empty.mp3", "folder.mp3/song.mp3", "pipe.mp3", "socket.mp3",
    ]  # fmt: skip
    assert "link" in (error_of(listing, tmp_path / "dangling.mp3") or "")
    assert "empty" in (error_of(listing, tmp_path / "empty.mp3") or "")
    assert "pipe" in (error_of(listing, tmp_path / "pipe.mp3") or "")
    assert "socket" in (error_of(listing, tmp_path / "socket.mp3") or "")
    assert error_of(listing, tmp_path / "folder.mp3/song.mp3") is None


@pytest.mark.parametrize("second", [10**10, 2**62 // 10**9, 0, -1, -(10**10)])
def test_a_file_of_any_time_is_a_row(second: int, tmp_path: Path) -> None:
    path = put(tmp_path / "song.mp3")
    try:
        os.utime(path, (second, second))
    except OSError:
        pytest.skip("this file system has no such times")
    (mtime_ns,) = scan([tmp_path]).files["mtime_ns"]
    # What 64 bits cannot hold is the nearest second that they can.
    assert mtime_ns == min(max(path.stat().st_mtime_ns, -(2**63)), 9_223_372_036_000_000_000)


def test_folders_given_twice_nested_or_through_a_link_count_once(tmp_path: Path) -> None:
    put(tmp_path / "a/one.mp3")
    put(tmp_path / "a/b/two.mp3")
    put(tmp_path / "ab/three.mp3")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    a, inner, link, other = (tmp_path / n for n in ("a", "a/b", "link", "ab"))
    for folders in ([a], [a, a], [a, inner], [inner, a], [a, link], [a / ".." / "a"]):
        listing = scan(folders)
        assert names(listing, tmp_path) == ["a/b/two.mp3", "a/one.mp3"], folders
        assert listing.folders == (str(a),)
    assert scan([other, inner, a]).folders == (str(a), str(other))
    assert len(scan([other, inner, a]).files) == 3


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no folder .*/nowhere"):
        scan([tmp_path / "nowhere"])
    put(tmp_path / "song.mp3")
    with pytest.raises(UserError, match=r"song\.mp3 is not a folder"):
        scan([tmp_path / "song.mp3"])


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    put(tmp_path / "notes.txt")
    with pytest.raises(UserError, match=r"no music files in .*mp3"):
        scan([tmp_path])
    put(tmp_path / "a.mid")
    with pytest.raises(UserError, match=r"; 1 file not looked at: 1 \.mid \(looked for"):
        scan([tmp_path])


def test_a_folder_that_held_music_and_is_empty_or_gone_is_not_believed(tmp_path: Path) -> None:
    held = frozenset({str(tmp_path / "disk/song.mp3")})
    with pytest.raises(UserError, match=r"there is no folder .*/disk.* Nothing was changed"):
        scan([tmp_path / "disk"], held)
    (tmp_path / "disk").mkdir()
    with pytest.raises(UserError, match=r"disk held music before .* Nothing was changed"):
        scan([tmp_path / "disk"], held)


def test_one_empty_folder_among_full_ones_is_not_believed_either(tmp_path: Path) -> None:
    put(tmp_path / "full/song.mp3")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty"):
        scan([tmp_path / "full", tmp_path / "empty"])


def test_a_folder_we_may_not_read_is_unknown_not_empty(ordinary_user: Path) -> None:
    put(ordinary_user / "song.mp3")
    put(ordinary_user / "locked/other.mp3")
    (ordinary_user / "locked").chmod(0)
    listing = scan([ordinary_user])
    assert listing.unlisted == (str(ordinary_user / "locked"),)
    assert "Permission" in (error_of(listing, ordinary_user / "locked") or "")
    with pytest.raises(UserError, match=r"cannot read the folder .*locked: Permission"):
        scan([ordinary_user / "locked"])
    (ordinary_user / "locked").chmod(0o700)
