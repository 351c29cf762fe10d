"""What a study keeps: generators, twins and results of cells, each made only once, even by several processes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from geosynth.config import SegmentSettings
from geosynth.errors import OutputError
from geosynth.files import delete, write_whole
from geosynth.inputs import sha256_of
from geosynth.locks import locked
from geosynth.progress import silent
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.store import Store
from geosynth.raster.stores.tiles import TileView
from geosynth.segmentation.data import mixture, train_views
from geosynth.study.operations import CellResult, Operations
from geosynth.study.recipes import (
    AdaptedGenerator,
    Artifact,
    CellRecipe,
    EmphasisedTwin,
    Generator,
    GivenGenerator,
    LookedGenerator,
    NearerRecipe,
    Recipe,
    Task,
    TrainedGenerator,
    TransferRecipe,
    Twin,
    key_of,
)
from geosynth.study.transfer import keep_tiles, matched, only

KINDS: dict[str, tuple[type[Artifact], ...]] = {
    "generators": (TrainedGenerator,),
    "looks": (LookedGenerator,),
    "twins": (Twin,),
    "cells": (Recipe, TransferRecipe),
    "choices": (NearerRecipe,),
}
"""Kinds of artifacts, by their folders."""


@dataclass(frozen=True)
class Artifacts:
    """The artifacts in one study's folder. Can be pickled and used on any machine that sees the same files.

    They are in `generators/KEY/`, `looks/KEY/`, `twins/KEY.zarr`, `cells/KEY/`, `choices/KEY/`; KEY is from
    `recipes.key_of`. An artifact is complete when its last file exists; a JSON file beside it records what it was made
    from and how long that took.
    """

    data: str
    """Path of the store."""
    digest: str
    """Digest of its content and the target's, see `PatchSource.digest`."""
    out: Path
    """The study's folder."""
    target: str | None = None
    """Path of a transfer's second store; None for other sweeps."""
    asked: frozenset[CellRecipe] = frozenset()
    """Cells whose segmenters are kept, because others need them."""
    operations: Operations = field(default_factory=Operations)
    """Does the work."""

    def path_of(self, artifact: Artifact) -> Path:
        """The folder of an artifact, or its store."""
        if isinstance(artifact, GivenGenerator):
            return Path(artifact.path)
        name = key_of(artifact, self.digest)
        kind = next(kind for kind, types in KINDS.items() if isinstance(artifact, types))
        return self.out / kind / (f"{name}.zarr" if isinstance(artifact, Twin) else name)

    def model_of(self, generator: Generator) -> Path:
        """The file of a generator."""
        path = self.path_of(generator)
        return path if isinstance(generator, GivenGenerator) else path / "model.safetensors"

    def is_made(self, artifact: Artifact, *, with_segmenter: bool = False) -> bool:
        """Whether an artifact exists.

        Args:
            artifact: the artifact.
            with_segmenter: for a cell, whether its segmenter must exist, too; not all segmenters are kept.
        """
        if isinstance(artifact, CellRecipe):
            has_segmenter = not with_segmenter or (self._segmenter_of(artifact) / "model.safetensors").exists()
            return has_segmenter and self.result_of(artifact) is not None
        return (self.path_of(artifact) if isinstance(artifact, Twin) else self.model_of(artifact)).exists()

    def result_of(self, recipe: CellRecipe) -> CellResult | None:
        """The result of a finished cell; None if it is not finished.

        Raises:
            DataError: if its file is damaged.
        """
        return CellResult.read(self.path_of(recipe) / "result.json")

    def make(self, artifact: Task) -> None:
        """Make a generator or a cell, with everything that it needs; existing artifacts are not made again.

        Raises:
            GeosynthError: of the operation that failed; what was finished is kept.
        """
        if isinstance(artifact, CellRecipe):
            self._make_cell(artifact)
        else:
            self._generator(artifact)

    def _make_cell(self, recipe: CellRecipe, *, with_segmenter: bool = False) -> None:
        """Make a cell unless it exists, see `is_made`."""
        with self._locked(recipe):
            if not self.is_made(recipe, with_segmenter=with_segmenter):
                if isinstance(recipe, NearerRecipe):
                    result = self._choose(recipe)
                elif isinstance(recipe, TransferRecipe):
                    result = self._measure_transfer(recipe)
                else:
                    result = self._measure(recipe, Store(self.data))
                self._record(recipe, result.seconds)
                write_whole(self.path_of(recipe) / "result.json", result.model_dump_json(indent=1) + "\n")

    def _measure(self, recipe: Recipe, store: Store) -> CellResult:
        twin = None if recipe.twin is None else self._twin(recipe.twin)
        compared = None
        if recipe.compared is not None:
            first, second = recipe.compared
            compared = self._twin(first), self._twin(second)
        start = time.monotonic()
        folds = recipe.train_fold, recipe.test_fold
        score = self.operations.segment(
            store,
            self._segmenter_of(recipe),
            recipe.segment,
            twin,
            *folds,
            silent,
            judge=self._make_segmenter(recipe.judge),
            keep=recipe in self.asked,
        )
        values: dict[str, Any] = score.model_dump()
        if recipe.twin is not None:
            values["model_sha256"] = sha256_of(self.model_of(recipe.twin.generator))
        if compared is not None:
            tile_size = recipe.segment.tile_size
            values |= self.operations.compare(store, compared, recipe.test_fold, tile_size, silent).model_dump()
        return CellResult(**values, seconds=time.monotonic() - start)

    def _measure_transfer(self, recipe: TransferRecipe) -> CellResult:
        parts = self.sources_of(recipe)
        painted = [part for part, imagery in zip(parts, recipe.imagery, strict=False) if isinstance(imagery, Twin)]
        start = time.monotonic()
        score = self.operations.segment(
            parts,
            self._segmenter_of(recipe),
            recipe.segment,
            None,
            recipe.train_fold,
            recipe.test_fold,
            silent,
            init=self._make_segmenter(recipe.init),
            judge=self._make_segmenter(recipe.judge),
            keep=recipe.init is None,  # the cells with k labelled tiles continue from it
        )
        num_synthetic = sum(map(len, train_views(painted, recipe.segment, recipe.train_fold)))
        values = {**score.model_dump(), "num_real": score.num_real - num_synthetic, "num_synthetic": num_synthetic}
        return CellResult(**values, seconds=time.monotonic() - start)

    def _choose(self, recipe: NearerRecipe) -> CellResult:
        start = time.monotonic()
        nearness = self.operations.nearness(*self.views_of(recipe))
        seconds = time.monotonic() - start
        nearer = recipe.painted if nearness.nearer == "synthetic" else recipe.real
        self._make_cell(nearer)
        result = self.result_of(nearer)
        assert result is not None
        return result.model_copy(update={"nearness": nearness, "seconds": seconds})

    def views_of(self, recipe: NearerRecipe, *, painted: bool = True) -> list[TileView]:
        """The tiles that a cell's choice compares: of the target's unlabelled imagery, of the source, and painted ones.

        Args:
            recipe: of a cell.
            painted: as for `sources_of`.
        """
        # With k labelled tiles, the tiles that the segmenters saw before these are compared.
        real, synthetic = (one.init or one for one in (recipe.real, recipe.painted))
        sources = [self._target(), *(self.sources_of(one, painted=painted)[0] for one in (real, synthetic))]
        return train_views(sources, real.segment, real.train_fold)

    def _segmenter_of(self, recipe: CellRecipe) -> Path:
        return self.path_of(recipe) / "segmenter"

    def _make_segmenter(self, recipe: CellRecipe | None) -> Path | None:
        """The segmenter of a cell, which is made if needed, or again if its segmenter was not kept; None for None."""
        if recipe is None:
            return None
        self._make_cell(recipe, with_segmenter=True)
        return self._segmenter_of(recipe)

    def sources_of(self, recipe: TransferRecipe, *, painted: bool = True) -> list[PatchSource]:
        """The sources that a cell's segmenter is trained on, one for each kind of imagery; the last is for the test.

        Args:
            recipe: of a cell.
            painted: make the twins that it needs; if False, real tiles take their place.
        """
        fold, target = recipe.train_fold, self._target()
        found: list[PatchSource] = []
        for imagery in recipe.imagery:
            if painted and isinstance(imagery, Twin):
                found.append(only(Store(self._twin(imagery)), fold))
                continue
            store = Store(self.data)
            assert recipe.tiles is not None
            part = only(_with_chosen(store, fold, recipe.tiles, "synthetic"), fold)
            found.append(matched(part, target, fold, recipe.segment.tile_size) if imagery == "matched" else part)
        if recipe.kept is not None:
            found.append(only(_with_chosen(target, fold, recipe.kept, "real"), fold))
        return [*found, only(target, recipe.test_fold)]

    def _target(self) -> Store:
        assert self.target is not None
        return Store(self.target)

    def _twin(self, artifact: Twin) -> Path:
        out = self.path_of(artifact)

        def make() -> None:
            model, source = self._generator(artifact.generator), self.source_of(artifact)
            recombined: dict[str, Any] = {}
            if isinstance(artifact, EmphasisedTwin):
                assert artifact.tiles is not None
                recombined = {
                    "emphasise": dict(artifact.emphasise),
                    "tile_size": artifact.tiles.tile_size,
                    "num_tiles": artifact.tiles.synthetic_tiles,
                }
            self.operations.twin(source, out, model, artifact.generate, artifact.fold, silent, **recombined)

        self._make_once(artifact, out, make)
        return out

    def _generator(self, artifact: Generator) -> Path:
        model = self.model_of(artifact)
        if isinstance(artifact, GivenGenerator):
            return model
        folder = self.path_of(artifact)

        def make() -> None:
            if isinstance(artifact, LookedGenerator):
                self.take_look(artifact, folder)
            else:
                self.operations.train(self.source_of(artifact), folder, artifact.train, artifact.fold, silent)

        self._make_once(artifact, model, make)
        return model

    def take_look(self, looked: LookedGenerator, folder: Path) -> None:
        """Make a generator with the target's look, in a folder."""
        source, given = self.source_of(looked), Path(looked.generator.path)
        self.operations.look(source, folder, given, looked.fold, looked.tile_size, looked.kept is not None)

    def source_of(self, artifact: TrainedGenerator | LookedGenerator | Twin) -> Store:
        """The store that a generator learns from, a look is measured in, or a twin is painted for."""
        if isinstance(artifact, Twin):
            return _with_chosen(Store(self.data), artifact.fold, artifact.tiles, "synthetic")
        of_target = isinstance(artifact, (AdaptedGenerator, LookedGenerator))
        store = self._target() if of_target else Store(self.data)
        return _with_chosen(store, artifact.fold, artifact.kept, "real")

    def _make_once(self, artifact: Artifact, whole: Path, make: Callable[[], None]) -> None:
        """Make an artifact unless `whole`, its last file, exists; other processes that need it wait meanwhile."""
        with self._locked(artifact):
            if whole.exists() and self._record_of(artifact).exists():
                return
            start = time.monotonic()
            if whole.exists():  # killed while it tidied up; how long it took is not known
                self.operations.tidy(whole)
                self._record(artifact, None)
            else:
                make()
                self._record(artifact, time.monotonic() - start)

    def drop_locks(self) -> None:
        """Remove locks that kills left at complete artifacts, but not those that a process holds."""
        for lock in self.out.glob("*/*.lock"):
            with suppress(OutputError), locked(lock, lock):
                pass

    @contextmanager
    def _locked(self, artifact: Artifact) -> Iterator[None]:
        """A context in which no other process makes the artifact. The system releases the lock of a killed process."""
        path = self.path_of(artifact)
        with locked(path.with_name(path.name + ".lock"), path, wait=True):
            for leftover in (*path.parent.glob(f".{path.name}.*.partial*"), *path.glob(".*.partial*")):
                delete(leftover)  # half-written
            yield

    def _record_of(self, artifact: Artifact) -> Path:
        path = self.path_of(artifact)
        return path.with_name(path.name + ".json")

    def _record(self, artifact: Artifact, seconds: float | None) -> None:
        values = {"seconds": seconds, **artifact.model_dump(mode="json")}
        write_whole(self._record_of(artifact), json.dumps(values, indent=1) + "\n")


def _with_chosen(
    store: Store, fold: str, segmenter: SegmentSettings | None, kind: Literal["real", "synthetic"]
) -> Store:
    """The store, with only those tiles in the fold that a segmenter uses as real or as synthetic ones; None for all."""
    if segmenter is None:
        return store
    counts = segmenter.real_tiles, segmenter.synthetic_tiles
    views = train_views([store], segmenter, fold)
    chosen = mixture(views, *counts, pool=segmenter.pool_tiles, seed=segmenter.seed)
    return keep_tiles(store, fold, chosen.real if kind == "real" else chosen.synthetic)
