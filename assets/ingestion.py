"""Stage 1: which songs there are.

Belongs here: the asset ``catalog``, its options, its checks. Does not: scanning and tags
(``fastdino.ingestion``).
"""

import dagster as dg

from assets.stage import (
    COLLECTION_POOL,
    HomeFolder,
    Pipes,
    config_of,
    run_steps,
    stage_asset,
    stage_check,
)
from fastdino.ingestion import catalog as files_catalog
from fastdino.steps import Ingest


class CatalogConfig(config_of(Ingest, leave_out={"or_demo"})):  # type: ignore[misc]
    """Options of the catalogue."""


@stage_asset(
    Ingest,
    kinds={"polars", "parquet"},
    pool=COLLECTION_POOL,
)
def catalog(
    context: dg.AssetExecutionContext,
    config: CatalogConfig,
    home: HomeFolder,
    pipes: Pipes,
) -> dg.MaterializeResult:
    """Every music file found, the recording in it, and its tags.

    One row per file; files that hold the same recording share a `track_id`, which moving,
    renaming or retagging does not change. Files that cannot be read have a reason in `error`,
    those that a CUE sheet says hold several songs have them in `cue`.
    Unchanged files are not opened again. What was not looked at, and why, is in `skipped.parquet`.

    - Lies in: `catalog/files.parquet`, `catalog/skipped.parquet`
    - Look at it: `polars.read_parquet("var/catalog/files.parquet")`
    - Without Dagster: `.venv/bin/fastdino ingest FOLDER`
    """
    step = Ingest(music=tuple(config.music), or_demo=True, rescan=config.rescan)
    return run_steps(context, pipes, home, step)


@stage_check(
    asset=catalog,
    blocking=True,
    description="The music folders hold at least one song that can be used.",
)
def catalog_has_songs(home: HomeFolder) -> dg.AssetCheckResult:
    """Stop the run before every later stage reports that there is nothing to do."""
    files = files_catalog.read(home.open())
    songs = len(files_catalog.track_ids(files))
    return dg.AssetCheckResult(
        passed=songs > 0,
        description=f"{songs} songs in {len(files)} files",
        metadata={"songs": songs, "files": len(files)},
    )
