"""Tags and file names that would break out of wherever they are shown, from file to database."""

import os
import struct
import zlib
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pytest
import synthetic

from assets import child
from fastdino import demo, ingestion
from fastdino.__main__ import main, show, show_tables
from fastdino.core import tables
from fastdino.core.home import Home
from fastdino.core.summary import Summary
from fastdino.database import publish
from fastdino.ingestion import catalog, identify, tags
from fastdino.ingestion.scan import LARGEST_BYTES, scan

HOSTILE = {
    "sql": "'; DROP TABLE tracks; --",
    "macro": "x') FROM songs; ATTACH '/tmp/x' AS y; SELECT ('",
    "html": "</script><script>alert(1)</script><img src=x onerror=alert(1)>",
    "terminal": "\x1b[2J\x1b]0;owned\x07 cleared",
    "lines": "one\ntwo\r\n#EXTM3U",
    "override": "\u202egnp.exe",
    "long": "x" * 10_000,
    "null": "before\0after",
    "half": "a \ud800 b",
    "markdown": "| a | `b` | [c](javascript:alert(1)) {{data}} ${x} %s {0}",
}
STEERING = set("\x1b\x07\0\r\u202e\ud800")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real song with each of these as its title, artist and name, where a name can be that."""
    folder = tmp_path_factory.mktemp("hostile")
    for number, text in enumerate(HOSTILE.values()):
        samples = np.random.default_rng(number).normal(0, 0.1, (1, 8_000)).astype(np.float32)
        tags = text.encode("utf-8", "replace").decode().replace("\0", "")
        name = "".join(text.split("/")).replace("\0", "").encode("utf-8", "replace").decode()[:200]
        demo.encode(folder / "song.mp3", samples, 16_000, {"title": tags, "artist": tags})
        (folder / "song.mp3").rename(folder / f"{name}.mp3")
        (folder / f"broken {name}.mp3").write_bytes(b"nothing")
    (folder / os.fsdecode(b"caf\xe9\x1b[2J.mp3")).write_bytes(b"nothing")
    return folder


def test_no_name_or_tag_steers_the_terminal_or_begins_a_line(
    hostile: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / 'it\'s [a] "home"\x1b[2J\n; DROP TABLE tracks; --'
    assert main(["ingest", str(hostile), "--home", str(root)]) == 0
    assert main(["ingest", str(hostile / "not\nthere\x1b[2J"), "--home", str(root)]) == 2
    assert main(["ingest", str(hostile), "--home", os.fsdecode(b"/tmp/caf\xe9\x1b")]) == 2
    told = capfd.readouterr()
    assert f"{len(HOSTILE)} songs" in told.out
    assert not STEERING & set(told.out + told.err)
    assert all(line.startswith("fastdino: ") for line in told.err.splitlines())


def test_tables_and_warnings_do_not_steer_the_terminal_either(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for text in HOSTILE.values():
        summary = Summary("s", text, True, tables={"t": [{"title": text}]}, warnings=[text])
        show(summary, 1.0)
        show_tables(summary)
        shown = child.metadata(summary)
        assert not STEERING & set(shown["warnings"]["raw_value"] + shown["summary"]["raw_value"])
    assert not STEERING & set(capsys.readouterr().out)


def test_hostile_tags_are_published_and_asked_for_as_text(hostile: Path, home: Home) -> None:
    synthetic.write_home(home, 30)
    found = {}
    for path in sorted(hostile.glob("*.mp3")):
        title = identify.identify(str(path)).title
        if title:
            found[title] = synthetic.track_id(len(found))
    assert len(found) == len(HOSTILE)
    assert all(len(title) <= tags.MAX_TEXT and not STEERING & set(title) for title in found)
    files = catalog.read(home)
    names = pl.Series([*found, *files["title"][len(found) :]])
    tables.write(home.catalog, files.with_columns(title=names, artist=names, album=names))
    publish(home)
    with duckdb.connect(str(home.database), read_only=True) as db:
        assert db.execute("SELECT count(*) FROM tracks").fetchone() == (30,)
        for title, track_id in found.items():
            assert db.execute("SELECT track_of(?)", [title]).fetchone() == (track_id,)
            assert len(db.execute("FROM similar_to(?, 3)", [title]).fetchall()) == 3
            assert db.execute("FROM find_song(?)", [title]).fetchall()


def test_files_that_stand_for_something_else_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with open(tmp_path / "endless.wav", "wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    links = {
        "fifo": str(tmp_path / "pipe"),
        "zero": "/dev/zero",
        "tty": "/dev/tty",
        "memory": "/proc/self/mem",
        "passwords": "/etc/passwd",
    }
    for name, target in links.items():
        (tmp_path / f"{name}.mp3").symlink_to(target)
    found = dict(scan([tmp_path]).files.select("path", "error").iter_rows())
    errors = {Path(path).stem: error for path, error in found.items()}
    # What is a plain file is opened, wherever it lies; and is no song.
    assert errors.pop("passwords") is None
    assert "larger than any song" in errors["endless"]
    assert all(errors.values())
    home = Home(tmp_path / "home")
    assert ingestion.run(home, [tmp_path]).counts["unreadable"] == 6


def compressed_tag(name: bytes, size: int) -> bytes:
    """An ID3 frame whose text is ``size`` letters, in a thousandth of that."""

    def syncsafe(n: int) -> bytes:
        return bytes((n >> shift) & 127 for shift in (21, 14, 7, 0))

    text = zlib.compress(b"\x03" + b"A" * size, 9)
    body = syncsafe(size + 1) + text
    frame = name + syncsafe(len(body)) + struct.pack(">H", 0x0009) + body
    return b"ID3\x04\0\0" + syncsafe(len(frame)) + frame


def test_a_tag_that_unpacks_to_far_more_than_the_file_is_read_as_its_start(
    library: Path, tmp_path: Path
) -> None:
    song = next(library.rglob("*.mp3")).read_bytes()
    path = tmp_path / "bomb.mp3"
    path.write_bytes(compressed_tag(b"TIT2", 20_000_000) + song)
    assert path.stat().st_size < len(song) + 100_000
    found = identify.identify(str(path))
    assert (found.error, found.title) == (None, "A" * tags.MAX_TEXT)
