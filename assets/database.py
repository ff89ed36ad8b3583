"""The database: all that the stages made, to be asked in SQL.

Belongs here: the asset ``music_duckdb`` and its checks. Does not: the schema, publishing
(``fastdino.database``).
"""

import datetime

import dagster as dg
import duckdb

from assets import run_report
from assets.reports import collection_map
from assets.spectrograms import wanted_tracks
from assets.stage import DUCKDB_POOL, HomeFolder, Pipes, failed, run_steps, stage_asset
from fastdino.core.errors import UserError
from fastdino.ingestion import catalog as files_catalog
from fastdino.steps import Publish

# Published every night, in some hours, if the schedule is on: warns after a night that brought
# nothing and fails after three.
FRESHNESS = dg.FreshnessPolicy.time_window(
    warn_window=datetime.timedelta(days=1, hours=4), fail_window=datetime.timedelta(days=3, hours=4)
)


@stage_asset(
    Publish,
    deps=[collection_map],
    kinds={"duckdb", "sql"},
    freshness_policy=FRESHNESS,
    pool=DUCKDB_POOL,
)
def music_duckdb(
    context: dg.AssetExecutionContext, home: HomeFolder, pipes: Pipes
) -> dg.MaterializeResult:
    """The collection as a database: songs, vectors, neighbours, map, clusters.

    Built beside the old file and put in its place at once, so a reader is never disturbed. Each
    materialisation says what happened in its run, and *what to do next*. It is overdue when a night
    has passed without one: switch on the schedule `nightly_refresh` under Automation, or start the
    job `refresh`.

    - Lies in: `music.duckdb`
    - Look at it: `FROM songs LIMIT 5`, `FROM similar_to('a title', k := 10)`; docs/sql.md has more
    - Without Dagster: `.venv/bin/fastdino embed` or `.venv/bin/fastdino report`
    """
    made = run_steps(context, pipes, home, Publish())
    shown = {**run_report.report(context, made), **(made.metadata or {})}
    return made._replace(metadata=shown)


@dg.asset_check(
    asset=music_duckdb,
    blocking=True,
    description="The database holds the tracks of the catalogue and a vector of each decoded one.",
)
def database_matches_the_files(home: HomeFolder) -> dg.AssetCheckResult:
    """Catch a database that was published from something else than the files say."""
    if not home.open().database.exists():
        return failed(UserError("there is no database yet: materialise music_duckdb"))
    try:
        tracks = len(files_catalog.track_ids(files_catalog.read(home.open())))
        expected = {"tracks": tracks, "songs": tracks}
        expected["current_embeddings"] = len(wanted_tracks(home.open()))
    except UserError as error:
        return failed(error)
    path = home.open().database
    try:
        with duckdb.connect(str(path), read_only=True) as database:
            found = {name: database.table(name).count("*").fetchall()[0][0] for name in expected}
    except duckdb.Error as error:
        return failed(UserError(f"{path} cannot be read ({error}): materialise music_duckdb"))
    return dg.AssetCheckResult(
        passed=found == expected,
        description="; ".join(f"{n}: {found[n]} of {expected[n]} rows" for n in expected),
        metadata={f"{name} rows": found[name] for name in found},
    )
