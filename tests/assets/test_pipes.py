"""What a child writes in pieces arrives whole."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from assets.pipes import LOOK_EVERY_S, WholeLineReader


class Handler:
    """In Dagster's place: keeps what comes."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.reported: list[str] = []

    def handle_message(self, message: dict[str, Any]) -> None:
        self.messages.append(message)

    def report_pipes_framework_exception(self, origin: str, info: Any) -> None:
        self.reported.append(origin)


MESSAGES = [{"number": n, "picture": "x" * 10**n} for n in range(6)]


@pytest.mark.parametrize("size", [1, 5_000, 60_000])
def test_messages_written_in_pieces_arrive_whole_and_in_order(size: int) -> None:
    text = "".join(json.dumps(message) + "\n" for message in MESSAGES[: 3 if size == 1 else 6])
    handler = Handler()
    with WholeLineReader().read_messages(handler) as params:  # type: ignore[arg-type]
        (path,) = (Path(value) for value in params.values())
        with path.open("a") as file:
            for start in range(0, len(text), size):
                file.write(text[start : start + size])
                file.flush()
                if start % (7 * size) == 0:
                    time.sleep(2 * LOOK_EVERY_S)
    assert handler.messages == [json.loads(line) for line in text.splitlines()]
    assert not handler.reported


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_is_no_message_is_told_and_ends_the_reading() -> None:
    handler = Handler()
    with WholeLineReader().read_messages(handler) as params:  # type: ignore[arg-type]
        (path,) = (Path(value) for value in params.values())
        path.write_text("no message\n")
    assert (handler.messages, handler.reported) == ([], ["WholeLineReader"])
