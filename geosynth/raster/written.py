"""Reading back what GDAL has written, before the file gets its name: on closing, GDAL does not report a full disk."""

from __future__ import annotations

import itertools
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.errors import RasterioError

from geosynth.grid import Window
from geosynth.parallel import ahead

_THREADS = min(8, os.cpu_count() or 1)  # for reading back
_PART = 8  # windows or blocks that a thread reads at once


class WrittenPixels:
    """Checksums of the pixels written to a raster, to compare with those of the closed file."""

    def __init__(self) -> None:
        self._checksums: dict[Window, tuple[int, int | None]] = {}

    def add(self, window: Window, pixels: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None = None) -> None:
        """Record the pixels (bands, height, width) written at a window, and the mask (height, width), if any."""
        self._checksums[window] = _checksum(pixels), None if valid is None else _checksum(valid)

    def check(self, path: str | Path) -> None:
        """Read a closed GeoTIFF, with its overviews, and compare.

        Raises:
            RasterioError: if it cannot be read, or differs from what was written.
        """

        def read(part: list[Any]) -> None:
            with rasterio.open(path) as dataset:
                for window, (pixels, valid) in part:
                    if _checksum(dataset.read(window=window.slices)) != pixels or (
                        valid is not None and _checksum(dataset.read_masks(1, window=window.slices) != 0) != valid
                    ):
                        raise RasterioError("its pixels cannot be read back")

        def read_overview(part: tuple[int, list[Any]]) -> None:
            level, blocks = part
            finer = {} if level == 0 else {"overview_level": level - 1}
            with rasterio.open(path, overview_level=level) as overview, rasterio.open(path, **finer) as below:
                for (row, column), window in blocks:
                    if _is_stored(overview, row, column):
                        overview.read(window=window)
                    elif _is_seen(below, row, column):
                        raise RasterioError("its overviews have holes")

        for _ in ahead(read, _parts(self._checksums.items()), _THREADS):
            pass
        with rasterio.open(path) as dataset:
            levels = range(len(dataset.overviews(1)))
        for level in levels:
            with rasterio.open(path, overview_level=level) as overview:
                parts = [(level, part) for part in _parts(overview.block_windows(1))]
            for _ in ahead(read_overview, parts, _THREADS):
                pass


def _parts(items: Iterable[Any]) -> Iterator[list[Any]]:
    """Parts, enough for all threads, but not so small that the time to open the file matters."""
    left = iter(items)
    while part := list(itertools.islice(left, _PART)):
        yield part


def _is_stored(dataset: Any, row: int, column: int) -> bool:
    return dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=1) is not None


def _is_seen(below: Any, row: int, column: int) -> bool:
    """Whether a block of an overview has anything to show: pixels with data that do not round to no data."""
    height, width = below.block_shapes[0]
    for r, c in itertools.product((2 * row, 2 * row + 1), (2 * column, 2 * column + 1)):
        if r * height < below.height and c * width < below.width and _is_stored(below, r, c):
            values = below.read(window=below.block_window(1, r, c)).astype(np.float64)
            if (np.abs(values - (below.nodata or 0)) > 1).any():
                return True
    return False


def _checksum(values: npt.NDArray[Any]) -> int:
    return zlib.crc32(np.ascontiguousarray(values).data)
