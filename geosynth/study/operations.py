"""The work of a cell, in one small class, so that a study can be tested without networks; and its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import ValidationError

from geosynth.checkpoint import load_generator, save_with_look
from geosynth.config import GenerateSettings, SegmentSettings, TrainSettings
from geosynth.errors import DataError
from geosynth.evaluation.compare import BATCH, check_tiles
from geosynth.evaluation.distances import frechet_distance
from geosynth.evaluation.extractors import load_extractor
from geosynth.evaluation.features import Space, TileFeatures
from geosynth.evaluation.levels import Levels
from geosynth.evaluation.measures import Nearness, Part
from geosynth.evaluation.nearness import measure_nearness
from geosynth.files import writing
from geosynth.grid import Window
from geosynth.legend import ClassIndices
from geosynth.locks import drop_lock
from geosynth.models.perceptual import composites
from geosynth.mosaic.looks import look_from_tiles
from geosynth.mosaic.twin import twin
from geosynth.progress import Progress
from geosynth.raster.read import Array
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.store import Store
from geosynth.raster.stores.tiles import TileView
from geosynth.segmentation.scores import Counts
from geosynth.segmentation.segment import segment
from geosynth.study.recipes import LOOK
from geosynth.training.train import train
from geosynth.unfinished import UnfinishedWork


class Score(Part):
    """What a segmenter reaches on the real test tiles."""

    miou: float
    """Mean IoU over the classes that occur, 0 to 1."""
    class_iou: dict[str, float | None]
    """IoU of each class; None if it neither occurs nor is predicted."""
    accuracy: float | None = None
    """Share of the test pixels that are right; None in old results without it."""
    place_confusions: tuple[Counts, ...] = ()
    """Confusion matrix of each test place, see `SegmentReport`; empty in old results without them."""
    num_real: int
    """Number of real tiles that it was trained on."""
    num_synthetic: int
    """Number of synthetic tiles that it was trained on."""
    num_test: int
    """Number of tiles that it was tested on."""
    weights: str
    """Initial weights of its encoder: "scratch", "imagenet" or a file."""


class Likeness(Part):
    """How far synthetic tiles are from the real ones at the same places, and how much two realisations differ."""

    frechet: dict[str, float]
    """Squared Frechet distance, by feature space."""
    diversity: float
    """Mean absolute difference of two realisations, in raster values, over pixels and bands."""
    num_compared: int
    """Number of real tiles, and of as many synthetic ones."""


class CellResult(Score):
    """The result of a finished cell: a score and, if images were compared, their likeness."""

    frechet: dict[str, float] | None = None
    diversity: float | None = None
    num_compared: int | None = None
    nearness: Nearness | None = None
    """For a cell that takes over another one's result: how it chose that one; None for other cells."""
    model_sha256: str | None = None
    """SHA-256 of the generator's file; None without synthetic tiles."""
    seconds: float
    """Time of the segmenter and the comparison, or of the choice."""

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read `result.json`; None if there is none.

        Raises:
            DataError: if the file is damaged.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValidationError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: damaged; delete it to have the cell done again") from error


