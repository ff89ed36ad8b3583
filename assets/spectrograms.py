"""Stage 2: what the songs sound like, as pictures a network can read.

Belongs here: the asset ``spectrogram_shards`` and its checks. Does not: decoding, the log-mel
transform, the shard format (``fastdino.spectrograms``).
"""

import dagster as dg
import polars as pl

from assets.ingestion import catalog
from assets.stage import (
    COLLECTION_POOL,
    HomeFolder,
    Pipes,
    config_of,
    failed,
    run_steps,
    stage_asset,
)
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.ingestion import catalog as files_catalog
from fastdino.spectrograms.settings import SpectrogramSettings
from fastdino.spectrograms.shards import read_index
from fastdino.spectrograms.stage import read_failures
from fastdino.steps import Spectrograms

# About one file in a hundred of a real collection is damaged; many more point at something else.
FAILED_SHARE = 0.05
ALWAYS_ALLOWED = 2


class SpectrogramsConfig(config_of(Spectrograms)):  # type: ignore[misc]
    """Options of decoding."""


@stage_asset(
    Spectrograms,
    deps=[catalog],
    kinds={"torch", "parquet"},
    pool=COLLECTION_POOL,
)
def spectrogram_shards(
    context: dg.AssetExecutionContext,
    config: SpectrogramsConfig,
    home: HomeFolder,
    pipes: Pipes,
) -> dg.MaterializeResult:
    """A log-mel spectrogram of every track, in Parquet shards of about 256 MB.

    Only tracks that have none yet are decoded, on all cores. What cannot be decoded is listed in
    `failures.parquet` with the reason, and tried again when the file changes; what was the
    computer's doing, also by itself, further and further apart.

    - Lies in: `shards/<settings>/spectrograms-*.parquet`
    - Look at it: `fastdino.spectrograms.shards.read_index(folder)`
    - Without Dagster: `.venv/bin/fastdino spectrograms`
    """
    return run_steps(context, pipes, home, Spectrograms(retry=config.retry))


def decoded_tracks(home: Home) -> list[str]:
    """The ids of the tracks that have a spectrogram, in the order they were decoded in.

    Raises:
        UserError: a shard is damaged.
    """
    index = read_index(home.shards(SpectrogramSettings().spec_id))
    return list(index.column("track_id").unique().to_pylist())


def wanted_tracks(home: Home) -> set[str]:
    """The ids of the tracks that can be learned from: in the catalogue, and decoded.

    Raises:
        UserError: there is no catalogue, or a shard is damaged.
    """
    return files_catalog.track_ids(files_catalog.read(home)).intersection(decoded_tracks(home))


def failed_tracks(home: Home) -> set[str]:
    """The ids of the tracks that could not be decoded."""
    return set(read_failures(home.shards(SpectrogramSettings().spec_id))["track_id"])


@dg.asset_check(
    asset=spectrogram_shards,
    blocking=True,
    description="Every track of the catalogue has a spectrogram, or a reason why not.",
)
def every_track_is_accounted_for(home: HomeFolder) -> dg.AssetCheckResult:
    """Catch shards that were deleted, cut short or written for other settings."""
    try:
        wanted = files_catalog.track_ids(files_catalog.read(home.open()))
        decoded = set(decoded_tracks(home.open()))
    except UserError as error:
        return failed(error)
    lost = wanted - decoded - failed_tracks(home.open())
    return dg.AssetCheckResult(
        passed=not lost,
        description=f"{len(lost)} of {len(wanted)} tracks have neither spectrogram nor reason",
        metadata={"tracks": len(wanted), "lost": len(lost), "examples": sorted(lost)[:10]},
    )


@dg.asset_check(
    asset=spectrogram_shards,
    description=f"At most {FAILED_SHARE:.0%} of the files cannot be read or decoded.",
)
def few_files_failed(home: HomeFolder) -> dg.AssetCheckResult:
    """Warn when so much fails that the disk or a decoder is the likelier culprit."""
    try:
        files = files_catalog.songs(files_catalog.read(home.open()))
    except UserError as error:
        return dg.AssetCheckResult(
            passed=False, severity=dg.AssetCheckSeverity.WARN, description=str(error)
        )
    unusable = pl.col("error").is_not_null() | pl.col("track_id").is_in(
        list(failed_tracks(home.open()))
    )
    lost = files.filter(unusable).height
    share = lost / max(files.height, 1)
    return dg.AssetCheckResult(
        passed=lost <= max(ALWAYS_ALLOWED, FAILED_SHARE * files.height),
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{lost} of {files.height} files ({share:.1%}); reasons: table failures",
        metadata={"failed files": lost, "share": share},
    )
