"""Stage 3: learning to hear, from the collection itself.

Belongs here: the asset ``fastdino_model``, its options, the checks on what was learned. Does not:
the encoder, the objective, the loop (``fastdino.training``).
"""

from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from assets.spectrograms import spectrogram_shards, wanted_tracks
from assets.stage import GPU_POOL, HomeFolder, Pipes, config_of, run_steps, stage_asset, stage_check
from fastdino.core.home import Home
from fastdino.embeddings.drift import mostly_new_neighbors
from fastdino.embeddings.vectors import read_songs
from fastdino.ingestion import catalog as files_catalog
from fastdino.steps import Train
from fastdino.training import registry, staleness
from fastdino.training.staleness import GROWTH

# The published objective collapses to a rank of about 6; sound ones are far above 20. A small
# collection cannot fill many dimensions, hence the share.
LEAST_RANK = 20.0
LEAST_RANK_PER_TRACK = 0.1
# Of growth, how much may be songs of a new kind.
NOVELTY = GROWTH / 10
LEAST_NOVELTY = 10
# What a model is held against, and by what; the first measure that is known decides.
FLOOR = "mel mean+std"
ARTIST_MEASURES = {"artist_map": "artist mAP", "artist_1nn": "artist 1-NN"}


class TrainingConfig(config_of(Train)):  # type: ignore[misc]
    """Options of training."""


@stage_asset(
    Train,
    deps=[spectrogram_shards],
    kinds={"pytorch", "safetensors"},
    pool=GPU_POOL,
)
def fastdino_model(
    context: dg.AssetExecutionContext,
    config: TrainingConfig,
    home: HomeFolder,
    pipes: Pipes,
) -> dg.MaterializeResult:
    """An encoder trained on this collection, without labels.

    Trains only if there is no model yet, the collection has outgrown it, or `afresh` asks for it;
    goes on from its checkpoint after a kill. A model is never overwritten, and only the first one
    is put to use at once: another is a candidate, and waits until the job `promote` is run. How
    good it is, beside what costs no training, and how its training went are shown with every
    materialisation.

    - Lies in: `models/<model_id>/model.safetensors`, `model.json`, `metrics.jsonl`
    - Without Dagster: `.venv/bin/fastdino train --minutes 5`
    """
    return run_steps(context, pipes, home, Train(**config.model_dump(mode="json")))


def _newest(home: Home) -> dict[str, Any]:
    """What is said of the model trained last that is in use or may be: the candidate, if any."""
    return registry.candidate(home) or registry.current(home)


def _result(passed: bool, description: str, **metadata: float) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=passed, description=description, metadata=metadata)


@stage_check(
    asset=fastdino_model,
    description="The vectors spread over many dimensions (effective rank).",
)
def model_has_not_collapsed(home: HomeFolder) -> dg.AssetCheckResult:
    """Warn when training has mapped all songs to nearly the same few directions."""
    model = _newest(home.open())
    rank = model["metrics"].get("effective_rank")
    if rank is None:
        return _result(True, "the effective rank was not measured")
    least = min(LEAST_RANK, LEAST_RANK_PER_TRACK * model["trained_tracks"])
    return _result(
        rank >= least,
        f"effective rank {rank:.1f} of {model['dim']}, at least {least:.1f} is sound; "
        "train longer or on more songs if it is lower",
        effective_rank=rank,
    )


