"""The pipe between an asset and its child process, at Dagster's end.

Belongs here: starting children, and reading what they say. Does not: the child's end (``child``);
what is asked of it (``stage``).
"""

import contextlib
import json
import sys
import tempfile
import threading
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

    Args:
        folder: where the file is to lie, for a child on another computer; otherwise in one that is
            gone afterwards.
        look_every_s: how long to wait where there is nothing new.
    """

    # As Dagster has it. Asked for there, it would log a warning with every child that it is new.
    expected_writer_count = 1

    def __init__(self, folder: Path | None = None, look_every_s: float = LOOK_EVERY_S) -> None:
        self._folder, self._look_every_s = folder, look_every_s

    @contextlib.contextmanager
    def read_messages(self, handler: dg.PipesMessageHandler) -> Iterator[dict[str, str]]:
        """Read in a thread of its own while the child runs, and to the end after it has ended."""
        own = tempfile.TemporaryDirectory(prefix="fastdino-pipe-")
        with contextlib.nullcontext(self._folder) if self._folder else own as folder:
            path, ended = Path(folder, "messages"), threading.Event()
            path.touch()
            following = (path, handler, ended, self._look_every_s)
            reader = threading.Thread(target=_follow, args=following, daemon=True)
            reader.start()
            try:
                yield {PipesDefaultMessageWriter.FILE_PATH_KEY: str(path)}
            finally:
                ended.set()
                reader.join()

    def no_messages_debug_text(self) -> str:
        """What Dagster says where nothing came."""
        return "Attempted to read messages from a local temporary file."


def _follow(
    path: Path, handler: dg.PipesMessageHandler, ended: threading.Event, look_every_s: float
) -> None:
    read, is_last = 0, False
    try:
        while not is_last:
            is_last = ended.wait(look_every_s)  # before reading: what was written till then is read
            # Opened anew: over a network that shows what another computer has written.
            with path.open("rb") as file:
                file.seek(read)
                for line in file:
                    if line.endswith(b"\n"):
                        handler.handle_message(json.loads(line))
                        read += len(line)
    except Exception:
        handler.report_pipes_framework_exception(WholeLineReader.__name__, sys.exc_info())
        raise
