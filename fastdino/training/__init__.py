"""Learn an encoder from the shards, without labels."""
