"""The file system under a cache."""
