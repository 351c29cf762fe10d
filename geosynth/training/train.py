"""train: from imagery and labels to a model file."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geosynth.checkpoint import GeneratorModel, ModelCard, save_generator
from geosynth.config import BandSettings, TrainSettings
from geosynth.config.base import takes
from geosynth.errors import OutputError, SettingsError, counted
from geosynth.files import check_output, output_path, refuse_inputs, writing
from geosynth.locks import alone_in, drop_lock
from geosynth.loop import Loop, LossHistory, made_ahead, open_fabric
from geosynth.models.device import choose_device, plain_memory_error
from geosynth.models.looks.look import Look
from geosynth.models.perceptual import composites
from geosynth.models.process_settings import keep_freed_memory
from geosynth.patches.dataset import Sample
from geosynth.patches.module import PatchModule
from geosynth.progress import StepProgress, silent
from geosynth.raster.stores.alike import common_gsd
from geosynth.raster.stores.open import open_sources
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.statistics import band_settings
from geosynth.training.draws import TrainBatch
from geosynth.training.looks import training_look
from geosynth.training.networks import SpadeNetworks
from geosynth.training.records import Records, preview_grid
from geosynth.training.start import job_of, load_checkpoint, load_initial, load_weights, with_initial, with_networks_of
from geosynth.training.step import SpadeStep
from geosynth.training.workers import LocalRank, workers
from geosynth.version import __version__

_LOG = logging.getLogger(__name__)


@takes(TrainSettings)
@plain_memory_error()
def train(
    data: str | Path | PatchSource,
    out: str | Path,
    settings: TrainSettings | None = None,
    *,
    fold: str = "train",
    progress: StepProgress = silent,
    **changes: Any,
) -> Path:
    """Train a generator on one fold of imagery with labels.

    `out` becomes a folder with `model.safetensors` (for `generate`), `last.ckpt` (to continue from), `metrics.csv`,
    `tensorboard/` and `previews/` (labels, real, synthetic). If `out` has the checkpoint of an interrupted training,
    that is continued, and the model file has the bytes of an uninterrupted training (on a GPU, where additions have no
    fixed order, up to rounding). Time limits include the time of earlier runs. Ctrl-C ends the training after the
    current step, with a checkpoint.

    Args:
        data: a store, or the path of one, of a folder of stores, or of a YAML file that describes data in place.
        out: the folder.
        settings: None for the defaults.
        fold: whose patches to train on: "train", "val" or "test".
        progress: called after each step; before these, for imagery of more than 8 bits, after each block that is read
            to scale it, with NaN for the remaining seconds.
        **changes: single settings by name, as `steps=2000`.

    Returns:
        the path of the model file.

    Raises:
        DataError: if the fold has no patch of the crop size, or if the interrupted training had other data.
        RasterError: if the data cannot be read.
        TrainingError: if a loss or a weight is no longer finite, or if the work of another device has failed.
        SettingsError: if there are fewer GPUs than devices asked for, or if the interrupted training had other settings
            or another fold.
        CheckpointError: if the checkpoint is damaged, or the initial model cannot be read.
        OutputError: if `out` cannot be written, is an input, has a finished training, or is being written by another
            process.
        MemoryError: if a step does not fit in memory.
        KeyboardInterrupt: on Ctrl-C.
    """
    settings = with_networks_of(TrainSettings.changed(settings, changes))
    out = output_path(out)
    model_path = out / "model.safetensors"
    if model_path.exists():
        drop_lock(out)
        raise OutputError(f"{model_path}: already exists; train into another folder")
    check_output(model_path, overwrite=False)
    refuse_inputs(out, [data], replaced=False)
    _check_devices(settings.devices)
    sources = open_sources(data)
    with alone_in(out):
        with workers(settings.devices, _run, sources, out, settings, fold) as rank:
            step, card, looks = _run(rank, sources, out, settings, fold, progress)
        return save_generator(model_path, step.finished_generator(), card, step.networks.encoder, looks=looks)


def _check_devices(count: int) -> None:
    available = torch.cuda.device_count()
    if available and count > available:
        raise SettingsError(f"{count} are asked for; this machine has {counted(available, 'GPU')}", setting="devices")


@keep_freed_memory()
def _run(
    rank: LocalRank,
    sources: Sequence[PatchSource],
    out: Path,
    settings: TrainSettings,
    fold: str,
    progress: StepProgress = silent,
) -> tuple[SpadeStep, ModelCard, dict[str, Look]]:
    """The work of one process in `train`: returns the trained networks, the model's card and its looks."""
    initial = load_initial(settings, sources)
    known = initial.card.bands if initial else None
    bands = band_settings(sources, fold, known, lambda done, total: progress(done, total, math.nan))
    job, last = job_of(settings, sources, fold, initial), out / "last.ckpt"
    checkpoint = load_checkpoint(last, job)
    patches = _patches(sources, bands, fold, settings, checkpoint.steps if checkpoint else 0, rank)
    if rank.index == 0:
        _warn_of_absent_classes(sources, fold)
    looks = _own_looks(settings, sources, fold, bands, initial)
    networks = _networks(settings, sources, bands, initial, looks)
    if checkpoint:
        load_weights(last, checkpoint, networks)
    if rank.index == 0:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            (out / "metrics.csv").touch()  # fails now, not after a hundred steps, if files cannot be made
    fabric = open_fabric(settings.precision, choose_device(), rank.count, rank)
    step = SpadeStep(networks, settings, bands.names, fabric)
    if checkpoint:
        step.load_state_dict(checkpoint.others)
    loop = Loop(
        last,
        job,
        fabric,
        settings.steps,
        max_time=settings.max_time,
        save_every=settings.save_every,
        save_minutes=settings.save_minutes,
        resume=checkpoint,
        progress=progress,
    )
    if loop.is_finished:
        loop.tell()
    else:
        _fit(loop, step, patches, out)
    if initial is not None:  # its corrections of looks are for the earlier weights
        looks |= {name: replace(look, asked=None) for name, look in initial.looks.items() if name not in looks}
    return step, _card(step, sources, fold, bands, initial, loop.done), looks


