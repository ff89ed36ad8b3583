"""Stage 4: a vector for every song and every stretch of it.

Belongs here: the asset ``embedding_vectors`` and its checks. Does not: encoding, the files of
vectors (``fastdino.embeddings``).
"""

import dagster as dg

from assets.spectrograms import (
    later_tracks,
    shards_since,
    spectrogram_shards,
    told_of,
    wanted_tracks,
)
from assets.stage import GPU_POOL, HomeFolder, Pipes, run_steps, stage_asset, stage_check
from assets.training import fastdino_model
from fastdino.core.storage import exists
from fastdino.embeddings.vectors import song_ids, vector_files
from fastdino.steps import CompareCandidate, Embed
from fastdino.training import registry
from fastdino.upkeep.verify.vectors import inspect


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


@stage_check(
    asset=embedding_vectors,
    blocking=True,
    description="Vectors are finite, of unit length, and of the model's dimension.",
)
def vectors_are_sound(home: HomeFolder) -> dg.AssetCheckResult:
    """Keep numbers that no distance can be computed from out of the database."""
    songs = 0
    wrong: list[str] = []
    model = registry.current(home.open())
    for file in vector_files(home.open(), model["model_id"]):
        found = inspect(file, model["dim"])
        songs += len(found.tracks)
        # One that is gone by now was joined with another, which has its songs.
        wrong += [f"{file}: {why}" for why in found.reasons[:1] if exists(file)]
    then = f"; {wrong[0]}: run `fastdino verify --repair`, then `fastdino run`" if wrong else ""
    return dg.AssetCheckResult(
        passed=songs > 0 and not wrong,
        description=f"vectors of {songs} songs, {len(wrong)} damaged files{then}",
        metadata={"songs": songs, "damaged files": len(wrong), "examples": wrong[:10]},
    )


@stage_check(
    asset=embedding_vectors,
    blocking=True,
    description="Every decoded track of the catalogue has a vector of the whole song.",
)
def every_track_has_a_vector(home: HomeFolder) -> dg.AssetCheckResult:
    """Catch vectors that were lost or made for other shards."""
    wanted = wanted_tracks(home.open())
    model_id = registry.current(home.open())["model_id"]
    lost = wanted.difference(song_ids(home.open(), model_id, wanted))
    # Another run may decode songs while this one embeds.
    later = lost & later_tracks(home.open(), shards_since(home.open(), Embed))
    lost -= later
    return dg.AssetCheckResult(
        passed=not lost,
        description=f"{len(lost)} of {len(wanted)} tracks have no vector{told_of(later)}",
        metadata={"tracks": len(wanted), "lost": len(lost), "examples": sorted(lost)[:10]},
    )
