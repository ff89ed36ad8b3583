"""Research: which way of learning is worth its time, on these songs.

Belongs here: the asset ``comparison`` and its options. Does not: the arms, their training
(``fastdino.research.compare``), the table and the page (``fastdino.research.comparison``).
"""

from pathlib import Path

import dagster as dg
from pydantic import Field

from assets.spectrograms import decoded_tracks, spectrogram_shards
from assets.stage import CODE_VERSION, GPU_POOL, OWNERS, HomeFolder, run_step
from assets.training import Preset, preset_from_environment
from fastdino.training.settings import ARMS, SEEDS

GROUP = "research"


class ComparisonConfig(dg.Config):
    """Options of a comparison."""

    arms: list[str] = Field(
        default=list(ARMS),
        description=(
            "Ways of learning: fastdino, published, dino, autoencoder, 'fastdino, AdamW'. What "
            "costs no training is always shown beside them."
        ),
    )
    minutes: list[float] = Field(
        default=[],
        description=(
            "Budgets of wall time: every arm is trained once for each, with each seed. Empty: "
            "nothing is trained, and what has been compared so far is drawn again."
        ),
    )
    seeds: int = Field(default=SEEDS, description="Runs of each arm and budget.")
    labels: list[str] = Field(
        default=[],
        description=(
            "CSV files with the columns path,label,artist, beside what the tags say. Other labels "
            "cost no training."
        ),
    )
    preset: Preset = Field(
        default=preset_from_environment(),
        description="Size of the encoder, as for training. From $FASTDINO_PRESET.",
    )


@dg.asset(
    deps=[spectrogram_shards],
    group_name=GROUP,
    kinds={"pytorch", "plotly"},
    owners=OWNERS,
    code_version=CODE_VERSION,
    pool=GPU_POOL,
)
def comparison(
    context: dg.AssetExecutionContext,
    config: ComparisonConfig,
    home: HomeFolder,
    pipes: dg.PipesSubprocessClient,
) -> dg.MaterializeResult:
    """Every way of learning on the same songs, for the same time: which one finds artists best?

    Trains only if budgets are given in `minutes`, as the job `compare` does: 4 arms, 3 seeds and
    1, 2 and 5 minutes take 96 minutes at most. Without, as in "Materialize all", it draws what has
    been compared so far, which takes seconds. A run that has been made is not made again.

    - Lies in: `reports/comparison.html`, `comparison/results.parquet`, `comparison/figures/`
    - Look at it: `polars.read_parquet("var/comparison/results.parquet")`, or the page
    - Without Dagster: `fastdino compare --minutes 1 2 5`
    """
    asked = config.minutes or config.labels
    compared = (home.open().comparison / "results.parquet").exists()
    if not asked and not compared and not decoded_tracks(home.open()):
        message = "nothing to compare yet: materialise spectrogram_shards, then run the job compare"
        context.log.warning(message)
        return dg.MaterializeResult(metadata={"summary": message, "did work": False})
    measured: dg.MaterializeResult = dg.MaterializeResult()
    # Not where nobody asks: results are of the songs they were made on, and after a new song only
    # what needs no training would be left in the table.
    if asked or not compared:
        measured = run_step(
            context,
            pipes,
            home,
            "compare",
            arms=config.arms,
            minutes=config.minutes,
            seeds=config.seeds,
            labels=[str(Path(file).expanduser().absolute()) for file in config.labels],
            preset=config.preset.value,
        )
    drawn = run_step(context, pipes, home, "comparison")
    return dg.MaterializeResult(metadata={**(drawn.metadata or {}), **(measured.metadata or {})})
