"""Workshop: makes generators, twins and cells, each once, however many processes ask for it at a time.

Layout of the study's folder: `generators/KEY/`, `twins/KEY.zarr`, `cells/KEY/`, by the keys of
`recipes.key_of`. A piece is there when its last file is; beside it a JSON file tells what it was made of and how long
that took.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from geosynth.config import SegmentSettings
from geosynth.errors import DataError
from geosynth.files import sha256_of, write_whole
from geosynth.grid import SpatialSplit
from geosynth.grid.split import FOLDS
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.store import Store
from geosynth.segmentation.data import Mixture, Tile, mixture, train_views
from geosynth.study.plan import Generator, GivenGenerator, Piece, Recipe, TrainedGenerator, Twin, key_of
from geosynth.study.verbs import RealVerbs, Verbs
from geosynth.unfinished import locked

# --- CellResult: what a finished cell leaves behind.


class CellResult(BaseModel):
    """A finished cell. Attributes as in `verbs.Score` and `verbs.Likeness`, and

    Attributes:
        frechet, diversity, num_compared: None where nothing was compared.
        model_sha256: of the generator; None without synthetic tiles.
        seconds: of the segmenter and the comparison.
    """  # noqa: D415

    model_config = ConfigDict(frozen=True, extra="forbid")

    miou: float
    class_iou: dict[str, float | None]
    num_real: int
    num_synthetic: int
    num_test: int
    weights: str
    frechet: dict[str, float] | None = None
    diversity: float | None = None
    num_compared: int | None = None
    model_sha256: str | None = None
    seconds: float

    @classmethod
    def read(cls, path: Path) -> CellResult | None:
        """From `result.json`; None if there is none.

        Raises:
            DataError: if the file is damaged.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValidationError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: damaged; delete it to have the cell done again") from error


_KINDS: dict[type[Piece], str] = {
    GivenGenerator: "generators",
    TrainedGenerator: "generators",
    Twin: "twins",
    Recipe: "cells",
}


def _silent(done: int, total: int) -> None:
    """Nobody looks."""


@dataclass(frozen=True)
class Workshop:
    """Where a study is done. May be pickled and used on any machine that sees the same files.

    Attributes:
        data: path of the store.
        digest: of its content, see `PatchSource.digest`.
        out: the study's folder.
        verbs: what does the work.
    """

    data: str
    digest: str
    out: Path
    verbs: Verbs = field(default_factory=RealVerbs)

    def path_of(self, piece: Piece) -> Path:
        """Of a piece: its folder or store."""
        if isinstance(piece, GivenGenerator):
            return Path(piece.path)
        name = key_of(piece, self.digest)
        return self.out / _KINDS[type(piece)] / (f"{name}.zarr" if isinstance(piece, Twin) else name)

    def model_of(self, generator: Generator) -> Path:
        """Its file."""
        path = self.path_of(generator)
        return path if isinstance(generator, GivenGenerator) else path / "model.safetensors"

    def is_made(self, piece: Piece) -> bool:
        """Whether a piece is there."""
        if isinstance(piece, Recipe):
            return self.result_of(piece) is not None
        return (self.path_of(piece) if isinstance(piece, Twin) else self.model_of(piece)).exists()

    def result_of(self, recipe: Recipe) -> CellResult | None:
        """Of a finished cell; None if it is not.

        Raises:
            DataError: if its file is damaged.
        """
        return CellResult.read(self.path_of(recipe) / "result.json")

    def make(self, piece: Generator | Recipe) -> None:
        """Make a generator or a cell, with what it needs; what is there already is not made again.

        Raises:
            GeosynthError: of whichever verb failed; what was finished is kept.
        """
        if isinstance(piece, Recipe):
            self._make_cell(piece)
        else:
            self._generator(piece, Store(self.data))

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
        score = self.verbs.segment(store, folder / "segmenter", recipe.segment, twin, *folds, _silent)
        values: dict[str, Any] = asdict(score)
        if recipe.twin is not None:
            values["model_sha256"] = sha256_of(self.model_of(recipe.twin.generator))
        if compared is not None:
            likeness = self.verbs.compare(store, compared, recipe.test_fold, recipe.segment.tile_size, _silent)
            values |= {"frechet": dict(likeness.frechet), "diversity": likeness.diversity}
            values["num_compared"] = likeness.num_tiles
        return CellResult(**values, seconds=time.monotonic() - start)

    def _twin(self, piece: Twin, store: Store) -> Path:
        out = self.path_of(piece)

        def make() -> None:
            model = self._generator(piece.generator, store)
            self.verbs.twin(source_for_twin(piece, store), out, model, piece.settings, piece.fold, _silent)

        self._make_once(piece, out, make)
        return out

    def _generator(self, piece: Generator, store: Store) -> Path:
        model = self.model_of(piece)
        if isinstance(piece, GivenGenerator):
            return model
        folder = self.path_of(piece)

        def make() -> None:
            self.verbs.train(source_for(piece, store), folder, piece.settings, piece.fold, _silent)

        self._make_once(piece, model, make)
        return model

    def _make_once(self, piece: Piece, whole: Path, make: Callable[[], None]) -> None:
        """Make it unless `whole`, its last file, is there; others that want it wait meanwhile."""
        with self._locked(piece):
            if not whole.exists():
                start = time.monotonic()
                make()
                self._record(piece, time.monotonic() - start)

    @contextmanager
    def _locked(self, piece: Piece) -> Iterator[None]:
        """Nobody else makes the piece meanwhile. The system frees the lock of a process that is killed."""
        path = self.path_of(piece)
        lock = path.with_name(path.name + ".lock")
        with locked(lock, path, wait=True):
            yield

    def _record_of(self, piece: Piece) -> Path:
        path = self.path_of(piece)
        return path.with_name(path.name + ".json")

    def _record(self, piece: Piece, seconds: float) -> None:
        values = {"seconds": seconds, **piece.inputs()}
        write_whole(self._record_of(piece), json.dumps(values, indent=1) + "\n")


def source_for(piece: TrainedGenerator, store: Store) -> PatchSource:
    """What a generator may see: the store, or its kept tiles, which are those that its segmenter sees."""
    if piece.kept is None:
        return store
    return keep_tiles(store, piece.fold, _chosen(store, piece.fold, piece.kept).real)


def source_for_twin(piece: Twin, store: Store) -> PatchSource:
    """What is painted: the store, or the synthetic tiles of a segmenter."""
    if piece.tiles is None:
        return store
    return keep_tiles(store, piece.fold, _chosen(store, piece.fold, piece.tiles).synthetic)


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
