"""Pairs: images and labels opened, brought to common pixel grids, one a CRS, and placed on them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geosynth.errors import DataError, GridError, SettingsError
from geosynth.grid import SpatialSplit, Window, buffer_pixels, offset_in
from geosynth.grid.alignment import same_crs
from geosynth.grid.split import SHARES, part_neighbours
from geosynth.legend import Legend
from geosynth.raster.class_table import ClassTable, plain
from geosynth.raster.labels import LabelRaster
from geosynth.raster.read import Raster, RasterFile, open_raster
from geosynth.raster.stores.items import Item
from geosynth.raster.warp import IMAGE_METHODS, LABEL_METHODS, WarpedRaster, cover

LegendOf = Legend | Callable[[RasterFile], Legend]  # of all label files, or what tells that of each


@dataclass(frozen=True)
class Pair:
    """An image, the labels of the same pixels, and their place on the common grid.

    Attributes:
        item: where they come from.
        image: on the common grid.
        labels: of the same pixels.
        extras: further maps of the same pixels.
        window: on the common grid.
    """

    item: Item
    image: Raster
    labels: LabelRaster
    extras: Mapping[str, Raster]
    window: Window


@dataclass(frozen=True)
class PairGroup:
    """Pairs on one grid.

    Attributes:
        geobox: spans them all.
        pairs: in the order they were given.
    """

    geobox: GeoBox
    pairs: tuple[Pair, ...]

    @property
    def name(self) -> str:
        """Of the group's store, as in "epsg_26917"."""
        crs = self.geobox.crs
        if crs is None:
            return "no_crs"
        return f"epsg_{crs.epsg}" if crs.epsg else "".join(c if c.isalnum() else "_" for c in str(crs))[:40].lower()


@dataclass(frozen=True)
class TargetGrid:
    """What is done about rasters whose pixels do not coincide.

    Attributes:
        crs: of the one common grid; None: a grid for each CRS.
        resolution: size of its pixels, in units of the CRS, their edges on whole multiples; None: the first image's
            pixels.
        like: a raster whose pixels are those of the common grid.
        images: how images are resampled if they must be; None: they are refused.
        labels: likewise: "nearest" or "mode".

    Raises:
        SettingsError: if a value is impossible.
        RasterError: if `like` cannot be opened.
    """

    crs: str | None = None
    resolution: float | None = None
    like: str | Path | None = None
    images: str | None = None
    labels: str | None = None

    def __post_init__(self) -> None:
        for option, method, known in (
            ("--resample-images", self.images, IMAGE_METHODS),
            ("--resample-labels", self.labels, LABEL_METHODS),
        ):
            if method is not None and method not in known:
                raise SettingsError(f"{option} {method}: one of {', '.join(known)} is needed")
        if self.resolution is not None and not 0 < self.resolution < np.inf:
            raise SettingsError(f"resolution {self.resolution}: a positive size is needed")
        if self.like is not None and (self.crs is not None or self.resolution is not None):
            raise SettingsError("like tells the grid already; leave out crs and resolution")

    @cached_property
    def _like(self) -> GeoBox | None:
        return None if self.like is None else open_raster(self.like).geobox

    @cached_property
    def _crs(self) -> CRS | None:
        if self.crs is None:
            return self._like.crs if self._like else None
        try:
            return CRS(self.crs)
        except Exception as error:  # pyproj's, wrapped in odc-geo's
            raise SettingsError(f"CRS {self.crs}: not known; EPSG:26917 would be") from error

    def group(self, images: Sequence[RasterFile]) -> list[list[int]]:
        """Positions of the images that are to share a grid, in the order of their first ones."""
        if self._crs is not None or self._like is not None:
            return [list(range(len(images)))]
        groups: list[list[int]] = []
        for position, image in enumerate(images):
            for group in groups:
                if same_crs(images[group[0]].geobox, image.geobox):
                    group.append(position)
                    break
            else:
                groups.append([position])
        return groups

    def lattice(self, images: Sequence[RasterFile]) -> GeoBox:
        """A grid whose pixels are those of the common grid of one group; where it begins and ends means nothing."""
        if self._like is not None:
            return self._like
        crs = self._crs or images[0].geobox.crs
        if self.resolution is not None:
            return GeoBox((1, 1), Affine.scale(self.resolution, -self.resolution), crs)
        for image in images:
            if same_crs(image.geobox, GeoBox((1, 1), Affine.identity(), crs)):
                return image.geobox
        raise GridError(f"no image is in {self.crs}, so the size of its pixels must be said: --resolution")


