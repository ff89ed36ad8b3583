"""Processes that begin with the heavy packages loaded, which saves each of them seconds.

Belongs here: where they are forked from. From there on they are processes like any other.
"""

import multiprocessing
from multiprocessing.context import ForkServerContext

PRELOADED = [
    "duckdb", "fastdino.__main__", "fastdino.embeddings.encode", "fastdino.ingestion.identify",
    "fastdino.page.page", "fastdino.spectrograms.extract", "fastdino.spectrograms.mel",
    "fastdino.training.stage", "matplotlib.pyplot", "openTSNE", "plotly.offline",
    "sklearn.cluster", "sklearn.manifold", "soundfile",
]  # fmt: skip


def context() -> ForkServerContext:
    """Start processes from one that has loaded them: it is made with the first."""
    forked = multiprocessing.get_context("forkserver")
    forked.set_forkserver_preload(PRELOADED)
    return forked
