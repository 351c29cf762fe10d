"""Images by their names: files that GDAL opens, or images in Zarr stores; and how to tell those made by `generate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geosynth.errors import DataError, RasterError
from geosynth.raster.conventions import tags_among
from geosynth.raster.raster_file import open_raster
from geosynth.raster.read import ImageRaster
from geosynth.raster.zarr_group import find_group, is_image, is_of_scenes


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
    group = find_group(path)
    if group is None:
        return open_raster(path, bands)
    if is_of_scenes(group.attrs):
        raise DataError(
            f"{path}: is a store of scenes, and no image; say it as --data, or one of the files that it was made of"
        )
    from geosynth.raster.zarr import ZarrRaster  # takes a second to import

    return ZarrRaster(path, bands=bands, kind="image")


def is_zarr_name(out: Path) -> bool:
    """Whether an image of this name becomes a Zarr store."""
    return out.suffix.lower() == ".zarr"


def is_generated(path: Path) -> bool:
    """Whether an image was made by `generate`, so that it may be overwritten, and not by other software."""
    try:
        return "GEOSYNTH_VERSION" in image_tags(path)
    except (RasterError, ValueError):
        return False


def image_tags(image: Path) -> dict[str, str]:
    """Provenance of an image made by `generate`, a GeoTIFF or a Zarr store, under the names in `provenance`.

    Raises:
        RasterError: if it is not a raster.
    """
    group = find_group(image)
    if group is None or not is_image(group):
        return open_raster(image).tags
    return tags_among(group["image"].attrs)  # works for several realisations too, which are not a raster
