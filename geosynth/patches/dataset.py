"""PatchDataset: one fold of a source as a TorchGeo GeoDataset. PatchSet: batches of several sources."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import torch
import torch.nn.functional as F
from affine import Affine
from odc.geo.geobox import GeoBox
from torch.utils.data import Dataset
from torchgeo.datasets import GeoDataset

from geosynth.errors import DataError, GridError
from geosynth.grid import Window, WindowIndex, as_array
from geosynth.grid.crs import crs_wkt
from geosynth.grid.vector import to_coordinates
from geosynth.raster.stores.open import open_store
from geosynth.raster.stores.source import PatchSource, Scene

if TYPE_CHECKING:
    from geosynth.patches.sampler import Draw

Sample = dict[str, torch.Tensor]
Query = tuple[slice, slice, slice]

# TorchGeo indexes time, too. Labels and imagery of a source belong together at any time.
_ALWAYS = pd.Interval(pd.Timestamp.min, pd.Timestamp.max, closed="both")


class PatchDataset(GeoDataset):  # type: ignore[misc]  # torchgeo's base is untyped for mypy
    """Patches of one fold of a source, by TorchGeo's coordinate queries or by pixel window.

    A sample has only tensors (newer TorchGeo stacks every key):

    - image: (bands, height, width) float32, raster values; 0 outside the fold.
    - mask: (height, width) int64, class indices; `num_classes` where there is no data, and outside the fold's area
      and scenes, so that a patch across an edge shows nothing of another fold.
    - window: (4,) int64: row, column, height, width on the source's grid.
    - affine: (6,) float64: a, b, c, d, e, f of the patch's transform. (TorchGeo's own keys are float32, which errs by
      0.2 m at UTM northings.)

    Args:
        source: what `open_store` takes: the path of a store, a store, or data in place.
        fold: "train", "val" or "test".
        transforms: applied to each sample.

    Raises:
        DataError: if the fold has no scene, or if the grid is rotated (queries are boxes along the axes).
    """

    def __init__(
        self, source: str | Path | PatchSource, fold: str, transforms: Callable[[Sample], Sample] | None = None
    ) -> None:
        source = open_store(source)
        scenes = source.scenes_in(fold)
        if not scenes:
            raise DataError(f"{source.path}: fold {fold!r} has no scenes")
        if source.geobox.affine.b or source.geobox.affine.d:
            raise DataError(f"{source.path}: the grid is rotated; patches need a grid along the axes of its CRS")
        self.source = source
        self.fold = fold
        self.scenes: tuple[Scene, ...] = scenes
        self.transforms = transforms
        self.paths = source.path
        self._windows = WindowIndex([scene.window for scene in scenes])
        self._lattice = _short(source.geobox)
        names, parts = _places(source, fold, scenes, self._lattice)
        self.index = gpd.GeoDataFrame(
            {"name": names},
            index=pd.IntervalIndex([_ALWAYS] * len(parts), closed="both", name="datetime"),
            geometry=parts,
            crs=crs_wkt(source.geobox.crs),
        )

    def __getitem__(self, query: Any) -> Sample:
        """The patch at (x slice, y slice[, time slice]) in CRS units, snapped to whole pixels.

        Raises:
            IndexError: if the query contains no pixel of the source.
        """
        return self.patch(self.window_of(query))

    def patch(self, window: Window) -> Sample:
        """The patch at a pixel window of the source's grid, which it may exceed.

        Raises:
            IndexError: if it contains no pixel of the source.
            RasterError: if it cannot be read; it names the file.
        """
        whole = self.source.window
        inside = window.intersection(whole)
        if inside is None:
            raise IndexError(f"{self.source.path}: {window} lie outside its {whole.height} x {whole.width} px")
        image, mask = (torch.from_numpy(values) for values in self.source.read(inside))
        image, mask = image.float(), mask.long()
        foreign = self._foreign(window)
        if foreign is not None:
            left, right = inside.column - window.column, window.right - inside.right
            sides = (left, right, inside.row - window.row, window.bottom - inside.bottom)
            mask, image = F.pad(mask, sides), F.pad(image, sides)
            mask[foreign], image[:, foreign] = self.source.legend.num_classes, 0
        place = _located([self.source.geobox], [0], [window])
        sample = {"image": image, "mask": mask, **{name: values[0] for name, values in place.items()}}
        return self.transforms(sample) if self.transforms else sample

    def _foreign(self, window: Window) -> torch.Tensor | None:
        """Which pixels are outside the fold's area and scenes, (height, width); None if there are none."""
        own = np.zeros((window.height, window.width), dtype=bool)
        for _, _, place in self._windows.touching(window):
            own[place] = True
        if not self.source.split.holds(window, self.fold):
            own &= self.source.split.mask(window, self.fold)
        return None if own.all() else torch.from_numpy(~own)

    def query(self, window: Window) -> Query:
        """The coordinate query of a pixel window; `dataset[dataset.query(w)]` is `dataset.patch(w)`."""
        x0, y0 = self._lattice.affine @ (window.column, window.row)
        x1, y1 = self._lattice.affine @ (window.right, window.bottom)
        return slice(min(x0, x1), max(x0, x1)), slice(min(y0, y1), max(y0, y1)), slice(_ALWAYS.left, _ALWAYS.right)

    @property
    def crs(self) -> Any:
        """The source's CRS; None if it has none."""
        return self.index.crs

    @crs.setter
    def crs(self, new_crs: Any) -> None:
        """Refuse another CRS: TorchGeo would transform only the index, while patches keep the source's pixels."""
        if new_crs != self.crs:
            raise GridError(
                f"{self.source.path}: patches are not reprojected; put this dataset first, as in patches & other"
            )

    @property
    def res(self) -> tuple[float, float]:
        """Pixel width and height in CRS units."""
        return abs(self._lattice.affine.a), abs(self._lattice.affine.e)

    @res.setter
    def res(self, new_res: float | tuple[float, float]) -> None:
        """Refuse another pixel size, for the same reason."""
        if not np.allclose(new_res, self.res, rtol=1e-6, atol=0):
            raise GridError(
                f"{self.source.path}: patches are not resampled; put this dataset first, as in patches & other"
            )

    def window_of(self, query: Any) -> Window:
        """The pixel window of a coordinate query, snapped to whole pixels: the inverse of `query`."""
        x, y, _ = self._disambiguate_slice(query)  # replaces missing limits by the bounds
        affine = self._lattice.affine
        column = round(((x.stop if affine.a < 0 else x.start) - affine.c) / affine.a)
        row = round(((y.stop if affine.e < 0 else y.start) - affine.f) / affine.e)
        height, width = (
            round((axis.stop - axis.start) / side) for axis, side in zip((y, x), self.res[::-1], strict=True)
        )
        return Window(row, column, max(1, height), max(1, width))


