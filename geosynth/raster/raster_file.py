"""RasterFile: a file that GDAL reads, opened once, read window by window from any thread or process."""

from __future__ import annotations

import functools
import logging
import math
import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.io import MemoryFile

from geosynth.config.bands import Quantity, values_of_each
from geosynth.errors import DataError, RasterError, SettingsError, counted, one_line
from geosynth.grid import Window
from geosynth.grid.alignment import describe_grid
from geosynth.inputs import as_list, band_files, check_input, name_of_band_files
from geosynth.raster.band_files import BandFiles
from geosynth.raster.class_table import ClassTable, read_class_table
from geosynth.raster.dataset import open_again, open_dataset
from geosynth.raster.drivers import GDAL_ERRORS, one_error
from geosynth.raster.georeference import check_grid, crs_of
from geosynth.raster.mark import describe_mark, read_mark
from geosynth.raster.quantities import parse_quantities
from geosynth.raster.read import Array, ImageRaster, Mask, check_inside, has_data
from geosynth.raster.warp import WarpedRaster

_LOG = logging.getLogger(__name__)

_MAX_BANDS = 4096
# Files that a thread keeps open, over all rasters, so that thousands of tiles do not exhaust the file descriptors.
_MAX_OPEN = 16
_opened = threading.local()


class RasterFile(ImageRaster):
    """A raster file that GDAL reads: its description, and windowed reading.

    The description is read once. Each process and thread opens its own handle, because a GDAL handle shared between
    them gives wrong pixels. A RasterFile can be pickled and sent to workers.

    A pixel has data if not all bands that are read are the nodata value (see `has_data`); in files with a mask, if the
    mask says so; in files of bands (see `inputs.band_files`), if all files agree. A band marked alpha serves as the
    mask unless it is read itself, because GDAL calls the fourth band of an unmarked file alpha even if it is near
    infrared. NaN is never data.
    """

    def __init__(self, path: str | Path, bands: Sequence[int] | None = None) -> None:
        """See `open_raster`; a file georeferenced by control points or RPCs can be described, but not read."""
        check_input(path, "a raster")
        self.path = str(path)
        self._local = threading.local()
        with one_error(self.path):
            self._read_header(self._hold(open_dataset(self.path)), bands)

    def _read_header(self, dataset: Any, bands: Sequence[int] | None) -> None:
        _check_bands(dataset, self.path)
        self.tags, names, units, known_crs = _texts(dataset)
        """Tags of the default domain."""
        crs = crs_of(known_crs, self.path)
        self.driver: str = dataset.driver
        """GDAL's name of the format."""
        self.geobox = GeoBox((dataset.height, dataset.width), dataset.transform, crs)
        check_grid(self.geobox, self.path)
        self.placed_by = _placed_by(dataset)
        """"grid" (the transform), "ground control points" or "RPCs"."""
        if crs is not None and self.geobox.affine.is_identity and self.placed_by == "grid":
            _warn_of_no_place(self.path)
        self.bands = tuple(range(1, dataset.count + 1)) if bands is None else _numbers(bands, dataset.count, self.path)
        self.count = len(self.bands)
        self.dtypes: tuple[str, ...] = tuple(dataset.dtypes[band - 1] for band in self.bands)
        self.dtype = np.dtype(self.dtypes[0])
        """Type of the first band."""
        self._nodata = tuple(dataset.nodatavals[band - 1] for band in self.bands)
        self.nodata: float | None = self._nodata[0]
        """Nodata value declared for the first band."""
        self.band_names: tuple[str | None, ...] = tuple(names[band - 1] for band in self.bands)
        """Descriptions of the bands; None for a band without one."""
        self._told = tuple(
            (dataset.scales[band - 1], dataset.offsets[band - 1], units[band - 1]) for band in self.bands
        )
        self.colour_interpretation = tuple(dataset.colorinterp[band - 1].name for band in self.bands)
        self._files: tuple[str, ...] = tuple(dataset.files)
        told = _mask_kind(dataset.mask_flag_enums)
        alpha = [number for number, colour in enumerate(dataset.colorinterp, 1) if colour == ColorInterp.alpha]
        self.mask_kind = "alpha" if alpha and told == "none" else told  # GDAL says so of two or four bands only
        self._in_files = isinstance(dataset, BandFiles)
        self.block_shape: tuple[int, int] = dataset.block_shapes[0]
        is_read = "alpha" in self.colour_interpretation
        self._alpha = alpha[0] if alpha and self.mask_kind == "alpha" and not is_read else None
        """Number of the band that serves as the mask; None for none."""
        self.is_full = self.mask_kind not in ("nodata", "mask") and self._alpha is None and self.dtype.kind != "f"
        self._hides_more = (self.dtype.kind == "f" and not math.isnan(self.nodata or 0)) or told != self.mask_kind
        """Whether GDAL, when it averages, may include pixels that have no data by our rule."""

    @property
    def files(self) -> tuple[str, ...]:
        """All files that belong to it: itself, side files, the sources of a VRT."""
        return self._files

    @property
    def class_table(self) -> ClassTable:
        """What its codes mean; empty if it does not say.

        Raises:
            RasterError: if GDAL cannot describe the file.
        """
        return read_class_table(self.as_vrt(), self.tags)

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """What the values of each band mean; empty if the file does not say.

        Raises:
            DataError: if what it says is invalid.
        """
        told = ({"scale": scale, "offset": offset, "unit": unit or None} for scale, offset, unit in self._told)
        return parse_quantities(self.path, told)

    def describe(self) -> dict[str, Any]:
        """Description of the file, as plain values."""
        told = values_of_each(self.quantities, self.count)
        bands = zip(self.band_names, self.dtypes, self.colour_interpretation, told, strict=True)
        return {
            "kind": "raster",
            "path": self.path,
            "driver": self.driver,
            **describe_grid(self.geobox),
            "placed by": self.placed_by,
            "bands": [
                {"name": name, "dtype": dtype, "colour": colour, **meaning} for name, dtype, colour, meaning in bands
            ],
            "nodata": self.nodata if self.nodata is None or math.isfinite(self.nodata) else str(self.nodata),
            "mask": self.mask_kind,
            "overviews": list(self._dataset().overviews(1)),
            "blocks": list(self.block_shape),
            "tags": dict(self.tags),
            **describe_mark(read_mark(self._dataset())),
        }

    def read(self, window: Window) -> tuple[Array, Mask]:
        """Values (bands, height, width) and where there is data (height, width); see `Raster.read`."""
        check_inside(window, self)  # rasterio would crop it silently
        return self._read(f"cannot read {window}", window.slices)

    def read_reduced(self, shape: tuple[int, int], how: str) -> tuple[Array, Mask]:
        """See `ImageRaster`."""
        if self._hides_more and shape != self.geobox.shape and not self._dataset().overviews(1):
            return WarpedRaster(self, self.geobox.zoom_to(shape), how).read(Window(0, 0, *shape))
        return self._read("cannot be read", None, shape, how)

    def _read(
        self, wrong: str, place: Any, shape: tuple[int, int] | None = None, how: str = "nearest"
    ) -> tuple[Array, Mask]:
        check_one_type(self)
        dataset, out_shape = self._dataset(), None if shape is None else (self.count, *shape)
        try:
            values: Array = dataset.read(self.bands, window=place, out_shape=out_shape, resampling=Resampling[how])
            valid = has_data(values, self._nodata, every=self._in_files)
            if self.mask_kind == "mask":
                valid &= dataset.dataset_mask(window=place, out_shape=shape) != 0
            elif self._alpha is not None:
                one = None if shape is None else (1, *shape)
                (alpha,) = dataset.read([self._alpha], window=place, out_shape=one, resampling=Resampling.nearest)
                valid &= alpha != 0
        except GDAL_ERRORS as error:
            raise RasterError(f"{self.path}: {wrong}: {one_line(error)}") from error
        return values, valid

    def as_vrt(self) -> str:
        """The XML of the VRT that GDAL writes for it, with all that GDAL knows; bytes that are not UTF-8 are replaced.

        For an image in files of bands it describes the first file.

        Raises:
            RasterError: if GDAL cannot describe it.
        """
        with one_error(self.path):
            return _as_vrt(self._dataset())

    def _dataset(self) -> Any:
        held = getattr(self._local, "held", None)
        return held[1] if held and held[0] == os.getpid() else self._hold(open_again(self.path, self.driver))

    def _hold(self, dataset: Any) -> Any:
        """Keep a dataset open for this thread, and release the one that the thread has held longest."""
        self._local.held = (os.getpid(), dataset)
        if not hasattr(_opened, "rasters"):
            _opened.rasters = deque()
        _opened.rasters.extend([weakref.ref(self)] * (dataset.count if isinstance(dataset, BandFiles) else 1))
        while len(_opened.rasters) > _MAX_OPEN:
            oldest = _opened.rasters.popleft()()
            if oldest is not None and oldest is not self:
                oldest._local.held = None
        return dataset

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in self.__dict__.items() if name != "_local"}
        if all(Path(file).exists() for file in band_files(self.path).values() or [self.path]):
            state["path"] = str(Path(self.path).absolute())  # a worker may run in another folder
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._local = threading.local()

    def __repr__(self) -> str:
        height, width = self.geobox.shape
        return f"RasterFile({self.path!r}, {self.count} x {height} x {width}, {self.dtype})"


