"""Writing files so that a reader sees the old one or the new one, never half of one.

Belongs here: atomic replacement, locks, the plain formats (JSON) that need nothing more, and what a
file is where a home's shards, vectors and models are in a store. Does not: Parquet schemas, which
live with the stage that owns the file; how a store is talked to (``fastdino.core.store``).

Where a store is mounted, what lies on the disk may be old, or not there yet. Who reads one of those
files asks for it with ``fetched``, and for names with ``listed``; who deletes or moves one does it
through here. Of any other file these are what they are everywhere.
"""

import contextlib
import functools
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from fastdino.core import environment
from fastdino.core.errors import UserError
from fastdino.core.files import PART, Stamp, part_of, try_lock, wait_for_lock

if TYPE_CHECKING:
    from fastdino.core.store import Store

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

LOCK = ".lock"
# Where a home says which store it is mounted on.
ADDRESS = Path(".store", "address")

_mounted: dict[Path, "Store"] = {}


def mount(root: Path) -> None:
    """Let a home's shards, vectors and models be those of ``FASTDINO_STORE``, in this process.

    Every process that reads or writes a home does this first. Nothing is asked of the store yet.

    Args:
        root: the home's folder.

    Raises:
        UserError: what is set cannot be, or the home was mounted on another store before.
    """
    url, file = environment.STORE.value(), root / ADDRESS
    at = re.sub("//.*@", "//", environment.store_endpoint() or "Amazon")
    address = f"{url} at {at}" if url else None
    before = file.read_text(encoding="utf-8").strip() if file.exists() else None
    if before not in (None, address):
        raise UserError(
            f"{root} has copies of what is in {before}: set {environment.STORE.name} to that "
            f"again. To go on without it, delete {file.parent}: what {root} has no copy of is made "
            "anew then"
        )
    if url is None:
        return
    if root not in _mounted:
        try:
            from fastdino.core.store import Store
        except ModuleNotFoundError as error:
            if error.name != "obstore":
                raise
            raise UserError(
                f"{environment.STORE.name} is set, but obstore is not installed here: run 'pip "
                "install -e .[s3]' in the project's folder"
            ) from None
        _mounted[root] = Store(root, url)
    if before is None:
        with atomic_replace(file) as part:
            part.write_text(f"{address}\n", encoding="utf-8")


def mounted() -> list[Path]:
    """The homes that are mounted in this process."""
    return list(_mounted)


def take_in(root: Path) -> None:
    """Put what a home had before it was mounted into its store; to be done while no lock is held.

    Raises:
        StoreTrouble: the store cannot be used.
    """
    store = _mounted.get(root)
    if store and (folders := store.folders_with_strangers()):
        with contextlib.ExitStack() as held:
            for folder in folders:
                held.enter_context(exclusive_lock(folder))
            store.take_in()


def _store_of(path: Path) -> "Store | None":
    """The store that a file or folder is in; None if it is the home's own."""
    for root, store in list(_mounted.items()):
        if path.is_relative_to(root) and store.holds(path):
            return store
    return None


def in_store(path: Path) -> bool:
    """Whether a file or folder is in a store, so that nothing of it need be on this computer."""
    return _store_of(path) is not None


def stamps(folder: Path, pattern: str) -> dict[Path, Stamp]:
    """Files below a folder that match, such as ``*.parquet`` or ``*/model.json``, in order.

    Every part of the pattern is one of the name; empty if there is no such folder.
    """
    if store := _store_of(folder / pattern):
        return store.stamps(folder, pattern)
    found = {}
    for path in sorted(folder.glob(pattern)):
        # Not one that is deleted meanwhile, and no folder.
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                found[path] = Stamp(status.st_size, str(status.st_mtime_ns))
    return found


def written_since(folder: Path, pattern: str, when_s: float) -> set[str]:
    """Names of the files, of those that ``stamps`` gives, that were put there since a Unix time."""
    if store := _store_of(folder / pattern):
        return store.written_since(folder, pattern, when_s)
    found = set()
    for path in folder.glob(pattern):
        with contextlib.suppress(FileNotFoundError):
            # Not when it was written to last: it may have been put in its place long after that.
            if path.stat().st_ctime >= when_s:
                found.add(path.name)
    return found


def listed(folder: Path, pattern: str) -> list[Path]:
    """The names that ``stamps`` gives."""
    return list(stamps(folder, pattern))


def folders(folder: Path) -> list[Path]:
    """Folders in a folder but for those whose names begin with a dot, in order."""
    if store := _store_of(folder):
        return store.folders(folder)
    return sorted(path for path in folder.glob("[!.]*") if path.is_dir())