def open_pairs(items: Sequence[Item], legend: LegendOf, target: TargetGrid | None = None) -> list[PairGroup]:
    """Open all files and place them, each CRS on a grid of its own.

    What lies on the common grid is taken as it is; the rest is warped to it, if `target` says how.

    Args:
        items: the files.
        legend: of the label files.
        target: the common grid; None: the first image's, and nothing is resampled.

    Raises:
        DataError: if labels are no label rasters.
        GridError: if pixels do not coincide and must not be resampled, or places are unknown.
        LegendError: if the legend of a file cannot be told.
        RasterError: if a file cannot be opened.
    """
    target = target or TargetGrid()
    images = [open_raster(item.image) for item in items]
    _check_places(images)
    groups = []
    for members in target.group(images):
        lattice = target.lattice([images[position] for position in members])
        pairs = [_open(items[position], images[position], lattice, legend, target) for position in members]
        groups.append(_span(pairs, lattice))
    return groups


def _open(item: Item, file: RasterFile, lattice: GeoBox, legend: LegendOf, target: TargetGrid) -> Pair:
    image: Raster = file
    try:
        row, column = offset_in(lattice, image.geobox, image.path)
        window = image.window.shift(row, column)
    except GridError as error:
        if target.images is None:
            raise GridError(f"{error}, or here: --resample-images {'|'.join(IMAGE_METHODS)}") from error
        window = _cover(lattice, file)
        image = WarpedRaster(image, _crop(lattice, window), target.images)
    place = _crop(lattice, window) if isinstance(image, WarpedRaster) else image.geobox
    codes = open_raster(item.labels)
    own = legend if isinstance(legend, Legend) else legend(codes)
    labels = LabelRaster(_on_grid(codes, place, image.path, target), own)
    extras = {name: _on_grid(open_raster(path), place, image.path, target) for name, path in item.extras.items()}
    for name, extra in extras.items():
        if extra.count != 1:
            raise DataError(f"{extra.path}: has {extra.count} bands; an extra map ({name}) has one")
    return Pair(item, image, labels, extras, window)


def _on_grid(raster: RasterFile, place: GeoBox, image: str, target: TargetGrid) -> Raster:
    """Labels, or another map, on the pixels of their image."""
    try:
        if offset_in(place, raster.geobox, raster.path) == (0, 0) and raster.geobox.shape == place.shape:
            return raster
        complaint = f"{raster.path}: does not cover the same pixels as {image}; crop it first"
    except GridError as error:
        complaint = str(error)
    if target.labels is None:
        raise GridError(f"{complaint}, or here: --resample-labels {'|'.join(LABEL_METHODS)}")
    return WarpedRaster(raster, place, target.labels)


def _cover(lattice: GeoBox, image: RasterFile) -> Window:
    if (lattice.crs is None) != (image.geobox.crs is None):
        raise GridError(f"{image.path}: one of its CRS and the grid's is not known; assign it (gdal_edit.py -a_srs)")
    try:
        return cover(lattice, image.geobox)
    except GridError as error:
        raise GridError(f"{image.path}: {error}") from error


def _crop(lattice: GeoBox, window: Window) -> GeoBox:
    transform = lattice.affine * Affine.translation(window.column, window.row)
    return GeoBox((window.height, window.width), transform, lattice.crs)


def _span(pairs: list[Pair], lattice: GeoBox) -> PairGroup:
    """One grid over all scenes; windows count from its first pixel."""
    windows = [pair.window for pair in pairs]
    top, left = min(window.row for window in windows), min(window.column for window in windows)
    bottom, right = max(window.bottom for window in windows), max(window.right for window in windows)
    placed = tuple(
        Pair(pair.item, pair.image, pair.labels, pair.extras, pair.window.shift(-top, -left)) for pair in pairs
    )
    return PairGroup(_crop(lattice, Window(top, left, bottom - top, right - left)), placed)


