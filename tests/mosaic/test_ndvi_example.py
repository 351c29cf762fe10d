"""The example that compares NDVI per class, on a small scene."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr

import geosynth
from geosynth.checkpoint import GeneratorModel
from rasters import draw_labels, random_image

EXAMPLE = Path(__file__).parents[2] / "examples" / "ndvi_by_class.py"


def test_it_prints_the_means_of_both_images(
    write_raster: Callable[..., Path],
    tmp_path: Path,
    tiny_model: GeneratorModel,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    codes = draw_labels(100, 120)
    labels, image = write_raster(codes), write_raster(random_image(0, 100, 120), "image.tif")
    arguments = ["--image", str(image), "--labels", str(labels), "--model", str(tiny_model.path)]
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), *arguments])
    with xr.set_options(arithmetic_join="inner"):  # the example sets it for its process
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    table = {line[:18].strip(): line[18:].split() for line in capsys.readouterr().out.splitlines()[2:]}

    synthetic = geosynth.generate(labels, tmp_path / "synthetic.tif", tiny_model, seed=1)
    for column, path in enumerate((image, synthetic)):
        with rasterio.open(path) as dataset:
            red, _, _, nir = dataset.read().astype(float)
        with np.errstate(invalid="ignore"):
            ndvi = (nir - red) / (nir + red)
        for entry in tiny_model.card.legend.classes:
            assert float(table[entry.name][column]) == pytest.approx(np.nanmean(ndvi[codes == entry.code]), abs=6e-4)
