"""The version, which packaging and `tfhub_cache.__version__` read here."""

__version__ = "0.1.0"
