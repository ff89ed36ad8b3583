"""Tell Dagster what was done without it.

Belongs here: materialisations of what ``make run`` and other commands made, as events that belong
to no run. Does not: what was made, which the steps keep themselves (``fastdino.core.outcomes``);
making anything.
"""

from collections.abc import Mapping

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.definitions.metadata import metadata_map_from_external

from assets import run_report
from assets.child import ENDED, together
from assets.database import music_duckdb
from assets.playlists import playlists
from assets.promotion import promotion
from assets.research import comparison
from assets.servers import server_ids
from assets.stage import steps_of
from fastdino.core import outcomes
from fastdino.core.home import Home
from fastdino.steps import data_version
from pipelines.definitions import defs

# Of what only someone who asks for it wants: not to have it is no gap.
UNASKED = {
    comparison.key: "nothing is compared yet: run the job compare",
    playlists.key: "none are kept yet",
    server_ids.key: "no music server's are known yet",
}
NOT_KEPT = "made without Dagster; what was done was not kept"


def catch_up(home: Home, instance: dg.DagsterInstance) -> list[str]:
    """Report what lies in the home and Dagster does not know of; returns the assets' names.

    What it has been told of already, or has made itself, is not told again.
    """
    graph = defs.resolve_asset_graph()
    told: list[str] = []
    entries: list[run_report.Entry] = []
    # In this order an asset is never older than what it is made from.
    for key in graph.toposorted_asset_keys:
        steps = steps_of(graph.get(key).metadata)
        done, version = outcomes.last(home, steps), data_version(home, steps)
        if key == promotion.key:
            done = done[-1:]  # each of its steps says by itself which model is in use
        shown: Mapping[str, dg.MetadataValue]
        if done:
            shown = metadata_map_from_external(together(done))
        elif version or (entries and key in UNASKED):
            said = NOT_KEPT if version else UNASKED[key]
            shown = {"summary": dg.MetadataValue.text(said)}
        else:
            continue
        entries.append(run_report.entry_of(key, shown))
        if _is_known(instance, key, version, shown.get(ENDED)):
            continue
        if key == music_duckdb.key:
            shown = {**run_report.shown(entries), **shown}
        tags = {DATA_VERSION_TAG: version} if version else None
        instance.report_runless_asset_event(dg.AssetMaterialization(key, metadata=shown, tags=tags))
        told.append(key.to_user_string())
    return told


def _is_known(
    instance: dg.DagsterInstance,
    key: dg.AssetKey,
    version: str | None,
    ended: dg.MetadataValue | None,
) -> bool:
    record = instance.get_latest_materialization_event(key)
    latest = record.asset_materialization if record else None
    if latest is None:
        return False
    if version is None and ended is None:
        return True  # of what is not there, once is enough
    known = (latest.tags or {}).get(DATA_VERSION_TAG), latest.metadata.get(ENDED)
    return known == (version, ended)
