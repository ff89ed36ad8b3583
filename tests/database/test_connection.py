"""Reading the published database: what a person is told, by what went wrong."""

import errno
import os
from pathlib import Path

import duckdb
import pytest
import synthetic

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.database import publish
from fastdino.database.connection import connect, frame, rows


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("published") / "home")
    synthetic.write_home(home, 12)
    publish(home)
    return home


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("FROM similar_to('no such song')", "^no song has this id or title: no such song"),
        ("SELECT 'many'::INTEGER", "^the database cannot reckon with that"),
        ("SELECT 9223372036854775807::BIGINT + 1", "^the database cannot reckon with that"),
        ("FROM similar_to_of_another_version('x')", "damaged or of another version"),
        ("SELECT of_another_version FROM songs", "damaged or of another version"),
    ],
)
def test_an_error_is_told_by_its_kind(published: Home, query: str, told: str) -> None:
    with connect(published.database) as db:
        for ask in (rows, frame):
            with pytest.raises(UserError, match=told):
                ask(db, query)


def test_too_little_memory_is_no_damage(published: Home) -> None:
    with connect(published.database) as db:
        db.execute("SET memory_limit = '20MB'")
        db.execute("SET temp_directory = ''")
        with pytest.raises(UserError, match="too little memory") as raised:
            rows(db, "SELECT list(a.i) FROM range(30_000_000) AS a(i) GROUP BY a.i % 7")
    assert "damaged" not in str(raised.value)


class Refused:
    """A database whose disk has failed since it was opened."""

    def execute(self, query: str, values: object) -> None:
        raise duckdb.IOException(f"IO Error: Could not read: {os.strerror(errno.EIO)}")


def test_a_disk_that_refuses_is_told_as_such(published: Home) -> None:
    with pytest.raises(UserError, match=r"Input/output error.*look at the disk") as raised:
        rows(Refused(), "SELECT 1")
    assert "damaged" not in str(raised.value)


def test_a_damaged_file_is_one(published: Home, tmp_path: Path) -> None:
    content = bytearray(published.database.read_bytes())
    for at in range(len(content) // 2, len(content), 4096):
        content[at] ^= 0xFF
    damaged = tmp_path / "music.duckdb"
    damaged.write_bytes(content)
    with connect(damaged) as db, pytest.raises(UserError, match="damaged or of another version"):
        rows(db, "FROM tracks, embeddings, segments LIMIT 10_000")
