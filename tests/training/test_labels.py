import datetime
import logging
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.paths import to_text
from fastdino.ingestion import catalog
from fastdino.training.labels import Labels, read

DAY = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
TAGS = Labels("Tagged", "Album", "Rock")


@pytest.fixture
def music(tmp_path: Path) -> Path:
    return tmp_path / "music"


@pytest.fixture
def files(home: Home, music: Path) -> Path:
    """A catalogue of two tracks, one of them in two files, and a file that cannot be used."""
    rows: list[dict[str, Any]] = [
        {"path": "a/one.mp3", "track_id": "1", "added_at": DAY},
        {"path": "a/copy.mp3", "track_id": "1", "added_at": DAY + datetime.timedelta(days=1)},
        {"path": "two, too.mp3", "track_id": "2", "added_at": DAY},
        {"path": "bad.mp3", "track_id": None, "error": "damaged", "added_at": DAY},
    ]
    for row in rows:
        row["path"] = str(music / str(row["path"]))
    tags = {"artist": "Tagged", "album": "Album", "genre": "Rock"}
    rows[0] |= tags
    rows[1] |= dict.fromkeys(tags, "Other")
    catalog.write(home, pl.DataFrame(rows, schema=catalog.SCHEMA))
    return home.catalog


def csv_file(folder: Path, text: str | bytes, name: str = "labels.csv") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder / name


def test_where_there_is_no_catalogue_nothing_is_known(home: Home) -> None:
    assert read(home.catalog) == {}


def test_tags_are_those_of_a_tracks_first_file(files: Path) -> None:
    assert read(files) == {"1": TAGS, "2": Labels(None, None, None)}


def test_a_copy_that_says_no_artist_does_not_hide_one_that_does(home: Home) -> None:
    copies = [{}, {"genre": "Rock"}, {"artist": "A", "album": "B"}, {"artist": "Other"}]
    rows = [{"path": f"/{i}", "track_id": "1", "added_at": DAY, **c} for i, c in enumerate(copies)]
    catalog.write(home, pl.DataFrame(rows, schema=catalog.SCHEMA))
    assert read(home.catalog) == {"1": Labels("A", "B", None)}
    catalog.write(home, pl.DataFrame(rows[:2], schema=catalog.SCHEMA))
    assert read(home.catalog) == {"1": Labels(None, None, None)}


def test_a_song_whose_name_is_not_utf8_goes_by_what_the_catalogue_calls_it(
    home: Home, music: Path
) -> None:
    name = to_text(os.fsdecode(b"caf\xe9.mp3"))
    row = {"path": f"{music}/{name}", "track_id": "1", "added_at": DAY}
    catalog.write(home, pl.DataFrame([row], schema=catalog.SCHEMA))
    labels = read(home.catalog, [csv_file(music, f"path,label,artist\n{name},Pop,\n")])
    assert labels == {"1": Labels(None, None, "Pop")}


def test_of_several_artists_and_genres_the_first_is_the_label(home: Home) -> None:
    row = {"path": "/a", "track_id": "1", "added_at": DAY, "album": "Album"}
    both = {"artist": "A; B", "artists": ["A", "B"], "genre": "Dub; Ska", "genres": ["Dub", "Ska"]}
    catalog.write(home, pl.DataFrame([{**row, **both}], schema=catalog.SCHEMA))
    assert read(home.catalog) == {"1": Labels("A", "Album", "Dub")}


def test_a_catalogue_of_before_there_were_lists_has_the_same_labels(files: Path) -> None:
    known = read(files)
    pl.read_parquet(files).drop(catalog.ADDED).write_parquet(files)
    assert read(files) == known


def test_a_csv_file_overrides_tags_and_its_empty_cells_keep_them(files: Path, music: Path) -> None:
    text = 'path,label,artist,title\na/one.mp3, Pop ,,x\n"two, too.mp3",,"Duo, The",y\n'
    assert read(files, [csv_file(music, text)]) == {
        "1": Labels("Tagged", "Album", "Pop"),
        "2": Labels("Duo, The", None, None),
    }


def test_columns_may_stand_in_any_order_and_name_the_album_too(files: Path, music: Path) -> None:
    text = "artist,path,album,label\nA,a/one.mp3,B,C\n"
    assert read(files, [csv_file(music, text)])["1"] == Labels("A", "B", "C")


