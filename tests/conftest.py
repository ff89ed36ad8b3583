"""Fixtures that every stage's tests share: a folder for output, a small real library, a browser."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import demo_collection
import hypothesis
import object_store
import preloaded
import pytest

from fastdino import demo
from fastdino.core import workers
from fastdino.core.home import Home

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM_OPTIONS = (
    # Sound is played to no device, and without anyone having clicked.
    "--autoplay-policy=no-user-gesture-required", "--disable-audio-output",
    # Drawn by the processor where there is no graphics card.
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox",
)  # fmt: skip
if "PYTEST_XDIST_WORKER" in os.environ:
    # Every worker has a core; the threads of several would only wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Whatever a file .env says: no test's playlists among anyone's own, and no one's server asked.
os.environ["FASTDINO_PLAYLISTS"] = ""
os.environ["FASTDINO_SERVER"] = ""
# On a busy machine a slow example is no finding.
hypothesis.settings.register_profile("fastdino", deadline=None, max_examples=25)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=200)


def pytest_configure(config: pytest.Config) -> None:
    asks_for_all = "not thorough" not in config.option.markexpr
    hypothesis.settings.load_profile("thorough" if asks_for_all else "fastdino")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--picture", type=Path, help="write a picture of the page, of $FASTDINO_HOME if it is set"
    )


@pytest.fixture(scope="session", autouse=True)
def _workers_are_forked() -> Iterator[None]:
    """Workers that load torch once a session, and not each of them: most tests start some."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(workers, "CONTEXT", preloaded.context())
        yield


@pytest.fixture(scope="session")
def chromium_path() -> str:
    """The Chromium that is installed."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        pytest.fail("no Chromium found: install one (apt install chromium), or set CHROMIUM")
    return found


@pytest.fixture(scope="session")
def launch() -> Iterator[Callable[[str], "Browser"]]:
    """Starts a browser, by what is to be run for it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield lambda path: playwright.chromium.launch(
            executable_path=path, args=list(CHROMIUM_OPTIONS)
        )


@pytest.fixture(scope="session")
def chromium(launch: Callable[[str], "Browser"], chromium_path: str) -> Iterator["Browser"]:
    browser = launch(chromium_path)
    yield browser
    browser.close()


@pytest.fixture(scope="session")
def s3() -> Iterator[object_store.Server]:
    """An S3 server on loopback, made once for all tests: use a prefix of your own."""
    with object_store.server() as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An empty output folder."""
    return Home(tmp_path / "home")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve songs of 4 s by four artists in all six formats, a copy and a damaged file.

    Made once for all tests: only read it. ``music`` is a copy that a test may change.
    """
    folder = tmp_path_factory.mktemp("library") / "music"
    demo.synthesise(folder, artists=4, songs_per_artist=3, seconds=4.0)
    return folder


@pytest.fixture
def music(library: Path, tmp_path: Path) -> Path:
    """A copy of the small library that the test may change."""
    return Path(shutil.copytree(library, tmp_path / "music"))


@pytest.fixture(scope="session")
def demo_home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, list[Path]]:
    """The whole demo library, published with made-up vectors, and its files, which are empty.

    Made once for all tests: only read it, and put back files that you take away.
    """
    folder = tmp_path_factory.mktemp("demo")
    home = Home(folder / "home")
    paths = [Path(str(song["path"])) for song in demo_collection.write(home, folder / "music")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return home, paths


@pytest.fixture
def collection(finished: tuple[Home, Path], tmp_path: Path) -> Iterator[tuple[Home, Path]]:
    """The module's finished run and its music in a place where both may be changed."""
    home, music = finished
    # The catalogue holds absolute paths, so the music stays where it is and is put back after, if
    # need be: files that were put back are others for the catalogue, and are all opened again.
    kept, before = tmp_path / "kept", listed(music)
    shutil.copytree(music, kept)
    yield Home(Path(shutil.copytree(home.root, tmp_path / "home"))), music
    if listed(music) != before:
        shutil.rmtree(music)
        shutil.copytree(kept, music)


def listed(folder: Path) -> dict[Path, tuple[int, int]]:
    """All below a folder, and what changes when it does."""
    return {
        path: (status.st_ino, status.st_ctime_ns)
        for path in folder.rglob("*")
        for status in [path.lstat()]
    }


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A disk of its own, mounted as the options given say; once more to change them."""
    mounted = tmp_path / "disk"
    mounted.mkdir()

    def mount(options: str) -> Path:
        remount = "remount," if mounted.is_mount() else ""
        command = ["mount", "-t", "tmpfs", "-o", remount + options, "tmpfs", mounted]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("needs the right to mount")
        return mounted

    yield mount
    subprocess.run(["umount", "-l", mounted], capture_output=True)
