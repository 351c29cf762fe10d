"""A source with painted imagery: the labels that are painted, and the source that results."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from geosynth.config.bands import Quantity, first_known
from geosynth.grid import Window
from geosynth.legend import ClassIndices, Legend
from geosynth.progress import Progress, silent
from geosynth.raster.labels import LabelRaster, Survey
from geosynth.raster.read import SCAN_BLOCK, Array, Mask, Read
from geosynth.raster.stores.source import PatchSource, SourceCodes


class FoldLabels(LabelRaster):
    """The labels of a patch source. Those outside some folds are read as surroundings, but count as without a class.

    Args:
        source: of the labels.
        legend: reads its codes as class indices.
        folds: the folds whose pixels count.
    """

    def __init__(self, source: PatchSource, legend: Legend, folds: Sequence[str]) -> None:
        super().__init__(SourceCodes(source), legend)
        self._source, self._folds = source, tuple(folds)

    def surveyed(self) -> Sequence[Window]:
        """Blocks over the scenes; between them, often nearly everywhere on the grid, there are no labels."""
        return self._source.blocks(SCAN_BLOCK)

    def survey(self, progress: Progress = silent) -> Survey:
        """See `LabelRaster.survey`; the numbers of pixels are of the folds alone, the digest is of all labels."""
        self._source.class_pixels("all", progress)  # of all folds in one pass, if they are not known
        pixels = np.array([self._source.class_pixels(fold) for fold in self._folds]).sum(axis=0)
        counts = {code: count for code, count in zip(self._source.legend.codes, pixels.tolist(), strict=True) if count}
        return super().survey(progress)._replace(counts=counts)

    def read(self, window: Window) -> tuple[ClassIndices, Mask]:
        """See `LabelRaster.read`."""
        indices, labelled = super().read(window)
        inside = window.overlap(self.raster.window)
        split = self._source.split
        masks = [split.mask(inside, fold) for fold in self._folds if split.meets(inside, fold)]
        wanted = np.any([np.zeros((inside.height, inside.width), bool), *masks], axis=0)
        labelled[inside.slices_in(window)] &= wanted
        return indices, labelled


class Painted(PatchSource):
    """The scenes, labels and split of a source, with other imagery. Pixels without an image have no class either.

    Args:
        source: of the labels.
        paint: returns, for any window of the grid, (bands, height, width) and where there is an image, (height, width).
        synthetic: how the imagery is made.
        quantities: what the values mean, if the source does not say.
    """

    def __init__(
        self, source: PatchSource, paint: Read, synthetic: Mapping[str, str], quantities: Sequence[Quantity] = ()
    ) -> None:
        self._source, self._paint = source, paint
        self.path, self.geobox, self.legend = source.path, source.geobox, source.legend
        self.band_names, self.dtype, self.chunk_size = source.band_names, source.dtype, source.chunk_size
        self.quantities = first_known([source.quantities, quantities])
        self.split, self.synthetic = source.split, synthetic
        tags = sorted(synthetic.items())
        self.scenes = tuple(
            replace(
                scene,
                image="",
                # In place of the image, which follows from the labels here and from how images are made.
                image_sha256=hashlib.sha256(repr((tags, scene.labels_sha256, scene.window)).encode()).hexdigest(),
            )
            for scene in source.scenes
        )

    @property
    def name(self) -> str:
        """The source's name."""
        return self._source.name

    def read(self, window: Window) -> tuple[Array, ClassIndices]:
        """See `PatchSource`."""
        pixels, valid = self._paint(window)
        return pixels, self._masked(window, valid)

    def read_labels(self, window: Window) -> ClassIndices:
        """See `PatchSource`."""
        return self._masked(window, self._paint(window)[1])

    def _masked(self, window: Window, valid: Mask) -> ClassIndices:
        indices = self._source.read_labels(window)
        indices[~valid] = self.legend.num_classes
        return indices
