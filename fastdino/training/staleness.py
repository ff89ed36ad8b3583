"""Whether a model still fits the collection, or has been outgrown.

Belongs here: the rule, and what it counts. Does not: what follows from it, which is training
(``stage``) or a warning (``assets.training``); whether new songs sound unlike the old ones
(``embeddings.drift``).
"""

from typing import Any

from fastdino.core.home import Home
from fastdino.training.registry import trained_on

# A collection that has grown by more than this since its model was trained is worth a new one.
GROWTH = 0.2


def known_and_new(home: Home, described: dict[str, Any], tracks: set[str]) -> tuple[int, int]:
    """How many of ``tracks`` a model was trained on, and how many it was not.

    Where its own tracks are not known, as many as it was trained on count as known.
    """
    trained = trained_on(home.model(described["model_id"]))
    known = (
        min(described["trained_tracks"], len(tracks)) if trained is None else len(tracks & trained)
    )
    return known, len(tracks) - known


def outgrown(known: int, new: int) -> bool:
    """Whether a collection has so many new songs that another model is worth its training."""
    return new > GROWTH * known
