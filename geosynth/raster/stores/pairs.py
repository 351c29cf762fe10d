"""Pairs: opens images and labels, and brings them to common pixel grids, one per CRS."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geosynth.config.bands import ImageDtype
from geosynth.errors import DataError, GridError, SettingsError
from geosynth.grid import Window, crop, offset_in, parse_crs
from geosynth.grid.alignment import is_nowhere
from geosynth.grid.crs import crs_name, same_crs
from geosynth.grid.groups import alike_groups
from geosynth.legend import Legend
from geosynth.raster.bands import check_whole_scenes, open_chosen
from geosynth.raster.coded_labels import LabelsOfFile
from geosynth.raster.georeference import check_grid
from geosynth.raster.images import open_image
from geosynth.raster.label_files import open_label_file
from geosynth.raster.labels import LabelRaster
from geosynth.raster.read import ImageRaster, Raster
from geosynth.raster.reprojection import cover, pixels_on
from geosynth.raster.stores.items import Item
from geosynth.raster.warp import IMAGE_METHODS, LABEL_METHODS, WarpedRaster

_LOG = logging.getLogger(__name__)
_APART = 4096  # pixels at least between images that lie apart: more than any buffer
_MOST_PIXELS = 10_000  # that a pixel of an image may become, or may be made from

LegendOf = Legend | Callable[[Raster], Legend]  # of all label files, or a function that finds that of each


@dataclass(frozen=True)
class Pair:
    """An image, the labels of the same pixels, and their place on the common grid."""

    item: Item
    """The files."""
    image: Raster
    """The image, on the common grid."""
    labels: LabelRaster
    """The labels, on the same pixels."""
    extras: Mapping[str, Raster]
    """Further maps on the same pixels, by name."""
    window: Window
    """The place of all of them on the common grid."""
    unplaced: tuple[str, ...] = ()
    """Names of those that have no georeference, but the size of the image, and are taken to lie on its pixels."""


class PairGroup(NamedTuple):
    """Pairs on one grid."""

    geobox: GeoBox
    """The smallest grid that covers all pairs."""
    pairs: tuple[Pair, ...]
    """In the order in which they were given."""


@dataclass(frozen=True)
class TargetGrid:
    """The grid and type that all images get, and what happens to rasters whose pixels do not coincide.

    Raises:
        SettingsError: if a value is impossible.
        RasterError: if `like` cannot be opened.
    """

    crs: str | None = None
    """CRS of one common grid for all; None for a grid for each CRS."""
    resolution: float | None = None
    """Pixel size in units of the CRS, with pixel edges at multiples of it; None for the first image's pixels."""
    like: str | Path | None = None
    """A raster whose pixel grid becomes the common grid."""
    images: str | None = None
    """Method to resample images that need it; None to refuse these."""
    labels: str | None = None
    """The same for labels: "nearest" or "mode"."""
    dtype: str | None = None
    """Type of the images, in which all values must fit; None for their own."""
    apart: bool = False
    """Whether images without a georeference show different places, which are laid out far apart; False refuses them."""

    def __post_init__(self) -> None:
        for setting, chosen, known in (
            ("resample_images", self.images, IMAGE_METHODS),
            ("resample_labels", self.labels, LABEL_METHODS),
            ("dtype", self.dtype, get_args(ImageDtype)),
        ):
            if chosen is not None and chosen not in known:
                raise SettingsError(f"one of {', '.join(known)} is needed, not {chosen}", setting=setting)
        if self.resolution is not None and not 0 < self.resolution < math.inf:
            raise SettingsError(f"a positive size is needed, got {self.resolution}", setting="resolution")
        if self.like is not None and (self.crs is not None or self.resolution is not None):
            raise SettingsError("like tells the grid already; leave out crs and resolution")
        if self.apart and (self.crs, self.resolution, self.like) != (None, None, None):
            what = "images without a georeference get a grid of their own pixels; leave out crs, resolution and like"
            raise SettingsError(what, setting="apart")

    @cached_property
    def _like(self) -> GeoBox | None:
        return None if self.like is None else open_image(self.like).geobox

    @cached_property
    def _crs(self) -> CRS | None:
        if self.crs is None:
            return self._like.crs if self._like else None
        return parse_crs(self.crs)

    def group(self, images: Sequence[ImageRaster]) -> list[list[int]]:
        """Positions of the images that share a grid, a list for each grid, in the order of the first images."""
        if self._crs is not None or self._like is not None:
            return [list(range(len(images)))]
        return alike_groups([image.geobox.crs for image in images], same_crs)

    def lattice(self, images: Sequence[ImageRaster]) -> GeoBox:
        """A grid with the pixels of the common grid of one group; its extent is arbitrary."""
        if self._like is not None:
            return self._like
        crs = self._crs or images[0].geobox.crs
        if self.resolution is not None:
            lattice = GeoBox((1, 1), Affine.scale(self.resolution, -self.resolution), crs)
            check_grid(lattice, f"resolution {self.resolution:g}")
            return lattice
        for image in images:
            if same_crs(image.geobox.crs, crs):
                return image.geobox
        raise GridError(f"no image is in {self.crs}, so the size of its pixels must be said: --resolution")


