"""From what one pass has gathered to the parts of the report."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from geosynth.evaluation.distances import Bootstrap, frechet, gaussian
from geosynth.evaluation.features import FEATURE_SPACE, NUM_RINGS, feature_scale, num_features
from geosynth.evaluation.gather import Measurements
from geosynth.evaluation.histograms import (
    DN_VALUES,
    NDVI_STEP,
    NDVI_VALUES,
    Floats,
    moments,
    quantiles,
    ratio,
    wasserstein,
)
from geosynth.evaluation.intervals import bounds
from geosynth.evaluation.report_pixels import (
    ClassComparison,
    Comparison,
    Estimate,
    FrechetComparison,
    Headline,
    SeamComparison,
    SpectrumComparison,
    known,
)
from geosynth.grid import Window
from geosynth.legend import Legend

_QUANTILES = (0.05, 0.5, 0.95)
_TILES_PER_FEATURE = 4  # so that the covariance of half of the tiles still has twice as many tiles as features


class _Draws(NamedTuple):
    """One quantity over one class, measured (index 0) and in each draw of the bootstrap (1 ..)."""

    pixels: Floats
    distance: Floats
    real_variance: Floats
    synthetic_variance: Floats


class DistributionComparer:
    """Compares histograms per class, and pools the results into the headline.

    Args:
        legend: of the classes.
        bands: names.
        measured: a finished pass.
        bootstrap: over the units of `measured`.
    """

    def __init__(self, legend: Legend, bands: tuple[str, ...], measured: Measurements, bootstrap: Bootstrap) -> None:
        self._legend, self._bands, self._measured, self._bootstrap = legend, bands, measured, bootstrap
        self._band_draws: list[_Draws] = []
        self._ndvi_draws: list[_Draws] = []
        self._num_units = int(measured.bands[:, 0, :, 0].any(axis=(1, 2)).sum())

    def classes(self) -> tuple[ClassComparison, ...]:
        """The classes that have pixels, in the legend's order."""
        pixels = self._measured.bands[:, 0, :, 0].sum(axis=(0, 2), dtype=np.int64)
        compared = []
        for index in np.flatnonzero(pixels):
            bands = tuple(
                self._compare(name, self._measured.bands[:, :, index, number], DN_VALUES, 1.0, self._band_draws)
                for number, name in enumerate(self._bands)
            )
            ndvi = self._measured.ndvi
            entry = self._legend.classes[index]
            compared.append(
                ClassComparison(
                    name=entry.name,
                    colour=entry.colour,
                    pixels=int(pixels[index]),
                    share=float(pixels[index] / pixels.sum()),
                    bands=bands,
                    ndvi=None
                    if ndvi is None
                    else self._compare("ndvi", ndvi[:, :, index], NDVI_VALUES, NDVI_STEP, self._ndvi_draws),
                )
            )
        return tuple(compared)

    def headline(self) -> Headline:
        """Pooled over what `classes` has compared."""
        # Per band first: bands have equal pixels, so a sum over (class, band) pairs is both means at once.
        distance = _pooled([draws.distance for draws in self._band_draws], self._band_draws)
        real = _pooled([draws.real_variance for draws in self._band_draws], self._band_draws)
        synthetic = _pooled([draws.synthetic_variance for draws in self._band_draws], self._band_draws)
        ndvi = _pooled([draws.distance for draws in self._ndvi_draws], self._ndvi_draws)
        return Headline(
            wasserstein=self._estimate(distance, self._num_units),
            variance_ratio=self._estimate(ratio(synthetic, real), self._num_units),
            ndvi_wasserstein=self._estimate(ndvi, self._num_units),
        )

    def _compare(
        self, quantity: str, counts: npt.NDArray[np.uint32], values: Floats, step: float, draws: list[_Draws]
    ) -> Comparison:
        """Compare histograms (units, 2, num_values); what the headline needs goes to `draws`."""
        total = counts.sum(axis=0, dtype=np.int64)
        drawn = np.tensordot(self._bootstrap.weights, counts.astype(np.float64), axes=1)
        both = np.concatenate([total[None].astype(np.float64), drawn])
        mean, variance = moments(both, values)
        result = _Draws(
            both[:, 0].sum(axis=1), wasserstein(both[:, 0], both[:, 1], step), variance[:, 0], variance[:, 1]
        )
        draws.append(result)
        num_units = int(counts.any(axis=(1, 2)).sum())
        real_mean, synthetic_mean = (known(value) for value in mean[0])
        real_std, synthetic_std = (known(np.sqrt(value)) for value in variance[0])
        real_quantiles, synthetic_quantiles = (
            tuple(known(value) for value in row) for row in quantiles(total, values, _QUANTILES)
        )
        return Comparison(
            quantity=quantity,
            pixels=int(total[0].sum()),
            real_mean=real_mean,
            real_std=real_std,
            synthetic_mean=synthetic_mean,
            synthetic_std=synthetic_std,
            real_quantiles=real_quantiles,
            synthetic_quantiles=synthetic_quantiles,
            wasserstein=self._estimate(result.distance, num_units),
            variance_ratio=self._estimate(ratio(result.synthetic_variance, result.real_variance), num_units),
        )

    def _estimate(self, draws: Floats, num_units: int) -> Estimate:
        return _estimate(float(draws[0]), draws[1:], num_units)


