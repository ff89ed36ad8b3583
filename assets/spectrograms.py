"""Stage 2: what the songs sound like, as pictures a network can read.

Belongs here: the asset ``spectrogram_shards`` and its checks. Does not: decoding, the log-mel
transform, the shard format (``fastdino.spectrograms``).
"""

from collections.abc import Collection

import dagster as dg
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from assets.ingestion import catalog
from assets.stage import (
    COLLECTION_POOL,
    HomeFolder,
    Pipes,
    config_of,
    run_steps,
    stage_asset,
    stage_check,
)
from fastdino.core import outcomes
from fastdino.core.home import Home
from fastdino.core.storage import written_since
from fastdino.ingestion import catalog as files_catalog
from fastdino.spectrograms.settings import SpectrogramSettings
from fastdino.spectrograms.shards import SHARDS, read_index
from fastdino.spectrograms.stage import read_failures
from fastdino.steps import Spectrograms, Step

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


def later_tracks(home: Home, shards: Collection[str]) -> set[str]:
    """The ids of the tracks that are in none but these shards, of which a step that ran before
    they were written need not know.

    Raises:
        UserError: a shard is damaged.
    """
    index = read_index(home.shards(SpectrogramSettings().spec_id))
    later = pc.is_in(index["shard"], pa.array(shards, pa.string()))
    before = index.filter(pc.invert(later))["track_id"].to_pylist()
    return set(index.filter(later)["track_id"].to_pylist()).difference(before)


def shards_since(home: Home, step: type[Step]) -> set[str]:
    """The names of the shards that were written since a step began."""
    folder = home.shards(SpectrogramSettings().spec_id)
    return written_since(folder, SHARDS, outcomes.began_s(home, step.name))


def catalogue_changed_since(home: Home, step: type[Step]) -> bool:
    """Whether there is another catalogue than when a step began."""
    folder, name = home.catalog.parent, home.catalog.name
    return bool(written_since(folder, name, outcomes.began_s(home, step.name)))


def failed_tracks(home: Home) -> set[str]:
    """The ids of the tracks that could not be decoded."""
    return set(read_failures(home.shards(SpectrogramSettings().spec_id))["track_id"])


def told_of(later: Collection[str]) -> str:
    """What a check says of tracks that other runs brought or took since its step began."""
    return f"; {len(later)} that came or went meanwhile are left to the next run" if later else ""


@stage_check(
    asset=spectrogram_shards,
    blocking=True,
    description="Every track of the catalogue has a spectrogram, or a reason why not.",
)
def every_track_is_accounted_for(home: HomeFolder) -> dg.AssetCheckResult:
    """Catch shards that were deleted, cut short or written for other settings."""
    wanted = files_catalog.track_ids(files_catalog.read(home.open()))
    decoded = set(decoded_tracks(home.open()))
    lost = wanted - decoded - failed_tracks(home.open())
    # Which of them came since then is not known: what is lost as well, the next run's check finds.
    later = lost if catalogue_changed_since(home.open(), Spectrograms) else set()
    lost = lost - later
    return dg.AssetCheckResult(
        passed=not lost,
        description=f"{len(lost)} of {len(wanted)} tracks have neither spectrogram nor reason"
        + told_of(later),
        metadata={"tracks": len(wanted), "lost": len(lost), "examples": sorted(lost)[:10]},
    )


@stage_check(
    asset=spectrogram_shards,
    description=f"At most {FAILED_SHARE:.0%} of the files cannot be read or decoded.",
)
def few_files_failed(home: HomeFolder) -> dg.AssetCheckResult:
    """Warn when so much fails that the disk or a decoder is the likelier culprit."""
    files = files_catalog.songs(files_catalog.read(home.open()))
    unusable = pl.col("error").is_not_null() | pl.col("track_id").is_in(
        list(failed_tracks(home.open()))
    )
    lost = files.filter(unusable).height
    share = lost / max(files.height, 1)
    return dg.AssetCheckResult(
        passed=lost <= max(ALWAYS_ALLOWED, FAILED_SHARE * files.height),
        description=f"{lost} of {files.height} files ({share:.1%}); reasons: table failures",
        metadata={"failed files": lost, "share": share},
    )
