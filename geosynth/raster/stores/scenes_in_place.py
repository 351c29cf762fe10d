"""InPlace: scenes read from where they are, files, URLs and Zarr arrays alike, without a copy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox

from geosynth.grid import SpatialSplit, Window, ground_sampling_distance
from geosynth.legend import Legend
from geosynth.raster.labels import LabelRaster
from geosynth.raster.read import Array
from geosynth.raster.stores.items import Item
from geosynth.raster.stores.scene import Scene

_USUAL_BLOCK = 512
_LARGEST_BLOCK = 1024


class ImageRaster(Protocol):
    """What images are read through: `Raster` (anything GDAL opens) or `ZarrImage`."""

    path: str
    geobox: GeoBox
    count: int
    dtype: np.dtype[Any]
    nodata: float | None

    @property
    def window(self) -> Window:
        """The whole raster."""

    def read(self, window: Window) -> Array:
        """(bands, height, width) for a window inside."""

    def read_valid(self, window: Window, *, trust_alpha: bool = True) -> npt.NDArray[np.bool_]:
        """(height, width): where there is data."""


class Piece(Protocol):
    """An image, the labels of the same pixels, and their place on the common grid: what a `Pair` is."""

    @property
    def item(self) -> Item:
        """Where they come from."""

    @property
    def image(self) -> ImageRaster:
        """On the common grid."""

    @property
    def labels(self) -> LabelRaster:
        """Of the same pixels."""

    @property
    def window(self) -> Window:
        """On the common grid."""


class InPlace:
    """Scenes on one pixel grid, read from where they are. A `PatchSource`.

    Where scenes overlap, the later one wins, but its nodata does not: just as in a store. Codes that the legend does
    not know are refused when they are read.

    Attributes:
        path .. chunk_size: see `PatchSource`. The scenes' class pixels are not counted, so none counts as complete.

    Args:
        pieces: the scenes in order, on one grid of non-negative positions.
        geobox: that grid.
        legend: of the class indices; those of the label rasters may have other codes.
        band_names: of the images.
        split: of the grid.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        geobox: GeoBox,
        legend: Legend,
        band_names: Sequence[str],
        split: SpatialSplit,
    ) -> None:
        first = pieces[0].image
        self.path = first.path if len(pieces) == 1 else f"{first.path} and {len(pieces) - 1} more"
        self.geobox, self.legend, self.split = geobox, legend, split
        self.band_names = tuple(band_names)
        self.dtype = first.dtype
        self.pieces = tuple(pieces)
        self.scenes = tuple(
            Scene(
                piece.item.name or Path(piece.image.path).name,
                piece.window,
                (),
                "",
                "",
                piece.image.path,
                piece.labels.name,
                piece.item.date,
            )
            for piece in pieces
        )
        self.chunk_size = _block_size(first)
        windows = [piece.window for piece in pieces]
        self._edges = np.array([(w.row, w.column, w.bottom, w.right) for w in windows])

    @property
    def gsd(self) -> float | None:
        """Ground sampling distance, metres a pixel; None without a projected CRS."""
        return ground_sampling_distance(self.geobox)

    def scenes_in(self, fold: str) -> tuple[Scene, ...]:
        """The scenes that have a part in the fold."""
        return tuple(scene for scene in self.scenes if self.split.meets(scene.window, fold))

    def read_image(self, window: Window) -> Array:
        """(bands, height, width); 0 where no scene is. The window lies inside the grid.

        Raises:
            RasterError: if a file cannot be read; names it.
        """
        near = self._near(window)
        if len(near) == 1 and near[0].window.contains(window):
            return near[0].image.read(_local(near[0], window))
        image = np.zeros((len(self.band_names), window.height, window.width), dtype=self.dtype)
        indices = np.full((window.height, window.width), self.legend.num_classes, dtype=np.uint8)
        for piece in near:
            part = piece.window.intersection(window)
            assert part is not None
            place = part.shift(-window.row, -window.column).slices
            values = piece.image.read(_local(piece, part))
            if len(near) == 1:
                image[(slice(None), *place)] = values
                continue
            found = self._indices(piece, part)
            taken = self._is_taken(found, indices[place])
            indices[place] = np.where(taken, found, indices[place])
            image[(slice(None), *place)] = np.where(taken, values, image[(slice(None), *place)])
        return image

    def read_labels(self, window: Window) -> npt.NDArray[np.uint8]:
        """(height, width) class indices; `num_classes` where image or labels have no data.

        Raises:
            RasterError: if a file cannot be read; names it.
            LegendError: if it holds codes that the legend does not know.
        """
        indices = np.full((window.height, window.width), self.legend.num_classes, dtype=np.uint8)
        for piece in self._near(window):
            part = piece.window.intersection(window)
            assert part is not None
            place = part.shift(-window.row, -window.column).slices
            found = self._indices(piece, part)
            indices[place] = np.where(self._is_taken(found, indices[place]), found, indices[place])
        return indices

    def _near(self, window: Window) -> list[Piece]:
        top, left, bottom, right = self._edges.T
        near = (top < window.bottom) & (left < window.right) & (bottom > window.row) & (right > window.column)
        return [self.pieces[place] for place in np.flatnonzero(near)]

    def _is_taken(self, new: npt.NDArray[np.uint8], old: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Where a later scene wins: its nodata never does, but over nodata."""
        taken: npt.NDArray[np.bool_] = (new < self.legend.num_classes) | (old == self.legend.num_classes)
        return taken

    def _indices(self, piece: Piece, part: Window) -> npt.NDArray[np.uint8]:
        local = _local(piece, part)
        codes, valid = piece.labels.read_codes(local)
        # Band names are known here, so a fourth band that GDAL marks alpha is data. NaN never is.
        valid = valid & piece.image.read_valid(local, trust_alpha=False)
        if np.issubdtype(self.dtype, np.floating):
            valid &= ~np.isnan(piece.image.read(local)).any(axis=0)
        legend = piece.labels.legend
        indices = legend.encode(codes)
        unclear = valid & (indices == legend.num_classes)
        if unclear.any():
            listed, counts = np.unique(codes[unclear], return_counts=True)
            legend.check(dict(zip(listed.tolist(), counts.tolist(), strict=True)), piece.labels.name)
        indices[~valid] = legend.num_classes
        return indices


def _local(piece: Piece, window: Window) -> Window:
    return window.shift(-piece.window.row, -piece.window.column)


def _block_size(image: Any) -> int:
    """Side of the square blocks that a raster is stored in; a usual one where they are strips."""
    if hasattr(image, "chunk_size"):
        return min(int(image.chunk_size), _LARGEST_BLOCK)
    height, width = image.block_shape
    return min(height, _LARGEST_BLOCK) if height == width else _USUAL_BLOCK
