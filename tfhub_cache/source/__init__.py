"""Where the bytes of an archive come from."""
