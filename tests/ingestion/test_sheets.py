"""Albums in one file: the songs that a sheet makes of it, and what is said if it does not fit."""

import os
import shutil
import struct
import unicodedata
from pathlib import Path

import polars as pl
import pytest
from cue_album import END, FRAME, SHEET, write

from fastdino import ingestion, spectrograms
from fastdino.core import tables, text
from fastdino.core.home import Home
from fastdino.core.summary import Summary
from fastdino.ingestion import catalog, flac_sheet, identify, sheets
from fastdino.spectrograms import SpectrogramSettings, filling, shards, stage
from tests import tagging
from tests.editing import retag
from tests.faults.child import InThisProcess

SONGS = [
    (1, "Low", "The Sheet", 0.0, 311 / 75, 311 / 75),
    (2, "Middle", "A Guest", 311 / 75, 8.0, 8.0 - 311 / 75),
    (3, "High", "The Sheet", 8.0, None, 4.0),
]


@pytest.fixture(autouse=True)
def _no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identify, "WorkerPool", InThisProcess)
    monkeypatch.setattr(filling, "WorkerPool", InThisProcess)


@pytest.fixture(scope="module")
def flac(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("flac") / "album.flac", {"album_artist": "Of the File"})


@pytest.fixture
def album(flac: Path, tmp_path: Path) -> Path:
    """A folder with the album and its sheet."""
    folder = tmp_path / "music" / "Three Tones"
    folder.mkdir(parents=True)
    shutil.copy(flac, folder)
    (folder / "album.cue").write_text(SHEET, encoding="utf-8")
    return folder


def songs(home: Home) -> pl.DataFrame:
    return catalog.tracks(catalog.read(home)).sort("path", "start_s")


def ids(home: Home) -> list[str]:
    return songs(home)["track_id"].to_list()


def kinds(summary: Summary) -> list[object]:
    return [change["kind"] for change in summary.tables["changes"]]


def error(home: Home) -> str | None:
    (found,) = catalog.read(home)["sheet_error"].to_list()
    return found


def test_the_tracks_of_a_sheet_are_the_songs(album: Path, home: Home) -> None:
    summary = ingestion.run(home, [album.parent])
    assert summary.headline == "3 songs in 1 file: 1 new"
    found = songs(home)
    columns = ("track_number", "title", "artist", "start_s", "end_s", "duration_s")
    assert found["start_s"][2] == 8.0
    for row, expected in zip(found.select(columns).iter_rows(), SONGS, strict=True):
        assert row == pytest.approx(expected)
    for column, value in (
        ("album", "Three Tones"), ("genre", "Chamber Pop"), ("year", 1997),
        ("album_artist", "Of the File"), ("n_files", 1), ("path", str(album / "album.flac")),
    ):  # fmt: skip
        assert found[column].unique().to_list() == [value]
    assert found["track_id"].n_unique() == 3
    assert catalog.read(home)["track_id"].item() not in ids(home)
    assert not ingestion.run(home, [album.parent]).did_work


@pytest.mark.parametrize(("written", "genre"), [("17", "Rock"), ("(17)", "Rock"), ("1999", "1999")])
def test_numbers_of_genres_become_names_as_in_tags(
    written: str, genre: str, album: Path, home: Home
) -> None:
    text = SHEET.replace("Chamber Pop", written)
    (album / "album.cue").write_text(text, encoding="utf-8")
    ingestion.run(home, [album.parent])
    assert songs(home)["genre"].unique().to_list() == [genre]


def test_each_has_its_own_spectrogram(album: Path, home: Home) -> None:
    ingestion.run(home, [album.parent])
    assert spectrograms.run(home).counts["new_tracks"] == 3
    folder = home.shards(SpectrogramSettings().spec_id)
    pieces = {p.track_id: p for s in shards.list_shards(folder) for p in shards.iter_pieces(s)}
    loudest = []
    for track_id, length in zip(ids(home), (415, 385, 400), strict=True):
        assert len(pieces[track_id].frames) == pytest.approx(length, abs=1)
        loudest.append(pieces[track_id].frames.mean(0).argmax())
    assert loudest[0] < loudest[1] < loudest[2]
    assert not spectrograms.run(home).did_work


