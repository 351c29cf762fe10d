"""A tiny store with folds, and operations that do nothing but leave their traces."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
import zlib
from pathlib import Path

import numpy as np

from geosynth.config import AugmentSettings, DiversitySettings, ReplaceSettings, TransferSettings
from geosynth.errors import TrainingError
from geosynth.evaluation.measures import Nearness
from geosynth.grid import SpatialSplit, Window
from geosynth.segmentation.data import train_views
from geosynth.study.operations import Likeness, Operations, Score
from geosynth.study.recipes import Recipe
from geosynth.study.study import Study
from scene_stores import make_scene_store

SMALL = {
    "segment": {"encoder": "tu-test_resnet", "tile_size": 32, "steps": 4, "batch_size": 2},
    "train": {
        **{"steps": 2, "batch_size": 2, "crop_size": 64, "base_width": 2, "max_multiple": 2, "hidden_channels": 4},
        **{"latent_size": 3, "noise_channels": 2, "encoder_width": 2, "prior_share": 0.5, "discriminator_width": 2},
        **{"precision": "fp32", "preview_every": 0},
    },
}
REPLACE = ReplaceSettings.parse({**SMALL, "tiles": 8, "shares": (0, 0.5, 1), "seeds": 3})
AUGMENT = AugmentSettings.parse(
    {
        **{**SMALL, "segment": {**SMALL["segment"], "tile_size": 64}},
        **{"real_tiles": (2, 4), "synthetic_tiles": 3, "seeds": 2},
    }
)
DIVERSITY = DiversitySettings.parse({**SMALL, "tiles": 4, "lambdas": (0, 2), "seeds": 2})


TRANSFER = TransferSettings.parse(
    {
        **{**SMALL, "segment": {**SMALL["segment"], "tile_size": 64}},
        **{"tiles": 3, "target_tiles": (0, 2), "target_steps": 3, "seeds": 2},
        # Networks are those of the given model.
        "train": {"steps": 2, "batch_size": 2, "crop_size": 64, "precision": "fp32", "preview_every": 0},
    }
)


def make_study_store(path: Path, **options):
    """Two train scenes of 128 px, a test scene; apart from each other."""
    places = {"a.tif": Window(0, 0, 128, 128), "b.tif": Window(0, 192, 128, 128), "c.tif": Window(192, 0, 128, 128)}
    split = SpatialSplit.by_scenes({"train": [places["a.tif"], places["b.tif"]], "test": [places["c.tif"]]})
    return make_scene_store(path, places, split=split, **options)


@dataclasses.dataclass(frozen=True)
class FakeOperations(Operations):
    """Writes a line into `log` for each call. mIoU: 0.5, more with the seed, less with the share of synthetic tiles.

    Attributes:
        log: file of the traces.
        fails: weight of the DSGAN term whose training fails.
        dies_at: kill the process at this call of `segment`, counted in `log`; 0 never.
        seconds: that each call takes.
    """

    log: Path
    fails: float | None = None
    dies_at: int = 0
    seconds: float = 0.0

    def calls(self, verb: str | None = None) -> list[dict]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in map(json.loads, lines) if verb in (None, line["verb"])]

    def _trace(self, verb: str, **values) -> None:
        with self.log.open("a") as file:
            file.write(json.dumps({"verb": verb, **values}) + "\n")
        time.sleep(self.seconds)

    def train(self, source, out, settings, fold, progress):
        self._trace("train", seed=settings.seed, weight=settings.diversity_weight, area=source.split.area(fold).area)
        if settings.diversity_weight == self.fails:
            raise TrainingError("the loss is not a finite number")
        progress(1, 1)
        out.mkdir(parents=True, exist_ok=True)
        model = out / "model.safetensors"
        model.write_text(settings.model_dump_json())
        return model

    def twin(self, source, out, model, settings, fold, progress, **recombined):
        area = source.split.area(fold).area
        self._trace("twin", seed=settings.seed, fold=fold, area=area, model=Path(model).read_text(), **recombined)
        assert not out.exists()
        out.mkdir(parents=True)

    def look(self, source, out, model, fold, tile_size, labelled):
        self._trace("look", area=source.split.area(fold).area, labelled=labelled)
        out.mkdir(parents=True, exist_ok=True)
        (out / "model.safetensors").write_text("looked")

    def segment(self, data, out, settings, twin, train_fold, test_fold, progress, *, init=None, judge=None, keep=False):
        assert judge is None or (judge / "model.safetensors").exists()
        if isinstance(data, list):
            return self._transfer(data, out, settings, train_fold, test_fold, init, keep)
        if keep:
            out.mkdir(parents=True, exist_ok=True)
            (out / "model.safetensors").touch()
        assert twin is None or twin.exists()
        assert (twin is None) == (settings.synthetic_tiles == 0)
        self._trace("segment", seed=settings.seed, real=settings.real_tiles, synthetic=settings.synthetic_tiles)
        if self.dies_at and len(self.calls("segment")) == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        real, synthetic = settings.real_tiles or 0, settings.synthetic_tiles or 0
        miou = 0.5 + 0.1 * settings.seed - 0.2 * synthetic / max(1, real + synthetic)
        miou += 0.05 * (settings.augment != "none")
        counts = {"num_real": real, "num_synthetic": synthetic, "num_test": 16}
        return Score(miou=miou, class_iou={"water": miou, "tree canopy": None}, **counts, weights="scratch")

    def _transfer(self, data, out, settings, train_fold, test_fold, init, keep):
        """mIoU: 0.1 more for each 100 steps, of the segmenter that it goes on from too. Accuracy: tells `out`."""
        steps = settings.steps
        if init is not None:
            steps += json.loads((init / "model.safetensors").read_text())
        areas = [source.split.area(train_fold).area for source in data]
        assert [source.split.area(test_fold).area for source in data[:-1]] == [0] * (len(data) - 1)
        self._trace("segment", seed=settings.seed, steps=steps, areas=areas, augment=settings.augment)
        out.mkdir(parents=True, exist_ok=True)
        if keep:
            (out / "model.safetensors").write_text(str(steps))
        count = sum(map(len, train_views(data, settings, train_fold)))
        counts = {"num_real": count, "num_synthetic": 0, "num_test": 4}
        accuracy = zlib.crc32(str(out).encode()) / 2**32
        return Score(miou=steps / 1000, class_iou={"water": 0.5}, accuracy=accuracy, **counts, weights="scratch")

    def compare(self, store, twins, fold, tile_size, progress):
        first, second = twins
        assert first.exists()
        assert second.exists()
        assert first != second
        self._trace("compare", fold=fold)
        return Likeness(frechet={"lite0 (red, green, blue)": 3.0}, diversity=1.5, num_compared=16)

    def nearness(self, target, real, painted):
        """Painted tiles at the first call, real ones at the next, and so on in turn."""
        self._trace("nearness", tiles=[(view.source.path, len(view)) for view in (target, real, painted)])
        synthetic = 0.1 if len(self.calls("nearness")) % 2 else 0.3
        return Nearness(real=0.2, synthetic=synthetic, nearer="synthetic" if synthetic < 0.2 else "real", num_target=8)


def recipes_of(study) -> list[Recipe]:
    return list(dict.fromkeys(cell.recipe for cell in study.cells))


def means(report) -> dict[tuple[str, float], float]:
    return {(row.arm, row.x): row.miou.value for row in report.rows}


def close(one, other) -> bool:
    return bool(np.isclose(one, other, rtol=0, atol=1e-9))


def open_study(store, out, settings, operations, model=None, target=None) -> Study:
    return Study.open(store.path, out, settings, model, operations, target)
