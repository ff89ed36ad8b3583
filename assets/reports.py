"""Stage 5: where songs lie among each other.

Belongs here: the asset ``collection_map``. Does not: layout, clusters, neighbours
(``fastdino.reports``).
"""

import dagster as dg

from assets.embeddings import embedding_vectors
from assets.promotion import promotion
from assets.stage import DUCKDB_POOL, HomeFolder, Pipes, run_steps, stage_asset
from fastdino.steps import DrawMap


@stage_asset(
    DrawMap,
    # Both say what is drawn; ordinary runs leave the choice of the model out.
    deps=[embedding_vectors, promotion],
    kinds={"scikitlearn", "parquet"},
    pool=DUCKDB_POOL,
)
def collection_map(
    context: dg.AssetExecutionContext, home: HomeFolder, pipes: Pipes
) -> dg.MaterializeResult:
    """A place in the plane for every song, named clusters, and each song's nearest neighbours.

    New songs are placed on the standing map and the old ones stay exactly where they are. Only past
    10 % new or gone all are laid out again: the old ones near their places and in their clusters,
    unless these plainly split, merge or end, which the table of changed clusters tells. A song that
    was removed and comes back finds its place. The second picture is the past of the map.

    - Lies in: `maps/<model_id>/<map_id>/`
    - Look at it: the page of `report_page`, or in SQL once published
    - Without Dagster: `.venv/bin/fastdino report`
    """
    return run_steps(context, pipes, home, DrawMap())
