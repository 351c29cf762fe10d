"""Images to look at: in red, green and blue, and small."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from geosynth.config.bands import rgb_bands
from geosynth.files import replacing
from geosynth.grid.alignment import is_south_up
from geosynth.raster.images import open_image
from geosynth.raster.mark import XMP, mark_of
from geosynth.raster.read import Array, ImageRaster, Mask

_PREVIEW = 1024  # pixels: the longest side of a preview


def write_preview(image: Path, preview: Path, folder: Path | None = None) -> None:
    """Write a PNG of an image, as `shown_images` shows it, at most 1024 pixels wide and high.

    It is marked as synthetic if the image is. The folder is where it is made, as for `replacing`.
    """
    raster = open_image(image)
    (picture,) = shown_images([raster], shown_shape(raster, _PREVIEW))
    said = PngInfo()
    if mark_of(raster.tags):
        said.add_itxt("XML:com.adobe.xmp", XMP)
    with replacing(preview, folder=folder) as partial:
        Image.fromarray(picture).save(partial, format="PNG", pnginfo=said)


def shown_shape(raster: ImageRaster, longest: int) -> tuple[int, int]:
    """Height and width in which a whole raster is shown: its own, reduced if the longer side exceeds `longest`."""
    height, width = raster.geobox.shape
    factor = min(1.0, longest / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def shown_images(rasters: Sequence[ImageRaster], shape: tuple[int, int]) -> list[npt.NDArray[np.uint8]]:
    """Whole images as (height, width, 4), in the colours of `rgb_bands`, transparent where there is no data.

    Bytes are shown as they are, other values from the 2nd to the 98th percentile over all images of the same type,
    scale and offset, so that an image that is paler than another looks paler. Images stored south up are turned north
    up.
    """
    read: list[tuple[Array, Mask, Any]] = []
    alike: dict[Any, list[Array]] = {}  # values with data of the images that are shown with the same limits
    for raster in rasters:
        bands = [band + 1 for band in rgb_bands([name or "" for name in raster.band_names])]
        seen = open_image(raster.path, bands)
        values, valid = seen.read_reduced(shape, "average")
        kind = (seen.dtype, *((band.scale, band.offset) for band in seen.quantities))
        alike.setdefault(kind, []).append(values[:, valid].ravel())
        read.append((values, valid, kind))
    limits = {kind: _limits(np.concatenate(several)) for kind, several in alike.items()}
    pictures = []
    for values, valid, kind in read:
        low, high = limits[kind]
        scaled = (np.where(valid, values, low) - low) / max(high - low, 1e-9)
        pictures.append(np.dstack([*(255 * scaled.clip(0, 1)).round(), np.where(valid, 255, 0)]).astype(np.uint8))
    return [turned_north(picture, raster.geobox) for picture, raster in zip(pictures, rasters, strict=True)]


def turned_north(picture: npt.NDArray[np.uint8], geobox: GeoBox) -> npt.NDArray[np.uint8]:
    """A picture of pixels of a grid, (height, width, channels), with its northernmost row first."""
    return picture[::-1] if is_south_up(geobox) else picture


def _limits(values: Array) -> tuple[float, float]:
    """The values that are shown as 0 and as 255."""
    if values.dtype == np.uint8 or not values.size:
        return 0, 255
    low, high = np.percentile(values, (2, 98))
    return float(low), float(high)
