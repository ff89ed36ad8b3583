"""A publishing that writes in the database of before: what comes of it, who reads, what kills."""

import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import preloaded
import pytest
import synthetic
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from published import rows

from fastdino.bench import collection
from fastdino.core.home import Home
from fastdino.core.storage import write_json
from fastdino.database import publish, publishing, standby
from fastdino.database.publishing import is_what_would_be_published, published_fingerprint
from fastdino.reports import map_files
from fastdino.upkeep.verify import published

SONGS = 24
# What a program can do to files by their names.
TOUCHING = ("open", "os.link", "os.rename", "os.remove")


@pytest.fixture
def however_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a few songs much changes with one of them."""
    monkeypatch.setattr(publishing, "WORN", 1e9)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Published, with a map and two files of vectors. Made once: only read it."""
    home = Home(tmp_path_factory.mktemp("standby") / "home")
    write(home)
    publish(home)
    return home


@pytest.fixture
def home(once: Home, home: Home, however_much: None) -> Home:
    """The same, to be changed."""
    return Home(Path(shutil.copytree(once.root, home.root)))


def write(home: Home, songs: int = SONGS) -> None:
    synthetic.write_home(home, songs)
    synthetic.write_vectors(home, range(songs // 2), shard=1)
    synthetic.write_vectors(home, range(songs // 2, songs), shard=2)
    draw(home, synthetic.MODEL_ID, 0)


def draw(home: Home, model_id: str, number: int) -> None:
    """Write a map that was never drawn, some of whose neighbours are another's with each number."""
    ids = [synthetic.track_id(i) for i in range(SONGS)]
    near = [ids[(i + r + number * (i % 5 == 0)) % SONGS] for i in range(SONGS) for r in (1, 2, 3)]
    clusters = [i % 3 + (number if i % 7 == 0 else 0) for i in range(SONGS)]
    groups = sorted(set(clusters))
    tags = [["Dub"] for _ in groups]
    of = {
        "points": [ids, [float(i + number // 9) for i in range(SONGS)], 0.5, "fit"],
        "members": [ids, clusters, 1.0],
        "neighbors": [np.repeat(ids, 3), [1, 2, 3] * SONGS, near, 0.5],
        "clusters": [groups, "some", tags, 1, ids[0], tags, tags],
    }
    frames = {
        name: pl.DataFrame(dict(zip(schema.names(), of[name], strict=True)), schema)
        for name, schema in map_files.SCHEMAS.items()
    }
    described = {
        "map_id": f"map-{number}-{model_id}", "model_id": model_id, "n_tracks": SONGS,
        "created_at": "2025-03-04T05:06:07+00:00", "quality": {"clusters": 3},
    }  # fmt: skip
    map_files.write(home.maps(model_id) / described["map_id"], described, frames, {})
    write_json(home.maps(model_id) / "current.json", {"map_id": described["map_id"]})


def retagged(home: Home, genre: str) -> None:
    songs = [{**synthetic.song(i), "genre": genre} for i in range(SONGS)]
    synthetic.write_catalog(home, songs)


class Life:
    """A collection that changes; each method but ``write`` is a change, by a number."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.songs = {i: synthetic.song(i) for i in range(SONGS // 2)}
        self.files = {1: set(range(6)), 2: set(range(6, 12))}
        self.models = [synthetic.MODEL_ID]
        synthetic.write_model(home)
        for shard in self.files:
            self.write(shard)
        self.catalog()

    def write(self, shard: int, groups: int = 6) -> None:
        for model_id in self.models:
            dim = 8 if model_id == "model-other" else synthetic.DIM
            args = {"shard": shard, "groups": groups, "segments": 1 + shard % 3, "dim": dim}
            synthetic.write_vectors(self.home, sorted(self.files[shard]), model_id, **args)

    def catalog(self) -> None:
        synthetic.write_catalog(self.home, self.songs.values())

    def songs_come(self, n: int) -> None:
        last = max(self.files, default=0)
        shard = last if n % 2 and last else last + 1
        new = set(range(n, min(SONGS, n + 3)))
        self.files.setdefault(shard, set()).update(new)
        self.songs |= {i: synthetic.song(i) for i in new}
        self.write(shard)
        self.catalog()

    def songs_come_back_without_work(self, n: int) -> None:
        self.songs |= {i: synthetic.song(i) for i in range(n, min(SONGS, n + 3))}
        self.catalog()

    def songs_leave(self, n: int) -> None:
        for i in range(n, n + 4):
            self.songs.pop(i, None)
        self.catalog()

    def a_song_is_retagged(self, n: int) -> None:
        if n in self.songs:
            self.songs[n] = {**self.songs[n], "title": f"Called {n}", "artist": None}
        self.catalog()

    def a_file_is_copied(self, n: int) -> None:
        if n in self.songs:
            self.songs[n + 1000] = {**self.songs[n], "path": f"/music/copy {n}.flac"}
        self.catalog()

    def a_file_fails(self, n: int) -> None:
        broken = {"track_id": None, "error": "not audio", "path": f"/music/no {n % 3}.mp3"}
        self.songs[2000 + n] = {**synthetic.song(n), **broken}
        self.catalog()

    def vectors_are_made_anew(self, n: int) -> None:
        shards = sorted(self.files)
        if shards:
            self.write(shards[n % len(shards)], groups=2 + n % 4)

    def vectors_are_lost(self, n: int) -> None:
        shards = sorted(self.files)
        if shards:
            del self.files[shards[n % len(shards)]]
            name = f"spectrograms-{shards[n % len(shards)]:06d}.parquet"
            for model_id in self.models:
                (self.home.vectors(model_id) / name).unlink(missing_ok=True)

    def files_are_joined(self, n: int) -> None:
        songs = set().union(*self.files.values())
        while self.files:
            self.vectors_are_lost(0)
        if songs:
            self.files = {n + 1: songs}
            self.write(n + 1)

    def a_song_is_in_two_files(self, n: int) -> None:
        if len(self.files) > 1:
            newer, older = sorted(self.files)[-1 - n % 2], sorted(self.files)[n % 2]
            self.files[newer] |= set(sorted(self.files[older])[:2])
            self.write(newer)

    def a_model_comes(self, n: int) -> None:
        model_id = ("model-b", "model-other", "model-c'")[n % 3]
        synthetic.write_model(
            self.home, model_id, 8 if model_id == "model-other" else synthetic.DIM, current=False
        )
        if model_id not in self.models:
            self.models.append(model_id)
            for shard in self.files:
                self.write(shard, groups=3)

    def a_model_goes(self, n: int) -> None:
        if len(self.models) > 1:
            model_id = self.models.pop()
            for folder in (self.home.model(model_id), self.home.vectors(model_id)):
                shutil.rmtree(folder, ignore_errors=True)
            synthetic.write_model(self.home)

    def another_model_is_used(self, n: int) -> None:
        model_id = self.models[n % len(self.models)]
        if model_id != "model-other":
            synthetic.write_model(self.home, model_id)

    def a_map_is_drawn(self, n: int) -> None:
        draw(self.home, self.models[n % len(self.models)], n)

    def decoding_fails(self, n: int) -> None:
        failed = {
            "track_id": [synthetic.track_id(n)], "path": ["/music/bad.flac"], "size": [1],
            "mtime_ns": [n], "reason": ["too short"], "failed_at": [synthetic.START],
        }  # fmt: skip
        folder = self.home.shards(synthetic.SpectrogramSettings().spec_id)
        folder.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(failed).write_parquet(folder / "failures.parquet")


CHANGES = [name for name in vars(Life) if name[0] != "_" and name not in ("write", "catalog")]
CHANGE = st.tuples(st.sampled_from(CHANGES), st.integers(0, SONGS - 1))
LIVES = st.lists(st.lists(CHANGE, min_size=1, max_size=3), min_size=1, max_size=8)
# To find a simpler example of what goes wrong takes minutes.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)


def lived(changes: list[list[tuple[str, int]]]) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(publishing, "WORN", 1e9)
        home = Home(Path(folder))
        life = Life(home)
        publish(home)
        for each in changes:
            for name, n in each:
                getattr(life, name)(n)
            publish(home)
            assert is_what_would_be_published(home), each
            assert not publish(home).did_work


@settings(max_examples=2, phases=PHASES)
@given(LIVES)
def test_a_database_brought_up_to_date_is_what_one_made_whole_is(changes) -> None:
    lived(changes)


@pytest.mark.thorough
@settings(max_examples=60, phases=PHASES)
@given(LIVES)
def test_whatever_happens_to_a_collection_its_database_is_what_one_made_whole_is(changes) -> None:
    lived(changes)


def test_two_files_take_turns(home: Home) -> None:
    first, second = inode(home.database), inode(home.standby)
    for number, expected in enumerate((second, first, second)):
        retagged(home, f"Genre {number}")
        publish(home)
        assert inode(home.database) == expected
        assert rows(home, "SELECT DISTINCT genre FROM songs") == [(f"Genre {number}",)]
    assert {inode(home.database), inode(home.standby)} == {first, second}


def inode(path: Path) -> int:
    return path.stat().st_ino


def test_ten_new_songs_change_little_of_the_file(tmp_path: Path) -> None:
    home = Home(tmp_path)
    collection.make_up(home, 1_330)
    publish(home)
    before = blocks(home.standby)
    collection.make_up(home, 1_340, first=1_330)
    publish(home)
    after = blocks(home.database)
    changed = sum(block not in set(before) for block in after)
    assert len(after) > 50
    assert changed < len(after) / 4
    assert rows(home, "SELECT count(*) FROM segments") == [(1_340 * collection.SEGMENTS,)]


def blocks(path: Path) -> list[bytes]:
    content = path.read_bytes()
    return [content[at : at + 2**18] for at in range(0, len(content), 2**18)]


READER = """
import duckdb, sys
with duckdb.connect(sys.argv[1], read_only=True) as db:
    print(db.execute("SELECT any_value(genre) FROM songs").fetchall(), flush=True)
    for _ in sys.stdin:
        db.execute("SELECT sum(hash(t)) FROM segments AS t").fetchall()
        print(db.execute("SELECT any_value(genre) FROM songs").fetchall(), flush=True)
"""


def test_a_reader_keeps_what_it_opened_through_several_publishings(home: Home) -> None:
    retagged(home, "as it was")
    publish(home)
    pipe, told = subprocess.PIPE, "[('as it was',)]\n"
    command = [sys.executable, "-c", READER, str(home.database)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as reader:
        assert reader.stdout.readline() == told
        for number in range(3):
            retagged(home, f"Genre {number}")
            publish(home)
            reader.stdin.write("\n")
            reader.stdin.flush()
            assert reader.stdout.readline() == told
        reader.stdin.close()
    assert rows(home, "SELECT DISTINCT genre FROM songs") == [("Genre 2",)]
    assert is_what_would_be_published(home)


@pytest.mark.parametrize("opened", [pytest.param(open, marks=pytest.mark.thorough), duckdb.connect])
def test_who_has_it_open_in_the_same_program_keeps_it_too(
    home: Home, opened: Callable[..., duckdb.DuckDBPyConnection]
) -> None:
    before = home.database.read_bytes()
    kwargs = {"mode": "rb"} if opened is open else {"read_only": True}
    with opened(str(home.database), **kwargs) as reader:
        read = reader.fileno() if opened is open else None
        for number in range(3):
            retagged(home, f"Genre {number}")
            publish(home)
            if read is None:
                found = reader.execute("SELECT count(DISTINCT genre) FROM songs").fetchall()
                assert found == [(6,)]
            else:
                assert os.pread(read, len(before) + 1, 0) == before
    assert is_what_would_be_published(home)


def test_homes_that_were_copied_by_hard_links_do_not_write_in_each_others(home: Home) -> None:
    copy = Home(home.root.with_name("copy"))
    shutil.copytree(home.root, copy.root, copy_function=os.link)
    before = home.database.read_bytes(), home.standby.read_bytes()
    for number in range(3):
        songs = [{**synthetic.song(i), "genre": f"Genre {number}"} for i in range(SONGS)]
        copy.catalog.unlink()
        synthetic.write_catalog(copy, songs)
        publish(copy)
        assert is_what_would_be_published(copy)
    assert (home.database.read_bytes(), home.standby.read_bytes()) == before


@pytest.mark.parametrize(
    "content",
    [
        None,
        pytest.param(b"not a database" * 1000, marks=pytest.mark.thorough),
        b"damaged",
        pytest.param(b"other", marks=pytest.mark.thorough),
    ],
)
def test_a_standby_that_is_of_no_use_is_no_error(home: Home, content: bytes | None) -> None:
    if content is None:
        shutil.rmtree(home.standby.parent)
    elif content == b"damaged":
        whole = home.standby.read_bytes()
        home.standby.write_bytes(whole[:100_000] + b"?" * 50_000 + whole[150_000:])
    elif content == b"other":
        with duckdb.connect(str(home.standby)) as db:
            db.execute("DELETE FROM tracks; CREATE TABLE mine AS SELECT 1")
    else:
        home.standby.write_bytes(content)
    retagged(home, "Polka")
    assert publish(home).did_work
    assert is_what_would_be_published(home)
    retagged(home, "Dub")
    assert publish(home).did_work
    assert is_what_would_be_published(home)


def test_one_of_before_that_no_one_else_saw_damaged_is_found_and_made_anew(home: Home) -> None:
    """A disk that spoils what it holds does not change the time of a file."""
    status = home.standby.stat()
    home.standby.write_bytes(b"\0" * status.st_size)
    os.utime(home.standby, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert standby.is_sound(home, home.standby)
    retagged(home, "Polka")
    assert publish(home).did_work
    assert is_what_would_be_published(home)


def test_what_someone_wrote_in_the_database_does_not_come_back(home: Home) -> None:
    with duckdb.connect(str(home.database)) as db:
        db.execute(
            "UPDATE embeddings SET vec = list_reverse(vec::FLOAT[]); CREATE TABLE mine (a INT)"
        )
    for genre in ("Polka", "Dub"):
        retagged(home, genre)
        publish(home)
        assert is_what_would_be_published(home)


def test_a_disk_without_room_for_two_has_one(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    full = shutil.disk_usage(home.root)._replace(free=1_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    shutil.rmtree(home.standby.parent)
    with caplog.at_level(logging.WARNING):
        for genre in ("Polka", "Dub"):
            retagged(home, genre)
            assert publish(home).did_work
            assert is_what_would_be_published(home)
    assert not home.standby.exists()
    assert "no room for a second copy" in caplog.text
    assert not list(home.root.glob(".*.part*"))


def test_a_standby_on_another_disk_is_no_error(home: Home) -> None:
    if not os.access("/dev/shm", os.W_OK) or inode_disk(Path("/dev/shm")) == inode_disk(home.root):
        pytest.skip("there is no other disk here")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        shutil.rmtree(home.scratch)
        home.scratch.symlink_to(other)
        for genre in ("Polka", "Dub", "Ska"):
            retagged(home, genre)
            assert publish(home).did_work
            assert is_what_would_be_published(home)


def inode_disk(path: Path) -> int:
    return path.stat().st_dev


def test_what_is_worn_is_made_anew(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "WORN", 0.15)
    left_over = []
    for number in range(6):
        retagged(home, f"Genre {number}")  # of every song, again and again
        publish(home)
        left_over += rows(home, "SELECT max(rowid) + 1 - count(*) FROM tracks")
    assert is_what_would_be_published(home)
    assert max(left_over) > (0,)
    assert (0,) in left_over[left_over.index(max(left_over)) :]


def test_only_a_file_of_another_stamp_is_read_whole_and_by_verify_any(
    home: Home,
) -> None:
    content, status = home.database.read_bytes(), home.database.stat()
    place = content.rindex(b"spectrograms-000002") // 2**18 * 2**18
    home.database.write_bytes(content[: place + 9] + b"?" * 9 + content[place + 18 :])
    os.utime(home.database, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert not publish(home).did_work
    assert [found.path for found in published.check(home, None, repair=False)] == [home.database]
    os.utime(home.database)
    assert publish(home).did_work
    assert is_what_would_be_published(home)


def die_at(root: Path, nth: int, delay_s: float) -> None:
    """Publish, killed before a file of the home is opened, linked, renamed or removed for the nth
    time, or so long after.
    """
    publishing.WORN = 1e9
    seen = 0

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def notice(event: str, details: tuple[object, ...]) -> None:
        nonlocal seen
        if event in TOUCHING and str(details[0]).startswith(str(root)):
            seen += 1
            if seen == nth:
                timer = threading.Timer(delay_s, die)
                timer.daemon = True
                timer.start() if delay_s else die()

    sys.addaudithook(notice)
    publish(Home(root))


def is_killed(home: Home, nth: int, delay_s: float) -> bool:
    process = preloaded.context().Process(target=die_at, args=(home.root, nth, delay_s))
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def changed(home: Home) -> None:
    songs = [{**synthetic.song(i), "genre": "Polka"} for i in range(1, SONGS)]
    synthetic.write_catalog(home, songs)
    synthetic.write_vectors(home, range(SONGS // 2, SONGS), shard=2, groups=2)
    draw(home, synthetic.MODEL_ID, 4)


def assert_kills_do_not_matter(home: Home, moments: Iterable[tuple[int, float]]) -> int:
    """Try moments until one comes after the end; returns how many came before."""
    before = published_fingerprint(home.database)
    changed(home)
    kills = 0
    for nth, delay_s in moments:
        life = Home(home.root.with_name(f"{nth} {delay_s}"))
        shutil.copytree(home.root, life.root)
        if not is_killed(life, nth, delay_s):
            break
        kills += 1
        found = published_fingerprint(life.database)
        assert found == before or (found and is_what_would_be_published(life)), nth
        assert publishing.unreadable(life.database) is None, nth
        count = rows(life, "SELECT count(*) FROM segments WHERE vec IS NOT NULL")
        assert count == ([(2 * SONGS,)] if found == before else [(2 * SONGS - 2,)])
        publish(life)
        assert is_what_would_be_published(life), nth
        retagged(life, "after that")
        publish(life)
        assert is_what_would_be_published(life), nth
        names = [path.name for path in life.root.rglob("*duckdb*") if path.is_file()]
        assert names == ["music.duckdb"] * 2, nth
        shutil.rmtree(life.root)
    return kills


def test_killed_where_files_change_places_the_database_is_the_old_or_the_new(home: Home) -> None:
    assert assert_kills_do_not_matter(home, [(22, 0.0)]) == 1


@pytest.mark.thorough
def test_no_moment_at_which_a_publishing_is_killed_matters(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    each = assert_kills_do_not_matter(home, ((nth, 0.0) for nth in range(1, 100)))
    rng = random.Random(5)
    later = sum(
        assert_kills_do_not_matter(home, [(rng.randint(1, each), rng.uniform(0.0, 0.3))])
        for _ in range(60)
    )
    with capsys.disabled():
        print(f"\nkilled at each of {each} moments, and {later} times in between")
    assert each > 5