def test_a_path_is_absolute_or_relative_to_the_csv_file(
    files: Path, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absolute = csv_file(tmp_path / "x", f"path,label,artist\n{music}/a/one.mp3,Pop,\n")
    assert read(files, [absolute])["1"].label == "Pop"
    relative = csv_file(tmp_path / "x", "path,label,artist\n../music/./a/one.mp3,Folk,\n")
    assert read(files, [relative])["1"].label == "Folk"
    monkeypatch.chdir(tmp_path)
    assert read(files, [relative.relative_to(tmp_path)])["1"].label == "Folk"


def test_any_file_of_a_track_names_it(files: Path, music: Path) -> None:
    assert (
        read(files, [csv_file(music, "path,label,artist\na/copy.mp3,Pop,\n")])["1"].label == "Pop"
    )


def test_of_two_csv_files_the_last_one_wins(files: Path, music: Path) -> None:
    first = csv_file(music, "path,label,artist\na/one.mp3,Pop,First\n", "1.csv")
    last = csv_file(music, "path,label,artist\na/one.mp3,Folk,\n", "2.csv")
    assert read(files, [first, last])["1"] == Labels("First", "Album", "Folk")


def test_files_as_spreadsheets_save_them_are_read(files: Path, music: Path) -> None:
    text = b"\xef\xbb\xbfpath,label,artist\r\na/one.mp3,Pop\r\n\r\n"
    assert read(files, [csv_file(music, text)])["1"] == Labels("Tagged", "Album", "Pop")


def test_rows_that_name_no_song_are_counted_in_the_log(
    files: Path, music: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = "path,label,artist\na/one.mp3,Pop,\nnone.mp3,Pop,\nbad.mp3,Pop,\n"
    with caplog.at_level(logging.WARNING):
        labels = read(files, [csv_file(music, text)])
    assert set(labels) == {"1", "2"}
    assert "2 of 3 rows" in caplog.text
    assert "line 3: none.mp3" in caplog.text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"path,artist\na/one.mp3,A\n", "line 1: there is no column label"),
        (b"path;label;artist\na/one.mp3;Pop;A\n", "with commas between"),
        (b"", "path or label or artist"),
        (b"path,label,artist\na/one.mp3,Pop,A\ntwo,\xe9t\xe9,\n", "line 3: is not UTF-8"),
        (b"path,label,artist\na/one.mp3,Pop,A\ntwo, too.mp3,Pop,A\n", "line 3: has more cells"),
        (b'path,label,artist\na/one.mp3,"Pop,A\n', "line 2: .*: check the quotes"),
        (b"path,label,artist\none.mp3,Pop,A\n", "none of its 1 paths .*line 2: one.mp3"),
    ],
)
def test_what_is_wrong_with_a_csv_file_is_said_with_its_line(
    files: Path, music: Path, text: bytes, said: str
) -> None:
    with pytest.raises(UserError, match=said) as raised:
        read(files, [csv_file(music, text)])
    assert str(music / "labels.csv") in str(raised.value)


def test_a_csv_file_that_is_not_there_is_named(files: Path, music: Path) -> None:
    with pytest.raises(UserError, match=r"none\.csv cannot be read"):
        read(files, [music / "none.csv"])


def test_labels_without_a_catalogue_to_put_them_to_are_no_silent_loss(
    home: Home, music: Path
) -> None:
    with pytest.raises(UserError, match="fastdino ingest"):
        read(home.catalog, [csv_file(music, "path,label,artist\na/one.mp3,Pop,\n")])


@pytest.mark.parametrize("content", [b"no parquet", b""])
def test_a_damaged_catalogue_says_what_to_do(home: Home, content: bytes) -> None:
    home.catalog.parent.mkdir(parents=True)
    home.catalog.write_bytes(content)
    with pytest.raises(UserError, match="delete it and run 'fastdino ingest'"):
        read(home.catalog)


def test_a_catalogue_of_another_version_says_what_to_do(home: Home) -> None:
    home.catalog.parent.mkdir(parents=True)
    pl.DataFrame({"path": ["x"], "track_id": ["1"]}).write_parquet(home.catalog)
    with pytest.raises(UserError, match="another version"):
        read(home.catalog)
