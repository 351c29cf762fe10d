"""`python -m geosynth` is the `geosynth` command."""

from geosynth_cli import app

if __name__ == "__main__":
    app()
