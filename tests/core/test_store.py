"""A home whose shards, vectors and models are in a store, against a real server on loopback."""

import logging
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("obstore")
pytest.importorskip("moto.server")

import object_store
import obstore
from object_store import BUCKET, Breaking, Server

from fastdino.core import storage
from fastdino.core import store as stores
from fastdino.core.errors import StoreTrouble, UserError
from fastdino.core.storage import (
    atomic_replace,
    exclusive_lock,
    exists,
    fetched,
    folders,
    listed,
    move_folder,
    read_json,
    remove_folder,
    rename,
    stamps,
    still_locked,
    unlink,
    write_json,
    written_since,
)

Mount = Callable[..., Path]


@pytest.fixture
def mount(s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mount]:
    """Makes homes that are all mounted on one new store."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("FASTDINO_STORE", f"s3://{BUCKET}/{uuid.uuid4().hex}")
    monkeypatch.setattr(stores, "WAITS_S", (0.01,))
    monkeypatch.setattr(stores, "RETRIES", 1)
    monkeypatch.setattr(stores, "LOOK_EVERY_S", 0.05)
    before = dict(storage._mounted)

    def mounted(name: str) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        storage.mount(tmp_path / name)
        return tmp_path / name

    yield mounted
    storage._mounted.clear()
    storage._mounted.update(before)


def write(path: Path, content: bytes) -> None:
    with atomic_replace(path) as part:
        part.write_bytes(content)


def test_what_one_home_writes_another_reads_lists_and_deletes(mount: Mount) -> None:
    a, b = mount("a"), mount("b")
    write_json(a / "models" / "m" / "model.json", {"a": 1})
    write(a / "shards" / "s" / "spectrograms-000001.parquet", b"shard")

    assert listed(b / "models", "[!.]*/model.json") == [b / "models" / "m" / "model.json"]
    assert folders(b / "models") == [b / "models" / "m"]
    [(shard, stamp)] = stamps(b / "shards" / "s", "*.parquet").items()
    assert (shard.name, stamp.size) == ("spectrograms-000001.parquet", 5)
    assert written_since(b / "shards" / "s", "*.parquet", time.time() - 60) == {shard.name}
    assert written_since(b / "shards" / "s", "*.parquet", time.time() + 60) == set()
    assert exists(shard)
    assert not shard.exists()
    assert fetched(shard).read_bytes() == b"shard"
    assert read_json(b / "models" / "m" / "model.json") == {"a": 1}

    write_json(a / "models" / "m" / "model.json", {"a": 2})
    assert read_json(b / "models" / "m" / "model.json") == {"a": 2}
    rename(shard, shard.with_name("x.damaged"))
    assert listed(a / "shards" / "s", "*") == [a / "shards" / "s" / "x.damaged"]
    unlink(b / "shards" / "s" / "x.damaged")
    remove_folder(b / "models" / "m")
    assert listed(a / "shards" / "s", "*") == listed(a / "models", "*/*") == []
    with pytest.raises(FileNotFoundError) as raised:
        read_json(a / "models" / "m" / "model.json")
    assert raised.value.filename == str(a / "models" / "m" / "model.json")


def test_what_has_not_changed_is_not_brought_again(mount: Mount) -> None:
    a, b = mount("a"), mount("b")
    file = b / "vectors" / "m" / "1.parquet"
    write(a / "vectors" / "m" / "1.parquet", b"vectors")
    before = fetched(file).stat()
    assert fetched(file).stat().st_ino == before.st_ino
    assert fetched(a / "vectors" / "m" / "1.parquet").read_bytes() == b"vectors"
    # A copy that is not what was brought is brought again, and what was there instead is kept.
    file.write_bytes(b"changed")
    assert fetched(file).read_bytes() == b"vectors"
    assert (b / stores.ASIDE / "vectors" / "m" / "1.parquet").read_bytes() == b"changed"


def test_what_is_a_home_s_own_stays_there(mount: Mount) -> None:
    a, b = mount("a"), mount("b")
    own = ["catalog/files.parquet", "models/.training/x", "shards/s/failures.parquet", "maps/m/x"]
    for name in own:
        write(a / name, b"own")
        assert not exists(b / name)
        assert exists(a / name)
    assert obstore.list(storage._mounted[a]._objects).collect() == []


def test_a_folder_that_is_moved_there_shows_its_last_file_last(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = mount("a"), mount("b")
    work = a / "models" / ".training"
    work.mkdir(parents=True)
    for name in ("model.json", "weights", "curve.png"):
        (work / name).write_bytes(name.encode())
    sent: list[str] = []
    send = storage._mounted[a]._send

    def noting(file: Path, target: Path) -> str:
        assert not exists(b / "models" / "m" / "model.json")
        sent.append(target.name)
        return send(file, target)

    monkeypatch.setattr(storage._mounted[a], "_send", noting)
    move_folder(work, a / "models" / "m", last="model.json")
    assert sent == ["curve.png", "weights", "model.json"]
    assert not work.exists()
    assert fetched(b / "models" / "m" / "weights").read_bytes() == b"weights"
    # None of it is a stranger now.
    storage.take_in(a)
    assert not (a / stores.ASIDE).exists()


def test_a_home_of_before_is_taken_in_once_and_nothing_of_it_is_lost(
    mount: Mount, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    a = mount("a")
    write(a / "models" / "current.json", b"of a")
    write(a / "shards" / "s" / "1.parquet", b"same")
    b = a.with_name("b")
    for name, content in {
        "models/current.json": b"of b",
        "models/m/model.json": b"model",
        "shards/s/1.parquet": b"same",
        "shards/s/2.parquet": b"only in b",
        "vectors/m/1.parquet": b"vectors",
        "models/.training/checkpoint": b"own",
    }.items():
        (b / name).parent.mkdir(parents=True, exist_ok=True)
        (b / name).write_bytes(content)
    mount("b")
    storage.take_in(b)

    assert fetched(a / "shards" / "s" / "2.parquet").read_bytes() == b"only in b"
    assert fetched(a / "models" / "m" / "model.json").read_bytes() == b"model"
    assert fetched(b / "models" / "current.json").read_bytes() == b"of a"
    assert not exists(a / "models" / ".training" / "checkpoint")
    kept = b / stores.ASIDE / "models" / "current.json"
    assert kept.read_bytes() == b"of b"
    assert [p for p in (b / stores.ASIDE).rglob("*") if p.is_file()] == [kept]
    assert str(kept) in caplog.text
    caplog.clear()
    storage.take_in(b)
    assert caplog.text == ""


def test_a_home_knows_its_store(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    home = mount("a")
    for other in ("s3://another", ""):
        monkeypatch.setenv("FASTDINO_STORE", other)
        with pytest.raises(UserError, match="set FASTDINO_STORE to that again") as raised:
            storage.mount(home)
        assert str(home) in str(raised.value)


def test_credentials_in_the_address_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDINO_STORE", "s3://AKID:hush@bucket")
    with pytest.raises(UserError) as raised:
        storage.mount(Path("/nowhere"))
    assert "hush" not in str(raised.value)
    assert "AWS_SECRET_ACCESS_KEY" in str(raised.value)


def test_shards_that_were_not_asked_for_the_longest_make_room(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = mount("a")
    monkeypatch.setenv("FASTDINO_STORE_CACHE_GB", "0.0000025")
    monkeypatch.setattr(stores, "IN_USE_S", 0.0)
    shards = [home / "shards" / "s" / f"{n}.parquet" for n in range(4)]
    models = home / "models" / "m" / "weights"
    write(models, bytes(5000))
    for n, shard in enumerate(shards[:2]):
        write(shard, bytes([n]) * 1000)
    time.sleep(0.05)  # longer than two times of files may be the same
    with open(fetched(shards[0]), "rb") as in_use:
        write(shards[2], bytes(1000))
        assert [shard.exists() for shard in shards[:3]] == [True, False, True]
        write(shards[3], bytes(1000))
        assert [shard.exists() for shard in shards] == [False, False, True, True]
        assert in_use.read() == bytes(1000)
    assert fetched(shards[1]).read_bytes() == b"\1" * 1000
    assert listed(home / "shards" / "s", "*.parquet") == shards
    assert models.exists()
    # What may be about to be opened is left alone, whatever the limit says.
    monkeypatch.setattr(stores, "IN_USE_S", 60.0)
    for shard in shards:
        fetched(shard)
    assert all(shard.exists() for shard in shards)


def test_another_home_s_writer_is_waited_for(
    mount: Mount, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = mount("a"), mount("b")

    def lock_b() -> float:
        with exclusive_lock(b / "models"):
            return time.monotonic()

    with ThreadPoolExecutor() as pool:
        with exclusive_lock(a / "models"):
            waiting = pool.submit(lock_b)
            while "waiting until it ends" not in caplog.text:
                assert not waiting.done()
                time.sleep(0.01)
            released = time.monotonic()
        assert waiting.result() >= released
    with exclusive_lock(a / "models"), exclusive_lock(b / "shards" / "s"):
        pass


def test_a_lock_is_held_and_given_back_where_the_system_lacks_the_clocks_of_linux(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    a, b = mount("a"), mount("b")
    for home in (a, b):
        with exclusive_lock(home / "models"):
            write(home / "models" / "current.json", home.name.encode())
    assert fetched(a / "models" / "current.json").read_bytes() == b"b"


HOLD = """
import os, sys, pathlib
from fastdino.core import storage
root = pathlib.Path(sys.argv[1])
storage.mount(root)
with storage.exclusive_lock(root / "models"):
    print("held", flush=True)
    sys.stdin.read()
