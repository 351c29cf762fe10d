"""One pass over the tiles in bounded memory: histograms per class and place, features per tile, sums for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from geosynth.evaluation.features import NUM_RINGS, RingPower, SeamSums, band_statistics, num_features
from geosynth.evaluation.histograms import NDVI_VALUES, Floats, count_ndvi, count_values
from geosynth.evaluation.inputs import Block
from geosynth.evaluation.tiles import Tile, TilePair, is_whole
from geosynth.grid import Window

Progress = Callable[[int, int], None]


class Observer(Protocol):
    """Sees every whole tile of the pass: one without a hole."""

    def add(self, tile: Tile, block: Block) -> None:
        """Look at the pixels of a tile."""

    def finish(self) -> None:
        """Told after the last tile."""


class Measurements:
    """What one pass finds. Image axis: 0 real, 1 synthetic.

    Attributes:
        bands: (units, 2, classes, bands, 256) histograms of DN; a unit is a place (`TilePair`).
        ndvi: (units, 2, classes, 1001) histograms of NDVI; None where the bands for it are not known.
        windows: of the tiles of which a pixel is compared.
        tiles: windows of those of which every pixel is.
        tile_units: (tiles,) the unit of each of the latter.
        features: (2, tiles, features).
        power: (2, bands, 16) sums over these tiles.
        seams: of the real and the synthetic image; None where nothing was made of blocks.
    """

    def __init__(self, pair: TilePair, seam_block: int) -> None:
        self._pair = pair
        self._num_classes, num_bands = pair.legend.num_classes, len(pair.bands)
        self.bands = np.zeros((pair.num_units, 2, self._num_classes, num_bands, 256), dtype=np.uint32)
        lower = [name.casefold() for name in pair.bands]
        self._red_nir = (lower.index("red"), lower.index("nir")) if {"red", "nir"} <= set(lower) else None
        shape = (pair.num_units, 2, self._num_classes, len(NDVI_VALUES))
        self.ndvi = np.zeros(shape, dtype=np.uint32) if self._red_nir else None
        self.windows: list[Window] = []
        self.tiles: list[Window] = []
        self._tile_units: list[int] = []
        self._features: list[tuple[Floats, Floats]] = []
        self._ring_power = RingPower(pair.tile_size)
        self.frequencies = self._ring_power.frequencies
        self.power = np.zeros((2, num_bands, NUM_RINGS))
        self._seam_block = seam_block
        self.seams: tuple[SeamSums, SeamSums] | None = None

    @property
    def tile_units(self) -> npt.NDArray[np.int64]:  # noqa: D102
        return np.asarray(self._tile_units, dtype=np.int64)

    @property
    def features(self) -> Floats:  # noqa: D102
        if not self._features:
            return np.zeros((2, 0, num_features(len(self._pair.bands))))
        return np.asarray(self._features).swapaxes(0, 1)

    def gather(self, progress: Progress, observers: Sequence[Observer] = ()) -> None:
        """Read everything once."""
        for done, piece in enumerate(self._pair.pieces(), start=1):
            if piece.seam_origin is not None:
                if self.seams is None:
                    self.seams = SeamSums(self._seam_block), SeamSums(self._seam_block)
                compared = piece.block.indices < self._num_classes
                for seams, image in zip(self.seams, (piece.block.real, piece.block.synthetic), strict=True):
                    seams.add(image, compared, piece.seam_origin, piece.shape)
            for tile, inside in piece.tiles:
                part = piece.block.crop(inside)
                self._add_tile(part, tile)
                if is_whole(part, self._num_classes, self._pair.tile_size):
                    self._add_whole(part, tile)
                    for observer in observers:
                        observer.add(tile, part)
            progress(done, self._pair.num_pieces)
        for observer in observers:
            observer.finish()

    def _add_tile(self, part: Block, tile: Tile) -> None:
        present = np.unique(part.indices)
        present = present[present < self._num_classes]  # only their pages of the large arrays are ever touched
        if len(present):
            self.windows.append(tile.window)
        for which, image in enumerate((part.real, part.synthetic)):
            for number, band in enumerate(image):
                counts = count_values(band, part.indices, self._num_classes, 256)
                self.bands[tile.unit, which, present, number] += counts[present].astype(np.uint32)
            if self.ndvi is not None and self._red_nir:
                red, nir = (image[index] for index in self._red_nir)
                counts = count_ndvi(red, nir, part.indices, self._num_classes)
                self.ndvi[tile.unit, which, present] += counts[present].astype(np.uint32)

    def _add_whole(self, part: Block, tile: Tile) -> None:
        self.tiles.append(tile.window)
        self._tile_units.append(tile.unit)
        self._features.append((band_statistics(part.real), band_statistics(part.synthetic)))
        self.power += [self._ring_power(image) for image in (part.real, part.synthetic)]