@pytest.mark.parametrize("suffix", [".flac", ".wv"])
def test_a_sheet_within_the_file_says_the_same(
    suffix: str, album: Path, home: Home, tmp_path: Path
) -> None:
    within = write(tmp_path / "other" / f"x{suffix}", {"Cuesheet": SHEET})
    ingestion.run(home, [within.parent])
    columns = ("track_number", "title", "artist", "start_s", "end_s")
    told = songs(home).select(columns).rows()
    assert told == [pytest.approx(song[:5]) for song in SONGS]
    ingestion.run(home, [album.parent])
    assert songs(home).select(columns).rows() == told


def with_block(flac: Path, tracks: list[tuple[int, list[tuple[int, int]]]]) -> None:
    """Write a FLAC file anew with a block of the kind for CUE sheets, by number and indexes."""
    block = bytes(128 + 8 + 259) + bytes([len(tracks) + 1])
    for number, indexes in [*tracks, (170, [])]:
        offset = indexes[0][1] if indexes else END * FRAME
        code = b"GBAYE0601498" if number == 1 else b""
        block += struct.pack(">QB12sB13xB", offset, number, code, 0, len(indexes))
        for index, at in indexes:
            block += struct.pack(">QB3x", at - offset, index)
    content = flac.read_bytes()
    after = 4 + 4 + 34  # the first block, which is that of the samples' rate
    header = bytes([5]) + len(block).to_bytes(3)
    flac.write_bytes(content[:after] + header + block + content[after:])


def test_a_block_of_a_flac_file_says_where_songs_are_but_not_their_names(
    album: Path, home: Home
) -> None:
    ingestion.run(home, [album.parent])
    before = ids(home)
    os.remove(album / "album.cue")
    tracks = [
        (1, [(1, 0)]), (2, [(0, 250 * FRAME), (1, 311 * FRAME)]), (3, [(1, 600 * FRAME)]),
    ]  # fmt: skip
    with_block(album / "album.flac", tracks)
    ingestion.run(home, [album.parent])
    assert ids(home) == before
    assert songs(home)["isrc"].to_list() == ["GBAYE0601498", None, None]
    found = songs(home).select("title", "artist", "album_artist", "start_s", "track_number")
    assert found.rows() == [
        pytest.approx(("album 01", None, "Of the File", 0.0, 1)),
        pytest.approx(("album 02", None, "Of the File", 311 / 75, 2)),
        pytest.approx(("album 03", None, "Of the File", 8.0, 3)),
    ]


def test_a_block_is_found_below_an_id3v2_as_well(flac: Path, tmp_path: Path) -> None:
    path = tmp_path / "album.flac"
    shutil.copy(flac, path)
    with_block(path, [(1, [(1, 0)]), (2, [(1, 100 * FRAME)])])
    plain = identify.identify(str(path))
    path.write_bytes(tagging.id3v2([tagging.text_frame("TIT2", "x")]) + path.read_bytes())
    found = identify.identify(str(path))
    assert found.own_sheet
    assert (found.own_sheet, found.track_id) == (plain.own_sheet, plain.track_id)
    path.write_bytes(b"ID3\4\0\0\x7f\x7f\x7f\x7f" + path.read_bytes())
    assert flac_sheet.read(path) is None


