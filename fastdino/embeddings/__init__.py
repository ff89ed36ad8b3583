"""Embeddings: song and segment vectors, and the DuckDB file people query.

Belongs here: computing vectors with the current model (``encode``), and publishing what all
stages made as one database (``publishing``). Does not: training, maps or pages.
"""

from fastdino.home import Home
from fastdino.storage import alone
from fastdino.summary import Summary

__all__ = ["publish", "run"]


def run(home: Home) -> Summary:
    """Compute vectors for every track that has none, see ``embeddings.encode.run``."""
    from fastdino.embeddings import encode

    return encode.run(home)


def publish(home: Home) -> Summary:
    """Publish ``music.duckdb``, see ``embeddings.publishing.publish``."""
    from fastdino.embeddings.publishing import publish

    with alone(home.root, with_all_below=False):
        return publish(home)
