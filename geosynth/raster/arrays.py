"""Arrays of xarray: their grids, and class codes in an `xarray.DataArray`."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import rasterio.crs
import rioxarray  # noqa: F401 - registers the accessor `.rio`
import xarray as xr
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from odc.geo.xr import xr_coords
from rioxarray.exceptions import MissingSpatialDimensionError

from geosynth.errors import DataError, GridError, RasterError
from geosynth.grid import Window
from geosynth.grid.alignment import TOLERANCE
from geosynth.inputs import remote_allowed
from geosynth.legend import NO_COLOUR
from geosynth.raster.coded_labels import are_colours, colour_codes, nodata_colour
from geosynth.raster.conventions import crs_text_among
from geosynth.raster.read import Array, Mask, Raster, check_grid, check_inside, crs_of, has_data, readable_crs

_ROWS, _COLUMNS = {"y", "lat", "latitude", "northing"}, {"x", "lon", "long", "longitude", "easting"}
_DEGREES = {("lat", "lon"), ("lat", "long"), ("latitude", "longitude")}
# A CRS as an address, which GDAL would fetch; it knows those of the OGC by heart.
_ADDRESS = re.compile(r"\s*https?://(?!(www\.)?opengis\.net/def/crs)", re.IGNORECASE)
_CHUNK = 1024  # pixels; side of the pieces in which values are read that are not in dask


def with_places(array: xr.DataArray) -> xr.DataArray | None:
    """`array` with rows and columns known to rioxarray, by CF attributes or by names; None if neither tells them."""
    try:
        x, y = array.rio.x_dim, array.rio.y_dim
    except MissingSpatialDimensionError:
        told = [[dim for dim in array.dims if str(dim).casefold() in names] for names in (_COLUMNS, _ROWS)]
        if not all(told):
            return None
        x, y = told[0][0], told[1][0]
    placed: xr.DataArray = array.rio.set_spatial_dims(x, y)
    return placed


def single_layer(array: xr.DataArray, name: str) -> xr.DataArray:
    """`array` as (y, x), without its other dimensions, of size one; nothing is read.

    Raises:
        GridError: if it has no spatial dimensions.
        DataError: if it has more than one layer.
    """
    placed = with_places(array)
    if placed is None:
        raise GridError(f"{name}: no dimensions y and x among {list(array.dims)}; rename them")
    y, x = placed.rio.y_dim, placed.rio.x_dim
    others = [dim for dim in placed.dims if dim not in (y, x)]
    if any(placed.sizes[dim] != 1 for dim in others):
        sizes = ", ".join(f"{dim} {placed.sizes[dim]}" for dim in others)
        raise DataError(
            f"{name}: more than one layer ({sizes}); choose one with .isel (colours are bytes over band: red, green,"
            " blue)"
        )
    return placed.squeeze(others, drop=True).transpose(y, x)


def grid_of(array: xr.DataArray, name: str) -> GeoBox:
    """The grid of a (y, x) array: pixel centres from its coordinates, CRS as rioxarray finds it (or None).

    The coordinates decide, not a stored GeoTransform, which a selection does not update. Latitudes and longitudes
    without a CRS are taken as WGS 84.

    Raises:
        GridError: if coordinates are missing, rotated, uneven or empty; the message starts with `name`.
    """
    y, x = array.dims
    (y_start, y_step), (x_start, x_step) = (_even_steps(array, dim, name) for dim in (y, x))
    transform = Affine(x_step, 0, x_start - x_step / 2, 0, y_step, y_start - y_step / 2)
    crs = crs_among(array, name)
    if crs is None and (str(y).casefold(), str(x).casefold()) in _DEGREES:
        crs = CRS("EPSG:4326")
    geobox = GeoBox(array.shape, transform, crs)
    check_grid(geobox, name)
    return geobox


def crs_among(array: xr.DataArray, name: str) -> CRS | None:
    """The CRS that rioxarray finds in the attributes of an array or its grid mapping, or `proj` tells; None for none.

    Raises:
        RasterError: if it cannot be interpreted, or is an address in the network; the message starts with `name`.
    """
    reference = array.coords.get(array.rio.grid_mapping)
    convention = crs_text_among(array.attrs)
    told = [
        array.attrs.get("crs"),
        convention,
        *([] if reference is None else map(reference.attrs.get, ("spatial_ref", "crs_wkt"))),
    ]
    for text in filter(_ADDRESS.match, map(str, told)):
        if not remote_allowed():
            raise RasterError(
                f"{name}: its CRS is read from the network ({text[:200]}); use --remote if that is intended"
            )
    with readable_crs(name):
        own = array.rio.crs
        return crs_of(rasterio.crs.CRS.from_user_input(convention) if own is None and convention else own, name)


def _even_steps(array: xr.DataArray, dim: Any, name: str) -> tuple[float, float]:
    """First coordinate along a dimension, and the distance between neighbours."""
    if dim not in array.coords or array.coords[dim].dims != (dim,):
        raise GridError(f"{name}: no coordinates along {dim!r}, as on a rotated grid; warp it to a straight grid first")
    places = np.asarray(array.coords[dim], dtype=np.float64)
    if not len(places):
        raise GridError(f"{name}: no pixel along {dim!r}")
    if len(places) == 1:
        reference = array.coords.get(array.rio.grid_mapping)
        if reference is None or "GeoTransform" not in reference.attrs:
            raise GridError(f"{name}: one pixel along {dim!r}, and no GeoTransform that gives its size")
        transform = array.rio.transform()
        return float(places[0]), float(transform.a if dim == array.dims[1] else transform.e)
    step = (places[-1] - places[0]) / (len(places) - 1)
    even = places[0] + step * np.arange(len(places))
    if step == 0 or not np.abs(places - even).max() <= TOLERANCE * abs(step):
        raise GridError(f"{name}: uneven coordinates along {dim!r}; resample it to a regular grid first")
    return float(places[0]), float(step)


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
    """The value that stands for no class, or None; NaN never is a class."""
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


def pixel_centres(geobox: GeoBox) -> dict[str, Any]:
    """The coordinates `y` and `x` of a grid that is not rotated."""
    # odc-geo names no dimensions of other CRSs, such as a site's own coordinates.
    is_named = geobox.crs is None or geobox.crs.geographic or geobox.crs.projected
    coordinates = xr_coords(geobox if is_named else GeoBox(geobox.shape, geobox.affine, None), always_yx=True)
    return {name: coordinates[name] for name in ("y", "x")}
