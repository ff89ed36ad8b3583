"""Decode recordings and write log-mel spectrograms into Parquet shards."""
