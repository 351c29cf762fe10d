"""train: imagery and labels in, a generator file out."""

from __future__ import annotations

import base64
import logging
import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Trainer

from geosynth.checkpoint import GeneratorModel, ModelCard, load_generator, model_path, save_generator
from geosynth.config import TrainSettings
from geosynth.errors import DataError, OutputError, SettingsError, TrainingError
from geosynth.files import check_output
from geosynth.models.device import best_device, keep_freed_memory, plain_memory_error
from geosynth.patches.module import PatchModule
from geosynth.patches.statistics import band_settings
from geosynth.raster.stores.in_place import open_sources
from geosynth.raster.stores.source import PatchSource
from geosynth.training.fit import (
    TrainProgress,
    Watch,
    check_networks,
    data_record,
    interruptible,
    read_checkpoint,
    seconds_in,
    share_done,
    steps_in,
)
from geosynth.training.records import writing
from geosynth.training.replicas import Rank, leave_group, workers
from geosynth.training.step import SpadeTask
from geosynth.version import __version__

# --- Going on from the weights of a model file: which networks follow from it, and what data it fits.


def with_networks_of(settings: TrainSettings) -> TrainSettings:
    """The settings with the networks of the model `settings.init`; as they are, if there is none.

    Raises:
        CheckpointError: if that is not a model.
        SettingsError: if the settings ask for other networks.
    """
    if settings.init is None:
        return settings
    card = ModelCard.read(model_path(settings.init))
    networks = _networks(card)
    values = settings.model_dump()
    for name, value in networks.items():
        if name in settings.model_fields_set and values[name] != value:
            raise SettingsError(f"{name}={values[name]}: the model {settings.init} has {value}; leave {name} out")
    return TrainSettings.parse({**values, **networks})


def load_initial(settings: TrainSettings, source: PatchSource) -> GeneratorModel | None:
    """The model `settings.init`, once it is sure that it fits the data; None if there is none.

    Raises:
        CheckpointError: if that is not a model, or damaged.
        DataError: if the data have other classes, bands, or another type of pixel values.
    """
    if settings.init is None:
        return None
    model = load_generator(settings.init)
    card = model.card
    for what, theirs, ours in (
        ("classes", card.legend.names, source.legend.names),
        ("bands", card.bands.names, source.band_names),
        ("pixel values of type", (card.bands.dtype,), (str(source.dtype),)),
    ):
        if tuple(theirs) != tuple(ours):
            raise DataError(
                f"{source.path}: {what} {', '.join(ours)} do not fit the model {settings.init}, which has"
                f" {', '.join(theirs)}"
            )
    return model


def with_initial(provenance: dict[str, Any], initial: GeneratorModel) -> dict[str, Any]:
    """The provenance of a model that went on from `initial`: with its data, all of which the weights have seen."""
    earlier = dict(initial.card.provenance)
    seen = earlier.pop("data", [])
    data = [*provenance["data"], *(entry for entry in seen if entry not in provenance["data"])]
    init = {"name": initial.path.name, "sha256": initial.sha256, **earlier}
    return {**provenance, "data": data, "init": init}


def _networks(card: ModelCard) -> dict[str, Any]:
    generator = card.settings.model_dump(exclude={"num_classes", "num_bands"})
    if generator["crop_size"] is None:
        del generator["crop_size"]  # the training's own
    if card.encoder is not None:
        generator["encoder_width"] = card.encoder.base_width
    return generator


_log = logging.getLogger(__name__)


@plain_memory_error()
def train(
    data: str | Path | PatchSource,
    out: str | Path,
    settings: TrainSettings | None = None,
    *,
    fold: str = "train",
    progress: TrainProgress = lambda done, total, left: None,
) -> Path:
    """Train a generator on one fold of imagery with labels.

    `out` becomes a folder with `model.safetensors` (what `generate` takes), `last.ckpt` (to go on from), `metrics.csv`,
    `tensorboard/` and `previews/` (labels, real, synthetic). If `out` holds a checkpoint of a training that was
    interrupted, it goes on from there, and ends with the bytes of one that was not (on a GPU, where additions have no
    fixed order, up to rounding); the time that was spent before counts. Ctrl-C ends it after the step, and keeps a
    checkpoint.

    Args:
        data: a store, or the path of one, of a folder of stores, or of a YAML file that names files to read in place.
        out: the folder.
        settings: None for the defaults.
        fold: whose patches to train on.
        progress: told after each step.

    Returns:
        the path of the model file.

    Raises:
        DataError: if the fold has no patch of the crop size, or the interrupted training had other data.
        RasterError: if the data cannot be read.
        TrainingError: if a loss or a weight is no longer finite, or the work of another device failed.
        SettingsError: if there are fewer GPUs than devices asked for, or the interrupted training had other settings,
            or another fold.
        CheckpointError: if its checkpoint is damaged.
        OutputError: if `out` cannot be written, or holds a finished training.
        MemoryError: if a step does not fit into memory.
        KeyboardInterrupt: on Ctrl-C.
    """
    settings = with_networks_of(settings or TrainSettings())
    out = Path(out)
    model_path = out / "model.safetensors"
    if model_path.exists():
        raise OutputError(f"{model_path}: exists already; train into another folder")
    check_output(model_path, overwrite=False)
    _check_devices(settings.devices)
    sources = open_sources(data)
    opened = base64.b64encode(pickle.dumps(sources)).decode()  # a source need not have one path to be opened by
    arguments = {"data": opened, "out": str(out), "settings": settings.model_dump(mode="json"), "fold": fold}
    with workers(settings.devices, arguments) as rank:
        task, card = run(sources, out, settings, fold, rank, progress)
    task.to(best_device())  # Lightning leaves it on the CPU
    return save_generator(model_path, task.finished_generator(), card, task.encoder)


