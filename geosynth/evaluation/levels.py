"""Levels: the 256 values that features, textures, spectra and pictures see of imagery of any type; histograms of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from geosynth.config import BandSettings
from geosynth.estimate import Floats
from geosynth.progress import Progress, silent
from geosynth.raster.read import Array
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.statistics import band_settings

NUM_LEVELS = 256
_MARGIN = 384  # bins of histograms below the first level, and above the last: one and a half times their range


@dataclass(frozen=True)
class Levels:
    """The map from values to levels, one for real and synthetic imagery. uint8 imagery is seen as it is."""

    bands: BandSettings
    """Value `low` of a band is level 0, `high` is level 255; values beyond are seen as these."""

    @classmethod
    def of_fold(cls, source: PatchSource, fold: str, progress: Progress = silent) -> Levels:
        """From the 0.1 to the 99.9 percentile of each band over the pixels of a fold that have imagery and a class.

        Args:
            source: of the imagery.
            fold: of it.
            progress: told blocks read, and blocks in all.

        Raises:
            DataError: if the type of the imagery is not supported, a band is constant, or there is no pixel.
        """
        return cls(band_settings([source], fold, progress=progress))

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

    @property
    def margin(self) -> int:
        """Number of a histogram's bin that is level 0; as many follow on the last level."""
        return 0 if self.as_stored else _MARGIN

    @property
    def num_bins(self) -> int:
        """Of a histogram."""
        return NUM_LEVELS + 2 * self.margin

    def values(self, band: int) -> Floats:
        """(num_bins,) the value that stands for each bin of a histogram of a band, by its number."""
        values: Floats = self.limits[0, band] + self.steps[band] * (np.arange(self.num_bins) - self.margin)
        return values

    def of(self, image: Array) -> npt.NDArray[np.uint8]:
        """Levels of imagery (..., bands, height, width); NaN, which is never data, is level 0."""
        return image if self.as_stored else self._nearest(image, 0).astype(np.uint8)

    def bins(self, image: Array) -> npt.NDArray[Any]:
        """Bins of a histogram that the values of imagery (..., bands, height, width) fall into.

        They have the step of the levels, and go on beyond them; only what lies beyond these, too, counts as the ends.
        """
        return image if self.as_stored else (self._nearest(image, self.margin) + self.margin).astype(np.uint16)

    def counts(self, histograms: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """(..., 256) pixels of each level, of histograms (..., num_bins)."""
        below, inside, above = np.split(histograms.astype(np.int64), [self.margin, self.margin + NUM_LEVELS], axis=-1)
        inside[..., 0] += below.sum(axis=-1)
        inside[..., -1] += above.sum(axis=-1)
        return inside

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

    def _nearest(self, image: Array, margin: int) -> npt.NDArray[np.float32]:
        """Numbers of levels, and on to so many beyond."""
        low, step = (one.astype(np.float32)[:, None, None] for one in (self.limits[0], self.steps))
        with np.errstate(over="ignore", invalid="ignore"):  # of numbers that float32 holds, but not their difference
            scaled = np.rint((image - low) / step)
        nearest: npt.NDArray[np.float32] = np.fmin(np.fmax(scaled, -margin), NUM_LEVELS - 1 + margin)
        return nearest
