"""Shards, vectors and models in S3-compatible storage, which several machines may share.

Belongs here: what the files of a mounted home are there: objects, the home's copies of them, locks
that are leases, and telling a store's troubles. Does not: what is asked of it, which is for
``fastdino.core.storage`` to say. Loaded only where a store is set: it needs obstore.

The object ``prefix/shards/...`` is what the file ``home/shards/...`` would be without a store. The
truth is the object. The file is a copy, and a record beside it says of which version: what is read
is compared with the store first. An object is replaced by one put, which shows nothing until it is
complete. Names that begin with a dot, as that of a training's checkpoint, are the home's own.
"""

import contextlib
import dataclasses
import errno
import filecmp
import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import IO, Any, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    NotModifiedError,
    PreconditionError,
)
from obstore.store import S3Store

from fastdino.core import environment
from fastdino.core.errors import StoreTrouble, UserError
from fastdino.core.files import Stamp, part_of, wait_for_lock
from fastdino.core.progress import progress

log = logging.getLogger(__name__)

T = TypeVar("T")

# What of a home is in the store, in the order in which it is locked; of that what is not: failures
# are those of a catalogue's files, and the catalogue is the home's.
KINDS = ("models", "shards", "vectors")
OWN = ("failures.parquet",)
# In a home: its store and the versions of its copies; and files that the store had other ones of.
NOTES = ".store"
ASIDE = "not-in-store"
LOCKS = ".locks"

# After an answer that may be another one later; beside what obstore tries again by itself.
WAITS_S: Sequence[float] = (1.0, 5.0)
RETRIES = 4
MAY_PASS = {None, "InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown"}
# A large file goes up in parts of so many bytes, so many at once.
PART_BYTES = 16_000_000
PARTS_AT_ONCE = 4
# So long a lock holds that is not renewed. Who holds it writes no more some seconds earlier.
LEASE_S = 60.0
SPARE_S = 10.0
RENEW_EVERY_S = LEASE_S / 6
LOOK_EVERY_S = 1.0
# A shard that was asked for so lately may be about to be opened.
IN_USE_S = 60.0


