"""Names and types of an image's bands: how names are found, and how the bands that a user names are opened."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from odc.geo.geobox import GeoBox
from rasterio.enums import ColorInterp

from geosynth.config.bands import ImageDtype, Quantity
from geosynth.errors import DataError, counted
from geosynth.grid import Window
from geosynth.inputs import band_files
from geosynth.raster.cast import CastImage
from geosynth.raster.images import open_image
from geosynth.raster.quantities import agreed_quantities
from geosynth.raster.raster_file import check_one_type
from geosynth.raster.read import ImageRaster, Raster
from geosynth.raster.warp import unwarped
from geosynth.raster.zarr_group import find_group

_COLOURS = {name: ColorInterp[name] for name in ("red", "green", "blue", "nir")}
_GLANCE = 64  # pixels; side of the few squares by which a band is judged
_LOG = logging.getLogger(__name__)
BANDS_APART = "bands in files of their own: '*_{red=B04,green=B03,blue=B02}_10m.jp2' makes one image of them"


def given_names(image: ImageRaster, bands: Sequence[str]) -> tuple[str, ...]:
    """Names that the user gave for the bands of an opened image, without their places, see `open_chosen`.

    Raises:
        DataError: if they are not one for each band, each different.
    """
    names, _ = names_and_places(bands)
    listed = ", ".join(names) or "none"
    if twice := [name for name, number in Counter(names).items() if number > 1]:
        raise DataError(f"{image.path}: the names given for its bands, {listed}, name {twice[0]} more than once")
    if len(names) != image.count:
        own = ", ".join(told_names(image)) or "which it does not name"
        remedy = f" ({BANDS_APART})" if image.count == 1 < len(names) else ""
        if 0 < len(names) < image.count:
            remedy = f" (with numbers, as in {names[0]}=1, some are taken)"
        raise DataError(
            f"{image.path}: has {counted(image.count, 'band')} ({own}), but the names given are {listed}{remedy}"
        )
    return names


def names_and_places(bands: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names and places (numbers or descriptions) of bands such as red=4 or red=B04; no places if none is given.

    Raises:
        DataError: if only some have a place, or one is the number 0.
    """
    parts = [(name.strip(), sign, place.strip()) for name, sign, place in (band.partition("=") for band in bands)]
    if not any(sign for _, sign, _ in parts):
        return tuple(bands), ()
    if not all(name and place.strip("0") for name, _, place in parts):
        raise DataError(
            f"bands {', '.join(bands)}: either names alone, or NAME=NUMBER for each, counted from 1, or"
            " NAME=DESCRIPTION, as in red=B04"
        )
    return tuple(name for name, *_ in parts), tuple(place for *_, place in parts)


def _number_at(place: str, image: ImageRaster) -> int:
    """The number of a band, from 1, that is given by its number or by its description.

    Raises:
        DataError: if the image has no such band, or several.
    """
    if place.isdecimal():
        if int(place) > image.count:
            raise DataError(f"{image.path}: has {counted(image.count, 'band')}, so none is number {place}")
        return int(place)
    if image.band_names.count(place) != 1:
        listed = ", ".join(name or "without a description" for name in image.band_names)
        raise DataError(f"{image.path}: not one of its bands is described {place}: they are {listed}")
    return image.band_names.index(place) + 1


def told_names(image: ImageRaster) -> tuple[str, ...]:
    """The band names in the file: descriptions, else colour interpretation; empty if neither distinguishes all bands.

    Alpha is not a name: GDAL gives it to the fourth band of an unmarked file, even if that is near infrared.
    """
    described = tuple(name for name in image.band_names if name)
    if len(described) == len(set(described)) == image.count:
        return described
    colours = image.colour_interpretation
    is_told = colours == ("gray",) or (len(set(colours)) == image.count and set(colours) <= set(_COLOURS))
    return colours if is_told else ()