class Operations:
    """The work of a cell. Each method makes `out`, complete or not at all, and continues an interrupted call."""

    def train(self, source: PatchSource, out: Path, settings: TrainSettings, fold: str, progress: Progress) -> Path:
        """Train a generator: a file in the folder `out`. Its checkpoint, which is large, is removed."""
        model = train(source, out, settings, fold=fold, progress=lambda done, total, left: progress(done, total))
        self.tidy(model)
        return model

    def tidy(self, whole: Path) -> None:
        """Do what `train` or `twin` still had to do when they were killed after `whole`, their last file, was made."""
        if whole.name == "model.safetensors":
            drop_lock(whole.parent)
            whole.with_name("last.ckpt").unlink(missing_ok=True)
        else:
            UnfinishedWork(whole).check(overwrite=True)

    def twin(
        self,
        source: PatchSource,
        out: Path,
        model: Path,
        settings: GenerateSettings,
        fold: str,
        progress: Progress,
        **recombined: Any,
    ) -> None:
        """Paint synthetic imagery for a fold, or for labels recombined from it, see `mosaic.twin.twin`."""
        twin(
            source,
            out,
            model,
            settings,
            folds=[fold],
            progress=lambda stage, done, total: progress(done, total) if stage == "painting" else None,
            **recombined,
        )

    def look(self, source: PatchSource, out: Path, model: Path, fold: str, tile_size: int, labelled: bool) -> None:
        """Write a copy of the generator into the folder `out`, with the look `recipes.LOOK`, measured in a fold."""
        loaded = load_generator(model)
        nothing = source.legend.num_classes

        def read(window: Window) -> tuple[Array, ClassIndices]:
            image, indices = source.read_holed(window)
            return image, indices if labelled else (indices == nothing).astype(np.uint8)

        tiles = map(read, TileView(source, fold, tile_size, tile_size, max_nodata=0.5))
        look = look_from_tiles(tiles, loaded, source.path, labelled=labelled)
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
        save_with_look(loaded, out / "model.safetensors", LOOK, look)

    def segment(
        self,
        data: PatchSource | Sequence[PatchSource],
        out: Path,
        settings: SegmentSettings,
        twin: Path | None,
        train_fold: str,
        test_fold: str,
        progress: Progress,
        *,
        init: Path | None = None,
        judge: Path | None = None,
        keep: bool = False,
    ) -> Score:
        """Train and test a segmenter. Its report is kept; the segmenter only with `keep`, as a study makes hundreds."""
        model = out / "model.safetensors"
        if keep and not model.exists():
            (out / "report.json").unlink(missing_ok=True)  # with which it would not be made again
        report = segment(
            data,
            out,
            settings,
            synthetic=twin,
            init=init,
            judge=judge,
            train_fold=train_fold,
            test_fold=test_fold,
            progress=progress,
        )
        if not keep:
            model.unlink(missing_ok=True)
        return Score(
            miou=report.miou,
            class_iou=report.class_iou,
            accuracy=report.accuracy,
            place_confusions=report.place_confusions,
            num_real=report.real_tiles,
            num_synthetic=report.synthetic_tiles,
            num_test=report.test_tiles,
            weights=report.weights,
        )

    def compare(
        self, store: Store, twins: tuple[Path, Path], fold: str, tile_size: int, progress: Progress
    ) -> Likeness:
        """Measure the likeness of two twins of a fold."""
        first, second = twins
        return measure_likeness(store, (Store(first), Store(second)), fold, tile_size, progress)

    def nearness(self, target: TileView, real: TileView, painted: TileView) -> Nearness:
        """Measure whether a source's real or painted tiles are nearer to those of the target."""
        return measure_nearness(target, real, painted)


def measure_likeness(
    store: PatchSource, twins: tuple[PatchSource, PatchSource], fold: str, tile_size: int, progress: Progress
) -> Likeness:
    """Distances between features of EfficientNet-Lite0, which is installed with geosynth; not to be called FID.

    Tiles are side by side and have no pixel without data. Each three-band composite (see `composites`) is a separate
    feature space. Memory holds 16 tiles and all features.

    Args:
        store: real imagery.
        twins: two realisations; the first is compared with the real imagery.
        fold: whose tiles to compare.
        tile_size: in pixels.
        progress: called with the number of finished tiles and of all tiles.

    Raises:
        DataError: if there are fewer than two tiles, or a band is constant.
    """
    tiles = TileView(store, fold, tile_size, tile_size, edge="skip")
    check_tiles(tiles)
    extractor = load_extractor("efficientnet-lite0", device="auto")
    spaces = [
        Space(f"{extractor.name} ({name})", extractor, bands, None)
        for name, bands in composites(store.band_names).items()
    ]
    levels, of_real, of_synthetic = Levels.of_fold(store, fold), TileFeatures(spaces), TileFeatures(spaces)
    differences = []
    for start in range(0, len(tiles), BATCH):
        windows = list(tiles[start : start + BATCH])
        real, first, second = (
            np.stack([source.read_image(window) for window in windows]) for source in (store, *twins)
        )
        of_real.add(windows, range(start, start + len(windows)), levels.of(real))
        of_synthetic.add(windows, range(start, start + len(windows)), levels.of(first))
        differences.append(np.abs(first.astype(np.float32) - second).mean(axis=(1, 2, 3), dtype=np.float64))
        progress(start + len(windows), len(tiles))
    return Likeness(
        frechet={space.name: frechet_distance(of_real.of(space.name), of_synthetic.of(space.name)) for space in spaces},
        diversity=float(np.concatenate(differences).mean()),
        num_compared=len(tiles),
    )
