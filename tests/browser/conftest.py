"""A small collection that the real stages made, and the page that shows it, in a real browser.

Playwright is an extra, installed by ``make test-browser``: without it nothing here is collected.
"""

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import av
import pytest
import stages

from fastdino import demo
from fastdino.core.home import Home
from fastdino.core.storage import exclusive_lock

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

collect_ignore_glob = [] if find_spec("playwright") else ["test_*.py"]


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Twenty-five songs of 24 s in seven formats, one that browsers do not know among them.

    Made once, by whichever process of a test run comes first; each has a copy of the home.
    """
    own, worker = tmp_path_factory.getbasetemp(), os.environ.get("PYTEST_XDIST_WORKER")
    folder = (own.parent if worker else own) / "browser"
    made, music = Home(folder / "made"), folder / "music"
    with exclusive_lock(folder, with_all_below=False):
        if not made.page.exists():
            demo.synthesise(music, artists=4, songs_per_artist=6, seconds=24.0)
            _as_wma(next(music.rglob("*.wav")), music / "Unsorted" / "Old Player.wma")
            stages.run(made, music)
    return Home(Path(shutil.copytree(made.root, folder / (worker or "home"))))


def _as_wma(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    with av.open(str(source)) as read, av.open(str(target), "w", "asf") as written:
        stream = written.add_stream("wmav2", rate=44_100, layout="stereo")
        stream.bit_rate = 128_000
        fitting = av.AudioResampler("fltp", "stereo", 44_100, frame_size=2048)
        for frame in read.decode(audio=0):
            for ready in fitting.resample(frame):
                written.mux(stream.encode(ready))
        written.mux(stream.encode(None))


@pytest.fixture(scope="session")
def url(collection: Home) -> Iterator[str]:
    """Where ``fastdino serve`` serves the collection, as it says itself."""
    from opening import serve

    with serve(collection) as address:
        yield address


@pytest.fixture
def context(chromium: "Browser") -> Iterator["BrowserContext"]:
    """A fresh profile on a laptop's screen."""
    context = chromium.new_context(viewport={"width": 1366, "height": 768}, accept_downloads=True)
    yield context
    context.close()


@pytest.fixture
def page(context: "BrowserContext", url: str) -> Iterator["Page"]:
    """The page, served and ready; whatever it complains about fails the test."""
    from opening import opened, watched

    page, complaints = watched(context)
    yield opened(page, url)
    assert not complaints
