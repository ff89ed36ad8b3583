"""Other people's text on a terminal and in a log."""

import logging
import sys
from pathlib import Path

import pytest

from fastdino.core import text
from fastdino.core.text import OneLineFormatter, counted, one_line


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


def test_one_is_no_more_than_one() -> None:
    told = [counted(number, "new song") for number in (0, 1, 2, 15_000)]
    assert told == ["0 new songs", "1 new song", "2 new songs", "15,000 new songs"]


def test_a_log_line_stays_one_whatever_a_file_is_called() -> None:
    name = "a\n\x1b[2J12:00 all is well"
    record = logging.LogRecord("x", logging.INFO, "x", 1, "%s: bad", (name,), None)
    assert OneLineFormatter("%(message)s").format(record) == "a [2J12:00 all is well: bad"


def test_hints_name_a_command_that_is_there(tmp_path: Path, monkeypatch) -> None:
    script = tmp_path / "check out" / ".venv" / "bin" / "fastdino"
    script.parent.mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(script.with_name("python")))
    hint = "there is none: run `fastdino run`, or 'fastdino train'; fastdino is a program"

    def told() -> str:
        text.program.cache_clear()
        return text.runnable(hint)

    try:
        python = str(script.with_name("python"))
        assert f"run `'{python}' -m fastdino run`" in told()
        script.touch(0o755)
        assert f"run `'{script}' run`" in told()
        monkeypatch.chdir(tmp_path / "check out")
        assert "run `.venv/bin/fastdino run`, or '.venv/bin/fastdino train'; fastdino is" in told()
        monkeypatch.setenv("PATH", str(script.parent))
        assert told() == hint
    finally:
        text.program.cache_clear()
