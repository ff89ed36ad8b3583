"""The standby: the database of the publishing before, which is brought up to date to be the next.

Belongs here: whether a file can be written in, a second file and the room for it, putting a new
database in place. Does not: what is in one (``filling``).

A database is written in only where nobody has it open: readers keep what they opened. So there are
two. One stands; the other is taken, written in under a name of its own, and renamed over the
standing one, which is the standby from then on. Of whatever goes wrong with it there is a way back:
a copy of the standing one, or a new file.
"""

import contextlib
import errno
import fcntl
import logging
import os
import shutil
import signal
from pathlib import Path
from typing import BinaryIO

from fastdino.core.files import part_of
from fastdino.core.home import Home
from fastdino.core.storage import read_json, stamps, write_json

log = logging.getLogger(__name__)


def is_sound(home: Home, database: Path) -> bool:
    """Whether a file is as it was when it was last written or read whole."""
    try:
        known = read_json(_sound(home))
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(known, list) and _stamp(database) in known


def found_sound(home: Home, *databases: Path) -> None:
    """Note that all of these could be read, or have just been written; no other is known then."""
    write_json(_sound(home), [stamp for each in databases if (stamp := _stamp(each))])


def _sound(home: Home) -> Path:
    return home.standby.with_name("sound.json")


def _stamp(database: Path) -> list[object] | None:
    return next((list(each) for each in stamps(database.parent, database.name).values()), None)


def take(home: Home, part: Path) -> bool:
    """Make ``part`` a database of before that can be written in: the standby, or a copy.

    The standby is none any more, whatever becomes of it.

    Returns:
        Whether there is such a file.
    """
    if is_sound(home, home.standby):
        # Not where it lies on another disk.
        with contextlib.suppress(OSError):
            # Under another name than anyone knows, so that no one opens it after we have looked.
            os.replace(home.standby, part)
            if _is_ours_alone(part):
                return True
            log.info("a program still reads the database before the last: it keeps it")
            part.unlink()
    drop(home)
    return is_sound(home, home.database) and _copy(home.database, part)


def drop(home: Home) -> None:
    """Delete the standby, if there is one: it is of no use, and takes room."""
    home.standby.unlink(missing_ok=True)


def put_in_place(home: Home, part: Path, *, with_copy: bool) -> None:
    """Let ``part`` be the published database.

    Args:
        home: where.
        part: the finished file, beside the standing one.
        with_copy: the standby is to be a copy of it, and not the database that stands now.
    """
    with open(part, "rb") as written:
        os.fsync(written.fileno())
    if with_copy or not is_sound(home, home.database):
        drop(home)
        # Where it cannot be told who reads a file, none is ever written in.
        if _is_ours_alone(part):
            with part_of(home.standby) as copy:
                if _copy(part, copy):
                    os.replace(copy, home.standby)
        found_sound(home, part, home.standby)
    else:
        found_sound(home, part, home.database)
        # On another disk it cannot be; then there is none.
        with contextlib.suppress(OSError):
            os.link(home.database, home.standby)
    os.replace(part, home.database)


def _is_ours_alone(database: Path) -> bool:
    """Whether no program has a file open, this one included, nor has it a second name.

    False where the system does not tell.
    """
    if database.stat().st_nlink > 1 or not hasattr(fcntl, "F_SETLEASE"):
        return False
    with open(database, "rb") as file:
        try:
            # Who opened it meanwhile would otherwise end this program, by a signal.
            fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError:
            return False
    return True


def _copy(source: Path, target: Path) -> bool:
    """Copy a database to the disk, unless that has no room for it; returns whether it did."""
    target.parent.mkdir(parents=True, exist_ok=True)
    size, free = source.stat().st_size, shutil.disk_usage(target.parent).free
    try:
        # As much again is left for others.
        if free < 2 * size:
            raise OSError(errno.ENOSPC, f"{size / 1e9:.1f} GB and {free / 1e9:.1f} GB free")
        with open(source, "rb") as read, open(target, "wb") as write:
            _copy_bytes(read, write)
            os.fsync(write.fileno())
    except OSError as error:
        log.warning(
            "there is no room for a second copy of the database in %s, so it is written whole each "
            "time: %s",
            target.parent, error,
        )  # fmt: skip
        target.unlink(missing_ok=True)
        return False
    return True


def _copy_bytes(read: BinaryIO, write: BinaryIO) -> None:
    try:
        # Of no cost where the disk can let two files share what is in them.
        while os.copy_file_range(read.fileno(), write.fileno(), 1 << 30):
            pass
    except (AttributeError, OSError):
        read.seek(0)
        write.seek(0)
        shutil.copyfileobj(read, write, 1 << 20)