class Store:
    """The store of one home."""

    def __init__(self, root: Path, url: str) -> None:
        """Mount a store; nothing is asked of it yet.

        Args:
            root: the home's folder.
            url: as ``environment.STORE`` has it.

        Raises:
            UserError: what is set for it makes no sense.
        """
        self.root, self.url = root, url
        self._leases: dict[Path, _Lease] = {}
        self._objects = _connected(url, "30 minutes", RETRIES)
        # Whoever renews a lock tries again by himself, and wants to know at once.
        self.locks = _connected(url, "10 s", 0)
        (root / NOTES).mkdir(parents=True, exist_ok=True)

    def holds(self, path: Path) -> bool:
        """Whether a path of the home is an object's, or a folder of such."""
        kind, *below = path.relative_to(self.root).parts or ("",)
        return (
            kind in KINDS
            and not any(name.startswith(".") for name in below)
            and not (below and below[-1] in OWN)
        )

    def stamps(self, folder: Path, pattern: str) -> dict[Path, Stamp]:
        """See ``storage.stamps``."""
        found = self._matching(folder, pattern)
        return {path: Stamp(meta["size"], str(meta["e_tag"])) for path, meta in found.items()}

    def written_since(self, folder: Path, pattern: str, when_s: float) -> set[str]:
        """See ``storage.written_since``."""
        return {
            path.name
            for path, meta in self._matching(folder, pattern).items()
            # Which stores tell in whole seconds.
            if int(meta["last_modified"].timestamp()) >= int(when_s)
        }

    def _matching(self, folder: Path, pattern: str) -> dict[Path, Any]:
        depth = len(PurePosixPath(pattern).parts)
        found = {}
        for meta in self._listed(folder):
            path = self.root / meta["path"]
            below = path.relative_to(folder)
            if len(below.parts) == depth and below.match(pattern) and self.holds(path):
                found[path] = meta
        return dict(sorted(found.items()))

    def folders(self, folder: Path) -> list[Path]:
        """See ``storage.folders``."""
        key = self.key(folder)
        found = self.ask(lambda: obstore.list_with_delimiter(self._objects, key))
        paths = [self.root / each for each in found["common_prefixes"]]
        return sorted(path for path in paths if self.holds(path))

    def exists(self, path: Path) -> bool:
        """Whether there is such an object."""
        try:
            self.ask(lambda: obstore.head(self._objects, self.key(path)), path)
        except FileNotFoundError:
            return False
        return True

    def fetch(self, path: Path) -> None:
        """Make the home's copy the store's version.

        Raises:
            FileNotFoundError: there is no such object.
        """
        if aside := self._fetch(path):
            log.warning("%s", self._put_aside_says([aside]))

    def _fetch(self, path: Path) -> Path | None:
        """``fetch``; returns where a file is kept that is not the object's copy, if there was."""
        aside = None
        with self._record(path) as record:
            have = record.version()
            with part_of(path) as part:
                try:
                    version = self.ask(lambda: self._receive(path, part, have), path)
                except NotModifiedError:
                    record.used()
                    return None
                if have is None and path.exists() and not filecmp.cmp(part, path, shallow=False):
                    aside = self._put_aside(path)
                os.replace(part, path)
            record.note(version)
        self._make_room()
        return aside

    def _receive(self, path: Path, part: Path, have: str | None) -> str:
        options: Any = {"if_none_match": have} if have else None
        found = obstore.get(self._objects, self.key(path), options=options)
        with part.open("wb") as file:
            for chunk in found.stream():
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        return str(found.meta["e_tag"])

    def put(self, part: Path, target: Path) -> None:
        """Make a whole file the object of ``target``, and the home's copy of it."""
        with self._record(target) as record:
            version = self._send(part, target)
            os.replace(part, target)
            record.note(version)
        self._make_room()

    def _send(self, file: Path, target: Path) -> str:
        self.may_write(target)
        put = self.ask(
            lambda: obstore.put(
                self._objects,
                self.key(target),
                file,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )
        )
        return str(put["e_tag"])

    def put_folder(self, source: Path, target: Path, last: str) -> None:
        """Move a folder of the home's own to be the store's, see ``storage.move_folder``."""
        files = [file for file in source.rglob("*") if file.is_file()]
        versions = {}
        for file in sorted(files, key=lambda file: (file.name == last, file)):
            path = target / file.relative_to(source)
            versions[path] = self._send(file, path)
        os.replace(source, target)
        for path, version in versions.items():
            with self._record(path) as record:
                record.note(version)

    def rename(self, path: Path, target: Path) -> None:
        """Give an object, and its copy, another name; a kill in between leaves it under both."""
        self.fetch(path)
        version = self._send(path, target)
        self.delete(path)
        os.replace(path, target)
        with self._record(target) as record:
            record.note(version)

    def delete(self, path: Path) -> None:
        """Delete an object; the copy stays."""
        self.may_write(path)
        self.ask(lambda: obstore.delete(self._objects, self.key(path)))

    def delete_folder(self, folder: Path, first: str) -> None:
        """Delete all objects below a folder, that of this name first; the copies stay.

        So do their records: by them a copy that a kill has left is not taken for a new file.
        """
        keys = [str(meta["path"]) for meta in self._listed(folder)]
        for some in ([k for k in keys if PurePosixPath(k).name == first], keys):
            self.may_write(folder)
            self.ask(lambda: obstore.delete(self._objects, some))  # noqa: B023

    def drop_copies(self, folder: Path) -> None:
        """Delete the home's copies below a folder, so that they are taken from the store anew."""
        for path in self._files(folder):
            with self._record(path) as record:
                if record.version():
                    path.unlink()

    def folders_with_strangers(self) -> list[Path]:
        """The folders, by whose locks they are written to, where ``take_in`` has something to do.

        In the order in which they are locked.
        """
        return sorted({self._locked_as(path) for path in self._strangers()})

    def take_in(self) -> None:
        """Put into the store what the home has and it has not, such as all of before it was set.

        Of what both have, the store's is used from now on; a file that differs from it is kept in
        another folder. The folders' locks are held meanwhile.
        """
        aside = []
        strangers = self._strangers()
        megabytes = sum(path.stat().st_size for path in strangers) / 1e6
        log.info("Putting %d files (%.0f MB) into %s", len(strangers), megabytes, self.url)
        with progress("Putting into the store", megabytes, "MB") as shown:
            for path in strangers:
                size = path.stat().st_size
                try:
                    kept = self._fetch(path)
                    aside += [kept] if kept else []
                except FileNotFoundError:
                    with self._record(path) as record:
                        record.note(self._send(path, path))
                shown.advance(size / 1e6)
        if aside:
            log.warning("%s", self._put_aside_says(aside))

    def _strangers(self) -> list[Path]:
        """Files of the home that are copies of nothing; what names others comes after those."""
        found = []
        for kind in KINDS:
            for path in self._files(self.root / kind):
                with self._record(path) as record:
                    if record.version() is None:
                        found.append(path)
        last = ("model.json", "current.json")
        models = self.root / "models"
        return sorted(
            found, key=lambda p: (p.is_relative_to(models), p.name in last, -len(p.parts), p)
        )

    def _locked_as(self, path: Path) -> Path:
        """The folder whose lock a file's writers hold."""
        kind, name, *_ = path.relative_to(self.root).parts
        return self.root / kind if kind == "models" else self.root / kind / name

    def _put_aside(self, path: Path) -> Path:
        aside = self.root / ASIDE / path.relative_to(self.root)
        if aside.exists():
            aside = aside.with_name(f"{aside.name}.{uuid.uuid4().hex[:8]}")
        aside.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, aside)
        return aside

    def _put_aside_says(self, aside: list[Path]) -> str:
        return (
            f"{self.url} has others for {len(aside)} files of {self.root}, which are used from now "
            f"on; what was here is kept in {self.root / ASIDE}, such as {aside[0]}"
        )

    def _files(self, folder: Path) -> list[Path]:
        """Files of the home below a folder that are, or should be, copies."""
        return sorted(p for p in folder.rglob("*") if self.holds(p) and p.is_file())

    def _listed(self, folder: Path) -> list[Any]:
        return list(self.ask(lambda: obstore.list(self._objects, self.key(folder)).collect()))

    def key(self, path: Path) -> str:
        """Of the object of a path."""
        return path.relative_to(self.root).as_posix()

    def _notes(self, path: Path) -> Path:
        return self.root / NOTES / "copies" / path.relative_to(self.root)

    @contextlib.contextmanager
    def _record(self, path: Path) -> Iterator["_Record"]:
        """The record of a copy, while no one else changes either."""
        notes = self._notes(path)
        notes.parent.mkdir(parents=True, exist_ok=True)
        with notes.open("a+", encoding="utf-8") as file:
            wait_for_lock(file)
            yield _Record(path, file)

    def _make_room(self) -> None:
        """Delete the copies of shards that were not asked for the longest, as far as too many."""
        copies = []
        for notes in self._notes(self.root / "shards").rglob("*.parquet"):
            path = self.root / notes.relative_to(self._notes(self.root))
            with contextlib.suppress(FileNotFoundError):
                copies.append((notes.stat().st_mtime, path.stat().st_size, path))
        excess = sum(size for _, size, _ in copies) - environment.STORE_CACHE_GB.value() * 1e9
        for _, size, path in sorted(copies):
            if excess <= 0:
                break
            with self._record(path) as record:
                # Whoever has it open goes on reading it.
                if record.version() and time.time() - record.used_at() >= IN_USE_S:
                    path.unlink()
                    excess -= size

    @contextlib.contextmanager
    def leased(self, folder: Path) -> Iterator[None]:
        """Hold a folder's lock in the store, waiting while another home does.

        Who loses it, because the store was not to be reached for too long, is told when next
        writing there.
        """
        lease = _Lease(self, folder)
        lease.take()
        self._leases[folder] = lease
        try:
            yield
        finally:
            del self._leases[folder]
            lease.give_back()

    def may_write(self, path: Path) -> None:
        """See ``storage.still_locked``."""
        for folder, lease in list(self._leases.items()):
            if path.is_relative_to(folder) and lease.is_lost():
                raise StoreTrouble(
                    f"the lock of {self.key(folder)} in {self.url} was lost, as it could not be "
                    "renewed in time: this run writes nothing more there. What was done before is "
                    "kept, and the next run goes on from there"
                )

    def ask(
        self, ask: Callable[[], T], path: Path | None = None, waits: Sequence[float] | None = None
    ) -> T:
        """What the store answers, asked again after ``waits`` where that may help.

        Raises:
            FileNotFoundError: there is no object of ``path``, if that is given.
            StoreTrouble: the store cannot be used; says why in one line.
        """
        for wait in (*(WAITS_S if waits is None else waits), None):
            try:
                return ask()
            except (AlreadyExistsError, NotModifiedError, PreconditionError):
                raise
            except (BaseError, FileNotFoundError) as error:
                code = _code(error)
                if isinstance(error, OSError):
                    if error.errno is not None:  # a file of the home
                        raise
                    if path is not None and code in (None, "NoSuchKey"):
                        missing = os.strerror(errno.ENOENT)
                        raise FileNotFoundError(errno.ENOENT, missing, str(path)) from None
                if wait is None or not isinstance(error, GenericError) or code not in MAY_PASS:
                    # Not ``from error``: a store's answer may have names of keys in it.
                    raise StoreTrouble(self._trouble(error)) from None
            log.warning("%s does not answer as it should: asking again in %.0f s", self.url, wait)
            time.sleep(wait)
        raise AssertionError("the last wait is None")

    def _trouble(self, error: Exception) -> str:
        """What to tell a person of an answer; nothing in it is the answer's own but its code."""
        code, kept = _code(error), "nothing that is there is lost"
        if code == "NoSuchBucket":
            bucket = self.url.split("/")[2]
            return (
                f"there is no bucket {bucket} for {self.url}: create it, or set FASTDINO_STORE to "
                f"another; {kept}"
            )
        if code in REFUSALS or not isinstance(error, GenericError | OSError):
            why = code or type(error).__name__
            return (
                f"{self.url} lets nobody in with the credentials that are set ({why}): look at "
                "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and at what they may do with this "
                f"bucket; {kept}"
            )
        if METADATA_SERVICE in str(error):
            return (
                f"there are no credentials for {self.url}: set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
            )
        return (
            f"{self.url} cannot be used now ({code or 'no whole answer'}): look at the network, "
            "AWS_ENDPOINT_URL and AWS_REGION. What was done before is kept, and the next run goes "
            "on from there"
        )


