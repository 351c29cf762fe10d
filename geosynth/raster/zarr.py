"""ZarrRaster: one array of a Zarr store, geosynth's or any other with coordinates that xarray reads."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp

from geosynth.config.bands import Quantity, values_of_each
from geosynth.errors import DataError, GridError, RasterError, one_line
from geosynth.grid import Window
from geosynth.grid.alignment import TOLERANCE, describe_grid
from geosynth.grid.crs import crs_name
from geosynth.raster.arrays import crs_among, grid_of, with_places
from geosynth.raster.chunks import ChunkReader
from geosynth.raster.class_table import ClassTable
from geosynth.raster.conventions import levels_among, tags_among, transform_among, with_those_of_group
from geosynth.raster.georeference import check_grid
from geosynth.raster.mark import describe_mark
from geosynth.raster.quantities import quantities_among
from geosynth.raster.read import Array, ImageRaster, Mask, check_inside, has_data
from geosynth.raster.warp import WarpedRaster
from geosynth.raster.zarr_group import files_in, open_group

_LOG = logging.getLogger(__name__)


class ZarrRaster(ImageRaster):
    """Labels (y, x) or an image (band, y, x) in a Zarr store.

    A pixel has data if `has_data` says so and, if the array has a coordinate `valid`, that is true.
    """

    def __init__(
        self,
        path: str | Path,
        variable: str | None = None,
        bands: Sequence[int] | None = None,
        kind: Literal["image", "labels"] = "labels",
    ) -> None:
        """Open the array without reading values.

        Args:
            path: of the group; a URL is read through fsspec.
            variable: name of the array; None for what `kind` says.
            bands: numbers of the bands to read, from 1, in any order; None for all.
            kind: "labels": the array called so, else the only integer map, or the only array; "image": the array called
                so, else the only one with several bands, else the only one.

        Raises:
            RasterError: if it is not a Zarr group.
            DataError: if there is no such variable, if several could be meant, or if it has further dimensions.
            GridError: if its coordinates are missing, rotated or uneven.
        """
        self.path = str(path)
        group = open_group(path)
        array, (y, x), band_dims, others = _dimensions(_array(group, self.path, variable, kind), self.path)
        layer = array.isel(dict.fromkeys(others, 0), drop=True).transpose(y, x)
        self.geobox, self.nodata = _grid(layer, self.path), array.rio.nodata
        names, self._classes = _band_names(array, band_dims, self.path), _flags(array.attrs)
        stored, dims = group[array.name], array.dims
        mask = array.coords.get("valid")
        has_mask = mask is not None and mask.dims == (y, x) and mask.dtype == bool
        self._valid = ChunkReader(group["valid"], self.path) if has_mask else None
        self.dtype: np.dtype[Any] = np.dtype(stored.dtype)
        self._axes, self._band_axis = (dims.index(y), dims.index(x)), dims.index(band_dims[0]) if band_dims else None
        self.block_shape: tuple[int, int] = tuple(stored.chunks[axis] for axis in self._axes)
        self._shape: tuple[int, ...] = stored.shape
        total = math.prod(self._shape) // math.prod(self.geobox.shape)
        self.bands = tuple(range(1, total + 1) if bands is None else bands)
        self.count = len(self.bands)
        self.dtypes = (str(self.dtype),) * self.count
        told = quantities_among(array.attrs, total, self.path)
        self._quantities: tuple[Quantity, ...] = tuple(told[band - 1] for band in self.bands) if told else ()
        self.band_names: tuple[str | None, ...] = tuple(names[band - 1] if names else None for band in self.bands)
        """From the coordinate of the band dimension, or the attribute `long_name`; None if neither has a name."""
        # GDAL's names of colours for bands with these names.
        self.colour_interpretation = tuple(
            name if name and name in ColorInterp.__members__ else "undefined" for name in self.band_names
        )
        self.mask_kind = "mask" if self._valid is not None else "none" if self.nodata is None else "nodata"
        self.is_full = self.mask_kind == "none" and self.dtype.kind != "f"
        self.tags = tags_among(array.attrs)
        self._reader = ChunkReader(stored, self.path)
        self._variable = str(stored.basename)
        self._overviews = [name for name in levels_among(group.attrs) if f"{name}/{self._variable}" in group]

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """What the values of each band mean; empty if that is not known."""
        return self._quantities

    @property
    def class_table(self) -> ClassTable:
        """Code to (name, colour), from CF's `flag_values` and `flag_meanings`."""
        return self._classes

    @property
    def files(self) -> tuple[str, ...]:
        """All files of the store; none if it is behind a URL."""
        return files_in(self.path)

    def describe(self) -> dict[str, Any]:
        """Description of the array, as plain values, under the names that `RasterFile.describe` uses."""
        return {
            **describe_grid(self.geobox),
            "bands": _describe_bands(self.band_names, self.dtype, self.quantities),
            "nodata": None if self.nodata is None else str(self.nodata),
            "blocks": list(self.block_shape),
            "classes": {code: name for code, (name, _) in self.class_table.items()},
        }

    def read(self, window: Window) -> tuple[Array, Mask]:
        """Values (bands, height, width) and where there is data (height, width); see `Raster.read`."""
        check_inside(window, self)
        box = [slice(0, length) for length in self._shape]
        for axis, part in zip(self._axes, window.slices, strict=True):
            box[axis] = part
        first = min(self.bands)
        if self._band_axis is not None:
            box[self._band_axis] = slice(first - 1, max(self.bands))
        values = np.moveaxis(self._reader.read(*box), self._axes, (-2, -1)).reshape(-1, window.height, window.width)
        if self.bands != tuple(range(first, first + len(values))):
            values = values[[band - first for band in self.bands]]
        valid = has_data(values, self.nodata)
        if self._valid is not None:  # bytes, if an older xarray wrote them
            valid &= self._valid.read(*window.slices).astype(bool, copy=False)
        return values, valid

    def read_reduced(self, shape: tuple[int, int], how: str) -> tuple[Array, Mask]:
        """See `ImageRaster`."""
        if shape == self.geobox.shape:
            return self.read(self.window)
        finest = self
        for name in self._overviews:
            coarser = ZarrRaster(f"{self.path}/{name}", self._variable, self.bands)
            if coarser.window.height < shape[0] or coarser.window.width < shape[1]:
                break
            finest = coarser
        return WarpedRaster(finest, self.geobox.zoom_to(shape), how).read(Window(0, 0, *shape))


