"""One pass over the rasters in bounded memory: histograms per class and place, features per tile, sums for the rest."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from geosynth.evaluation.features import NUM_RINGS, RingPower, SeamSums, band_statistics, num_features
from geosynth.evaluation.histograms import NDVI_VALUES, Floats, count_ndvi, count_values
from geosynth.evaluation.inputs import Block, Inputs
from geosynth.grid import TilePlan, Window

Progress = Callable[[int, int], None]

_BLOCK_SIZE = 1024  # pixels read at once, at least
_MAX_UNITS = 100


class Measurements:
    """What one pass finds. Image axis: 0 real, 1 synthetic.

    Attributes:
        bands: (units, 2, classes, bands, 256) histograms of DN; a unit is a tile, or a square group of tiles where
            there are more than 100.
        ndvi: (units, 2, classes, 1001) histograms of NDVI; None where the bands for it are not known.
        tiles: windows (in the area) of the tiles of which every pixel is compared.
        tile_units: (tiles,) the unit of each of them.
        features: (2, tiles, features).
        power: (2, bands, 16) sums over these tiles.
        seams: of the real and the synthetic image.
    """

    def __init__(self, inputs: Inputs, tile_size: int, seam_block: int) -> None:
        self._inputs, self._tile_size = inputs, tile_size
        self._num_classes, num_bands = inputs.legend.num_classes, len(inputs.bands)
        rows, columns = -(-inputs.area.height // tile_size), -(-inputs.area.width // tile_size)
        self._group = next(
            side for side in range(1, rows + columns + 1) if -(-rows // side) * -(-columns // side) <= _MAX_UNITS
        )
        self._units_across = -(-columns // self._group)
        num_units = -(-rows // self._group) * self._units_across
        self.bands = np.zeros((num_units, 2, self._num_classes, num_bands, 256), dtype=np.uint32)
        lower = [name.casefold() for name in inputs.bands]
        self._red_nir = (lower.index("red"), lower.index("nir")) if {"red", "nir"} <= set(lower) else None
        shape = (num_units, 2, self._num_classes, len(NDVI_VALUES))
        self.ndvi = np.zeros(shape, dtype=np.uint32) if self._red_nir else None
        self.tiles: list[Window] = []
        self._tile_units: list[int] = []
        self._features: list[tuple[Floats, Floats]] = []
        self._ring_power = RingPower(tile_size)
        self.frequencies = self._ring_power.frequencies
        self.power = np.zeros((2, num_bands, NUM_RINGS))
        self.seams = SeamSums(seam_block), SeamSums(seam_block)

    @property
    def tile_units(self) -> npt.NDArray[np.int64]:  # noqa: D102
        return np.asarray(self._tile_units, dtype=np.int64)

    @property
    def features(self) -> Floats:  # noqa: D102
        if not self._features:
            return np.zeros((2, 0, num_features(len(self._inputs.bands))))
        return np.asarray(self._features).swapaxes(0, 1)

    def gather(self, progress: Progress) -> None:
        """Read everything once."""
        area = self._inputs.area
        size = self._tile_size * max(1, _BLOCK_SIZE // self._tile_size)
        whole = Window(0, 0, area.height, area.width)
        plan = TilePlan(area.height, area.width, size)
        for done, window in enumerate(plan, start=1):
            # One more row and column, for the steps to the neighbouring blocks.
            grown = whole.intersection(Window(window.row, window.column, window.height + 1, window.width + 1))
            assert grown is not None
            block = self._inputs.read(grown)
            row, column = self._inputs.synthetic_origin
            origin = row + window.row, column + window.column
            compared = block.indices < self._num_classes
            for seams, image in zip(self.seams, (block.real, block.synthetic), strict=True):
                seams.add(image, compared, origin, (window.height, window.width))
            for tile in TilePlan(window.height, window.width, self._tile_size):
                self._add_tile(block.crop(tile), tile.shift(window.row, window.column))
            progress(done, len(plan))

    def _add_tile(self, part: Block, tile: Window) -> None:
        step = self._tile_size * self._group
        unit = tile.row // step * self._units_across + tile.column // step
        images = part.real, part.synthetic
        present = np.unique(part.indices)
        present = present[present < self._num_classes]  # only their pages of the large arrays are ever touched
        for which, image in enumerate(images):
            for number, band in enumerate(image):
                counts = count_values(band, part.indices, self._num_classes, 256)
                self.bands[unit, which, present, number] += counts[present].astype(np.uint32)
            if self.ndvi is not None and self._red_nir:
                red, nir = (image[index] for index in self._red_nir)
                counts = count_ndvi(red, nir, part.indices, self._num_classes)
                self.ndvi[unit, which, present] += counts[present].astype(np.uint32)
        whole = bool((part.indices < self._num_classes).all())
        if whole and tile.height == tile.width == self._tile_size:
            self.tiles.append(tile)
            self._tile_units.append(unit)
            self._features.append((band_statistics(part.real), band_statistics(part.synthetic)))
            self.power += [self._ring_power(image) for image in images]
