"""A helper of the default's recipe: woods that were drawn as water are given back."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio

from rasters import north_up, write_raster

SCRIPT = Path(__file__).parents[1] / "examples" / "mend_ohio_labels.py"
WATER, FOREST = 5, 4


def test_bright_water_is_forest_where_there_is_much_of_it(tmp_path, monkeypatch, capsys):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    codes = np.zeros((1, 32, 32), np.uint8)
    codes[0, :10] = WATER  # ten rows
    transform = north_up(1000, 2000)
    for name, bright_rows in (("wrong.tif", 5), ("right.tif", 1)):
        image = np.full((4, 32, 32), 20, np.uint8)
        image[3, :bright_rows] = 200
        image[3, 20:] = 200  # no water
        write_raster(tmp_path / "images" / name, image, transform)
        write_raster(tmp_path / "labels" / name, codes, transform)
    arguments = [str(tmp_path / name) for name in ("images", "labels", "out")]
    monkeypatch.setattr(sys, "argv", ["mend_ohio_labels.py", *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert capsys.readouterr().out == "wrong.tif: 160 of 320 pixels of water are forest\n"
    assert (tmp_path / "out" / "right.tif").read_bytes() == (tmp_path / "labels" / "right.tif").read_bytes()
    expected = codes.copy()
    expected[0, :5] = FOREST
    with (
        rasterio.open(tmp_path / "out" / "wrong.tif") as mended,
        rasterio.open(tmp_path / "labels/wrong.tif") as before,
    ):
        np.testing.assert_array_equal(mended.read(), expected)
        assert (mended.transform, mended.crs) == (before.transform, before.crs)
    with pytest.raises(FileExistsError):
        runpy.run_path(str(SCRIPT), run_name="__main__")
