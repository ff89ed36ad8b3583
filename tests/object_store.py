"""A real S3 server on loopback, and connections to it that break."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

BUCKET = "music"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIDOFTHETESTS",
    "AWS_SECRET_ACCESS_KEY": "not-to-be-told",
    "AWS_REGION": "us-east-1",
}


@dataclass(frozen=True)
class Server:
    """A server that runs; ``environment`` is what a client of it needs."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {**CREDENTIALS, "AWS_ENDPOINT_URL": self.url}

    def ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        kind = {"Content-Type": "text/plain"}
        request = urllib.request.Request(f"{self.url}/{path}", body, kind, method=method)
        with urllib.request.urlopen(request) as answer:
            return bytes(answer.read())


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """A server with the bucket ``music`` in it, which goes with the ``with`` block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found = Server(free.getsockname()[1])
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(found.port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            assert process.poll() is None
            with contextlib.suppress(OSError):
                found.ask("PUT", BUCKET)
                break
            time.sleep(0.05)
        yield found
    finally:
        process.kill()
        process.wait()


class Breaking:
    """A proxy before a server that cuts connections in the middle of what goes through.

    Attributes:
        to_server: bytes that a connection lets through to the server before it is cut; None: all.
        to_client: the same the other way.
        cuts: after so many all go through; None: all are cut.
        stall_after: bytes, of all connections together, after which nothing more gets through.
        cut: how many were cut.
        stalled: whether that has come.
    """

    def __init__(self, port: int) -> None:
        self.to_server: int | None = None
        self.to_client: int | None = None
        self.cuts: int | None = None
        self.stall_after: int | None = None
        self.cut, self.stalled, self._passed = 0, False, 0
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(("127.0.0.1", self._port))
                for pair in ((client, server, "to_server"), (server, client, "to_client")):
                    threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, way: str) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                limit = getattr(self, way) if self.cuts != 0 else None
                if limit is not None and passed + len(data) > limit:
                    target.sendall(data[: limit - passed])
                    self.cut += 1
                    self.cuts = self.cuts - 1 if self.cuts else self.cuts
                    break
                self._passed += len(data)
                if self.stall_after is not None and self._passed > self.stall_after:
                    self.stalled = True
                    return
                target.sendall(data)
                passed += len(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def clean_environment(server: Server, **more: str) -> dict[str, str]:
    """The environment of a child that talks to this server alone."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "FASTDINO_"))}
    return {**kept, **server.environment, **more}