def describe_image(path: str | Path) -> dict[str, Any]:
    """Description of an image made by `generate`, of one sample or several, as plain values.

    Raises:
        RasterError: if it is not a Zarr group.
        DataError: if what it says of its values is invalid.
    """
    image = _dataset(open_group(path), str(path))["image"]
    names = list(map(str, image.coords["band"].to_numpy())) if "band" in image.coords else []
    return {
        "kind": "zarr image",
        "path": str(path),
        "crs": crs_name(crs_among(image, str(path))),
        "height": image.shape[-2],
        "width": image.shape[-1],
        "samples": image.sizes.get("sample", 1),
        "bands": _describe_bands(names, image.dtype, quantities_among(image.attrs, len(names), str(path))),
        "tags": tags_among(image.attrs),
        **describe_mark(image.attrs),
    }


def _describe_bands(
    names: Sequence[str | None], dtype: np.dtype[Any], quantities: Sequence[Quantity]
) -> list[dict[str, Any]]:
    """The bands of an array as plain values; `quantities` say what their values mean, or are empty."""
    told = values_of_each(quantities, len(names))
    return [{"name": name, "dtype": str(dtype), **meaning} for name, meaning in zip(names, told, strict=True)]


def describe_arrays(path: str | Path) -> dict[str, Any]:
    """Descriptions, by name, of the arrays of a Zarr group that are rasters, as plain values; may be empty.

    Raises:
        RasterError: if it is not a Zarr group.
        RasterError, GridError: if no array can be used, though one has the form of a raster.
    """
    group, described, refused = open_group(path), {}, []
    try:
        names = sorted(map(str, _dataset(group, str(path)).data_vars))
    except RasterError:  # its arrays have no dimensions, or none that agree
        return {}
    for name in names:
        try:
            described[name] = ZarrRaster(path, name).describe()
        except (RasterError, GridError) as error:
            refused.append(error)
        except DataError:  # of another form, such as a table's column
            continue
    if refused and not described:
        raise refused[0]
    return described


def _dataset(group: Any, path: str) -> xr.Dataset:
    try:
        with warnings.catch_warnings():  # read whether consolidated or not
            warnings.simplefilter("ignore", RuntimeWarning)
            dataset: xr.Dataset = xr.open_zarr(
                group.store, group=group.path, chunks=None, decode_coords="all", mask_and_scale=False
            )
    except Exception as error:  # of xarray, zarr and network libraries
        told = f"xarray cannot read its arrays: {one_line(error)}"
        if "ome" in group.attrs or isinstance(group.attrs.get("multiscales"), list):
            told = "is an OME-Zarr image, which has no CRS; write its finest level as a GeoTIFF"
        raise RasterError(f"{path}: {told}") from error
    return dataset


def _grid(layer: xr.DataArray, path: str) -> GeoBox:
    """The grid of a (y, x) array: from its coordinates, or unrounded from the convention `spatial` if that agrees.

    Arrays of other software, and rotated ones, may have no coordinates and be described only by that convention.
    """
    height, width = layer.shape
    transform = transform_among(layer.attrs, (height, width))
    if transform is not None and layer.coords.keys().isdisjoint(layer.dims):
        geobox = GeoBox((height, width), transform, crs_among(layer, path))
        check_grid(geobox, path)
        return geobox
    geobox = grid_of(layer, path)
    if transform is not None and transform.determinant:
        shift = ~transform @ geobox.affine
        if all(math.dist(shift @ corner, corner) <= TOLERANCE for corner in ((0, 0), (width, height))):
            return GeoBox((height, width), transform, geobox.crs)
    return geobox


