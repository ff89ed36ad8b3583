"""On a Ray cluster the stages make the same files as here, whatever happens to it."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray: pip install -e .[cluster]"),
    pytest.mark.skipif(
        os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("ip")),
        reason="needs root, unshare and ip: Ray is tried in a network of its own",
    ),
]


@pytest.mark.parametrize("scenario", ["same_bytes", "hostile"])
def test_a_cluster_makes_what_one_computer_makes(scenario: str, tmp_path: Path) -> None:
    # Nothing but the loopback device is there: Ray listens on whatever address it finds.
    python = [sys.executable, "-m", "tests.faults.on_cluster", scenario, str(tmp_path)]
    own_network = 'ip link set lo up && exec "$@"'
    subprocess.run(
        ["unshare", "--net", "sh", "-c", own_network, "sh", *python],
        cwd=Path(__file__).parents[2],
        check=True,
        timeout=600,
    )