def open_chosen(path: str | Path, names: Sequence[str] | None, dtype: str | None = None) -> ImageRaster:
    """An image, opened with the bands that the user named, in that order, if its descriptions have these names.

    Otherwise bands are found by their numbers or descriptions, if these are given. Without them colours, which GDAL
    gives to any three or four bands, count as names if the image has more bands than are named.

    Args:
        path: of the image.
        names: of the bands, as in red, or with numbers or descriptions, as in red=4, red=B04; None for all bands.
        dtype: type to read the values as; None for the file's own.

    Raises:
        RasterError: if the image cannot be opened, or if another type is asked for and its bands are of several.
        DataError: if a number or description is not that of a band.
    """
    image = open_image(path)
    if numbers := chosen_numbers(image, names):
        image = open_some(image, numbers)
    return image if dtype is None else CastImage(image, dtype)


def chosen_numbers(image: ImageRaster, names: Sequence[str] | None) -> list[int]:
    """Numbers of the bands, from 1, that the user named, in any case, see `open_chosen`; empty for all bands.

    Raises:
        DataError: if a number or description is not that of a band.
    """
    names, places = names_and_places(names or ())
    if names:
        colours = image.colour_interpretation if len(names) < image.count and not places else ()
        for own in (spelled_as(names, image.band_names), list(colours)):
            if all(own.count(name) == 1 for name in names):
                return [own.index(name) + 1 for name in names]
    return [_number_at(place, image) for place in places]


def spelled_as(names: Sequence[str], own: Sequence[str | None]) -> list[str | None]:
    """The names of an image's bands, spelled as in `names` where they differ in case alone."""
    spelling = {name.casefold(): name for name in names if name not in own}
    return [spelling.get((name or "").casefold(), name) for name in own]


