"""The three rasters of an evaluation, on one pixel grid, read in windows of their common area."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from geosynth.errors import DataError, GridError
from geosynth.grid import Window, offset_in
from geosynth.legend import Legend
from geosynth.raster.bands import given_names, told_names
from geosynth.raster.labels import LabelRaster
from geosynth.raster.read import Raster, open_raster


class Block(NamedTuple):
    """What a window holds.

    Attributes:
        real, synthetic: (bands, height, width).
        indices: (height, width): class indices; `num_classes` where there is no class or an image has no data.
    """

    real: npt.NDArray[np.uint8]
    synthetic: npt.NDArray[np.uint8]
    indices: npt.NDArray[np.uint8]

    def crop(self, window: Window) -> Block:
        """A part; `window` counts from the first pixel of this one."""
        place = (..., *window.slices)
        return Block(self.real[place], self.synthetic[place], self.indices[place])


@dataclass(frozen=True)
class Inputs:
    """Opened, checked and placed.

    Attributes:
        real, synthetic, labels: the rasters.
        legend: of the classes as reported.
        bands: names; "band 1" and so on where nobody knows them.
        area: the pixels that all three cover, on the grid of `real`.
        synthetic_offset, labels_offset: (row, column) of the first pixel of the others on the grid of `real`.
    """

    real: Raster
    synthetic: Raster
    labels: LabelRaster
    legend: Legend
    bands: tuple[str, ...]
    area: Window
    synthetic_offset: tuple[int, int]
    labels_offset: tuple[int, int]

    @classmethod
    def open(
        cls,
        real: str | Path,
        synthetic: str | Path,
        labels: str | Path,
        legend: Legend,
        label_legend: Legend,
        bands: Sequence[str] | None,
    ) -> Inputs:
        """Open, then refuse what cannot be compared.

        Raises:
            DataError: other dtypes than uint8, different band counts or names, a band of unclear meaning.
            GridError: different pixel grids, or no common pixel.
            LegendError: `label_legend` has a class that `legend` lacks.
            RasterError: a file cannot be opened.
        """
        first, second = open_raster(real), open_raster(synthetic)
        mask = LabelRaster(labels, label_legend.translation_to(legend))
        for image in (first, second):
            if set(image.dtypes) != {"uint8"}:
                raise DataError(
                    f"{image.path}: holds {'/'.join(sorted(set(image.dtypes)))} values; evaluate needs uint8"
                )
        if first.count != second.count:
            raise DataError(f"{second.path}: has {second.count} bands, but {first.path} has {first.count}")
        names = _band_names(first, second, bands)
        offsets = [offset_in(first.geobox, other.geobox, other.path) for other in (second, mask.raster)]
        area: Window | None = first.window
        for other, offset in zip((second, mask.raster), offsets, strict=True):
            area = area and area.intersection(other.window.shift(*offset))
        if area is None:
            raise GridError(f"{first.path}, {second.path} and {mask.raster.path} have no pixel in common")
        return cls(first, second, mask, legend, names, area, *offsets)

    @property
    def synthetic_origin(self) -> tuple[int, int]:
        """(row, column) of the area's first pixel in the synthetic raster, from whose corner its blocks count."""
        return self.area.row - self.synthetic_offset[0], self.area.column - self.synthetic_offset[1]

    def read(self, window: Window) -> Block:
        """The pixels of `window`, which counts from the first pixel of the area and lies inside it."""
        place = window.shift(self.area.row, self.area.column)
        fake_place = place.shift(-self.synthetic_offset[0], -self.synthetic_offset[1])
        codes, valid = self.labels.read_codes(place.shift(-self.labels_offset[0], -self.labels_offset[1]))
        # What the bands are is known, so a fourth band that GDAL marks alpha is data.
        valid = valid & self.real.read_valid(place, trust_alpha=False)
        valid &= self.synthetic.read_valid(fake_place, trust_alpha=False)
        indices = np.where(valid, self.labels.legend.encode(codes), self.legend.num_classes)
        return Block(self.real.read(place), self.synthetic.read(fake_place), indices.astype(np.uint8))


def _band_names(real: Raster, synthetic: Raster, bands: Sequence[str] | None) -> tuple[str, ...]:
    """As given, as the files say, or by number."""
    if bands is not None:
        return given_names(real, bands)
    told = [told_names(image) for image in (real, synthetic)]
    if told[0] and told[1] and told[0] != told[1]:
        raise DataError(
            f"{synthetic.path}: its bands are {', '.join(told[1])}, but those of {real.path} are {', '.join(told[0])};"
            " name them with bands if they are the same"
        )
    names = told[0] or told[1]
    if not names and any("alpha" in image.colour_interpretation for image in (real, synthetic)):
        raise DataError(
            f"{real.path}: one of its bands is marked alpha, which near infrared often is by mistake;"
            " say what the bands are, as in red,green,blue,nir"
        )
    return names or tuple(f"band {number}" for number in range(1, real.count + 1))