@pytest.mark.parametrize("keep", [60, 440, 470, 500])
def test_a_block_that_breaks_off_is_none(keep: int, flac: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.flac"
    shutil.copy(flac, path)
    with_block(path, [(1, [(1, 0)]), (2, [(1, 100 * FRAME)])])
    assert flac_sheet.read(path)
    os.truncate(path, keep)
    assert flac_sheet.read(path) is None


def test_a_song_is_the_same_whichever_sheet_tells_of_it(
    album: Path, home: Home, tmp_path: Path
) -> None:
    ingestion.run(home, [album.parent])
    before = ids(home)
    os.remove(album / "album.cue")
    retag(album / "album.flac", tmp_path / "x.flac", {"CUESHEET": SHEET})
    shutil.move(tmp_path / "x.flac", album / "album.flac")
    assert kinds(ingestion.run(home, [album.parent])) == ["retagged"]
    assert ids(home) == before


def test_a_sheet_beside_a_file_is_believed_over_the_one_within(
    album: Path, home: Home, tmp_path: Path
) -> None:
    retag(album / "album.flac", tmp_path / "x.flac", {"CUESHEET": SHEET.replace("Low", "Within")})
    shutil.move(tmp_path / "x.flac", album / "album.flac")
    ingestion.run(home, [album.parent])
    assert songs(home)["title"][0] == "Low"
    # It is there again, without the file being opened, when the other goes.
    os.remove(album / "album.cue")
    assert kinds(ingestion.run(home, [album.parent])) == ["retagged"]
    assert songs(home)["title"][0] == "Within"


def test_a_title_that_is_mended_in_the_sheet_is_no_new_song(
    album: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingestion.run(home, [album.parent])
    spectrograms.run(home)
    before = ids(home)
    (album / "album.cue").write_text(SHEET.replace("Middle", "Mended"), encoding="utf-8")
    monkeypatch.setattr(identify, "identify", None)  # whoever opens the file fails
    assert kinds(ingestion.run(home, [album.parent])) == ["retagged"]
    assert songs(home)["title"].to_list() == ["Low", "Mended", "High"]
    assert ids(home) == before
    assert not spectrograms.run(home).did_work


def test_a_title_changed_with_the_sheets_time_put_back_is_seen(album: Path, home: Home) -> None:
    ingestion.run(home, [album.parent])
    sheet = album / "album.cue"
    before = sheet.stat()
    sheet.write_text(SHEET.replace('"Low"', '"Owl"'), encoding="utf-8")
    os.utime(sheet, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert kinds(ingestion.run(home, [album.parent])) == ["retagged"]
    assert songs(home)["title"][0] == "Owl"
    assert not ingestion.run(home, [album.parent]).did_work


def test_a_moved_album_keeps_its_songs(album: Path, home: Home) -> None:
    ingestion.run(home, [album.parent])
    before = songs(home).select("track_id", "added_at", "title")
    album.rename(album.with_name("elsewhere"))
    assert kinds(ingestion.run(home, [album.parent])) == ["moved"]
    assert songs(home).select("track_id", "added_at", "title").equals(before)
    assert "elsewhere" in songs(home)["path"][0]


def test_a_file_whose_sheet_is_gone_is_one_song_and_its_songs_come_back_with_it(
    album: Path, home: Home
) -> None:
    ingestion.run(home, [album.parent])
    spectrograms.run(home)
    before = ids(home)
    (album / "album.cue").rename(album / "aside")
    assert kinds(ingestion.run(home, [album.parent])) == ["recut"]
    found = songs(home)
    assert found.select("title", "start_s", "end_s").rows() == [("album", None, None)]
    summary = spectrograms.run(home)
    assert (summary.counts["new_tracks"], summary.counts["left_the_collection"]) == (1, 3)
    (album / "aside").rename(album / "album.cue")
    assert kinds(ingestion.run(home, [album.parent])) == ["recut"]
    assert ids(home) == before
    assert spectrograms.run(home).counts["new_tracks"] == 0


def test_a_song_that_begins_elsewhere_is_another_one(album: Path, home: Home) -> None:
    ingestion.run(home, [album.parent])
    before = ids(home)
    moved = SHEET.replace("00:08:00", "00:08:01")
    (album / "album.cue").write_text(moved, encoding="utf-8")
    assert kinds(ingestion.run(home, [album.parent])) == ["recut"]
    assert [a == b for a, b in zip(ids(home), before, strict=True)] == [True, False, False]


def test_a_copy_with_its_sheet_holds_the_same_songs(album: Path, home: Home) -> None:
    shutil.copytree(album, album.with_name("copy"))
    summary = ingestion.run(home, [album.parent])
    assert summary.headline == "3 songs in 2 files: 1 new, 1 duplicate"
    assert songs(home)["n_files"].to_list() == [2, 2, 2]


@pytest.mark.parametrize(
    ("sheet", "file"),
    [
        ("album.cue", "album.flac"),
        ("other.cue", "ALBUM.flac"),
        ("other.cue", "Album.flac"),
        ("other.CUE", "album.flac"),
    ],
)
def test_a_file_is_found_by_the_name_in_the_sheet(
    sheet: str, file: str, album: Path, home: Home
) -> None:
    (album / "album.cue").rename(album / sheet)
    (album / "album.flac").rename(album / file)
    ingestion.run(home, [album.parent])
    assert len(ids(home)) == 3


@pytest.mark.parametrize(
    ("named", "sheet", "file"),
    [
        ("album.wav", "x.cue", "album.flac"),  # compressed since
        ("CDImage.wav", "album.cue", "album.flac"),  # renamed since
        ("CDImage.wav", "album.flac.cue", "album.flac"),
        (unicodedata.normalize("NFD", "Ä.flac"), "x.cue", unicodedata.normalize("NFC", "Ä.flac")),
        (r"C:\Rips\album.flac", "x.cue", "album.flac"),
    ],
)
def test_a_file_that_was_compressed_or_renamed_since_is_found(
    named: str, sheet: str, file: str, album: Path, home: Home
) -> None:
    (album / "album.flac").rename(album / file)
    os.remove(album / "album.cue")
    (album / sheet).write_text(SHEET.replace("album.flac", named), encoding="utf-8")
    ingestion.run(home, [album.parent])
    assert (len(ids(home)), error(home)) == (3, None)


def in_bytes(path: Path, name: bytes) -> Path:
    """The file under another name, in bytes that are not UTF-8."""
    try:
        return path.rename(path.with_name(os.fsdecode(name)))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("BjÃ¶rk", "Björk"),
        ("Lo\x85w\x9b31m", "Lo…w›31m"),
        ("Группа крови на рукаве".encode("cp1251").decode("latin-1"), "Группа крови на рукаве"),
        ("Déjà vu", "Déjà vu"),
        ("\xad", "album 01"),
    ],
)
def test_what_a_sheet_says_is_settled_as_tags_are(
    written: str, read: str, within: bool, album: Path, home: Home
) -> None:
    content = SHEET.replace('"Low"', f'"{written}"').replace('"High"', f'"{written}"')
    (album / "album.cue").write_text(content, encoding="utf-8")
    if within:
        (album / "album.cue").unlink()
        write(album / "album.flac", {"CUESHEET": content})
    ingestion.run(home, [album.parent])
    titles = songs(home)["title"].to_list()
    assert titles == [read, "Middle", read.replace("01", "03")]


@pytest.mark.parametrize("page", ["cp1252", "cp1251", "shift_jis", "utf-8"])
@pytest.mark.parametrize("sheet", ["album", "other"])
def test_a_sheet_and_a_file_whose_names_are_in_an_old_code_page_belong_together(
    page: str, sheet: str, album: Path, home: Home
) -> None:
    name = {"cp1252": "Déjà vu", "cp1251": "Звёздный час", "shift_jis": "夜明けの歌"}.get(page, "Ö")
    content = SHEET.replace("album.flac", f"{name}.FLAC").replace("Three Tones", f"{name} {name}")
    (album / "album.cue").write_bytes(content.removeprefix("\ufeff").encode(page))
    in_bytes(album / "album.flac", f"{name}.flac".encode(page))
    in_bytes(album / "album.cue", f"{name if sheet == 'album' else sheet}.cue".encode(page))
    summary = ingestion.run(home, [album.parent])
    assert (len(ids(home)), error(home), summary.warnings) == (3, None, [])


def test_a_sheet_in_utf8_is_of_the_file_of_its_own_name_in_any_bytes(
    album: Path, home: Home
) -> None:
    in_bytes(album / "album.flac", b"caf\xe9.flac")
    in_bytes(album / "album.cue", b"caf\xe9.cue")
    ingestion.run(home, [album.parent])
    assert (len(ids(home)), error(home)) == (3, None)


def test_a_sheet_that_does_not_fit_is_told_whatever_bytes_its_name_is_of(
    album: Path, home: Home
) -> None:
    (album / "album.cue").write_text("Dear diary", encoding="utf-8")
    in_bytes(album / "album.cue", b"caf\xe9.cue")
    summary = ingestion.run(home, [album.parent])
    (warning,) = summary.warnings
    assert r"(caf\xe9.cue): there are no tracks in it" in text.one_line(warning)
    assert not ingestion.run(home, [album.parent]).did_work


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (SHEET.replace("album.flac", "b.flac"), "it is of “b.flac”, which is not there"),
        (SHEET.replace("album.flac", "b\x9b.flac"), "it is of “b›.flac”, which is not there"),
        (SHEET.replace("FILE", "REM"), "it names none"),
        (
            SHEET.replace("00:08:00", "00:12:00"),
            "track 3 begins at 0:12, and the file ends at 0:12",
        ),
        (SHEET.replace("00:08:00", "00:02:00"), "track 3 begins at 0:02, not after track 2"),
        (SHEET.replace("INDEX 01 00:08", "INDEX 02 00:08"), "where track 3 begins cannot be read"),
        ("Dear diary", "there are no tracks in it"),
        ("\0\1\2" * 1000, "it is not text"),
        (" " * (sheets.LARGEST_BYTES + 1), "it is larger than any: 1 MB"),
    ],
)
def test_a_sheet_that_does_not_fit_is_told_and_the_file_is_one_song(
    content: str, told: str, album: Path, home: Home
) -> None:
    os.remove(album / "album.cue")
    (album / "x.cue").write_text(content, encoding="utf-8")
    summary = ingestion.run(home, [album.parent])
    assert len(ids(home)) == 1
    found = error(home)
    assert found
    assert found.startswith("taken as one song, as its CUE sheet does not fit (x.cue): ")
    assert told in found
    assert summary.warnings == [f"{album / 'album.flac'} is {found}"]
    # Told once, and mended by mending it.
    again = ingestion.run(home, [album.parent])
    assert (again.did_work, again.warnings) == (False, [])
    (album / "x.cue").write_text(SHEET, encoding="utf-8")
    assert kinds(ingestion.run(home, [album.parent])) == ["recut"]
    assert error(home) is None


