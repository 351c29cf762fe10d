"""Small scenes for the evaluation tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine

from geosynth.legend import Legend

WriteScene = Callable[..., Path]


def small_legend() -> Legend:
    """Three classes, codes 1 to 3; 0 is nodata."""
    classes = [
        {"code": code, "name": name, "colour": colour}
        for code, name, colour in ((1, "water", "#0000ff"), (2, "field <&>", "#00ff00"), (3, "road", "#ff0000"))
    ]
    return Legend.from_values({"name": "small", "classes": classes, "nodata": [0]})


def scene_writer(folder: Path) -> WriteScene:
    """write(name, values (bands, height, width), row=0, column=0, ...): a GeoTIFF of 1 m pixels in `folder`."""

    def write(
        name: str,
        values: np.ndarray,
        row: float = 0,
        column: float = 0,
        *,
        pixel: float = 1.0,
        bands: tuple[str, ...] = (),
        mask: np.ndarray | None = None,
        **options: Any,
    ) -> Path:
        count, height, width = values.shape
        profile = {
            "driver": "GTiff",
            "crs": "EPSG:32618",
            "transform": Affine(pixel, 0, 500_000 + column, 0, -pixel, 4_500_000 - row),
            "count": count,
            "height": height,
            "width": width,
            "dtype": values.dtype,
        }
        with (
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
            rasterio.open(folder / name, "w", **(profile | options)) as file,
        ):
            file.write(values)
            for number, band in enumerate(bands, start=1):
                file.set_band_description(number, band)
            if mask is not None:
                file.write_mask(mask)
        return folder / name

    return write


def blobs(rng: np.random.Generator, height: int, width: int, num_classes: int = 3) -> np.ndarray:
    """(1, height, width) codes 1 .. num_classes in 16 px squares."""
    coarse = rng.integers(1, num_classes + 1, size=(-(-height // 16), -(-width // 16)), dtype=np.uint8)
    return np.kron(coarse, np.ones((16, 16), dtype=np.uint8))[None, :height, :width]


def textured(rng: np.random.Generator, codes: np.ndarray, bands: int = 4) -> np.ndarray:
    """(bands, height, width): noise around a mean that depends on class and band."""
    means = 60 + 40 * codes.astype(np.float64) + 7 * np.arange(bands)[:, None, None]
    return np.clip(np.rint(means + rng.normal(0, 12, size=means.shape)), 0, 255).astype(np.uint8)
