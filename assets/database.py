"""The database: all that the stages made, to be asked in SQL.

Belongs here: the asset ``music_duckdb`` and its checks. Does not: the schema, publishing
(``fastdino.database``).
"""

import datetime

import dagster as dg
import duckdb

from assets import run_report
from assets.reports import collection_map
from assets.spectrograms import (
    catalogue_changed_since,
    later_tracks,
    shards_since,
    told_of,
    wanted_tracks,
)
from assets.stage import DUCKDB_POOL, HomeFolder, Pipes, run_steps, stage_asset, stage_check
from fastdino.core import outcomes
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.storage import written_since
from fastdino.embeddings.vectors import FILES
from fastdino.ingestion import catalog as files_catalog
from fastdino.steps import Embed, Publish, Step
from fastdino.training import registry

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


@stage_check(
    asset=music_duckdb,
    blocking=True,
    description="The database holds the tracks of the catalogue and a vector of each decoded one.",
)
def database_matches_the_files(home: HomeFolder) -> dg.AssetCheckResult:
    """Catch a database that was published from something else than the files say."""
    if not home.open().database.exists():
        raise UserError("there is no database yet: materialise music_duckdb")
    path = home.open().database
    tracks = files_catalog.track_ids(files_catalog.read(home.open()))
    wanted = wanted_tracks(home.open())
    expected = {"tracks": tracks, "songs": tracks, "current_embeddings": wanted}
    try:
        with duckdb.connect(str(path), read_only=True) as database:
            found = {name: _track_ids(database, name) for name in expected}
    except duckdb.Error as error:
        raise UserError(f"{path} cannot be read ({error}): materialise music_duckdb") from error
    # Other runs may bring and take songs, decode and embed while this one publishes.
    moved: set[str] = set()
    if catalogue_changed_since(home.open(), Publish):
        moved = tracks.symmetric_difference(found["tracks"])
    heard = moved | later_tracks(
        home.open(),
        shards_since(home.open(), Embed) | _vector_files_since(home.open(), Publish),
    )
    later = {"tracks": moved, "songs": moved, "current_embeddings": heard}
    off = {name: expected[name].symmetric_difference(found[name]) for name in expected}
    excused = {track for name in expected for track in off[name] & later[name]}
    return dg.AssetCheckResult(
        passed=all(off[name] <= later[name] for name in expected)
        and all(len(set(rows)) == len(rows) for rows in found.values()),
        description="; ".join(f"{n}: {len(found[n])} of {len(expected[n])} rows" for n in expected)
        + told_of(excused),
        metadata={f"{name} rows": len(found[name]) for name in found},
    )


def _track_ids(database: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    return [row[0] for row in database.table(table).select("track_id").fetchall()]


def _vector_files_since(home: Home, step: type[Step]) -> set[str]:
    """The names of the shards whose vectors were written since a step began."""
    folder = home.vectors(registry.current(home)["model_id"])
    return written_since(folder, FILES, outcomes.began_s(home, step.name))