class PatchSet(Dataset[Sample]):
    """Batches of patches of several sources by their `Draw`s, in the sources' own values, for training.

    A batch has `image` (B, bands, N, N) of the sources' dtype, `mask` (B, N, N) uint8, `window` (B, 4) int64,
    `affine` (B, 6) float64 and `source` (B,) int64, the source's number; see `PatchDataset` for the rest.
    Draws must be inside their source's grid; that they are in a fold is the task of `PatchBatchSampler`.

    Args:
        sources: with the same bands and dtype, numbered in this order.
    """

    def __init__(self, sources: Sequence[PatchSource]) -> None:
        self.sources = tuple(sources)

    def __getitem__(self, draws: Sequence[Draw]) -> Sample:
        """The patches of some draws of one size, in their order. Draws of one visit are cut from one read.

        Raises:
            RasterError: if a patch cannot be read; it names the file.
        """
        size, first = draws[0].window, self.sources[draws[0].source]
        images = np.empty((len(draws), len(first.band_names), size.height, size.width), first.dtype)
        masks = np.empty((len(draws), size.height, size.width), np.uint8)
        visits: dict[tuple[int, int], list[int]] = defaultdict(list)
        for position, draw in enumerate(draws):
            visits[draw.source, draw.visit].append(position)
        for (number, _), positions in visits.items():
            around = Window.around([draws[position].window for position in positions])
            image, labels = self.sources[number].read(around)
            for position in positions:
                rows, columns = draws[position].window.slices_in(around)
                images[position], masks[position] = image[:, rows, columns], labels[rows, columns]
        numbers = [draw.source for draw in draws]
        return {
            "image": torch.from_numpy(images),
            "mask": torch.from_numpy(masks),
            **_located([source.geobox for source in self.sources], numbers, [draw.window for draw in draws]),
            "source": torch.tensor(numbers),
        }


def _located(grids: Sequence[GeoBox], numbers: Sequence[int], windows: Sequence[Window]) -> Sample:
    """Windows and transforms of patches, each on the grid of its number.

    They are computed all at once: an `Affine` for each took as long as reading the patch, and blocked other threads.
    """
    affine = np.array([grid.affine[:6] for grid in grids])[numbers]
    corners = as_array(windows)
    a, b, c, d, e, f = affine.T
    row, column = corners.T[:2]
    affine[:, 2], affine[:, 5] = a * column + b * row + c, d * column + e * row + f
    return {"window": torch.from_numpy(corners), "affine": torch.from_numpy(affine)}


def _short(grid: GeoBox) -> GeoBox:
    """A grid, equal to far less than a pixel, whose coordinates have so few binary digits that their sums are exact.

    TorchGeo's samplers compare sides of places with sides of patches. If both are equal, as with tiles of 256 px,
    rounding errors would make them drop one place and cut two patches from another.
    """
    a, b, c, d, e, f = grid.affine[:6]
    reach = max(abs(c), abs(f), abs(c + a * grid.width), abs(f + e * grid.height))
    unit = 2.0 ** (math.ceil(math.log2(reach)) - 51)
    a, c, e, f = (round(value / unit) * unit for value in (a, c, e, f))
    return GeoBox(grid.shape, Affine(a, b, c, d, e, f), grid.crs)


def _places(
    source: PatchSource, fold: str, scenes: Sequence[Scene], grid: GeoBox
) -> tuple[list[str], list[shapely.Geometry]]:
    """Each scene's parts in the fold's area, as names and polygons in CRS units.

    Each part is a polygon, because TorchGeo's samplers use bounding boxes.
    """
    area = source.split.area(fold)
    names, parts = [], []
    for scene in scenes:
        window = scene.window
        inside = shapely.box(window.column, window.row, window.right, window.bottom)
        if not source.split.holds(window, fold):
            inside &= area
        for part in shapely.get_parts(inside):
            if part.geom_type == "Polygon":
                names.append(scene.name)
                parts.append(to_coordinates(part, grid))
    return names, parts
