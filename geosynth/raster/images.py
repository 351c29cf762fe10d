"""Images by their names: files that GDAL opens, or images in Zarr stores; and how to tell those made by `generate`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from geosynth.config.bands import Quantity
from geosynth.errors import RasterError
from geosynth.raster.conventions import tags_among
from geosynth.raster.raster_file import open_raster
from geosynth.raster.read import Array, Mask, Raster
from geosynth.raster.zarr_group import find_group, is_image


class ImageRaster(Raster, Protocol):
    """A raster that describes its bands: a `RasterFile` or a `ZarrRaster`."""

    @property
    def bands(self) -> tuple[int, ...]:
        """Numbers of the bands that are read, from 1; all below describes these."""

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Type of the values of each band."""

    @property
    def band_names(self) -> tuple[str | None, ...]:
        """Name of each band, None if it has none."""

    @property
    def colour_interpretation(self) -> tuple[str, ...]:
        """By GDAL's names, as in ("red", "green", "blue", "alpha")."""

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """What the values of each band mean; empty if that is not known."""

    @property
    def mask_kind(self) -> str:
        """How pixels without data are marked: "none", "nodata" (value), "mask" or "alpha" (band)."""

    @property
    def is_full(self) -> bool:
        """Whether all pixels are known to have data, without reading them."""

    @property
    def tags(self) -> dict[str, str]:
        """Its tags, such as those that record how it was made."""

    @property
    def files(self) -> tuple[str, ...]:
        """All files that it is read from, as far as they are on a disk."""

    def read_reduced(self, shape: tuple[int, int], how: str) -> tuple[Array, Mask]:
        """As `read`, for the whole raster in fewer pixels, from its overviews if it has some.

        Args:
            shape: height and width of the result.
            how: "average" for images, "mode" for class codes.

        Raises:
            RasterError: if the raster cannot be read.
        """


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
