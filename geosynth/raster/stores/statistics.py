"""Percentiles of the bands of imagery, in bounded memory, and the scaling for networks that they give."""

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

BLOCK = 512  # pixels; side of what is read at once
_MAX_BLOCKS = 2000  # blocks that are read, drawn at random if there are more
_PERCENTILES = (0.1, 99.9)
_SAMPLES = 2**20  # values of each band that are kept for float imagery

_Place = TypeVar("_Place")


def band_settings(
    sources: Sequence[PatchSource],
    fold: str = "train",
    initial: BandSettings | None = None,
    progress: Progress = silent,
) -> BandSettings:
    """The bands of some sources and their scaling: uint8 from 0 to 255, others by their `band_percentiles`.

    Args:
        sources: with the same bands and dtype.
        fold: whose pixels are used.
        initial: the bands of a model that is trained further on these sources, whose scaling is kept. None for a new
            model.
        progress: called with the number of blocks read and of all blocks.

    Raises:
        DataError: if the type of the imagery is not supported, if a band is constant, or if there is no pixel.
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
    """Bands that are scaled by their least and largest values.

    Args:
        names: of the bands.
        dtype: of the imagery.
        limits: (2, bands), from `percentiles`.
        where: where the pixels are from, for the error.

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
    """The 0.1 and 99.9 percentiles of pixels with imagery and a class, (2, bands); see `percentiles`.

    Args:
        sources: with the same bands and dtype.
        fold: whose pixels are used.
        progress: called with the number of blocks read and of all blocks.

    Raises:
        DataError: if there is no such pixel.
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
    """The 0.1 and 99.9 percentiles of pixels, each counted once, (2, bands); None if there are no pixels.

    They are exact for integers, and taken from a random sample of a million values for floats. Of more than 2,000
    blocks, 2,000 are read, drawn at random but always the same.

    Args:
        blocks: squares of up to 512 px.
        read: returns the pixels of a block that count, (bands, pixels).
        progress: called with the number of blocks read and of all blocks.
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
    """Counts of each value, for exact percentiles of integers of up to 16 bits."""

    def __init__(self, dtype: np.dtype[Any], bands: int) -> None:
        limits = np.iinfo(dtype)
        self._values = np.arange(limits.min, limits.max + 1)
        self._counts = np.zeros((bands, len(self._values)), dtype=np.int64)
        self._pixels = 0

    def add(self, values: npt.NDArray[Any]) -> None:
        """Add values (bands, pixels)."""
        self._pixels += values.shape[1]
        for counts, band in zip(self._counts, values, strict=True):
            counts += np.bincount(band.astype(np.int64) - self._values[0], minlength=len(counts))

    def percentiles(self) -> npt.NDArray[np.float64]:
        ends = np.cumsum(self._counts, axis=1)
        places = [[np.searchsorted(row, share / 100 * self._pixels) for row in ends] for share in _PERCENTILES]
        found: npt.NDArray[np.float64] = self._values[np.array(places)].astype(np.float64)
        return found


class _Sample:
    """A random sample of the values."""

    def __init__(self, blocks: int, rng: np.random.Generator) -> None:
        self._kept: list[npt.NDArray[np.float64]] = []
        self._rng, self._per_block = rng, max(1, _SAMPLES // max(1, blocks))

    def add(self, values: npt.NDArray[Any]) -> None:
        """Add values (bands, pixels)."""
        new = values.shape[1]
        # From each block in proportion to its pixels, so that all pixels are equally likely.
        take = min(new, -(-self._per_block * new // BLOCK**2))
        self._kept.append(values[:, self._rng.choice(new, take, replace=False)].astype(np.float64))

    def percentiles(self) -> npt.NDArray[np.float64]:
        return np.percentile(np.concatenate(self._kept, axis=1), _PERCENTILES, axis=1)
