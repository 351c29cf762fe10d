"""What else looks at each whole tile of a pass: texture inside of classes, diversity, segmentation consistency."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from geosynth.errors import DataError, LegendError
from geosynth.evaluation.distances import pairwise_diversity
from geosynth.evaluation.features import Embed, Space
from geosynth.evaluation.report import (
    ClassSpectraComparison,
    ClassSpectrum,
    ConsistencyComparison,
    DiversityComparison,
    Estimate,
    known,
)
from geosynth.evaluation.statistics import NDVI_VALUES, Floats, count_ndvi, count_values, place_interval
from geosynth.evaluation.textures import (
    MIN_SIZE,
    NUM_RINGS,
    OCTAVES,
    ClassSpectra,
    RingPower,
    SeamSums,
    band_statistics,
    num_features,
)
from geosynth.evaluation.tiles import Block, StoreTiles, Tile, TilePair, is_whole
from geosynth.grid import Window

if TYPE_CHECKING:
    from geosynth.segmentation.scores import Confusion
    from geosynth.segmentation.segmenter import Segmenter

# --- One pass over the tiles in bounded memory: histograms per class and place, features per tile, sums for the rest.

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


_BATCH = 16


class SpectraObserver:
    """Compares the texture in squares of one class.

    Args:
        pair: the tiles.
    """

    def __init__(self, pair: TilePair) -> None:
        self._pair = pair
        self._spectra = ClassSpectra(pair.legend.num_classes, len(pair.bands), MIN_SIZE)

    def add(self, tile: Tile, block: Block) -> None:  # noqa: D102
        self._spectra.add(block.indices, block.real, block.synthetic)

    def finish(self) -> None:  # noqa: D102
        pass

    def result(self) -> ClassSpectraComparison:
        """Of the classes that have such squares."""
        ratios, classes = self._spectra.octave_ratios(), []
        for index in np.flatnonzero(self._spectra.num_windows).tolist():
            of_bands = {band: tuple(map(known, row)) for band, row in zip(self._pair.bands, ratios[index], strict=True)}
            name, count = self._pair.legend.names[index], int(self._spectra.num_windows[index])
            classes.append(ClassSpectrum(name=name, num_windows=count, ratio=of_bands))
        reason = None if classes else f"no square of {MIN_SIZE} px in a whole tile holds one class only"
        return ClassSpectraComparison(window_size=MIN_SIZE, octaves=OCTAVES, classes=tuple(classes), reason=reason)


class DiversityObserver:
    """Compares the twins of a store with each other.

    Args:
        pair: with two twins or more.
        space: of features; None for none.
        embed: gives an extractor's features.
        numbers: of the tiles to take.
        seed: of intervals.
    """

    def __init__(
        self, pair: StoreTiles, space: Space | None, embed: Embed, numbers: npt.NDArray[np.int64], seed: int
    ) -> None:
        self._pair, self._space, self._embed, self._seed = pair, space, embed, seed
        self._numbers = frozenset(numbers.tolist())
        self._units: list[int] = []
        self._waiting: list[npt.NDArray[np.uint8]] = []
        self._found: list[tuple[Floats, Floats]] = []

    def add(self, tile: Tile, block: Block) -> None:  # noqa: D102
        if tile.number not in self._numbers:
            return
        self._units.append(tile.unit)
        self._waiting.append(self._pair.read_latents(tile.window))
        if len(self._waiting) == _BATCH:
            self.finish()

    def finish(self) -> None:  # noqa: D102
        if not self._waiting:
            return
        images = np.stack(self._waiting, axis=1)
        self._waiting.clear()
        features = np.zeros((*images.shape[:2], 1))
        if self._space is not None:
            bands = list(self._space.bands)
            features = np.stack([self._embed(self._space.extractor, image[:, bands]) for image in images])
        self._found.append(pairwise_diversity(images, features))

    def result(self) -> DiversityComparison:
        """Means over the tiles."""
        num_latents = len(self._pair.twins)
        if not self._found:
            return DiversityComparison(num_latents=num_latents, reason="no whole tile is free of nodata")
        places = np.array(self._units, dtype=np.int64)
        pixels, features = (
            _mean(np.concatenate(values), places, self._seed) for values in zip(*self._found, strict=True)
        )
        return DiversityComparison(
            num_latents=num_latents,
            num_tiles=len(places),
            pixels=pixels,
            feature_space=None if self._space is None else self._space.name,
            features=Estimate(value=None) if self._space is None else features,
        )


class SegmentObserver:
    """Lets a segmenter find the classes in both images.

    Args:
        pair: the tiles.
        segmenter: of the same bands and classes.
        seed: of intervals.

    Raises:
        DataError, LegendError: if the segmenter was made for other bands or classes.
    """

    def __init__(self, pair: TilePair, segmenter: Segmenter, seed: int) -> None:
        bands, legend = segmenter.card.bands.names, segmenter.card.legend
        if bands != pair.bands:
            raise DataError(
                f"{segmenter.path}: looks at bands {', '.join(bands)}, but the images have {', '.join(pair.bands)}"
            )
        if legend.names != pair.legend.names:
            raise LegendError(
                f"{segmenter.path}: knows the classes {', '.join(legend.names)}, but the labels have"
                f" {', '.join(pair.legend.names)}"
            )
        self._pair, self._segmenter, self._seed = pair, segmenter, seed
        self._waiting: list[tuple[int, Block]] = []
        self._num_tiles = 0
        size = pair.legend.num_classes
        self._counts = np.zeros((2, pair.num_units, size, size), dtype=np.int64)

    def add(self, tile: Tile, block: Block) -> None:  # noqa: D102
        self._waiting.append((tile.unit, block))
        if len(self._waiting) == _BATCH:
            self.finish()

    def finish(self) -> None:  # noqa: D102
        if not self._waiting:
            return
        for counts, image in zip(self._counts, ("real", "synthetic"), strict=True):
            found = self._segmenter.predict(np.stack([getattr(block, image) for _, block in self._waiting]))
            for (unit, block), predicted in zip(self._waiting, found, strict=True):
                confusion = self._confusion(counts[unit])
                confusion.add(block.indices, predicted)
                counts[unit] = confusion.matrix
        self._num_tiles += len(self._waiting)
        self._waiting.clear()

    def result(self) -> ConsistencyComparison:
        """Mean IoU on both images, over all tiles."""
        path = str(self._segmenter.path)
        if not self._num_tiles:
            return ConsistencyComparison(segmenter=path, reason="no whole tile is free of nodata")
        units = np.flatnonzero(self._counts[0].any(axis=(1, 2)))
        real, synthetic = self._counts[:, units]

        def miou(counts: npt.NDArray[np.int64], chosen: npt.NDArray[np.int64]) -> float:
            return self._confusion(counts[chosen].sum(axis=0)).miou()

        def estimate(statistic: Callable[[npt.NDArray[np.int64]], float], least: float) -> Estimate:
            found = place_interval(statistic, np.arange(len(units)), self._seed, least=least)
            high = None if found.high is None else min(1.0, found.high)
            return Estimate(value=known(found.value), low=found.low, high=high)

        ious = [self._confusion(counts.sum(axis=0)).iou() for counts in (real, synthetic)]
        occurs = real.any(axis=(0, 2))
        return ConsistencyComparison(
            segmenter=path,
            num_tiles=self._num_tiles,
            num_places=len(units),
            real=estimate(lambda chosen: miou(real, chosen), 0.0),
            synthetic=estimate(lambda chosen: miou(synthetic, chosen), 0.0),
            difference=estimate(lambda chosen: miou(synthetic, chosen) - miou(real, chosen), -1.0),
            class_iou={
                name: (known(ious[0][index]), known(ious[1][index]))
                for index, name in enumerate(self._pair.legend.names)
                if occurs[index]
            },
        )

    def _confusion(self, matrix: npt.NDArray[np.int64]) -> Confusion:
        from geosynth.segmentation.scores import Confusion

        confusion = Confusion(len(matrix))
        confusion.matrix = matrix.copy()
        return confusion


def _mean(values: Floats, places: npt.NDArray[np.int64], seed: int) -> Estimate:
    found = place_interval(lambda chosen: float(values[chosen].mean()), places, seed, least=0.0)
    return Estimate(value=known(found.value), low=found.low, high=found.high)
