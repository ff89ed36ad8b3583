"""Research: which way of learning is worth its time, on these songs.

Belongs here: the asset ``comparison`` and its options. Does not: the arms, their training
(``fastdino.research.compare``), the table and the page (``fastdino.research.table``, ``page``).
"""

from pathlib import Path

import dagster as dg

from assets.spectrograms import decoded_tracks, spectrogram_shards
from assets.stage import (
    GPU_POOL,
    HomeFolder,
    Pipes,
    config_of,
    nothing_done,
    run_steps,
    stage_asset,
)
from fastdino.steps import Compare, DrawComparison, made, named_file


class ComparisonConfig(config_of(Compare, minutes=())):  # type: ignore[misc]
    """Options of a comparison; nothing is trained unless `minutes` are given."""


@stage_asset(
    Compare,
    DrawComparison,
    deps=[spectrogram_shards],
    kinds={"pytorch", "plotly"},
    pool=GPU_POOL,
)
def comparison(
    context: dg.AssetExecutionContext,
    config: ComparisonConfig,
    home: HomeFolder,
    pipes: Pipes,
) -> dg.MaterializeResult:
    """Every way of learning on the same songs, for the same time: which one finds artists best?

    Trains only if budgets are given in `minutes`, as the job `compare` does: 4 arms, 3 seeds and
    1, 2 and 5 minutes take 96 minutes at most. Without, as in "Materialize all", it draws what has
    been compared so far, which takes seconds. A run that has been made is not made again.

    - Lies in: `reports/comparison.html`, `comparison/results.parquet`, `comparison/figures/`
    - Look at it: `polars.read_parquet("var/comparison/results.parquet")`, or the page
    - Without Dagster: `.venv/bin/fastdino compare --minutes 1 2 5`
    """
    asked = config.minutes or config.labels or config.vectors
    compared = (home.open().comparison / "results.parquet").exists()
    if not asked and not compared and not decoded_tracks(home.open()):
        message = "nothing to compare yet: materialise spectrogram_shards, then run the job compare"
        context.log.warning(message)
        return nothing_done(message)
    options = config.model_dump(mode="json")
    options["labels"] = [str(Path(f).expanduser().absolute()) for f in options["labels"]]
    named = map(named_file, options["vectors"])
    options["vectors"] = [f"{name}={file.absolute()}" for name, file in named]
    return run_steps(context, pipes, home, made(Compare.name, options), DrawComparison())
