"""Clients that take their time, and too many of them."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import synthetic
from asking import Ask, everything, serving

from fastdino.core.home import Home
from fastdino.database import publish
from fastdino.page import connections

LIMIT_S = 0.4
PAGE = b"GET /nothing HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"


@pytest.fixture
def ask(published: Home, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ask]:
    monkeypatch.setattr(connections, "ASKING_S", LIMIT_S)
    with serving(published) as ask:
        yield ask


def dawdled(ask: Ask, begin: bytes, trickle: bytes) -> bytes:
    """What a client is told that sends ``begin``, and then a byte of ``trickle`` now and then."""
    with ask.open() as connection:
        connection.sendall(begin)
        stop = threading.Event()

        def go_on() -> None:
            with contextlib.suppress(OSError):
                for byte in trickle * 1_000:
                    connection.sendall(bytes([byte]))
                    if stop.wait(0.05):
                        return

        slow = threading.Thread(target=go_on)
        slow.start()
        said = everything(connection)
        stop.set()
        slow.join()
    return said


@pytest.mark.parametrize(
    ("begin", "trickle"),
    [
        (b"", b""),
        (b"", b"G"),
        (b"GET / HT", b""),
        (b"GET / HTTP/1.1\r\n", b"X-a: b\r\n"),
        (b"\x16\x03\x01\x02\x00\x01", b"\0"),
        (b"\r\n", b"\r\n"),
    ],
)
def test_who_does_not_come_to_say_what_is_wanted_is_cut_off(
    ask: Ask, begin: bytes, trickle: bytes
) -> None:
    said = dawdled(ask, begin, trickle)
    assert not said or said.startswith(b"HTTP/1.1 400 ")


def test_nor_is_a_second_request_waited_for_any_longer(ask: Ask) -> None:
    whole = PAGE % ask.port + b"\r\n"
    said = dawdled(ask, whole + b"GET / HTTP/1.1\r\nX: ", b"slow")
    assert said.startswith(b"HTTP/1.1 404 ")
    assert said.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_nobody_waits_for_a_body(ask: Ask, method: bytes) -> None:
    head = (PAGE % ask.port).replace(b"GET", method) + b"Content-Length: 1000000\r\n\r\n"
    assert dawdled(ask, head, b"x").split()[1] in (b"413", b"405")


def test_who_takes_nothing_of_a_song_is_cut_off_in_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(connections, "STALLED_S", LIMIT_S)
    # Too much for what lies between the server and who reads slowly.
    large = tmp_path / "large.flac"
    large.write_bytes(bytes(64_000_000))
    home = Home(tmp_path / "home")
    synthetic.write_home(home, 2)
    synthetic.write_catalog(home, [synthetic.song(i) | {"path": str(large)} for i in range(2)])
    publish(home)
    with serving(home) as ask, ask.open() as connection:
        path = b"/audio/%s" % synthetic.track_id(0).encode()
        connection.sendall((PAGE % ask.port).replace(b"/nothing", path) + b"\r\n")
        said = connection.recv(1_000)
        assert said.startswith(b"HTTP/1.1 200 ")
        time.sleep(3 * LIMIT_S)
        assert len(everything(connection)) < 64_000_000
        # A song that is read on is sent to its end, however long it takes.
        status, _, body = ask(path.decode())
        assert (status, len(body)) == (200, 64_000_000)


def test_an_address_has_so_many_connections_and_no_more(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "FROM_ONE_ADDRESS", 3)
    monkeypatch.setattr(connections, "ASKING_S", 60.0)
    held = [ask.open() for _ in range(3)]
    for connection in held:  # each is there before the next
        connection.sendall(PAGE % ask.port + b"\r\n")
        assert connection.recv(12) == b"HTTP/1.1 404"
    with ask.open() as another, contextlib.suppress(ConnectionError):
        another.settimeout(20)
        assert another.recv(1) == b""
    for connection in held:
        connection.close()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            assert ask("/nothing")[0] == 404
            break
    assert not [address for address, number in connections._open.items() if number > 1]


def test_all_that_was_counted_is_forgotten(ask: Ask) -> None:
    for _ in range(5):
        with ask.open() as connection, contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    deadline = time.monotonic() + 20
    while connections._open and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not connections._open
