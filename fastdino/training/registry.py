"""Which models there are, and which one is in use.

Belongs here: ``model.json``, ``tracks.parquet`` and ``current.json``, and whether a model's weights
are still those it was saved with. Does not: what is in the weights, or anything that needs torch.

One model is current: all that is published is made with it. ``current.json`` names it, and the one
before it, so that a promotion can be undone. The candidate is not stored anywhere: it is the newest
of the models that are newer than the current one.
"""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fastdino.core.errors import UserError, disk_trouble
from fastdino.core.home import Home
from fastdino.core.storage import (
    atomic_replace,
    fetched,
    listed,
    read_json,
    stamps,
    write_json,
)

WEIGHTS = "model.safetensors"
TRACKS = "tracks.parquet"
# What every reader of ``model.json`` may rely on.
NEEDED: dict[str, type] = {
    "model_id": str,
    "created_at": str,
    "dim": int,
    "spec_id": str,
    "trained_tracks": int,
    "settings": dict,
    "metrics": dict,
}


def metadata(home: Home, model_id: str) -> dict[str, Any]:
    """What ``model.json`` says of one model, with all of ``NEEDED`` in it.

    Raises:
        UserError: the file is missing, damaged, or of another model.
    """
    path = home.model(model_id) / "model.json"
    described = read_metadata(path)
    if described["model_id"] != model_id:
        raise _unreadable(path, ValueError(f"it describes model {described['model_id']}"))
    return described


