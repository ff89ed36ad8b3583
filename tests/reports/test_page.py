"""The report page: what it holds, that it is safe, and that a real browser draws it."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import duckdb
import numpy as np
import pytest
import synthetic
from matplotlib.image import imread

from fastdino import reports
from fastdino.embeddings import publish
from fastdino.errors import UserError
from fastdino.home import Home
from fastdino.reports import page

HOSTILE = "</script><script>document.title='owned'</script><b>&amp;\u2028\u2029{{data}}"
CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)


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
    reports.run_map(home)
    publish(home)
    reports.run_page(home)
    return home.page.read_text(encoding="utf-8")


def embedded(text: str) -> dict:
    """The data in the page, taken out as a browser does: up to the first closing tag."""
    found = re.search(r'<script id="data" type="application/json">(.*?)</script', text, re.S)
    return json.loads(found[1])


def test_the_page_shows_every_song_with_its_tags_and_cluster(home):
    data = embedded(make(home, 30))
    songs = data["songs"]
    assert songs["title"] == [synthetic.song(i)["title"] for i in range(30)]
    assert [data["artists"][a] for a in songs["artist"]] == [
        synthetic.song(i)["artist"] for i in range(30)
    ]
    assert [data["genres"][g] for g in songs["genre"]] == [synthetic.genre_of(i) for i in range(30)]
    assert {c["id"] for c in data["clusters"]} == set(songs["cluster"]) - {-1}
    assert data["counts"]["songs"] == 30
    assert data["counts"]["failures"] == len(data["failures"]) == 1


def test_tags_cannot_end_the_script_element_or_be_taken_for_placeholders(home):
    text = make(home, 30, title=HOSTILE, artist=HOSTILE, album=HOSTILE, genre=HOSTILE)
    data = embedded(text)
    assert set(data["songs"]["title"]) == {HOSTILE}
    assert data["artists"] == [HOSTILE]
    assert data["failures"][0][0] == f"/m/{HOSTILE}.mp3"
    assert "owned'</script>" not in text
    assert "\u2028" not in text.partition('<script id="data"')[2]


def test_the_page_loads_nothing_and_may_load_nothing(home):
    text = make(home, 5)
    own = re.sub(r"<script>/\*\*.*?</script>", "", text, count=1, flags=re.S)  # plotly.js itself
    assert len(own) < len(text) / 10
    assert not re.search(r"<(script|img|iframe)[^>]*\ssrc=|<link|@import|url\(|fetch\(", own)
    assert "default-src 'none'" in own


def test_the_page_is_written_again_only_when_something_changed(home):
    make(home, 5)
    assert not reports.run_page(home).did_work
    synthetic.write_catalog(home, [synthetic.song(i) for i in range(4)])
    publish(home)
    assert reports.run_page(home).did_work
    assert len(embedded(home.page.read_text())["songs"]["x"]) == 4
    home.page.write_text("something else")
    assert reports.run_page(home).did_work


def test_without_a_map_there_is_a_page_that_says_so(home):
    synthetic.write_home(home, 3)
    publish(home)
    reports.run_page(home)
    assert "3 not on the map yet" in embedded(home.page.read_text())["facts"]


def test_without_a_database_the_user_is_told_what_to_run(home):
    with pytest.raises(UserError, match="fastdino embed"):
        reports.run_page(home)


def test_a_database_that_is_open_for_writing_elsewhere_is_named(home):
    home.database.parent.mkdir(parents=True)
    with (
        duckdb.connect(str(home.database)),
        pytest.raises(UserError, match=re.escape(str(home.database))),
    ):
        reports.run_page(home)


def test_json_in_a_script_is_the_same_after_parsing():
    assert json.loads(page.script_safe([HOSTILE])) == [HOSTILE]


def browse(url: str, folder: Path, *options: str) -> str:
    """Open ``url`` in Chromium and return the finished document as HTML."""
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
        f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=8000",
        "--window-size=1280,800", *options, "--dump-dom", url,
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return result.stdout


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine to open the page in")
def test_a_browser_draws_the_map_and_takes_hostile_tags_as_text(home, tmp_path):
    make(home, 60, album=HOSTILE)
    titles = [{**synthetic.song(i), "title": HOSTILE if i < 12 else f"S {i}"} for i in range(60)]
    synthetic.write_catalog(home, titles)
    reports.run_map(home)
    publish(home)
    reports.run_page(home)
    picture = tmp_path / "page.png"
    dom = browse(home.page.as_uri(), tmp_path, f"--screenshot={picture}")
    assert 'data-ready="60"' in dom
    assert "<title>Map of the collection</title>" in dom
    assert "60 songs, laid out by sound" in dom
    assert dom.count("<tr data-group=") >= 6
    assert "1 file could not be used" in dom
    pixels = (255 * imread(picture)[:, :850, :3]).round().astype(int)  # left of the list
    for cluster in embedded(home.page.read_text(encoding="utf-8"))["clusters"]:
        color = [int(cluster["color"][i : i + 2], 16) for i in (1, 3, 5)]
        assert (np.abs(pixels - color).max(axis=2) < 30).sum() > 50, cluster["color"]
