"""Work goes to this process where no cluster is named, and nowhere where it cannot be joined."""

import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from fastdino import __version__
from fastdino.core import cluster
from fastdino.core.cluster import Work, everywhere
from fastdino.core.errors import UserError


class Doubled(Work[int, int]):
    held = 0

    def __init__(self, cores: int | None) -> None:
        self.cores = cores
        Doubled.held += 1

    def __call__(self, pieces: Iterable[int]) -> Iterator[int]:
        for piece in pieces:
            if piece == 13:
                raise UserError("unlucky")
            yield 2 * piece
            yield 2 * piece + 1

    def __exit__(self, *error: object) -> None:
        Doubled.held -= 1


def test_without_a_cluster_all_of_it_is_done_here_by_one_and_without_ray() -> None:
    assert list(everywhere(Doubled, [1, 2], cores=4)) == [2, 3, 4, 5]
    with pytest.raises(UserError, match="unlucky"):
        list(everywhere(Doubled, [1, 13], cores=4))
    assert Doubled.held == 0
    code = "import sys, fastdino.core.cluster, fastdino.steps; assert 'ray' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_ray_an_address_ends_with_one_line_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    monkeypatch.setitem(sys.modules, "ray", None)
    assert list(everywhere(Doubled, [], cores=1)) == []
    with pytest.raises(UserError, match=r"pip install -e '?\.\[cluster\].*unset RAY_ADDRESS"):
        list(everywhere(Doubled, [1], cores=1))


def test_a_cluster_that_is_not_there_is_told_of_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UserError, match=r"127\.0\.0\.1:1, cannot be joined.*refused"):
        cluster.connect()


class Silent(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while self.request.recv(1024):
            pass


@pytest.mark.parametrize("kind", [BaseHTTPRequestHandler, Silent])
def test_a_port_where_something_else_listens_is_told_with_the_one_to_name(
    kind: type[socketserver.BaseRequestHandler], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setattr(cluster, "CONNECT_S", 0.5)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), kind) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        with pytest.raises(UserError, match=rf":{port}, cannot be joined .*6379, and not .* 8265"):
            cluster.connect()
        server.shutdown()


def test_a_folder_that_the_system_does_not_let_be_looked_at_is_not_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = tmp_path / ("x" * 300)
    worker = cluster._Worker(Doubled, 1, __version__, [refused], [])
    with pytest.raises(UserError, match=r"does not see .*: mount it there"):
        next(worker.do(1))
    # This computer does not see it either: no other has to.
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="Ray is not installed"):
        list(everywhere(Doubled, [1], cores=1, sees=[refused]))


@pytest.mark.parametrize("address", ["nonsense", "ray://10.0.0.1:10001", "10.0.0.1", ":6379"])
def test_what_is_no_address_of_a_cluster_is_told_like_any_wrong_setting(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError, match=r"RAY_ADDRESS is .*: set its address, as 10\.0\.0\.1:6379"):
        cluster.connect()


NODE = {"Alive": True, "Resources": {"CPU": 8.0}}
GPU = {"Alive": True, "Resources": {"CPU": 16.0, "GPU": 2.0}}
HEAD = {"Alive": True, "Resources": {}}
DEAD = {"Alive": False, "Resources": {"CPU": 1.0}}


def test_a_computer_is_asked_for_what_the_smallest_has_and_for_a_gpu_where_there_is_one() -> None:
    assert cluster._share([HEAD, NODE, DEAD], 4, 1) == (4, 0)
    assert cluster._share([NODE, {"Alive": True, "Resources": {"CPU": 2.0}}], 4, 1) == (2, 0)
    assert cluster._share([NODE, GPU], 4, 1) == (4, 1)
    assert cluster.room_for([HEAD, NODE, DEAD, GPU], 4, 0) == 6
    assert cluster.room_for([HEAD, NODE, DEAD, GPU], 4, 1) == 2
    assert cluster.room_for([DEAD], 4, 0) == 0
