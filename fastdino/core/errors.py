"""What a person is told when something they can mend is wrong.

Belongs here: the one exception that means "your input or your set-up, not our bug", and telling a
disk's troubles as one. Does not: failures of single songs, which are rows in the catalogue and stop
nothing.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path


class UserError(Exception):
    """A problem the user can mend: the message names the file or setting and says what to do.

    The command line prints it without a traceback and exits with 2; Dagster fails the step
    without retrying it.
    """


class StoreTrouble(OSError):
    """A store cannot be used now. Like a disk's, that says nothing about what is in it."""

    def __init__(self, told: str) -> None:
        super().__init__(errno.EIO, told)

    def __reduce__(self) -> tuple[type["StoreTrouble"], tuple[str]]:
        return StoreTrouble, (str(self),)

    def __str__(self) -> str:
        return str(self.strerror)


ANOTHER_FOLDER = "choose a folder with --home or FASTDINO_HOME"
WHO_MAY = "let the user that this runs as read and write there"
LOOK_AT_IT = "look at the disk, its cable or its network"
# These raise errors of their own that have the system's words in them.
LIBRARIES = ("_duckdb", "polars", "safetensors")
# What the system may say of a disk, by its number, and what puts it right.
MENDED_BY = {
    errno.ENOSPC: "free some space on its disk",
    errno.EDQUOT: "free some space, or ask for a larger quota",
    errno.EFBIG: f"its disk takes no larger files: {ANOTHER_FOLDER} on another one",
    errno.EROFS: f"make its disk writable, or {ANOTHER_FOLDER} on another one",
    errno.EACCES: WHO_MAY,
    errno.EPERM: WHO_MAY,
    errno.EIO: LOOK_AT_IT,
    errno.ENXIO: LOOK_AT_IT,
    errno.ESTALE: LOOK_AT_IT,
    errno.ENOTCONN: LOOK_AT_IT,
    errno.ENOTDIR: ANOTHER_FOLDER,
    errno.EEXIST: ANOTHER_FOLDER,
    errno.ENAMETOOLONG: "choose a shorter name",
}


def disk_trouble(error: Exception, path: Path) -> OSError | None:
    """What a disk or a store refused, if ``error`` comes of that.

    It names ``path`` where ``error`` names no file.
    """
    if isinstance(error, StoreTrouble):
        return StoreTrouble(str(error))
    number, name = 0, None
    if isinstance(error, OSError) and error.errno:
        number, name = error.errno, error.filename
    elif isinstance(error, OSError) or type(error).__module__.startswith(LIBRARIES):
        words = str(error)
        number = next((each for each in MENDED_BY if os.strerror(each) in words), 0)
    return OSError(number, os.strerror(number), str(name or path)) if number in MENDED_BY else None


@contextlib.contextmanager
def readable_errors(folder: Path) -> Iterator[None]:
    """Tell what a disk refuses in the ``with`` block, such as to hold more, as a ``UserError``.

    Args:
        folder: where everything is written, to name where nothing else says which file it was.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        trouble = disk_trouble(error, folder)
        if trouble is None:
            raise
        if isinstance(trouble, StoreTrouble):
            raise UserError(str(trouble)) from None
        raise UserError(
            f"{trouble.filename}: {trouble.strerror}; {MENDED_BY[trouble.errno or 0]}. What was "
            "done before is kept, and the next run goes on from there"
        ) from error
