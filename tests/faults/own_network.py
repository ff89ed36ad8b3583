"""Running a module of these tests in a network of its own, where there is nothing but loopback.

For what starts Ray, which listens on whatever address it finds.
"""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


def needs(*packages: str) -> list[pytest.MarkDecorator]:
    """Marks of tests that take minutes, want these packages, and a network of their own."""
    return [
        pytest.mark.thorough,
        pytest.mark.skipif(
            not all(find_spec(each) for each in packages),
            reason=f"needs {' and '.join(packages)}: pip install -e .[cluster]",
        ),
        pytest.mark.skipif(
            os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("ip")),
            reason="needs root, unshare and ip: Ray is tried in a network of its own",
        ),
    ]


def run_module(module: str, *arguments: str, timeout_s: float) -> None:
    """Run ``python -m module`` there; it has to end well."""
    python = [sys.executable, "-m", module, *arguments]
    subprocess.run(
        ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *python],
        cwd=Path(__file__).parents[2],
        check=True,
        timeout=timeout_s,
    )
