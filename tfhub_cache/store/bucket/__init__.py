"""A cache in a bucket."""
