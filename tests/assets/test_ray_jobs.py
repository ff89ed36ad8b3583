"""Steps as jobs, as far as that can be seen without a cluster; with one: tests/faults."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from assets import ray_jobs
from fastdino.core.errors import UserError

ROOT = Path(__file__).parents[2]
LOADED = """
import sys
from pipelines.definitions import defs
print(type(defs.resources["pipes"]).__name__, *sorted({"ray", "dagster_ray"} & set(sys.modules)))
"""


@pytest.mark.skipif(
    not (find_spec("ray") and find_spec("dagster_ray")), reason="needs Ray and dagster-ray"
)
def test_with_a_cluster_named_for_them_steps_are_jobs_and_nothing_is_imported_yet() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        cwd=ROOT, env={**os.environ, "RAY_API_SERVER_ADDRESS": "http://127.0.0.1:8265"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == ["RayJobs"], done.stderr


@pytest.mark.parametrize("missing", ["ray", "dagster_ray"])
def test_what_sends_jobs_and_is_not_installed_is_named_with_what_to_do(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_jobs, "find_spec", lambda name: None if name == missing else name)
    with pytest.raises(UserError) as told:
        ray_jobs.RayJobs()
    assert str(told.value) == (
        "RAY_API_SERVER_ADDRESS is set, but Ray or dagster-ray is not installed here: run "
        "'pip install -e .[cluster]' in the project's folder, or unset it to run steps beside "
        "Dagster"
    )


@pytest.mark.parametrize(
    ("interpreter", "printed"), [(sys.executable, sys.executable), ("/not/here's/python", "own")]
)
def test_a_job_runs_with_dagster_s_interpreter_or_the_cluster_s_own(
    interpreter: str, printed: str, tmp_path: Path
) -> None:
    own = tmp_path / "python"
    own.write_text("#!/bin/sh\necho own\n")
    own.chmod(0o755)
    program = "import sys, os; print(os.environ.get('OMP_NUM_THREADS', sys.executable))"
    line = ray_jobs._entrypoint([interpreter, "-c", program])
    path = f"{tmp_path}:{os.environ['PATH']}"
    shell = subprocess.run(
        ["sh", "-c", line], env={"PATH": path, "OMP_NUM_THREADS": "1"}, capture_output=True
    )
    assert shell.stdout.decode().strip() == printed
