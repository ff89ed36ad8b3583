"""Spectrograms: every recording decoded once, into shards of quantised log-mel frames.

Belongs here: decoding, resampling, log-mel, the shard format. Does not: what is learnt from them.
Reading shards needs numpy and pyarrow only; torch is imported where sound is turned into frames.
"""

from fastdino.core.home import Home
from fastdino.core.summary import Summary
from fastdino.spectrograms.settings import SpectrogramSettings

__all__ = ["SpectrogramSettings", "run"]


def run(home: Home, *, retry: bool = False) -> Summary:
    """Bring the shards up to date with the catalogue, see ``spectrograms.stage.run``."""
    from fastdino.spectrograms import stage

    return stage.run(home, SpectrogramSettings(), retry=retry)
