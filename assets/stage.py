"""Running a stage from Dagster, the same way for every asset.

Belongs here: Dagster's end of the pipe to ``assets.child``, and what all assets have in common.
Does not: anything that one stage needs and the others don't.
"""

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

import dagster as dg
from pydantic import Field

import fastdino
from fastdino.core.errors import UserError
from fastdino.core.home import Home

OWNERS = ["team:fastdino"]
CODE_VERSION = fastdino.__version__
# A second try mends what passes by itself, such as a network drive that was away for a moment.
RETRIES = 1
RETRY_AFTER_S = 15.0

# Files that must not have two writers: runs may overlap, the steps of one pool never do.
COLLECTION_POOL = "collection"
GPU_POOL = "gpu"
DUCKDB_POOL = "duckdb"


class HomeFolder(dg.ConfigurableResource):
    """Where everything the pipeline makes lies."""

    path: str = Field(
        default=os.environ.get("FASTDINO_HOME") or "var",
        description="Folder for all results. From $FASTDINO_HOME; without that, var.",
    )

    def open(self) -> Home:
        """The folder's layout."""
        return Home(Path(self.path).expanduser().absolute())


def run_step(
    context: dg.AssetExecutionContext,
    pipes: dg.PipesSubprocessClient,
    home: HomeFolder,
    step: str,
    **options: Any,
) -> dg.MaterializeResult:
    """Run one of ``fastdino``'s steps in a child process and return what it reports.

    The child logs into the run as it goes; when the run is cancelled it is interrupted, and its
    memory, the GPU's too, is free when it ends.

    Args:
        context: of the asset that is being made.
        pipes: starts the child.
        home: where results lie.
        step: a key of ``fastdino.steps.STEPS``.
        options: the step's options, named as on the command line.

    Raises:
        dagster.Failure: the step failed, and only the user can mend it or a retry failed too.
        dagster.RetryRequested: the step failed for the first time.
    """
    try:
        outcome = pipes.run(
            context=context,
            command=[sys.executable, "-m", "assets.child", step],
            extras={"home": str(home.open().root), "options": options},
        )
    except dg.DagsterError as error:
        # The child could not say why: killed, most likely because memory ran out.
        _fail(context, dg.Failure(f"{step} ended without a word, was it killed? {error}"))
    for failure in outcome.get_custom_messages():
        _fail(
            context,
            dg.Failure(failure["message"], failure["metadata"], allow_retries=failure["retry"]),
        )
    return outcome.get_materialize_result(implicit_materialization=False)


def _fail(context: dg.AssetExecutionContext, failure: dg.Failure) -> NoReturn:
    # Not a RetryPolicy on the assets: that also starts a step again that someone has cancelled.
    if failure.allow_retries and context.retry_number < RETRIES:
        raise dg.RetryRequested(RETRIES, RETRY_AFTER_S) from failure
    raise failure


def failed(error: UserError) -> dg.AssetCheckResult:
    """The result of a check that cannot look: what it is about is not there, or is damaged."""
    return dg.AssetCheckResult(passed=False, description=str(error))
