"""What a cell calls: the verbs of other rooms behind one small Protocol, so that a study can be tested without them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from geosynth.config import GenerateSettings, SegmentSettings, TrainSettings
from geosynth.errors import DataError
from geosynth.evaluation.distances import frechet_distance
from geosynth.evaluation.features import load_extractor
from geosynth.models.device import best_device
from geosynth.models.perceptual import composites
from geosynth.mosaic.twin import twin
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.store import Store
from geosynth.raster.stores.tiles import TileView
from geosynth.segmentation.segment import segment
from geosynth.training.train import train

Progress = Callable[[int, int], None]  # done, total

_BATCH = 16  # tiles read at once


@dataclass(frozen=True)
class Score:
    """What a segmenter reaches on the real test tiles.

    Attributes:
        miou: mean over the classes that occur, 0..1.
        class_iou: of each class; None where it neither occurs nor is predicted.
        num_real, num_synthetic: tiles that it was trained on.
        num_test: tiles that it was tested on.
        weights: what its encoder began with: "scratch", "imagenet" or a file.
    """

    miou: float
    class_iou: Mapping[str, float | None]
    num_real: int
    num_synthetic: int
    num_test: int
    weights: str


@dataclass(frozen=True)
class Likeness:
    """How far synthetic tiles are from the real ones at the same places, and how much two realisations differ.

    Attributes:
        frechet: squared Frechet distance, by feature space.
        diversity: mean absolute difference of two realisations, raster values a pixel and band.
        num_tiles: real tiles, and as many synthetic ones.
    """

    frechet: Mapping[str, float]
    diversity: float
    num_tiles: int


class Verbs(Protocol):
    """The work of a cell. Each makes `out`, whole or not at all, and goes on where an interrupted call stopped."""

    def train(self, source: PatchSource, out: Path, settings: TrainSettings, fold: str, progress: Progress) -> Path:
        """A generator; `out` is a folder, the result a file in it."""

    def twin(
        self, source: PatchSource, out: Path, model: Path, settings: GenerateSettings, fold: str, progress: Progress
    ) -> None:
        """Synthetic imagery for a fold."""

    def segment(
        self,
        store: Store,
        out: Path,
        settings: SegmentSettings,
        twin: Path | None,
        train_fold: str,
        test_fold: str,
        progress: Progress,
    ) -> Score:
        """A segmenter, tested."""

    def compare(
        self, store: Store, twins: tuple[Path, Path], fold: str, tile_size: int, progress: Progress
    ) -> Likeness:
        """Distances of two twins of one fold, and between them."""


class RealVerbs:
    """geosynth's own."""

    def train(self, source: PatchSource, out: Path, settings: TrainSettings, fold: str, progress: Progress) -> Path:
        """See `Verbs`. The checkpoint goes: it is several times as large as the model, and there are many."""
        model = train(source, out, settings, fold=fold, progress=lambda done, total, left: progress(done, total))
        (out / "last.ckpt").unlink(missing_ok=True)
        return model

    def twin(
        self, source: PatchSource, out: Path, model: Path, settings: GenerateSettings, fold: str, progress: Progress
    ) -> None:
        """See `Verbs`."""
        twin(
            source,
            out,
            model,
            settings,
            folds=[fold],
            progress=lambda stage, done, total: progress(done, total) if stage == "painting" else None,
        )

    def segment(
        self,
        store: Store,
        out: Path,
        settings: SegmentSettings,
        twin: Path | None,
        train_fold: str,
        test_fold: str,
        progress: Progress,
    ) -> Score:
        """See `Verbs`. The segmenter itself goes: a study makes hundreds. Its report stays."""
        report = segment(
            store, out, settings, synthetic=twin, train_fold=train_fold, test_fold=test_fold, progress=progress
        )
        (out / "model.safetensors").unlink(missing_ok=True)
        return Score(
            report.miou,
            report.class_iou,
            report.real_tiles,
            report.synthetic_tiles,
            report.test_tiles,
            report.weights,
        )

    def compare(
        self, store: Store, twins: tuple[Path, Path], fold: str, tile_size: int, progress: Progress
    ) -> Likeness:
        """See `Verbs`."""
        first, second = twins
        return measure_likeness(store, (Store(first), Store(second)), fold, tile_size, progress)


def measure_likeness(
    store: PatchSource, twins: tuple[PatchSource, PatchSource], fold: str, tile_size: int, progress: Progress
) -> Likeness:
    """Distances in the features of EfficientNet-Lite0, which come with geosynth: never to be called FID.

    Tiles lie side by side and have no pixel without data. Each three-band composite (see `composites`) is a feature
    space of its own. Memory: 16 tiles and all features.

    Args:
        store: real imagery.
        twins: two realisations; the first is compared with the real imagery.
        fold: whose tiles to compare.
        tile_size: pixels.
        progress: told tiles done and tiles in all.

    Raises:
        DataError: if there are fewer than two tiles, or the imagery is not uint8.
    """
    if store.dtype != np.uint8:
        raise DataError(f"{store.path}: the features need uint8 imagery, not {store.dtype}")
    extractor = load_extractor("efficientnet-lite0", device=best_device())
    spaces = composites(store.band_names)
    tiles = TileView(store, fold, tile_size, tile_size, edge="skip")
    features: dict[str, tuple[list[np.ndarray], list[np.ndarray]]] = {name: ([], []) for name in spaces}
    differences = []
    for start in range(0, len(tiles), _BATCH):
        windows = tiles[start : start + _BATCH]
        real, first, second = (
            np.stack([source.read_image(window) for window in windows]) for source in (store, *twins)
        )
        differences.append(np.abs(first.astype(np.int16) - second).mean(axis=(1, 2, 3)))
        for name, bands in spaces.items():
            for found, images in zip(features[name], (real, first), strict=True):
                found.append(extractor.embed(images[:, bands]))
        progress(min(start + _BATCH, len(tiles)), len(tiles))
    if len(tiles) < 2:
        raise DataError(
            f"{store.path}: fold {fold!r} has {len(tiles)} whole tiles of {tile_size} px, too few for a distance:"
            " two at least"
        )
    return Likeness(
        {
            f"{extractor.name} ({name})": frechet_distance(*(np.concatenate(rows) for rows in both))
            for name, both in features.items()
        },
        float(np.concatenate(differences).mean()),
        len(tiles),
    )