def open_some(image: ImageRaster, bands: Sequence[int]) -> ImageRaster:
    """An image, opened with some of its bands; warns if the mask looks like imagery."""
    chosen = open_image(image.path, bands)
    if chosen.mask_kind == "alpha" and "alpha" not in chosen.colour_interpretation and image.dtype.kind != "f":
        alpha = image.colour_interpretation.index("alpha")
        height, width = image.geobox.shape
        between = pixels = 0
        for part in image.window.pieces(max(_GLANCE, height // 4, width // 4)):
            glance = Window(part.row, part.column, min(part.height, _GLANCE), min(part.width, _GLANCE))
            band = image.read(glance)[0][alpha]
            between += int(np.count_nonzero((band != 0) & (band != np.iinfo(image.dtype).max)))
            pixels += band.size
        if between > pixels / 2:  # a mask with soft edges has few
            message = "%s: band %d is marked as transparency, but looks like imagery; where it is 0 there is no data"
            colours = ",".join("undefined" if name == "alpha" else name for name in image.colour_interpretation)
            _LOG.warning(f"{message} (rio edit-info --colorinterp %s FILE)", image.path, alpha + 1, colours)
    return chosen


def check_image_type(dtype: np.dtype[Any], path: str) -> None:
    """Refuse imagery of a type that no generator is trained on.

    Raises:
        DataError: one line.
    """
    if str(dtype) not in get_args(ImageDtype):
        known = ", ".join(get_args(ImageDtype))
        raise DataError(
            f"{path}: imagery of {dtype}; convert it to one of {known} (ingest --dtype TYPE, or"
            f" {how_to_convert(path, 'TYPE')})"
        )


def how_to_convert(path: str, dtype: str) -> str:
    """What changes the type of an image's values, for messages: a command, or for Zarr a method of xarray."""
    is_file = find_group(path) is None
    return f"rio convert --dtype {dtype} FILE NEW" if is_file else f"in xarray: .astype({dtype!r})"


def check_whole_scenes(images: Sequence[ImageRaster]) -> None:
    """Refuse files that each have some bands of one scene, as Sentinel-2's, which include a colour picture (TCI).

    Raises:
        DataError: if files on the same pixels differ in number of bands or dtype.
    """
    on_grid: dict[GeoBox, ImageRaster] = {}
    for image in images:
        first = on_grid.setdefault(image.geobox, image)
        if (image.count, image.dtype) != (first.count, first.dtype):
            raise DataError(
                f"{image.path}: has {counted(image.count, 'band')} of {image.dtype}, but on the same pixels"
                f" {first.path} has {first.count} of {first.dtype}; take whole scenes only (a glob, as '*_TCI*'), or"
                f" make them ({BANDS_APART})"
            )


def common_bands(images: Sequence[Raster], bands: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[Quantity, ...]]:
    """The band names that all images share, and what their values mean, see `agreed_quantities`.

    Args:
        images: at least one; files, warped or not.
        bands: names to take instead of those in the files.

    Raises:
        DataError: if images differ in number, dtype, names or quantities of their bands, or if names are unknown.
    """
    files = [cast(ImageRaster, unwarped(image)) for image in images]
    first = files[0]
    names = _names(first, bands)
    if not names_and_places(bands or ())[1]:  # with places there is no doubt
        _warn_of_colours(first, names)
    warn_of_descriptions(first, bands)
    for image in files:
        check_one_type(image)
        if image.count != first.count or image.types != first.types:
            raise DataError(
                f"{image.path}: {counted(image.count, 'band')} of {image.types}, but {first.path} has"
                f" {first.count} of {first.types}; ingest them into separate stores"
            )
        if _names(image, bands) != names:
            raise DataError(
                f"{image.path}: its bands are {', '.join(_names(image, bands))}, but those of {first.path} are"
                f" {', '.join(names)}; bring them into one order, or name them with --bands"
            )
    return names, agreed_quantities([(image.path, image.quantities) for image in files], names)


def colour_interpretation(names: Sequence[str]) -> list[ColorInterp]:
    """The colour interpretation that a new file gets for bands of these names; `told_names` reads it.

    It is set before pixels are written, as GDAL takes the fourth band for transparency otherwise. (With the option
    ALPHA=NO in its place, GDAL would not keep that the fourth band is near infrared.)
    """
    return [_COLOURS.get(name, ColorInterp.undefined) for name in names]


def photometric(names: Sequence[str]) -> str:
    """The interpretation of pixels, as GDAL's option PHOTOMETRIC, of a new file with bands of these names."""
    return "rgb" if tuple(names[:3]) == ("red", "green", "blue") else "minisblack"


def _names(image: ImageRaster, bands: Sequence[str] | None) -> tuple[str, ...]:
    names = told_names(image) if bands is None else given_names(image, bands)
    if not names:
        colours, own = image.colour_interpretation, image.band_names
        described = [name for name in own if name]
        if 0 < len(described) == len(set(described)) < image.count:
            told = ", ".join(name or colour for name, colour in zip(own, colours, strict=True))
            raise DataError(
                f"{image.path}: its bands are {told}; say which to take, as in --bands {','.join(described)}"
            )
        likely = [colour if colour in _COLOURS else "nir" for colour in colours]
        is_likely = len(set(likely)) == len(likely) > 1
        example = ",".join(likely if is_likely else ("red", "green", "blue", "nir"))
        without = " (without nir if that is transparency)" if is_likely and "alpha" in colours else ""
        raise DataError(
            f"{image.path}: its bands are marked {', '.join(colours)}; name them, as in --bands {example}{without}"
        )
    return names


def _warn_of_colours(image: ImageRaster, names: Sequence[str]) -> None:
    """Warn of names that the file gives to other bands, except red, green, blue, which GDAL gives to any three."""
    colours = image.colour_interpretation
    swapped = any(
        name != colour and name in colours and colour in _COLOURS for name, colour in zip(names, colours, strict=True)
    )
    if swapped and colours[:3] != ("red", "green", "blue"):
        _LOG.warning("%s: its bands are marked %s, but named %s", image.path, ", ".join(colours), ", ".join(names))


def warn_of_descriptions(image: ImageRaster, bands: Sequence[str] | None) -> None:
    """Warn if bands that the file describes get other names in its order, which may be another than the user thinks.

    Not of files of bands: who lists these chooses their order.

    Args:
        image: opened with these bands, see `open_chosen`.
        bands: as the user named them; None for none.
    """
    names, places = names_and_places(bands or ())
    if not names or places:
        return
    described = [name or "" for name in image.band_names]
    are_alike = [name.casefold() for name in described] == [name.casefold() for name in names]
    if all(described) and not are_alike and not band_files(image.path):
        _LOG.warning(
            "%s: its bands are described %s, and named %s in this order (--bands %s=%s,... chooses by description)",
            image.path,
            ", ".join(described),
            ", ".join(names),
            names[0],
            described[0],
        )
