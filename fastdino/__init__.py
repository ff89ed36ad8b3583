"""FastDINO: a music collection in, embeddings out.

One package a stage, in the order they run: ``ingestion``, ``spectrograms``, ``training``,
``embeddings``, ``reports``. Beside them stand the few things that every stage uses: where files
lie (``home``), how they are written (``storage``), how work is shown (``progress``), spread over
processes (``workers``) and summed up (``summary``), and what a person is told when something is
wrong (``errors``). Nothing here knows of Dagster.
"""

__version__ = "0.1.0"
