"""A process that measures nothing: it hangs and is lost. Loads no torch, to be quick."""

import os
import subprocess
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from fastdino.bench.gpu_tables import Figures
from fastdino.core.home import Home


def serve(
    pipe: Connection, home: Home, folder: Path, parts: Sequence[str], deadline: float
) -> None:
    """As ``gpu._serve``. The process that it starts is named in the home's file ``child``."""
    os.setsid()
    pipe.send({"device": "a strange one"})
    for part in parts:
        pipe.send(Figures(part, "this far"))
        if part == "lost":
            os._exit(1)
        if part == "hangs":
            child = subprocess.Popen(["sleep", "1000"])
            (home.root / "child").write_text(str(child.pid))
            time.sleep(1000)
        pipe.send(None)
