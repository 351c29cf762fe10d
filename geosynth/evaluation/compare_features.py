"""Distances between real and synthetic tiles in the feature space of a network, with intervals and a scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geosynth.errors import DataError
from geosynth.evaluation.baseline import real_baseline
from geosynth.evaluation.feature_gather import Space, TileFeatures
from geosynth.evaluation.frechet import bias_note, frechet_distance
from geosynth.evaluation.histograms import Floats
from geosynth.evaluation.intervals import bounds, place_interval
from geosynth.evaluation.kernel import KernelSums, kernel_distance
from geosynth.evaluation.manifold import compare_manifolds
from geosynth.evaluation.report_features import Distance, FeatureComparison
from geosynth.evaluation.report_pixels import Estimate

Indices = npt.NDArray[np.int64]
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
