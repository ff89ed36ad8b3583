"""The training stage: decide whether to train, train, judge, and put the model beside the others.

Belongs here: what surrounds the loop. Does not: the loop, the network, or which model is in use
(``registry``, ``promotion``).

The first model is current at once. Any other is a candidate: it waits beside the current one until
a person promotes it.
"""

import contextlib
import dataclasses
import json
import logging
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import torch

from fastdino import __version__
from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.storage import atomic_replace, exclusive_lock, exists, fetched, move_folder
from fastdino.core.summary import Summary
from fastdino.spectrograms import SpectrogramSettings
from fastdino.spectrograms import shards as shard_files
from fastdino.training import labels as label_files
from fastdino.training import model as models
from fastdino.training import ranks, registry, staleness
from fastdino.training.device import best_device
from fastdino.training.evaluation import (
    FIGURES,
    FeatureExtractor,
    MelStatistics,
    embed_sample,
    evaluate,
    evaluation_sample,
)
from fastdino.training.labels import Labels
from fastdino.training.loop import CHECKPOINT, Run, Start
from fastdino.training.model import SongModel
from fastdino.training.sampler import CropSampler
from fastdino.training.settings import METHOD, Collection, EncoderSettings, TrainingSettings

log = logging.getLogger(__name__)

CURVE = "curve.png"


def run(
    home: Home, settings: TrainingSettings, *, afresh: bool = False, warm: bool = False
) -> Summary | None:
    """Train an encoder, unless the current model or the candidate fits.

    A model fits if it was made with the same recipe (training length and seed aside) from the same
    kind of spectrograms, and the collection has at most a fifth as many songs that are new to it as
    songs that it was trained on.

    Args:
        home: where shards are found and models kept.
        settings: the recipe.
        afresh: train in any case.
        warm: begin with the weights of the current model, if there is one, not with random ones,
            and train for less.

    Returns:
        What was done; None on every rank but the first, which looks, judges and writes.

    Raises:
        UserError: there are no spectrograms to train on, it cannot be told which model is in use,
            that one is of another shape than is to begin with its weights, or a batch cannot be
            shared out to the ranks.
    """
    spec = SpectrogramSettings()
    if ranks.rank():
        if plan := ranks.led():
            recipe = settings.warm() if plan["warm"] else settings
            recipe = dataclasses.replace(recipe, encoder=EncoderSettings.of(plan["encoder"]))
            _training(home, recipe, spec, Collection(**plan["collection"]), None).train()
        return None
    # Locked before looking: what is wanted may be what another run is about to finish.
    with exclusive_lock(home.models), ranks.leading() as say:
        ranks.share(settings.songs, ranks.world())
        index = shard_files.read_index(home.shards(spec.spec_id))
        if not index.num_rows:
            raise UserError(
                "there are no spectrograms to train on: run 'fastdino ingest FOLDER' and "
                "'fastdino spectrograms' first"
            )
        current, made = _in_use(home), None
        recipe = settings.warm() if warm and current else settings
        if (finished := _finished(_work(home))) is not None:
            log.info("Putting in place model %s, which an ended run had made", finished["model_id"])
            made, current = _put_in_place(home, current), _in_use(home)
            afresh = afresh and _asked(finished["settings"]) != _asked(recipe.as_json())
        decoded, labels = set(index["track_id"].to_pylist()), label_files.read(home.catalog)
        # Where only training runs there is no catalogue.
        tracks = decoded & labels.keys() if labels else decoded
        reason = (
            "asked for" if afresh else _why_train(home, settings, spec.spec_id, tracks, current)
        )
        if reason is None:
            return made or _still_fits(home, settings, spec.spec_id, tracks)
        start = _start(home, settings, spec.spec_id, current) if warm and current else None
        log.info("Training on %d tracks: %s", len(decoded), reason)
        collection = Collection.of(index, spec.frames_per_s)
        if start:
            recipe = dataclasses.replace(settings.warm(), encoder=start.encoder.settings)
        else:
            recipe = settings.with_time(collection)
            if recipe.encoder != settings.encoder:
                log.info("There is time for a wider encoder: %d channels", recipe.encoder.dim)
        say(
            warm=start is not None,
            encoder=dataclasses.asdict(recipe.encoder),
            collection=dataclasses.asdict(collection),
        )
        _train(home, recipe, spec, decoded, labels, collection, start)
        return _put_in_place(home, current)


def _work(home: Home) -> Path:
    """The folder of the model that is being made."""
    return home.models / ".training"


def _finished(work: Path) -> dict[str, Any] | None:
    """What is said of a model that a killed run had only to put in place; it is written last."""
    try:
        return registry.read_metadata(work / "model.json")
    except UserError:
        return None


