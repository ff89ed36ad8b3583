"""Music servers: their ids, so that they can ask what sounds like a song.

Belongs here: the asset ``server_ids``. Does not: asking the server (``fastdino.servers``).
"""

import dagster as dg

from assets.database import music_duckdb
from assets.stage import DUCKDB_POOL, HomeFolder, Pipes, nothing_done, run_steps, stage_asset
from fastdino.core import environment
from fastdino.steps import MatchServer


@stage_asset(
    MatchServer,
    deps=[music_duckdb],
    kinds={"parquet"},
    pool=DUCKDB_POOL,
)
def server_ids(
    context: dg.AssetExecutionContext, home: HomeFolder, pipes: Pipes
) -> dg.MaterializeResult:
    """Which songs a music server, such as Navidrome or Jellyfin, means by its ids.

    Off unless a server is named. Where it cannot be asked, what was known of it stays.

    - Lies in: `servers/ids.parquet`
    - Look at it: `FROM 'var/servers/ids.parquet'` in the DuckDB shell; docs/servers.md tells more
    - Without Dagster: `.venv/bin/fastdino match`
    """
    if environment.SERVER.value() is None:
        message = f"off: to have a music server ask, set {environment.SERVER.name} to its address"
        return nothing_done(message)
    return run_steps(context, pipes, home, MatchServer())
