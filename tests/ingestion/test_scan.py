import os
import socket
from pathlib import Path

import pytest

from fastdino.core.errors import UserError
from fastdino.ingestion.scan import Listing, scan


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
    for name in ("cover.jpg", "notes.txt", "mp3", "._b.mp3", ".hidden/f.mp3", "__MACOSX/g.mp3",
                 "a/@eaDir/h.mp3"):  # fmt: skip
        put(tmp_path / name)
    listing = scan([tmp_path])
    assert names(listing, tmp_path) == ["a/d.Opus", "a/x/y/c.FLAC", "b.mp3", "e.m4a"]
    assert listing.files["error"].null_count() == 4
    status = (tmp_path / "b.mp3").stat()
    row = listing.files.row(2, named=True)
    assert (row["size"], row["mtime_ns"]) == (status.st_size, status.st_mtime_ns)
    assert row["folder"] == str(tmp_path)


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


def test_names_with_emoji_and_newlines_are_kept_as_they_are(tmp_path: Path) -> None:
    odd = put(tmp_path / "🎵 so\nng\t'\"\\.mp3")
    listing = scan([tmp_path])
    assert listing.files["path"].to_list() == [str(odd)]
    assert error_of(listing, odd) is None


def test_a_name_that_is_not_utf8_is_a_row_with_a_reason(tmp_path: Path) -> None:
    put(tmp_path / "song.mp3")
    try:
        put(tmp_path / os.fsdecode(b"caf\xe9.mp3"))
        put(tmp_path / os.fsdecode(b"f\xe9") / "inside.mp3")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    listing = scan([tmp_path])
    assert names(listing, tmp_path) == ["caf\\xe9.mp3", "f\\xe9/inside.mp3", "song.mp3"]
    assert "UTF-8" in (error_of(listing, tmp_path / "caf\\xe9.mp3") or "")


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
