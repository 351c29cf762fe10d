"""InPlace: image and label files on one grid, read from where they are."""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from geosynth.config.bands import Quantity
from geosynth.errors import DataError
from geosynth.grid import SpatialSplit, Window, WindowIndex, as_array
from geosynth.grid.areas import boxes_of
from geosynth.inputs import band_files
from geosynth.legend import ClassIndices, Legend
from geosynth.raster.bands import check_image_type, common_bands
from geosynth.raster.mosaic import lay_over
from geosynth.raster.names import image_name
from geosynth.raster.quantities import agreed_quantities
from geosynth.raster.read import Array, ImageRaster, Mask, Raster, without_hidden
from geosynth.raster.stores.items import Item
from geosynth.raster.stores.pairs import LegendOf, Pair, TargetGrid, open_pairs
from geosynth.raster.stores.source import PatchSource, Scene
from geosynth.raster.warp import unwarped

_USUAL_BLOCK = 512
_LARGEST_BLOCK = 1024

Per = Literal["year", "month", "day"]
_PERIODS = {"year": 4, "month": 7, "day": 10}  # characters of an ISO 8601 date


class InPlace(PatchSource):
    """Scenes on one pixel grid, read from where they are.

    Where scenes overlap, the later one counts, except where it has no data, as in a store. Codes that the legend does
    not list are refused when they are read.

    Args:
        pairs: the scenes in order, on one grid with non-negative positions.
        geobox: that grid.
        legend: of the class indices; the label rasters may have legends with other codes.
        band_names: of the images.
        quantities: what their values mean, see `PatchSource`.
        extras: dtype and nodata value of further maps, by name.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        geobox: GeoBox,
        legend: Legend,
        band_names: Sequence[str],
        quantities: Sequence[Quantity] = (),
        extras: Mapping[str, tuple[np.dtype[Any], float]] | None = None,
    ) -> None:
        first = pairs[0].image
        check_image_type(first.dtype, first.path)
        self.path = first.path if len(pairs) == 1 else f"{first.path} and {len(pairs) - 1} more"
        self.geobox, self.legend, self.split = geobox, legend, SpatialSplit.none()
        self.band_names, self.quantities = tuple(band_names), tuple(quantities)
        self.dtype = first.dtype
        self.pairs = tuple(pairs)
        self.extras = dict(extras or {})
        self.scenes = tuple(
            Scene(
                name=pair.item.name or image_name(pair.item.image),
                window=pair.window,
                class_pixels=(),
                image_sha256="",
                labels_sha256="",
                image=pair.item.image,
                labels=pair.item.labels,
                date=pair.item.date,
            )
            for pair in pairs
        )
        self.chunk_size = _block_size(first)
        self._places = WindowIndex([pair.window for pair in pairs])
        self._period = ""

    @property
    def name(self) -> str:
        """From the CRS, and the period if there are several, as in "epsg_26917" and "epsg_26917_2018"."""
        crs, period = self.geobox.crs, f"_{self._period}" if self._period else ""
        if crs is None:
            return f"no_crs{period}"
        plain = "".join(c if c.isalnum() else "_" for c in str(crs))[:40].lower()
        return f"{f'epsg_{crs.epsg}' if crs.epsg else plain}{period}"

    def of(self, numbers: Sequence[int], period: str = "") -> InPlace:
        """Some of the scenes, on the same grid.

        Args:
            numbers: indices of the scenes, from 0.
            period: to which all of them belong, for the name.
        """
        part = copy.copy(self)
        part.pairs, part.scenes = tuple(self.pairs[n] for n in numbers), tuple(self.scenes[n] for n in numbers)
        part._places = WindowIndex([pair.window for pair in part.pairs])
        part._period = period or self._period
        return part

    def by_date(self, per: Per) -> list[InPlace]:
        """A source for each year, month or day of the scenes' dates, in chronological order.

        Raises:
            DataError: if a scene has no ISO 8601 date, or one that is not precise enough.
        """
        members: dict[str, list[int]] = defaultdict(list)
        for number, scene in enumerate(self.scenes):
            period = (scene.date or "")[: _PERIODS[per]]
            if not re.fullmatch(r"\d{4}(-\d\d){0,2}", period) or len(period) < _PERIODS[per]:
                raise DataError(f"{scene.image}: its date ({scene.date}) tells no {per}; dates are as in 2018-07-15")
            members[period].append(number)
        return [self.of(members[period], period) for period in sorted(members)]

    def hidden(self, number: int) -> tuple[int, bool]:
        """How many pixels of a scene later scenes hide, and whether any are left; reads only where scenes overlap.

        Only pixels with imagery and a class count.
        """
        pair, hidden, is_seen = self.pairs[number], 0, False
        for place in pair.window.pieces(_LARGEST_BLOCK):
            later = [found for found in self._places.touching(place) if found[0] > number]
            if not later:
                is_seen = True
                continue
            piece = place.shift(-pair.window.row, -pair.window.column)
            own, under = _labelled(pair, piece)[1], np.zeros((piece.height, piece.width), bool)
            for above, local, at in later:
                under[at] |= _labelled(self.pairs[above], local)[1]
            hidden += int((own & under).sum())
            is_seen = is_seen or bool((own & ~under).any())
        return hidden, is_seen

    def covered(self) -> list[str]:
        """Names of scenes whose windows are entirely covered by later ones; reads nothing."""
        boxes = boxes_of(as_array([scene.window for scene in self.scenes]))
        later = [[m for m, *_ in self._places.touching(s.window) if m > n] for n, s in enumerate(self.scenes)]
        under = [shapely.union_all(boxes[above]).covers(box) for box, above in zip(boxes, later, strict=True)]
        return [scene.name for scene, is_under in zip(self.scenes, under, strict=True) if is_under]

    def read(self, window: Window) -> tuple[Array, ClassIndices]:
        """See `PatchSource`; the imagery is 0 where there is no scene, and as `without_hidden` where it has no data."""
        image = np.zeros((len(self.band_names), window.height, window.width), dtype=self.dtype)
        indices, valid = self._blank(window)
        for pair, local, place in self._parts(window):
            values, has_data = _imagery(pair, local)
            found, has_class = _classes(pair, local, has_data)
            lay_over(indices, valid.copy(), place, found, has_class)
            lay_over(image, valid, place, values, has_class)
        return image, indices[0]

    def read_image(self, window: Window) -> Array:
        """See `PatchSource`; labels are read only where scenes overlap."""
        parts = list(self._parts(window))
        if len(parts) == 1 and parts[0][0].window.contains(window):
            return _imagery(*parts[0][:2])[0]
        return self.read(window)[0]

    def read_labels(self, window: Window) -> ClassIndices:
        """See `PatchSource`."""
        indices, valid = self._blank(window)
        for pair, local, place in self._parts(window):
            lay_over(indices, valid, place, *_labelled(pair, local))
        classes: ClassIndices = indices[0]
        return classes

    def read_extra(self, name: str, window: Window) -> Array:
        """See `PatchSource`."""
        dtype, nodata = self.extra_type(name)
        values = np.full((window.height, window.width), nodata, dtype)
        for pair, local, place in self._parts(window):
            if name in pair.extras:
                later, has_data = pair.extras[name].read(local)
                np.copyto(values[place], later[0], where=has_data)
        return values

    def _blank(self, window: Window) -> tuple[ClassIndices, Mask]:
        """Class indices without any class (1, height, width), and a mask without data (height, width)."""
        shape = (window.height, window.width)
        return np.full((1, *shape), self.legend.num_classes, dtype=np.uint8), np.zeros(shape, bool)

    def _parts(self, window: Window) -> Iterator[tuple[Pair, Window, tuple[slice, slice]]]:
        """The scenes that overlap a window, each with the overlap in its own pixels and as slices of the window."""
        for number, local, place in self._places.touching(window):
            yield self.pairs[number], local, place

    def _evidence(self, scenes: Sequence[Scene]) -> Any:
        """Names, sizes and times of the scenes' files; for those behind a URL, samples of pixels.

        For label files that are read by another legend than the source's, also the class of each code.
        """
        wanted = set(scenes)
        states, remote, codes = [], [], []
        for pair, scene in zip(self.pairs, self.scenes, strict=True):
            if scene not in wanted:
                continue
            files = [files_of(raster) for raster in (pair.image, pair.labels.raster)]
            states += [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for of_one in files for file in of_one]
            if not all(files):
                remote.append(scene)
            own = self.legend.by_colour(scene.labels) if pair.labels.raster.holds_colours else self.legend
            if (others := sorted(pair.labels.legend.class_of.items())) != sorted(own.class_of.items()):
                codes.append(others)
        return [states, super()._evidence(remote), *codes]


def files_of(raster: Raster) -> list[Path]:
    """The files on a disk that a raster is read from: itself, then those that belong to it; none behind a URL."""
    named = list(band_files(raster.path).values()) or [raster.path]
    if Path(named[0]).is_dir():  # Zarr
        return [Path(file) for file in raster.files]
    belonging = set(raster.files) - set(named)
    files = [*map(Path, named), *sorted(map(Path, belonging))]
    return files if all(file.is_file() for file in files) else []


def _imagery(pair: Pair, local: Window) -> tuple[Array, Mask]:
    """Imagery (bands, height, width) without what its mask hides, and where there is data (height, width)."""
    values, has_data = pair.image.read(local)
    return without_hidden(values, has_data), has_data


def _labelled(pair: Pair, local: Window) -> tuple[Array, Mask]:
    """Class indices (1, height, width), and where there is a class; the image is not read if it is full."""
    return _classes(pair, local, None if pair.image.is_full else pair.image.read(local)[1])


def _classes(pair: Pair, local: Window, has_data: Mask | None) -> tuple[Array, Mask]:
    """Class indices (1, height, width), and where there is a class (height, width).

    Args:
        pair: whose labels to read.
        local: a window in its pixels.
        has_data: where the image has data; None for everywhere.
    """
    indices = pair.labels.read_known(local, has_data)
    return indices[np.newaxis], indices < pair.labels.legend.num_classes


def _block_size(image: Raster) -> int:
    """Side of the square blocks in which a raster is stored; a usual one if there are no blocks, or strips."""
    height, width = image.block_shape or (0, 1)
    return min(height, _LARGEST_BLOCK) if height == width else _USUAL_BLOCK


def open_scenes(
    items: Sequence[Item],
    legend: Legend,
    label_legend: LegendOf,
    bands: Sequence[str] | None = None,
    target: TargetGrid | None = None,
) -> list[InPlace]:
    """Pairs of files as sources, one for each CRS, not split yet.

    Args:
        items: the files.
        legend: of the class indices.
        label_legend: of the label files, with the classes in the order of `legend`.
        bands: names of the image bands, or of those to read, see `open_in_place`.
        target: the common grid; None for the first image's, with nothing resampled.

    Raises:
        DataError, GridError, LegendError, RasterError: one line each.
    """
    groups = open_pairs(items, label_legend, target, bands)
    pairs = [pair for group in groups for pair in group.pairs]
    (names, quantities), extras = common_bands([pair.image for pair in pairs], bands), _common_extras(pairs)
    return [InPlace(group.pairs, group.geobox, legend, names, quantities, extras) for group in groups]


def _common_extras(pairs: Sequence[Pair]) -> dict[str, tuple[np.dtype[Any], float]]:
    """Dtype and nodata value of further maps; an error if these or their quantities differ between files."""
    found: dict[str, Raster] = {}
    told: dict[str, list[tuple[str, Sequence[Quantity]]]] = defaultdict(list)
    for pair in pairs:
        for name, raster in pair.extras.items():
            first = found.setdefault(name, raster)
            file = cast(ImageRaster, unwarped(raster))
            told[name].append((file.path, file.quantities))
            if (raster.dtype, raster.nodata) != (first.dtype, first.nodata):
                raise DataError(
                    f"{raster.path}: is {raster.dtype} with nodata {raster.nodata}, but {first.path} is"
                    f" {first.dtype} with nodata {first.nodata}; bring {name} into one form"
                )
    for name, of_files in told.items():
        agreed_quantities(of_files, [name])
    return {name: (raster.dtype, 0 if raster.nodata is None else raster.nodata) for name, raster in found.items()}
