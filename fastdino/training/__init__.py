"""Training: learn an encoder from the shards, without labels.

Belongs here: the encoder, the objectives, the crop sampler, the loop, what a finished model is,
and how good it is. Does not: vectors of whole collections (``embeddings``).
Importing the package is light; torch comes with the modules in it.
"""

from collections.abc import Callable

from fastdino.core.home import Home
from fastdino.core.summary import Summary
from fastdino.training.settings import TrainingSettings, settings_for

__all__ = ["run", "run_on_cluster", "settings_for"]


def run(
    home: Home, settings: TrainingSettings, *, afresh: bool = False, warm: bool = False
) -> Summary | None:
    """Train an encoder unless there is one that fits, see ``training.stage.run``.

    Started by torchrun, this process is one of those that do it together.
    """
    from fastdino.training import ranks, stage

    with ranks.joined():
        return stage.run(home, settings, afresh=afresh, warm=warm)


def run_on_cluster(
    home: Home,
    settings: Callable[[], TrainingSettings],
    n_ranks: int,
    *,
    afresh: bool = False,
    warm: bool = False,
) -> Summary:
    """The same in ``n_ranks`` processes of a Ray cluster, see ``training.on_cluster.run``."""
    from fastdino.training import on_cluster

    return on_cluster.run(home, settings, n_ranks, afresh=afresh, warm=warm)
