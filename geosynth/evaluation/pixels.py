"""Distributions of pixels per class, from exact histograms: without sampling, in memory independent of the raster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from geosynth.config.bands import named_bands
from geosynth.estimate import Estimate, Floats, draw_places, estimate_from_draws
from geosynth.evaluation.levels import Levels
from geosynth.evaluation.measures import BandLevels, ClassComparison, Comparison, Headline, ImageLevels
from geosynth.evaluation.tiles import Tile, TilePair
from geosynth.legend import told_apart
from geosynth.raster.read import Array

# NDVI is in [-1, 1]; bins are centred on multiples of 0.002, so that -1, 0 and 1 are exact.
NDVI_STEP = 0.002
NDVI_VALUES: Floats = np.linspace(-1, 1, 1001)

_QUANTILES = (0.05, 0.5, 0.95)


class Distributions:
    """Counts the values of both images, per class and place, and compares them. Image axis: 0 real, 1 synthetic.

    Args:
        pair: whose tiles it will see.
        levels: in whose bins values are counted.

    Attributes:
        bands: (places, 2, classes, bands, bins) histograms.
        ndvi: (places, 2, classes, 1001) histograms of NDVI; None if the bands for it are not known.
    """

    def __init__(self, pair: TilePair, levels: Levels) -> None:
        self._pair, self._levels = pair, levels
        shape = (pair.num_places, 2, pair.legend.num_classes)
        self.bands = np.zeros((*shape, len(pair.bands), levels.num_bins), dtype=np.uint32)
        self._beyond = np.zeros((2, len(pair.bands)), dtype=np.int64)
        self._red_nir = named_bands(pair.bands, "red", "nir")
        self.ndvi = np.zeros((*shape, len(NDVI_VALUES)), dtype=np.uint32) if self._red_nir else None

    def add(self, tiles: Sequence[Tile]) -> None:
        """Count the pixels that have a class."""
        num_classes = self._pair.legend.num_classes
        for tile in tiles:
            indices = tile.block.indices
            present = np.unique(indices)
            present = present[present < num_classes]  # so that only their memory pages of the large arrays are used
            for which, image in enumerate((tile.block.real, tile.block.synthetic)):
                self._beyond[which] += self._levels.beyond(image, indices < num_classes)
                for number, band in enumerate(self._levels.bins(image)):
                    counts = count_values(band, indices, num_classes, self._levels.num_bins)
                    self.bands[tile.place, which, present, number] += counts[present].astype(np.uint32)
                if self.ndvi is not None and self._red_nir:
                    red, nir = (self._meant(image[index], index) for index in self._red_nir)
                    counts = count_ndvi(red, nir, indices, num_classes)
                    self.ndvi[tile.place, which, present] += counts[present].astype(np.uint32)

    def _meant(self, values: Array, band: int) -> Array:
        """The meaning of a band's values, if it is known; else the values."""
        quantities = self._pair.quantities
        return quantities[band].of(values) if quantities else values

    @property
    def num_places(self) -> int:
        """Number of places with pixels."""
        return int(self.bands[:, 0, :, 0].any(axis=(1, 2)).sum())

    def levels(self) -> ImageLevels | None:
        """The levels for the report; None if values are levels already."""
        if self._levels.as_stored:
            return None
        shares = (self._beyond / self.bands[:, 0, :, 0].sum(dtype=np.int64)).T.tolist()
        limits = self._levels.limits.T.tolist()
        bands = zip(self._pair.bands, limits, shares, strict=True)
        return ImageLevels(
            dtype=self._levels.bands.dtype,
            bands=tuple(
                BandLevels(band=name, low=low, high=high, real_beyond=real, synthetic_beyond=synthetic)
                for name, (low, high), (real, synthetic) in bands
            ),
        )

    def result(self, seed: int) -> tuple[tuple[ClassComparison, ...], Headline]:
        """The classes with pixels, in the legend's order, and the means over them.

        Args:
            seed: of the draws of places.
        """
        weights = draw_places(self._pair.num_places, seed)
        pixels = self.bands[:, 0, :, 0].sum(axis=(0, 2), dtype=np.int64)
        classes, of_bands, of_ndvi = [], [], []
        colours = told_apart([entry.colour for entry in self._pair.legend.classes])
        for index in np.flatnonzero(pixels).tolist():
            bands = [
                _compare(name, self.bands[:, :, index, number], self._levels.values(number), step, weights)
                for number, (name, step) in enumerate(zip(self._pair.bands, self._levels.steps.tolist(), strict=True))
            ]
            of_bands += [draws for _, draws in bands]
            ndvi = None
            if self.ndvi is not None:
                ndvi, draws = _compare("ndvi", self.ndvi[:, :, index], NDVI_VALUES, NDVI_STEP, weights)
                of_ndvi.append(draws)
            classes.append(
                ClassComparison(
                    name=self._pair.legend.classes[index].name,
                    colour=colours[index],
                    pixels=int(pixels[index]),
                    share=float(pixels[index] / pixels.sum()),
                    bands=tuple(comparison for comparison, _ in bands),
                    ndvi=ndvi,
                )
            )
        return tuple(classes), self._headline(of_bands, of_ndvi)

    def _headline(self, of_bands: list[_Draws], of_ndvi: list[_Draws]) -> Headline:
        # Bands have the same pixels, so a mean over (class, band) pairs is both means at once. Distances are in
        # values, variances in squares of levels, so that no band counts more because of its unit.
        _, distance, real, synthetic = _pooled(of_bands)
        _, ndvi, *_ = _pooled(of_ndvi)

        def estimate(draws: Floats) -> Estimate:
            return estimate_from_draws(draws, self.num_places, least=0.0)

        return Headline(
            wasserstein=estimate(distance),
            variance_ratio=estimate(ratio(synthetic, real)),
            ndvi_wasserstein=estimate(ndvi),
        )


