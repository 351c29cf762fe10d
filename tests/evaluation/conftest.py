"""Fixtures of the evaluation tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from evaluation_scenes import WriteScene, scene_writer, small_legend

from geosynth.legend import Legend


@pytest.fixture
def legend() -> Legend:
    return small_legend()


@pytest.fixture
def write_scene(tmp_path: Path) -> WriteScene:
    return scene_writer(tmp_path)
