"""Dagster drives a Ray cluster: its steps are the cluster's drivers, or its jobs."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(
        not (find_spec("ray") and find_spec("dagster_ray")),
        reason="needs Ray and dagster-ray: pip install -e .[cluster]",
    ),
    pytest.mark.skipif(
        os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("ip")),
        reason="needs root, unshare and ip: Ray is tried in a network of its own",
    ),
]


@pytest.mark.parametrize("scenario", ["driver", "jobs"])
def test_steps_on_a_cluster_make_the_same_and_end_when_they_are_told_to(
    scenario: str, tmp_path: Path
) -> None:
    # Nothing but the loopback device is there: Ray and its jobs listen on it alone.
    python = [sys.executable, "-m", "tests.faults.dagster_on_cluster", scenario, str(tmp_path)]
    own_network = 'ip link set lo up && exec "$@"'
    subprocess.run(
        ["unshare", "--net", "sh", "-c", own_network, "sh", *python],
        cwd=Path(__file__).parents[2],
        check=True,
        timeout=1200,
    )