"""


def child(code: str, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *words]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_a_killed_run_s_lock_is_its_home_s_at_once_and_another_s_when_it_has_run_out(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = mount("a"), mount("b")
    for home, lease_s in ((a, 1e9), (b, 0.5)):
        holder = child(HOLD, str(a))
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        holder.kill()
        holder.wait()
        monkeypatch.setattr(stores, "LEASE_S", lease_s)
        with exclusive_lock(home / "models"):
            pass


def test_who_does_not_renew_a_lock_loses_it_and_writes_no_more(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "LEASE_S", 0.5)
    monkeypatch.setattr(stores, "SPARE_S", 0.0)
    a, b = mount("a"), mount("b")
    pointer = a / "models" / "current.json"
    with exclusive_lock(a / "models"):
        with exclusive_lock(b / "models"):  # it is not renewed before a minute is over
            write(b / "models" / "current.json", b"of b")
        for late in (lambda: write(pointer, b"of a"), lambda: unlink(pointer)):
            with pytest.raises(StoreTrouble, match="was lost"):
                late()
        with pytest.raises(StoreTrouble, match="was lost"):
            still_locked(a / "models")
    assert fetched(pointer).read_bytes() == b"of b"
    assert not (a / stores.ASIDE).exists()


@pytest.mark.thorough
def test_a_lock_that_is_renewed_is_not_taken(mount: Mount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "LEASE_S", 8.0)
    monkeypatch.setattr(stores, "SPARE_S", 1.0)
    monkeypatch.setattr(stores, "RENEW_EVERY_S", 0.2)
    a, b = mount("a"), mount("b")

    def lock_b() -> None:
        with exclusive_lock(b / "models"):
            pass

    with ThreadPoolExecutor() as pool:
        with exclusive_lock(a / "models"):
            waiting = pool.submit(lock_b)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=20)
            write(a / "models" / "current.json", b"of a")
        waiting.result()


PUT = """
import sys, pathlib
from fastdino.core import storage
root = pathlib.Path(sys.argv[1])
storage.mount(root)
with storage.exclusive_lock(root / "shards" / "s"):
    with storage.atomic_replace(root / "shards" / "s" / "1.parquet") as part:
        part.write_bytes(b"new" * 20_000_000)
        print("putting", flush=True)
