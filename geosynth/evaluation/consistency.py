"""Whether a segmenter finds the labels in the real and in the synthetic images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from geosynth.errors import DataError, LegendError
from geosynth.estimate import Estimate, Floats, estimate_over_places
from geosynth.evaluation.measures import ConsistencyComparison
from geosynth.evaluation.tiles import Tile, TilePair
from geosynth.raster.quantities import agreed_quantities
from geosynth.segmentation.scores import Confusion, iou, mean_iou

if TYPE_CHECKING:
    from geosynth.segmentation.segmenter import Segmenter


class Consistency:
    """Whether a segmenter finds the labels in both images.

    Args:
        pair: the tiles.
        segmenter: for the same bands, dtype, quantities and classes.

    Raises:
        DataError, LegendError: if the segmenter is for others.
    """

    def __init__(self, pair: TilePair, segmenter: Segmenter) -> None:
        bands, legend = segmenter.card.bands.names, segmenter.card.legend
        if bands != pair.bands:
            raise DataError(
                f"{segmenter.path}: looks at bands {', '.join(bands)}, but the images have {', '.join(pair.bands)}"
            )
        if segmenter.card.bands.dtype != pair.dtype:
            raise DataError(
                f"{segmenter.path}: looks at {segmenter.card.bands.dtype} imagery, but the images are {pair.dtype}"
            )
        quantities = [(str(segmenter.path), segmenter.card.bands.quantities), ("the real imagery", pair.quantities)]
        agreed_quantities(quantities, bands)
        if legend.names != pair.legend.names:
            raise LegendError(
                f"{segmenter.path}: knows the classes {', '.join(legend.names)}, but the labels have"
                f" {', '.join(pair.legend.names)}"
            )
        self._pair, self._segmenter = pair, segmenter
        self._num_tiles = 0
        # By image (real first) and place.
        size = pair.legend.num_classes
        self._counts = [[Confusion(size) for _ in range(pair.num_places)] for _ in range(2)]

    def add(self, tiles: Sequence[Tile]) -> None:
        """Segment whole tiles."""
        blocks = [tile.block for tile in tiles]
        images = np.stack([block.real for block in blocks]), np.stack([block.synthetic for block in blocks])
        for counts, of_tiles in zip(self._counts, images, strict=True):
            for tile, predicted in zip(tiles, self._segmenter.predict(of_tiles), strict=True):
                counts[tile.place].add(tile.block.indices, predicted)
        self._num_tiles += len(tiles)

    def result(self, seed: int) -> ConsistencyComparison:
        """Mean IoU on both images, over all tiles.

        Args:
            seed: of the draws of places.
        """
        path = str(self._segmenter.path)
        if not self._num_tiles:
            return ConsistencyComparison(segmenter=path, reason="no whole tile is free of nodata")
        matrices = np.array([[one.matrix for one in counts] for counts in self._counts], dtype=np.float64)
        real, synthetic = matrices[:, matrices[0].any(axis=(1, 2))]

        def miou(counts: Floats, weights: Floats) -> Floats:
            return mean_iou(np.tensordot(weights, counts, axes=1))

        def estimate(statistic: Callable[[Floats], Floats], least: float) -> Estimate:
            return estimate_over_places(statistic, np.arange(len(real)), seed, least=least, most=1)

        ious = zip(*(iou(counts.sum(axis=0)).tolist() for counts in (real, synthetic)), strict=True)
        occurs = real.any(axis=(0, 2))
        return ConsistencyComparison(
            segmenter=path,
            num_tiles=self._num_tiles,
            num_places=len(real),
            real=estimate(lambda weights: miou(real, weights), 0),
            synthetic=estimate(lambda weights: miou(synthetic, weights), 0),
            difference=estimate(lambda weights: miou(synthetic, weights) - miou(real, weights), -1),
            class_iou={
                name: of_both for name, of_both, one in zip(self._pair.legend.names, ious, occurs, strict=True) if one
            },
        )
