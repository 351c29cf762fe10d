"""train: a store in, a generator file out."""

from __future__ import annotations

import logging
import pickle
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger

from geosynth.checkpoint import ModelCard, save_generator
from geosynth.config import BandSettings, TrainSettings
from geosynth.errors import CheckpointError, DataError, OutputError, SettingsError
from geosynth.models.precision import uses_bfloat16
from geosynth.patches.module import PatchModule
from geosynth.raster.store import Store
from geosynth.training.preview import write_preview
from geosynth.training.task import SpadeTask
from geosynth.version import __version__

# (steps done, steps to do, seconds that remain by the estimate)
TrainProgress = Callable[[int, int, float], None]

_SAVE_EVERY = 100
_LOG_EVERY = 20
_MAY_CHANGE = {"steps", "max_hours", "preview_every"}  # between the runs of one training


def train(
    data: str | Path | Store,
    out: str | Path,
    settings: TrainSettings | None = None,
    *,
    fold: str = "train",
    progress: TrainProgress = lambda done, total, left: None,
) -> Path:
    """Train a generator on one fold of a store.

    `out` becomes a folder with `model.safetensors` (what `generate` takes), `last.ckpt` (to go on from), `metrics.csv`
    and `previews/` (labels, real, synthetic). If `out` holds a checkpoint of a training that was interrupted, it goes
    on from there; the time that was spent before counts.

    Args:
        data: a store, or its path.
        out: the folder.
        settings: None for the defaults.
        fold: whose patches to train on.
        progress: told after each step.

    Returns:
        the path of the model file.

    Raises:
        DataError: if the store's imagery is not uint8, or the fold has no patch of the crop size.
        TrainingError: if a loss is no longer finite.
        SettingsError: if the interrupted training had other settings.
        CheckpointError: if its checkpoint is damaged.
        OutputError: if `out` cannot be written, or holds a finished training.
    """
    settings = settings or TrainSettings()
    store = data if isinstance(data, Store) else Store(data)
    out = Path(out)
    model_path, last = out / "model.safetensors", out / "last.ckpt"
    if model_path.exists():
        raise OutputError(f"{model_path}: exists already; train into another folder")
    if store.image.dtype != "uint8":
        raise DataError(
            f"{store.path}: imagery of {store.image.dtype}; training on other than uint8 is not supported yet"
        )
    bands = BandSettings(names=store.band_names)
    done = _steps_in(last, settings) if last.exists() else 0
    patches = PatchModule(
        store,
        bands,
        fold,
        crop_size=settings.crop_size,
        batch_size=settings.batch_size,
        num_batches=settings.steps,  # not less `done`: Lightning goes on counting where it was interrupted
        seed=settings.seed + done,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be made: {error.strerror}") from error
    task = SpadeTask(settings, store.legend.num_classes, len(bands.names))
    watch = _Watch(settings, out, bands, progress)
    _fit(task, patches, watch, out, settings, last if done else None)

    provenance: dict[str, Any] = {
        "software": f"geosynth {__version__}",
        "data": [{"name": scene.name, "sha256": scene.image_sha256} for scene in store.scenes_in(fold)],
        "fold": fold,
        "steps": int(task.steps_done),
        "training": settings.model_dump(mode="json"),
    }
    card = ModelCard(task.generator.settings, store.legend, bands, store.gsd, provenance)
    return save_generator(model_path, task.finished_generator(), card)


def _fit(
    task: SpadeTask, patches: PatchModule, watch: _Watch, out: Path, settings: TrainSettings, resume: Path | None
) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trainer = Trainer(
        accelerator="auto",
        devices=1,
        max_epochs=-1,
        precision="bf16-mixed" if uses_bfloat16(settings.precision, device) else "32-true",
        logger=_logger(out, keep=resume is not None),
        callbacks=[watch],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=_LOG_EVERY,
    )
    with warnings.catch_warnings():
        # Lightning warns of what is meant here: one loading process, an average in evaluation mode, short runs.
        warnings.simplefilter("ignore", PossibleUserWarning)
        warnings.filterwarnings("ignore", message=".*LeafSpec.*|.*checkpoint.*")
        trainer.fit(task, patches, ckpt_path=str(resume) if resume else None, weights_only=True)


def _logger(out: Path, *, keep: bool) -> CSVLogger:
    """Writes metrics.csv; Lightning would delete the one of the interrupted run."""
    path = out / "metrics.csv"
    earlier = path.read_bytes() if keep and path.exists() else None
    logger = CSVLogger(out, name=None, version="")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _ = logger.experiment  # here it deletes
    if earlier is not None:
        path.write_bytes(earlier)
    return logger


def _steps_in(path: Path, settings: TrainSettings) -> int:
    """Steps done by an interrupted training, after checking that it had the same settings."""
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        steps = int(checkpoint["state_dict"]["steps_done"])
        then = checkpoint.get("geosynth", {}).get("settings", {})
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: not a training checkpoint; delete it to train afresh") from error
    for name, now in settings.model_dump(mode="json", include=set(then) - _MAY_CHANGE).items():
        if then[name] != now:
            raise SettingsError(f"{path}: was trained with {name}={then[name]}, not {now}; choose another folder")
    return steps


class _Watch(Callback):
    """Learning rates, progress, checkpoints, previews, and the end."""

    def __init__(self, settings: TrainSettings, out: Path, bands: BandSettings, progress: TrainProgress) -> None:
        self.settings = settings
        self.out = out
        self.bands = bands
        self.progress = progress
        self.seconds = 0.0  # of training, with those of interrupted runs

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds = state_dict["seconds"]

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        assert isinstance(task, SpadeTask)
        self.started = time.monotonic()
        self.first_seconds, self.first_step = self.seconds, int(task.steps_done)

    def on_train_batch_start(self, trainer: Trainer, task: LightningModule, batch: Any, batch_idx: int) -> None:
        assert isinstance(task, SpadeTask)
        task.set_rates(self._share(int(task.steps_done)))

    def on_train_batch_end(
        self, trainer: Trainer, task: LightningModule, outputs: Any, batch: dict[str, torch.Tensor], batch_idx: int
    ) -> None:
        assert isinstance(task, SpadeTask)
        run_seconds = time.monotonic() - self.started
        self.seconds = self.first_seconds + run_seconds
        done = int(task.steps_done)
        share = self._share(done)
        left = min(
            (self.settings.steps - done) * run_seconds / (done - self.first_step),
            self.settings.max_hours * 3600 - self.seconds if self.settings.max_hours else float("inf"),
        )
        self.progress(min(done, self.settings.steps), self.settings.steps, max(0.0, left))
        if share >= 1:
            trainer.should_stop = True
        if done % _SAVE_EVERY == 0 or share >= 1:
            self._save(trainer)
        if self.settings.preview_every and (done % self.settings.preview_every == 0 or share >= 1):
            write_preview(task, batch, self.bands, self.out / "previews" / f"{done:06d}.png")

    def _share(self, done: int) -> float:
        """How much of the training is over, by steps or by time, whichever is further."""
        by_time = self.seconds / (self.settings.max_hours * 3600) if self.settings.max_hours else 0.0
        return min(1.0, max(done / self.settings.steps, by_time))

    def _save(self, trainer: Trainer) -> None:
        partial = self.out / "last.ckpt.partial"
        trainer.save_checkpoint(partial)
        partial.replace(self.out / "last.ckpt")
