"""Which assets are made together.

Belongs here: jobs. Does not: when they run (``schedules``, ``sensors``). All of it at once is
"Materialize all" on the assets page.
"""

import dagster as dg

from assets.comparison import ComparisonConfig, comparison
from assets.training import fastdino_model
from fastdino.training.settings import BUDGETS

COMPARISON = dg.AssetSelection.assets(comparison)
MODEL = dg.AssetSelection.assets(fastdino_model)
MODEL_CHECKS = dg.AssetSelection.checks_for_assets(fastdino_model)

# The checks on the model are part of it although the model is not: they compare the model with
# the collection, which a refresh changes.
refresh = dg.define_asset_job(
    "refresh",
    selection=(dg.AssetSelection.all() - MODEL - COMPARISON) | MODEL_CHECKS,
    description="Take in what changed in the music folders, with the model as it is.",
)

train = dg.define_asset_job(
    "train",
    selection=MODEL.downstream(),
    description="Train on the songs taken in so far; then vectors, map, database, page.",
)

# A research question, not part of keeping a collection: no other job asks it.
compare = dg.define_asset_job(
    "compare",
    selection=COMPARISON,
    config=dg.RunConfig(ops={"comparison": ComparisonConfig(minutes=list(BUDGETS))}),
    description=(
        "Train FastDINO and its baselines on equal terms and draw quality over time. With the "
        "options as they stand 96 minutes at most, and some to listen to what came out."
    ),
)

JOBS = [refresh, train, compare]