def compare_tiles(measured: Measurements, num_bands: int, bootstrap: Bootstrap, tile_size: int) -> FrechetComparison:
    """Frechet distances between the tiles' features, in standard deviations over the real tiles."""
    count, size = len(measured.tiles), num_features(num_bands)
    needed = _TILES_PER_FEATURE * size
    distance, halves_real, halves_across = Estimate(value=None), None, None
    reason: str | None = None
    if count < needed:
        reason = (
            f"{count} whole tiles of {tile_size} px are free of nodata, {needed} needed; a smaller tile_size gives more"
        )
    else:
        real, synthetic = measured.features / feature_scale(measured.features[0], num_bands)
        distance = _frechet_estimate(real, synthetic, measured.tile_units, bootstrap)
        first = first_half(measured.tiles)
        halves_real = frechet(gaussian(real[first]), gaussian(real[~first]))
        across = [frechet(gaussian(real[half]), gaussian(synthetic[~half])) for half in (first, ~first)]
        halves_across = sum(across) / 2
    return FrechetComparison(
        feature_space=FEATURE_SPACE,
        num_features=size,
        num_tiles=count,
        min_tiles=needed,
        distance=distance,
        halves_real=halves_real,
        halves_across=halves_across,
        reason=reason,
    )


def first_half(tiles: list[Window]) -> npt.NDArray[np.bool_]:
    """(tiles,): the half of the tiles at the low end of the longer axis of their extent."""
    places = np.array([(tile.row, tile.column) for tile in tiles])
    longer = int(np.argmax(np.ptp(places, axis=0)))
    order = np.lexsort((places[:, 1 - longer], places[:, longer]))
    half = np.zeros(len(tiles), dtype=bool)
    half[order[: len(tiles) // 2]] = True
    return half


def _frechet_estimate(real: Floats, synthetic: Floats, units: npt.NDArray[np.int64], bootstrap: Bootstrap) -> Estimate:
    value = frechet(gaussian(real), gaussian(synthetic))
    drawn = []
    for weights in bootstrap.weights[:, units]:
        enough = weights.sum() > real.shape[1]
        drawn.append(frechet(gaussian(real, weights), gaussian(synthetic, weights)) if enough else np.nan)
    return _estimate(value, np.array(drawn), len(np.unique(units)))


def compare_spectra(measured: Measurements, bands: tuple[str, ...]) -> SpectrumComparison:
    """Ratios of the summed powers."""
    real, synthetic = measured.power
    fine = slice(NUM_RINGS // 2, NUM_RINGS)
    fine_detail = known(ratio(synthetic[:, fine].sum(), real[:, fine].sum()))
    reason = None
    if fine_detail is None:
        reason = "the real tiles have no texture" if measured.tiles else "no whole tile is free of nodata"
    return SpectrumComparison(
        num_tiles=len(measured.tiles),
        frequencies=tuple(measured.frequencies.tolist()),
        ratio={
            name: tuple(known(value) for value in row) for name, row in zip(bands, ratio(synthetic, real), strict=True)
        },
        fine_detail=fine_detail,
        reason=reason,
    )


def compare_seams(measured: Measurements) -> SeamComparison:
    """Seam scores of both images on the same lines."""
    if measured.seams is None:
        why = "tiles of a store have no block lines; give rasters (real, synthetic, labels) for it"
        return SeamComparison(block_size=None, num_pairs=0, synthetic=None, real=None, reason=why)
    real, synthetic = measured.seams
    score = known(synthetic.score())
    reason = None
    if score is None:
        found = "the synthetic image has no texture" if synthetic.num_line_pairs else "no block line in the area"
        reason = f"{found} (blocks of {synthetic.block_size} px)"
    return SeamComparison(
        block_size=synthetic.block_size,
        num_pairs=synthetic.num_line_pairs,
        synthetic=score,
        real=known(real.score()),
        reason=reason,
    )


def _pooled(values: list[Floats], draws: list[_Draws]) -> Floats:
    """Mean over classes and bands, weighted by pixels, per draw; classes that a draw lacks do not count."""
    if not draws:
        return np.full(1, np.nan)
    pixels = np.stack([draw.pixels for draw in draws])
    known = np.where(pixels > 0, np.stack(values), 0)
    return ratio((pixels * known).sum(axis=0), pixels.sum(axis=0))


def _estimate(value: float, draws: Floats, num_units: int) -> Estimate:
    low, high = bounds(value, draws, num_units, least=0.0)
    return Estimate(value=known(value), low=low, high=high)