def run(
    sources: Sequence[PatchSource],
    out: str | Path,
    settings: TrainSettings,
    fold: str,
    rank: Rank,
    progress: TrainProgress = lambda done, total, left: None,
) -> tuple[SpadeTask, ModelCard]:
    """One process's part of `train`, up to the trained networks; arguments and errors as there."""
    keep_freed_memory()
    out = Path(out)
    initial = load_initial(settings, sources[0])
    # The scaling in which a model's weights were learned stays.
    bands = band_settings(sources, fold) if initial is None else initial.card.bands
    record = data_record(sources, fold)
    if initial is not None:
        record["initial"] = initial.sha256
    last = out / "last.ckpt"
    checkpoint = read_checkpoint(last, settings, record) if last.exists() else None
    done = steps_in(checkpoint) if checkpoint else 0
    patches = PatchModule(
        sources,
        bands,
        fold,
        crop_size=settings.crop_size,
        batch_size=settings.batch_size,
        num_batches=settings.steps,
        seed=settings.seed,
        start=done,
        num_workers=settings.workers,
        class_weights=_class_weights(sources, fold, settings.class_balance),
        rank=rank.index,
        num_ranks=rank.count,
    )
    legend = sources[0].legend
    _warn_of_absent_classes(sources, fold)
    task = SpadeTask(settings, legend.num_classes, bands.names, initial)
    if checkpoint:
        check_networks(last, checkpoint, task)
    if rank.index == 0:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            (out / "metrics.csv").touch()  # now, and not after a hundred steps, see whether files can be made
    if checkpoint and share_done(settings, done, seconds_in(checkpoint)) >= 1:
        task.load_state_dict(checkpoint["state_dict"])
        task.on_load_checkpoint(checkpoint)
        progress(min(done, settings.steps), settings.steps, 0.0)
    else:
        _fit(task, patches, Watch(settings, record, out, legend, progress), rank, last if checkpoint else None)

    scenes = [scene for source in sources for scene in source.scenes_in(fold)]
    provenance: dict[str, Any] = {
        "software": f"geosynth {__version__}",
        "data": [{"name": scene.name, "sha256": scene.image_sha256} for scene in scenes],
        "fold": fold,
        "steps": task.steps_done,
        "training": settings.model_dump(mode="json", exclude={"init"}),
    }
    if initial is not None:
        provenance = with_initial(provenance, initial)
    return task, ModelCard(
        settings=task.generator.settings, legend=legend, bands=bands, gsd=sources[0].gsd, provenance=provenance
    )


def _class_weights(sources: Sequence[PatchSource], fold: str, balance: float) -> dict[str, float] | None:
    """What each class counts when patches are drawn; None to draw by area."""
    if not balance:
        return None
    return {name: count ** (1 - balance) for name, count in _class_pixels(sources, fold).items() if count}


def _class_pixels(sources: Sequence[PatchSource], fold: str) -> dict[str, int]:
    pixels = np.array([source.class_pixels(fold) for source in sources]).sum(axis=0)
    return dict(zip(sources[0].legend.names, pixels.tolist(), strict=True))


def _warn_of_absent_classes(sources: Sequence[PatchSource], fold: str) -> None:
    """What a model has never seen it cannot paint; the counts tell before the training does."""
    names = [name for name, count in _class_pixels(sources, fold).items() if not count]
    if names:
        _log.warning("fold %r has no pixel of %s: the model cannot learn to paint that", fold, ", ".join(names))


def _check_devices(count: int) -> None:
    available = torch.cuda.device_count()
    if available and count > available:
        raise SettingsError(f"devices={count}: this machine has {available} GPU{'s' * (available > 1)}")


def _fit(task: SpadeTask, patches: PatchModule, watch: Watch, rank: Rank, resume: Path | None) -> None:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    trainer = Trainer(
        accelerator="gpu" if best_device() == "cuda" else "cpu",
        devices=rank.count,
        strategy=rank.strategy() if rank.count > 1 else "auto",
        use_distributed_sampler=False,
        limit_val_batches=0,
        max_epochs=-1,
        logger=False,
        callbacks=[watch],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with interruptible(watch), warnings.catch_warnings():
        # Lightning warns of what is meant here: one loading process, an average in evaluation mode, short runs.
        warnings.simplefilter("ignore", PossibleUserWarning)
        warnings.filterwarnings("ignore", message=".*LeafSpec.*|.*checkpoint.*|.*val_dataloader.*")
        try:
            trainer.fit(task, patches, ckpt_path=str(resume) if resume else None, weights_only=True)
        except TrainingError as error:
            kept = watch.out / "last.ckpt"
            raise TrainingError(f"{error}; {kept} is kept" if kept.exists() else str(error)) from error
    leave_group()