def _in_use(home: Home) -> str | None:
    """The current model; the only one there is becomes it. None if there is none at all.

    Raises:
        UserError: there are several and none is chosen.
    """
    names, current = registry.model_ids(home), registry.current_id(home)
    if current in names or not names:
        return current if names else None
    if len(names) > 1:
        raise registry.unchosen(home)
    registry.make_current(home, names[0])
    return names[0]


def _train(
    home: Home,
    settings: TrainingSettings,
    spec: SpectrogramSettings,
    tracks: set[str],
    labels: Mapping[str, Labels],
    collection: Collection,
    start: Start | None,
) -> None:
    """Train and judge a model, and write it into the folder of the one that is being made."""
    work = _work(home)
    work.mkdir(parents=True, exist_ok=True)
    begun = registry.trained_on(work) or set()
    if staleness.outgrown(len(tracks & begun), len(tracks - begun)):
        (work / CHECKPOINT).unlink(missing_ok=True)
    training = _training(home, settings, spec, collection, start)
    if training.step:
        log.info("Going on from step %d of an interrupted run", training.step)
        # What has come since is heard too late to count as known.
        tracks = begun
    registry.write_trained_on(work, tracks)
    training.train()

    model, quality = finish(training, spec, labels)
    metrics = quality["model"] | {"artist_1nn_mel": quality["mel mean+std"]["artist_1nn"]}
    metrics |= {"steps": training.step, "training_s": round(training.elapsed_s, 1)}
    heard_s = training.step * settings.songs * settings.crops * settings.crop_s
    metrics["passes"] = round(heard_s / 3600 / collection.hours, 2)
    made_at = _now(home)
    about = {
        "model_id": f"{made_at:%Y%m%dT%H%M%S}-{settings.preset}-{uuid.uuid4().hex[:4]}",
        "created_at": made_at.isoformat(timespec="seconds"),
        "spec_id": spec.spec_id,
        "settings": settings.as_json(),
        "method": METHOD,
        "started_from": start.model_id if start else None,
        "trained_tracks": len(tracks),
        "code_version": __version__,
        "metrics": metrics,
        "quality": quality,
    }
    with atomic_replace(work / CURVE) as part:
        part.write_bytes(_plot(_measured(work)))
    models.save(work, model, about)


def _training(
    home: Home,
    settings: TrainingSettings,
    spec: SpectrogramSettings,
    collection: Collection,
    start: Start | None,
) -> Run:
    """The run that is to be, or was interrupted; on all ranks at the same time."""
    device = best_device()
    return Run(
        settings,
        CropSampler.of(home.shards(spec.spec_id), device, settings.seed),
        collection=collection,
        frames_per_s=spec.frames_per_s,
        device=device,
        folder=_work(home),
        start=start,
    )


def _now(home: Home) -> datetime:
    """The time, or what counts as such: later than any model was made, whatever the clock says."""
    known, _ = registry.models(home)
    earliest = [registry.made_at(each) + timedelta(seconds=1) for each in known[-1:]]
    return max([datetime.now(UTC), *earliest])


