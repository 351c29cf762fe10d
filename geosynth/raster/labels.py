"""Label rasters: codes checked against a legend before any work starts, then read as class indices."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from geosynth.errors import DataError, GridError
from geosynth.grid import TilePlan, Window
from geosynth.legend import CodeCounts, Legend
from geosynth.raster.read import Array, Raster, open_raster

_LOG = logging.getLogger(__name__)
_SCAN_BLOCK = 2048
_FILL_STEPS = 16


class LabelRaster:
    """A single-band integer raster and the legend that reads it.

    Raises:
        RasterError: if the file cannot be opened.
        DataError: if it is not a label raster.
    """

    def __init__(self, path: str | Path, legend: Legend) -> None:
        self.raster = open_raster(path)
        self.legend = legend
        _check_is_labels(self.raster)
        nodata = self.raster.nodata
        if nodata is not None and nodata in legend.codes:
            name = legend.names[legend.codes.index(int(nodata))]
            _LOG.warning("%s: declares nodata %d, which is class %r in the legend; taken as nodata", path, nodata, name)

    def count_codes(self, progress: Callable[[int, int], None] = lambda done, total: None) -> CodeCounts:
        """Pixels of each code, valid pixels only; reads the whole raster, block by block."""
        height, width = self.raster.geobox.shape
        plan = TilePlan(height, width, _SCAN_BLOCK)
        counts: CodeCounts = {}
        for done, window in enumerate(plan, start=1):
            codes, valid = self.read_codes(window)
            for code, count in zip(*np.unique(codes[valid], return_counts=True), strict=True):
                counts[int(code)] = counts.get(int(code), 0) + int(count)
            progress(done, len(plan))
        return counts

    def check_codes(self, progress: Callable[[int, int], None] = lambda done, total: None) -> CodeCounts:
        """`count_codes`, then refuse.

        Raises:
            LegendError: if there are codes that the legend does not know.
            DataError: if no pixel has a class.
        """
        counts = self.count_codes(progress)
        self.legend.check(counts, self.raster.path)
        if not any(code in counts for code in self.legend.codes):
            raise DataError(f"{self.raster.path}: no pixel has a class: all of it is nodata")
        return counts

    def read(self, window: Window) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Class indices and where there are any, both (height, width), for a window that may reach beyond the raster.

        Beyond the edge the nearest pixel of the raster is repeated. Pixels without a class take the class of a near
        pixel (within 16 px, along rows and columns; the first class beyond), so that the network sees no hole; the
        second array tells them.

        Raises:
            GridError: if the window lies wholly outside the raster.
        """
        if window.intersection(self.raster.window) is None:
            raise GridError(f"{self.raster.path}: {window} lie outside it")
        grown = window.buffer(_FILL_STEPS)  # what fills a hole must not depend on how the raster is cut
        inside = grown.intersection(self.raster.window)
        assert inside is not None
        codes, valid = self.read_codes(inside)
        indices = self.legend.encode(codes)
        indices[~valid] = self.legend.num_classes
        rows = np.clip(np.arange(grown.row, grown.bottom), inside.row, inside.bottom - 1) - inside.row
        columns = np.clip(np.arange(grown.column, grown.right), inside.column, inside.right - 1) - inside.column
        indices = indices[np.ix_(rows, columns)]
        crop = (slice(_FILL_STEPS, -_FILL_STEPS),) * 2
        labelled = indices[crop] < self.legend.num_classes
        return fill_holes(indices, self.legend.num_classes, _FILL_STEPS)[crop], labelled

    def read_codes(self, window: Window) -> tuple[Array, npt.NDArray[np.bool_]]:
        """Raw codes and where the file has data, both (height, width), for a window inside the raster."""
        return self.raster.read(window)[0], self.raster.read_valid(window)


def fill_holes(indices: npt.NDArray[np.uint8], hole: int, steps: int) -> npt.NDArray[np.uint8]:
    """Grow classes into pixels that hold `hole`, one pixel a step, from above, below, left, right, in this order.

    What a pixel gets depends on at most `steps` pixels around it. What is left gets class 0.
    """
    filled = indices.copy()
    for _ in range(steps):
        holes = filled == hole
        if not holes.any() or holes.all():
            break
        grown = filled.copy()
        for target, source in _SHIFTS:
            take = (grown[target] == hole) & (filled[source] != hole)
            grown[target][take] = filled[source][take]
        filled = grown
    filled[filled == hole] = 0
    return filled


_ALL, _BUT_FIRST, _BUT_LAST = slice(None), slice(1, None), slice(None, -1)
_SHIFTS = (
    ((_BUT_FIRST, _ALL), (_BUT_LAST, _ALL)),
    ((_BUT_LAST, _ALL), (_BUT_FIRST, _ALL)),
    ((_ALL, _BUT_FIRST), (_ALL, _BUT_LAST)),
    ((_ALL, _BUT_LAST), (_ALL, _BUT_FIRST)),
)


def _check_is_labels(raster: Raster) -> None:
    if raster.count != 1:
        raise DataError(f"{raster.path}: has {raster.count} bands; a label raster has one band of class codes")
    if not np.issubdtype(raster.dtype, np.integer):
        raise DataError(
            f"{raster.path}: holds {raster.dtype} values; a label raster holds integer class codes (gdal_translate -ot)"
        )