"""


@pytest.mark.parametrize("there", [True, False])
def test_a_killed_put_leaves_nothing_visible_and_the_next_goes_on(
    there: bool, mount: Mount, s3: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = Breaking(s3.port)
    home = mount("a")
    shard = home / "shards" / "s" / "1.parquet"
    if there:
        write(shard, b"old")
    (home / storage.ADDRESS).unlink()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{slow.port}")
    slow.stall_after = 20_000_000
    putting = child(PUT, str(home))
    assert putting.stdout
    assert putting.stdout.readline() == "putting\n"
    while not slow.stalled:
        time.sleep(0.01)
    putting.send_signal(signal.SIGKILL)
    putting.wait()
    slow.close()
    assert exists(shard) == there
    if there:
        assert fetched(shard).read_bytes() == b"old"
    with exclusive_lock(shard.parent):
        assert not [path for path in shard.parent.iterdir() if path.suffix == ".part"]
        write(shard, b"new")
    assert fetched(shard).read_bytes() == b"new"


@pytest.fixture
def breaking(mount: Mount, s3: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Breaking]:
    proxy = Breaking(s3.port)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
    yield proxy
    proxy.close()


def test_a_connection_that_breaks_is_told_in_one_line_and_loses_nothing(
    mount: Mount, breaking: Breaking
) -> None:
    home = mount("a")
    shard = home / "shards" / "s" / "1.parquet"
    write(shard, os.urandom(3_000_000))
    before = shard.read_bytes()

    breaking.to_server = 1_000_000
    with pytest.raises(StoreTrouble, match="cannot be used now") as raised:
        write(shard, os.urandom(2_000_000))
    assert "\n" not in str(raised.value)
    assert shard.read_bytes() == before
    assert [path.name for path in shard.parent.iterdir()] == [shard.name]

    breaking.to_server, breaking.to_client = None, 1_000_000
    shard.unlink()
    with pytest.raises(StoreTrouble, match="cannot be used now"):
        fetched(shard)
    assert list(shard.parent.iterdir()) == []
    assert breaking.cut >= 4
    breaking.to_client = None
    assert fetched(shard).read_bytes() == before


def test_a_connection_that_breaks_once_is_not_noticed(mount: Mount, breaking: Breaking) -> None:
    home = mount("a")
    shard = home / "shards" / "s" / "1.parquet"
    breaking.to_server, breaking.cuts = 1_000_000, 1
    write(shard, bytes(3_000_000))
    breaking.to_server, breaking.to_client, breaking.cuts = None, 1_000_000, 1
    shard.unlink()
    assert fetched(shard).read_bytes() == bytes(3_000_000)


TROUBLES = {
    "no bucket": ({"FASTDINO_STORE": "s3://not-there/x"}, "there is no bucket not-there"),
    "no server": ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "cannot be used now"),
    "no sense": ({"AWS_ENDPOINT_URL": "nonsense"}, "AWS_ENDPOINT_URL"),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_is_wrong_with_a_store_is_one_line(
    trouble: str, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, told = TROUBLES[trouble]
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    for ask in (
        lambda home: listed(home / "models", "*/model.json"),
        lambda home: write_json(home / "models" / "x.json", 1),
        lambda home: exclusive_lock(home / "models").__enter__(),
        lambda home: fetched(home / "models" / "x.json"),
    ):
        with pytest.raises((StoreTrouble, UserError), match=told) as raised:
            ask(mount("a"))
        said = str(raised.value)
        assert "\n" not in said
        assert "not-to-be-told" not in said
        assert "AKIDOFTHETESTS" not in said


def test_wrong_credentials_are_told_and_not_repeated(
    mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    with object_store.server() as strict:
        strict.ask("POST", "moto-api/reset-auth", b"0")
        monkeypatch.setenv("AWS_ENDPOINT_URL", strict.url)
        home = mount("a")
        for ask in (
            lambda: listed(home / "models", "*/model.json"),
            lambda: write_json(home / "models" / "x.json", 1),
            lambda: fetched(home / "models" / "x.json"),
            lambda: exists(home / "models" / "x.json"),
        ):
            with pytest.raises(StoreTrouble, match="lets nobody in") as raised:
                ask()
            assert "\n" not in str(raised.value)
            assert "not-to-be-told" not in str(raised.value)
            assert "AKIDOFTHETESTS" not in str(raised.value)


def test_without_a_store_nothing_of_it_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from fastdino.core import storage; root = pathlib.Path(sys.argv[1]);"
        "storage.mount(root); storage.take_in(root); storage.write_json(root / 'models' / 'x', 1);"
        "print([name for name in sys.modules if 'obstore' in name or name.endswith('core.store')])"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FASTDINO_")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "[]\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["models"]


def test_without_its_package_a_store_is_one_line(
    mount: Mount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "fastdino.core.store")
    with pytest.raises(UserError, match="obstore is not installed"):
        storage.mount(tmp_path)
