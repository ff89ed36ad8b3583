"""Running steps from Dagster, the same way for every asset.

Belongs here: Dagster's end of the pipe to ``assets.child``, and what all assets have in common.
Does not: anything that one stage needs and the others don't.
"""

import contextlib
import dataclasses
import enum
import functools
import sys
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import dagster as dg
from dagster._core.errors import DagsterPipesExecutionError
from pydantic import Field, create_model

import fastdino
from assets.at_work import at_work
from fastdino.core import environment, storage
from fastdino.core.errors import UserError, readable_errors
from fastdino.core.home import Home
from fastdino.core.text import one_line, runnable
from fastdino.steps import Step

# One for all: Dagster shows several folded up, and in none of them what is made of what.
GROUP = "fastdino"
OWNERS = ["team:fastdino"]
# A second try mends what passes by itself, such as a network drive that was away for a moment.
RETRIES = 1
RETRY_AFTER_S = 15.0

# Files that must not have two writers: runs may overlap, the steps of one pool never do.
COLLECTION_POOL = "collection"
GPU_POOL = "gpu"
DUCKDB_POOL = "duckdb"

# Under which an asset's definition has the names of its steps.
STEPS = "steps"

# What starts a step in a process of its own, wherever that is.
Pipes = dg.ResourceParam[dg.PipesClient]


def stage_asset(
    *steps: type[Step], **own: Any
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """``dagster.asset`` with what all assets have in common.

    Args:
        steps: what makes it; the files that they leave behind are its data.
        own: what it has for itself.
    """

    def decorate(function: Callable[..., Any]) -> dg.AssetsDefinition:
        @functools.wraps(function)
        def make(context: dg.AssetExecutionContext, **given: Any) -> Any:
            # Also before a step runs: an option of the Launchpad that cannot be, a damaged file.
            try:
                with readable_errors(Path(given["home"].path)):
                    return function(context, **given)
            except UserError as error:
                raise dg.Failure(_said(str(error)), allow_retries=False) from error

        same: dict[str, Any] = {
            "owners": OWNERS,
            "code_version": fastdino.__version__,
            "metadata": {STEPS: [step.name for step in steps]},
        }
        return dg.asset(group_name=GROUP, **same, **own)(make)

    return decorate


def steps_of(metadata: Mapping[str, Any]) -> list[str]:
    """The names of the steps that make an asset, of which these are the definition's metadata."""
    return list(metadata.get(STEPS, ()))


class HomeFolder(dg.ConfigurableResource):
    """Where everything the pipeline makes lies."""

    path: str = Field(
        default=str(environment.HOME.value()),
        description=f"Folder for all results. From ${environment.HOME.name}; without that, var.",
    )

    @contextlib.contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["HomeFolder"]:
        """Be there for a whole run, which all that time is known to be at work."""
        run, instance = context.run, context.instance
        with at_work(instance, run.run_id) if run and instance else contextlib.nullcontext():
            yield self

    def open(self) -> Home:
        """The folder's layout; its shards, vectors and models are the store's, if one is set."""
        home = Home(Path(self.path).expanduser().absolute())
        storage.mount(home.root)
        return home


def stage_check(
    *, asset: dg.AssetsDefinition, blocking: bool = False, **own: Any
) -> Callable[[Callable[[HomeFolder], dg.AssetCheckResult]], dg.AssetChecksDefinition]:
    """``dagster.asset_check`` with what all checks have in common.

    One that cannot look, for what it is about is not there, is damaged, or its disk is away, fails
    and says why.

    Args:
        asset: what is looked at.
        blocking: whether what comes after it has to wait until the check passes; one that does
            not block only warns.
        own: what it has for itself.
    """
    severity = dg.AssetCheckSeverity.ERROR if blocking else dg.AssetCheckSeverity.WARN

    def decorate(
        function: Callable[[HomeFolder], dg.AssetCheckResult],
    ) -> dg.AssetChecksDefinition:
        @functools.wraps(function)
        def look(home: HomeFolder) -> dg.AssetCheckResult:
            try:
                with readable_errors(Path(home.path)):
                    found = function(home)
            except UserError as error:
                found = dg.AssetCheckResult(passed=False, description=str(error))
            return found._replace(severity=severity, description=_said(found.description or ""))

        return dg.asset_check(asset=asset, blocking=blocking, **own)(look)

    return decorate


def _said(text: str) -> str:
    """``text`` in a line, its commands as one can type them here."""
    return one_line(runnable(text))


def config_of(step: type[Step], *, leave_out: Collection[str] = (), **defaults: Any) -> Any:
    """The class of Dagster's options for an asset that runs ``step``: the step's own options.

    Names, defaults and what they mean are the step's, as on the command line.

    Args:
        step: a class of ``fastdino.steps``.
        leave_out: options that the asset decides.
        defaults: those that are others than the step's.

    Raises:
        UserError: a setting from outside is set to what it cannot be.
    """
    usual, kinds = step(), typing.get_type_hints(step)
    fields: dict[str, Any] = {}
    for option in dataclasses.fields(step):
        if option.name in leave_out:
            continue
        kind: Any = kinds[option.name]
        means = option.metadata["means"]
        default = defaults.get(option.name, getattr(usual, option.name))
        if choices := option.metadata["choices"]:
            kind = enum.Enum(option.name, {c: c for c in choices})  # type: ignore[misc,no-redef]
            default = kind(default)
        elif typing.get_origin(kind) is tuple:
            kind, default = list[typing.get_args(kind)[0]], list(default)  # type: ignore[misc]
        if variable := option.metadata.get("variable"):
            means += f". From ${variable.name}."
        fields[option.name] = (kind, Field(default=default, description=means))
    return create_model(f"{step.__name__}Config", __base__=dg.Config, **fields)


def nothing_done(why: str) -> dg.MaterializeResult:
    """What an asset returns that runs no step, and ``why`` it does not."""
    return dg.MaterializeResult(metadata={"summary": why, "did work": False})


def run_steps(
    context: dg.AssetExecutionContext,
    pipes: Pipes,
    home: HomeFolder,
    *steps: Step,
) -> dg.MaterializeResult:
    """Run steps one after the other in a process of their own and return what they report together.

    The child logs into the run as it goes; when the run is cancelled it is interrupted, and its
    memory, the GPU's too, is free when it ends.

    Args:
        context: of the asset that is being made.
        pipes: starts the child, here or elsewhere.
        home: where results lie.
        steps: what to run, with its options.

    Raises:
        UserError: no step can be started, and only the user can mend that.
        dagster.Failure: a step failed, and only the user can mend it or a retry failed too.
        dagster.RetryRequested: a step failed for the first time.
    """
    try:
        outcome = pipes.run(
            context=context,
            command=[sys.executable, "-m", "assets.child"],
            extras={
                "version": fastdino.__version__,
                "home": str(home.open().root),
                "steps": [(step.name, step.plain()) for step in steps],
                "leaves": steps_of(context.assets_def.metadata_by_key[context.asset_key]),
            },
        )
    except DagsterPipesExecutionError as error:
        # The child could not say why: killed, most likely because memory ran out.
        names = ", ".join(step.name for step in steps)
        _fail(context, dg.Failure(f"{names}: ended without a word, was it killed? {error}"))
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
