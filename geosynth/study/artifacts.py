"""What a study keeps: generators, twins and results of cells, each made once, however many processes ask for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from geosynth.config import SegmentSettings
from geosynth.files import sha256_of, write_whole
from geosynth.grid import SpatialSplit
from geosynth.grid.split import FOLDS
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.store import Store
from geosynth.segmentation.data import Mixture, Tile, mixture, train_views
from geosynth.study.operations import CellResult, Operations
from geosynth.study.plan import Artifact, Generator, GivenGenerator, Recipe, TrainedGenerator, Twin, key_of
from geosynth.unfinished import locked

KINDS: dict[type[Artifact], str] = {TrainedGenerator: "generators", Twin: "twins", Recipe: "cells"}
"""Folders of what a study makes."""


def _silent(done: int, total: int) -> None:
    """Nobody looks."""


@dataclass(frozen=True)
class Artifacts:
    """The artifacts of one study's folder. May be pickled and used on any machine that sees the same files.

    They lie in `generators/KEY/`, `twins/KEY.zarr` and `cells/KEY/`, by `plan.key_of`. One is there when its last file
    is; beside it a JSON file tells what it was made of and how long that took.
    """

    data: str
    """Path of the store."""
    digest: str
    """Of its content, see `PatchSource.digest`."""
    out: Path
    """The study's folder."""
    operations: Operations = field(default_factory=Operations)
    """Which do the work."""

    def path_of(self, artifact: Artifact) -> Path:
        """Its folder or store."""
        if isinstance(artifact, GivenGenerator):
            return Path(artifact.path)
        name = key_of(artifact, self.digest)
        return self.out / KINDS[type(artifact)] / (f"{name}.zarr" if isinstance(artifact, Twin) else name)

    def model_of(self, generator: Generator) -> Path:
        """Its file."""
        path = self.path_of(generator)
        return path if isinstance(generator, GivenGenerator) else path / "model.safetensors"

    def is_made(self, artifact: Artifact) -> bool:
        """Whether it is there."""
        if isinstance(artifact, Recipe):
            return self.result_of(artifact) is not None
        return (self.path_of(artifact) if isinstance(artifact, Twin) else self.model_of(artifact)).exists()

    def result_of(self, recipe: Recipe) -> CellResult | None:
        """Of a finished cell; None if it is not.

        Raises:
            DataError: if its file is damaged.
        """
        return CellResult.read(self.path_of(recipe) / "result.json")

    def make(self, artifact: Generator | Recipe) -> None:
        """Make a generator or a cell, with what it needs; what is there already is not made again.

        Raises:
            GeosynthError: of whichever operation failed; what was finished is kept.
        """
        if isinstance(artifact, Recipe):
            self._make_cell(artifact)
        else:
            self._generator(artifact, Store(self.data))

    def _make_cell(self, recipe: Recipe) -> None:
        folder = self.path_of(recipe)
        with self._locked(recipe):
            if self.result_of(recipe) is None:
                result = self._measure(recipe, Store(self.data), folder)
                write_whole(folder / "result.json", result.model_dump_json(indent=1) + "\n")
                self._record(recipe, result.seconds)

    def _measure(self, recipe: Recipe, store: Store, folder: Path) -> CellResult:
        twin = None if recipe.twin is None else self._twin(recipe.twin, store)
        compared = None
        if recipe.compared is not None:
            first, second = recipe.compared
            compared = self._twin(first, store), self._twin(second, store)
        start = time.monotonic()
        folds = recipe.train_fold, recipe.test_fold
        score = self.operations.segment(store, folder / "segmenter", recipe.segment, twin, *folds, _silent)
        values: dict[str, Any] = score.model_dump()
        if recipe.twin is not None:
            values["model_sha256"] = sha256_of(self.model_of(recipe.twin.generator))
        if compared is not None:
            tile_size = recipe.segment.tile_size
            values |= self.operations.compare(store, compared, recipe.test_fold, tile_size, _silent).model_dump()
        return CellResult(**values, seconds=time.monotonic() - start)

    def _twin(self, artifact: Twin, store: Store) -> Path:
        out = self.path_of(artifact)

        def make() -> None:
            model = self._generator(artifact.generator, store)
            self.operations.twin(
                source_for_twin(artifact, store), out, model, artifact.generate, artifact.fold, _silent
            )

        self._make_once(artifact, out, make)
        return out

    def _generator(self, artifact: Generator, store: Store) -> Path:
        model = self.model_of(artifact)
        if isinstance(artifact, GivenGenerator):
            return model
        folder = self.path_of(artifact)

        def make() -> None:
            self.operations.train(source_for(artifact, store), folder, artifact.train, artifact.fold, _silent)

        self._make_once(artifact, model, make)
        return model

    def _make_once(self, artifact: Artifact, whole: Path, make: Callable[[], None]) -> None:
        """Make it unless `whole`, its last file, is there; others that want it wait meanwhile."""
        with self._locked(artifact):
            if not whole.exists():
                start = time.monotonic()
                make()
                self._record(artifact, time.monotonic() - start)

    def _locked(self, artifact: Artifact) -> AbstractContextManager[None]:
        """Nobody else makes it meanwhile. The system frees the lock of a process that is killed."""
        path = self.path_of(artifact)
        return locked(path.with_name(path.name + ".lock"), path, wait=True)

    def _record(self, artifact: Artifact, seconds: float) -> None:
        path = self.path_of(artifact)
        values = {"seconds": seconds, **artifact.model_dump(mode="json")}
        write_whole(path.with_name(path.name + ".json"), json.dumps(values, indent=1) + "\n")


def source_for(artifact: TrainedGenerator, store: Store) -> PatchSource:
    """What a generator may see: the store, or its kept tiles, which are those that its segmenter sees."""
    if artifact.kept is None:
        return store
    return keep_tiles(store, artifact.fold, _chosen(store, artifact.fold, artifact.kept).real)


def source_for_twin(artifact: Twin, store: Store) -> PatchSource:
    """What is painted: the store, or the synthetic tiles of a segmenter."""
    if artifact.tiles is None:
        return store
    return keep_tiles(store, artifact.fold, _chosen(store, artifact.fold, artifact.tiles).synthetic)


def keep_tiles(store: Store, fold: str, tiles: Sequence[Tile]) -> Store:
    """The store with a smaller fold: what lies in none of the tiles belongs to no fold. Nothing is copied.

    A patch may reach over several tiles that touch.
    """
    kept = SpatialSplit.by_scenes({fold: [tile.window for tile in tiles]}).area(fold)
    train, val, test = (kept if name == fold else store.split.area(name) for name in FOLDS)
    return store.with_split(SpatialSplit((train, val, test), store.split.buffer))


def _chosen(store: Store, fold: str, settings: SegmentSettings) -> Mixture:
    """As `segment` chooses its tiles."""
    counts = settings.real_tiles, settings.synthetic_tiles
    return mixture(train_views([store], settings, fold), *counts, pool=settings.pool_tiles, seed=settings.seed)
