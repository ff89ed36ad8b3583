"""What the tests of the page's server share: a published home."""

from pathlib import Path

import pytest
import synthetic
from asking import SERVER_ID
from music_server import told, write_ids

from fastdino import reports
from fastdino.core.home import Home
from fastdino.database import publish
from fastdino.page import write_page


@pytest.fixture(scope="session")
def published(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Eight songs; the files of the first four are real, the fifth is a page, the rest are gone."""
    home = Home(tmp_path_factory.mktemp("served") / "home")
    synthetic.write_home(home, 8)
    files = [next(library.rglob(f"*{kind}")) for kind in (".flac", ".mp3", ".opus", ".wav")]
    text = library.parent / "notes.html"
    text.write_text("<script>alert(1)</script>")
    songs = [synthetic.song(i) for i in range(8)]
    for song, path in zip(songs, [*files, text], strict=False):
        song["path"] = str(path)
    synthetic.write_catalog(home, songs)
    reports.draw_map(home)
    publish(home)
    write_page(home)
    ids = [SERVER_ID, *(f"nd{i}" for i in range(1, 8))]
    write_ids(home, [told(i, id=ids[i], path=songs[i]["path"]) for i in range(8)])
    return home
