"""Benchmarks run and end with one JSON object that has the promised keys; their figures are not asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from mosaic import network_inputs, run_network, without_margin
from rasters import draw_labels
from texture import painted_windows

ROOT = Path(__file__).parents[1]
KEYS = {
    "patches": {"chunk_aware_vs_torchgeo", "chunk_aware_vs_rasterio", "random_vs_rasterio", "wait_ms"},
    "long_work": {"generate", "train"},
    "startup": {"bare", "import", "help", "import_over_bare", "help_over_bare"},
    "mosaic": {"efficiency", "seam_score", "mpx_per_s", "halo_cost", "max_difference", "differing_share", "peak_mb"},
    "training": {"speedup_step"},
    "generator": {"speedup_fp32", "speedup_bf16", "max_abs_diff_fp32", "mean_abs_diff_bf16"},
}


def test_the_share_of_the_network_is_that_of_a_generator_that_is_told_looks(
    write_raster: Callable[..., Path], told_model: GeneratorModel
) -> None:
    painter, inputs, pixels = network_inputs(write_raster(draw_labels(100, 70)), told_model, GenerateSettings())
    run_network(painter, inputs, painter.margin)
    run_network(painter, [without_margin(one, painter) for one in inputs], 0)
    assert pixels == 7000


def test_textures_are_those_of_any_generator(told_model: GeneratorModel, tiny_model: GeneratorModel) -> None:
    for model in (told_model, tiny_model):
        first, second = painted_windows(model, 1, 2, 32)
        assert first.shape == (4, 32, 32)
        assert (first != second).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", KEYS)
def test_the_last_line_is_the_result(
    name: str, tmp_path: Path, write_raster: Callable[..., Path], tiny_model: GeneratorModel
) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--quick", "--json", str(tmp_path / "out.json")]
    if name == "mosaic":
        command += ["--labels", str(write_raster(draw_labels(600, 700))), "--model", str(tiny_model.path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})
    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout.splitlines()[-1])
    assert set(result) >= KEYS[name]
    assert json.loads((tmp_path / "out.json").read_text()) == result