def open_pairs(
    items: Sequence[Item], legend: LegendOf, target: TargetGrid | None = None, bands: Sequence[str] | None = None
) -> list[PairGroup]:
    """Open all files and place them on common grids, one for each CRS.

    Rasters on the common grid are taken unchanged; others are warped to it, if `target` says how.

    Args:
        items: the files.
        legend: of the label files.
        target: the common grid; None for the first image's, with nothing resampled.
        bands: names of the bands to read, see `open_chosen`; None for all.

    Raises:
        DataError: if labels are not label rasters, or images have only some bands of a scene.
        GridError: if pixels do not coincide and resampling is not allowed, or if a place is unknown.
        LegendError: if the legend of a file cannot be found.
        RasterError: if a file cannot be opened.
    """
    target = target or TargetGrid()
    images = [open_chosen(item.image, bands, target.dtype) for item in items]
    if target.apart:
        return [_open_apart(items, images, legend, target)]
    check_whole_scenes(images)
    _check_places(images)
    groups = []
    for members in target.group(images):
        lattice = target.lattice([images[position] for position in members])
        pairs = [_open(items[position], images[position], lattice, legend, target) for position in members]
        groups.append(_span(pairs, lattice))
    if unplaced := [name for group in groups for pair in group.pairs for name in pair.unplaced]:
        more = f" (and {len(unplaced) - 1} more)" if len(unplaced) > 1 else ""
        _LOG.warning(
            "%s%s: has no georeference, but the size of its image, on whose pixels it is taken to lie",
            unplaced[0],
            more,
        )
    return groups


def _open_apart(
    items: Sequence[Item], images: Sequence[ImageRaster], legend: LegendOf, target: TargetGrid
) -> PairGroup:
    """Place images without a georeference in a row, on a grid without a CRS whose unit is a pixel."""
    if placed := next((image for image in images if not is_nowhere(image.geobox)), None):
        raise GridError(f"{placed.path}: has a georeference, so its place is known; leave out --apart")
    if len({item.labels for item in items}) < len(items):
        raise DataError(f"{items[0].labels}: is of several images; with --apart each needs labels of its own")
    pairs, column = [], 0
    for item, image in zip(items, images, strict=True):
        pair = _open(item, image, image.geobox, legend, target)
        pairs.append(replace(pair, window=pair.window.shift(0, column)))
        column += (image.window.width // _APART + 2) * _APART
    return _span(pairs, GeoBox((1, 1), Affine.scale(1, -1), None))


def _open(item: Item, file: ImageRaster, lattice: GeoBox, legend: LegendOf, target: TargetGrid) -> Pair:
    """Open a pair on the grid of `lattice`."""
    image: Raster = file
    try:
        row, column = offset_in(lattice, image.geobox, image.path)
        window = image.window.shift(row, column)
    except GridError as error:
        if target.images is None:
            raise _refusal(str(error), lattice, image.geobox, "--resample-images", IMAGE_METHODS) from error
        window = _cover(lattice, file)
        image = WarpedRaster(image, crop(lattice, window), target.images)
    place = crop(lattice, window) if isinstance(image, WarpedRaster) else image.geobox
    codes, maps = open_label_file(item.labels), {name: open_image(path) for name, path in item.extras.items()}
    unplaced = tuple(one.path for one in (codes, *maps.values()) if _place_by_size(one, file))
    own = legend if isinstance(legend, Legend) else legend(codes)
    labels = LabelRaster(_on_grid(codes, place, image.path, target), own)
    extras = {name: _on_grid(one, place, image.path, target) for name, one in maps.items()}
    for name, extra in extras.items():
        if extra.count != 1:
            raise DataError(f"{extra.path}: has {extra.count} bands; an extra map ({name}) has one")
    return Pair(item, image, labels, extras, window, unplaced)


def _place_by_size(raster: Raster, image: ImageRaster) -> bool:
    """Put labels, or a further map, on the pixels of their image if they have its size but no georeference.

    Returns:
        whether they were put there.
    """
    is_alike = raster.geobox.shape == image.geobox.shape and is_nowhere(raster.geobox) and not is_nowhere(image.geobox)
    if not isinstance(raster, LabelsOfFile) or not is_alike:
        return False
    raster.geobox = image.geobox
    return True


def _on_grid(raster: Raster, place: GeoBox, image: str, target: TargetGrid) -> Raster:
    """Labels, or a further map, on the pixels of their image."""
    if is_nowhere(raster.geobox) and not is_nowhere(place):
        raise GridError(
            f"{raster.path}: has no georeference, but {image} has one; give it that"
            f" (rio edit-info --like {image} --crs like --transform like FILE)"
        )
    try:
        own = raster.window.shift(*offset_in(place, raster.geobox, raster.path))
        if own == Window(0, 0, *place.shape):
            return raster
        if own.contains(Window(0, 0, *place.shape)):
            return WarpedRaster(raster, place, "nearest")  # pixels coincide: crops
        complaint = f"{raster.path}: does not cover the same pixels as {image}; crop the image first"
    except GridError as error:
        complaint = str(error)
    are_comparable = (place.crs is None) == (raster.geobox.crs is None)
    if are_comparable and not _touches(raster.geobox, place, image):
        raise GridError(f"{raster.path}: lies beside {image}; leave that image out, or give it other labels")
    if target.labels is None or not are_comparable:
        raise _refusal(complaint, place, raster.geobox, "--resample-labels", LABEL_METHODS)
    return WarpedRaster(raster, place, target.labels)


def _touches(own: GeoBox, place: GeoBox, image: str) -> bool:
    """Whether a grid overlaps `place`, even if longitudes continue beyond the antimeridian."""
    turns = (0, 360, -360) if own.crs is not None and own.crs.geographic else (0,)
    grids = [GeoBox(own.shape, Affine.translation(turn, 0) @ own.affine, own.crs) for turn in turns]
    return any(cover(grid, place, image).intersection(Window(0, 0, *own.shape)) is not None for grid in grids)


def _refusal(complaint: str, grid: GeoBox, own: GeoBox, option: str, methods: Iterable[str]) -> GridError:
    """The error, with the option that helps; no option does if only one of the two CRSs is known."""
    mends = (grid.crs is None) == (own.crs is None)
    return GridError(f"{complaint}, or here: {option} {'|'.join(methods)}" if mends else complaint)


def _cover(lattice: GeoBox, image: ImageRaster) -> Window:
    if (lattice.crs is None) != (image.geobox.crs is None):
        raise GridError(
            f"{image.path}: one of its CRS and the grid's is not known; assign it (rio edit-info --crs EPSG:CODE FILE)"
        )
    window = cover(lattice, image.geobox, image.path)
    shape = f"{window.height} x {window.width} px"
    if window.height * window.width > _MOST_PIXELS * (image.window.height * image.window.width + 1):
        raise GridError(f"{image.path}: would become {shape}, but no raster is so large: choose coarser pixels")
    x, y = pixels_on(lattice, image.geobox, np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]))
    if abs((x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])) * _MOST_PIXELS < 1:
        raise GridError(
            f"{image.path}: would become {shape}, each of more than {_MOST_PIXELS} of its own; choose finer pixels"
            f" (in units of {crs_name(lattice.crs)})"
        )
    return window


