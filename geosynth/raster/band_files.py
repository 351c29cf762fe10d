"""Files of bands: files of one band each that form one image, as of Sentinel-2, Landsat and catalogues of COGs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rasterio.enums import MaskFlags, Resampling

from geosynth.errors import DataError, GridError
from geosynth.grid.lengths import pixel_sides

_MASK = [MaskFlags.per_dataset]
_APART = 0.01  # of a pixel; transforms in files are rounded


class BandFiles:
    """Open datasets of one band each, on the same pixels, as one: with all that `RasterFile` needs of a dataset.

    Args:
        files: the datasets by band name; the names become the descriptions of the bands.

    Raises:
        DataError: if one has several bands, or another dtype than the first.
        GridError: if one is on another pixel grid than the first.
    """

    def __init__(self, files: Mapping[str, Any]) -> None:
        self._files = tuple(files.values())
        self.first = first = self._files[0]
        for file in self._files:
            _check_alike(file, first)
        self.count, self.descriptions = len(files), tuple(files)
        self.driver = ",".join(dict.fromkeys(file.driver for file in self._files))
        self.files = tuple(name for file in self._files for name in file.files)
        self.height, self.width, self.crs, self.transform = first.height, first.width, first.crs, first.transform
        self.gcps, self.rpcs = first.gcps, first.rpcs
        for what in ("dtypes", "nodatavals", "colorinterp", "block_shapes", "scales", "offsets", "units"):
            setattr(self, what, tuple(getattr(file, what)[0] for file in self._files))
        self._masks = [file for file in self._files if _MASK[0] in file.mask_flag_enums[0]]
        self.mask_flag_enums = [_MASK] if self._masks else [file.mask_flag_enums[0] for file in self._files]

    def tags(self, **domain: str) -> dict[str, str]:
        """Tags that all files have in common, without those that are not UTF-8."""
        try:
            first, *others = (file.tags(**domain) for file in self._files)
        except UnicodeDecodeError:
            return {}
        return {key: value for key, value in first.items() if all(tags.get(key) == value for tags in others)}

    def overviews(self, band: int) -> list[int]:
        """Factors of the overviews of a band, counted from 1."""
        factors: list[int] = self._files[band - 1].overviews(1)
        return factors

    def read(self, bands: Sequence[int], *, window: Any, out_shape: Any, resampling: Resampling) -> Any:
        """(bands, height, width), as rasterio's method."""
        shape = None if out_shape is None else out_shape[1:]
        one = {"window": window, "out_shape": shape, "resampling": resampling}
        return np.stack([self._files[band - 1].read(1, **one) for band in bands])

    def dataset_mask(self, *, window: Any, out_shape: Any) -> Any:
        """(height, width), 0 where the mask of a file hides the pixel, else not 0."""
        return np.min([file.dataset_mask(window=window, out_shape=out_shape) for file in self._masks], axis=0)


def _check_alike(file: Any, first: Any) -> None:
    if file.count != 1:
        raise DataError(f"{file.name}: has {file.count} bands; each file of an image in several files has one")
    if file.dtypes != first.dtypes:
        raise DataError(
            f"{file.name}: holds {file.dtypes[0]} values, but {first.name} {first.dtypes[0]}; files of one image have"
            f" one type: leave it out, or convert it first (rio convert --dtype {first.dtypes[0]} FILE NEW)"
        )
    size = min(pixel_sides(first.transform))
    corners = ((0, 0), (first.width, 0), (0, first.height))
    apart = max(math.dist(file.transform @ corner, first.transform @ corner) for corner in corners)
    is_elsewhere = file.shape != first.shape or not apart <= _APART * size
    for own, others in zip(_grid(file), _grid(first), strict=True):
        if own != others and (is_elsewhere or file.crs != first.crs):
            raise GridError(
                f"{file.name}: has {own}, but {first.name} has {others}; files of one image have the same pixels: leave"
                f" it out, or bring it to them first (rio warp FILE NEW --like {first.name})"
            )


def _grid(file: Any) -> tuple[str, str, str]:
    """CRS, shape and transform, for messages."""
    along, down = pixel_sides(file.transform)
    sides = f"pixels of {along:.9g} x {down:.9g}"
    return f"CRS {file.crs}", sides, f"{file.width} x {file.height} px at {file.transform[:6]}"
