"""Texture of whole tiles: simple features, power spectra of all and of single classes, steps across block lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from geosynth.estimate import Estimate, Floats, Indices, draw_places, estimate_from_draws
from geosynth.evaluation.distances import frechet, gaussian
from geosynth.evaluation.measures import (
    ClassSpectraComparison,
    ClassSpectrum,
    FrechetComparison,
    SeamComparison,
    SpectrumComparison,
)
from geosynth.evaluation.pixels import ratio
from geosynth.evaluation.tiles import Chunk, Tile, TilePair
from geosynth.grid import Window

FEATURE_SPACE = "band-statistics"
NUM_RINGS = 16
_SCALES = (1, 2, 4)
_TILES_PER_FEATURE = 4  # so that half of the tiles are still twice as many as features, for their covariance


class Textures:
    """Features and spectra of whole tiles, real and synthetic.

    Args:
        pair: whose tiles it will see.

    Attributes:
        windows: of the tiles that were added.
        power: (2, bands, 16) sums over them.
    """

    def __init__(self, pair: TilePair) -> None:
        self._pair = pair
        self.windows: list[Window] = []
        self._places: list[int] = []
        self._features: list[tuple[Floats, Floats]] = []
        self._ring_power = RingPower(pair.tile_size)
        self.power = np.zeros((2, len(pair.bands), NUM_RINGS))

    def add(self, tiles: Sequence[Tile]) -> None:
        """Add whole tiles, given in levels."""
        for tile in tiles:
            self.windows.append(tile.window)
            self._places.append(tile.place)
            images = tile.block.real, tile.block.synthetic
            self._features.append((band_statistics(images[0]), band_statistics(images[1])))
            self.power += [self._ring_power(image) for image in images]

    def frechet(self, seed: int) -> FrechetComparison:
        """Frechet distances between the tiles' features, in standard deviations over the real tiles.

        Args:
            seed: of the draws of places.
        """
        num_bands, count = len(self._pair.bands), len(self.windows)
        size = num_features(num_bands)
        needed = _TILES_PER_FEATURE * size
        found: dict[str, Any] = {}
        if count < needed:
            found["reason"] = (
                f"whole tiles of {self._pair.tile_size} px without nodata: {count}, {needed} are needed;"
                " smaller tiles give more"
            )
        else:
            features = np.asarray(self._features).swapaxes(0, 1)
            real, synthetic = features / feature_scale(features[0], num_bands)
            first = first_half(self.windows)
            across = [frechet(gaussian(real[half]), gaussian(synthetic[~half])) for half in (first, ~first)]
            found = {
                "distance": self._distance(real, synthetic, seed),
                "halves_real": frechet(gaussian(real[first]), gaussian(real[~first])),
                "halves_across": sum(across) / 2,
            }
        return FrechetComparison(
            feature_space=FEATURE_SPACE, num_features=size, num_tiles=count, min_tiles=needed, **found
        )

    def _distance(self, real: Floats, synthetic: Floats, seed: int) -> Estimate:
        places: Indices = np.asarray(self._places, dtype=np.int64)
        values = []
        for draw in draw_places(self._pair.num_places, seed):
            weights = draw[places]
            enough = weights.sum() > real.shape[1]
            values.append(frechet(gaussian(real, weights), gaussian(synthetic, weights)) if enough else np.nan)
        return estimate_from_draws(values, len(np.unique(places)), least=0.0)

    def spectrum(self) -> SpectrumComparison:
        """Ratios of the summed powers."""
        real, synthetic = self.power
        fine = slice(NUM_RINGS // 2, NUM_RINGS)
        fine_detail = float(ratio(synthetic[:, fine].sum(), real[:, fine].sum()))
        reason = None
        if not np.isfinite(fine_detail):
            reason = "the real tiles have no texture" if self.windows else "no whole tile is free of nodata"
        ratios = zip(self._pair.bands, ratio(synthetic, real).tolist(), strict=True)
        return SpectrumComparison(
            num_tiles=len(self.windows),
            frequencies=tuple(self._ring_power.frequencies.tolist()),
            ratio=dict(ratios),
            fine_detail=fine_detail,
            reason=reason,
        )


def first_half(tiles: list[Window]) -> npt.NDArray[np.bool_]:
    """The half of the tiles at the low end of the longer axis of their extent, (tiles,)."""
    places = np.array([(tile.row, tile.column) for tile in tiles])
    longer = int(np.argmax(np.ptp(places, axis=0)))
    order = np.lexsort((places[:, 1 - longer], places[:, longer]))
    half = np.zeros(len(tiles), dtype=bool)
    half[order[: len(tiles) // 2]] = True
    return half


def num_features(num_bands: int) -> int:
    """Length of `band_statistics` for tiles with this number of bands."""
    return 2 * num_bands + num_bands * (num_bands - 1) // 2 + len(_SCALES)


def band_statistics(tile: npt.NDArray[np.uint8]) -> Floats:
    """The "band-statistics" features of a tile (bands, height, width), whose sides are multiples of 4 px.

    For each band the mean and the standard deviation (in levels); the correlation of each pair of bands (0 if a band is
    constant); and the mean gradient magnitude over all bands (in levels per pixel) of the tile reduced by block means
    of 1, 2 and 4 px: fine, medium and coarse texture.
    """
    values = tile.astype(np.float32)
    flat = values.reshape(len(values), -1).astype(np.float64)
    centred = flat - flat.mean(axis=1, keepdims=True)
    covariance = centred @ centred.T / flat.shape[1]
    deviation = np.sqrt(np.diag(covariance))
    scale = np.outer(deviation, deviation)
    correlation = np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0)
    pairs = correlation[np.triu_indices(len(values), k=1)]
    textures = [_gradient(_reduce(values, factor)) for factor in _SCALES]
    return np.concatenate([flat.mean(axis=1), deviation, pairs, textures])


def feature_scale(features: Floats, num_bands: int) -> Floats:
    """The scale of each feature, (d,): its standard deviation over `features` (n, d).

    At least 1 level, or 0.05 for a correlation, so that features that hardly vary do not dominate a distance.
    """
    least = np.ones(features.shape[1])
    least[2 * num_bands : -len(_SCALES)] = 0.05
    scale: Floats = np.maximum(features.std(axis=0, ddof=1), least)
    return scale


def _reduce(values: npt.NDArray[np.float32], factor: int) -> npt.NDArray[np.float32]:
    bands, height, width = values.shape
    reduced: npt.NDArray[np.float32] = values.reshape(bands, height // factor, factor, width // factor, factor).mean(
        axis=(2, 4)
    )
    return reduced


def _gradient(values: npt.NDArray[np.float32]) -> float:
    down = np.diff(values, axis=1)[:, :, :-1]
    right = np.diff(values, axis=2)[:, :-1, :]
    return float(np.sqrt(down**2 + right**2).mean(dtype=np.float64))


class RingPower:
    """Power of square tiles in rings of the frequency plane, over all directions of a wave.

    The mean of a tile is removed and a Hann window applied, so that its edges add no power.

    Attributes:
        frequencies: (16,) centres of the rings in cycles per pixel, 0 to 0.5.
    """

    def __init__(self, tile_size: int) -> None:
        window = np.hanning(tile_size + 1)[:-1].astype(np.float32)
        self._window = np.outer(window, window)
        radius = np.hypot(np.fft.fftfreq(tile_size)[:, None], np.fft.rfftfreq(tile_size)[None, :])
        self._rings = np.minimum((radius * 2 * NUM_RINGS).astype(np.int64), NUM_RINGS).ravel()  # last: the corners
        # Columns of `rfft2` also represent their mirror images, except the first; the last of even sizes is in no ring.
        self._times = np.where(np.arange(radius.shape[1]) == 0, 1, 2)
        self.frequencies: Floats = (np.arange(NUM_RINGS) + 0.5) / (2 * NUM_RINGS)

    def __call__(self, tile: npt.NDArray[np.uint8]) -> Floats:
        """Power (bands, 16) of a tile (bands, size, size), summed over each ring."""
        values = tile.astype(np.float32)
        values -= values.mean(axis=(1, 2), keepdims=True)
        power = np.abs(np.fft.rfft2(values * self._window)) ** 2 * self._times
        return np.stack([np.bincount(self._rings, band.ravel(), NUM_RINGS + 1)[:NUM_RINGS] for band in power])


# Cycles per pixel, from coarse to fine, and the rings that they consist of.
OCTAVES: tuple[tuple[float, float], ...] = ((0.0, 1 / 16), (1 / 16, 1 / 8), (1 / 8, 1 / 4), (1 / 4, 1 / 2))
_RINGS = np.array([0, NUM_RINGS // 8, NUM_RINGS // 4, NUM_RINGS // 2])
_SQUARE = 32  # px; smaller ones leave rings without a frequency


class ClassSpectra:
    """Power spectra of squares of 32 px with only one class, at the same places in both images.

    There the labels have no structure, so all texture is the generator's.

    Args:
        classes: their names; class indices of their number and above are no class.
        bands: their names.

    Attributes:
        power: (2, classes, bands, 16): real and synthetic power in the rings of `RingPower`, summed over the squares.
        num_windows: (classes,) numbers of squares.
    """

    def __init__(self, classes: tuple[str, ...], bands: tuple[str, ...]) -> None:
        self._classes, self._bands = classes, bands
        self._ring_power = RingPower(_SQUARE)
        self.power = np.zeros((2, len(classes), len(bands), NUM_RINGS))
        self.num_windows = np.zeros(len(classes), dtype=np.int64)

    def add(self, tiles: Sequence[Tile]) -> None:
        """Add the squares of tiles, given in levels; squares are side by side from the first pixel of each tile."""
        size = _SQUARE
        for real, synthetic, labels in (tile.block for tile in tiles):
            rows, columns = labels.shape[0] // size, labels.shape[1] // size
            squares = labels[: rows * size, : columns * size].reshape(rows, size, columns, size)
            lowest, highest = squares.min(axis=(1, 3)), squares.max(axis=(1, 3))
            for row, column in np.argwhere((lowest == highest) & (highest < len(self.num_windows))):
                place = np.s_[:, row * size : (row + 1) * size, column * size : (column + 1) * size]
                index = int(lowest[row, column])
                self.num_windows[index] += 1
                self.power[:, index] += [self._ring_power(image[place]) for image in (real, synthetic)]

    def octave_ratios(self) -> Floats:
        """Synthetic over real power in `OCTAVES`, (classes, bands, 4): 1 is right, 0 is flat, NaN is unknown."""
        real, synthetic = np.add.reduceat(self.power, _RINGS, axis=-1)
        return ratio(synthetic, real)

    def result(self) -> ClassSpectraComparison:
        """Ratios of the classes with such squares."""
        ratios, counts = self.octave_ratios().tolist(), self.num_windows.tolist()
        classes = tuple(
            ClassSpectrum(name=name, num_windows=count, ratio=dict(zip(self._bands, of_bands, strict=True)))
            for name, count, of_bands in zip(self._classes, counts, ratios, strict=True)
            if count
        )
        reason = None if classes else f"no square of {_SQUARE} px in a whole tile holds one class only"
        return ClassSpectraComparison(window_size=_SQUARE, octaves=OCTAVES, classes=classes, reason=reason)


class Seams:
    """Steps between neighbouring pixels of both images, across the lines between blocks and elsewhere.

    Args:
        num_classes: class indices of this value and above are no class.
        block_size: in pixels; lines are at its multiples, as in `BlockPlan`.
    """

    def __init__(self, num_classes: int, block_size: int) -> None:
        self._num_classes, self._block_size = num_classes, block_size
        # Sums of absolute differences (real, synthetic), and numbers of pixel pairs; each elsewhere and across lines.
        self._sums = np.zeros((2, 2))
        self._pairs = np.zeros(2, dtype=np.int64)

    def add(self, chunk: Chunk) -> None:
        """Add the pairs of compared pixels whose first (upper or left) pixel is in the chunk itself."""
        assert chunk.origin is not None
        (height, width), (row, column) = chunk.shape, chunk.origin
        compared = chunk.block.indices < self._num_classes
        images = np.stack([chunk.block.real, chunk.block.synthetic])
        if images.dtype == np.uint8:
            images = images.astype(np.int16)
        else:
            images = np.where(compared, images, 0).astype(np.float32)  # elsewhere may stand NaN
        self._add(images[..., :width], compared[:, :width], row)
        self._add(images[..., :height, :].swapaxes(2, 3), compared[:height].T, column)

    def _add(self, images: npt.NDArray[Any], compared: npt.NDArray[np.bool_], start: int) -> None:
        both = compared[1:] & compared[:-1]
        steps = np.abs(np.diff(images, axis=2)).sum(axis=1) * both
        on_line = ((start + 1 + np.arange(len(both))) % self._block_size == 0).astype(np.int64)
        self._sums += [np.bincount(on_line, of_image, 2) for of_image in steps.sum(axis=2, dtype=np.float64)]
        self._pairs += np.bincount(on_line, both.sum(axis=1), 2).astype(np.int64)

    def scores(self) -> Floats:
        """Mean step across lines over mean step elsewhere, of real and synthetic, (2,).

        1 without seams; NaN if there is no line, or no texture.
        """
        elsewhere, lines = ratio(self._sums, self._pairs).T
        return ratio(lines, elsewhere)

    def result(self) -> SeamComparison:
        """Scores of both images on the same lines."""
        real, synthetic = self.scores().tolist()
        num_pairs, reason = int(self._pairs[1]), None
        if not np.isfinite(synthetic):
            found = "the synthetic image has no texture" if num_pairs else "no block line in the area"
            reason = f"{found} (blocks of {self._block_size} px)"
        return SeamComparison(
            block_size=self._block_size, num_pairs=num_pairs, synthetic=synthetic, real=real, reason=reason
        )
