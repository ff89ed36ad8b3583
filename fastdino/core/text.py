"""Other people's text, such as tags and file names, made fit to be shown.

Belongs here: what every place that shows text needs. Does not: escaping for HTML or SQL, which
the places that write those do.
"""

import contextlib
import functools
import logging
import re
import shlex
import shutil
import sys
import unicodedata
from pathlib import Path

from fastdino.core.paths import shown

# Control characters, broken ones, ends of lines and of paragraphs.
_UNSEEN = ("Cc", "Cs", "Zl", "Zp")
# What follows these is shown from right to left, or from left to right, whatever it is.
_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

# Marks and letters without a shape: joiners, fillers, selectors of variants.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {
    chr(point) for points in (range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0)) for point in points
}


def one_line(text: str) -> str:
    """``text`` without what would end a line or steer a terminal; odd spaces become plain ones.

    Bytes of a file's name that are not UTF-8 are written as numbers.
    """
    if text.isascii() and text.isprintable():  # as most texts are
        return " ".join(text.split())
    return " ".join("".join(" " if steers(c) else c for c in shown(text)).split())


def counted(number: int, what: str) -> str:
    """So many of ``what``, which is said of one alone and takes an s."""
    return f"{number:,} {what}" + "s" * (number != 1)


def steers(character: str) -> bool:
    """Whether a character ends a line, or has a terminal do something else than show it."""
    return unicodedata.category(character) in _UNSEEN or character in _TURNING


def is_visible(text: str) -> bool:
    """Whether any character of ``text`` is seen; those that only join or direct others are not."""
    return any(unicodedata.category(c)[0] not in "CZ" and c not in _BLANK for c in text)


def runnable(text: str) -> str:
    """``text`` with its hints, such as "run `fastdino run`", as one can type them here."""
    return re.sub(r"([`'])fastdino (?=[a-z])", lambda found: f"{found[1]}{program()} ", text)


@functools.cache
def program() -> str:
    """What starts this program in the current folder: ``.venv/bin/fastdino`` in a checkout."""
    python = Path(sys.executable)
    script = python.with_name("fastdino")
    if shutil.which("fastdino") == str(script):
        return "fastdino"
    path = script if script.exists() else python
    with contextlib.suppress(ValueError, OSError):  # elsewhere; or the folder is gone
        path = path.relative_to(Path.cwd())
    return shlex.quote(str(path)) + ("" if script.exists() else " -m fastdino")


class OneLineFormatter(logging.Formatter):
    """A log in which no file name begins another line or steers the terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The record without its traceback, which has lines of its own."""
        return one_line(runnable(super().formatMessage(record)))
