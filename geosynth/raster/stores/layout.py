"""How a store is laid out on the disk: arrays, chunks, shards, attributes by which other software finds its grid.

With chunks of 256 px, random patches read the least; shards of 2048 px keep the number of files small. Chunks are
compressed by LZ4 HC, which of the codecs tried is read fastest (0.1 ms for four bands, a third of Zstandard's time),
and needs 5 to 10 % more space. A CRC-32C (which Intel's and Arm's processors compute) follows each chunk, so that
damage is noticed when it is read. A shard is the unit of writing. Chunks and shards with only the fill value are not
stored.

Conventions: CF coordinates `x`, `y` (pixel centres) and grid mapping `spatial_ref` with `GeoTransform`, for xarray and
rioxarray; `_CRS`, for GDAL; Zarr's own (`raster.conventions`); CF `flag_values` and `flag_meanings`, for the classes.
Labels declare their nodata code as `nodata`, not as `_FillValue`, which would make xarray turn class codes into floats.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from odc.geo.geobox import GeoBox
from zarr.codecs import BloscCodec, Crc32cCodec

from geosynth.raster.conventions import grid_attributes
from geosynth.raster.stores.source import PatchSource

CHUNK_SIZE = 256
SHARD_SIZE = 2048
_MAX_SHARD_BYTES = 2**26  # uncompressed; a writing thread needs a few times as much


def shard_edge(source: PatchSource, chunk_size: int = CHUNK_SIZE, shard_size: int = SHARD_SIZE) -> int:
    """Side of a shard in pixels: `shard_size`, halved while a shard of all bands would exceed 64 MB."""
    edge, sample = shard_size, len(source.band_names) * source.dtype.itemsize  # bytes per pixel
    while edge > chunk_size and edge // 2 % chunk_size == 0 and sample * edge**2 > _MAX_SHARD_BYTES:
        edge //= 2
    return edge


def create_arrays(group: Any, source: PatchSource, chunk: int, edge: int) -> None:
    """Create the arrays of a store: `image` (band, y, x), 0 where nothing is stored, and `labels` (y, x), nodata there.

    Further maps (y, x) have values as stored, and their own nodata value.

    Args:
        group: the Zarr group of the store.
        source: on whose grid, with whose legend, bands, dtype and further maps.
        chunk: side of a chunk in pixels.
        edge: side of a shard in pixels.
    """
    geobox, legend = source.geobox, source.legend
    # In whole chunks, no larger than the grid needs.
    shard = [min(edge, -(-side // chunk) * chunk) for side in geobox.shape]
    on_grid: dict[str, Any] = grid_attributes(geobox)
    if geobox.crs:
        on_grid |= {"grid_mapping": "spatial_ref", "_CRS": {"wkt": geobox.crs.to_wkt()}}

    def create(name: str, dtype: np.dtype[Any], fill: float, attributes: Mapping[str, Any], *bands: int) -> None:
        shuffle: Literal["noshuffle", "shuffle"] = "noshuffle" if dtype.itemsize == 1 else "shuffle"
        group.create_array(
            name,
            shape=(*bands, *geobox.shape),
            chunks=(*bands, chunk, chunk),
            shards=(*bands, *shard),
            dtype=dtype,
            compressors=(BloscCodec(cname="lz4hc", clevel=5, shuffle=shuffle), Crc32cCodec()),
            fill_value=fill,
            dimension_names=("band", "y", "x")[-2 - len(bands) :],
            attributes={**attributes, **on_grid},
        )

    create("image", source.dtype, 0, {"long_name": list(source.band_names)}, len(source.band_names))
    classes = {
        "nodata": legend.nodata_code,
        "flag_values": list(legend.codes),
        "flag_meanings": " ".join(re.sub(r"\W+", "_", name).strip("_") for name in legend.names),
        "flag_colors": " ".join(entry.colour for entry in legend.classes),
    }
    create("labels", legend.code_dtype, legend.nodata_code, classes)
    for name, (own, nodata) in source.extras.items():
        fill = own.type(nodata).item()
        # JSON has finite numbers only; fill values have others.
        create(name, own, fill, {"nodata": fill} if math.isfinite(fill) else {})
    _create_coordinates(group, geobox)


def _create_coordinates(group: Any, geobox: GeoBox) -> None:
    """Create CF coordinates, with which `xr.open_zarr(path, decode_coords="all").rio.crs` works."""
    height, width = geobox.shape
    a, crs = geobox.affine, geobox.crs
    if geobox.axis_aligned:  # a rotated grid has a GeoTransform but no one-dimensional coordinates
        geographic = crs is not None and crs.geographic
        names = {"x": ("longitude", "degrees_east"), "y": ("latitude", "degrees_north")} if geographic else {}
        axes = {"x": a.c + a.a * (np.arange(width) + 0.5), "y": a.f + a.e * (np.arange(height) + 0.5)}
        for name, values in axes.items():
            standard, units = names.get(name, (f"projection_{name}_coordinate", "m"))
            attributes: dict[str, Any] = {"axis": name.upper()}
            if crs is not None and (geographic or (crs.projected and crs.units == ("metre", "metre"))):
                attributes |= {"standard_name": standard, "units": units}
            array = group.create_array(
                name, shape=values.shape, dtype="float64", dimension_names=(name,), attributes=attributes
            )
            array[:] = values
    if crs:
        wkt, transform = crs.to_wkt(), " ".join(repr(value) for value in a.to_gdal())
        attributes = {"crs_wkt": wkt, "spatial_ref": wkt, "GeoTransform": transform}
        reference = group.create_array(
            "spatial_ref", shape=(), dtype="int64", dimension_names=(), attributes=attributes
        )
        reference[...] = 0
