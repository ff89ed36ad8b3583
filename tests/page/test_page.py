"""The report page: what it holds, and that it is safe. Browsers are in ``tests/browser``."""

import base64
import json
import re
import shutil
from pathlib import Path

import duckdb
import numpy as np
import pytest
import synthetic
from embedded import HOSTILE, embedded

from fastdino import reports
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.database import publish
from fastdino.page import page, write_page


def make(home: Home, n: int, **changes: object) -> str:
    """Write a collection of ``n`` songs and its page; returns the page."""
    synthetic.write_home(home, n)
    broken = {
        **synthetic.song(9_000),
        "track_id": None,
        "error": "not audio",
        "path": f"/m/{HOSTILE}.mp3",
    }
    synthetic.write_catalog(home, [*({**synthetic.song(i), **changes} for i in range(n)), broken])
    reports.draw_map(home)
    publish(home)
    write_page(home)
    return home.page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def thirty(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Thirty songs and their page. Made once: only read them."""
    home = Home(tmp_path_factory.mktemp("page") / "home")
    make(home, 30)
    return home


@pytest.fixture
def copied(thirty: Home, home: Home) -> Home:
    """The same, to be changed."""
    return Home(Path(shutil.copytree(thirty.root, home.root)))


def test_the_page_shows_every_song_with_its_tags_and_cluster(thirty):
    text = thirty.page.read_text(encoding="utf-8")
    data, files = embedded(text), embedded(text, "files")
    songs = data["songs"]
    known = [int(track_id, 16) for track_id in songs["id"]]
    assert sorted(known) == list(range(30))
    assert songs["title"] == [synthetic.song(i)["title"] for i in known]
    assert [[data["artists"][a] for a in by] for by in songs["artists"]] == [
        [synthetic.song(i)["artist"]] for i in known
    ]
    assert [[data["genres"][g] for g in kinds] for kinds in songs["genres"]] == [
        [synthetic.genre_of(i)] for i in known
    ]
    assert [data["albums"][a] for a in songs["album"]] == [
        synthetic.song(i)["album"] for i in known
    ]
    assert songs["year"] == [synthetic.song(i)["year"] for i in known]
    for row, i in enumerate(known):
        path = f"{files['folders'][files['folder'][row]]}/{files['file'][row]}"
        assert path == synthetic.song(i)["path"]
    assert {c["id"] for c in data["clusters"]} == set(songs["cluster"]) - {-1}
    for cluster in data["clusters"]:
        assert songs["cluster"][cluster["typical"]] == cluster["id"]
    assert data["counts"]["songs"] == 30
    assert data["counts"]["failures"] == len(files["failures"]) == 1


def test_a_song_of_several_artists_and_genres_is_there_for_each(home):
    duet = {"artist": "A feat. B", "artists": ["A", "B"], "genre": "X; Y", "genres": ["X", "Y"]}
    data = embedded(make(home, 30, **duet))
    assert (data["artists"], data["genres"]) == (["A", "B"], ["X", "Y"])
    assert data["songs"]["artists"] == data["songs"]["genres"] == [[0, 1]] * 30
    assert set(data["songs"]["credit"]) == {"A feat. B"}
    assert data["counts"]["artists"] == 2
    data = embedded(make(home, 30, artist="A; B", artists=["A", "B"]))
    assert set(data["songs"]["credit"]) == {None}
    data = embedded(make(home, 30, artist=None, genre=None))
    assert data["songs"]["artists"] == data["songs"]["genres"] == [[]] * 30


def test_an_album_is_one_of_an_artist_or_else_of_a_folder_and_in_its_order(home):
    hits, discs = {"album": "Greatest Hits"}, {"album": "Live", "album_artist": "Blur"}
    described = [
        # path, tags: in the order in which they are to come
        ("/m/a/Abba/2.flac", hits | {"track_number": 1}),
        ("/m/a/Abba/1.flac", hits | {"track_number": 2}),
        ("/m/a/Abba/0.flac", hits | {"track_number": 10}),
        ("/m/a/Cher/1.flac", hits | {"track_number": None}),
        ("/m/a/Cher/2.flac", hits | {"track_number": None}),
        # A folder a disc, or both in one, where numbers come twice.
        ("/m/b/CD1/1.flac", discs | {"track_number": 1}),
        ("/m/b/CD1/2.flac", discs | {"track_number": 2}),
        ("/m/b/CD2/1.flac", discs | {"track_number": 1}),
        ("/m/b/CD10/1.flac", discs | {"track_number": 1}),
        ("/m/c/1-01.flac", {"album": "Both", "album_artist": "Queen", "track_number": 1}),
        ("/m/c/1-02.flac", {"album": "Both", "album_artist": "Queen", "track_number": 2}),
        ("/m/c/2-01.flac", {"album": "Both", "album_artist": "Queen", "track_number": 1}),
        ("/m/d/1.flac", {"album": None, "track_number": 1}),
    ]
    n = len(described)
    synthetic.write_home(home, n)
    # Nothing of that order is in their ids.
    rows = [{**synthetic.song(5 * i % n), "path": described[i][0], **described[i][1]}
            for i in range(n)]  # fmt: skip
    synthetic.write_catalog(home, rows)
    reports.draw_map(home)
    publish(home)
    write_page(home)
    data = embedded(home.page.read_text(encoding="utf-8"))
    assert data["songs"]["id"] == [row["track_id"] for row in rows]
    album = data["songs"]["album"]
    assert [[row for row in range(n) if album[row] == g] for g in range(len(data["albums"]))] == [
        [5, 6, 7, 8], [9, 10, 11], [0, 1, 2], [3, 4]
    ]  # fmt: skip
    assert data["albums"] == ["Live", "Both", "Greatest Hits", "Greatest Hits"]
    assert album[12] == -1


def test_the_page_knows_every_songs_nearest_in_their_order(thirty):
    text = thirty.page.read_text(encoding="utf-8")
    data, neighbors = embedded(text), embedded(text, "neighbors")
    k = neighbors["k"]
    near = np.frombuffer(base64.b64decode(neighbors["rows"]), "<u4").reshape(30, k)
    alike = np.frombuffer(base64.b64decode(neighbors["similarities"]), np.uint8)
    query = "SELECT neighbor_id, similarity FROM neighbors WHERE track_id = ? ORDER BY rank"
    with duckdb.connect(str(thirty.database), read_only=True) as db:
        for row, track_id in enumerate(data["songs"]["id"]):
            ids, similarities = zip(*db.execute(query, [track_id]).fetchall(), strict=True)
            assert [data["songs"]["id"][i] for i in near[row]] == list(ids)
            shown = alike.reshape(30, k)[row] / 255
            np.testing.assert_allclose(shown, np.maximum(similarities, 0), atol=0.5 / 255 + 1e-6)


def test_songs_that_left_the_collection_are_no_ones_nearest(copied):
    home = copied
    synthetic.write_catalog(home, [synthetic.song(i) for i in range(0, 30, 2)])
    publish(home)
    write_page(home)
    neighbors = embedded(home.page.read_text(encoding="utf-8"), "neighbors")
    near = np.frombuffer(base64.b64decode(neighbors["rows"]), "<u4").reshape(15, neighbors["k"])
    assert near.max() == 15  # None: the rest of the row.
    assert all((np.diff((row == 15).astype(int)) >= 0).all() for row in near)


def test_of_more_songs_than_a_browser_holds_there_is_a_sample_and_it_is_said(
    copied: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = copied
    whole = embedded(home.page.read_text(encoding="utf-8"))
    assert whole["counts"]["shown"] == 30
    assert "sample" not in whole["facts"]
    monkeypatch.setattr(page, "SHOWN", 20)
    home.page.unlink()
    assert "30 songs on the map (20 of them shown)" in write_page(home).headline
    text = home.page.read_text(encoding="utf-8")
    data, neighbors = embedded(text), embedded(text, "neighbors")
    assert data["counts"] == {**whole["counts"], "shown": 20}
    assert data["facts"].endswith("a sample of 20 is on this page")
    assert len(data["songs"]["id"]) == len(embedded(text, "files")["file"]) == 20
    # Every cluster has its typical song, and all that is said of a song is of those that are shown.
    assert data["clusters"]
    assert all(cluster["typical"] >= 0 for cluster in data["clusters"])
    near = np.frombuffer(base64.b64decode(neighbors["rows"]), "<u4").reshape(20, neighbors["k"])
    with duckdb.connect(str(home.database), read_only=True) as db:
        for row, track_id in enumerate(data["songs"]["id"]):
            query = "SELECT neighbor_id FROM neighbors WHERE track_id = ? ORDER BY rank"
            ids = [name for (name,) in db.execute(query, [track_id]).fetchall()]
            shown = [name for name in ids if name in data["songs"]["id"]]
            assert [data["songs"]["id"][i] for i in near[row] if i < 20] == shown
    # It is the same each time.
    before = home.page.read_bytes()
    home.page.unlink()
    write_page(home)
    assert home.page.read_bytes() == before


def test_the_page_tells_growth_and_the_quality_of_every_model(home):
    make(home, 4)
    synthetic.write_model(home, "model-b", current=False)
    publish(home)
    write_page(home)
    data = embedded(home.page.read_text(encoding="utf-8"))
    assert data["growth"] == [["2025-01-01", 4]]
    models = [(name, is_current) for name, _, is_current, *_ in data["models"]]
    assert models == [("model-a", True), ("model-b", False)]


def test_tags_cannot_end_the_script_element_or_be_taken_for_placeholders(home):
    text = make(home, 30, title=HOSTILE, artist=HOSTILE, album=HOSTILE, genre=HOSTILE)
    data = embedded(text)
    assert set(data["songs"]["title"]) == {HOSTILE}
    assert data["artists"] == [HOSTILE]
    assert embedded(text, "files")["failures"][0][0] == f"/m/{HOSTILE}.mp3"
    assert "owned'</script>" not in text
    assert "\u2028" not in text.partition('<script id="data"')[2]


def test_the_page_loads_nothing_and_may_ask_no_one_but_its_own_server(home):
    text = make(home, 5)
    own = re.sub(r"<script>/\*\*.*?</script>", "", text, count=1, flags=re.S)  # plotly.js itself
    assert len(own) < len(text) / 10
    assert not re.search(
        r"<(script|img|iframe)[^>]*\ssrc=|<link|@import|url\(|https?://(?!www.w3)", own
    )
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', own)[1]
    assert policy.startswith("default-src 'none'; ")
    assert "http" not in policy
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write", own)


def test_the_page_is_written_again_only_when_something_changed(home):
    make(home, 5)
    assert not write_page(home).did_work
    synthetic.write_catalog(home, [synthetic.song(i) for i in range(4)])
    publish(home)
    assert write_page(home).did_work
    assert len(embedded(home.page.read_text())["songs"]["x"]) == 4
    home.page.write_text("something else")
    assert write_page(home).did_work


def test_without_a_map_there_is_a_page_that_says_so(home):
    synthetic.write_home(home, 3)
    publish(home)
    write_page(home)
    assert "3 not on the map yet" in embedded(home.page.read_text())["facts"]


def test_without_a_database_the_user_is_told_what_to_run(home):
    with pytest.raises(UserError, match="run `make run`"):
        write_page(home)


def test_a_database_that_is_open_for_writing_elsewhere_is_named(home):
    home.database.parent.mkdir(parents=True)
    with (
        duckdb.connect(str(home.database)),
        pytest.raises(UserError, match=re.escape(str(home.database))),
    ):
        write_page(home)


def test_json_in_a_script_is_the_same_after_parsing():
    assert json.loads(page.script_safe([HOSTILE])) == [HOSTILE]


def test_a_page_that_is_not_as_it_was_written_is_written_again(home):
    synthetic.write_home(home, 10)
    publish(home)
    write_page(home)
    written = home.page.read_bytes()
    for spoilt in (written[:-1000], written[:-9000] + b"?" * 9000):
        home.page.write_bytes(spoilt)
        assert write_page(home).did_work
        assert home.page.read_bytes() == written
    assert not write_page(home).did_work


def test_a_page_of_another_version_is_whole_until_it_is_written_anew(home):
    # What it shows and the script that shows it are one file: neither meets the other's form.
    written = make(home, 5).encode()
    of_before = written.partition(b"\n<!-- sealed")[0].replace(
        page.page_fingerprint(home.page).encode(), b"0" * 32
    )
    home.page.write_bytes(page.sealed(of_before))
    assert page.page_fingerprint(home.page) == "0" * 32
    assert write_page(home).did_work
    assert home.page.read_bytes() == written