def test_a_sheet_within_that_does_not_fit_is_told_as_well(home: Home, tmp_path: Path) -> None:
    late = SHEET.replace("00:08:00", "99:08:00")
    write(tmp_path / "music" / "album.flac", {"CUESHEET": late})
    ingestion.run(home, [tmp_path / "music"])
    assert "(the one within): track 3 begins at 99:08" in (error(home) or "")


def test_a_pipe_that_is_called_a_sheet_is_not_waited_for(album: Path, home: Home) -> None:
    os.remove(album / "album.cue")
    os.mkfifo(album / "album.cue")
    ingestion.run(home, [album.parent])
    assert "it is not a file" in (error(home) or "")


def test_a_sheet_whose_file_comes_later_is_of_that_file(album: Path, home: Home) -> None:
    (album / "album.flac").rename(album / "x.flac")
    ingestion.run(home, [album.parent])
    assert error(home)
    shutil.copy(write(album / "y.flac", seed=1), album / "album.flac")
    os.remove(album / "y.flac")
    ingestion.run(home, [album.parent])
    told = catalog.read(home).select(pl.col("cue").list.len().fill_null(0), "sheet_error").rows()
    assert told == [(3, None), (0, None)]


def test_an_album_in_files_needs_no_sheet(album: Path, home: Home) -> None:
    os.remove(album / "album.flac")
    for number, (begin, end) in enumerate(((0, 311), (311, 600), (600, 900)), 1):
        write(album / f"{number}.flac", begin=begin, end=end)
    # One that names the file that was split, and one with a file for each track.
    (album / "album.cue").write_text(SHEET.replace("album.flac", "CDImage.wav"), encoding="utf-8")
    parts = "".join(
        f'FILE "{number}.flac" WAVE\nTRACK 0{number} AUDIO\nINDEX 01 00:00:00\n'
        for number in (1, 2, 3)
    )
    (album / "parts.cue").write_text(parts, encoding="utf-8")
    summary = ingestion.run(home, [album.parent])
    assert summary.warnings == []
    assert songs(home)["title"].to_list() == ["1", "2", "3"]
    assert catalog.read(home)["sheet_error"].is_null().all()