def _patches(
    sources: Sequence[PatchSource], bands: BandSettings, fold: str, settings: TrainSettings, start: int, rank: LocalRank
) -> PatchModule:
    """The patches of all steps from `start` on that one process trains on."""
    return PatchModule(
        sources,
        bands,
        fold,
        crop_size=settings.crop_size,
        batch_size=settings.batch_size,
        num_batches=settings.steps,
        seed=settings.seed,
        start=start,
        num_workers=settings.workers,
        class_weights=_class_weights(sources, fold, settings.class_balance),
        source_weights=settings.store_shares,
        rank=rank.index,
        num_ranks=rank.count,
    )


def _networks(
    settings: TrainSettings,
    sources: Sequence[PatchSource],
    bands: BandSettings,
    initial: GeneratorModel | None,
    looks: Mapping[str, Look],
) -> SpadeNetworks:
    """The networks before the first step; `looks` are those of `_own_looks`."""
    look_of_each = list(looks.values()) * (len(sources) if len(looks) == 1 else 1)
    num_classes, pictures = sources[0].legend.num_classes, len(composites(bands.names))
    return SpadeNetworks(settings, num_classes, len(bands.names), initial, look_of_each, pictures)


def _card(
    step: SpadeStep,
    sources: Sequence[PatchSource],
    fold: str,
    bands: BandSettings,
    initial: GeneratorModel | None,
    steps: int,
) -> ModelCard:
    """The model's card, after a training of so many steps."""
    scenes = [scene for source in sources for scene in source.scenes_in(fold)]
    provenance: dict[str, Any] = {
        "software": f"geosynth {__version__}",
        "data": [{"name": scene.name, "sha256": scene.image_sha256} for scene in scenes],
        "fold": fold,
        "steps": steps,
        "training": step.settings.model_dump(mode="json", exclude={"init"}),
    }
    if initial is not None:
        provenance = with_initial(provenance, initial)
    return ModelCard(
        settings=step.networks.generator.settings,
        legend=sources[0].legend,
        bands=bands,
        gsd=common_gsd(sources, initial.card.gsd if initial else None),
        provenance=provenance,
    )


