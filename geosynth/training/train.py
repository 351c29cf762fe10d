"""train: a store in, a generator file out."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger

from geosynth.checkpoint import ModelCard, save_generator
from geosynth.config import BandSettings, TrainSettings
from geosynth.errors import DataError, OutputError, TrainingError
from geosynth.models.memory import plain_memory_error
from geosynth.models.precision import uses_bfloat16
from geosynth.outputs import check_output
from geosynth.patches.module import PatchModule
from geosynth.raster.store import Store
from geosynth.training.resume import check_networks, data_record, read_checkpoint, seconds_in, steps_in
from geosynth.training.task import SpadeTask
from geosynth.training.watch import TrainProgress, Watch, interruptible, share_done
from geosynth.training.writing import writing
from geosynth.version import __version__

_LOG_EVERY = 20


@plain_memory_error()
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
    on from there; the time that was spent before counts. Ctrl-C ends it after the step, and keeps a checkpoint.

    Args:
        data: a store, or its path.
        out: the folder.
        settings: None for the defaults.
        fold: whose patches to train on.
        progress: told after each step.

    Returns:
        the path of the model file.

    Raises:
        DataError: if the store's imagery is not uint8, the fold has no patch of the crop size, or the interrupted
            training had other data.
        TrainingError: if a loss or a weight is no longer finite.
        SettingsError: if the interrupted training had other settings, or another fold.
        CheckpointError: if its checkpoint is damaged.
        OutputError: if `out` cannot be written, or holds a finished training.
        MemoryError: if a step does not fit into memory.
        KeyboardInterrupt: on Ctrl-C.
    """
    settings = settings or TrainSettings()
    store = data if isinstance(data, Store) else Store(data)
    out = Path(out)
    model_path, last = out / "model.safetensors", out / "last.ckpt"
    if model_path.exists():
        raise OutputError(f"{model_path}: exists already; train into another folder")
    check_output(model_path, overwrite=False)
    if store.image.dtype != "uint8":
        raise DataError(
            f"{store.path}: imagery of {store.image.dtype}; training on other than uint8 is not supported yet"
        )
    bands = BandSettings(names=store.band_names)
    record = data_record(store, fold)
    checkpoint = read_checkpoint(last, settings, record) if last.exists() else None
    done = steps_in(checkpoint) if checkpoint else 0
    patches = PatchModule(
        store,
        bands,
        fold,
        crop_size=settings.crop_size,
        batch_size=settings.batch_size,
        num_batches=settings.steps,  # not less `done`: Lightning goes on counting where it was interrupted
        seed=settings.seed + done,
    )
    task = SpadeTask(settings, store.legend.num_classes, len(bands.names))
    if checkpoint:
        check_networks(last, checkpoint, task)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / "metrics.csv").touch()  # now, and not after a hundred steps, see whether files can be made
    if checkpoint and share_done(settings, done, seconds_in(checkpoint)) >= 1:
        task.load_state_dict(checkpoint["state_dict"])
        task.on_load_checkpoint(checkpoint)
        progress(min(done, settings.steps), settings.steps, 0.0)
    else:
        watch = Watch(settings, record, out, bands, progress)
        _fit(task, patches, watch, settings, last if checkpoint else None)

    provenance: dict[str, Any] = {
        "software": f"geosynth {__version__}",
        "data": [{"name": scene.name, "sha256": scene.image_sha256} for scene in store.scenes_in(fold)],
        "fold": fold,
        "steps": int(task.steps_done),
        "training": settings.model_dump(mode="json"),
    }
    card = ModelCard(task.generator.settings, store.legend, bands, store.gsd, provenance)
    return save_generator(model_path, task.finished_generator(), card)


def _fit(task: SpadeTask, patches: PatchModule, watch: Watch, settings: TrainSettings, resume: Path | None) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trainer = Trainer(
        accelerator="auto",
        devices=1,
        max_epochs=-1,
        precision="bf16-mixed" if uses_bfloat16(settings.precision, device) else "32-true",
        logger=_logger(watch.out, keep=resume is not None),
        callbacks=[watch],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=_LOG_EVERY,
    )
    with interruptible(watch), warnings.catch_warnings():
        # Lightning warns of what is meant here: one loading process, an average in evaluation mode, short runs.
        warnings.simplefilter("ignore", PossibleUserWarning)
        warnings.filterwarnings("ignore", message=".*LeafSpec.*|.*checkpoint.*")
        try:
            trainer.fit(task, patches, ckpt_path=str(resume) if resume else None, weights_only=True)
        except TrainingError as error:
            kept = watch.out / "last.ckpt"
            raise TrainingError(f"{error}; {kept} is kept" if kept.exists() else str(error)) from error


class _Metrics(CSVLogger):
    """Writes metrics.csv."""

    def save(self) -> None:
        with writing(Path(self.log_dir) / "metrics.csv"):
            super().save()


def _logger(out: Path, *, keep: bool) -> CSVLogger:
    """A logger that keeps the metrics of the interrupted run; Lightning would delete them."""
    path = out / "metrics.csv"
    earlier = path.read_bytes() if keep else b""
    logger = _Metrics(out, name=None, version="")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _ = logger.experiment  # here it deletes
    if earlier:
        path.write_bytes(earlier)
    return logger
