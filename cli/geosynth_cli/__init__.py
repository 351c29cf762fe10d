"""The `geosynth` command: parses, calls geosynth's public functions, shows progress and errors."""

from geosynth_cli.main import app

__all__ = ["app"]
