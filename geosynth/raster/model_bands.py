"""The bands that a model needs: finding them in an image, in the model's order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np

from geosynth.config.bands import BandSettings, ImageDtype
from geosynth.errors import DataError
from geosynth.raster.bands import (
    given_names,
    how_to_convert,
    names_and_places,
    open_chosen,
    open_some,
    spelled_as,
    told_names,
    warn_of_descriptions,
)
from geosynth.raster.images import open_image
from geosynth.raster.quantities import agreed_quantities
from geosynth.raster.read import SCAN_BLOCK, ImageRaster


class NeededBands(NamedTuple):
    """The bands that a model needs."""

    bands: BandSettings
    """Names, dtype and quantities, in its order."""
    by: str
    """What messages call it: "model", "segmenter" or, of other imagery, "real imagery"."""
    file: str | Path
    """Its file, for messages."""


def open_bands(path: str | Path, needed: NeededBands, chosen: Sequence[str] | None = None) -> ImageRaster:
    """An image, opened with the bands that a model needs, in the model's order.

    Bands are found by the names that the user gave, else by those in the image (see `told_names`), upper or lower case.
    In an image without names they are taken in the model's order, leaving out a band of transparency. Their values must
    mean what they mean to the model, see `agreed_quantities`.

    Args:
        path: of the image.
        needed: the model's bands.
        chosen: names that the user gave, see `open_chosen`; None for none.

    Raises:
        RasterError: if the image cannot be opened.
        DataError: if bands are missing, of another type, or their values mean something else.
    """
    image, present = _open_present(path, needed, chosen)
    bands = needed.bands
    if len(present) < len(bands.names):
        raise _other_bands(open_image(path), needed, chosen)
    agreed_quantities([(str(needed.file), bands.quantities), (image.path, image.quantities)], bands.names)
    return image


def open_common_bands(
    paths: Sequence[str | Path], needed: NeededBands, chosen: Sequence[str] | None = None
) -> tuple[list[ImageRaster], list[int]]:
    """As `open_bands` for several images, with the bands that all of them have, and the positions of these in `needed`.

    Raises:
        RasterError: if an image cannot be opened.
        DataError: if the images have no band in common, or if one has another type or means something else.
    """
    opened = [_open_present(path, needed, chosen) for path in paths]
    common = sorted(set.intersection(*(set(present) for _, present in opened)))
    if not common:
        listed = ", ".join(map(str, paths))
        raise DataError(f"{listed}: no band of the {needed.by}'s, {', '.join(needed.bands.names)}, is in all of them")
    images = [
        image if present == common else open_image(image.path, [image.bands[present.index(one)] for one in common])
        for image, present in opened
    ]
    known, own = needed.bands.only(common), [(one.path, one.quantities) for one in images]
    agreed_quantities([(str(needed.file), known.quantities), *own], known.names)
    return images, common


def _open_present(path: str | Path, needed: NeededBands, chosen: Sequence[str] | None) -> tuple[ImageRaster, list[int]]:
    """An image with those of the model's bands that it has, at least one, and their positions among the model's."""
    image, names, dtype = open_chosen(path, chosen), needed.bands.names, needed.bands.dtype
    if image.types != dtype:
        remedy = _conversion(image, dtype)
        raise DataError(f"{image.path}: holds {image.types} values; the {needed.by}'s are {dtype}{remedy}")
    own: Sequence[str | None]
    if chosen:
        own = spelled_as(names, given_names(image, chosen))
        warn_of_descriptions(image, chosen)
    else:
        told = (spelled_as(names, own) for own in (image.band_names, told_names(image)))
        own = max(told, key=lambda own: len(set(names) & set(own)))
    if not chosen and not set(names) <= set(own) and not any(image.band_names):
        if image.count == len(names) and not _has_transparency(image):
            return image, list(range(image.count))
        own = image.colour_interpretation
    present = [number for number, name in enumerate(names) if name in own]
    if not present:
        raise _other_bands(image, needed, chosen)
    numbers = [image.bands[own.index(names[number])] for number in present]
    return (open_image(path, numbers) if chosen else open_some(image, numbers)), present


def _conversion(image: ImageRaster, dtype: str) -> str:
    """How to bring an image to a model's type if its own is none that is trained on; empty if it is one."""
    if image.types in get_args(ImageDtype):  # then its values probably have another range, too
        return ""
    return f"; convert it ({how_to_convert(image.path, dtype)})"


def _other_bands(image: ImageRaster, needed: NeededBands, chosen: Sequence[str] | None) -> DataError:
    names = needed.bands.names
    own = [name or colour for name, colour in zip(image.band_names, image.colour_interpretation, strict=True)]
    listed = ", ".join(names_and_places(chosen)[0] if chosen else own)
    remedy = ""
    if not chosen and not all(image.band_names):
        remedy = " (rio edit-info --bidx N --description NAME FILE names one)"
    elif not chosen and not set(names) & set(own):
        remedy = f" (say which is which, as in --bands {names[0]}=ITS_NAME_THERE,...)"
    return DataError(f"{image.path}: its bands are {listed}; the {needed.by}'s are {', '.join(names)}{remedy}")


def _has_transparency(image: ImageRaster) -> bool:
    """Whether a band marked alpha is transparency, not near infrared: only 0 and the largest value, which occurs."""
    colours = image.colour_interpretation
    if "alpha" not in colours or image.dtype.kind == "f":
        return False
    alpha, largest, found = colours.index("alpha"), np.iinfo(image.dtype).max, False
    for part in image.window.pieces(SCAN_BLOCK):
        band = image.read(part)[0][alpha]
        if ((band != 0) & (band != largest)).any():
            return False
        found = found or bool(band.any())
    return found