class _Draws(NamedTuple):
    """One quantity over one class: arrays (1 + draws,), for the sample itself and for each draw of places."""

    pixels: Floats
    distance: Floats
    real_variance: Floats
    """In squares of the step between neighbouring values."""
    synthetic_variance: Floats
    """In the same unit."""


def _compare(
    quantity: str, counts: npt.NDArray[np.uint32], values: Floats, step: float, weights: Floats
) -> tuple[Comparison, _Draws]:
    """Compare histograms (places, 2, num_values)."""
    drawn = np.tensordot(weights, counts.astype(np.float64), axes=1)
    mean, variance = moments(drawn, values)
    distance = wasserstein(drawn[:, 0], drawn[:, 1], step)
    num_places = int(counts.any(axis=(1, 2)).sum())
    total = counts.sum(axis=0, dtype=np.int64)
    real_quantiles, synthetic_quantiles = quantiles(total, values, _QUANTILES).tolist()
    comparison = Comparison(
        quantity=quantity,
        pixels=int(total[0].sum()),
        real_mean=mean[0, 0],
        real_std=np.sqrt(variance[0, 0]),
        synthetic_mean=mean[0, 1],
        synthetic_std=np.sqrt(variance[0, 1]),
        real_quantiles=real_quantiles,
        synthetic_quantiles=synthetic_quantiles,
        wasserstein=estimate_from_draws(distance, num_places, least=0.0),
        variance_ratio=estimate_from_draws(ratio(variance[:, 1], variance[:, 0]), num_places, least=0.0),
    )
    return comparison, _Draws(drawn[:, 0].sum(axis=1), distance, *(variance / step**2).T)


def _pooled(draws: list[_Draws]) -> _Draws:
    """Means over classes and bands, weighted by pixels, for each draw; classes missing from a draw do not count."""
    if not draws:
        return _Draws(*np.full((4, 1), np.nan))
    pixels, *values = (np.stack(column) for column in zip(*draws, strict=True))
    means = (ratio((pixels * np.where(pixels > 0, one, 0)).sum(axis=0), pixels.sum(axis=0)) for one in values)
    return _Draws(pixels.sum(axis=0), *means)


def count_values(
    values: npt.NDArray[np.integer[Any]], indices: npt.NDArray[np.uint8], num_classes: int, num_values: int
) -> npt.NDArray[np.int64]:
    """Histograms (num_classes, num_values) of `values` (any shape) per class.

    Args:
        values: in 0 .. num_values - 1.
        indices: class indices, same shape; pixels with an index of `num_classes` or more are left out.
        num_classes: first axis of the result.
        num_values: second axis of the result.
    """
    inside = indices < num_classes
    joint = indices[inside].astype(np.int64) * num_values + values[inside]
    return np.bincount(joint, minlength=num_classes * num_values).reshape(num_classes, num_values)


def count_ndvi(
    red: npt.NDArray[Any], nir: npt.NDArray[Any], indices: npt.NDArray[np.uint8], num_classes: int
) -> npt.NDArray[np.int64]:
    """Histograms (num_classes, 1001), over `NDVI_VALUES`, of (nir - red) / (nir + red), except where both are 0.

    Values below 0 count as 0.
    """
    inside = indices < num_classes  # elsewhere there may be NaN
    red, nir = (band[inside].astype(np.float32).clip(0) for band in (red, nir))
    total = red + nir
    defined = total > 0
    ndvi = (nir - red)[defined] / total[defined]
    bins = np.rint((ndvi + 1) / NDVI_STEP).astype(np.int64)
    return count_values(bins, indices[inside][defined], num_classes, len(NDVI_VALUES))


def moments(counts: npt.NDArray[Any], values: Floats) -> tuple[Floats, Floats]:
    """Mean and population variance (...) of histograms (..., num_values); NaN if a histogram is empty."""
    shares = _shares(counts)
    mean = shares @ values
    variance = (shares * (values - mean[..., None]) ** 2).sum(axis=-1)
    return mean, variance


def quantiles(counts: npt.NDArray[Any], values: Floats, shares: tuple[float, ...]) -> Floats:
    """Quantiles (..., len(shares)): the smallest value that at least this share of the pixels does not exceed."""
    cumulated = np.cumsum(counts, axis=-1)
    total = cumulated[..., -1:]
    found = [values[(cumulated < share * total).sum(axis=-1)] for share in shares]
    return np.where(total > 0, np.stack(found, axis=-1), np.nan)


def wasserstein(first: npt.NDArray[Any], second: npt.NDArray[Any], step: float = 1.0) -> Floats:
    """Wasserstein-1 distance (...) of histograms (..., num_values) with equal bins, in units of the values.

    In one dimension it is the area between the cumulative distributions (Vallender 1974). NaN if one is empty.

    Args:
        first: counts.
        second: counts, same shape.
        step: distance between neighbouring values.
    """
    difference = np.cumsum(_shares(first), axis=-1) - np.cumsum(_shares(second), axis=-1)
    distance: Floats = step * np.abs(difference).sum(axis=-1)
    return distance


def ratio(over: npt.NDArray[Any] | float, under: npt.NDArray[Any] | float) -> Floats:
    """Elementwise quotient; NaN where it is undefined."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient = np.asarray(over, dtype=np.float64) / np.asarray(under, dtype=np.float64)
    return np.where(np.isfinite(quotient), quotient, np.nan)


def _shares(counts: npt.NDArray[Any]) -> Floats:
    return ratio(counts, counts.sum(axis=-1, keepdims=True))
