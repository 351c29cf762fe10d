"""What several rooms' tests need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def _data_folder() -> Path:
    return Path(os.environ.get("GEOSYNTH_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real rasters; the test is skipped where it is absent."""
    folder = _data_folder()
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}")
    return folder