def lists_again(read: Callable[P, T]) -> Callable[P, T]:
    """Let ``read`` begin once more where a file that it has listed is gone when it comes to it.

    Who only reads holds no lock, and whoever holds it may join files and delete what is in others.
    """

    @functools.wraps(read)
    def again(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return read(*args, **kwargs)
        except UserError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
        return read(*args, **kwargs)

    return again


def exists(path: Path) -> bool:
    """Whether there is such a file."""
    store = _store_of(path)
    return store.exists(path) if store else path.exists()


def fetched(path: Path) -> Path:
    """The same path, once what lies there is what is in the store.

    Raises:
        FileNotFoundError: it is not there. Where no store is mounted that is for the caller to see.
        StoreTrouble: the store cannot be used.
    """
    if store := _store_of(path):
        store.fetch(path)
    return path


def unlink(path: Path, *, missing_ok: bool = False) -> None:
    """Delete a file."""
    if store := _store_of(path):
        store.delete(path)
        missing_ok = True
    path.unlink(missing_ok=missing_ok)


def rename(path: Path, target: Path) -> None:
    """Give a file another name in its folder."""
    if store := _store_of(path):
        store.rename(path, target)
    else:
        os.replace(path, target)


def move_folder(source: Path, target: Path, last: str) -> None:
    """Rename a folder; in a store the file of the name ``last`` is the last to be there."""
    if store := _store_of(target):
        store.put_folder(source, target, last)
    else:
        os.replace(source, target)


def withdraw(folder: Path, first: str = "") -> None:
    """Delete a folder in its store, the file of the name ``first`` before the others.

    What lies on the disk stays.
    """
    if store := _store_of(folder):
        store.delete_folder(folder, first)


def remove_folder(folder: Path) -> None:
    """Delete a folder, if there is one, with all that is in it."""
    withdraw(folder)
    if folder.is_dir():
        shutil.rmtree(folder)


def drop_copies(folder: Path) -> None:
    """Let all below a folder be fetched anew; of no effect where it is not in a store."""
    if store := _store_of(folder):
        store.drop_copies(folder)


@contextlib.contextmanager
def atomic_replace(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``target``; on success it is flushed and renamed over it.

    On an exception the temporary file is removed and ``target`` stays as it was. Left-overs of a
    killed process are named ``.<name>.<random>.part`` and are never read.

    Raises:
        OSError: the disk refuses it; names ``target`` whatever the library that wrote raised.
    """
    with part_of(target) as part:
        yield part
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        if store := _store_of(target):
            store.put(part, target)
        else:
            os.replace(part, target)


@contextlib.contextmanager
def exclusive_lock(folder: Path, *, with_all_below: bool = True) -> Iterator[None]:
    """Hold a folder's lock, waiting while another process holds it.

    ``with_all_below`` says that folders inside it are its own too, down to where there is another
    lock. Those of a home are not: people have put it where other files of theirs are.

    Two runs writing to it at once would lose each other's work. The lock goes with the process,
    however it ends; what a killed one had begun in the folder is deleted. So whoever holds it must
    look at what is there now, and not go by what was there before. Who needs several takes them in
    one order, lest two wait for each other: models, shards, vectors, each by name, maps. In a store
    it is held there too, so that runs on other machines wait.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a") as lock:
        if not try_lock(lock):
            log.warning("another run is writing to %s: waiting until it ends", folder)
            wait_for_lock(lock)
        for left_over in _left_over(folder, with_all_below):
            left_over.unlink(missing_ok=True)
        store = _store_of(folder)
        with store.leased(folder) if store else contextlib.nullcontext():
            yield


def _left_over(folder: Path, with_all_below: bool) -> Iterator[Path]:
    """What was being written there."""
    for here, inner, names in os.walk(folder):
        if not with_all_below:
            inner.clear()
        if here != str(folder) and LOCK in names:
            inner.clear()
        else:
            yield from (Path(here, name) for name in names if PART.fullmatch(name))


def still_locked(folder: Path) -> None:
    """Make sure that a folder's lock, which this process took, has not run out in its store.

    Writing does that by itself; this is for who lets others write.

    Raises:
        StoreTrouble: it has.
    """
    if store := _store_of(folder):
        store.may_write(folder)


def write_json(target: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic_replace(target) as part:
        part.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_json(source: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not JSON.
    """
    return json.loads(fetched(source).read_text(encoding="utf-8"))
