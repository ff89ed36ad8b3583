"""What a run has done and what to do about it, for whoever looks in the morning.

Belongs here: gathering it from the run's own events, in plain words. Does not: the words, which
the stages' summaries and the checks say themselves.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from fastdino.core.text import one_line

NOTHING = "Nothing: the collection is as it should be."


@dataclass(frozen=True)
class Entry:
    """What one asset, or a check on it, had to say.

    Attributes:
        asset: its name.
        done: what was done, in a sentence; empty for a check.
        todo: sentences that a person should read.
    """

    asset: str
    done: str = ""
    todo: Sequence[str] = ()


def report(
    context: dg.AssetExecutionContext, made: dg.MaterializeResult
) -> dict[str, dg.MetadataValue]:
    """What happened in this run so far, and what to do next, as metadata for ``made``."""
    kinds = {
        dg.DagsterEventType.ASSET_MATERIALIZATION,
        dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    }
    entries = context.instance.all_logs(context.run.run_id, of_type=kinds)
    found = [_entry(entry.dagster_event) for entry in entries if entry.dagster_event]
    found.append(entry_of(context.asset_key, made.metadata or {}))
    return shown(found)


def shown(found: Sequence[Entry]) -> dict[str, dg.MetadataValue]:
    """What the assets had to say, in order, as metadata."""
    return {
        "what to do next": dg.MetadataValue.md(to_do(found)),
        "what happened (table)": dg.MetadataValue.table(
            [
                dg.TableRecord({"asset": each.asset, "what was done": each.done})
                for each in found
                if each.done
            ]
        ),
    }


def _entry(event: dg.DagsterEvent) -> Entry:
    if event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        check = event.asset_check_evaluation_data
        name = check.check_name.replace("_", " ")
        failed = [] if check.passed else [f"the check “{name}” fails: {check.description}"]
        return Entry(check.asset_key.to_user_string(), todo=failed)
    made = event.step_materialization_data.materialization
    return entry_of(made.asset_key, made.metadata)


def entry_of(key: dg.AssetKey, metadata: Mapping[str, Any]) -> Entry:
    """What an asset had to say, of which this is shown."""

    def text(name: str) -> str:
        value = metadata.get(name)
        return str(getattr(value, "value", value) or "")

    return Entry(key.to_user_string(), text("summary"), text("warnings").splitlines())


def to_do(entries: Iterable[Entry]) -> str:
    """A list in Markdown of what ``entries`` asks for, each thing once."""
    wanted = dict.fromkeys(
        f"- **{_plain(each.asset)}**: {_plain(sentence)}"
        for each in entries
        for sentence in each.todo
    )
    return "\n".join(wanted) or NOTHING


def _plain(text: str) -> str:
    # Names of files are among it, and Markdown may hold HTML.
    return re.sub(r"([\\`*_{}\[\]()<>#+!|~&:])", r"\\\1", one_line(text))
