"""Transfer: an archive's bytes, received over one or several connections, and read in order."""
