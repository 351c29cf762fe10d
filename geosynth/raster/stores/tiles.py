"""TileView: the tiles of a fold as a sequence of windows; no pixel is copied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from geosynth.errors import SettingsError, counted
from geosynth.grid import TilePlan, Window, WindowIndex, crop
from geosynth.grid.crs import same_crs
from geosynth.grid.groups import alike_groups, touching_groups
from geosynth.grid.window import Edge
from geosynth.parallel import ahead
from geosynth.progress import Progress, silent
from geosynth.raster.reprojection import cover
from geosynth.raster.stores.open import open_sources, open_store
from geosynth.raster.stores.source import PatchSource, Scene


def view_tiles(  # noqa: D417 - as TileView's
    data: str | Path | PatchSource,
    fold: str | None,
    size: int = 256,
    stride: int | None = None,
    *,
    edge: Edge = "align",
    max_nodata: float = 0.0,
    progress: Progress = silent,
) -> list[TileView]:
    """The tiles of a store, or of each store of several CRSs; see `TileView`.

    Args:
        data: a store, or the path of one, of a folder of stores, or of a YAML file that describes data in place.
        fold, size, stride, edge, max_nodata, progress: as for `TileView`.

    Returns:
        one view for each store.

    Raises:
        SettingsError: if a number is out of range, or there is no such fold.
        RasterError: if there is no store.
    """
    return [
        TileView(source, fold, size, stride, edge=edge, max_nodata=max_nodata, progress=progress)
        for source in open_sources(data)
    ]


class TileView(Sequence[Window]):
    """Overlapping square tiles of each scene, all of whose pixels belong to one fold.

    Tiles start at the first pixel of each scene, scene by scene, row by row; `edge` says what happens to the rest. A
    tile is left out if one of its pixels is outside the fold, if more than `max_nodata` of its pixels have no data, or
    if it is entirely inside a later scene, which has tiles of its own.
    A tile takes 40 bytes of memory. Labels are read, one row of tiles at a time, only for scenes that may have pixels
    without data.

    Args:
        source: what `open_store` takes: the path of a store, a store, or data in place.
        fold: "train", "val", "test"; None for all tiles, whatever their fold.
        size: side of a tile, in pixels.
        stride: pixels from one tile to the next; None for half of `size`.
        edge: "align" adds a tile at the far edges of a scene, "skip" leaves the rest out.
        max_nodata: share of pixels without data that a tile may have, 0 to 1.
        progress: called with the number of finished scenes and of all scenes.

    Attributes:
        windows: (n, 4) int64: row, column, height, width on the source's grid.
        scene_index: (n,) int64: positions in `source.scenes`.

    Raises:
        SettingsError: if a number is out of range, or there is no such fold.
    """

    def __init__(
        self,
        source: str | Path | PatchSource,
        fold: str | None,
        size: int = 256,
        stride: int | None = None,
        *,
        edge: Edge = "align",
        max_nodata: float = 0.0,
        progress: Progress = silent,
    ) -> None:
        source = open_store(source)
        for name, pixels in {"size": size, "stride": 1 if stride is None else stride}.items():
            if not isinstance(pixels, Integral) or not 1 <= pixels < 2**31:
                raise SettingsError(f"a positive whole number of pixels is needed, got {pixels!r:.50}", setting=name)
        size, stride = int(size), max(1, int(size) // 2) if stride is None else int(stride)
        if edge not in ("align", "skip"):
            raise SettingsError(f"align or skip, not {edge!r}", setting="edge")
        if not 0 <= max_nodata <= 1:
            raise SettingsError(f"the share of nodata in a tile is a number from 0 to 1, got {max_nodata}")
        self.source, self.fold, self.size, self.stride, self.edge = source, fold, size, stride, edge
        self.max_nodata = max_nodata
        scenes = source.scenes if fold is None else source.scenes_in(fold)
        found = [np.empty((0, 4), dtype=np.int64)]
        indices = [np.empty(0, dtype=np.int64)]
        positions = {id(scene): index for index, scene in enumerate(source.scenes)}
        places = WindowIndex([scene.window for scene in source.scenes])
        for done, scene in enumerate(scenes, start=1):
            position = positions[id(scene)]
            later = [source.scenes[n].window for n, *_ in places.touching(scene.window) if n > position]
            windows = self._tiles_of(scene, later)
            found.append(windows)
            indices.append(np.full(len(windows), position))
            progress(done, len(scenes))
        self.windows: npt.NDArray[np.int64] = np.concatenate(found)
        self.scene_index: npt.NDArray[np.int64] = np.concatenate(indices)

    def __len__(self) -> int:
        return len(self.windows)

    @overload
    def __getitem__(self, index: int) -> Window: ...
    @overload
    def __getitem__(self, index: slice) -> list[Window]: ...
    def __getitem__(self, index: int | slice) -> Window | list[Window]:
        if isinstance(index, slice):
            return [Window(*row) for row in self.windows[index].tolist()]
        return Window(*self.windows[index].tolist())

    def clusters(self) -> npt.NDArray[np.int64]:
        """For each tile the number of its cluster of touching scenes, (n,); not every cluster has a tile."""
        return clusters_of([self])[0]

    def __repr__(self) -> str:
        fold = "all folds" if self.fold is None else self.fold
        return f"TileView({self.source.path!r}, {fold}, {counted(len(self), 'tile')} of {self.size} px)"

    def scene_of(self, index: int) -> Scene:
        """The scene that a tile was cut from."""
        return self.source.scenes[int(self.scene_index[index])]

    def name(self, index: int) -> str:
        """A tile's name: scene, and row and column within it, so that it does not depend on the size of the store.

        The scene is named without its suffix, unless another one would then have the same name, as a.1 and a.2.
        """
        scene, window = self.scene_of(index), self[index]
        stem = _stem(scene)
        name = stem if self._stems[stem] == 1 else scene.name
        return f"{name}_{window.row - scene.window.row:05d}_{window.column - scene.window.column:05d}"

    @cached_property
    def _stems(self) -> Counter[str]:
        return Counter(map(_stem, self.source.scenes))

    def _tiles_of(self, scene: Scene, later: Sequence[Window]) -> npt.NDArray[np.int64]:
        place = scene.window
        plan = TilePlan(place.height, place.width, self.size, self.stride, self.edge)
        rows, columns = np.meshgrid(np.array(plan.rows, np.int64), np.array(plan.columns, np.int64), indexing="ij")
        side = np.full(rows.size, self.size)
        windows = np.column_stack([rows.ravel() + place.row, columns.ravel() + place.column, side, side])
        for above in later:
            ends = windows[:, :2] + self.size <= (above.bottom, above.right)
            windows = windows[~((windows[:, :2] >= (above.row, above.column)) & ends).all(axis=1)]
        if self.fold is not None:
            windows = windows[self.source.split.holds_each(windows, self.fold)]
        if scene.is_complete or self.max_nodata == 1 or not len(windows):
            return windows
        strips = np.split(windows, np.flatnonzero(np.diff(windows[:, 0])) + 1)
        shares = np.concatenate(list(ahead(self._nodata_shares, strips)))
        return windows[shares <= self.max_nodata]

    def _nodata_shares(self, strip: npt.NDArray[np.int64]) -> npt.NDArray[np.floating]:
        """Share of pixels without data in each tile of a row of tiles, from running sums over the columns."""
        row, first, last = int(strip[0, 0]), int(strip[0, 1]), int(strip[-1, 1])
        labels = self.source.read_labels(Window(row, first, self.size, last - first + self.size))
        holes = (labels == self.source.legend.num_classes).sum(axis=0)
        sums = np.concatenate([[0], np.cumsum(holes)])
        left = strip[:, 1] - first
        shares: npt.NDArray[np.floating] = (sums[left + self.size] - sums[left]) / self.size**2
        return shares


def clusters_of(views: Sequence[TileView]) -> list[npt.NDArray[np.int64]]:
    """For each view, (n,) the cluster of touching scenes of each of its tiles; a number is one cluster in all views.

    Scenes of several sources in one CRS may form one cluster, so all dates of a place are one place. Sources that
    differ in CRS do not, nor do sources without a CRS, since nobody knows where they lie.
    """
    grids, clusters, first = [view.source.geobox for view in views], [view.scene_index for view in views], 0
    crss = [grid.crs for grid in grids]
    for members in alike_groups(crss, lambda one, other: other is not None and same_crs(one, other)):
        outlines = [
            scene.window
            if grids[member] == grids[members[0]]
            else cover(grids[members[0]], crop(grids[member], scene.window), views[member].source.path)
            for member in members
            for scene in views[member].source.scenes
        ]
        numbers = np.empty(len(outlines), dtype=np.int64)
        for number, touching in enumerate(touching_groups(outlines), start=first):
            numbers[touching] = number
        first += len(outlines)
        for member in members:
            count = len(views[member].source.scenes)
            clusters[member], numbers = numbers[:count][views[member].scene_index], numbers[count:]
    return clusters


def _stem(scene: Scene) -> str:
    return scene.name.rsplit(".", 1)[0]
