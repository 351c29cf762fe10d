"""Small rasters for the evaluation tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine

from geosynth.legend import Legend

WriteRaster = Callable[..., Path]


@pytest.fixture
def legend() -> Legend:
    """Three classes, codes 1 to 3; 0 is nodata."""
    classes = [
        {"code": code, "name": name, "colour": colour}
        for code, name, colour in ((1, "water", "#0000ff"), (2, "field <&>", "#00ff00"), (3, "road", "#ff0000"))
    ]
    return Legend.from_values({"name": "small", "classes": classes, "nodata": [0]})


@pytest.fixture
def write_raster(tmp_path: Path) -> WriteRaster:
    """write_raster(name, values (bands, height, width), row=0, column=0, **profile): a GeoTIFF of 1 m pixels."""

    def write(
        name: str,
        values: np.ndarray,
        row: float = 0,
        column: float = 0,
        *,
        pixel: float = 1.0,
        bands: tuple[str, ...] = (),
        mask: np.ndarray | None = None,
        **profile: Any,
    ) -> Path:
        path = tmp_path / name
        transform = Affine(pixel, 0, 500_000 + column, 0, -pixel, 4_500_000 - row)
        shape = {"count": values.shape[0], "height": values.shape[1], "width": values.shape[2], "dtype": values.dtype}
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(
                path, "w", **({"driver": "GTiff", "crs": "EPSG:32618", "transform": transform} | shape | profile)
            ) as file,
        ):
            file.write(values)
            for number, band in enumerate(bands, start=1):
                file.set_band_description(number, band)
            if mask is not None:
                file.write_mask(mask)
        return path

    return write
