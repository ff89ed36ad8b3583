"""The computers that work is done on: this one alone, or a Ray cluster.

Belongs here: joining the cluster that ``RAY_ADDRESS`` names, and handing work to it piece by piece.
Does not: what the work is. Ray is imported only where such an address is set.
"""

import contextlib
import logging
import math
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Self, TypeVar

from fastdino import __version__
from fastdino.core import environment, storage
from fastdino.core.errors import StoreTrouble, UserError
from fastdino.core.text import one_line

log = logging.getLogger(__name__)

P = TypeVar("P")
E = TypeVar("E")

# A piece of work that as many computers were lost with is what loses them.
MOST_LOST = 3
# After so long without a word from any of them, a person is told what is waited for.
QUIET_S = 60.0
# A word of each song, and a look at who is there with each word, would be more than one process can
# take in of hundreds of computers.
TOLD_EVERY_S, COUNTED_EVERY_S = 1.0, 1.0
CLOSING_S = 10.0
CONNECT_S = 10.0
# What each side of HTTP/2 begins with: the client's greeting, then a frame of settings.
NO_SETTINGS = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + NO_SETTINGS


class Work(Generic[P, E]):
    """Does pieces of work one after the other; holds what they share until its ``with`` ends."""

    def __call__(self, pieces: Iterable[P]) -> Iterator[E]:
        """Do these; yields what there is to be told of them, as it comes."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Let go of what they share."""


Maker = Callable[[int | None], Work[P, E]]


def everywhere(
    make: Maker[P, E],
    pieces: Sequence[P],
    *,
    cores: int,
    gpus: int = 0,
    sees: Iterable[Path] = (),
) -> Generator[E, None, None]:
    """Do pieces of work, on the cluster if there is one and in this process otherwise.

    What is yielded comes in any order. A piece whose computer was lost is done again by another,
    from its beginning, so what it yields may come twice. The end of the iterator, by an error too,
    ends what is still being done.

    Args:
        make: picklable; makes what does the work, given the cores that it may use (None: all).
        pieces: picklable; each may take seconds or minutes.
        cores: of a computer of the cluster, for one piece at a time; fewer where it has fewer.
        gpus: the same, where the cluster has any.
        sees: folders that this computer sees and all others have to see as well.

    Raises:
        UserError: the work raised it, or the cluster cannot be used.
    """
    if environment.CLUSTER.value() is None:
        with make(None) as work:
            yield from work(pieces)
    elif pieces:
        yield from _on_cluster(make, pieces, cores, gpus, list(filter(os.path.isdir, sees)))


def connect() -> ModuleType:
    """Ray, joined to the cluster that ``RAY_ADDRESS`` names.

    Raises:
        UserError: no address is set, Ray is not installed, or there is no such cluster.
    """
    address = environment.CLUSTER.value()
    if address is None:
        raise UserError("no cluster is named: set RAY_ADDRESS, such as 10.0.0.1:6379")
    try:
        import ray
    except ImportError:
        raise UserError(
            "RAY_ADDRESS is set, but Ray is not installed here: run 'pip install -e .[cluster]' in "
            "the project's folder, or unset RAY_ADDRESS to compute on this computer alone"
        ) from None
    if not ray.is_initialized():
        terminate = signal.getsignal(signal.SIGTERM)
        try:
            if address != "auto":  # Ray itself goes on trying for minutes
                _expect_ray(address)
            ray.init(
                address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                # What decides what is computed has to be the same everywhere; secrets stay here.
                runtime_env={"env_vars": environment.told()},
            )
        except (OSError, RuntimeError, ValueError, OverflowError) as error:
            raise UserError(
                f"the Ray cluster that RAY_ADDRESS names, {address}, cannot be joined "
                f"({one_line(str(error))[:200]}): start it, or unset RAY_ADDRESS to do without"
            ) from error
        finally:
            # Ray puts its own in place, which nothing here that ends in an orderly way knows of.
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, terminate)
    return ray


def _expect_ray(address: str) -> None:
    """Make sure that what listens there may be Ray, which speaks gRPC, that is, HTTP/2.

    Raises:
        OSError: nothing does, or something else.
    """
    host, _, port = address.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), CONNECT_S) as there:
        if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
            return  # nothing is to be heard of it without Ray's own certificates
        answer = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            there.sendall(HTTP2_GREETING)
            answer = there.makefile("rb").read(len(NO_SETTINGS))
        # A server's first frame is its settings, after three bytes of length.
        if answer[3:4] != NO_SETTINGS[3:4]:
            raise OSError(
                "what listens there is not Ray: the port to name is that of 'ray start --head', "
                "usually 6379, and not the dashboard's, 8265"
            )


