"""The version, apart from the package's front so that every room may know it. `pyproject.toml` reads it here."""

__version__ = "0.1.0"
