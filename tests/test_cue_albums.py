"""An album in one file, with a CUE sheet, through all stages: each of its tracks is a song."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from cue_album import END, RATE, SHEET, sound, write
from page.asking import serving
from published import rows

from assets import database as database_asset
from assets import embeddings as embeddings_asset
from assets import ingestion as ingestion_asset
from assets import spectrograms as spectrograms_asset
from assets.stage import HomeFolder
from fastdino.core.home import Home
from fastdino.database import playlists
from fastdino.database.connection import connect
from fastdino.ingestion import catalog, scan
from fastdino.page import page
from fastdino.training import labels
from fastdino.upkeep import compaction, verify
from pipelines import sensors
from tests.stages import run

LOW, MIDDLE, HIGH = (0.0, 311 / 75), (311 / 75, 8.0), (8.0, None)


@pytest.fixture(scope="module")
def finished(library: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, Path]:
    """A finished run on some songs, an album in one file, and one whose sheet does not fit."""
    folder = tmp_path_factory.mktemp("albums")
    music = folder / "music"
    for song in library.rglob("*.flac"):
        music.mkdir(exist_ok=True)
        shutil.copy(song, music)
    write(music / "fits" / "album.flac", {"title": "All of it"})
    (music / "fits" / "album.cue").write_text(SHEET, encoding="utf-8")
    write(music / "misfit" / "short.flac", seed=1, end=5 * 75)
    (music / "misfit" / "short.cue").write_text(SHEET, encoding="utf-8")
    home = Home(folder / "home")
    run(home, music)
    return home, music


def of_album(home: Home) -> list[str]:
    """The ids of its three songs."""
    found = rows(home, "SELECT track_id FROM tracks WHERE start_s IS NOT NULL ORDER BY start_s")
    return [track_id for (track_id,) in found]


def test_each_has_its_own_row_vectors_and_neighbours(finished: tuple[Home, Path]) -> None:
    home, music = finished
    where = f"WHERE path = '{music / 'fits' / 'album.flac'}' ORDER BY start_s"
    columns = "title, artist, album, album_artist, genre, year, track_number, start_s, end_s"
    shared = ("Three Tones", "The Sheet", "Chamber Pop", 1997)
    found = rows(home, f"SELECT {columns} FROM songs {where}")
    assert found == [
        pytest.approx(("Low", "The Sheet", *shared, 1, *LOW)),
        pytest.approx(("Middle", "A Guest", *shared, 2, *MIDDLE)),
        pytest.approx(("High", "The Sheet", *shared, 3, *HIGH)),
    ]
    assert rows(home, f"SELECT start_s, end_s FROM files {where}") == [
        pytest.approx(place) for place in (LOW, MIDDLE, HIGH)
    ]
    in_all = rows(home, "SELECT count(*) FROM songs WHERE x IS NOT NULL")
    assert in_all == rows(home, "SELECT count(*) FROM current_embeddings")
    assert in_all == rows(home, "SELECT count(DISTINCT track_id) FROM current_neighbors")
    assert in_all == [(6,)]
    # Moments are told from where the song begins.
    ends = rows(
        home, "SELECT max(s.end_s) FROM current_segments AS s JOIN tracks USING (track_id) "
        "WHERE tracks.start_s IS NOT NULL GROUP BY track_id ORDER BY max(tracks.start_s)",
    )  # fmt: skip
    assert ends == [pytest.approx((length,), abs=0.02) for length in (311 / 75, 289 / 75, 4.0)]


def test_a_sheet_that_does_not_fit_is_in_failures_and_its_file_a_song(
    finished: tuple[Home, Path],
) -> None:
    home, music = finished
    [(path, stage, reason, title)] = rows(
        home,
        "SELECT failures.path, stage, reason, title FROM failures JOIN tracks USING (track_id)",
    )
    assert (path, stage, title) == (str(music / "misfit" / "short.flac"), "ingestion", "short")
    assert reason == (
        "taken as one song, as its CUE sheet does not fit (short.cue): track 3 begins at 0:08, and "
        "the file ends at 0:05"
    )


def test_all_that_was_made_of_it_agrees_and_a_second_run_has_nothing_to_do(
    finished: tuple[Home, Path],
) -> None:
    home, music = finished
    assert not any(summary.did_work for summary in run(home, music).values())
    assert list(verify.check(home)) == []
    folder = HomeFolder(path=str(home.root))
    for check in (
        ingestion_asset.catalog_has_songs,
        spectrograms_asset.every_track_is_accounted_for,
        spectrograms_asset.few_files_failed,
        embeddings_asset.every_track_has_a_vector,
        database_asset.database_matches_the_files,
    ):
        result = check(home=folder)
        assert result.passed, result.description  # type: ignore[union-attr]


def test_a_playlist_says_where_a_song_is_as_far_as_players_can_be_told(
    finished: tuple[Home, Path],
) -> None:
    home, music = finished
    album = music / "fits" / "album.flac"
    with connect(home.database) as db:
        lines = playlists.m3u8(playlists.like(db, "Middle")).splitlines()
    assert lines[2:6] == [
        "#EXTINF:4,A Guest - Middle",
        "#EXTVLCOPT:start-time=4.147",
        "#EXTVLCOPT:stop-time=8.000",
        str(album),
    ]
    at = lines.index("#EXTINF:4,The Sheet - High")
    assert lines[at + 1 : at + 3] == ["#EXTVLCOPT:start-time=8.000", str(album)]
    assert sum("VLCOPT" in line for line in lines) == 5


def test_the_page_hears_a_song_from_its_beginning_to_its_end(finished: tuple[Home, Path]) -> None:
    home, _ = finished
    whole = sound().T
    with serving(home) as ask:
        for track_id, (start, end) in zip(of_album(home), (LOW, MIDDLE, HIGH), strict=True):
            expected = whole[round(start * RATE) : round((end or END / 75) * RATE)]
            status, headers, body = ask(f"/audio/{track_id}")
            assert (status, headers["content-type"]) == (200, "audio/wav")
            heard, rate = soundfile.read(io.BytesIO(body), dtype="float32")
            assert rate == RATE
            np.testing.assert_allclose(heard, expected, rtol=0, atol=2 / 32768)
            status, headers, part = ask(f"/audio/{track_id}.wav", Range="bytes=100001-200000")
            assert (status, part) == (206, body[100_001:200_001])


def test_the_page_knows_where_songs_are_for_its_playlists(finished: tuple[Home, Path]) -> None:
    home, _ = finished
    with connect(home.database) as db:
        shown = page.gather(db)["data"]["songs"]
    found = {shown["title"][row]: place for row, place in shown["place"].items()}
    assert found == {"Low": [0.0, 4.147], "Middle": [4.147, 8.0], "High": [8.0, None]}


def test_labels_are_known_of_each(finished: tuple[Home, Path], tmp_path: Path) -> None:
    home, music = finished
    known = labels.read(home.catalog)
    artists = [known[track_id].artist for track_id in of_album(home)]
    assert artists == ["The Sheet", "A Guest", "The Sheet"]
    # What is said of the file is said of all of them.
    given = tmp_path / "given.csv"
    given.write_text(f"path,label,artist\n{music / 'fits' / 'album.flac'},Tones,\n")
    known = labels.read(home.catalog, [given])
    assert {known[track_id].label for track_id in of_album(home)} == {"Tones"}
    assert known[of_album(home)[1]].artist == "A Guest"


def test_a_change_of_a_sheet_is_seen_from_outside(collection: tuple[Home, Path]) -> None:
    home, music = collection
    known = sensors.fingerprint(catalog.read(home))
    assert sensors.fingerprint(scan.scan([music]).files) == known
    (music / "fits" / "album.cue").write_text(SHEET.replace("Low", "Lower"), encoding="utf-8")
    assert sensors.fingerprint(scan.scan([music]).files) != known


def test_a_lost_catalogue_costs_no_song_its_place(collection: tuple[Home, Path]) -> None:
    home, music = collection
    before = rows(home, "SELECT track_id, added_at FROM tracks ORDER BY ALL")
    home.catalog.unlink()
    assert len(list(verify.check(home, repair=True))) == 1
    summaries = run(home, music)
    assert not any(summaries[step].did_work for step in ("spectrograms", "train", "embed", "map"))
    assert rows(home, "SELECT track_id, added_at FROM tracks ORDER BY ALL") == before
    assert list(verify.check(home)) == []


def test_without_its_sheet_the_file_is_a_song_and_the_others_are_kept_until_compacted(
    collection: tuple[Home, Path],
) -> None:
    home, music = collection
    before = of_album(home)
    (music / "fits" / "album.cue").unlink()
    run(home, music)
    assert of_album(home) == []
    assert rows(home, "SELECT count(*) FROM current_embeddings") == [(4,)]
    assert rows(home, "SELECT count(*) FROM songs WHERE title = 'All of it'") == [(1,)]
    (music / "fits" / "album.cue").write_text(SHEET, encoding="utf-8")
    summaries = run(home, music)
    assert of_album(home) == before
    assert not summaries["spectrograms"].did_work
    assert compaction.run(home).counts["dropped"] == 1
    assert rows(home, "SELECT count(*) FROM current_embeddings") == [(6,)]
