"""Stage 4: a vector for every song and every stretch of it.

Belongs here: the asset ``embedding_vectors`` and its checks. Does not: encoding, the files of
vectors (``fastdino.embeddings``).
"""

import dagster as dg
import numpy as np
import polars as pl
import pyarrow.parquet as pq

from assets.spectrograms import spectrogram_shards, wanted_tracks
from assets.stage import GPU_POOL, HomeFolder, Pipes, failed, run_steps, stage_asset
from assets.training import fastdino_model
from fastdino.core.errors import UserError
from fastdino.core.storage import fetched
from fastdino.embeddings.vectors import vector_files
from fastdino.steps import CompareCandidate, Embed
from fastdino.training import registry

UNIT_LENGTH_TOLERANCE = 1e-3


@stage_asset(
    Embed,
    CompareCandidate,
    # Both are read; and a run that leaves the model out still does the shards first.
    deps=[spectrogram_shards, fastdino_model],
    kinds={"pytorch", "parquet"},
    pool=GPU_POOL,
)
def embedding_vectors(
    context: dg.AssetExecutionContext, home: HomeFolder, pipes: Pipes
) -> dg.MaterializeResult:
    """A vector for every song, and for every stretch of it, from the current model.

    Only tracks that have none from this model yet are encoded. Vectors are of unit length; those
    of a whole song have no `start_s`. A candidate gets its vectors as well, and is compared with
    the current model: look at the table and at the warnings.

    - Lies in: `vectors/<model_id>/<shard>.parquet`
    - Look at it: `polars.read_parquet("var/vectors/*/*.parquet")`, or in SQL once published
    - Without Dagster: `.venv/bin/fastdino embed`
    """
    return run_steps(context, pipes, home, Embed(), CompareCandidate())


@dg.asset_check(
    asset=embedding_vectors,
    blocking=True,
    description="Vectors are finite, of unit length, and of the model's dimension.",
)
def vectors_are_sound(home: HomeFolder) -> dg.AssetCheckResult:
    """Keep numbers that no distance can be computed from out of the database."""
    try:
        model = registry.current(home.open())
    except UserError as error:
        return failed(error)
    dim = model["dim"]
    vectors = wrong_dimension = not_unit = 0
    for file in vector_files(home.open(), model["model_id"]):
        parquet = pq.ParquetFile(fetched(file))
        for group in range(parquet.num_row_groups):
            column = parquet.read_row_group(group, columns=["vec"])["vec"].combine_chunks()
            vectors += len(column)
            if column.type.list_size != dim:
                wrong_dimension += len(column)
                continue
            lengths = np.linalg.norm(column.flatten().to_numpy().reshape(-1, dim), axis=1)
            # NaN and infinity are never within the tolerance.
            not_unit += int((~(np.abs(lengths - 1) <= UNIT_LENGTH_TOLERANCE)).sum())
    return dg.AssetCheckResult(
        passed=vectors > 0 and not wrong_dimension and not not_unit,
        description=(
            f"{vectors} vectors; {wrong_dimension} not of dimension {dim}, "
            f"{not_unit} not finite or not of unit length"
        ),
        metadata={"vectors": vectors, "wrong dimension": wrong_dimension, "not unit": not_unit},
    )


@dg.asset_check(
    asset=embedding_vectors,
    blocking=True,
    description="Every decoded track of the catalogue has a vector of the whole song.",
)
def every_track_has_a_vector(home: HomeFolder) -> dg.AssetCheckResult:
    """Catch vectors that were lost or made for other shards."""
    try:
        wanted = wanted_tracks(home.open())
        files = vector_files(home.open(), registry.current(home.open())["model_id"])
    except UserError as error:
        return failed(error)
    frames = (pl.scan_parquet(fetched(file), glob=False) for file in files)
    songs = [frame.filter(pl.col("start_s").is_null()) for frame in frames]
    found = {track for song in songs for track in song.select("track_id").collect()["track_id"]}
    lost = wanted - found
    return dg.AssetCheckResult(
        passed=not lost,
        description=f"{len(lost)} of {len(wanted)} tracks have no vector",
        metadata={"tracks": len(wanted), "lost": len(lost), "examples": sorted(lost)[:10]},
    )