def _span(pairs: list[Pair], lattice: GeoBox) -> PairGroup:
    """One grid that covers all scenes; windows count from its first pixel."""
    whole = Window.around([pair.window for pair in pairs])
    placed = tuple(replace(pair, window=pair.window.shift(-whole.row, -whole.column)) for pair in pairs)
    return PairGroup(crop(lattice, whole), placed)


def _check_places(images: Sequence[ImageRaster]) -> None:
    """Refuse scenes whose relative positions are unknown."""
    if len(images) == 1:
        return
    for image in images:
        if is_nowhere(image.geobox):
            raise GridError(
                f"{image.path}: has no georeference, so its place among the other scenes is unknown;"
                " give it one (rio edit-info --transform '[SIZE, 0, LEFT, 0, -SIZE, TOP]' FILE; a local grid without a"
                " CRS will do), or, if all images show different places, use --apart"
            )
    without = [image for image in images if image.geobox.crs is None]
    if without and len(without) < len(images):
        other = next(image for image in images if image.geobox.crs is not None)
        raise GridError(
            f"{without[0].path}: has no CRS, but {other.path} has; assign the right one"
            " (rio edit-info --crs EPSG:CODE FILE)"
        )
    _check_antimeridian([image for image in images if image.geobox.crs is not None and image.geobox.crs.geographic])


def _check_antimeridian(images: Sequence[ImageRaster]) -> None:
    """Refuse scenes that meet at 180 degrees: on the grid they would be far apart, and a split would separate them."""
    boxes = [image.geobox.boundingbox for image in images]
    east = [image for image, box in zip(images, boxes, strict=True) if abs(box.right - 180) < 1e-6 and box.left > -180]
    west = [image for image, box in zip(images, boxes, strict=True) if abs(box.left + 180) < 1e-6 and box.right < 180]
    if east and west:
        raise GridError(
            f"{east[0].path} and {west[0].path}: meet at the antimeridian, on opposite edges of one grid; give them a"
            " --crs, or let the second begin at 180 (rio edit-info --transform '[SIZE, 0, 180, 0, -SIZE, TOP]' FILE)"
        )