def open_raster(path: str | Path, bands: Sequence[int] | None = None) -> RasterFile:
    """Open a raster that GDAL can read (GeoTIFF, COG, VRT, ...), by file name or URL.

    Args:
        path: file name or URL.
        bands: numbers of the bands to read, from 1, in any order; None for all.

    Raises:
        RasterError: if it is missing, not a raster, or georeferenced only by control points or RPCs.
        SettingsError: if `path` is not a name, or there is no such band.
    """
    raster = RasterFile(path, bands)
    if raster.placed_by != "grid":
        grid = "4326 --res SIZE --bounds WEST SOUTH EAST NORTH" if raster.placed_by == "RPCs" else "CODE"
        raise RasterError(
            f"{path}: is placed by {raster.placed_by}, not by a grid; warp it to a grid first"
            f" (rio warp FILE NEW --dst-crs EPSG:{grid})"
        )
    return raster


def check_one_type(image: ImageRaster) -> None:
    """Refuse to read bands of several types, as a VRT may have, into one array.

    Raises:
        RasterError: if they are of several types.
    """
    if "/" in image.types:
        raise RasterError(
            f"{image.path}: its bands hold values of several types, {image.types}; convert them to one type first"
            " (gdal_translate -ot TYPE FILE NEW)"
        )