REFUSALS = {
    "AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch",
}  # fmt: skip
# Asked where no credentials are set: a machine of Amazon's has some there.
METADATA_SERVICE = "169.254.169.254"


def _code(error: Exception) -> str | None:
    """What S3 calls an error that it answers with."""
    found = re.search(r"<Code>(\w+)</Code>", str(error))
    return found[1] if found else None


def _connected(url: str, limit: str, retries: int) -> S3Store:
    """A client, whose requests may each take ``limit``, and are tried again so often.

    Raises:
        UserError: what is set for it makes no sense.
    """
    _, _, bucket, *prefix = url.split("/")
    endpoint = environment.store_endpoint() or ""
    nonsense = UserError(
        f"no connection to {url} can be made with what is set: look at AWS_ENDPOINT_URL, which "
        "begins with https:// or http://, and the other AWS_* settings"
    )
    if endpoint and not re.match(r"https?://[^\s/]", endpoint):
        raise nonsense  # obstore would end the program
    try:
        return S3Store(
            bucket,
            prefix="/".join(prefix) or None,
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": "5 s",
                "read_timeout": "60 s",
                "timeout": limit,
            },
            retry_config={
                "max_retries": retries,
                "retry_timeout": timedelta(seconds=60),
                "backoff": {
                    "init_backoff": timedelta(seconds=0.2),
                    "max_backoff": timedelta(seconds=5),
                    "base": 2,
                },
            },
            credential_provider=_of_profile() if os.environ.get("AWS_PROFILE") else None,
        )
    except (BaseError, ValueError):
        raise nonsense from None


