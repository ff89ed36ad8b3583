"""Stage 5: the collection for the eye.

Belongs here: the assets ``collection_map`` and ``report_page``. Does not: layout, clusters, the
page itself (``fastdino.reports``).
"""

import dagster as dg

from assets.embeddings import embedding_vectors, music_duckdb
from assets.promotion import promotion
from assets.stage import CODE_VERSION, DUCKDB_POOL, OWNERS, HomeFolder, run_step

GROUP = "reports"


@dg.asset(
    # Both say what is drawn; ordinary runs leave the choice of the model out.
    deps=[embedding_vectors, promotion],
    group_name=GROUP,
    kinds={"scikitlearn", "parquet"},
    owners=OWNERS,
    code_version=CODE_VERSION,
    pool=DUCKDB_POOL,
)
def collection_map(
    context: dg.AssetExecutionContext, home: HomeFolder, pipes: dg.PipesSubprocessClient
) -> dg.MaterializeResult:
    """A place in the plane for every song, named clusters, and each song's nearest neighbours.

    New songs are placed on the standing map and the old ones stay exactly where they are. Only past
    10 % new or gone all are laid out again: the old ones near their places and in their clusters,
    unless these plainly split, merge or end, which the table of changed clusters tells. A song that
    was removed and comes back finds its place. The second picture is the past of the map.

    - Lies in: `maps/<model_id>/<map_id>/`
    - Look at it: the page of `report_page`, or in SQL once published
    - Without Dagster: `fastdino report`
    """
    return run_step(context, pipes, home, "map")


@dg.asset(
    deps=[music_duckdb],
    group_name=GROUP,
    kinds={"plotly", "html"},
    owners=OWNERS,
    code_version=CODE_VERSION,
    pool=DUCKDB_POOL,
)
def report_page(
    context: dg.AssetExecutionContext, home: HomeFolder, pipes: dg.PipesSubprocessClient
) -> dg.MaterializeResult:
    """One page to look at the whole collection, to search it, and to listen to it.

    - With sound: `make report`, or `fastdino serve`; then http://127.0.0.1:8321/
    - Lies in: `reports/index.html`, which any browser opens from disk, then without sound
    - Without Dagster: `fastdino report`
    """
    return run_step(context, pipes, home, "page")
