"""Find the files of a collection, tell recordings apart, read tags, see what changed."""
