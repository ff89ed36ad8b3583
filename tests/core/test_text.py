"""Other people's text on a terminal and in a log."""

import logging

import pytest

from fastdino.core.text import OneLineFormatter, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\r\n\tc", "a b c"),
        ("\x1b[2J\x07\x9b31mred", "[2J 31mred"),
        ("half \ud800 a character", "half a character"),
        ("gpj.\u202eexe.mp3", "gpj. exe.mp3"),
        ("👩‍🚀 שלום, Grüße", "👩‍🚀 שלום, Grüße"),
    ],
)
def test_what_would_steer_a_terminal_is_left_out(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_a_log_line_stays_one_whatever_a_file_is_called() -> None:
    name = "a\n\x1b[2J12:00 all is well"
    record = logging.LogRecord("x", logging.INFO, "x", 1, "%s: bad", (name,), None)
    assert OneLineFormatter("%(message)s").format(record) == "a [2J12:00 all is well: bad"
