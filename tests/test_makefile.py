"""What `make ui` does before and while Dagster runs."""

import re
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_a_taken_port_is_one_line_and_nothing_is_started() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        # In the environment that runs this test, whatever it is.
        command = ["make", "-o", ".venv/.installed", f"BIN={Path(sys.executable).parent}", "ui"]
        done = subprocess.run(
            [*command, f"PORT={port}"], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
    assert done.returncode == 2
    assert re.match(f"Port {port} is taken.*: close that, or choose another one", done.stderr)
    assert "dagster" not in done.stdout + done.stderr
