"""Band statistics over a fold, in bounded memory, and the scaling that follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from geosynth.config import BandSettings
from geosynth.config.bands import ImageDtype
from geosynth.errors import DataError, SettingsError
from geosynth.progress import Progress, silent
from geosynth.raster.bands import check_image_type
from geosynth.raster.stores.source import PatchSource

Scaling = Literal["auto", "range", "percentiles", "deviation"]

_BLOCK = 512
_LOW, _HIGH = 0.1, 99.9  # percentiles
_DEVIATIONS = 3.0
_SAMPLES = 2**20  # values of each band kept for the percentiles of float imagery


@dataclass(frozen=True, slots=True)
class BandStatistics:
    """Of the pixels with imagery and a class in one fold; arrays are (bands,), in raster units."""

    pixels: int
    """That were looked at."""
    mean: npt.NDArray[np.float64]
    deviation: npt.NDArray[np.float64]
    """Standard deviation."""
    minimum: npt.NDArray[np.float64]
    maximum: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    """The 0.1 percentile: exact for integers, of a random sample of a million values for floats."""
    high: npt.NDArray[np.float64]
    """The 99.9 percentile, likewise."""


def band_statistics(
    sources: Sequence[PatchSource],
    fold: str = "train",
    *,
    max_blocks: int | None = 2000,
    seed: int = 0,
    progress: Progress = silent,
) -> BandStatistics:
    """Statistics of a fold's imagery, read block by block (512 px); each pixel counts once.

    Args:
        sources: of equal bands and dtype.
        fold: whose pixels to look at.
        max_blocks: to read, drawn at random if there are more; None for all.
        seed: of the draw of blocks and values.
        progress: told blocks done and blocks in all.

    Raises:
        DataError: if there is no pixel to look at.
        RasterError: if imagery cannot be read.
    """
    rng = np.random.default_rng(seed)
    blocks = [(source, block) for source in sources for block in source.blocks(_BLOCK, fold)]
    if max_blocks is not None and len(blocks) > max_blocks:
        blocks = [blocks[place] for place in np.sort(rng.choice(len(blocks), max_blocks, replace=False))]
    dtype = sources[0].dtype
    bands = len(sources[0].band_names)
    sums = _Histogram(dtype, bands) if np.issubdtype(dtype, np.integer) else _Sample(bands, len(blocks), rng)
    for done, (source, block) in enumerate(blocks, start=1):
        image, labels = source.read(block)
        good = labels < source.legend.num_classes
        if not source.split.holds(block, fold):
            good &= source.split.mask(block, fold)
        if good.any():
            sums.add(image[:, good])
        progress(done, len(blocks))
    if not sums.pixels:
        raise DataError(f"{sources[0].path}: fold {fold!r} has no pixel with imagery and a class")
    return sums.result()


def band_settings(
    sources: Sequence[PatchSource],
    fold: str = "train",
    scaling: Scaling = "auto",
    *,
    progress: Progress = silent,
) -> BandSettings:
    """How the bands of some sources reach the network.

    Args:
        sources: of equal bands and dtype.
        fold: whose statistics to take.
        scaling: "range": 0..255 for uint8 (other types need statistics). "percentiles": from the 0.1 to the 99.9
            percentile of each band. "deviation": three standard deviations around the mean of each band. "auto":
            "range" for uint8, else "percentiles".
        progress: told blocks done and blocks in all.

    Raises:
        DataError: if the type of the imagery is not supported, a band is constant, or there is no pixel.
        SettingsError: if the scaling does not suit the type.
        RasterError: if imagery cannot be read.
    """
    names, dtype = sources[0].band_names, str(sources[0].dtype)
    check_image_type(sources[0].dtype, sources[0].path)
    if scaling == "auto":
        scaling = "range" if dtype == "uint8" else "percentiles"
    if scaling == "range":
        if dtype != "uint8":
            raise SettingsError(f"scaling: a fixed range suits uint8, not {dtype}; use percentiles or deviation")
        return BandSettings(names=names)
    found = band_statistics(sources, fold, progress=progress)
    low, high = found.low, found.high
    if scaling == "deviation":
        low, high = found.mean - _DEVIATIONS * found.deviation, found.mean + _DEVIATIONS * found.deviation
        if np.issubdtype(sources[0].dtype, np.integer):
            limits = np.iinfo(sources[0].dtype)
            low, high = np.maximum(low, limits.min), np.minimum(high, limits.max)
    for name, least, most in zip(names, low, high, strict=True):
        if not least < most:
            raise DataError(
                f"{sources[0].path}: band {name} is {least:g} nearly everywhere in fold {fold!r}; leave it out"
            )
    return BandSettings(names=names, low=tuple(low.tolist()), high=tuple(high.tolist()), dtype=cast(ImageDtype, dtype))


class _Histogram:
    """Counts of each value: exact statistics of integers of up to 16 bits."""

    def __init__(self, dtype: np.dtype[Any], bands: int) -> None:
        limits = np.iinfo(dtype)
        self._values = np.arange(limits.min, limits.max + 1)
        self._counts = np.zeros((bands, len(self._values)), dtype=np.int64)

    @property
    def pixels(self) -> int:
        return int(self._counts[0].sum())

    def add(self, values: npt.NDArray[Any]) -> None:
        """(bands, pixels)."""
        for counts, band in zip(self._counts, values, strict=True):
            counts += np.bincount(band.astype(np.int64) - self._values[0], minlength=len(counts))

    def result(self) -> BandStatistics:
        counts, values = self._counts.astype(np.float64), self._values.astype(np.float64)
        mean = counts @ values / self.pixels
        deviation = np.sqrt(
            [(row * (values - centre) ** 2).sum() / self.pixels for row, centre in zip(counts, mean, strict=True)]
        )
        extremes = [self._values[np.flatnonzero(row)[[0, -1]]] for row in self._counts]
        ends = np.cumsum(self._counts, axis=1)
        shares = [
            [float(self._values[np.searchsorted(row, share / 100 * self.pixels)]) for row in ends]
            for share in (_LOW, _HIGH)
        ]
        minimum, maximum = np.array(extremes, dtype=np.float64).T
        return BandStatistics(self.pixels, mean, deviation, minimum, maximum, np.array(shares[0]), np.array(shares[1]))


class _Sample:
    """Running moments (Chan et al. 1979, pairwise update) and a random sample of the values."""

    def __init__(self, bands: int, blocks: int, rng: np.random.Generator) -> None:
        self.pixels = 0
        self._mean, self._squares = np.zeros(bands), np.zeros(bands)
        self._minimum, self._maximum = np.full(bands, np.inf), np.full(bands, -np.inf)
        self._kept: list[npt.NDArray[np.float64]] = []
        self._rng, self._per_block = rng, max(1, _SAMPLES // max(1, blocks))

    def add(self, values: npt.NDArray[Any]) -> None:
        """(bands, pixels)."""
        values = values.astype(np.float64)
        new, total = values.shape[1], self.pixels + values.shape[1]
        centre = values.mean(axis=1)
        apart = centre - self._mean
        self._squares += ((values - centre[:, None]) ** 2).sum(axis=1) + apart**2 * self.pixels * new / total
        self._mean += apart * new / total
        self._minimum = np.minimum(self._minimum, values.min(axis=1))
        self._maximum = np.maximum(self._maximum, values.max(axis=1))
        # As many of each block as its pixels are a share of a whole block's: each pixel is as likely as another.
        take = min(new, -(-self._per_block * new // _BLOCK**2))
        self._kept.append(values[:, self._rng.choice(new, take, replace=False)])
        self.pixels = total

    def result(self) -> BandStatistics:
        low, high = np.percentile(np.concatenate(self._kept, axis=1), [_LOW, _HIGH], axis=1)
        deviation = np.sqrt(self._squares / self.pixels)
        return BandStatistics(self.pixels, self._mean, deviation, self._minimum, self._maximum, low, high)
