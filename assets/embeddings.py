"""Stage 4: where every song lies among the others, and the database to ask.

Belongs here: the assets ``embedding_vectors`` and ``music_duckdb`` and their checks. Does not:
encoding, the schema, publishing (``fastdino.embeddings``).
"""

import datetime

import dagster as dg
import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq

from assets import run_report
from assets.spectrograms import spectrogram_shards, wanted_tracks
from assets.stage import (
    CODE_VERSION,
    DUCKDB_POOL,
    GPU_POOL,
    OWNERS,
    HomeFolder,
    failed,
    run_step,
)
from assets.training import fastdino_model
from fastdino.core.errors import UserError
from fastdino.embeddings.vectors import vector_files
from fastdino.ingestion import catalog as files_catalog
from fastdino.training import registry

GROUP = "embeddings"
UNIT_LENGTH_TOLERANCE = 1e-3
# Published every night, in some hours, if the schedule is on: warns after a night that brought
# nothing and fails after three.
FRESHNESS = dg.FreshnessPolicy.time_window(
    warn_window=datetime.timedelta(days=1, hours=4), fail_window=datetime.timedelta(days=3, hours=4)
)


@dg.asset(
    # Both are read; and a run that leaves the model out still does the shards first.
    deps=[spectrogram_shards, fastdino_model],
    group_name=GROUP,
    kinds={"pytorch", "parquet"},
    owners=OWNERS,
    code_version=CODE_VERSION,
    pool=GPU_POOL,
)
def embedding_vectors(
    context: dg.AssetExecutionContext, home: HomeFolder, pipes: dg.PipesSubprocessClient
) -> dg.MaterializeResult:
    """A vector for every song, and for every stretch of it, from the current model.

    Only tracks that have none from this model yet are encoded. Vectors are of unit length; those
    of a whole song have no `start_s`. A candidate gets its vectors as well, and is compared with
    the current model: look at the table and at the warnings.

    - Lies in: `vectors/<model_id>/<shard>.parquet`
    - Look at it: `polars.read_parquet("var/vectors/*/*.parquet")`, or in SQL once published
    - Without Dagster: `fastdino embed`
    """
    return run_step(context, pipes, home, "embed")


@dg.asset(
    # The map comes from the reports but is published too, so that SQL knows where songs lie.
    deps=["collection_map"],
    group_name=GROUP,
    kinds={"duckdb", "sql"},
    owners=OWNERS,
    code_version=CODE_VERSION,
    freshness_policy=FRESHNESS,
    pool=DUCKDB_POOL,
)
def music_duckdb(
    context: dg.AssetExecutionContext, home: HomeFolder, pipes: dg.PipesSubprocessClient
) -> dg.MaterializeResult:
    """The collection as a database: songs, vectors, neighbours, map, clusters.

    Built beside the old file and put in its place at once, so a reader is never disturbed. Each
    materialisation says what happened in its run, and *what to do next*. It is overdue when a night
    has passed without one: switch on the schedule `nightly_refresh` under Automation, or start the
    job `refresh`.

    - Lies in: `music.duckdb`
    - Look at it: `FROM songs LIMIT 5`, `FROM similar_to('a title', k := 10)`; docs/sql.md has more
    - Without Dagster: `fastdino embed` or `fastdino report`
    """
    made = run_step(context, pipes, home, "publish")
    shown = {**run_report.report(context, made), **(made.metadata or {})}
    return dg.MaterializeResult(metadata=shown)


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
        parquet = pq.ParquetFile(file)
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
    frames = (pl.scan_parquet(file, glob=False) for file in files)
    songs = [frame.filter(pl.col("start_s").is_null()) for frame in frames]
    found = {track for song in songs for track in song.select("track_id").collect()["track_id"]}
    lost = wanted - found
    return dg.AssetCheckResult(
        passed=not lost,
        description=f"{len(lost)} of {len(wanted)} tracks have no vector",
        metadata={"tracks": len(wanted), "lost": len(lost), "examples": sorted(lost)[:10]},
    )


@dg.asset_check(
    asset=music_duckdb,
    blocking=True,
    description="The database holds the tracks of the catalogue and a vector of each decoded one.",
)
def database_matches_the_files(home: HomeFolder) -> dg.AssetCheckResult:
    """Catch a database that was published from something else than the files say."""
    if not home.open().database.exists():
        return failed(UserError("there is no database yet: materialise music_duckdb"))
    try:
        tracks = files_catalog.read(home.open())["track_id"].drop_nulls().n_unique()
        expected = {"tracks": tracks, "songs": tracks}
        expected["current_embeddings"] = len(wanted_tracks(home.open()))
    except UserError as error:
        return failed(error)
    with duckdb.connect(str(home.open().database), read_only=True) as database:
        found = {name: database.table(name).count("*").fetchall()[0][0] for name in expected}
    return dg.AssetCheckResult(
        passed=found == expected,
        description="; ".join(f"{n}: {found[n]} of {expected[n]} rows" for n in expected),
        metadata={f"{name} rows": found[name] for name in found},
    )
