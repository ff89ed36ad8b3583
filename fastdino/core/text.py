"""Other people's text, such as tags and file names, made fit to be shown.

Belongs here: what every place that shows text needs. Does not: escaping for HTML or SQL, which
the places that write those do.
"""

import logging
import unicodedata

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


def steers(character: str) -> bool:
    """Whether a character ends a line, or has a terminal do something else than show it."""
    return unicodedata.category(character) in _UNSEEN or character in _TURNING


def is_visible(text: str) -> bool:
    """Whether any character of ``text`` is seen; those that only join or direct others are not."""
    return any(unicodedata.category(c)[0] not in "CZ" and c not in _BLANK for c in text)


class OneLineFormatter(logging.Formatter):
    """A log in which no file name begins another line or steers the terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The record without its traceback, which has lines of its own."""
        return one_line(super().formatMessage(record))
