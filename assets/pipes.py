"""The pipe between an asset and its child process, at Dagster's end.

Belongs here: starting children, and reading what they say. Does not: the child's end (``child``);
what is asked of it (``stage``).
"""

import contextlib
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
from dagster_pipes import PipesDefaultMessageWriter

LOOK_EVERY_S = 0.02
# A step that is interrupted finishes its song or its training step first.
TERMINATION_S = 30


def pipes_client() -> dg.PipesSubprocessClient:
    """What starts a child for an asset, and listens to it."""
    return dg.PipesSubprocessClient(
        message_reader=WholeLineReader(), termination_timeout_seconds=TERMINATION_S
    )


class WholeLineReader(dg.PipesMessageReader):
    """Reads a child's messages, a line each, from a file that it appends to.

    Dagster's own reader takes what has been written of a line for all of it. A message with
    pictures in it is written in several pieces, and one in some hundred runs failed for that.
    """

    @contextlib.contextmanager
    def read_messages(self, handler: dg.PipesMessageHandler) -> Iterator[dict[str, str]]:
        """Read in a thread of its own while the child runs, and to the end after it has ended."""
        with tempfile.TemporaryDirectory(prefix="fastdino-pipe-") as folder:
            path, ended = Path(folder, "messages"), threading.Event()
            path.touch()
            reader = threading.Thread(target=_follow, args=(path, handler, ended), daemon=True)
            reader.start()
            try:
                yield {PipesDefaultMessageWriter.FILE_PATH_KEY: str(path)}
            finally:
                ended.set()
                reader.join()

    def no_messages_debug_text(self) -> str:
        """What Dagster says where nothing came."""
        return "Attempted to read messages from a local temporary file."


def _follow(path: Path, handler: dg.PipesMessageHandler, ended: threading.Event) -> None:
    line = b""
    try:
        with path.open("rb") as file:
            while True:
                is_last = ended.is_set()  # asked before reading: what comes later is read as well
                line += file.readline()
                if line.endswith(b"\n"):
                    handler.handle_message(json.loads(line))
                    line = b""
                elif is_last:
                    return
                else:
                    time.sleep(LOOK_EVERY_S)
    except Exception:
        handler.report_pipes_framework_exception(WholeLineReader.__name__, sys.exc_info())
        raise
