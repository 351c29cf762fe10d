"""Small rasters that tests write for themselves."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning, RasterioError

from geosynth.files import writing
from geosynth.grid import Window
from geosynth.legend import Legend
from geosynth.raster.class_table import write_attribute_table
from geosynth.raster.raster_file import open_raster
from geosynth.raster.read import Raster, check_inside, has_data

UTM = "EPSG:26917"
UTM_18N = "EPSG:26918"
NORTH_UP = Affine(1.0, 0.0, 384517.0, 0.0, -1.0, 4310393.0)  # 1 m pixels in Maryland, off any round number


@dataclass
class ArrayRaster(Raster):
    """Values in memory."""

    values: npt.NDArray[Any]  # (bands, height, width)
    geobox: GeoBox
    nodata: float | None = None
    path: str = "array"

    def __post_init__(self) -> None:
        self.count, self.dtype = len(self.values), self.values.dtype

    def read(self, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        check_inside(window, self)
        values = self.values[(slice(None), *window.slices)].copy()
        return values, has_data(values, self.nodata)


def north_up(column: float = 0, row: float = 0, size: float = 0.6) -> Affine:
    """A grid whose first pixel lies `column`, `row` pixels from a fixed place in UTM zone 17."""
    return Affine(size, 0, 266115.6, 0, -size, 4303356.0) @ Affine.translation(column, row)


SITE = 'LOCAL_CS["site",UNIT["metre",1,AUTHORITY["EPSG","9001"]],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
"""A site's own coordinates: no way leads from them to others."""


def write_raster(path: Path, values: npt.NDArray[Any], transform: Affine | None = None, **profile: Any) -> Path:
    """Write (bands, height, width) or (height, width) as a GeoTIFF; `crs=None` for none."""
    bands = values if values.ndim == 3 else values[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"count": len(bands), "height": bands.shape[1], "width": bands.shape[2], "dtype": bands.dtype}
    profile = {"driver": "GTiff", "crs": UTM, **shape, **profile}
    if transform is not None:
        profile["transform"] = transform
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(bands)
    return path


def write_zarr_image(path: Path, source: Path) -> Path:
    """Write the image of a file, which names its bands, as `generate` writes Zarr images."""
    from geosynth.raster.zarr_image import zarr_image_writer  # takes a second to import

    image = open_raster(source)
    names = [name for name in image.band_names if name]
    writer = zarr_image_writer(
        path, image.geobox, names, dtype=str(image.dtype), quantities=image.quantities, tags=image.tags
    )
    with writer as copy:
        copy(image.read)
    return path


def pixels_of(path: Path) -> npt.NDArray[Any]:
    """(bands, height, width)."""
    with rasterio.open(path) as dataset:
        pixels: npt.NDArray[Any] = dataset.read()
    return pixels


def random_image(seed: int, height: int, width: int, bands: int = 4, dtype: str = "uint8") -> npt.NDArray[Any]:
    """Values 1 or more, so that zero can mean nodata."""
    return np.random.default_rng(seed).integers(1, 255, (bands, height, width)).astype(dtype)


def random_codes(
    seed: int, height: int, width: int, codes: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
) -> npt.NDArray[np.uint8]:
    """Codes in blocky patches of 8 px, as land cover is."""
    coarse = np.random.default_rng(seed).choice(np.array(codes, dtype=np.uint8), (-(-height // 8), -(-width // 8)))
    return np.kron(coarse, np.ones((8, 8), dtype=np.uint8))[:height, :width]


def draw_labels(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Chesapeake codes in blobs of some tens of pixels, with a road across."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(1, 6, (height // 24 + 2, width // 24 + 2))
    labels = np.kron(coarse, np.ones((24, 24), dtype=int))[7 : 7 + height, 11 : 11 + width].astype(np.uint8)
    rows = (np.arange(width) * 0.4 + height / 4).astype(int) % height
    for offset in range(6):
        labels[(rows + offset) % height, np.arange(width)] = 6
    return labels


def write_class_table(path: Path, legend: Legend, nodata: int | None = None) -> None:
    """Give a GeoTIFF that is written and closed its colours, names and attribute table.

    The colour table goes into the file (of uint8 rasters: larger ones would be larger than most tiles), names and
    attribute table beside it, see `write_attribute_table`.

    Raises:
        OutputError: if they cannot be written.
    """
    codes = {entry.code: (*entry.rgb, 255) for entry in legend.classes}
    with writing(path, RasterioError), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "r+", IGNORE_COG_LAYOUT_BREAK="YES") as dataset:
            if dataset.dtypes[0] == "uint8":
                dataset.write_colormap(1, codes | ({} if nodata is None else {nodata: (0, 0, 0, 0)}))
    write_attribute_table(path, legend)
