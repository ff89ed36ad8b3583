"""Everything Dagster is told, put together.

Belongs here: the one list of assets, checks, jobs, schedules, sensors and resources, the same for
the real thing and for tests. Does not: any of those themselves.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets import (
    database,
    embeddings,
    ingestion,
    page,
    playlists,
    promotion,
    reports,
    research,
    servers,
    spectrograms,
    training,
)
from pipelines.jobs import JOBS
from pipelines.resources import RESOURCES
from pipelines.schedules import SCHEDULES
from pipelines.sensors import SENSORS

MODULES = [
    ingestion, spectrograms, training, embeddings, promotion, reports, database, page, playlists,
    servers, research,
]  # fmt: skip


def build_defs(resource_overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """The definitions, with some resources replaced by others of the same name."""
    return dg.Definitions(
        assets=dg.load_assets_from_modules(MODULES),
        asset_checks=dg.load_asset_checks_from_modules(MODULES),
        jobs=JOBS,
        schedules=SCHEDULES,
        sensors=SENSORS,
        resources={**RESOURCES, **(resource_overrides or {})},
        # The stages have processes of their own; one more around each costs 5-20 s a step.
        executor=dg.in_process_executor,
    )


defs = build_defs()