@stage_check(
    asset=fastdino_model,
    description="The model finds songs of the same artist better than plain mel statistics do.",
)
def model_beats_mel_statistics(home: HomeFolder) -> dg.AssetCheckResult:
    """Warn when a model is not worth its training.

    Decided by mean average precision: it counts where all songs of an artist stand, not only
    whether the nearest song is one, and so depends a third as much on which songs there are. On
    300 of them the nearest neighbours alone could not tell an untrained encoder from mel
    statistics. They are shown beside it, for they are what people hear.
    """
    model = _newest(home.open())
    metrics = model["metrics"]
    # Models of before there was a table of quality know one measure.
    quality = model.get("quality") or {
        "model": {"artist_1nn": metrics.get("artist_1nn")},
        FLOOR: {"artist_1nn": metrics.get("artist_1nn_mel")},
    }
    known = {
        measure: pair
        for measure in ARTIST_MEASURES
        if None not in (pair := tuple(quality[of].get(measure) for of in ("model", FLOOR)))
    }
    if not known:
        return _result(True, "not known: too few songs have an artist tag")
    ours, mel = next(iter(known.values()))
    found = "; ".join(
        f"{ARTIST_MEASURES[measure]} {of_model:.3f}, mel statistics {of_floor:.3f}"
        for measure, (of_model, of_floor) in known.items()
    )
    then = (
        "" if ours >= mel else ": run the job train with more minutes, or when there is more music"
    )
    return _result(
        ours >= mel,
        found + then,
        **{measure: of_model for measure, (of_model, _) in known.items()},
        **{f"{measure}_mel": of_floor for measure, (_, of_floor) in known.items()},
    )


@stage_check(
    asset=fastdino_model,
    additional_deps=[spectrogram_shards, "promotion"],
    description=f"The collection has grown less than {GROWTH:.0%} since training.",
)
def model_fits_the_collection(home: HomeFolder) -> dg.AssetCheckResult:
    """Warn when it is time to run the job ``train``."""
    model, candidate = registry.current(home.open()), registry.candidate(home.open())
    tracks = wanted_tracks(home.open())
    known, new = staleness.known_and_new(home.open(), model, tracks)
    fits = not staleness.outgrown(known, new)
    growth = new / max(known, 1)
    now = f"{new} of {len(tracks)} songs are new to the model ({growth:+.0%})"
    then = f"past {GROWTH * known:.0f} a new one is due"
    if not fits:
        then = "run the job train"
        if candidate and not staleness.outgrown(
            *staleness.known_and_new(home.open(), candidate, tracks)
        ):
            then = f"candidate {candidate['model_id']} is waiting; run the job promote"
    return _result(
        fits, f"{now}; {then}", tracks=len(tracks), new_songs=new, known_songs=known, growth=growth
    )


@stage_check(
    asset=fastdino_model,
    # By name: that module imports this one.
    additional_deps=["embedding_vectors", "promotion"],
    description="Songs added since training mingle with those that the model was trained on.",
)
def new_songs_are_of_a_known_kind(home: HomeFolder) -> dg.AssetCheckResult:
    """Warn when songs arrive that the model has had little occasion to learn to tell apart.

    That is those of which most of the nearest songs were not trained on either (see
    ``embeddings.drift``).
    """
    model = registry.current(home.open())
    trained = registry.trained_on(home.open().model(model["model_id"]))
    tracks = files_catalog.tracks(files_catalog.read(home.open()))
    ids, vectors = read_songs(home.open(), model["model_id"], set(tracks["track_id"]))
    if trained is None:
        return _result(True, "not known: it was not kept which songs the model was trained on")
    new = np.array([track not in trained for track in ids], bool)
    if not new.any():
        return _result(True, "no song is newer than the model", new_songs=0)
    folder = pl.col("path").str.replace(r"/[^/]*$", "")
    artists = tracks.select("track_id", artist=pl.coalesce(pl.col("artists").list.first(), folder))
    order = pl.DataFrame({"track_id": ids}).join(artists, on="track_id", maintain_order="left")
    unlike = round(new.sum() * mostly_new_neighbors(vectors, order["artist"].to_list(), new).mean())
    worth = max(LEAST_NOVELTY, round(NOVELTY * (~new).sum()))
    found = f"{unlike} of {new.sum()} new songs have mostly new songs for neighbours"
    then = f"; from {worth} on a new model is due"
    if unlike >= worth:
        then = ": the model has hardly heard their like; run the job train with afresh: true"
    return _result(
        unlike < worth,
        f"{found}{then}",
        new_songs=int(new.sum()),
        mostly_new_neighbors=unlike,
        worth_training_from=worth,
    )
