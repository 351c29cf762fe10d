"""Windows shown in the report: labels, real and synthetic; and the closest pairs of synthetic and train tiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from geosynth.evaluation.report_features import ClosestPair
from geosynth.evaluation.store_tiles import StoreTiles
from geosynth.evaluation.tiles import TilePair
from geosynth.grid import Window

_NUM_PICTURES = 4
_PICTURE_SIZE = 256

Shown = npt.NDArray[np.uint8]


class Picture(NamedTuple):
    """A window shown: (height, width, 3) images of labels, real and synthetic; where it is, in words."""

    caption: str
    labels: Shown
    real: Shown
    synthetic: Shown


class ClosestPicture(NamedTuple):
    """A synthetic tile and the train tile nearest to it: (height, width, 3)."""

    caption: str
    synthetic: Shown
    train: Shown


def draw_pictures(pair: TilePair, tiles: Sequence[Window], seed: int) -> list[Picture]:
    """Up to four windows of up to 256 px, at tiles drawn at random; white where there is no class.

    Args:
        pair: what is shown.
        tiles: to draw from; not empty.
        seed: of the draw.
    """
    chosen = np.random.default_rng(seed).permutation(len(tiles))[:_NUM_PICTURES]
    windows = {pair.frame(tiles[index], _PICTURE_SIZE, _PICTURE_SIZE) for index in chosen.tolist()}
    palette = np.array([entry.rgb for entry in pair.legend.classes] + [(255, 255, 255)], dtype=np.uint8)
    pictures = []
    for window in sorted(windows):
        block = pair.read(window)
        real, synthetic = (_shown(image, pair.bands) for image in (block.real, block.synthetic))
        pictures.append(Picture(pair.describe(window), palette[block.indices], real, synthetic))
    return pictures


def draw_closest(pair: StoreTiles, closest: Sequence[ClosestPair]) -> list[ClosestPicture]:
    """The pairs, read anew."""
    pictures = []
    for one in closest:
        synthetic = pair.twins[0].read_image(Window(*one.synthetic_window))
        train = pair.source.read_image(Window(*one.train_window))
        caption = f"{one.distance:.3g}: {one.synthetic}; {one.train}"
        pictures.append(ClosestPicture(caption, _shown(synthetic, pair.bands), _shown(train, pair.bands)))
    return pictures


def _shown(image: npt.NDArray[np.uint8], bands: tuple[str, ...]) -> Shown:
    return np.moveaxis(image[_shown_bands(bands)], 0, -1)


def _shown_bands(bands: tuple[str, ...]) -> list[int]:
    lower = [name.casefold() for name in bands]
    if {"red", "green", "blue"} <= set(lower):
        return [lower.index(name) for name in ("red", "green", "blue")]
    return [0, 1, 2] if len(bands) >= 3 else [0, 0, 0]