def _check_places(images: Sequence[RasterFile]) -> None:
    """Refuse scenes whose places among each other cannot be told."""
    if len(images) == 1:
        return
    for image in images:
        if image.geobox.crs is None and image.geobox.affine.is_identity:
            raise GridError(
                f"{image.path}: has no georeference, so its place among the other scenes is unknown;"
                " give it one (gdal_translate -a_ullr: a local grid without a CRS will do) or ingest it alone"
            )
    without = [image for image in images if image.geobox.crs is None]
    if without and len(without) < len(images):
        other = next(image for image in images if image.geobox.crs is not None)
        raise GridError(
            f"{without[0].path}: has no CRS, but {other.path} has; assign the right one (gdal_edit.py -a_srs)"
        )
    _check_antimeridian([image for image in images if image.geobox.crs is not None and image.geobox.crs.geographic])


def _check_antimeridian(images: Sequence[RasterFile]) -> None:
    """Scenes that meet at 180 degrees would lie a world apart, and a split would part neighbours."""
    boxes = [image.geobox.boundingbox for image in images]
    east = [image for image, box in zip(images, boxes, strict=True) if abs(box.right - 180) < 1e-6 and box.left > -180]
    west = [image for image, box in zip(images, boxes, strict=True) if abs(box.left + 180) < 1e-6 and box.right < 180]
    if east and west:
        raise GridError(
            f"{east[0].path} and {west[0].path}: meet at the antimeridian, on opposite edges of one grid; count their"
            " longitudes on (gdal_translate -a_ullr, 180 to 190) or give them a --crs"
        )


# --- Palettes: what the colours of label files say against the legend by which their codes are read.

Verdict = Literal["", "of other classes", "of no class"]

_LOG = logging.getLogger(__name__)


def compare_colours(table: ClassTable, legend: Legend, used: Collection[int]) -> Verdict:
    """What speaks against reading a raster by a legend, in the colours of the raster's class table.

    Palettes of one legend differ in a colour or two, and colour tables are padded, mostly with black. So the colours
    are

    - "of other classes" where two or more of the codes in use have the colour of another class each, and no other code
      has it;
    - "of no class" where codes in use have colours, but no code has its class's (a code not in use counts only if no
      other code has its colour);
    - "", not to be doubted, otherwise, and wherever a code has the name of its class.

    Args:
        table: of the raster.
        legend: by which its codes are read.
        used: codes that pixels have.
    """
    own = {entry.code: entry.colour.lower() for entry in legend.classes}
    names = {code: plain(name) for code, (name, _) in table.items() if name}
    colours = {code: colour for code, (_, colour) in table.items() if colour and code in own}
    times = Counter(colour for _, colour in table.values())
    coloured = set(used) & set(colours)
    if not coloured or any(names.get(entry.code) == plain(entry.name) for entry in legend.classes):
        return ""
    right = {code for code, colour in colours.items() if colour == own[code]}
    alone = {code for code, colour in colours.items() if times[colour] == 1}
    if sum(colours[code] in own.values() for code in coloured & alone - right) > 1:
        return "of other classes"
    return "" if right & (coloured | alone) else "of no class"


def warn_of_colours(found: Iterable[tuple[LabelRaster, Verdict]], *, is_default: bool) -> None:
    """One line for all label files whose colours speak against the legend.

    Args:
        found: the files, and what `compare_colours` said of them.
        is_default: whether nobody named the legend. Colours of no class are doubted only then: who names a legend may
            well have files in other colours.
    """
    doubted = {"of other classes", "of no class"} if is_default else {"of other classes"}
    odd = [labels for labels, verdict in found if verdict in doubted]
    if odd:
        _LOG.warning(
            "%s%s: its colours are not those of the classes of legend %r that its codes are taken for;"
            " --legend and --label-legend (a file, or from-raster) say what they mean",
            odd[0].name,
            f" (and {len(odd) - 1} more)" if len(odd) > 1 else "",
            odd[0].legend.name,
        )


