"""The cache: how entries get into it (`fetching`)."""
