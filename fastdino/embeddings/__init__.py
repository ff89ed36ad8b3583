"""Embeddings: a vector for every song and every stretch of it.

Belongs here: computing vectors with the models there are (``encode``), their files (``vectors``),
and which new songs are unlike those a model was trained on (``drift``). Does not: training, maps,
or the database that people query.
"""

from fastdino.core.home import Home
from fastdino.core.summary import Summary

__all__ = ["run"]


def run(home: Home) -> Summary:
    """Compute vectors for every track that has none; see ``fastdino.embeddings.encode``."""
    from fastdino.embeddings import encode

    return encode.run(home)
