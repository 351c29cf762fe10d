"""Real and synthetic tiles compared by their features: distances, and what was memorised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from geosynth.errors import DataError, counted
from geosynth.estimate import (
    Estimate,
    Floats,
    Indices,
    draw_places,
    estimate_from_draws,
    mean_over_places,
)
from geosynth.evaluation.distances import (
    MIN_TILES,
    KernelSums,
    bias_note,
    frechet_distance,
    kernel_distance,
    real_baseline,
)
from geosynth.evaluation.features import Space, TileFeatures
from geosynth.evaluation.levels import Levels
from geosynth.evaluation.measures import (
    ClosestPair,
    Distance,
    FeatureComparison,
    MemorisationComparison,
)
from geosynth.evaluation.neighbours import closest_pairs, compare_manifolds, memorisation
from geosynth.evaluation.tiles import StoreTiles, Tile
from geosynth.grid import Window
from geosynth.raster.stores.tiles import TileView

BATCH = 16  # tiles that networks see at once
_FRECHET_WORK = 20_000  # draws times tiles (or features, if fewer), a bound for the time, which grows with their cube
_HALVINGS = 10


def drawn(count: int, most: int, seed: int) -> Indices:
    """At most `most` of the numbers 0 to count - 1, drawn at random, in order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


class PairFeatures:
    """Features of the real and the synthetic image of each tile of a pass, and of the real one turned by 90 degrees.

    Args:
        spaces: feature spaces.
        numbers: of the tiles to use.
    """

    def __init__(self, spaces: Sequence[Space], numbers: Indices) -> None:
        self.real, self.synthetic, self.turned = (TileFeatures(spaces) for _ in range(3))
        self._numbers = frozenset(numbers.tolist())

    def add(self, tiles: Sequence[Tile]) -> None:
        """Embed whole tiles, given in levels."""
        if chosen := [tile for tile in tiles if tile.number in self._numbers]:
            where = [tile.window for tile in chosen], [tile.place for tile in chosen]
            real = np.stack([tile.block.real for tile in chosen])
            self.real.add(*where, real)
            self.turned.add(*where, np.rot90(real, axes=(2, 3)))
            self.synthetic.add(*where, np.stack([tile.block.synthetic for tile in chosen]))


def check_tiles(view: TileView) -> None:
    """Refuse tiles for which no distance between features can be measured.

    Raises:
        DataError: if there are fewer than two tiles.
    """
    if len(view) < MIN_TILES:
        raise DataError(
            f"{view.source.path}: fold {view.fold!r} has {counted(len(view), 'whole tile')} of {view.size} px, too few"
            " for a distance: two at least"
        )


def embed_fold(
    view: TileView, spaces: Sequence[Space], levels: Levels, numbers: Indices, advance: Callable[[], None]
) -> TileFeatures:
    """Features of real tiles, with the clusters of touching scenes as places.

    Args:
        view: the tiles of the fold.
        spaces: feature spaces.
        levels: in which the tiles are seen.
        numbers: of the tiles to use.
        advance: called after each tile.
    """
    found, clusters = TileFeatures(spaces), view.clusters()
    for start in range(0, len(numbers), BATCH):
        images, chosen = [], numbers[start : start + BATCH]
        windows = [view[number] for number in chosen.tolist()]
        for window in windows:
            images.append(view.source.read_image(window))
            advance()
        found.add(windows, clusters[chosen].tolist(), levels.of(np.stack(images)))
    return found


def compare_in_space(
    space: Space,
    reference: str,
    real: TileFeatures,
    synthetic: TileFeatures,
    *,
    in_training: bool | None,
    turned: TileFeatures | None,
    seed: int,
) -> FeatureComparison:
    """All distances to one set of real tiles in one feature space.

    Args:
        space: of the features.
        reference: name of the real tiles in the report.
        real: the real tiles.
        synthetic: the synthetic tiles.
        in_training: whether losses of the generator used the space's network; None if that is not known.
        turned: the real tiles, turned, if both sets are of the same tiles in the same order. Then both images of a
            place are drawn together, and halves of the places give a scale. None if the sets are of different tiles.
        seed: of the draws.
    """
    common: dict[str, Any] = {
        "feature_space": space.name,
        "num_features": space.extractor.num_features,
        "reference": reference,
        "num_real": len(real),
        "num_synthetic": len(synthetic),
        "num_places": len(np.unique(synthetic.places)),
        "in_training": in_training,
    }
    if not len(real) or not len(synthetic):
        missing = "real" if not len(real) else "synthetic"
        return FeatureComparison(**common, reason=f"no {missing} tile without a hole; smaller tiles give some")
    left, right = real.of(space.name), synthetic.of(space.name)
    draws = _Draws.of(real.places, synthetic.places, turned is not None, seed)

    frechet, kid = _frechet(left, right, draws), _kid(left, right, draws, paired=turned is not None)
    if turned is not None:
        sets = left, right, turned.of(space.name), real.places
        frechet = frechet.model_copy(update=_scale(*sets, frechet_distance, seed))
        kid = kid.model_copy(update=_scale(*sets, kernel_distance, seed))
    return FeatureComparison(
        **common, frechet=frechet, kid=kid, **_shares(left, right, real.places, synthetic.places, seed)
    )


