"""Steps as jobs of a Ray cluster, for a Dagster that is not in the cluster's network.

Belongs here: sending a step there, and ending it. Does not: the step's own end (``child``), which
is the same; who computes what in the cluster (``fastdino.core.cluster``). Ray and dagster-ray are
imported only where a step is sent.
"""

import contextlib
import shlex
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterPipesExecutionError
from dagster._core.pipes.client import PipesClientCompletedInvocation

from assets.pipes import TERMINATION_S, WholeLineReader
from fastdino.core import environment
from fastdino.core.errors import UserError, readable_errors
from fastdino.core.home import Home
from fastdino.core.text import one_line

LOOK_EVERY_S = 0.5


class RayJobs(dg.PipesClient):
    """Starts a job for an asset on the cluster that ``RAY_API_SERVER_ADDRESS`` names.

    What it says comes through a file under the home, which that cluster has to see anyway: a job's
    log, which dagster-ray reads otherwise, cuts messages with pictures in them to pieces.

    Raises:
        UserError: what sends jobs is not installed.
    """

    def __init__(self) -> None:
        if not (find_spec("ray") and find_spec("dagster_ray")):
            raise UserError(
                f"{environment.JOBS.name} is set, but Ray or dagster-ray is not installed here: "
                "run 'pip install -e .[cluster]' in the project's folder, or unset it to run steps "
                "beside Dagster"
            )

    def run(  # type: ignore[override]
        self,
        *,
        context: dg.OpExecutionContext | dg.AssetExecutionContext,
        extras: Mapping[str, Any],
        command: Sequence[str],
    ) -> PipesClientCompletedInvocation:
        """Run ``command`` there, to its end; what ends this ends it, too.

        Raises:
            UserError: no one answers at the address, or the home cannot be written to, or the
                cluster wants a token that is not there.
            DagsterPipesExecutionError: the job ended without a word, or no one answers any more.
        """
        from dagster_ray import PipesRayJobClient
        from ray.exceptions import RayError

        refused = (OSError, RuntimeError, RayError)
        home = Home(Path(extras["home"]))
        with contextlib.ExitStack() as stack:
            with readable_errors(home.root):
                home.scratch.mkdir(parents=True, exist_ok=True)
                said = tempfile.TemporaryDirectory(prefix="pipe-", dir=home.scratch)
            folder = Path(stack.enter_context(said))
            jobs = PipesRayJobClient(message_reader=WholeLineReader(folder, LOOK_EVERY_S))
            try:
                client = jobs.client
            except refused as error:
                raise UserError(
                    f"the Ray cluster that {environment.JOBS.name} names, "
                    f"{environment.JOBS.value()}, takes no jobs from here "
                    f"({one_line(str(error))[:200]}): start it, or unset "
                    f"{environment.JOBS.name} to run steps beside Dagster"
                ) from error
            job = f"fastdino-{uuid.uuid4().hex[:12]}"
            try:
                return jobs.run(
                    context=context,
                    submit_job_params={
                        "submission_id": job,
                        "entrypoint": _entrypoint(command),
                        # Of the settings in the child's place: Ray refuses a name in both.
                        "runtime_env": {
                            "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(TERMINATION_S)}
                        },
                    },
                    extras={**extras, "settings": environment.told()},
                )
            except BaseException as error:
                _end(client, job)
                if isinstance(error, refused):
                    raise DagsterPipesExecutionError(str(error)) from error
                raise


def _entrypoint(command: Sequence[str]) -> str:
    """A line for the cluster's shell: with this interpreter, or with its own where that is not."""
    here, arguments = shlex.quote(command[0]), shlex.join(command[1:])
    # A job has no cores of its own, for which Ray would have it compute with one thread.
    return f'unset OMP_NUM_THREADS; exec "$(command -v {here} || echo python)" {arguments}'


def _end(client: Any, job: str) -> None:
    """Stop a job that is not over, and wait until it is: the next run must not write beside it."""
    last = time.monotonic() + 2 * TERMINATION_S
    # There may be no such job, or no one who knows: what ended the run is told in any case.
    with contextlib.suppress(Exception):
        client.stop_job(job)
        while not client.get_job_status(job).is_terminal() and time.monotonic() < last:
            time.sleep(LOOK_EVERY_S)
