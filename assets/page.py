"""The page: the collection for the eye and the ear.

Belongs here: the asset ``report_page``. Does not: the page itself (``fastdino.page``).
"""

import dagster as dg

from assets.database import music_duckdb
from assets.stage import DUCKDB_POOL, HomeFolder, Pipes, run_steps, stage_asset
from fastdino.steps import WritePage


@stage_asset(
    WritePage,
    deps=[music_duckdb],
    kinds={"plotly", "html"},
    pool=DUCKDB_POOL,
)
def report_page(
    context: dg.AssetExecutionContext, home: HomeFolder, pipes: Pipes
) -> dg.MaterializeResult:
    """One page to look at the whole collection, to search it, and to listen to it.

    - With sound: `make report`, or `.venv/bin/fastdino serve`; then http://127.0.0.1:8321/
    - Lies in: `reports/index.html`, which any browser opens from disk, then without sound
    - Without Dagster: `.venv/bin/fastdino report`
    """
    return run_steps(context, pipes, home, WritePage())
