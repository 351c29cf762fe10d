"""Images as people look at them: in red, green and blue, and small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from geosynth.config.bands import rgb_bands
from geosynth.files import replacing
from geosynth.raster.mark import XMP, mark_of
from geosynth.raster.read import RasterFile, open_raster

_PREVIEW = 1024  # pixels: the longest side of a preview


def write_preview(image: Path, preview: Path) -> None:
    """A PNG of an image as `shown_image` has it, at most 1024 pixels wide and high.

    It is marked as synthetic if the image is.
    """
    raster = open_raster(image)
    picture = shown_image(raster, shown_shape(raster, _PREVIEW))
    said = PngInfo()
    if mark_of(raster.tags):
        said.add_itxt("XML:com.adobe.xmp", XMP)
    with replacing(preview) as partial:
        Image.fromarray(picture).save(partial, format="PNG", pnginfo=said)


def shown_shape(raster: RasterFile, longest: int) -> tuple[int, int]:
    """Height and width in which a raster is shown whole: its own, or fewer pixels if its longer side has more."""
    height, width = raster.geobox.shape
    factor = min(1.0, longest / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def shown_image(raster: RasterFile, shape: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """(height, width, 4) of a whole image in the colours of `rgb_bands`, transparent without data.

    Bytes are shown as they are, other values from their 2nd to their 98th percentile.
    """
    bands = [band + 1 for band in rgb_bands([name or "" for name in raster.band_names])]
    values, valid = open_raster(raster.path, bands).read_reduced(shape, "average")
    if values.dtype != np.uint8:
        seen = values[:, valid]
        low, high = np.percentile(seen, (2, 98)) if seen.size else (0.0, 1.0)
        values = (255 * ((np.where(valid, values, low) - low) / max(high - low, 1e-9)).clip(0, 1)).round()
    return np.dstack([*values, np.where(valid, 255, 0)]).astype(np.uint8)
