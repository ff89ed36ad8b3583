"""Which assets are made together.

Belongs here: jobs. Does not: when they run (``schedules``, ``sensors``). All of it at once is
"Materialize all" on the assets page.
"""

import dagster as dg

from assets.promotion import PromotionConfig, promotion
from assets.research import ComparisonConfig, comparison
from assets.training import fastdino_model
from fastdino.steps import Compare, Promote

COMPARISON = dg.AssetSelection.assets(comparison)
MODEL = dg.AssetSelection.assets(fastdino_model)
PROMOTION = dg.AssetSelection.assets(promotion)
MODEL_CHECKS = dg.AssetSelection.checks_for_assets(fastdino_model)

# The checks on the model are part of it although the model is not: they compare the model with
# the collection, which a refresh changes.
refresh = dg.define_asset_job(
    "refresh",
    selection=(dg.AssetSelection.all() - MODEL - PROMOTION - COMPARISON) | MODEL_CHECKS,
    description="Take in what changed in the music folders, with the model as it is.",
)

train = dg.define_asset_job(
    "train",
    selection=MODEL.downstream() - PROMOTION,
    description=(
        "Train on the songs taken in so far; then vectors, map, database, page. Where there is a "
        "model already the new one is a candidate, and the job promote puts it to use."
    ),
)

promote = dg.define_asset_job(
    "promote",
    # The checks compare the model in use, which is another one afterwards.
    selection=PROMOTION.downstream() | MODEL_CHECKS,
    config=dg.RunConfig(ops={"promotion": PromotionConfig(model_id=Promote().model_id)}),
    description=(
        "Put the candidate to use; then map, database, page. With model_id: previous in the "
        "Launchpad, go back to the model before."
    ),
)

# A research question, not part of keeping a collection: no other job asks it.
compare = dg.define_asset_job(
    "compare",
    selection=COMPARISON,
    config=dg.RunConfig(ops={"comparison": ComparisonConfig(minutes=list(Compare().minutes))}),
    description=(
        "Train FastDINO and its baselines on equal terms and draw quality over time. With the "
        "options as they stand 96 minutes at most, and some to listen to what came out."
    ),
)

JOBS = [refresh, train, promote, compare]
