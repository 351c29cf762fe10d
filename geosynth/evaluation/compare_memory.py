"""Whether synthetic tiles repeat the tiles that their generator was trained on."""

from __future__ import annotations

import math

from geosynth.errors import DataError
from geosynth.evaluation.feature_gather import TileFeatures
from geosynth.evaluation.intervals import Interval
from geosynth.evaluation.memorisation import memorisation
from geosynth.evaluation.report_features import ClosestPair, MemorisationComparison
from geosynth.evaluation.report_pixels import Estimate, known
from geosynth.evaluation.store_tiles import describe_in
from geosynth.grid import Window
from geosynth.raster.stores.source import PatchSource


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
        share_nearer_train=_estimate(found.nearer_train, 1.0),
        distance_ratio=_estimate(found.distance_ratio),
        control=_estimate(found.control, 1.0),
        closest=closest,
    )


def _estimate(found: Interval, most: float = math.inf) -> Estimate:
    return Estimate(value=known(found.value), low=found.low, high=None if found.high is None else min(most, found.high))


def _values(window: Window) -> tuple[int, int, int, int]:
    return window.row, window.column, window.height, window.width