def _on_cluster(
    make: Maker[P, E], pieces: Sequence[P], cores: int, gpus: int, sees: Sequence[Path]
) -> Iterator[E]:
    ray = connect()
    cores, gpus = _share(ray.nodes(), cores, gpus)
    kind = ray.remote(num_cpus=cores, num_gpus=gpus, max_restarts=0)(_Worker)
    todo = deque((piece, 0) for piece in pieces)
    # What each is at, and by what it is being told of: its piece, and how many were lost with it.
    busy: dict[Any, tuple[Any, P, int]] = {}
    idle: list[Any] = []
    slots, counted = 0, -math.inf
    homes = storage.mounted()
    try:
        while todo or busy:
            if time.monotonic() - counted > COUNTED_EVERY_S:
                slots, counted = room_for(ray.nodes(), cores, gpus), time.monotonic()
            while todo and (idle or len(busy) < max(1, slots)):
                worker = idle.pop() if idle else kind.remote(make, cores, __version__, sees, homes)
                piece, lost = todo.popleft()
                told = worker.do.options(num_returns="streaming").remote(piece)
                busy[told] = worker, piece, lost
            # Whose cores they have may be waiting for them.
            _end(ray, idle)
            idle = []
            ready, _ = ray.wait(list(busy), num_returns=1, timeout=QUIET_S)
            if not ready:
                log.info(
                    "No word from the cluster for a minute: %d of its computers are at work or "
                    "awaited, %d could be",
                    len(busy), slots,
                )  # fmt: skip
            for told in ready:
                try:
                    yield from ray.get(next(told))
                except StopIteration:
                    idle.append(busy.pop(told)[0])
                except ray.exceptions.RayActorError as error:
                    _, piece, lost = busy.pop(told)
                    if lost + 1 == MOST_LOST:
                        raise UserError(
                            f"{MOST_LOST} computers of the cluster were lost one after the other "
                            f"at the same piece of work ({one_line(str(error))[:200]})"
                        ) from error
                    log.warning("a computer of the cluster was lost: what it did is done again")
                    todo.appendleft((piece, lost + 1))
                except ray.exceptions.RayTaskError as error:
                    cause = error.cause
                    known = isinstance(cause, UserError | StoreTrouble)
                    raise (cause if known else error) from None
        _end(ray, idle)
    finally:
        for worker, _, _ in busy.values():
            ray.kill(worker)


def _end(ray: Any, workers: Sequence[Any]) -> None:
    """End workers that are at nothing, once they have let go of what they hold."""
    closing = [worker.close.remote() for worker in workers]
    if closing:
        ray.wait(closing, num_returns=len(closing), timeout=CLOSING_S)
    for worker in workers:
        ray.kill(worker)


class _Worker:
    """What Ray runs on a computer of the cluster."""

    def __init__(
        self,
        make: Maker[Any, Any],
        cores: int,
        version: str,
        sees: Sequence[Path],
        homes: Sequence[Path],
    ) -> None:
        self._make, self._cores, self._version = make, cores, version
        self._sees, self._homes = sees, homes
        self._work: Work[Any, Any] | None = None

    def do(self, piece: object) -> Iterator[list[object]]:
        if self._work is None:
            here = f"{socket.gethostname()}, a computer of the cluster,"
            if self._version != __version__:
                raise UserError(
                    f"{here} has fastdino {__version__} where {self._version} is asked for: "
                    "install the same everywhere"
                )
            for root in self._homes:
                storage.mount(root)
            # Otherwise every file there would be one that cannot be read.
            needed = (path for path in self._sees if not storage.in_store(path))
            if unseen := next((path for path in needed if not os.path.isdir(path)), None):
                raise UserError(f"{here} does not see {unseen}: mount it there at the same place")
            self._work = self._make(self._cores).__enter__()
        told: list[object] = []
        since = time.monotonic()
        for each in self._work([piece]):
            told.append(each)
            if time.monotonic() - since > TOLD_EVERY_S:
                yield told
                told, since = [], time.monotonic()
        yield told

    def close(self) -> None:
        if self._work is not None:
            self._work.__exit__(None, None, None)


def _share(nodes: Sequence[Any], cores: int, gpus: int) -> tuple[int, int]:
    """Cores and GPUs to ask for: no more than any computer that has some has of them."""
    has = [
        tuple(int(node["Resources"].get(what, 0)) for what in ("CPU", "GPU"))
        for node in nodes
        if node["Alive"]
    ]
    cores = min([cores, *(cpu for cpu, _ in has if cpu)])
    return cores, min(gpus, max((gpu for _, gpu in has), default=0))


def room_for(nodes: Sequence[Any], cores: int, gpus: int) -> int:
    """Pieces of work that the computers which are there can be at together."""
    found = 0
    for node in nodes:
        if node["Alive"]:
            room = int(node["Resources"].get("CPU", 0)) // cores
            found += min(room, int(node["Resources"].get("GPU", 0)) // gpus) if gpus else room
    return found
