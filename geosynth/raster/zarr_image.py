"""Images as Zarr v3 stores that xarray and rioxarray open like an image file.

Layout: `image` (band, y, x), or (sample, band, y, x) for several realisations; its coordinate `valid` (y, x), False
where there is no data; the coordinates `band` (names), `y` and `x` (pixel centres), and the CF grid mapping
`spatial_ref`. `xr.open_zarr(path, decode_coords="all")["image"]` returns the image with its CRS;
`image.where(image.valid)` masks it. There is no fill value, since every value of a byte may be data. Chunks of 512 px
are in shards of 4096 px.

Overviews, as in a COG, are each half as large as the previous one, until one fits into a chunk. They are groups
`ovr_2x`, `ovr_4x`, ... with the same array names, found by the Zarr convention `multiscales`. `raster.conventions`
makes the attributes for georeferencing.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import rioxarray  # noqa: F401 - registers the accessor `.rio`
import xarray as xr
import zarr
from odc.geo.geobox import GeoBox

from geosynth.config.bands import Quantity
from geosynth.files import replacing
from geosynth.grid import Window
from geosynth.progress import Progress, silent
from geosynth.raster.arrays import pixel_centres
from geosynth.raster.bands import told_names
from geosynth.raster.cog import overview_factors
from geosynth.raster.conventions import grid_attributes, multiscales_attributes
from geosynth.raster.mark import mark_of
from geosynth.raster.quantities import quantity_attributes
from geosynth.raster.read import Array, Mask, Read, filled
from geosynth.raster.zarr import ZarrRaster

CHUNK, SHARD = 512, 4096
_OVERVIEW_SHARD = SHARD // 2  # made from one shard of the next finer level
_SHARD_COPIES = 5  # pixels, compressed chunks, these joined, and what stays with the allocator: measured with noise


def writing_bytes(geobox: GeoBox, num_bands: int, dtype: str) -> int:
    """Bytes that `zarr_image_writer` takes at its peak, of which its largest shard has several copies."""
    pixels = math.prod(min(SHARD, side) for side in geobox.shape)
    return _SHARD_COPIES * pixels * num_bands * np.dtype(dtype).itemsize


@contextmanager
def zarr_image_writer(
    path: Path,
    geobox: GeoBox,
    band_names: Sequence[str],
    *,
    dtype: str = "uint8",
    quantities: Sequence[Quantity] = (),
    tags: Mapping[str, str],
    num_samples: int | None = None,
    folder: Path | None = None,
) -> Iterator[Callable[..., None]]:
    """Write a Zarr image; it appears complete when the context ends, and after an error nothing is left behind.

    Args:
        path: of the finished store; an existing one is replaced at the end.
        geobox: its grid.
        band_names: the coordinate `band`.
        dtype: of the pixels.
        quantities: what the values of each band mean; empty if that is not known.
        tags: attributes of `image`; if they call it synthetic, it is marked so (`raster.mark`).
        num_samples: length of the dimension `sample`; None for no such dimension.
        folder: for the unfinished store, on the same disk; None for the folder of the finished one.

    Yields:
        a function that fills the image, or one realisation of it, shard by shard. Its arguments are `read`, which
        returns, for a window of the grid, pixels (bands, height, width) and where there is data (height, width);
        `sample`, the index of the realisation, from 0 (`valid` is taken from the first); and `progress`, called with
        the number of finished shards and of all shards.

    Raises:
        OutputError: if the store cannot be written.
    """
    factors = overview_factors(max(geobox.shape), CHUNK)
    # The last rows and columns of overviews may extend beyond the image.
    grids = {"": geobox} | {f"ovr_{factor}x": geobox.zoom_out(factor) for factor in factors}
    mark = mark_of(tags)
    attributes = {**tags, **mark, **quantity_attributes(quantities)}
    with replacing(path, folder=folder) as partial:
        with warnings.catch_warnings():
            # The specification lacks names as text, and consolidated metadata, which xarray wants.
            warnings.filterwarnings("ignore", module="zarr")
            groups = [
                _create(partial / name, _layout(grid, band_names, dtype, attributes, num_samples), finest=not name)
                for name, grid in grids.items()
            ]
            levels = {name or "image": grid for name, grid in grids.items()}
            groups[0].attrs.update({**mark, **multiscales_attributes(levels, "average")})
            zarr.consolidate_metadata(str(partial), zarr_format=3)
        image, stored = groups[0]["image"], groups[0]["valid"]

        def copy(read: Read, sample: int = 0, progress: Progress = silent) -> None:
            plan = Window(0, 0, *geobox.shape).pieces(SHARD)
            for done, window in enumerate(plan, start=1):
                pixels, valid = read(window)
                pixels = filled(pixels, valid)  # under the same name, so that there are not two copies
                if valid.any():  # pixels that are not stored read as 0 and False
                    place = (..., *window.slices)
                    image[place if num_samples is None else (sample, *place)] = pixels
                    if sample == 0:
                        stored[window.slices] = valid
                progress(done, len(plan))

        yield copy
        for finer, coarser in itertools.pairwise(groups):
            _make_overview(finer, coarser)


def _create(path: Path, layout: xr.Dataset, *, finest: bool) -> Any:
    """Create a level of an image, without pixels; returns its group, open for writing."""
    encoding = _encoding(layout, SHARD if finest else _OVERVIEW_SHARD)
    layout.to_zarr(path, mode="w", zarr_format=3, consolidated=False, compute=False, encoding=encoding)
    return zarr.open_group(str(path), mode="r+", use_consolidated=False)


def _layout(
    geobox: GeoBox, band_names: Sequence[str], dtype: str, attributes: Mapping[str, Any], num_samples: int | None
) -> xr.Dataset:
    """The store's dataset, without pixels."""
    coords: dict[str, Any] = {"band": list(band_names)}
    if num_samples is not None:
        coords["sample"] = np.arange(num_samples)
    if geobox.axis_aligned:  # a rotated grid has only the GeoTransform
        coords |= pixel_centres(geobox)
    coords["valid"] = (("y", "x"), da.zeros(tuple(geobox.shape), dtype=bool, chunks=-1), grid_attributes(geobox))
    shape = (*(() if num_samples is None else (num_samples,)), len(band_names), *geobox.shape)
    image = xr.DataArray(
        da.zeros(shape, dtype=dtype, chunks=-1),
        dims=("sample", "band", "y", "x")[-len(shape) :],
        coords=coords,
        attrs={**attributes, "long_name": list(band_names), **grid_attributes(geobox)},
    )
    if geobox.crs is not None:
        image = image.rio.write_crs(geobox.crs.to_wkt())
    layout: xr.Dataset = image.rio.write_transform(geobox.affine).to_dataset(name="image")
    return layout


