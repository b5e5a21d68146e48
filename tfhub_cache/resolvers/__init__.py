"""The kinds of handle, a resolver for each."""
