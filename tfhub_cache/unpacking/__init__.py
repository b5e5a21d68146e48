"""A stream of bytes becomes files."""
