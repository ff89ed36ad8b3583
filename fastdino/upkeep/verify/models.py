"""Checking models, and the training that was interrupted.

Belongs here: whether weights can be loaded, and descriptions read. Does not: how good a model is.

A model cannot be made again: training another gives other vectors. So nothing of one is ever
deleted here, and damaged weights are left to a person.
"""

import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.storage import exists, folders, rename, unlink
from fastdino.training import registry
from fastdino.training.promotion import GOING
from fastdino.upkeep.verify import recovery
from fastdino.upkeep.verify.finding import DAMAGE, Finding, Findings, Mender, reason


def check(home: Home, *, repair: bool) -> Generator[Finding, None, set[str]]:
    """Check all models, which one is current, and the checkpoint of an interrupted training.

    Returns:
        The models that can compute vectors.
    """
    working: set[str] = set()
    for folder in folders(home.models):
        yield from _check_description(home, folder, repair=repair)
        if isinstance(describe(home, folder.name), str):
            continue
        wrong = _wrong_weights(folder)
        if wrong is None:
            working.add(folder.name)
        else:
            yield Finding(
                folder / registry.WEIGHTS,
                wrong,
                "bring the file back from a backup, or train another model with "
                "`fastdino train --afresh` and put it to use with `fastdino promote`; the vectors "
                "that this one made stay in use until then",
                Mender.PERSON,
            )
        yield from _check_tracks(folder / registry.TRACKS, repair=repair)
    yield from _check_current(home, working, repair=repair)
    yield from _check_checkpoint(home.models / ".training" / "checkpoint.safetensors", repair)
    yield from _check_going(home.models / GOING, repair)
    return working


def describe(home: Home, model_id: str) -> dict[str, Any] | str:
    """What ``model.json`` says of a model, or what is wrong with it."""
    try:
        about = registry.metadata(home, model_id)
    except UserError as error:
        return reason(home.model(model_id) / "model.json", error)
    if not isinstance(about.get("encoder"), dict):
        return "it does not say what the model's encoder is"
    return about


def _check_description(home: Home, folder: Path, *, repair: bool) -> Findings:
    wrong = describe(home, folder.name)
    if not isinstance(wrong, str):
        return
    path = folder / "model.json"
    about = recovery.model(home, folder.name)
    if about is None:
        yield Finding(
            path,
            wrong,
            "bring it back from a backup, or move the folder away and train another model with "
            "`fastdino train --afresh`",
            Mender.PERSON,
        )
        return
    known = "written anew from what music.duckdb knows of the model"
    if "method" not in about:
        known += "; by which method it was trained and how good it was is not known"
    found = Finding(path, wrong, known)

    def mend() -> None:
        if exists(path):
            rename(path, path.with_name(path.name + ".damaged"))
        registry.write_metadata(folder, about)

    yield found.settled(mend, repair=repair)


def _wrong_weights(folder: Path) -> str | None:
    import torch

    from fastdino.training import model as models

    try:
        model, _ = models.load(folder, torch.device("cpu"))
    except UserError as error:
        return reason(folder / registry.WEIGHTS, error)
    finite = all(bool(tensor.isfinite().all()) for tensor in model.state_dict().values())
    return None if finite else "some of its weights are not numbers"


def _check_current(home: Home, working: set[str], *, repair: bool) -> Findings:
    path = home.models / "current.json"
    try:
        current = registry.current_id(home)
        wrong = "it is missing" if current is None else f"it names {current}, which is not there"
    except UserError as error:
        current, wrong = None, reason(path, error)
    there = current is not None and home.model(current) in folders(home.models)
    if there or not (working or exists(path)):
        return
    published = recovery.current_model(home)
    chosen = published if published in working else max(working, default=None)
    if chosen is None:
        yield Finding(path, wrong, "delete it and run `fastdino train`", Mender.PERSON)
        return
    why = "the one that is published" if chosen == published else "the newest"
    found = Finding(path, wrong, f"model {chosen} is made current, {why}")
    yield found.settled(lambda: registry.make_current(home, chosen), repair=repair)


def _check_checkpoint(path: Path, repair: bool) -> Findings:
    if not path.exists():
        return
    from safetensors import SafetensorError

    from fastdino.training.loop import read_checkpoint

    try:
        read_checkpoint(path)
    except (*DAMAGE, SafetensorError) as error:
        mend = "deleted; the training that was interrupted begins anew"
        found = Finding(path, reason(path, error), mend)
        yield found.settled(path.unlink, repair=repair)


def _check_tracks(path: Path, *, repair: bool) -> Findings:
    # Models of before this was kept have none.
    if not exists(path):
        return
    try:
        registry.read_trained_on(path)
    except DAMAGE as error:
        found = Finding(
            path,
            reason(path, error),
            "deleted; which songs are new to the model is then told from their number alone",
        )
        yield found.settled(lambda: unlink(path), repair=repair)


def _check_going(folder: Path, repair: bool) -> Findings:
    if folder.is_dir():
        found = Finding(folder, "left by a `forget` that was killed", "deleted", Mender.NOBODY)
        yield found.settled(lambda: shutil.rmtree(folder), repair=repair)