def _dimensions(array: xr.DataArray, path: str) -> tuple[xr.DataArray, tuple[Any, Any], list[Any], list[Any]]:
    """The array, its (row, column) dimensions, a list with the band dimension or none, and all other dimensions.

    Rows and columns are found by attributes or names, else they are the last two. The band dimension is the one of that
    name, or the only one whose size is not one.
    """
    placed = with_places(array)
    y, x = (placed.rio.y_dim, placed.rio.x_dim) if placed is not None else (None, None, *array.dims)[-2:]
    array = array if placed is None else placed
    others = [dim for dim in array.dims if dim not in (y, x)]
    bands = [dim for dim in others if dim == "band" or array.sizes[dim] > 1] or others[:1]
    if array.ndim < 2 or len(bands) > 1 or array.dtype.kind not in "iuf":
        one = " (generate --samples K --out NAME.tif makes images of their own)" if "sample" in bands else ""
        raise DataError(
            f"{path}: {array.name!r} is {dict(array.sizes)} of {array.dtype}; a raster is numbers over (y, x) or"
            f" (band, y, x){one}"
        )
    return array, (y, x), bands, others


def _array(group: Any, path: str, variable: str | None, kind: str) -> xr.DataArray:
    """The variable of this name, or the likely one of its kind if `variable` is None."""
    dataset = _dataset(group, path)
    if variable is not None and variable not in dataset.data_vars:
        listed = ", ".join(map(str, dataset.data_vars)) or "none"
        raise DataError(f"{path}: no variable {variable!r}; there are: {listed}")
    if variable is None and not dataset.data_vars and (groups := sorted(group.group_keys())):
        listed = ", ".join(groups)
        raise DataError(f"{path}: has no arrays, but groups ({listed}); name one of them, as in {path}/{groups[0]}")
    array: xr.DataArray = dataset[_likely(dataset, path, kind) if variable is None else variable]
    return array.assign_attrs(with_those_of_group(array.attrs, dataset.attrs))


def _likely(dataset: xr.Dataset, path: str, what: str) -> Any:
    """Name of the variable with the labels or the image."""
    if what in dataset.data_vars:
        return what
    kinds, dimensions = ("iuf", 3) if what == "image" else ("iu", 2)
    alike = [
        name
        for name, values in dataset.data_vars.items()
        if values.dtype.kind in kinds and sum(size > 1 for size in values.sizes.values()) == dimensions
    ]
    candidates = alike or list(dataset.data_vars)
    if len(candidates) != 1:
        told = sorted(f"{name} {dict(values.sizes)}" for name, values in dataset.data_vars.items())
        listed = ", ".join(told) or "none"  # sorted, as Zarr lists variables in any order
        raise DataError(f"{path}: which variable holds the {what}? Call it {what!r}; there are: {listed}")
    return candidates[0]


def _band_names(array: xr.DataArray, bands: Sequence[Any], path: str) -> tuple[str, ...]:
    """Names along the band dimension, if there is one, or of the only band; empty if there are none.

    rioxarray keeps the names of all bands of a file in `long_name`, and their numbers in the coordinate. xarray changes
    only the latter where bands are selected.
    """
    count, coordinate = (array.sizes[bands[0]], bands[0]) if bands else (1, "band")
    along = np.atleast_1d(array.coords[coordinate].to_numpy()).tolist() if coordinate in array.coords else []
    if along and all(isinstance(name, str) for name in along):
        names = along
    else:
        told = array.attrs.get("long_name", ())
        names = [told] if isinstance(told, str) else list(told)
        is_selection = set(along) <= set(range(1, len(names) + 1)) and along != list(range(1, count + 1))
        if along and is_selection and len(names) > count:
            names = [names[int(number) - 1] for number in along]
        elif along and is_selection:  # either the names were put into this order too, or the numbers alone
            message = "%s: its bands are numbered %s; the names in its long_name are taken in this order: %s"
            _LOG.warning(message, path, ", ".join(map(str, along)), ", ".join(map(str, names)))
    return tuple(map(str, names)) if len(set(names)) == len(names) == count else ()


def _flags(attributes: Mapping[str, Any]) -> ClassTable:
    values = np.atleast_1d(attributes.get("flag_values", []))
    meanings = str(attributes.get("flag_meanings", "")).split()
    if values.shape != (len(meanings),) or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        return {}
    return {int(value): (meaning, None) for value, meaning in zip(values, meanings, strict=True)}