def _of_profile() -> Any:
    """The credentials of ``$AWS_PROFILE``, which obstore leaves to Amazon's own library."""
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ModuleNotFoundError:
        raise UserError(
            "AWS_PROFILE is set, and only boto3 reads its file: install it (pip install boto3), "
            "or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        ) from None
    from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]

    try:
        return Boto3CredentialProvider()
    except (BotoCoreError, ValueError):
        raise UserError(
            f"there are no credentials for AWS_PROFILE={os.environ['AWS_PROFILE']}: look at "
            "~/.aws/credentials"
        ) from None


@dataclass(frozen=True)
class _Record:
    """What says of which version a copy is.

    Attributes:
        path: the copy, which need not be there.
        file: the record, locked.
    """

    path: Path
    file: IO[str]

    def version(self) -> str | None:
        """The object's version that the file is a copy of; None if it is none, or is not there."""
        self.file.seek(0)
        try:
            status = self.path.stat()
            version, size, mtime_ns = json.load(self.file)
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return version if (size, mtime_ns) == (status.st_size, status.st_mtime_ns) else None

    def note(self, version: str) -> None:
        """The file is a copy of this version."""
        status = self.path.stat()
        self.file.truncate(0)
        json.dump([version, status.st_size, status.st_mtime_ns], self.file)
        self.file.flush()

    def used(self) -> None:
        """The copy is asked for now."""
        os.utime(self.file.fileno())

    def used_at(self) -> float:
        """When it was asked for."""
        return os.fstat(self.file.fileno()).st_mtime


