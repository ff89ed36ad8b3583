"""What the tests of music servers share: a published home, and a server that has its songs."""

from collections.abc import Iterator
from pathlib import Path

import music_server
import pytest
import synthetic

from fastdino.core.home import Home
from fastdino.database import publish


@pytest.fixture(scope="session")
def published_once(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("servers") / "home")
    synthetic.write_home(home, 40)
    publish(home)
    return home


@pytest.fixture
def published(published_once: Home, tmp_path: Path) -> Home:
    """A home of forty songs in which no server's are known."""
    home = Home(tmp_path / "home")
    home.root.mkdir()
    home.database.symlink_to(published_once.database)
    return home


@pytest.fixture
def music(monkeypatch: pytest.MonkeyPatch) -> Iterator[music_server.Music]:
    """A Subsonic server with the first ten songs, as the settings name it."""
    with music_server.serving([music_server.told(i) for i in range(10)]) as running:
        monkeypatch.setenv("FASTDINO_SERVER", running.url)
        monkeypatch.setenv("FASTDINO_SERVER_USER", music_server.USER)
        monkeypatch.setenv("FASTDINO_SERVER_PASSWORD", music_server.PASSWORD)
        monkeypatch.setenv("FASTDINO_SERVER_PATHS", "/music=/srv")
        yield running
