"""From what one pass has gathered to the parts of the report."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from geosynth.errors import DataError
from geosynth.evaluation.distances import (
    Bootstrap,
    KernelSums,
    bias_note,
    compare_manifolds,
    frechet,
    frechet_distance,
    gaussian,
    kernel_distance,
    memorisation,
)
from geosynth.evaluation.features import Space, TileFeatures
from geosynth.evaluation.observers import Measurements
from geosynth.evaluation.report import (
    ClassComparison,
    ClosestPair,
    Comparison,
    Distance,
    Estimate,
    FeatureComparison,
    FrechetComparison,
    Headline,
    MemorisationComparison,
    SeamComparison,
    SpectrumComparison,
    known,
)
from geosynth.evaluation.statistics import (
    DN_VALUES,
    NDVI_STEP,
    NDVI_VALUES,
    Floats,
    Indices,
    Interval,
    bounds,
    moments,
    place_interval,
    quantiles,
    ratio,
    wasserstein,
)
from geosynth.evaluation.textures import FEATURE_SPACE, NUM_RINGS, feature_scale, num_features
from geosynth.evaluation.tiles import describe_in
from geosynth.grid import Window
from geosynth.legend import Legend
from geosynth.raster.stores.source import PatchSource

# --- The scale of a distance: what real tiles of one half of the places are away from those of the other half.

MIN_PLACES = 2


@dataclass(frozen=True)
class Baseline:
    """Distances between halves of the places, in several draws of halves, with equally many tiles throughout.

    Attributes:
        num_tiles: in either set of a distance: distances that depend on the number compare only at this one.
        real: (draws,) real tiles of one half against real tiles of the other.
        across: (draws,) real tiles of the same half against synthetic ones of the other: it differs from `real` only by
            what is synthetic. None without synthetic tiles.
    """

    num_tiles: int
    real: Floats
    across: Floats | None


def real_baseline(
    features: Floats,
    places: Indices,
    distance: Callable[[Floats, Floats], float],
    draws: int,
    seed: int,
    synthetic: Floats | None = None,
) -> Baseline:
    """Split the places at random into two disjoint halves, several times, and measure between them.

    Args:
        features: (n, d) of real tiles.
        places: (n,) number of the place of each: tiles of one place never part.
        distance: of two sets of features.
        draws: how often to split.
        seed: of the splits.
        synthetic: (n, d) of the synthetic tiles of the same windows in the same order.

    Raises:
        DataError: if there are fewer than two places; whatever `distance` raises.
    """
    numbers, members = np.unique(places, return_inverse=True)
    if len(numbers) < MIN_PLACES:
        raise DataError(
            f"the real tiles lie in {len(numbers)} place; real against real needs {MIN_PLACES}, since tiles of one"
            " place resemble each other"
        )
    rng = np.random.default_rng(seed)
    sizes = np.bincount(members)
    halves = [_halve(sizes, rng) for _ in range(draws)]
    count = min(int(min(sizes[half].sum(), sizes[~half].sum())) for half in halves)
    real, across = [], []
    for half in halves:
        first, second = (_some(np.flatnonzero(side[members]), count, rng) for side in (half, ~half))
        real.append(distance(features[first], features[second]))
        if synthetic is not None:
            across.append(distance(features[first], synthetic[second]))
    return Baseline(count, np.array(real), None if synthetic is None else np.array(across))


def _halve(sizes: Indices, rng: np.random.Generator) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """(places,): places in random order, each to the half that has fewer tiles yet."""
    half, tiles = np.zeros(len(sizes), dtype=bool), [0, 0]
    order = rng.permutation(len(sizes))
    for place in order:
        side = int(tiles[1] < tiles[0])
        half[place] = bool(side)
        tiles[side] += int(sizes[place])
    return half


def _some(tiles: Indices, count: int, rng: np.random.Generator) -> Indices:
    return np.sort(rng.permutation(tiles)[:count])


_QUANTILES = (0.05, 0.5, 0.95)
_TILES_PER_FEATURE = 4  # so that the covariance of half of the tiles still has twice as many tiles as features


class _QuantityDraws(NamedTuple):
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
        self._band_draws: list[_QuantityDraws] = []
        self._ndvi_draws: list[_QuantityDraws] = []
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
        self, quantity: str, counts: npt.NDArray[np.uint32], values: Floats, step: float, draws: list[_QuantityDraws]
    ) -> Comparison:
        """Compare histograms (units, 2, num_values); what the headline needs goes to `draws`."""
        total = counts.sum(axis=0, dtype=np.int64)
        drawn = np.tensordot(self._bootstrap.weights, counts.astype(np.float64), axes=1)
        both = np.concatenate([total[None].astype(np.float64), drawn])
        mean, variance = moments(both, values)
        result = _QuantityDraws(
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


def _pooled(values: list[Floats], draws: list[_QuantityDraws]) -> Floats:
    """Mean over classes and bands, weighted by pixels, per draw; classes that a draw lacks do not count."""
    if not draws:
        return np.full(1, np.nan)
    pixels = np.stack([draw.pixels for draw in draws])
    known = np.where(pixels > 0, np.stack(values), 0)
    return ratio((pixels * known).sum(axis=0), pixels.sum(axis=0))


def _estimate(value: float, draws: Floats, num_units: int) -> Estimate:
    low, high = bounds(value, draws, num_units, least=0.0)
    return Estimate(value=known(value), low=low, high=high)


# --- Distances between real and synthetic tiles in the feature space of a network, with intervals and a scale.

_KERNEL_DRAWS = 200
_FRECHET_WORK = 20_000  # draws times tiles (or features, if fewer): bounds the time, which grows with their cube
_HALVINGS = 10


@dataclass(frozen=True)
class TileSet:
    """Features (n, d) and numbers of places (n,) of tiles."""

    features: Floats
    places: Indices

    def __len__(self) -> int:
        return len(self.features)


def compare_in_space(
    space: Space, reference: str, real: TileFeatures, synthetic: TileFeatures, *, paired: bool, seed: int
) -> FeatureComparison:
    """All distances of one space to one set of real tiles.

    Args:
        space: of the features.
        reference: what the real tiles are called in the report.
        real: tiles of that reference.
        synthetic: tiles.
        paired: whether both sets are of the same tiles in the same order. Then both images of a place are drawn
            together, and there is a scale: halves of the places.
        seed: of draws.
    """
    left = TileSet(real.features[space.name], real.places)
    right = TileSet(synthetic.features[space.name], synthetic.places)
    num_places = len(np.unique(right.places))
    common: dict[str, Any] = {
        "feature_space": space.name,
        "num_features": space.extractor.num_features,
        "reference": reference,
        "num_real": len(left),
        "num_synthetic": len(right),
        "num_places": num_places,
    }
    if not len(left) or not len(right):
        missing = "real" if not len(left) else "synthetic"
        return FeatureComparison(**common, reason=f"no {missing} tile without a hole; a smaller tile_size gives some")
    draws = _Draws.of(left, right, paired, seed)
    return FeatureComparison(
        **common,
        frechet=_frechet(left, right, draws, _scale(left, right, paired, frechet_distance, seed)),
        kid=_kid(left, right, draws, _scale(left, right, paired, kernel_distance, seed)),
        **_shares(left, right, seed),
    )


@dataclass(frozen=True)
class _Draws:
    """Places drawn with replacement, of both sets: weights (draws, places) over numbers shared by both.

    Attributes:
        weights: how often each place counts.
        left, right: (n,) numbers of places, from 0, apart where the places are others.
        num_places: of the set that has fewer.
    """

    weights: Floats
    left: Indices
    right: Indices
    num_places: int

    @classmethod
    def of(cls, left: TileSet, right: TileSet, paired: bool, seed: int) -> _Draws:
        rng = np.random.default_rng(seed)
        if paired:
            numbers, both = np.unique(np.concatenate([left.places, right.places]), return_inverse=True)
            weights = _multinomial(rng, len(numbers))
            return cls(weights, both[: len(left)], both[len(left) :], len(numbers))
        first, left_places = np.unique(left.places, return_inverse=True)
        second, right_places = np.unique(right.places, return_inverse=True)
        weights = np.concatenate([_multinomial(rng, len(first)), _multinomial(rng, len(second))], axis=1)
        return cls(weights, left_places, right_places + len(first), min(len(first), len(second)))

    def estimate(self, value: float, drawn: list[float], least: float) -> Estimate:
        low, high = bounds(value, np.array(drawn), self.num_places, least)
        return Estimate(value=value, low=low, high=high)


def _multinomial(rng: np.random.Generator, places: int) -> Floats:
    return rng.multinomial(places, np.full(places, 1 / places), size=_KERNEL_DRAWS).astype(np.float64)


def _frechet(left: TileSet, right: TileSet, draws: _Draws, scale: dict[str, Any]) -> Distance:
    try:
        value = frechet_distance(left.features, right.features)
    except DataError as error:
        return Distance(note=str(error))
    size = min(len(left), len(right), left.features.shape[1])
    num_draws = int(np.clip(_FRECHET_WORK // size, 20, len(draws.weights)))
    drawn = []
    for weights in draws.weights[:num_draws]:
        first, second = (np.repeat(np.arange(len(at)), weights[at].astype(int)) for at in (draws.left, draws.right))
        enough = min(len(first), len(second)) >= 2
        drawn.append(frechet_distance(left.features[first], right.features[second]) if enough else np.nan)
    note = bias_note(min(len(left), len(right)), left.features.shape[1])
    return Distance(estimate=draws.estimate(value, drawn, 0.0), note=note, **scale)


def _kid(left: TileSet, right: TileSet, draws: _Draws, scale: dict[str, Any]) -> Distance:
    try:
        sums = KernelSums.of(left.features, right.features, draws.left, draws.right)
    except DataError as error:
        return Distance(note=str(error))
    drawn = [sums.distance(weights) for weights in draws.weights]
    return Distance(estimate=draws.estimate(sums.distance(), drawn, -np.inf), **scale)


def _shares(left: TileSet, right: TileSet, seed: int) -> dict[str, Any]:
    """Precision, recall, density and coverage, or why there are none."""
    try:
        found = compare_manifolds(left.features, right.features)
    except DataError as error:
        return {"note": str(error)}

    def estimate(of_tiles: Floats, places: Indices, most: float = 1.0) -> Estimate:
        found = place_interval(lambda chosen: float(of_tiles[chosen].mean()), places, seed, least=0.0)
        return Estimate(value=found.value, low=found.low, high=None if found.high is None else min(most, found.high))

    return {
        "precision": estimate(found.precise, right.places),
        "recall": estimate(found.recalled, left.places),
        "density": estimate(found.densities, right.places, np.inf),
        "coverage": estimate(found.covered, left.places),
    }


def _scale(
    left: TileSet, right: TileSet, paired: bool, distance: Callable[[Floats, Floats], float], seed: int
) -> dict[str, Any]:
    """Real against real and against synthetic alike, between halves of the places."""
    if not paired:
        return {}
    try:
        found = real_baseline(left.features, left.places, distance, _HALVINGS, seed, synthetic=right.features)
    except DataError:  # of too few places or tiles
        return {}
    assert found.across is not None
    real, across = (
        Estimate(value=float(values.mean()), low=float(values.min()), high=float(values.max()))
        for values in (found.real, found.across)
    )
    return {"real": real, "across": across, "num_halves": found.num_tiles}


# --- Whether synthetic tiles repeat the tiles that their generator was trained on.


def compare_memory(
    source: PatchSource,
    space: str,
    train: TileFeatures,
    fold: str,
    real: TileFeatures,
    synthetic: TileFeatures,
    seed: int,
) -> MemorisationComparison:
    """Distances of synthetic tiles to train tiles, against those to other real tiles.

    Args:
        source: of the windows, for where the closest pairs lie.
        space: whose features to take.
        train: real tiles of the train fold.
        fold: of the others.
        real: tiles of that fold.
        synthetic: of the same windows: real tiles of a tile's own place do not count among the others.
        seed: of draws.
    """
    try:
        found = memorisation(
            synthetic.features[space],
            train.features[space],
            real.features[space],
            synthetic.places,
            real.places,
            seed,
        )
    except DataError as error:
        return MemorisationComparison(feature_space=space, reason=str(error))
    closest = tuple(
        ClosestPair(
            distance=pair.distance,
            synthetic=describe_in(source, synthetic.windows[pair.synthetic]),
            train=describe_in(source, train.windows[pair.train]),
            synthetic_window=_values(synthetic.windows[pair.synthetic]),
            train_window=_values(train.windows[pair.train]),
        )
        for pair in found.closest
    )
    return MemorisationComparison(
        feature_space=space,
        num_synthetic=len(synthetic),
        num_train=found.num_references,
        num_other=found.num_references,
        other=fold,
        share_nearer_train=_interval_estimate(found.nearer_train, 1.0),
        distance_ratio=_interval_estimate(found.distance_ratio),
        control=_interval_estimate(found.control, 1.0),
        closest=closest,
    )


def _interval_estimate(found: Interval, most: float = math.inf) -> Estimate:
    return Estimate(value=known(found.value), low=found.low, high=None if found.high is None else min(most, found.high))


def _values(window: Window) -> tuple[int, int, int, int]:
    return window.row, window.column, window.height, window.width