@dataclass(frozen=True)
class _Holder:
    """What a lock's object says.

    Attributes:
        home: of whom; two that are the same are one folder of one machine.
        run: by which run.
        count: how often it was renewed, which makes every version another one.
        held: false once it was given back.
    """

    home: str
    run: str
    count: int = 0
    held: bool = True


class _Lease:
    """A lock as an object that its holder renews.

    Who waits for it takes it once it has not changed for ``LEASE_S``, by replacing just that
    version. No two machines' clocks are compared: each counts seconds of its own.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.key = store, f"{LOCKS}/{store.key(folder)}"
        notes = (store.root / NOTES).stat()
        # A killed run's lock is its home's own, which flock keeps to one run at a time.
        home = f"{socket.gethostname()} {notes.st_dev} {notes.st_ino}"
        self._mine = _Holder(home, uuid.uuid4().hex)
        self._version, self._renewed_at = "", 0.0
        self._taken_over, self._end = False, threading.Event()
        self._renewing = threading.Thread(target=self._renew, daemon=True)

    def take(self) -> None:
        """Wait until it is this one's."""
        seen, since, told = "", 0.0, False
        while not self._put(None, WAITS_S):
            version, holder = self._look(WAITS_S)
            if version is None:
                continue
            if version != seen:
                seen, since = version, _now()
            free = holder is not None and not (holder.held and holder.home != self._mine.home)
            if free or _now() - since > LEASE_S:
                if self._put(version, WAITS_S):
                    break
                continue
            if not told:
                url, folder = self.store.url, self.key.removeprefix(f"{LOCKS}/")
                log.warning("another run is writing to %s/%s: waiting until it ends", url, folder)
                told = True
            time.sleep(LOOK_EVERY_S)
        self._renewing.start()

    def is_lost(self) -> bool:
        """Whether another may hold it by now."""
        return self._taken_over or _now() - self._renewed_at > LEASE_S - SPARE_S

    def give_back(self) -> None:
        """Let others have it at once; where that fails, they wait until it has run out."""
        self._end.set()
        self._renewing.join()
        self._mine = dataclasses.replace(self._mine, held=False)
        with contextlib.suppress(StoreTrouble):
            self._put(self._version)

    def _renew(self) -> None:
        while not self._end.wait(RENEW_EVERY_S) and not self._taken_over:
            self._mine = dataclasses.replace(self._mine, count=self._mine.count + 1)
            with contextlib.suppress(StoreTrouble):
                if not self._put(self._version):
                    version, holder = self._look()
                    self._taken_over = holder is None or holder.run != self._mine.run
                    self._version = version or ""

    def _put(self, version: str | None, waits: Sequence[float] = ()) -> bool:
        """Write it, where it is still this version (None: where there is none yet)."""
        mode: Any = {"e_tag": version} if version else "create"
        said = json.dumps(dataclasses.asdict(self._mine)).encode()
        asked_at = _now()
        try:
            put = self.store.ask(
                lambda: obstore.put(self.store.locks, self.key, said, mode=mode), waits=waits
            )
        except (AlreadyExistsError, PreconditionError):
            return False
        self._version, self._renewed_at = str(put["e_tag"]), asked_at
        return True

    def _look(self, waits: Sequence[float] = ()) -> tuple[str | None, _Holder | None]:
        """The version that is there and what it says, as far as there is one and it can be told."""
        try:
            version, said = self.store.ask(self._read, Path(self.key), waits)
        except FileNotFoundError:
            return None, None
        try:
            return version, _Holder(**json.loads(said))
        except (ValueError, TypeError):
            return version, None

    def _read(self) -> tuple[str, bytes]:
        found = obstore.get(self.store.locks, self.key)
        return str(found.meta["e_tag"]), bytes(found.bytes())


def _now() -> float:
    """Seconds that also pass while the machine sleeps."""
    # Only Linux calls them so; those of macOS are its monotonic ones.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
