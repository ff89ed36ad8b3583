"""Turn spectrograms into song and segment vectors, and publish them as one DuckDB file."""
