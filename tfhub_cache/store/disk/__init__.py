"""A cache on a disk."""
