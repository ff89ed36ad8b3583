"""Which model is in use: the one decision that is a person's.

Belongs here: the asset ``promotion`` and its option. Does not: choosing
(``fastdino.training.promotion``) or comparing (``fastdino.reports.model_comparison``).
"""

import dagster as dg
from pydantic import Field

from assets.embeddings import embedding_vectors
from assets.stage import CODE_VERSION, GPU_POOL, OWNERS, HomeFolder, run_step

GROUP = "promotion"


class PromotionConfig(dg.Config):
    """What to promote."""

    model_id: str = Field(
        default="",
        description=(
            "A model's name, 'candidate', or 'previous', which undoes the last promotion. Empty: "
            "nothing is promoted; the models are listed and compared."
        ),
    )


@dg.asset(
    deps=[embedding_vectors],
    group_name=GROUP,
    kinds={"json"},
    owners=OWNERS,
    code_version=CODE_VERSION,
    pool=GPU_POOL,
)
def promotion(
    context: dg.AssetExecutionContext,
    config: PromotionConfig,
    home: HomeFolder,
    pipes: dg.PipesSubprocessClient,
) -> dg.MaterializeResult:
    """The model that everything after it is made with, and the candidate beside it.

    Changes nothing unless `model_id` names a model, as the job `promote` does: that puts the
    candidate to use, and draws the map, the database and the page anew. With
    `model_id: previous` it is undone. Without, as in "Materialize all", it lists the models and
    compares the candidate with the current one.

    - Lies in: `models/current.json`
    - Without Dagster: `fastdino models`, `fastdino promote`
    """
    promoted: dg.MaterializeResult = dg.MaterializeResult()
    if config.model_id:
        promoted = run_step(context, pipes, home, "promote", model=config.model_id)
        # The candidate has all its vectors; another model may lack some.
        run_step(context, pipes, home, "embed")
    listed = run_step(context, pipes, home, "models")
    return dg.MaterializeResult(metadata={**(listed.metadata or {}), **(promoted.metadata or {})})
