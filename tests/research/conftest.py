from song_shards import home_with_shards

__all__ = ["home_with_shards"]
