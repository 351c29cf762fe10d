"""Images by their names: files that GDAL opens, or images in Zarr stores; and how to tell those made by `generate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from geosynth.errors import RasterError
from geosynth.raster.conventions import tags_among
from geosynth.raster.raster_file import open_raster
from geosynth.raster.read import ImageRaster
from geosynth.raster.zarr_group import find_group, is_image


def open_image(path: str | Path, bands: Sequence[int] | None = None) -> ImageRaster:
    """Open an image, by file name or URL: a file that GDAL reads, or the image in a Zarr store.

    In a store it is the array called "image", else the only one with several bands, else the only one.

    Args:
        path: file name or URL.
        bands: numbers of the bands to read, from 1, in any order; None for all.

    Raises:
        RasterError: if it is missing, not a raster, or georeferenced only by control points or RPCs.
        DataError, GridError: if a Zarr store has no image, several, one without coordinates, or is one of scenes.
    """
    if find_group(path) is None:
        return open_raster(path, bands)
    from geosynth.raster.zarr import open_zarr_image  # takes a second to import

    return open_zarr_image(path, bands)


def is_zarr_name(out: Path) -> bool:
    """Whether an image of this name becomes a Zarr store."""
    return out.suffix.lower() == ".zarr"


def _image_group(path: Path) -> Any | None:
    """The Zarr group of an image; None if there is something else, such as a GeoTIFF."""
    group = find_group(path)
    return group if group is not None and is_image(group) else None


def is_generated(path: Path) -> bool:
    """Whether a Zarr store is an image made by `generate`, which may be overwritten, and not other software's."""
    try:
        group = _image_group(path)
        return group is not None and "GEOSYNTH_VERSION" in tags_among(group["image"].attrs)
    except (RasterError, ValueError):
        return False


def image_tags(image: Path) -> dict[str, str]:
    """Provenance of an image made by `generate`, a GeoTIFF or a Zarr store, under the names in `provenance`.

    Raises:
        RasterError: if it is not a raster.
    """
    group = _image_group(image)
    if group is None:
        return open_raster(image).tags
    return tags_among(group["image"].attrs)  # works for several realisations too, which are not a raster
