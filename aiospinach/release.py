"""The version of the package, which workers report."""

__version__ = "0.1.0"
