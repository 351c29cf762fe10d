"""SplitRule: how the scenes of one or several sources are given to train, val and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from affine import Affine
from odc.geo.geobox import GeoBox
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from geosynth.errors import SettingsError
from geosynth.grid import SpatialSplit, Window, buffer_pixels, crop, parse_distance
from geosynth.grid.groups import blocks_over
from geosynth.grid.split import SHARES, part_neighbours
from geosynth.raster.stores.source import PatchSource, Progress
from geosynth.raster.warp import cover

# Equal areas, 1 m: where scenes of several CRSs are looked at side by side.
_WORLD = GeoBox((1, 1), Affine.scale(1, -1), "EPSG:6933")


class SplitRule(BaseModel):
    """How scenes are given to folds: by a file, by a list, by blocks, or else by clusters of touching scenes."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    file: str | None = None
    """A table of polygons with a column `fold` (GeoParquet, GeoPackage, GeoJSON), in any CRS."""
    scenes: Mapping[str, str] | None = None
    """The fold of each scene, by the scene's name with or without suffix; scenes left out are in no fold."""
    blocks: int | None = Field(None, ge=1)
    """Side of square blocks, pixels, which go to folds one by one."""
    shares: tuple[float, ...] = SHARES
    """Of the pixels, for train, val and test, in any unit; of blocks and clusters."""
    seed: int = 0
    """Of the order in which blocks or clusters find their fold."""
    stratify: bool = False
    """Whether each fold gets its share of each class, not only of all pixels; of blocks and clusters. Reads labels."""
    buffer: float | str = 0.0
    """What is left out between folds: metres (rounded up to whole pixels), or pixels as in "64px"."""

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
        """From what users say; what they leave open is None.

        Raises:
            SettingsError: one line.
        """
        try:
            return cls(**{name: value for name, value in values.items() if value is not None})
        except ValidationError as error:
            raise SettingsError(first_fault(error)) from error

    def apply(
        self, sources: Sequence[PatchSource], progress: Progress = lambda done, total: None
    ) -> list[SpatialSplit]:
        """A split for each source. Scenes that touch across two CRSs share a fold, or are cut apart by the buffer.

        Args:
            sources: whose scenes lie on grids of their own.
            progress: told steps done and steps in all, of each source, while classes are counted.

        Raises:
            SettingsError, DataError, GridError, RasterError: one line each.
        """
        buffers = [buffer_pixels(self.buffer, source.geobox) for source in sources]
        if self.file:
            splits = [
                SpatialSplit.load(self.file, source.geobox, windows_of(source), buffer or None)
                for source, buffer in zip(sources, buffers, strict=True)
            ]
        elif self.scenes is not None:
            splits = by_folds(sources, [_listed(source, self.scenes) for source in sources], buffers)
        elif self.blocks:
            splits = [
                self._by_blocks(source, self.blocks, buffer, progress)
                for source, buffer in zip(sources, buffers, strict=True)
            ]
        else:
            splits = self._by_clusters(sources, buffers, progress)
        return part_neighbours([source.geobox for source in sources], splits)

    def _by_blocks(self, source: PatchSource, side: int, buffer: int, progress: Progress) -> SpatialSplit:
        counts = None
        if self.stratify:
            counts = source.count_classes(blocks_over(windows_of(source), side), progress)[:, -1]
        return SpatialSplit.by_blocks(
            windows_of(source), side, self.shares, self.seed, buffer=buffer, class_pixels=counts
        )

    def _by_clusters(
        self, sources: Sequence[PatchSource], buffers: Sequence[int], progress: Progress
    ) -> list[SpatialSplit]:
        counts = [_class_pixels(source, progress) for source in sources] if self.stratify else None
        if len(sources) > 1 and all(source.geobox.crs for source in sources):
            # Of the scenes' outlines on one map, so that touching ones stay together.
            outlines = [
                cover(_WORLD, crop(source.geobox, scene.window)) for source in sources for scene in source.scenes
            ]
            every = None if counts is None else np.concatenate(counts)
            joint = SpatialSplit.by_clusters(outlines, self.shares, self.seed, class_pixels=every)
            folds = iter([joint.fold_of(outline) for outline in outlines])
            return by_folds(sources, [[next(folds) for _ in source.scenes] for source in sources], buffers)
        return [
            SpatialSplit.by_clusters(
                windows_of(source),
                self.shares,
                self.seed,
                buffer=buffer,
                class_pixels=None if counts is None else counts[number],
            )
            for number, (source, buffer) in enumerate(zip(sources, buffers, strict=True))
        ]


def by_folds(
    sources: Sequence[PatchSource], folds: Sequence[Sequence[str | None]], buffers: Sequence[int]
) -> list[SpatialSplit]:
    """A split for each source, of folds that are chosen already.

    Args:
        sources: with scenes.
        folds: of each source's scenes; None for no fold.
        buffers: pixels between folds, of each source.
    """
    splits = []
    for source, of_source, buffer in zip(sources, folds, buffers, strict=True):
        members: dict[str, list[Window]] = {}
        for scene, fold in zip(source.scenes, of_source, strict=True):
            if fold is not None:
                members.setdefault(fold, []).append(scene.window)
        splits.append(SpatialSplit.by_scenes(members, buffer=buffer))
    return splits


def windows_of(source: PatchSource) -> list[Window]:
    """Of the scenes."""
    return [scene.window for scene in source.scenes]


def first_fault(error: ValidationError) -> str:
    """What is wrong with a value, and where it stands, in one line."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("function", "str", "tuple")))
    return f"{where + ': ' if where else ''}{first['msg'].removeprefix('Value error, ')}"


def _class_pixels(source: PatchSource, progress: Progress) -> npt.NDArray[np.int64]:
    """(scenes, classes), as their records say, or counted."""
    if all(scene.class_pixels for scene in source.scenes):
        return np.array([scene.class_pixels for scene in source.scenes])
    return source.count_classes(windows_of(source), progress)[:, -1]


def _listed(source: PatchSource, listed: Mapping[str, str]) -> list[str | None]:
    return [listed.get(scene.name, listed.get(Path(scene.name).stem)) for scene in source.scenes]
