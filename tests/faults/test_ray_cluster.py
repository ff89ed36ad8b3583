"""On a Ray cluster the stages make the same files as here, whatever happens to it."""

from pathlib import Path

import pytest

from tests.faults.own_network import needs, run_module

pytestmark = needs("ray")


@pytest.mark.parametrize("scenario", ["same_bytes", "hostile"])
def test_a_cluster_makes_what_one_computer_makes(scenario: str, tmp_path: Path) -> None:
    run_module("tests.faults.on_cluster", scenario, str(tmp_path), timeout_s=600)
