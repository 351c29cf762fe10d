"""Benchmarks run and end with one JSON object that has the promised keys; their figures are not asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import gpu
from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from gpu_bench import QUICK, Bench, numbers_in
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


def test_no_part_of_the_gpu_benchmark_takes_time_that_later_ones_need() -> None:
    names = list(gpu.PARTS)
    first, total = gpu.PARTS[names[0]].seconds, sum(part.seconds for part in gpu.PARTS.values())
    assert gpu.limit(total + 100, names) == first + 100
    assert gpu.limit(total - 50, names) == first
    assert gpu.limit(5, names) == 5


def test_what_fails_on_a_gpu_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    def fails() -> None:
        raise RuntimeError("no driver\nfor this card")

    bench = Bench("right", "cpu", QUICK, tmp_path / "out.json")
    bench.add("painting waits", 0)
    bench.attempt("one check", fails)
    bench.add("a kernel failed its trial", True)
    numbers = numbers_in(tmp_path / "out.json")
    assert numbers == {
        "right/painting waits": 0.0,
        "right/one check failed": "RuntimeError: no driver",
        "right/a kernel failed its trial": 1.0,
    }
    verdicts = {bar.name: bar.verdict(numbers) for bar in gpu.bars(QUICK)}
    assert verdicts["right/painting waits"] == "yes"
    assert verdicts["right/a kernel failed its trial"] == "no"
    assert verdicts["right/fp32 painting is replayed"] == "not measured"
    assert numbers_in(Bench("right", "cpu", QUICK, tmp_path / "out.json").path) == {}, "a part that runs again is new"


@pytest.mark.slow
def test_the_gpu_benchmark_can_be_tried_without_one(tmp_path: Path) -> None:
    """All of it, so that nothing but the GPU is new where there is one."""
    out = tmp_path / "out.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), "--device", "cpu", "--quick", "--json", str(out)]
    run = subprocess.run([*command, "--minutes", "60"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    verdicts = {name: value for name, value in json.loads(out.read_text()).items() if name.startswith("bar/")}
    assert set(verdicts) == {f"bar/{bar.name}" for bar in gpu.bars(QUICK)}
    assert set(verdicts.values()) <= {"yes", "no"}
    assert "0 failed" in run.stdout


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
