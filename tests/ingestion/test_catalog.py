import contextlib
import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from fastdino.core import tables
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.ingestion import catalog

DAY = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)


def rows(*given: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame([{"added_at": DAY, **row} for row in given], schema=catalog.SCHEMA)


def test_a_catalogue_reads_back_as_it_was_written(home: Home) -> None:
    files = rows({"path": "/🎵\n.mp3", "track_id": "1", "year": 2004}, {"path": "/b", "error": "x"})
    catalog.write(home, files)
    assert catalog.read(home).equals(files)


def test_without_a_catalogue_we_are_told_what_to_run(home: Home) -> None:
    with pytest.raises(UserError, match="run `make run`"):
        catalog.read(home)


@pytest.mark.parametrize("content", [b"", b"PAR1 not really PAR1"])
def test_a_damaged_catalogue_is_named(home: Home, content: bytes) -> None:
    home.catalog.parent.mkdir(parents=True)
    home.catalog.write_bytes(content)
    with pytest.raises(UserError, match=r"files\.parquet is damaged"):
        catalog.read(home)


def test_a_catalogue_written_before_there_were_checksums_is_read(home: Home) -> None:
    files = rows({"path": "/a", "track_id": "1", "year": 2004}, {"path": "/b", "error": "x"})
    home.catalog.parent.mkdir(parents=True)
    files.write_parquet(home.catalog, compression="zstd")
    assert catalog.read(home).equals(files)


def test_no_flipped_bit_in_a_catalogue_is_believed(home: Home) -> None:
    files = rows(*({"path": f"/{i}", "track_id": str(i), "size": i} for i in range(50)))
    catalog.write(home, files)
    content = home.catalog.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(content), 150):
        spoilt = bytearray(content)
        spoilt[place] ^= 1 << place % 8
        home.catalog.write_bytes(spoilt)
        # Where neither data nor what describes it is, a bit makes no difference.
        with contextlib.suppress(UserError):
            assert catalog.read(home).equals(files), place


def test_a_catalogue_of_other_columns_is_refused(home: Home, tmp_path: Path) -> None:
    home.catalog.parent.mkdir(parents=True)
    pl.DataFrame({"path": ["a"]}).write_parquet(home.catalog)
    with pytest.raises(UserError, match="another version"):
        catalog.read(home)


def test_a_track_is_described_by_its_first_file() -> None:
    later = DAY + datetime.timedelta(days=1)
    found = catalog.tracks(
        rows(
            {"path": "/a.mp3", "track_id": "2", "title": "Later", "added_at": later},
            {"path": "/c.mp3", "track_id": "2", "title": "First", "artist": "X"},
            {"path": "/d.mp3", "track_id": "2", "title": "Same time"},
            {"path": "/b.mp3", "track_id": "1", "title": "Other"},
            {"path": "/e.mp3", "error": "damaged"},
        )
    )
    assert found.select("track_id", "title", "artist", "path", "n_files").rows() == [
        ("1", "Other", None, "/b.mp3", 1),
        ("2", "First", "X", "/c.mp3", 3),
    ]
    assert "error" not in found.columns


def test_a_copy_that_says_no_artist_does_not_hide_one_that_does_nor_make_the_song_new() -> None:
    later = DAY + datetime.timedelta(days=1)
    found = catalog.tracks(
        rows(
            {"path": "/a/track01.mp3", "track_id": "1"},
            {"path": "/b.mp3", "track_id": "1", "title": "T", "artist": "X", "added_at": later},
            {"path": "/c.mp3", "track_id": "1", "title": "Last", "artist": "Y", "added_at": later},
        )
    )
    columns = ("title", "artist", "path", "added_at", "n_files")
    assert found.select(columns).rows() == [("T", "X", "/b.mp3", DAY, 3)]


def test_artists_and_genres_of_files_read_by_an_older_version_are_the_one_text_known() -> None:
    found = catalog.tracks(
        rows(
            {"path": "/a", "track_id": "1", "artist": "A; B", "artists": ["A", "B"]},
            {"path": "/b", "track_id": "2", "artist": "A;B", "genre": "Dub"},
        )
    )
    assert found["artists"].to_list() == [["A", "B"], ["A;B"]]
    assert found["genres"].to_list() == [[], ["Dub"]]


