"""Levels: the 256 steps in which features, textures, spectra and pictures see imagery of any type; its histograms."""

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
_MARGIN = 384  # bins of histograms below the first level, and above the last: each 1.5 times the range of the levels


@dataclass(frozen=True)
class Levels:
    """The map from values to levels, the same for real and synthetic imagery. uint8 imagery is seen as it is."""

    bands: BandSettings
    """The value `low` of a band is level 0, `high` is level 255; values beyond become these levels."""

    @classmethod
    def of_fold(cls, source: PatchSource, fold: str, progress: Progress = silent) -> Levels:
        """Levels from the 0.1 to the 99.9 percentile of each band, over a fold's pixels with imagery and a class.

        Args:
            source: of the imagery.
            fold: of the source.
            progress: called with the number of blocks read and of all blocks.

        Raises:
            DataError: if the type of the imagery is not supported, if a band is constant, or if there is no pixel.
        """
        return cls(band_settings([source], fold, progress=progress))

    @property
    def as_stored(self) -> bool:
        """Whether values are levels already, as for uint8 imagery."""
        return self.bands.dtype == "uint8"

    @cached_property
    def limits(self) -> Floats:
        """`low` and `high` of each band, (2, bands)."""
        return np.array([np.broadcast_to(limit, len(self.bands.names)) for limit in (self.bands.low, self.bands.high)])

    @cached_property
    def steps(self) -> Floats:
        """Size of one level in values, (bands,)."""
        steps: Floats = (self.limits[1] - self.limits[0]) / (NUM_LEVELS - 1)
        return steps

    @property
    def margin(self) -> int:
        """Index of the bin for level 0 in a histogram; as many bins follow the last level."""
        return 0 if self.as_stored else _MARGIN

    @property
    def num_bins(self) -> int:
        """Number of bins in a histogram."""
        return NUM_LEVELS + 2 * self.margin

    def values(self, band: int) -> Floats:
        """The value that represents each bin of a histogram, (num_bins,), for the band with this index."""
        values: Floats = self.limits[0, band] + self.steps[band] * (np.arange(self.num_bins) - self.margin)
        return values

    def of(self, image: Array) -> npt.NDArray[np.uint8]:
        """Levels of imagery (..., bands, height, width); NaN, which is never data, is level 0."""
        return image if self.as_stored else self._nearest(image, 0).astype(np.uint8)

    def bins(self, image: Array) -> npt.NDArray[Any]:
        """Histogram bins of the values of imagery (..., bands, height, width).

        Bins have the step of the levels and extend beyond them; values even further out are in the first or last bin.
        """
        return image if self.as_stored else (self._nearest(image, self.margin) + self.margin).astype(np.uint16)

    def counts(self, histograms: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Number of pixels at each level, (..., 256), from histograms (..., num_bins)."""
        below, inside, above = np.split(histograms.astype(np.int64), [self.margin, self.margin + NUM_LEVELS], axis=-1)
        inside[..., 0] += below.sum(axis=-1)
        inside[..., -1] += above.sum(axis=-1)
        return inside

    def beyond(self, image: Array, where: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Number of pixels of an image (bands, height, width) below `low` or above `high`, (bands,).

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
        """The nearest level of each value, continued by `margin` levels on either side."""
        low, step = (one.astype(np.float32)[:, None, None] for one in (self.limits[0], self.steps))
        with np.errstate(over="ignore", invalid="ignore"):  # for float32 numbers whose difference is none
            scaled = np.rint((image - low) / step)
        nearest: npt.NDArray[np.float32] = np.fmin(np.fmax(scaled, -margin), NUM_LEVELS - 1 + margin)
        return nearest
