"""How a store is laid out on the disk: arrays, chunks, shards, and the attributes that tell other software its grid.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox
from zarr.codecs import BloscCodec, Crc32cCodec

from geosynth.legend import Legend
from geosynth.raster.conventions import grid_attributes

CHUNK_SIZE = 256
SHARD_SIZE = 2048
_MAX_SHARD_BYTES = 2**26  # uncompressed; a writing thread needs a few times as much


def shard_edge(bands: int, dtype: np.dtype[Any], chunk_size: int = CHUNK_SIZE, shard_size: int = SHARD_SIZE) -> int:
    """Side of a shard in pixels: `shard_size`, halved while a shard of all bands would exceed 64 MB."""
    edge = shard_size
    while edge > chunk_size and edge // 2 % chunk_size == 0 and bands * dtype.itemsize * edge**2 > _MAX_SHARD_BYTES:
        edge //= 2
    return edge


@dataclass(frozen=True)
class Layout:
    """Creates the arrays of a store, all on one grid and with chunks and shards of one size."""

    group: Any
    """The Zarr group of the store."""
    geobox: GeoBox
    """The whole grid."""
    chunk: int
    """Side of a chunk in pixels."""
    edge: int
    """Side of a shard in pixels."""

    def create_image(self, band_names: Sequence[str], dtype: np.dtype[Any]) -> None:
        """Create the array `image` (band, y, x); 0 where nothing is stored."""
        self._create("image", dtype, 0, {"long_name": list(band_names)}, bands=len(band_names))

    def create_labels(self, legend: Legend) -> None:
        """Create the array `labels` (y, x) of the legend's codes; its `nodata_code` where nothing is stored."""
        more = {
            "nodata": legend.nodata_code,
            "flag_values": list(legend.codes),
            "flag_meanings": " ".join(re.sub(r"\W+", "_", name).strip("_") for name in legend.names),
            "flag_colors": " ".join(entry.colour for entry in legend.classes),
        }
        self._create("labels", legend.code_dtype, legend.nodata_code, more)

    def create_extra(self, name: str, dtype: np.dtype[Any], nodata: float) -> None:
        """Create the array of a further map (y, x), of values as stored."""
        fill = dtype.type(nodata).item()
        more = {"nodata": fill} if math.isfinite(fill) else {}  # JSON has finite numbers only; fill values have others
        self._create(name, dtype, fill, more)

    def create_coordinates(self) -> None:
        """Create CF coordinates, with which `xr.open_zarr(path, decode_coords="all").rio.crs` works."""
        height, width = self.geobox.shape
        a = self.geobox.affine
        if a.b == 0 and a.d == 0:  # a rotated grid has a GeoTransform but no one-dimensional coordinates
            geographic = self.geobox.crs is not None and self.geobox.crs.geographic
            names = {"x": ("longitude", "degrees_east"), "y": ("latitude", "degrees_north")} if geographic else {}
            axes = {"x": a.c + a.a * (np.arange(width) + 0.5), "y": a.f + a.e * (np.arange(height) + 0.5)}
            for name, values in axes.items():
                standard, units = names.get(name, (f"projection_{name}_coordinate", "m"))
                attributes: dict[str, Any] = {"axis": name.upper()}
                if self.geobox.crs is not None and (geographic or self.geobox.crs.units == ("metre", "metre")):
                    attributes |= {"standard_name": standard, "units": units}
                array = self.group.create_array(
                    name, shape=values.shape, dtype="float64", dimension_names=(name,), attributes=attributes
                )
                array[:] = values
        if self.geobox.crs:
            wkt = self.geobox.crs.to_wkt()
            transform = " ".join(repr(value) for value in a.to_gdal())
            reference = self.group.create_array(
                "spatial_ref",
                shape=(),
                dtype="int64",
                dimension_names=(),
                attributes={"crs_wkt": wkt, "spatial_ref": wkt, "GeoTransform": transform},
            )
            reference[...] = 0

    def _create(
        self, name: str, dtype: np.dtype[Any], fill: float, attributes: Mapping[str, Any], bands: int | None = None
    ) -> None:
        """Create an array (y, x), or (band, y, x) if a number of bands is given."""
        # In whole chunks, no larger than the grid needs.
        shard = [min(self.edge, -(-side // self.chunk) * self.chunk) for side in self.geobox.shape]
        front = () if bands is None else (bands,)
        attributes = {**attributes, **grid_attributes(self.geobox)}
        if self.geobox.crs:
            attributes |= {"grid_mapping": "spatial_ref", "_CRS": {"wkt": self.geobox.crs.to_wkt()}}
        self.group.create_array(
            name,
            shape=(*front, *self.geobox.shape),
            chunks=(*front, self.chunk, self.chunk),
            shards=(*front, *shard),
            dtype=dtype,
            compressors=(
                BloscCodec(cname="lz4hc", clevel=5, shuffle="noshuffle" if dtype.itemsize == 1 else "shuffle"),
                Crc32cCodec(),
            ),
            fill_value=fill,
            dimension_names=("band", "y", "x")[-2 - len(front) :],
            attributes=attributes,
        )