# --- Folds of freshly paired scenes, over one grid or several.

# Equal areas, 1 m: where scenes of several CRSs are looked at side by side.
_WORLD = GeoBox((1, 1), Affine.scale(1, -1), "EPSG:6933")


def split_groups(
    groups: Sequence[PairGroup],
    *,
    by: str = "clusters",
    shares: Sequence[float] | None = None,
    seed: int = 0,
    block_size: int = 1024,
    buffer: float | str = 0.0,
    class_pixels: Sequence[npt.NDArray[np.int64]] | None = None,
) -> list[SpatialSplit]:
    """A split for each grid; scenes that touch across two CRSs share a fold too.

    Args:
        groups: the scenes.
        by: "clusters" of touching scenes, or "blocks". Where items name their folds, these are taken.
        shares: of the pixels, for train, val and test; None for 0.7, 0.1, 0.2.
        seed: of the choice.
        block_size: pixels.
        buffer: what is left out between folds: metres, or pixels as in "64px".
        class_pixels: of each group (scenes, classes), for clusters: to give each fold its share of each class.

    Raises:
        SettingsError, DataError, GridError: one line each.
    """
    if by not in ("clusters", "blocks"):
        raise SettingsError(f"split by {by!r}: clusters or blocks")
    buffers = [buffer_pixels(buffer, group.geobox) for group in groups]
    chosen = _chosen_folds(groups)
    if chosen is not None:
        if shares is not None:
            raise SettingsError("the items name their folds already; leave out the shares")
        splits = _by_scenes(groups, chosen, buffers)
    else:
        wanted = SHARES if shares is None else shares
        if by == "blocks":
            splits = [
                SpatialSplit.by_blocks(_windows(group), block_size, wanted, seed, buffer=pixels)
                for group, pixels in zip(groups, buffers, strict=True)
            ]
        elif len(groups) == 1:
            counts = None if class_pixels is None else class_pixels[0]
            splits = [
                SpatialSplit.by_clusters(_windows(groups[0]), wanted, seed, buffer=buffers[0], class_pixels=counts)
            ]
        else:
            splits = _by_scenes(groups, _joint_folds(groups, wanted, seed, class_pixels), buffers)
    return part_neighbours([group.geobox for group in groups], splits) if len(groups) > 1 else splits


def _chosen_folds(groups: Sequence[PairGroup]) -> list[list[str]] | None:
    """What the items say; None if they say nothing."""
    items = [pair.item for group in groups for pair in group.pairs]
    without = [item for item in items if item.fold is None]
    if len(without) == len(items):
        return None
    if without:
        raise DataError(f"{without[0].image}: has no fold, but others in the list have; give it one")
    return [[str(pair.item.fold) for pair in group.pairs] for group in groups]


def _joint_folds(
    groups: Sequence[PairGroup],
    shares: Sequence[float],
    seed: int,
    class_pixels: Sequence[npt.NDArray[np.int64]] | None,
) -> list[list[str]]:
    """Clusters over all grids: of the scenes' outlines on one map."""
    outlines = [cover(_WORLD, pair.image.geobox) for group in groups for pair in group.pairs]
    counts = None if class_pixels is None else np.concatenate(class_pixels)
    joint = SpatialSplit.by_clusters(outlines, shares, seed, class_pixels=counts)
    folds = iter([str(joint.fold_of(outline)) for outline in outlines])
    return [[next(folds) for _ in group.pairs] for group in groups]


def _by_scenes(groups: Sequence[PairGroup], folds: list[list[str]], buffers: list[int]) -> list[SpatialSplit]:
    splits = []
    for group, of_group, pixels in zip(groups, folds, buffers, strict=True):
        members: dict[str, list[Window]] = {}
        for pair, fold in zip(group.pairs, of_group, strict=True):
            members.setdefault(fold, []).append(pair.window)
        splits.append(SpatialSplit.by_scenes(members, buffer=pixels))
    return splits


def _windows(group: PairGroup) -> list[Window]:
    return [pair.window for pair in group.pairs]
