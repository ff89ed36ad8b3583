"""Which models there are, and which one is in use.

Belongs here: ``model.json`` and ``current.json``. Does not: weights, or anything that needs torch.
"""

from typing import Any

from fastdino.errors import UserError
from fastdino.home import Home
from fastdino.storage import read_json, write_json


def about(home: Home, model_id: str) -> dict[str, Any]:
    """What ``model.json`` says of one model.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = home.model(model_id) / "model.json"
    try:
        return dict(read_json(path))
    except (FileNotFoundError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): train a new model with 'fastdino train --afresh'"
        ) from error


def current_id(home: Home) -> str | None:
    """The id of the model in use, or None before the first training.

    Raises:
        UserError: the file that says so is damaged.
    """
    path = home.models / "current.json"
    try:
        return str(read_json(path)["model_id"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path} is damaged: write {{"model_id": "NAME"}} into it, with the name of a folder '
            f"beside it, or delete it and run 'fastdino train'"
        ) from error


def current(home: Home) -> dict[str, Any]:
    """What ``model.json`` says of the model in use.

    Raises:
        UserError: no model has been trained yet.
    """
    model_id = current_id(home)
    if model_id is None:
        raise UserError(f"there is no model under {home.models} yet: run 'fastdino train' first")
    return about(home, model_id)


def make_current(home: Home, model_id: str) -> None:
    """Let everything after training use this model from now on."""
    write_json(home.models / "current.json", {"model_id": model_id})
