"""What is tried again, and when."""

from datetime import UTC, datetime, timedelta

import pytest

from fastdino.core.failures import FILE, FORMAT, MACHINE, PASSING, WAITS, next_try

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_what_the_computer_did_is_tried_again_further_and_further_apart() -> None:
    waits = [next_try(MACHINE, attempts, NOW) for attempts in range(1, 9)]
    assert all(when is not None for when in waits)
    apart = [when - NOW for when in waits if when]
    assert apart == sorted(apart)
    assert apart[0] <= timedelta(hours=1)  # the next night at the latest
    assert apart[len(WAITS) - 1 :] == [WAITS[-1]] * (9 - len(WAITS))


@pytest.mark.parametrize("kind", [FILE, FORMAT])
def test_what_the_file_is_to_blame_for_waits_for_another_file(kind: str) -> None:
    assert next_try(kind, 1, NOW) is None


@pytest.mark.parametrize("kind", PASSING)
def test_what_says_nothing_about_the_song_is_tried_by_every_run(kind: str) -> None:
    assert next_try(kind, 9, NOW) == NOW
