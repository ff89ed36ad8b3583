"""Which assets are made together.

Belongs here: jobs. Does not: when they run (``schedules``). All of it at once is "Materialize all"
on the assets page.
"""

import dagster as dg

from assets.training import fastdino_model

MODEL = dg.AssetSelection.assets(fastdino_model)
MODEL_CHECKS = dg.AssetSelection.checks_for_assets(fastdino_model)

# The checks on the model are part of it although the model is not: they compare the model with
# the collection, which a refresh changes.
refresh = dg.define_asset_job(
    "refresh",
    selection=(dg.AssetSelection.all() - MODEL)
    | dg.AssetSelection.checks_for_assets(fastdino_model),
    description="Take in what changed in the music folders, with the model as it is.",
)

train = dg.define_asset_job(
    "train",
    selection=MODEL.downstream(),
    description="Train on the songs taken in so far; then vectors, map, database, page.",
)

JOBS = [refresh, train]
