"""Dagster drives a Ray cluster: its steps are the cluster's drivers, or its jobs."""

from pathlib import Path

import pytest

from tests.faults.own_network import needs, run_module

pytestmark = needs("ray", "dagster_ray")


@pytest.mark.parametrize("scenario", ["driver", "jobs"])
def test_steps_on_a_cluster_make_the_same_and_end_when_they_are_told_to(
    scenario: str, tmp_path: Path
) -> None:
    run_module("tests.faults.dagster_on_cluster", scenario, str(tmp_path), timeout_s=1200)
