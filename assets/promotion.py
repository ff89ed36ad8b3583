"""Which model is in use: the one decision that is a person's.

Belongs here: the asset ``promotion`` and its option. Does not: choosing
(``fastdino.training.promotion``) or comparing (``fastdino.reports.model_comparison``).
"""

import dagster as dg

from assets.embeddings import embedding_vectors
from assets.stage import GPU_POOL, HomeFolder, Pipes, config_of, run_steps, stage_asset
from fastdino.steps import Embed, ListModels, Promote


class PromotionConfig(config_of(Promote, model_id="")):  # type: ignore[misc]
    """What to promote; nothing if `model_id` is empty: then the models are listed and compared."""


@stage_asset(
    ListModels,
    Promote,
    deps=[embedding_vectors],
    kinds={"json"},
    pool=GPU_POOL,
)
def promotion(
    context: dg.AssetExecutionContext,
    config: PromotionConfig,
    home: HomeFolder,
    pipes: Pipes,
) -> dg.MaterializeResult:
    """The model that everything after it is made with, and the candidate beside it.

    Changes nothing unless `model_id` names a model, as the job `promote` does: that puts the
    candidate to use, and draws the map, the database and the page anew. With
    `model_id: previous` it is undone. Without, as in "Materialize all", it lists the models and
    compares the candidate with the current one.

    - Lies in: `models/current.json`
    - Without Dagster: `.venv/bin/fastdino models`, `.venv/bin/fastdino promote`
    """
    # The candidate has all its vectors; another model may lack some.
    promoted = (Promote(model_id=config.model_id), Embed()) if config.model_id else ()
    return run_steps(context, pipes, home, *promoted, ListModels())
