"""SplitRule: how the scenes of one or several sources are assigned to train, val and test."""

from __future__ import annotations

import logging
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from affine import Affine
from odc.geo.geobox import GeoBox
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from geosynth.errors import DataError, SettingsError, first_fault
from geosynth.grid import SpatialSplit, Window, buffer_pixels, crop, parse_distance
from geosynth.grid.groups import alike_groups, blocks_over, touching_groups
from geosynth.grid.split import SHARES, part_neighbours
from geosynth.progress import Progress, silent
from geosynth.raster.reprojection import cover
from geosynth.raster.stores.source import PatchSource

Folds = Sequence[Sequence[str | None]]
"""The folds of each source's scenes; None for no fold."""

_BLOCK, _LEAST_BLOCK = 1024, 32  # pixels; sides of blocks that the user did not ask for

_LOG = logging.getLogger(__name__)

# An equal-area grid of 1 m, on which scenes of several CRSs are compared.
_WORLD = GeoBox((1, 1), Affine.scale(1, -1), "EPSG:6933")


class SplitRule(BaseModel):
    """How scenes are assigned to folds: by a file, by a list, by blocks, or by clusters of touching scenes.

    If none is given, by clusters if there are enough of them for the folds, else by blocks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    file: str | None = None
    """A table of polygons with a column `fold` (GeoParquet, GeoPackage, GeoJSON), in any CRS."""
    scenes: Mapping[str, str] | None = None
    """The fold of each scene, by the scene's name with or without suffix; scenes that are not listed are in no fold."""
    blocks: int | None = Field(default=None, ge=1)
    """Side, in pixels, of square blocks, each of which goes to one fold."""
    clusters: bool = False
    """Whether to split by clusters in any case, and to refuse too few of them."""
    shares: tuple[float, ...] = SHARES
    """With blocks or clusters: shares of the pixels for train, val and test, in any unit."""
    seed: int = Field(default=0, ge=0)
    """With blocks or clusters: seed of the order in which they are assigned."""
    stratify: bool = False
    """With blocks or clusters: whether each fold gets its share of each class, not only of all pixels. Reads labels."""
    buffer: float | str = 0.0
    """Width of the gap between folds: metres (rounded up to whole pixels), or pixels as in "64px"."""

    @field_validator("buffer")
    @classmethod
    def _check_buffer(cls, buffer: float | str) -> float | str:
        parse_distance(buffer)
        return buffer

    @field_validator("shares")
    @classmethod
    def _check_shares(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        SpatialSplit.check_shares(shares)
        return shares

    @classmethod
    def of(cls, **values: Any) -> Self:
        """A rule from a user's options; options that are not given are None.

        Raises:
            SettingsError: one line.
        """
        try:
            return cls(**{name: value for name, value in values.items() if value is not None})
        except ValidationError as error:
            name, what = first_fault(error)
            raise SettingsError(what, setting=name) from error

    def settled(self, sources: Sequence[PatchSource]) -> Self:
        """This rule; or one by blocks, if it gives no method and there are fewer clusters of scenes than folds.

        The side of the blocks is 1024 pixels, halved until there are more blocks than folds; a warning gives it.
        """
        if self.clusters or self.file or self.scenes is not None or self.blocks:
            return self
        grids, folds = _grids_of(sources), np.count_nonzero(self.shares)
        if all(len(touching_groups(windows)) >= folds for windows in _on_maps(grids)):
            return self
        side = _BLOCK
        while side > _LEAST_BLOCK and any(len(blocks_over(grid.windows, side)) <= folds for grid in grids):
            side //= 2
        _LOG.warning(
            "too few scenes lie apart to fill %d folds: blocks of %d px (--by blocks) are split",
            folds,
            side,
        )
        return self.model_copy(update={"blocks": side})

    def apply(
        self,
        sources: Sequence[PatchSource],
        progress: Progress = silent,
        *,
        folds: Folds | None = None,
    ) -> list[SpatialSplit]:
        """Make a split for each source.

        Sources on one grid, such as those of several dates, get the same split. Scenes of two CRSs that touch share a
        fold, or are separated by the buffer.

        Args:
            sources: whose scenes are split.
            progress: called for each source, while its classes are counted, with finished steps and all steps.
            folds: of each source's scenes, if they are chosen already (None for no fold); then the rule contributes
                only its buffer.

        Raises:
            SettingsError, DataError, GridError, RasterError: one line each.
        """
        rule, grids = self if folds is not None else self.settled(sources), _grids_of(sources)
        buffers = [buffer_pixels(self.buffer, grid.geobox) for grid in grids]
        if folds is None:
            folds = rule._folds(sources, grids, progress)
        splits = [
            rule._split(grid, buffer, progress) if folds is None else _by_folds(grid, buffer, sources, folds)
            for grid, buffer in zip(grids, buffers, strict=True)
        ]
        parted = part_neighbours([grid.geobox for grid in grids], splits)
        of_grids = list(zip(grids, parted, strict=True))
        return [next(split for grid, split in of_grids if source in grid.sources) for source in sources]

    def _folds(self, sources: Sequence[PatchSource], grids: Sequence[_Grid], progress: Progress) -> Folds | None:
        """The folds of each source's scenes, if they are listed, or if clusters may extend over several grids."""
        if self.scenes is not None:
            return [_listed(source, self.scenes) for source in sources]
        if self.file or self.blocks:
            return None
        maps = _on_maps(grids)
        if len(maps) == len(grids):
            return None
        pixels = np.concatenate([grid.class_pixels(progress) for grid in grids]) if self.stratify else None
        joint = SpatialSplit.by_clusters(maps[0], self.shares, self.seed, class_pixels=pixels)
        outlines = iter(maps[0])
        found = {
            id(source): [joint.fold_of(next(outlines)) for _ in source.scenes]
            for grid in grids
            for source in grid.sources
        }
        return [found[id(source)] for source in sources]

    def _split(self, grid: _Grid, buffer: int, progress: Progress) -> SpatialSplit:
        """The split of one grid, by the file, by blocks, or by clusters."""
        if self.file:
            return SpatialSplit.load(self.file, grid.geobox, grid.windows, buffer or None)
        if self.blocks:
            blocks = blocks_over(grid.windows, self.blocks)
            pixels = grid.count(blocks, progress) if self.stratify else None
            return SpatialSplit.by_blocks(
                grid.windows, self.blocks, self.shares, self.seed, buffer=buffer, class_pixels=pixels
            )
        pixels = grid.class_pixels(progress) if self.stratify else None
        return SpatialSplit.by_clusters(grid.windows, self.shares, self.seed, buffer=buffer, class_pixels=pixels)


@dataclass(frozen=True)
class _Grid:
    """Sources on one pixel grid."""

    geobox: GeoBox
    sources: list[PatchSource]

    @property
    def windows(self) -> list[Window]:
        """Windows of all scenes, source by source."""
        return [scene.window for source in self.sources for scene in source.scenes]

    def count(self, windows: Sequence[Window], progress: Progress) -> npt.NDArray[np.int64]:
        """Pixels of each class in each window, over all sources, (windows, classes).

        Raises:
            DataError: if there are none.
        """
        total: npt.NDArray[np.int64] = np.sum(
            [source.count_classes(windows, progress)[:, -1] for source in self.sources], axis=0
        )
        if not total.any():
            raise DataError(f"{self.sources[0].path}: no pixel has a class and, in the image, data")
        return total

    def class_pixels(self, progress: Progress) -> npt.NDArray[np.int64]:
        """Pixels of each class in each scene, (scenes, classes), from the sources' records, else counted."""
        found = [
            np.array([scene.class_pixels for scene in source.scenes])
            if all(scene.class_pixels for scene in source.scenes)
            else source.count_classes([scene.window for scene in source.scenes], progress)[:, -1]
            for source in self.sources
        ]
        return np.concatenate(found)


def _grids_of(sources: Sequence[PatchSource]) -> list[_Grid]:
    groups = alike_groups([source.geobox for source in sources], operator.eq)
    return [_Grid(sources[group[0]].geobox, [sources[n] for n in group]) for group in groups]


def _on_maps(grids: Sequence[_Grid]) -> list[list[Window]]:
    """The scenes of several CRSs on one grid, so that touching ones are found; else those of each grid."""
    if len(grids) > 1 and all(grid.geobox.crs for grid in grids):
        places = [(grid, window) for grid in grids for window in grid.windows]
        return [[cover(_WORLD, crop(grid.geobox, window), grid.sources[0].path) for grid, window in places]]
    return [grid.windows for grid in grids]


def _by_folds(grid: _Grid, buffer: int, sources: Sequence[PatchSource], folds: Folds) -> SpatialSplit:
    """The split of one grid by folds that are chosen for the scenes of each source; None for no fold."""
    members: dict[str, list[Window]] = {}
    for source, of_source in zip(sources, folds, strict=True):
        for scene, fold in zip(source.scenes, of_source, strict=True):
            if fold is not None and source in grid.sources:
                members.setdefault(fold, []).append(scene.window)
    return SpatialSplit.by_scenes(members, buffer=buffer)


def _listed(source: PatchSource, listed: Mapping[str, str]) -> list[str | None]:
    """The folds of a source's scenes, by their names with or without suffix; None for no fold."""
    folds = []
    for name in (scene.name for scene in source.scenes):
        stem = Path(name).stem
        fold = listed.get(name, listed.get(stem))
        if (other := listed.get(stem, fold)) != fold:
            raise DataError(f"{name} is in {fold}, but as {stem} in {other}")
        folds.append(fold)
    return folds