def _make_overview(finer: Any, coarser: Any) -> None:
    """Fill an overview from the next finer level, shard by shard; of that, a few chunks are in memory at a time."""
    for window in Window(0, 0, *coarser["valid"].shape).pieces(_OVERVIEW_SHARD):
        valid = _below(finer["valid"], window)
        if valid.any():
            coarser["valid"][window.slices] = _blocks(valid).any(axis=(-3, -1))
            for sample in np.ndindex(finer["image"].shape[:-3]):
                pixels = np.zeros((coarser["image"].shape[-3], window.height, window.width), coarser["image"].dtype)
                for part in window.pieces(CHUNK):
                    values = _below(finer["image"], part, (*sample, slice(None)))
                    pixels[:, *part.slices_in(window)] = _average(values, _below(finer["valid"], part))
                coarser["image"][(*sample, slice(None), *window.slices)] = pixels


def _below(finer: Any, window: Window, front: tuple[Any, ...] = ()) -> Array:
    """The pixels of the finer level under a window of the overview."""
    values: Array = finer[(*front, *(slice(2 * part.start, 2 * part.stop) for part in window.slices))]
    return values


def _blocks(values: Array) -> Array:
    """(..., height, width) as (..., rows, 2, columns, 2), with zeros beyond the last row and column."""
    *front, height, width = values.shape
    padded = np.pad(values, [*[(0, 0)] * len(front), (0, height % 2), (0, width % 2)])
    return padded.reshape(*front, padded.shape[-2] // 2, 2, padded.shape[-1] // 2, 2)


def _average(pixels: Array, valid: Mask) -> Array:
    """Means of the pixels with data among 2 x 2, halves rounded up; 0 where there are none."""
    counts = _blocks(valid).sum(axis=(-3, -1))
    sums = _blocks(filled(pixels, valid)).sum(axis=(-3, -1), dtype=np.float64)
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    rounded: Array = np.floor(means + 0.5) if pixels.dtype.kind in "iu" else means
    return rounded.astype(pixels.dtype)


def _encoding(layout: xr.Dataset, shard: int) -> dict[str, dict[str, Any]]:
    """Chunks and shards of the two large arrays; shards are whole chunks, no larger than the array needs."""
    image = layout["image"]
    sides = [min(shard, -(-image.sizes[name] // CHUNK) * CHUNK) for name in ("y", "x")]
    chunks = [min(CHUNK, side) for side in sides]
    leading = [1] * (image.ndim - 3) + [image.sizes["band"]]
    return {
        name: {"chunks": (*front, *chunks), "shards": (*front, *sides), "grid_mapping": "spatial_ref"}
        for name, front in (("image", leading), ("valid", []))
    }


def join_samples(parts: Sequence[Path], out: Path, geobox: GeoBox, tags: Mapping[str, str], folder: Path) -> None:
    """Copy images of one grid into one store, shard by shard, along the dimension `sample`.

    Args:
        parts: stores made by `zarr_image_writer`, in the order of the samples.
        out: the common store; it appears when it is complete.
        geobox: their grid.
        tags: of the store.
        folder: as for `zarr_image_writer`.

    Raises:
        OutputError: if it cannot be written.
    """
    images = [ZarrRaster(part, "image") for part in parts]
    first = images[0]
    with zarr_image_writer(
        out,
        geobox,
        told_names(first),
        dtype=str(first.dtype),
        quantities=first.quantities,
        tags=tags,
        num_samples=len(parts),
        folder=folder,
    ) as copy:
        for sample, image in enumerate(images):
            copy(image.read, sample)
