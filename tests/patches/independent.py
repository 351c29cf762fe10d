"""Independent random patches: what chunk-aware order must draw alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from geosynth.grid import Window
from geosynth.patches.positions import PositionIndex
from geosynth.patches.sampler import Chances
from geosynth.raster.stores.source import PatchSource


def draw_independently(
    source: PatchSource,
    size: int,
    number: int,
    seed: int,
    class_weights: Mapping[str, float] | None = None,
    fold: str = "train",
) -> Iterator[Window]:
    """Each admissible position of the fold is as likely as another, or as the class weights say."""
    index = PositionIndex(source, fold, size, count_classes=class_weights is not None)
    chances = Chances({0: index}, class_weights)
    ends = np.cumsum(chances.values)
    rng = np.random.default_rng(seed)
    for _ in range(number):
        cell = int(np.searchsorted(ends, rng.random() * ends[-1], side="right"))
        yield chances.draw(min(cell, len(ends) - 1), 1, rng)[1][0]
