"""Choosing the model in use, and removing models that nobody needs any more.

Belongs here: ``fastdino promote`` and ``fastdino forget``. Does not: which models there are
(``registry``), how they differ (``reports.model_comparison``), or what follows from another
choice, which is the next stages' work.
"""

import contextlib

from fastdino.core.errors import UserError
from fastdino.core.home import Home
from fastdino.core.storage import exclusive_lock, folders, remove_folder, withdraw
from fastdino.core.summary import Summary
from fastdino.training import registry

CANDIDATE, PREVIOUS = "candidate", "previous"
# A model's folder on its way out: were it deleted where it stands, a kill would leave half of it.
GOING = ".forgotten"


def promote(home: Home, wanted: str = CANDIDATE) -> Summary:
    """Let everything that is published be made with another model from now on.

    Given again, it changes nothing: there is no candidate then, or no promotion to undo.

    Args:
        home: where models are.
        wanted: a model's name, "candidate", or "previous": the one before the last promotion.

    Raises:
        UserError: there is no such model, or it cannot be used; or the candidate is another one by
            the time that a training has ended, which nobody has compared yet.
    """
    seen = registry.candidate(home) if wanted == CANDIDATE else None
    with exclusive_lock(home.models):
        # A damaged choice is no reason to make no other.
        current = previous = None
        with contextlib.suppress(UserError):
            current, previous = registry.current_id(home), registry.previous_id(home)
        if wanted == CANDIDATE:
            candidate = registry.candidate(home)
            chosen = candidate["model_id"] if candidate else None
            if chosen and chosen != (seen and seen["model_id"]):
                raise UserError(
                    f"model {chosen} was made while this waited and is the candidate now: run "
                    "'fastdino promote' again for that one, or with the name of another"
                )
        else:
            chosen = previous if wanted == PREVIOUS else wanted
        if chosen is None or chosen == current:
            why = {
                CANDIDATE: "no candidate is waiting",
                PREVIOUS: "there is no promotion to undo",
            }.get(wanted, "it is in use already")
            return Summary(
                "promote",
                f"{why}; everything stays with model {registry.current(home)['model_id']}",
                did_work=False,
            )
        names = registry.model_ids(home)
        if chosen not in names:
            raise UserError(_unknown(chosen, names))
        described = registry.metadata(home, chosen)
        try:
            registry.read_weights(home.model(chosen), described)
        except (FileNotFoundError, ValueError) as error:
            raise UserError(
                f"model {chosen} cannot be used ({error}): promote another, or bring "
                f"{home.model(chosen)} back from a backup"
            ) from error
        # Nothing to go back to after an undo: given twice, it must not be undone itself.
        registry.make_current(home, chosen, current if wanted != PREVIOUS else None)
    before = f" instead of {current}" if current else ""
    undo = "" if wanted == PREVIOUS or not current else "; 'fastdino promote previous' undoes it"
    return Summary(
        "promote",
        f"model {chosen} is in use{before}{undo}",
        did_work=True,
        counts={"model": chosen, "before": current},
        paths={"model": home.model(chosen)},
    )


def forget(home: Home, model_id: str) -> Summary:
    """Delete a model that is not in use, with its vectors and maps.

    Killed on the way it can be given again: the model itself goes last. Where nothing has that name
    there is nothing to do, as it may have been killed after that.

    Raises:
        UserError: the model is in use, or which one is cannot be told.
    """
    going, vectors = home.models / GOING, home.vectors(model_id)
    with contextlib.ExitStack() as held:
        held.enter_context(exclusive_lock(home.models))
        # Of a model that was half forgotten there may be one kind of folder and not the others.
        kinds = [home.maps(model_id).parent, vectors.parent, home.models]
        names = sorted({path.name for kind in kinds for path in folders(kind)})
        if model_id not in names:
            return Summary("forget", _unknown(model_id, names), did_work=False)
        if vectors in folders(vectors.parent):
            held.enter_context(exclusive_lock(vectors))
        current = registry.current_id(home)
        if current is None and registry.model_ids(home):
            raise registry.unchosen(home)
        if model_id == current:
            raise UserError(f"model {model_id} is in use: promote another one first")
        size_mb = registry.size_mb(home, model_id)
        for folder in (going, home.maps(model_id), vectors):
            remove_folder(folder)
        withdraw(home.model(model_id), first="model.json")
        if home.model(model_id).is_dir():
            home.model(model_id).rename(going)
            remove_folder(going)
    return Summary(
        "forget",
        f"model {model_id} is gone, with its vectors and maps ({size_mb:,.1f} MB)",
        did_work=True,
        counts={"model": model_id, "size_mb": round(size_mb, 1)},
    )


def _unknown(model_id: str, names: list[str]) -> str:
    return f"there is no model {model_id!r}: there are {', '.join(names) or 'none yet'}"
