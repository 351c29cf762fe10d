"""Tiles of a fold of a store, and of its synthetic twin at the same windows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from geosynth.errors import DataError
from geosynth.evaluation.inputs import Block
from geosynth.evaluation.intervals import MIN_PLACES
from geosynth.evaluation.tiles import MAX_UNITS, Piece, Tile, centred
from geosynth.grid import Window
from geosynth.grid.groups import touching_groups
from geosynth.raster.stores.scene import Scene
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.tile_view import TileView
from geosynth.raster.stores.twin_store import check_twin


class StoreTiles:
    """Tiles of a fold, laid side by side from the first pixel of each scene on; what does not fit is left out.

    A place is a cluster of touching scenes. Where the fold has fewer than 8 of these, it is a square of tiles.

    Args:
        source: the real imagery, uint8.
        twins: the synthetic ones; the first is evaluated, all of them give the diversity.
        fold: "train", "val" or "test".
        tile_size: pixels.

    Raises:
        DataError: if a twin is not one of the source, or the fold has no tile.
    """

    def __init__(self, source: PatchSource, twins: Sequence[PatchSource], fold: str, tile_size: int) -> None:
        for twin in twins:
            check_twin(twin, source)
        self.source, self.twins, self.fold, self.tile_size = source, tuple(twins), fold, tile_size
        self.legend, self.bands = source.legend, source.band_names
        self._view = TileView(source, fold, tile_size, tile_size, edge="skip", max_nodata=1.0)
        self.num_tiles = self.num_pieces = len(self._view)
        if not self.num_tiles:
            raise DataError(f"{source.path}: fold {fold!r} has no tile of {tile_size} px; choose a smaller tile_size")
        self.units, self.unit_kind = _places(self._view)
        self.num_units = int(self.units.max()) + 1

    def pieces(self) -> Iterator[Piece]:  # noqa: D102
        inside = Window(0, 0, self.tile_size, self.tile_size)
        for number, unit in enumerate(self.units.tolist()):
            window = self._view[number]
            yield Piece(self.read(window), [(Tile(number, window, unit), inside)], None, (self.tile_size,) * 2)

    def read(self, window: Window) -> Block:  # noqa: D102
        real, twin = self.source.read_image(window), self.twins[0]
        return Block(real, twin.read_image(window), self._labels_of(twin, window))

    def read_latents(self, window: Window) -> npt.NDArray[np.uint8]:
        """(twins, bands, height, width) of a window that the first twin covers.

        Raises:
            DataError: if another one does not.
        """
        for twin in self.twins[1:]:
            if (self._labels_of(twin, window) == self.legend.num_classes).any():
                raise DataError(f"{twin.path}: has no image of {window}, but {self.twins[0].path} has")
        return np.stack([twin.read_image(window) for twin in self.twins])

    def _labels_of(self, twin: PatchSource, window: Window) -> npt.NDArray[np.uint8]:
        """The store's labels, where the twin has an image; elsewhere the twin has no labels either."""
        own, theirs = self.source.read_labels(window), twin.read_labels(window)
        covered = theirs < self.legend.num_classes
        if (own != theirs)[covered].any():
            raise DataError(f"{twin.path}: its labels are not those of {self.source.path}; make a twin of that store")
        return theirs

    def frame(self, window: Window, height: int, width: int) -> Window:  # noqa: D102
        scene = _scene_of(self.source, window)
        return centred(window, scene.window, height, width)

    def describe(self, window: Window) -> str:  # noqa: D102
        return describe_in(self.source, window)


def _places(view: TileView) -> tuple[npt.NDArray[np.int64], str]:
    """(tiles,) the place of each tile, 0 to n - 1, and what a place is."""
    clusters = cluster_of(view)
    found, places = np.unique(clusters, return_inverse=True)
    if len(found) >= MIN_PLACES:
        # Pooling independent places leaves independent ones.
        return (places % MAX_UNITS).astype(np.int64), "clusters of touching scenes"
    # Squares of the lattice from the grid's first pixel on, as small as there may be many.
    cells = view.windows[:, :2] // view.size
    for side in itertools.count(1):
        units = np.unique(cells // side, axis=0, return_inverse=True)[1].ravel()
        if units.max() < MAX_UNITS:
            break
    kind = f"squares of {side * view.size} px, which touch: intervals may be too narrow"
    return units.astype(np.int64), kind


def cluster_of(view: TileView) -> npt.NDArray[np.int64]:
    """(tiles,) the cluster of touching scenes that each tile belongs to."""
    scenes = view.source.scenes
    numbers = np.empty(len(scenes), dtype=np.int64)
    for number, members in enumerate(touching_groups([scene.window for scene in scenes])):
        numbers[members] = number
    return numbers[view.scene_index]


def describe_in(source: PatchSource, window: Window) -> str:
    """The scene that a tile was cut from, and where in it."""
    scene = _scene_of(source, window)
    return f"{scene.name}, {window.shift(-scene.window.row, -scene.window.column)}"


def _scene_of(source: PatchSource, window: Window) -> Scene:
    return next(scene for scene in source.scenes if scene.window.contains(window))