TWO = """FILE "Kid A.wav" WAVE
TRACK 01 AUDIO
TITLE "Other"
INDEX 01 00:00:00
TRACK 02 AUDIO
TITLE "Kid A"
INDEX 01 00:04:11
"""
REST = {"begin": 311}


def told(music: Path, home: Home) -> list[tuple[str, int]]:
    """The files, and how many songs are in each; nobody may be told that a sheet does not fit."""
    assert ingestion.run(home, [music]).warnings == []
    assert catalog.read(home)["sheet_error"].is_null().all()
    found = songs(home).group_by("path").agg(pl.len()).sort("path")
    return [(os.path.basename(path), n) for path, n in found.iter_rows()]


@pytest.mark.parametrize(
    ("names", "tags"),
    [
        (("Other.flac", "Kid A.flac"), {}),
        (("01. Other.flac", "Kid A.flac"), {}),
        (("Band - 01 - Other.flac", "Kid A.flac"), {}),
        (("1.flac", "Kid A.flac"), {"title": "other"}),
        (("x.flac", "Kid A.flac"), {}),  # by its length
    ],
)
@pytest.mark.parametrize("named", ["Kid A.wav", "Kid A.flac"])
def test_the_title_track_of_an_album_in_files_is_not_cut_by_the_sheet_of_the_whole(
    names: tuple[str, str], tags: dict[str, str], named: str, home: Home, tmp_path: Path
) -> None:
    music = tmp_path / "music"
    write(music / names[0], tags, end=311)
    write(music / names[1], **REST)
    (music / "Kid A.cue").write_text(TWO.replace("Kid A.wav", named), encoding="utf-8")
    assert told(music, home) == sorted([(names[0], 1), (names[1], 1)])


