"""The one place where the version stands; packaging and `tfhub_cache.__version__` read it here."""

__version__ = "0.1.0"
