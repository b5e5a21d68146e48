"""How a model gets into the cache."""