def read_metadata(path: Path) -> dict[str, Any]:
    """A ``model.json``, wherever it lies.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        described = read_checked(path)
        for name, kind in NEEDED.items():
            if not isinstance(described.get(name), kind):
                raise ValueError(f"it does not say what the model's {name} is")
        made_at(described)
    except (FileNotFoundError, ValueError) as error:
        raise _unreadable(path, error) from error
    return described


def read_checked(path: Path) -> dict[str, Any]:
    """A ``model.json``, whatever it says.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not what was written. One of before digests were kept has none.
    """
    described = read_json(path)
    if not isinstance(described, dict):
        raise ValueError("it is no description of a model")
    digest = described.pop("digest", None)
    if digest not in (None, _digest(described)):
        raise ValueError("it is not what was written")
    return described


def write_metadata(folder: Path, described: dict[str, Any]) -> None:
    """Write ``model.json``, with what tells it from a damaged one."""
    write_json(folder / "model.json", {**described, "digest": _digest(described)})


def _digest(described: dict[str, Any]) -> str:
    text = json.dumps(described, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _unreadable(path: Path, why: Exception) -> UserError:
    error = UserError(
        f"{path} cannot be read ({why}): run 'fastdino verify --repair', or train another model "
        "with 'fastdino train --afresh' and put it to use with 'fastdino promote'"
    )
    error.__cause__ = why
    return error


def made_at(described: dict[str, Any]) -> datetime:
    """When a model was made; models are older or newer by this."""
    made = datetime.fromisoformat(described["created_at"])
    return made if made.tzinfo else made.replace(tzinfo=UTC)


def model_ids(home: Home) -> list[str]:
    """Names of all finished models, readable or not; one still in training is not among them."""
    return [path.parent.name for path in listed(home.models, "[!.]*/model.json")]


def models(home: Home) -> tuple[list[dict[str, Any]], list[str]]:
    """What is said of every finished model, the oldest first; and why that of others is not."""
    found, damaged = [], []
    for model_id in model_ids(home):
        try:
            found.append(metadata(home, model_id))
        except UserError as error:
            damaged.append(str(error))
    return sorted(found, key=lambda each: (made_at(each), each["model_id"])), damaged


def current_id(home: Home) -> str | None:
    """The name of the model in use, or None before the first training.

    Raises:
        UserError: the file that says so is damaged.
    """
    return _pointer(home).get("model_id")


def previous_id(home: Home) -> str | None:
    """The name of the model that a promotion took out of use, unless that was undone.

    Raises:
        UserError: the file that says so is damaged.
    """
    return _pointer(home).get("previous")


def _pointer(home: Home) -> dict[str, str]:
    path = home.models / "current.json"
    try:
        pointer = {name: str(value) for name, value in read_json(path).items() if value}
        return {"model_id": pointer.pop("model_id"), **pointer}
    except FileNotFoundError:
        return {}
    except (ValueError, LookupError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged: run 'fastdino verify --repair', or 'fastdino promote NAME' with "
            "the name of a folder beside it"
        ) from error


def current(home: Home) -> dict[str, Any]:
    """What ``model.json`` says of the model in use.

    Raises:
        UserError: there is none, or what is said of it cannot be read.
    """
    model_id = current_id(home)
    if model_id is None:
        raise unchosen(home)
    return metadata(home, model_id)


def unchosen(home: Home) -> UserError:
    """What to tell a person where no model is in use."""
    names = model_ids(home)
    if not names:
        return UserError(f"there is no model under {home.models} yet: run 'fastdino train' first")
    return UserError(
        f"{home.models / 'current.json'} does not say which model is in use: run 'fastdino promote "
        f"NAME' with one of {', '.join(names)}, or 'fastdino verify --repair' for the one that is "
        "published"
    )


def candidate(home: Home) -> dict[str, Any] | None:
    """What is said of the newest model that is newer than the one in use; None if there is none.

    Raises:
        UserError: which model is in use cannot be told.
    """
    in_use = current_id(home)
    if in_use is None:
        return None
    found, _ = models(home)
    # If what is said of the current one is damaged, its age is unknown; another may replace it.
    names = [each["model_id"] for each in found]
    newer = found[names.index(in_use) + 1 :] if in_use in names else found
    return newer[-1] if newer else None


def make_current(home: Home, model_id: str, previous: str | None = None) -> None:
    """Let everything after training use this model from now on.

    Args:
        home: where models are.
        model_id: the model.
        previous: the one to go back to if it turns out to be worse.
    """
    pointer = {"model_id": model_id} | ({"previous": previous} if previous else {})
    write_json(home.models / "current.json", pointer)


def size_mb(home: Home, model_id: str) -> float:
    """Megabytes on disk of a model, its vectors and its maps."""
    found = stamps(home.model(model_id), "*") | stamps(home.vectors(model_id), "*")
    found |= stamps(home.maps(model_id), "*") | stamps(home.maps(model_id), "*/*")
    return sum(stamp.size for stamp in found.values()) / 1e6


def write_trained_on(folder: Path, track_ids: set[str]) -> None:
    """Keep with a model in ``folder`` which tracks it was trained on."""
    # Not through ``tables``: where only training runs, polars is not installed.
    table = pa.table({"track_id": sorted(track_ids)})
    with atomic_replace(folder / TRACKS) as part:
        pq.write_table(table, part, compression="zstd", write_page_checksum=True)


def trained_on(folder: Path) -> set[str] | None:
    """The tracks that the model in ``folder`` was trained on; None if that is not known.

    It was not kept at first, and a damaged list is as good as none.
    """
    path = folder / TRACKS
    try:
        return read_trained_on(path)
    except (OSError, ValueError, LookupError, pa.ArrowException) as error:
        if trouble := disk_trouble(error, path):
            raise trouble from error
        return None


def read_trained_on(path: Path) -> set[str]:
    """What ``write_trained_on`` wrote; raises what pyarrow does of a file that is damaged."""
    table = pq.read_table(
        fetched(path), columns=["track_id"], partitioning=None, page_checksum_verification=True
    )
    return set(table["track_id"].to_pylist())


def weights_digest(weights: bytes) -> str:
    """What tells weights from any others."""
    return hashlib.blake2b(weights, digest_size=16).hexdigest()


def read_weights(folder: Path, described: dict[str, Any]) -> bytes:
    """The file of a model's weights, as it was saved.

    Args:
        folder: the model's.
        described: what is said of it. A model made before digests were kept has none.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not what was saved.
    """
    weights = fetched(folder / WEIGHTS).read_bytes()
    if weights_digest(weights) != described.get("weights_digest", weights_digest(weights)):
        raise ValueError(f"{WEIGHTS} is not what was saved")
    return weights
