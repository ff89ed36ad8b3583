"""The page's server in a thread, and ways to ask it: politely, and in bytes."""

import contextlib
import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from fastdino.core.home import Home
from fastdino.page import invitation, server
from fastdino.page.access import ADDRESS, Sharing

# By what a music server knows the first song of the published home.
SERVER_ID = "server-id"


class Ask:
    """A server on loopback, by its port; called with a path it gives status, headers and body."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        given = {
            name.replace("_", "-"): value.format(port=self.port) for name, value in headers.items()
        }
        connection = http.client.HTTPConnection(ADDRESS, self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, headers=given)
            answer = connection.getresponse()
            named = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, named, answer.read()

    def open(self) -> socket.socket:
        """A connection to it."""
        return socket.create_connection((ADDRESS, self.port), timeout=20)

    def raw(self, sent: bytes, *, ends: bool = False) -> bytes:
        """All that it says to these bytes, until it closes; ``ends`` if it is to see their end."""
        with self.open() as connection:
            # It may have had enough before all of them are there.
            with contextlib.suppress(OSError):
                connection.sendall(sent)
                if ends:
                    connection.shutdown(socket.SHUT_WR)
            return everything(connection)


def everything(connection: socket.socket) -> bytes:
    """What comes until the other side has closed."""
    said = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65_536):
            said += part
    return said


@contextlib.contextmanager
def serving(home: Home, sharing: Sharing | None = None) -> Iterator[Ask]:
    """The real server on a free port, and a way to ask it."""
    listening = socket.create_server((ADDRESS, 0))
    port = listening.getsockname()[1]
    running = server.serving(home, port, sharing)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield Ask(port)
    running.should_exit = True
    thread.join(20)


def shared(home: Home, public_url: str | None = None) -> tuple[Sharing, str]:
    """How a home is shared with other devices, and its token."""
    token = invitation.token(home)
    return Sharing(home.token, invitation.own_names(ADDRESS), public_url), token


def tree(folder: Path) -> dict[str, bytes]:
    """Every file and folder below, with what is in it."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }
