"""The training stage: decide whether to train, train, judge, and make the result the current model.

Belongs here: what surrounds the loop. Does not: the loop, or the network.
"""

import json
import logging
import os
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow.compute as pc

from fastdino import __version__
from fastdino.errors import UserError
from fastdino.home import Home
from fastdino.spectrograms import SpectrogramSettings
from fastdino.spectrograms import shards as shard_files
from fastdino.storage import alone, replacing
from fastdino.summary import Summary
from fastdino.training import labels as label_files
from fastdino.training import model as models
from fastdino.training import registry
from fastdino.training.judge import FIGURES, Listener, MelStatistics, figures, listen, sample
from fastdino.training.labels import Labels
from fastdino.training.loop import Run
from fastdino.training.model import SongModel, best_device
from fastdino.training.sampler import CropSampler
from fastdino.training.settings import GROWTH, TrainingSettings

log = logging.getLogger(__name__)

CURVE = "curve.png"


def run(home: Home, settings: TrainingSettings, *, afresh: bool = False) -> Summary:
    """Train an encoder and make it current, unless the current one still fits.

    It fits if it was made with the same recipe (training length and seed aside) from the same
    kind of spectrograms, and the collection has not grown by more than a fifth since.

    Args:
        home: where shards are found and models kept.
        settings: the recipe.
        afresh: train in any case.

    Raises:
        UserError: there are no spectrograms to train on.
    """
    # Locked before looking: what is wanted may be what another run is about to finish.
    with alone(home.models):
        return _train_if_due(home, settings, afresh=afresh)


def _train_if_due(home: Home, settings: TrainingSettings, *, afresh: bool) -> Summary:
    spec = SpectrogramSettings()
    index = shard_files.read_index(home.shards(spec.spec_id))
    n_tracks = pc.count_distinct(index["track_id"]).as_py()
    if not n_tracks:
        raise UserError(
            "there are no spectrograms to train on: run 'fastdino ingest FOLDER' and "
            "'fastdino spectrograms' first"
        )
    reason = "asked for" if afresh else _why_train(home, settings, spec.spec_id, n_tracks)
    if reason is None:
        model_id = registry.current_id(home)
        assert model_id is not None
        about, curve = registry.about(home, model_id), home.model(model_id) / CURVE
        return Summary(
            "train",
            f"model {model_id} still fits ({about['trained_tracks']} tracks then, {n_tracks} now)",
            did_work=False,
            counts={"tracks": n_tracks, **about["metrics"]},
            tables={"quality": _compared(about.get("quality", {}))},
            plots={"training curve": curve.read_bytes()} if curve.exists() else {},
            paths={"model": home.model(model_id)},
        )
    hours = pc.sum(index["n_frames"]).as_py() / spec.frames_per_s / 3600
    log.info("Training on %d tracks, %.1f hours: %s", n_tracks, hours, reason)
    return _train(home, settings, spec, n_tracks, hours)


def _train(
    home: Home, settings: TrainingSettings, spec: SpectrogramSettings, n_tracks: int, hours: float
) -> Summary:
    device = best_device()
    work = home.models / ".training"
    work.mkdir(parents=True, exist_ok=True)
    sampler = CropSampler.of(home.shards(spec.spec_id), device, settings.seed)
    training = Run(
        settings,
        sampler,
        hours=hours,
        frames_per_s=spec.frames_per_s,
        device=device,
        folder=work,
    )
    if training.step:
        log.info("Going on from step %d of an interrupted run", training.step)
    training.train()

    model, quality = finish(training, spec, label_files.read(home.catalog))
    metrics = quality["model"] | {"artist_1nn_mel": quality["mel mean+std"]["artist_1nn"]}
    metrics |= {"steps": training.step, "training_s": round(training.elapsed_s, 1)}
    heard_s = training.step * settings.songs * settings.crops * settings.crop_s
    metrics["passes"] = round(heard_s / 3600 / hours, 2)
    model_id = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{settings.preset}-{uuid.uuid4().hex[:4]}"
    about = {
        "model_id": model_id,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "spec_id": spec.spec_id,
        "settings": settings.as_json(),
        "trained_tracks": n_tracks,
        "code_version": __version__,
        "metrics": metrics,
        "quality": quality,
    }
    rows = [json.loads(line) for line in training.metrics.read_text().splitlines()]
    models.save(work, model, about)
    with replacing(work / CURVE) as part:
        part.write_bytes(_plot(rows))
    os.replace(work, home.model(model_id))
    registry.make_current(home, model_id)
    # Last, so that whoever is killed before can finish from it without training again.
    (home.model(model_id) / training.checkpoint.name).unlink()
    return Summary(
        "train",
        f"model {model_id}: {training.step} steps on {n_tracks} tracks in "
        f"{training.elapsed_s:.0f} s, effective rank {metrics['effective_rank']:.0f}",
        did_work=True,
        counts={"tracks": n_tracks, **metrics},
        tables={"quality": _compared(quality), "curve": rows[:: max(1, len(rows) // 20)]},
        plots={"training curve": (home.model(model_id) / CURVE).read_bytes()},
        paths={"model": home.model(model_id)},
    )


def _why_train(home: Home, settings: TrainingSettings, spec_id: str, n_tracks: int) -> str | None:
    model_id = registry.current_id(home)
    if model_id is None:
        return "there is no model yet"
    try:
        about = registry.about(home, model_id)
    except UserError:
        return f"the current model {model_id} cannot be read"
    if about["spec_id"] != spec_id:
        return "the spectrogram settings have changed"
    length = {"minutes": None, "seed": 0}
    if {**about["settings"], **length} != {**settings.as_json(), **length}:
        return "the recipe has changed"
    if n_tracks > (1 + GROWTH) * about["trained_tracks"]:
        return f"the collection has grown from {about['trained_tracks']} to {n_tracks} tracks"
    return None


def finish(
    training: Run, spec: SpectrogramSettings, labels: Mapping[str, Labels]
) -> tuple[SongModel, dict[str, dict[str, float | None]]]:
    """Make a model of a trained encoder: fit its projection, and see how good it is.

    Both on a sample of the tracks in memory.

    Returns:
        The model, and ``judge.figures`` by name of what they are of: "model", and beside it
        "mel mean+std" and "untrained".
    """
    settings = training.settings
    songs = sample(training.sampler)
    model, untrained = (
        SongModel.of(encoder, settings.dim).to(training.device)
        for encoder in (training.result, training.untrained())
    )
    listeners: dict[str, Listener] = {
        "model": model,
        "mel mean+std": MelStatistics(),
        "untrained": untrained,
    }
    heard = {name: listen(listener, songs, spec) for name, listener in listeners.items()}
    return model, {name: figures(each, labels) for name, each in heard.items()}


def _compared(quality: Mapping[str, Mapping[str, float | None]]) -> list[dict[str, Any]]:
    """One row a measure: the model's figure beside those of what costs no training."""
    if not quality:  # of a model made before this was kept
        return []
    return [
        {"measure": name} | {of: values[name] for of, values in quality.items()} for name in FIGURES
    ]


def _plot(curve: list[dict[str, Any]]) -> bytes:
    """Loss and rank over time, as a PNG."""
    import io

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    seconds = [row["elapsed_s"] for row in curve]
    figure, left = plt.subplots(figsize=(7, 3), layout="constrained")
    left.plot(seconds, [row["loss"] for row in curve], color="tab:blue")
    left.set(xlabel="seconds of training", ylabel="loss")
    left.yaxis.label.set_color("tab:blue")
    right = left.twinx()
    right.plot(seconds, [row["rank"] for row in curve], color="tab:orange")
    right.set(ylabel="effective rank of a batch", ylim=(0, None))
    right.yaxis.label.set_color("tab:orange")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110)
    plt.close(figure)
    return image.getvalue()
