"""Levels: the 256 values that features, textures, spectra, histograms and pictures see of imagery of any type."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from geosynth.config import BandSettings
from geosynth.estimate import Floats
from geosynth.raster.read import Array
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.statistics import band_settings

NUM_LEVELS = 256


@dataclass(frozen=True)
class Levels:
    """The map from values to levels, one for real and synthetic imagery. uint8 imagery is seen as it is."""

    bands: BandSettings
    """Value `low` of a band is level 0, `high` is level 255; values beyond become these levels, too."""

    @classmethod
    def of_fold(cls, source: PatchSource, fold: str) -> Levels:
        """From the 0.1 to the 99.9 percentile of each band over the pixels of a fold that have imagery and a class.

        Raises:
            DataError: if the type of the imagery is not supported, a band is constant, or there is no pixel.
        """
        return cls(band_settings([source], fold))

    @property
    def as_stored(self) -> bool:
        """Whether values are levels already: of uint8 imagery."""
        return self.bands.dtype == "uint8"

    @cached_property
    def limits(self) -> Floats:
        """(2, bands): `low` and `high`."""
        return np.array([np.broadcast_to(limit, len(self.bands.names)) for limit in (self.bands.low, self.bands.high)])

    @cached_property
    def steps(self) -> Floats:
        """(bands,) what one level is worth."""
        steps: Floats = (self.limits[1] - self.limits[0]) / (NUM_LEVELS - 1)
        return steps

    def values(self, band: int) -> Floats:
        """(256,) the value that stands for each level of a band, by its number."""
        values: Floats = self.limits[0, band] + self.steps[band] * np.arange(NUM_LEVELS, dtype=np.float64)
        return values

    def of(self, image: Array) -> npt.NDArray[np.uint8]:
        """Levels of imagery (..., bands, height, width); NaN, which is never data, is level 0."""
        if self.as_stored:
            return image
        low, step = (one.astype(np.float32)[:, None, None] for one in (self.limits[0], self.steps))
        with np.errstate(over="ignore", invalid="ignore"):  # of numbers that float32 holds, but not their difference
            scaled = np.rint((image - low) / step)
        seen: npt.NDArray[np.uint8] = np.fmin(np.fmax(scaled, 0), NUM_LEVELS - 1).astype(np.uint8)
        return seen

    def beyond(self, image: Array, where: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """(bands,) how many of some pixels of an image (bands, height, width) lie below `low` or above `high`.

        Args:
            image: values.
            where: (height, width) which pixels count.
        """
        if self.as_stored:
            return np.zeros(len(image), dtype=np.int64)
        low, high = self.limits[..., None, None]
        counts: npt.NDArray[np.int64] = (((image < low) | (image > high)) & where).sum(axis=(1, 2))
        return counts
