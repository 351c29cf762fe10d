"""Percentiles of the bands of imagery, in bounded memory, and how they scale what reaches the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from geosynth.config import BandSettings
from geosynth.config.bands import ImageDtype
from geosynth.errors import DataError
from geosynth.grid import Window
from geosynth.progress import Progress, silent
from geosynth.raster.bands import check_image_type
from geosynth.raster.read import Array
from geosynth.raster.stores.alike import common_quantities
from geosynth.raster.stores.source import PatchSource

BLOCK = 512  # side of what is read at once, pixels
_MAX_BLOCKS = 2000  # that are read, drawn at random where there are more
_PERCENTILES = (0.1, 99.9)
_SAMPLES = 2**20  # values of each band that are kept of float imagery

_Place = TypeVar("_Place")


def band_settings(
    sources: Sequence[PatchSource],
    fold: str = "train",
    initial: BandSettings | None = None,
    progress: Progress = silent,
) -> BandSettings:
    """The bands of some sources and their scaling: uint8 from 0 to 255, others by their `band_percentiles`.

    Args:
        sources: of equal bands and dtype.
        fold: whose pixels to look at.
        initial: the bands of a model that goes on learning from these sources: the scaling in which its weights were
            learned stays. None for a new one.
        progress: told blocks read, and blocks in all.

    Raises:
        DataError: if the type of the imagery is not supported, a band is constant, or there is no pixel.
        RasterError: if imagery cannot be read.
    """
    names, dtype, quantities = sources[0].band_names, str(sources[0].dtype), common_quantities(sources)
    if initial is not None:
        return initial.with_quantities(quantities)
    check_image_type(sources[0].dtype, sources[0].path)
    if dtype == "uint8":
        return BandSettings(names=names, quantities=quantities)
    limits, where = band_percentiles(sources, fold, progress), f"{sources[0].path}: fold {fold!r}"
    return scaled_bands(names, dtype, limits, where).with_quantities(quantities)


def scaled_bands(names: Sequence[str], dtype: str, limits: npt.NDArray[np.float64], where: str) -> BandSettings:
    """Bands, scaled by (2, bands) least and largest values.

    Args:
        names: of the bands.
        dtype: of the imagery.
        limits: from `percentiles`.
        where: whose pixels these are, for the error.

    Raises:
        DataError: if a band is constant.
    """
    low, high = limits.tolist()
    for name, least, most in zip(names, low, high, strict=True):
        if not least < most:
            raise DataError(f"{where}: band {name} is {least:g} nearly everywhere; leave it out")
    return BandSettings(names=tuple(names), low=tuple(low), high=tuple(high), dtype=cast(ImageDtype, dtype))


def band_percentiles(
    sources: Sequence[PatchSource], fold: str = "train", progress: Progress = silent
) -> npt.NDArray[np.float64]:
    """(2, bands): the 0.1 and the 99.9 percentile of the pixels with imagery and a class, each of which counts once.

    See `percentiles`.

    Args:
        sources: of equal bands and dtype.
        fold: whose pixels to look at.
        progress: told blocks read, and blocks in all.

    Raises:
        DataError: if there is no pixel to look at.
        RasterError: if imagery cannot be read.
    """

    def read(place: tuple[PatchSource, Window]) -> Array:
        source, block = place
        image, labels = source.read(block)
        good = labels < source.legend.num_classes
        if not source.split.holds(block, fold):
            good &= source.split.mask(block, fold)
        return image[:, good]

    blocks = [(source, block) for source in sources for block in source.blocks(BLOCK, fold)]
    found = percentiles(blocks, read, progress)
    if found is None:
        raise DataError(f"{sources[0].path}: fold {fold!r} has no pixel with imagery and a class")
    return found


def percentiles(
    blocks: Sequence[_Place], read: Callable[[_Place], Array], progress: Progress = silent
) -> npt.NDArray[np.float64] | None:
    """(2, bands): the 0.1 and the 99.9 percentile of pixels, each of which counts once; None where there are none.

    They are exact for integers, and those of a random sample of a million values for floats. Of more than 2,000 blocks
    so many are read, drawn at random, the same ones each time.

    Args:
        blocks: squares of up to 512 px.
        read: gives the pixels of one that count, (bands, pixels).
        progress: told blocks read, and blocks in all.
    """
    rng = np.random.default_rng(0)
    if len(blocks) > _MAX_BLOCKS:
        blocks = [blocks[place] for place in np.sort(rng.choice(len(blocks), _MAX_BLOCKS, replace=False))]
    seen: _Histogram | _Sample | None = None
    for done, block in enumerate(blocks, start=1):
        values = read(block)
        if values.size:
            if seen is None:
                is_whole = np.issubdtype(values.dtype, np.integer)
                seen = _Histogram(values.dtype, len(values)) if is_whole else _Sample(len(blocks), rng)
            seen.add(values)
        progress(done, len(blocks))
    return None if seen is None else seen.percentiles()


class _Histogram:
    """Counts of each value: exact percentiles of integers of up to 16 bits."""

    def __init__(self, dtype: np.dtype[Any], bands: int) -> None:
        limits = np.iinfo(dtype)
        self._values = np.arange(limits.min, limits.max + 1)
        self._counts = np.zeros((bands, len(self._values)), dtype=np.int64)
        self.pixels = 0

    def add(self, values: npt.NDArray[Any]) -> None:
        """(bands, pixels)."""
        self.pixels += values.shape[1]
        for counts, band in zip(self._counts, values, strict=True):
            counts += np.bincount(band.astype(np.int64) - self._values[0], minlength=len(counts))

    def percentiles(self) -> npt.NDArray[np.float64]:
        ends = np.cumsum(self._counts, axis=1)
        places = [[np.searchsorted(row, share / 100 * self.pixels) for row in ends] for share in _PERCENTILES]
        found: npt.NDArray[np.float64] = self._values[np.array(places)].astype(np.float64)
        return found


class _Sample:
    """A random sample of the values."""

    def __init__(self, blocks: int, rng: np.random.Generator) -> None:
        self.pixels = 0
        self._kept: list[npt.NDArray[np.float64]] = []
        self._rng, self._per_block = rng, max(1, _SAMPLES // max(1, blocks))

    def add(self, values: npt.NDArray[Any]) -> None:
        """(bands, pixels)."""
        new = values.shape[1]
        self.pixels += new
        # As many of each block as its pixels are a share of a whole block's: each pixel is as likely as another.
        take = min(new, -(-self._per_block * new // BLOCK**2))
        self._kept.append(values[:, self._rng.choice(new, take, replace=False)].astype(np.float64))

    def percentiles(self) -> npt.NDArray[np.float64]:
        return np.percentile(np.concatenate(self._kept, axis=1), _PERCENTILES, axis=1)