def _own_looks(
    settings: TrainSettings,
    sources: Sequence[PatchSource],
    fold: str,
    bands: BandSettings,
    initial: GeneratorModel | None,
) -> dict[str, Look]:
    """The looks of the training's tiles, by name: of all sources, or of each; empty for a generator without looks."""
    names, network = settings.look_name, settings.generator(sources[0].legend.num_classes, len(bands.names))
    if not network.style_lengths:
        return {}
    if len(names) not in (1, len(sources)) or len(set(names)) < len(names):
        what = f"one name is needed, or one for each of {len(sources)} stores; got {', '.join(names)}"
        raise SettingsError(what, setting="look_name")
    known = initial.look() if initial is not None and initial.looks else None
    groups = [sources] if len(names) == 1 else [[source] for source in sources]
    looks: dict[str, Look] = {}
    for name, group in zip(names, groups, strict=True):
        looks[name] = training_look(group, fold, bands, network, settings.crop_size, known)
        known = known or looks[name]
    return looks


def _fit(loop: Loop, step: SpadeStep, patches: PatchModule, out: Path) -> None:
    """Train until the steps are done or the time is over; records and checkpoints go into `out`."""
    settings, fabric = step.settings, loop.fabric
    losses = LossHistory("lower the learning rates or use precision fp32")
    with loop, Records(out, loop.done, loop.seconds) if fabric.is_global_zero else nullcontext() as records:
        for drawn in loop.until_over(_draws(step, patches, loop.done)):
            batch = _upload(drawn, patches, fabric.device)
            rates = step.set_rates(loop.share)
            losses.add(loop.done + 1, step.update(loop.done, batch))
            loop.end_step()
            if records and (loop.done % settings.log_every == 0 or loop.is_finished):
                records.add(loop.done, loop.seconds, losses.means(), rates, settings.batch_size)
            loop.tell()
            if settings.preview_every and (loop.done % settings.preview_every == 0 or loop.is_finished):
                grid = preview_grid(step, batch, patches.sources[0].legend, patches.sources[0].band_names)
                if records:
                    records.show(loop.done, grid)
            if loop.is_save_due:
                losses.settle()
                loop.save(step.networks, **step.state_dict())


def _draws(step: SpadeStep, patches: PatchModule, start: int) -> Iterator[TrainBatch]:
    """The batches of all steps from `start` on, with their draws."""

    def draw(item: tuple[int, Sample]) -> TrainBatch:
        number, sample = item
        batch = step.draw(number, sample["image"], sample["mask"], sample["source"])
        return batch.apply(Tensor.pin_memory) if step.fabric.device.type == "cuda" else batch

    return made_ahead(enumerate(patches.train_dataloader(), start), step.fabric.device, draw)


def _upload(drawn: TrainBatch, patches: PatchModule, device: torch.device) -> TrainBatch:
    """The batch on the device, copied without waiting and scaled there."""
    batch = drawn.apply(lambda values: values.to(device, non_blocking=True))
    scaled = patches.on_after_batch_transfer({"image": batch.image, "mask": batch.mask}, 0)
    image = scaled["image"].contiguous(memory_format=torch.channels_last)
    return replace(batch, image=image, mask=scaled["mask"])


def _class_weights(sources: Sequence[PatchSource], fold: str, balance: float) -> dict[str, float] | None:
    """The weight of each class when patches are drawn; None to draw by area."""
    if not balance:
        return None
    return {name: count ** (1 - balance) for name, count in _class_pixels(sources, fold).items() if count}


def _warn_of_absent_classes(sources: Sequence[PatchSource], fold: str) -> None:
    """Warn of classes that the model cannot paint, as they occur neither here nor in the training it started from."""
    names = [name for name, count in _class_pixels(sources, fold).items() if not count]
    if names:
        _LOG.warning("fold %r has no pixel of %s: the model learns nothing of that", fold, ", ".join(names))


def _class_pixels(sources: Sequence[PatchSource], fold: str) -> dict[str, int]:
    pixels = np.array([source.class_pixels(fold) for source in sources]).sum(axis=0)
    return dict(zip(sources[0].legend.names, pixels.tolist(), strict=True))