def test_a_title_track_that_comes_first_is_passed_over_as_well(home: Home, tmp_path: Path) -> None:
    music = tmp_path / "music"
    write(music / "Kid A.flac", end=311)
    write(music / "Other.flac", **REST)
    swapped = (
        TWO.replace('"Other"', "x").replace('"Kid A"', "Other").replace("TITLE x", "TITLE Kid A")
    )
    (music / "Kid A.cue").write_text(swapped, encoding="utf-8")
    assert told(music, home) == [("Kid A.flac", 1), ("Other.flac", 1)]


@pytest.mark.parametrize("titles", [("Other", "Kid A"), ("T1", "T2")])
def test_a_last_track_that_is_longer_than_all_before_it_needs_no_sheet(
    titles: tuple[str, str], home: Home, tmp_path: Path
) -> None:
    music = tmp_path / "music"
    write(music / "01 A.flac", end=311)
    write(music / "02 B.flac", **REST)
    sheet = TWO.replace('"Other"', titles[0]).replace('"Kid A"', titles[1])
    (music / "Single.cue").write_text(sheet.replace("Kid A.wav", "Single.wav"), encoding="utf-8")
    assert told(music, home) == [("01 A.flac", 1), ("02 B.flac", 1)]


def test_a_sheet_of_the_whole_within_each_track_is_passed_over(home: Home, tmp_path: Path) -> None:
    music = tmp_path / "music"
    write(music / "Other.flac", {"CUESHEET": TWO}, end=311)
    write(music / "Kid A.flac", {"CUESHEET": TWO}, **REST)
    assert told(music, home) == [("Kid A.flac", 1), ("Other.flac", 1)]


@pytest.mark.parametrize(
    "others",
    [
        {"bonus.flac": (0, 500)},
        {"Other (demo).flac": (0, 311), "Kid A (demo).flac": (311, 900)},
        {"01 Other.flac": (0, 311), "02 Kid A.flac": (311, 900)},  # both the whole and its tracks
        {"1.flac": (0, 100), "2.flac": (100, 200), "3.flac": (200, 500)},
        {"Kid A.mp3": (0, 900)},
    ],
)
@pytest.mark.parametrize("whole", ["Kid A.flac", "album.flac"])
def test_an_album_in_a_file_is_cut_whatever_lies_beside_it(
    others: dict[str, tuple[int, int]], whole: str, home: Home, tmp_path: Path
) -> None:
    music = tmp_path / "music"
    write(music / whole, seed=1)
    for name, (begin, end) in others.items():
        write(music / name, seed=2, begin=begin, end=end)
    sheet = TWO.replace("Kid A.wav", whole)
    (music / "x.cue").write_text(sheet, encoding="utf-8")
    assert dict(told(music, home))[whole] == 2


def test_an_album_in_a_file_is_cut_though_a_bonus_track_is_as_long_as_a_track(
    home: Home, tmp_path: Path
) -> None:
    write(tmp_path / "music" / "album.flac", seed=1)
    write(tmp_path / "music" / "bonus.flac", seed=2, end=311)
    (tmp_path / "music" / "album.cue").write_text(TWO, encoding="utf-8")
    assert told(tmp_path / "music", home) == [("album.flac", 2), ("bonus.flac", 1)]


def test_a_sheet_of_a_file_that_is_not_there_is_told_of_though_there_are_as_many_as_tracks(
    home: Home, tmp_path: Path
) -> None:
    for number in range(3):
        write(tmp_path / "music" / f"{number}.flac", seed=number)
    (tmp_path / "music" / "x.cue").write_text(SHEET, encoding="utf-8")
    ingestion.run(home, [tmp_path / "music"])
    assert catalog.read(home)["sheet_error"].is_not_null().sum() == 1


