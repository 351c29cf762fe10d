"""LabelArray: class codes in an `xarray.DataArray`, read only when they are needed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import rioxarray  # noqa: F401 - registers the accessor `.rio`
import xarray as xr
from odc.geo.geobox import GeoBox

from geosynth.errors import DataError, GridError
from geosynth.grid import Window
from geosynth.legend import NO_COLOUR
from geosynth.raster.arrays import grid_of, pixel_centres, single_layer
from geosynth.raster.coded_labels import are_colours, colour_codes, nodata_colour
from geosynth.raster.read import Array, Mask, Raster, check_inside, has_data

_CHUNK = 1024  # pixels; side of the pieces in which values are read that are not in dask


@dataclass
class LabelArray(Raster):
    """Class codes in an `xarray.DataArray`, read only when they are needed."""

    array: xr.DataArray
    """(y, x), as given, without dimensions of size one."""
    codes: da.Array
    """Its values, (height, width)."""
    geobox: GeoBox
    """The grid of its coordinates."""
    nodata: float | None
    """The value of pixels without a class, or None; NaN is never a class."""
    path: str
    """Its name in messages."""
    holds_colours: bool = False
    """Whether its codes are colours."""

    @classmethod
    def of(cls, labels: xr.DataArray) -> LabelArray:
        """Labels from an array, by its coordinates, `.rio.crs` and `.rio.nodata`.

        Args:
            labels: codes (y, x), further dimensions of size one are allowed; or bytes (band, y, x) of red, green and
                blue, with or without alpha. In memory, in dask chunks, or still in a file.

        Raises:
            GridError: if coordinates are missing, rotated or uneven.
            DataError: if it has more than one layer, or does not contain numbers.
        """
        name = "labels" if labels.name is None else f"labels {labels.name!r}"
        _check_numbers(labels, name)  # first: rioxarray cannot say the nodata of others
        nodata, has_colours = labels.rio.nodata, _has_colours(labels)
        if has_colours:
            labels, nodata = _colours_as_codes(labels, nodata_colour(nodata))
        array = single_layer(labels, name)
        codes = array.data if array.chunks else array.chunk(_CHUNK).data
        nodata = None if nodata is None or np.isnan(nodata) else float(nodata)
        return cls(array, codes, grid_of(array, name), nodata, name, has_colours)

    @classmethod
    def of_raster(cls, raster: Raster, chunk_size: int) -> LabelArray:
        """A raster of class codes as an array, read in pieces of `chunk_size` pixels.

        Raises:
            GridError: on a rotated grid, whose pixels have no coordinates y and x.
        """
        if not raster.geobox.axis_aligned:
            raise GridError(f"{raster.path}: lies on a rotated grid, which has no coordinates y and x; write the image")
        pieces = _Pieces(raster)
        codes = da.from_array(pieces, chunk_size, name=f"labels-{uuid.uuid4()}", asarray=False)
        array = xr.DataArray(codes, dims=("y", "x"), coords=pixel_centres(raster.geobox), name=raster.path)
        return cls(array, codes, raster.geobox, pieces.nodata, raster.path)

    def __post_init__(self) -> None:
        self.dtype = self.codes.dtype

    @property
    def files(self) -> tuple[str, ...]:
        """The files it is read from, as far as xarray knows."""
        return (str(self.array.encoding["source"]),) if "source" in self.array.encoding else ()

    def read(self, window: Window) -> tuple[Array, Mask]:
        """See `Raster.read`."""
        check_inside(window, self)
        values = np.array(self.codes[window.slices].compute())[np.newaxis]
        return values, has_data(values, self.nodata)

    def keys(self, window: Window) -> list[list[tuple[Any, ...]]]:
        """Keys of the chunks that `window` overlaps, row by row."""
        rows, columns = self._touched(window)
        return [[(self.codes.name, row, column) for column in columns] for row in rows]

    def corners(self, window: Window) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """First rows and first columns of the chunks that `keys` returns."""
        tops, lefts = (np.cumsum((0, *sizes)) for sizes in self.codes.chunks)
        rows, columns = self._touched(window)
        return tuple(int(tops[row]) for row in rows), tuple(int(lefts[column]) for column in columns)

    def _touched(self, window: Window) -> tuple[range, range]:
        spans = ((window.row, window.bottom), (window.column, window.right))
        touched = []
        for (start, stop), sizes in zip(spans, self.codes.chunks, strict=True):
            ends = np.cumsum(sizes)
            first, last = np.searchsorted(ends, (start, stop - 1), side="right")
            touched.append(range(int(first), int(last) + 1))
        return touched[0], touched[1]

    def image(
        self, pixels: da.Array, valid: da.Array, band_names: Sequence[str], attributes: Mapping[str, Any]
    ) -> xr.DataArray:
        """An image on the coordinates of the labels.

        Args:
            pixels: (bands, height, width).
            valid: (height, width), True where there is data; becomes the coordinate `valid`.
            band_names: for the coordinate `band`, and for `long_name`, where rioxarray looks for descriptions.
            attributes: further attributes.
        """
        y, x = self.array.dims
        places = {dim: self.array.coords[dim] for dim in (y, x)}
        image = xr.DataArray(
            pixels,
            dims=("band", y, x),
            coords={"band": list(band_names), **places, "valid": ((y, x), valid)},
            name="image",
            attrs={**attributes, "long_name": tuple(band_names)},
        )
        if self.geobox.crs is not None:
            image = image.rio.write_crs(self.geobox.crs.to_wkt())
        written: xr.DataArray = image.rio.write_transform(self.geobox.affine)
        return written


def _check_numbers(labels: xr.DataArray, name: str) -> None:
    if labels.dtype.kind not in "iuf":
        remedy = " (.astype('uint8') makes them 0 and 1)" if labels.dtype.kind == "b" else ""
        raise DataError(f"{name}: has {labels.dtype} values; class codes are integers{remedy}")


def _has_colours(array: xr.DataArray) -> bool:
    """Whether an array has bytes of red, green, blue (and alpha): named so, or, as of rioxarray, without names."""
    names = array.coords["band"].to_numpy().tolist() if array.sizes.get("band") and "band" in array.coords else []
    if not any(isinstance(name, str) for name in names):
        names = ["red", "green", "blue", "alpha"][: array.sizes.get("band", 0)]
    return len(names) == array.sizes.get("band") and are_colours(names, array.dtype)


def _colours_as_codes(array: xr.DataArray, nodata: int | None) -> tuple[xr.DataArray, int | None]:
    """Codes 0xRRGGBB, and the code of no data, which is that of pixels whose alpha is 0 too; nothing is read."""
    pieces = array if array.chunks else array.chunk(dict.fromkeys(array.dims, _CHUNK))
    red, green, blue, *alpha = (pieces.isel(band=band, drop=True) for band in range(array.sizes["band"]))
    codes: xr.DataArray = colour_codes(red, green, blue)
    for band in alpha:
        nodata = NO_COLOUR if nodata is None else nodata
        codes = codes.where(band > 0, np.uint32(nodata))
    codes.encoding = {name: value for name, value in array.encoding.items() if name == "source"}
    return codes, nodata


class _Pieces:
    """A raster that dask can slice: (height, width), with one value where there is no data."""

    def __init__(self, raster: Raster) -> None:
        self.raster = raster
        self.shape, self.ndim = tuple(raster.geobox.shape), 2
        self.dtype, self.nodata = raster.dtype, raster.nodata
        if raster.dtype.kind == "f":
            self.nodata = np.nan
        elif raster.nodata is None or not _holds(raster.dtype, raster.nodata):
            self.dtype, self.nodata = np.dtype(np.int64), float(np.iinfo(np.int64).min)

    def __getitem__(self, slices: tuple[slice, slice]) -> Array:
        rows, columns = slices
        window = Window(rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
        (values,), valid = self.raster.read(window)
        pieces: Array = np.where(valid, values, self.dtype.type(self.nodata))
        return pieces.astype(self.dtype, copy=False)


def _holds(dtype: np.dtype[Any], value: float) -> bool:
    """Whether an integer type has this value."""
    limits = np.iinfo(dtype)
    return float(value).is_integer() and limits.min <= value <= limits.max