def _put_in_place(home: Home, current: str | None) -> Summary:
    """Move a finished model beside the others, where it is current if there is no other."""
    work = _work(home)
    about = registry.read_metadata(work / "model.json")
    # Nothing is left to go on from it for.
    (work / CHECKPOINT).unlink(missing_ok=True)
    folder = home.model(about["model_id"])
    move_folder(work, folder, last="model.json")
    _in_use(home)
    metrics, rows = about["metrics"], _measured(folder)
    what, then = ("candidate", "; it waits for 'fastdino promote'") if current else ("model", "")
    return Summary(
        "train",
        f"{what} {about['model_id']}: {metrics['steps']} steps on {about['trained_tracks']} tracks "
        f"in {metrics['training_s']:.0f} s, effective rank {metrics['effective_rank']:.0f}{then}",
        did_work=True,
        counts={"tracks": about["trained_tracks"], **metrics},
        tables={
            "quality": _compared(about["quality"]),
            "curve": rows[:: max(1, len(rows) // 20)],
        },
        plots=_curve(folder),
        paths={"model": folder},
    )


def _still_fits(home: Home, settings: TrainingSettings, spec_id: str, tracks: set[str]) -> Summary:
    candidate = registry.candidate(home)
    waits = candidate and _misfit(home, candidate, settings, spec_id, tracks) is None
    about = candidate if candidate and waits else registry.current(home)
    _, new = staleness.known_and_new(home, about, tracks)
    folder = home.model(about["model_id"])
    fits = f"fits: {new} of {len(tracks)} songs are new to it"
    # Nothing is trained unasked because the program is another one.
    if _of_a_method_before(about) and not waits:
        fits += "; today's method is another one: 'fastdino train --afresh' makes a candidate by it"
    return Summary(
        "train",
        f"candidate {folder.name} {fits}; it waits for 'fastdino promote'"
        if waits
        else f"model {folder.name} still {fits}",
        did_work=False,
        counts={"tracks": len(tracks), **about["metrics"]},
        tables={"quality": _compared(about.get("quality", {}))},
        plots=_curve(folder),
        paths={"model": folder},
    )


def _why_train(
    home: Home,
    settings: TrainingSettings,
    spec_id: str,
    tracks: set[str],
    current: str | None,
) -> str | None:
    if current is None:
        return "there is no model yet"
    misfit = _misfit(home, registry.metadata(home, current), settings, spec_id, tracks)
    candidate = registry.candidate(home)
    if misfit and candidate and not _misfit(home, candidate, settings, spec_id, tracks):
        return None
    return misfit


def _asked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe without its encoder, which follows from the preset and from what time there is."""
    return {name: value for name, value in settings.items() if name != "encoder"}


def _of_a_method_before(about: Mapping[str, Any]) -> bool:
    return bool(about.get("method", 1) < METHOD)


def _misfit(
    home: Home, about: dict[str, Any], settings: TrainingSettings, spec_id: str, tracks: set[str]
) -> str | None:
    """Why a model does not fit; None if it does."""
    if about["spec_id"] != spec_id:
        return "the spectrogram settings have changed"
    recipe = settings.warm() if about.get("started_from") else settings
    # Another length or seed is no other recipe.
    same = {"minutes": None, "seed": 0}
    today = _asked(recipe.as_json()) | same
    # What the program of before did not let one set is no change of what was.
    then = today | _asked(about["settings"]) | same
    # Nor are a preset's numbers, which change with the method.
    other_numbers = then != today and not _of_a_method_before(about)
    if other_numbers or then["preset"] != today["preset"]:
        return "the recipe has changed"
    known, new = staleness.known_and_new(home, about, tracks)
    if staleness.outgrown(known, new):
        return f"{new} of {len(tracks)} songs are new to model {about['model_id']}"
    return None


def _start(home: Home, settings: TrainingSettings, spec_id: str, current: str) -> Start:
    """The weights of the current model.

    Raises:
        UserError: it cannot be read, or does not begin with the shape that the recipe asks for.
    """
    model, about = models.load(home.model(current), torch.device("cpu"))
    # Models of a method before have a second stage.
    stages = len(settings.encoder.widths)
    shape = model.encoder.settings.first(stages)
    if about["spec_id"] != spec_id or shape not in (settings.encoder, settings.wider):
        raise UserError(
            f"training cannot begin with the weights of model {current}: it is of another size or "
            "of other spectrograms; leave --warm away, or give the preset that it was made with"
        )
    return Start(current, model.encoder.first(stages))


def finish(
    training: Run, spec: SpectrogramSettings, labels: Mapping[str, Labels]
) -> tuple[SongModel, dict[str, dict[str, float | None]]]:
    """Make a model of a trained encoder: fit its projection, and see how good it is.

    Both on a sample of the tracks in memory.

    Returns:
        The model, and ``evaluation.evaluate`` by name of what they are of: "model", and beside it
        "mel mean+std" and "untrained".
    """
    settings = training.settings
    songs = evaluation_sample(training.sampler)
    model, untrained = (
        SongModel.of(encoder, settings.dim).to(training.device)
        for encoder in (training.result, training.untrained())
    )
    extractors: dict[str, FeatureExtractor] = {
        "model": model,
        "mel mean+std": MelStatistics(),
        "untrained": untrained,
    }
    vectors = {name: embed_sample(each, songs, spec) for name, each in extractors.items()}
    return model, {name: evaluate(each, labels) for name, each in vectors.items()}


def _compared(quality: Mapping[str, Mapping[str, float | None]]) -> list[dict[str, Any]]:
    """One row a measure: the model's figure beside those of what costs no training."""
    if not quality:  # of a model made before this was kept
        return []
    # One made since may be of before a measure was.
    return [
        {"measure": name} | {of: values.get(name) for of, values in quality.items()}
        for name in FIGURES
    ]


def _measured(folder: Path) -> list[dict[str, Any]]:
    """The rows of ``metrics.jsonl``; those that cannot be read are left out."""
    rows = []
    for line in fetched(folder / "metrics.jsonl").read_text(errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            rows.append(json.loads(line))
    return rows


def _curve(folder: Path) -> dict[str, bytes]:
    picture = folder / CURVE
    return {"training curve": fetched(picture).read_bytes()} if exists(picture) else {}


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