def test_a_song_without_a_title_is_called_after_its_file() -> None:
    paths = ["/a.b/My. Song.mp3", "/x/no suffix", "/x/line\nbreak.ogg"]
    found = catalog.tracks(rows(*({"path": p, "track_id": str(i)} for i, p in enumerate(paths))))
    assert found["title"].to_list() == ["My. Song", "no suffix", "line\nbreak"]


def in_one_file(**columns: object) -> dict[str, object]:
    """A file in which a sheet tells of two songs, the first without tags."""
    nothing = dict.fromkeys(catalog.CUE_SONG.to_schema())
    first = {**nothing, "track_id": "x1", "start": 0, "end": 150, "track_number": 1}
    second = {**first, "track_id": "x2", "start": 150, "end": None, "track_number": 2}
    tags = {"title": "T", "artist": "A", "album": "B", "album_artist": "C", "genre": "G", "year": 1}
    of_file = {"track_id": "x", "title": "Of all", "artist": "F", "year": 7, "duration_s": 10.0}
    return {"path": "/m/One.flac", **of_file, "cue": [first, {**second, **tags}], **columns}


def test_of_a_file_with_a_sheet_the_tracks_are_those_of_the_sheet() -> None:
    files = rows(in_one_file(), {"path": "/z", "error": "damaged"}, {"path": "/y", "track_id": "y"})
    columns = ("track_id", "title", "artist", "year", "start_s", "end_s", "duration_s")
    assert catalog.tracks(files).select(columns).rows() == [
        ("x1", "One 01", "F", 7, 0.0, 2.0, 2.0),
        ("x2", "T", "A", 1, 2.0, None, 8.0),
        ("y", "y", None, None, None, None, None),
    ]
    assert catalog.track_ids(files) == {"x1", "x2", "y"}
    found = catalog.songs(files).select("path", "track_id", "error").rows()
    assert found == [
        ("/m/One.flac", "x1", None), ("/m/One.flac", "x2", None), ("/y", "y", None),
        ("/z", None, "damaged"),
    ]  # fmt: skip


def test_songs_of_two_copies_of_a_file_with_a_sheet_are_one_each() -> None:
    later = in_one_file(path="/m/Copy.flac", added_at=DAY + datetime.timedelta(days=1))
    found = catalog.tracks(rows(later, in_one_file()))
    assert found.select("track_id", "path", "n_files").rows() == [
        ("x1", "/m/One.flac", 2), ("x2", "/m/One.flac", 2),
    ]  # fmt: skip


def test_songs_in_a_file_read_back_as_they_were_written(home: Home) -> None:
    files = rows(in_one_file(), {"path": "/b", "error": "x"})
    catalog.write(home, files)
    assert catalog.read(home).equals(files)


def test_no_files_are_no_tracks() -> None:
    assert catalog.tracks(catalog.SCHEMA.to_frame()).is_empty()


def test_a_catalogue_of_before_a_column_was_added_is_read_with_nothing_in_it(home: Home) -> None:
    whole = rows({"path": "/a", "folder": "/", "size": 1, "mtime_ns": 1, "track_id": "x"})
    tables.write(home.catalog, whole.drop(catalog.ADDED))
    assert catalog.read(home).drop(catalog.ADDED).equals(whole.drop(catalog.ADDED))
    assert catalog.read(home).schema == catalog.SCHEMA
    tables.write(home.catalog, whole.drop("size"))
    with pytest.raises(UserError, match="damaged or of another version"):
        catalog.read(home)


def test_songs_begin_and_end_at_whole_seconds_where_the_sheet_says_so() -> None:
    """1125 / 75 is 15, and not 15.000000000000002."""
    starts = [75 * second for second in range(3000)]
    song = dict.fromkeys(catalog.CUE_SONG.to_schema())
    cuts = [{**song, "track_id": str(start), "start": start, "end": start + 75} for start in starts]
    file = {"path": "/a", "folder": "/", "size": 1, "mtime_ns": 1, "track_id": "x", "cue": cuts}
    found = catalog.songs(rows(file))
    assert found["start_s"].to_list() == [float(second) for second in range(3000)]
    assert found["end_s"].to_list() == [float(second + 1) for second in range(3000)]
    assert set(found["duration_s"]) == {1.0}