class _Draws(NamedTuple):
    """Draws of the places of both sets: weights (1 + draws, places) over numbers that the sets share."""

    weights: Floats
    """See `draw_places`."""
    real: Indices
    """Numbers, from 0, of the real tiles' places, (n,)."""
    synthetic: Indices
    """Numbers of the synthetic tiles' places, (m,): the same ones if both are drawn together, else others."""
    num_places: int
    """Number of places of the set with fewer places."""

    @classmethod
    def of(cls, real: Indices, synthetic: Indices, paired: bool, seed: int) -> _Draws:
        rng = np.random.default_rng(seed)
        if paired:
            numbers, both = np.unique(np.concatenate([real, synthetic]), return_inverse=True)
            return cls(draw_places(len(numbers), rng), both[: len(real)], both[len(real) :], len(numbers))
        first, real = np.unique(real, return_inverse=True)
        second, synthetic = np.unique(synthetic, return_inverse=True)
        weights = np.concatenate([draw_places(len(first), rng), draw_places(len(second), rng)], axis=1)
        return cls(weights, real, synthetic + len(first), min(len(first), len(second)))


def _frechet(real: Floats, synthetic: Floats, draws: _Draws) -> Distance:
    try:
        values = [frechet_distance(real, synthetic)]
    except DataError as error:
        return Distance(note=str(error))
    size = min(len(real), len(synthetic), real.shape[1])
    num_draws = int(np.clip(_FRECHET_WORK // size, 20, len(draws.weights) - 1))
    for weights in draws.weights[1 : num_draws + 1].astype(np.int64):
        first, second = (np.repeat(np.arange(len(at)), weights[at]) for at in (draws.real, draws.synthetic))
        values.append(frechet_distance(real[first], synthetic[second]))
    estimate = estimate_from_draws(values, draws.num_places, least=0)
    return Distance(estimate=estimate, note=bias_note(min(len(real), len(synthetic)), real.shape[1]))


def _kid(real: Floats, synthetic: Floats, draws: _Draws, *, paired: bool) -> Distance:
    try:
        sums = KernelSums.of(real, synthetic, draws.real, draws.synthetic, paired=paired)
    except DataError as error:
        return Distance(note=str(error))
    values = [sums.distance(weights) for weights in draws.weights]
    return Distance(estimate=estimate_from_draws(values, draws.num_places))


def _scale(
    real: Floats,
    synthetic: Floats,
    turned: Floats,
    places: Indices,
    distance: Callable[[Floats, Floats], float],
    seed: int,
) -> dict[str, Any]:
    """Distances between halves of the places: real against real, against synthetic, and against turned tiles."""
    try:
        found = real_baseline(real, synthetic, places, distance, _HALVINGS, seed, turned)
    except DataError:  # of too few places or tiles
        return {}
    of_real, across, of_turned = (
        Estimate(value=values.mean(), low=np.min(values), high=np.max(values))
        for values in (found.real, found.across, found.turned)
    )
    return {"real": of_real, "across": across, "turned": of_turned, "num_halves": found.num_tiles}


def _shares(
    real: Floats, synthetic: Floats, real_places: Indices, synthetic_places: Indices, seed: int
) -> dict[str, Any]:
    """Precision, recall, density and coverage, or the reason why there are none."""
    try:
        found = compare_manifolds(real, synthetic)
    except DataError as error:
        return {"note": str(error)}
    return {
        "precision": mean_over_places(found.precise, synthetic_places, seed, least=0, most=1),
        "recall": mean_over_places(found.recalled, real_places, seed, least=0, most=1),
        "density": mean_over_places(found.densities, synthetic_places, seed, least=0),
        "coverage": mean_over_places(found.covered, real_places, seed, least=0, most=1),
    }


def compare_memory(
    pair: StoreTiles, space: str, train: TileFeatures, real: TileFeatures, synthetic: TileFeatures, seed: int
) -> MemorisationComparison:
    """Compare the distances of synthetic tiles to train tiles with those to other real tiles.

    Args:
        pair: to which the tiles belong.
        space: name of the feature space.
        train: real tiles of the train fold.
        real: tiles of the fold that is evaluated.
        synthetic: tiles of the same windows. Real tiles of a tile's own place do not count among the others.
        seed: of the draws.
    """
    features = synthetic.of(space), train.of(space), real.of(space)
    try:
        found = memorisation(*features, synthetic.places, real.places, seed)
    except DataError as error:
        return MemorisationComparison(feature_space=space, reason=str(error))
    closest = []
    for distance, first, second in closest_pairs(*features[:2]):
        windows = synthetic.windows[first], train.windows[second]
        closest.append(
            ClosestPair(
                distance=distance,
                synthetic=pair.describe(windows[0]),
                train=pair.describe(windows[1]),
                synthetic_window=_values(windows[0]),
                train_window=_values(windows[1]),
            )
        )
    return found.model_copy(update={"feature_space": space, "other": pair.fold, "closest": tuple(closest)})


def _values(window: Window) -> tuple[int, int, int, int]:
    return window.row, window.column, window.height, window.width
