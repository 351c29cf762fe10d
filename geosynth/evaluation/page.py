"""report.html of an evaluation: the report's numbers, pictures of some places, and curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from geosynth import page
from geosynth.config.bands import rgb_bands
from geosynth.estimate import Floats
from geosynth.evaluation.levels import Levels
from geosynth.evaluation.measures import ClosestPair
from geosynth.evaluation.pixels import ratio
from geosynth.evaluation.report import Report
from geosynth.evaluation.tiles import Pixels, StoreTiles, TilePair
from geosynth.grid import Window
from geosynth.legend import rgb_of, told_apart
from geosynth.raster.preview import turned_north

_NUM_PICTURES = 4
_PICTURE_SIZE = 256


class Picture(NamedTuple):
    """A window of labels, real and synthetic images, each (height, width, 3)."""

    caption: str
    """Place of the window, in words."""
    labels: Pixels
    real: Pixels
    synthetic: Pixels


class ClosestPicture(NamedTuple):
    """A synthetic tile and the train tile nearest to it, each (height, width, 3)."""

    caption: str
    synthetic: Pixels
    train: Pixels


def render_report(
    report: Report, counts: npt.NDArray[np.integer], pictures: Sequence[Picture], closest: Sequence[ClosestPicture] = ()
) -> str:
    """The HTML page.

    Args:
        report: the numbers.
        counts: (2, classes, bands, 256) numbers of pixels at each level in the real and the synthetic image, classes in
            the legend's order.
        pictures: from `draw_pictures`.
        closest: from `draw_closest`.
    """
    present = counts[:, counts.any(axis=(0, 2, 3))]
    spans = {one.band: f": {one.low:g} to {one.high:g}" for one in (report.levels.bands if report.levels else ())}
    curves = [
        (f"{entry.name}, {band}{spans.get(band, '')}", _curves(present[:, number, place]))
        for number, entry in enumerate(report.classes)
        for place, band in enumerate(report.bands)
    ]
    notes: dict[str, list[str]] = {}
    for one in report.features:
        for note in dict.fromkeys((one.reason, one.note, one.frechet.note, one.kid.note)):
            if note:
                notes.setdefault(note, []).append(f"{one.feature_space} to {one.reference}")
    return page.render_page("evaluation", report=report, pictures=pictures, closest=closest, curves=curves, notes=notes)


def _curves(pair: npt.NDArray[np.integer]) -> list[str]:
    """Two histograms (2, 256), real and synthetic, as points of curves over bins of 4 levels, on the same scale."""
    shares: Floats = pair.reshape(2, 64, 4).sum(axis=2) / 1.0
    shares = ratio(shares, shares.sum(axis=1, keepdims=True))
    heights = 70 * (1 - shares / np.nanmax(shares))
    return [" ".join(f"{4 * place + 2},{height:.1f}" for place, height in enumerate(curve)) for curve in heights]


def draw_pictures(pair: TilePair, levels: Levels, tiles: Sequence[Window], seed: int) -> list[Picture]:
    """Up to four windows of up to 256 px, at tiles drawn at random; white where there is no class.

    Args:
        pair: what is shown.
        levels: in which it is shown.
        tiles: to draw from; not empty.
        seed: of the draw.
    """
    chosen = np.random.default_rng(seed).permutation(len(tiles))[:_NUM_PICTURES]
    windows = {pair.frame(tiles[index], _PICTURE_SIZE, _PICTURE_SIZE) for index in chosen.tolist()}
    colours = told_apart([entry.colour for entry in pair.legend.classes])
    palette = np.array([rgb_of(colour) for colour in [*colours, "#ffffff"]], dtype=np.uint8)
    pictures = []
    for window in sorted(windows):
        block = pair.read(window).seen(levels)
        real, synthetic = (_shown(image, pair) for image in (block.real, block.synthetic))
        labels = turned_north(palette[block.indices], pair.geobox)
        pictures.append(Picture(pair.describe(window), labels, real, synthetic))
    return pictures


def draw_closest(pair: StoreTiles, levels: Levels, closest: Sequence[ClosestPair]) -> list[ClosestPicture]:
    """Read the pairs again, in levels."""
    pictures = []
    for one in closest:
        synthetic = levels.of(pair.twins[0].read_image(Window(*one.synthetic_window)))
        train = levels.of(pair.source.read_image(Window(*one.train_window)))
        caption = f"{one.distance:.3g}: {one.synthetic}; {one.train}"
        pictures.append(ClosestPicture(caption, _shown(synthetic, pair), _shown(train, pair)))
    return pictures


def _shown(image: Pixels, pair: TilePair) -> Pixels:
    """A part of an image in natural colours, north up, (height, width, 3)."""
    return turned_north(np.moveaxis(image[list(rgb_bands(pair.bands))], 0, -1), pair.geobox)
