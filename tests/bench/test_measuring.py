"""Steps are measured in processes of their own, and one that is lost is lost alone."""

import os
import re
import time
from collections.abc import Iterator

import numpy as np
import pytest

from fastdino.bench import measuring
from fastdino.core.home import Home

SONGS, GOES, SLEPT_S = 100, 3, 0.1


def computes(home: Home, n_songs: int) -> Iterator[None]:
    for _ in range(GOES):
        yield
        end = time.process_time() + SLEPT_S
        while time.process_time() < end:
            pass


def needs_memory_and_writes(home: Home, n_songs: int) -> Iterator[None]:
    much = np.ones(100_000_000)
    yield
    with home.page.open("wb") as file:
        file.write(much[:1_000_000].tobytes())
        os.fsync(file.fileno())


def is_ended(home: Home, n_songs: int) -> Iterator[None]:
    yield
    os._exit(1)


STEPS = {"computes": computes, "is ended": is_ended, "needs memory": needs_memory_and_writes}


def test_a_step_that_is_ended_by_the_system_leaves_the_others_their_figures(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    home.page.parent.mkdir(parents=True, exist_ok=True)
    found = dict(measuring.measure(home, SONGS, STEPS))
    computed, ended, much = found.values()
    assert computed is not None
    assert much is not None
    assert ended is None
    # Of one go, not of all of them.
    assert SLEPT_S <= computed.core_seconds < 2 * SLEPT_S
    assert computed.seconds >= SLEPT_S
    assert much.peak_mb > computed.peak_mb + 700
    if measuring.WRITTEN.exists():
        assert much.written_mb is not None

    measuring.show("both", {SONGS: found, 10 * SONGS: found}, [*STEPS, "was not reached"])

    printed = capsys.readouterr().out
    assert re.search(r"│ computes +│ +0\.\d+ s .*│ +0\.\d+ s .*│ +N\^-?0\.00 │", printed)
    assert printed.count("ended by the system") == 2
    assert re.search(r"│ was not reached +│ +│ +│ +│", printed)
