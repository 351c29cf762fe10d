"""Power spectra of the insides of classes, where labels say nothing and all texture is the generator's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from geosynth.errors import SettingsError
from geosynth.evaluation.features import NUM_RINGS, RingPower
from geosynth.evaluation.histograms import Floats, ratio

# Cycles per pixel, coarse to fine, and the rings that they are made of.
OCTAVES: tuple[tuple[float, float], ...] = ((0.0, 1 / 16), (1 / 16, 1 / 8), (1 / 8, 1 / 4), (1 / 4, 1 / 2))
_RINGS = np.array([0, NUM_RINGS // 8, NUM_RINGS // 4, NUM_RINGS // 2])
MIN_SIZE = 32  # px: smaller windows leave rings without a frequency


class ClassSpectra:
    """Radially averaged power in squares that hold one class only, the same ones of the real and the synthetic image.

    Args:
        num_classes: class indices from this on are no class.
        num_bands: of the images.
        size: side of the squares in pixels, at least 32.

    Attributes:
        power: (2, classes, bands, 16): real and synthetic power in the rings of `RingPower`, summed over the squares.
        num_windows: (classes,) squares.

    Raises:
        SettingsError: if the squares are too small.
    """

    def __init__(self, num_classes: int, num_bands: int, size: int = MIN_SIZE) -> None:
        if size < MIN_SIZE:
            raise SettingsError(f"spectra need squares of at least {MIN_SIZE} px, got {size}")
        self.size = size
        self._ring_power = RingPower(size)
        self.power = np.zeros((2, num_classes, num_bands, NUM_RINGS))
        self.num_windows = np.zeros(num_classes, dtype=np.int64)

    def add(self, labels: npt.NDArray[np.uint8], real: npt.NDArray[np.uint8], synthetic: npt.NDArray[np.uint8]) -> None:
        """Add the squares of a tile, side by side from its first pixel.

        Args:
            labels: (height, width) class indices.
            real: (bands, height, width).
            synthetic: of the same shape.
        """
        size = self.size
        rows, columns = labels.shape[0] // size, labels.shape[1] // size
        squares = labels[: rows * size, : columns * size].reshape(rows, size, columns, size)
        lowest, highest = squares.min(axis=(1, 3)), squares.max(axis=(1, 3))
        for row, column in np.argwhere((lowest == highest) & (highest < len(self.num_windows))):
            place = np.s_[:, row * size : (row + 1) * size, column * size : (column + 1) * size]
            index = int(lowest[row, column])
            self.num_windows[index] += 1
            for which, image in enumerate((real, synthetic)):
                self.power[which, index] += self._ring_power(image[place])

    def octave_ratios(self) -> Floats:
        """(classes, bands, 4) synthetic over real power in `OCTAVES`: 1 is right, 0 is flat; NaN where not known."""
        real, synthetic = np.add.reduceat(self.power, _RINGS, axis=-1)
        return ratio(synthetic, real)