def _check_bands(dataset: Any, path: str) -> None:
    if dataset.count == 0:
        raise RasterError(f"{path}: has no bands{_rasters_inside(dataset)}")
    if dataset.count > _MAX_BANDS:
        raise RasterError(f"{path}: has {dataset.count} bands; at most {_MAX_BANDS} are read")


def _rasters_inside(dataset: Any) -> str:
    """How to name the rasters that a file without bands holds, such as the variables of a NetCDF; empty if none."""
    if not dataset.subdatasets:
        return ""
    names = []
    for name in dataset.subdatasets[:2]:
        scheme, mark, rest = name.partition(":")  # rasterio gives it in lower case, GDAL opens it in upper case
        names.append(f"{scheme.upper()}{mark}{rest}")
    told = f"; it holds {counted(len(dataset.subdatasets), 'raster')}: name one, as {names[0]}"
    with suppress(DataError):  # names that braces cannot express, or a single one
        together = name_of_band_files(dict(zip(("red", "green"), names, strict=True)))
        told += f", or several as bands, as {together}"
    return told


def _numbers(bands: Sequence[int], count: int, path: str) -> tuple[int, ...]:
    """The numbers of bands, if there are such bands."""
    numbers = as_list(bands)
    for number in numbers or [bands]:
        if not isinstance(number, Integral) or not 1 <= int(number) <= count:
            raise SettingsError(f"{path}: bands have numbers from 1 to {count}, got {number!r:.50}", setting="bands")
    return tuple(map(int, numbers))


def _placed_by(dataset: Any) -> str:
    if not dataset.transform.is_identity:
        return "grid"
    return "ground control points" if dataset.gcps[0] else "RPCs" if dataset.rpcs else "grid"


@functools.cache  # once per process, however often the file is opened
def _warn_of_no_place(path: str) -> None:
    told = "%s: has a CRS but no transform: its pixels are placed at (0, 0)"
    _LOG.warning(f"{told} (rio edit-info --transform '[SIZE, 0, LEFT, 0, -SIZE, TOP]' FILE)", path)


def _texts(dataset: Any) -> tuple[dict[str, str], tuple[str | None, ...], tuple[str | None, ...], Any]:
    """Tags, descriptions and units of the bands, and CRS; bytes that are not UTF-8 are replaced."""
    try:
        return dataset.tags(), dataset.descriptions, dataset.units, dataset.crs
    except UnicodeDecodeError:
        with MemoryFile(_as_vrt(dataset).encode(), ext=".vrt") as file, file.open() as copy:
            return copy.tags(), copy.descriptions, copy.units, copy.crs


def _as_vrt(dataset: Any) -> str:
    with MemoryFile(filename="described.vrt") as file:
        rasterio.shutil.copy(getattr(dataset, "first", dataset), file.name, driver="VRT")
        content: bytes = file.read()
    return content.decode(errors="replace")


def _mask_kind(band_flags: Sequence[Sequence[MaskFlags]]) -> str:
    flags = {flag for one_band in band_flags for flag in one_band}
    kinds = {MaskFlags.nodata: "nodata", MaskFlags.alpha: "alpha", MaskFlags.per_dataset: "mask"}
    return next((kind for flag, kind in kinds.items() if flag in flags), "none")