def test_the_recordings_code_is_the_tracks_and_not_the_files(album: Path, home: Home) -> None:
    coded = SHEET.replace('"Low"', '"Low"\n    ISRC gb-aye-06-01498')
    coded = coded.replace('"High"', '"High"\n    ISRC 000000000000')
    (album / "album.cue").write_text(coded, encoding="utf-8")
    ingestion.run(home, [album.parent])
    assert songs(home)["isrc"].to_list() == ["GBAYE0601498", None, None]


def test_a_catalogue_that_knows_of_no_codes_is_read_and_its_sheets_once_more(
    album: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    coded = SHEET.replace('"Low"', '"Low"\n    ISRC GBAYE0601498')
    (album / "album.cue").write_text(coded, encoding="utf-8")
    with monkeypatch.context() as older:
        older.setattr(sheets, "VERSION", 1)
        ingestion.run(home, [album.parent])
    before = ids(home)
    fields = [name for name in catalog.CUE_SONG.to_schema() if name != "isrc"]
    narrow = pl.element().struct.field(fields)
    files = catalog.read(home).with_columns(pl.col("cue").list.eval(pl.struct(narrow)).alias("cue"))
    assert "isrc" not in str(files.schema["cue"])
    tables.write(home.catalog, files)
    assert songs(home)["isrc"].to_list() == [None] * 3
    monkeypatch.setattr(identify, "identify", None)  # whoever opens the file fails
    ingestion.run(home, [album.parent])
    assert (ids(home), songs(home)["isrc"][0]) == (before, "GBAYE0601498")


def test_a_song_that_cannot_be_decoded_is_named(
    album: Path, home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    late = SHEET.replace("00:08:00", "00:11:70")
    (album / "album.cue").write_text(late, encoding="utf-8")
    ingestion.run(home, [album.parent])
    summary = spectrograms.run(home)
    why = "song 3, “High”, which begins at 0:11: too short: 0.07 s of sound"
    assert stage.read_failures(home.shards(SpectrogramSettings().spec_id))["reason"].to_list() == [
        why
    ]
    assert f"{album / 'album.flac'}: {why}" in caplog.text
    (warning,) = summary.warnings
    assert warning.startswith(
        f"1 song could not be decoded, such as {album / 'album.flac'} ({why})"
    )


def test_a_sheet_of_several_albums_in_files_cuts_each(album: Path, home: Home) -> None:
    write(album / "other.wav", seed=1)
    both = SHEET + SHEET.replace("album.flac", "other.wav").replace("TRACK 0", "TRACK 1")
    (album / "album.cue").write_text(both, encoding="utf-8")
    ingestion.run(home, [album.parent])
    assert songs(home)["track_number"].to_list() == [1, 2, 3, 11, 12, 13]


def test_of_two_albums_the_one_whose_sheet_names_another_file_is_told_of(
    album: Path, home: Home
) -> None:
    write(album / "disc 2.flac", seed=1)
    (album / "2.cue").write_text(SHEET.replace("album.flac", "CDImage.wav"), encoding="utf-8")
    ingestion.run(home, [album.parent])
    told = dict(catalog.read(home).select("path", "sheet_error").iter_rows())
    assert told[str(album / "album.flac")] is None
    assert "(2.cue): it is of “CDImage.wav”" in (told[str(album / "disc 2.flac")] or "")


def test_what_a_mac_keeps_beside_a_sheet_is_none(album: Path, home: Home) -> None:
    (album / "._album.cue").write_bytes(b"\0\5\x16\7")
    ingestion.run(home, [album.parent])
    assert (len(ids(home)), error(home)) == (3, None)


def test_a_sheet_that_may_not_be_read_is_read_as_soon_as_it_may(
    ordinary_user: Path,
) -> None:
    music, home = ordinary_user / "music", Home(ordinary_user / "home")
    write(music / "album.flac")
    (music / "album.cue").write_text(SHEET, encoding="utf-8")
    (music / "album.cue").chmod(0)
    ingestion.run(home, [music])
    assert "it cannot be read: Permission denied" in (error(home) or "")
    assert not ingestion.run(home, [music]).did_work
    (music / "album.cue").chmod(0o600)
    ingestion.run(home, [music])
    assert len(ids(home)) == 3
