"""Training: learn an encoder from the shards, without labels.

Belongs here: the encoder, the objectives, the crop sampler, the loop, what a finished model is,
and how good it is. Does not: vectors of whole collections (``embeddings``).
Importing the package is light; torch comes with the modules in it.
"""

from fastdino.core.home import Home
from fastdino.core.summary import Summary
from fastdino.training.settings import PRESETS, TrainingSettings, settings_for

__all__ = ["PRESETS", "TrainingSettings", "run", "settings_for"]


def run(
    home: Home, settings: TrainingSettings, *, afresh: bool = False, warm: bool = False
) -> Summary:
    """Train an encoder unless there is one that fits, see ``training.stage.run``."""
    from fastdino.training import stage

    return stage.run(home, settings, afresh=afresh, warm=warm)
