"""segment: train a segmenter on real and synthetic tiles, test it on real ones."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geosynth.config import BandSettings, SegmentSettings
from geosynth.config.base import takes
from geosynth.download import model_file
from geosynth.errors import CheckpointError, OutputError, SettingsError
from geosynth.files import check_output, output_path, refuse_inputs
from geosynth.locks import alone_in
from geosynth.loop import Checkpoint, Loop, LossHistory, made_ahead, open_fabric
from geosynth.models.device import choose_device, plain_memory_error, uses_bfloat16
from geosynth.models.state import weights_digest
from geosynth.models.super_resolution import CoarseShares, super_resolution_loss
from geosynth.progress import Progress, silent
from geosynth.raster.stores.alike import check_fits, common_gsd
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.statistics import band_settings
from geosynth.segmentation.batches import Batch, Batches
from geosynth.segmentation.data import SegmentData, coarse_tiles, left_out, open_data
from geosynth.segmentation.scores import Confusion, SegmentReport, miou_estimate
from geosynth.segmentation.segmenter import Segmenter, SegmenterCard, as_saved, load_segmenter, save_segmenter
from geosynth.segmentation.unet import build_unet, check_takes, load_encoder_weights
from geosynth.version import __version__

_WARM_UP = 20  # as a fraction of the steps: 1 / 20

_LOG = logging.getLogger(__name__)


@takes(SegmentSettings)
@plain_memory_error()
def segment(
    data: str | Path | PatchSource | Sequence[PatchSource],
    out: str | Path,
    settings: SegmentSettings | None = None,
    *,
    synthetic: str | Path | PatchSource | None = None,
    init: str | Path | None = None,
    judge: str | Path | None = None,
    train_fold: str = "train",
    test_fold: str = "test",
    overwrite: bool = False,
    progress: Progress = silent,
    **changes: Any,
) -> SegmentReport:
    """Train a U-Net on a mixture of real and synthetic tiles, and test it on real tiles of places it has not seen.

    `out` becomes a folder with `model.safetensors` (for `load_segmenter` and `classify`) and `report.json`. If it has
    the report for the same settings and data, that is returned and nothing is done. A training writes `last.ckpt`
    there, every `save_minutes` and on Ctrl-C, from which the same call continues after an interruption.

    Args:
        data: real imagery and labels: a store, or what `train` takes; also several sources, such as two regions, one
            with the train tiles and the other with the test tiles.
        out: the folder.
        settings: None for the defaults.
        synthetic: a twin of `data`: a store on the same grid with synthetic imagery. All its tiles are added, or as
            many as the setting `synthetic_tiles` says.
        init: a segmenter, as for `load_segmenter`, that is trained further, with its bands and scaling; None for a new
            one.
        judge: a segmenter, likewise, trained on real tiles of the same classes; synthetic pixels whose class it finds
            less likely than `agreement` are left out. None to keep all.
        train_fold: fold of `data` to train on: "train", "val" or "test".
        test_fold: fold of `data` to test on.
        overwrite: train again, whatever is in `out`.
        progress: called with the number of finished steps and of all steps; for imagery of more than 8 bits, first with
            the blocks that are read to scale it.
        **changes: single settings, as in `steps=500`, which override `settings`.

    Returns:
        the results of the test.

    Raises:
        SettingsError: if settings contradict each other, synthetic tiles are asked for without a twin, or `init` has
            another encoder.
        DataError: if there are too few tiles, the twin does not fit, or the imagery cannot be scaled.
        RasterError: if data cannot be read.
        CheckpointError: if pretrained weights are not available.
        TrainingError: if the loss is no longer a finite number.
        OutputError: if `out` cannot be written, is an input, has a report of other settings or data, or is being
            written by another process.
        MemoryError: if a step does not fit in memory.
    """
    settings = SegmentSettings.changed(settings, changes)
    settings.refuse_idle_coarse()
    out = output_path(out)
    check_output(out / "report.json", overwrite=True)
    refuse_inputs(out, [data, synthetic], replaced=False)
    read = [settings.weights_file, *(model_file(one) for one in (init, judge) if one is not None)]
    refuse_inputs(out / "model.safetensors", read)
    judging = None if judge is None else load_segmenter(judge, "auto")
    opened = open_data(data, synthetic, settings, train_fold, test_fold, judging)
    initial = None if init is None else _load_initial(init, settings, opened.sources)
    job: dict[str, Any] = {
        "settings": settings.model_dump(mode="json", exclude={"save_minutes"}),
        "data": opened.digest,
        "train_fold": train_fold,
        "test_fold": test_fold,
        "init": None if initial is None else initial.sha256,
        "judge": None if judging is None else judging.sha256,
        "weights_sha256": weights_digest(settings.weights_file) if initial is None else None,
    }
    report_path, model_path, last = out / "report.json", out / "model.safetensors", out / "last.ckpt"
    with alone_in(out):
        if overwrite:
            for path in (report_path, last):
                path.unlink(missing_ok=True)
        elif report_path.exists():
            finished = _finished(report_path, job)
            last.unlink(missing_ok=True)  # a kill may have happened before that
            return finished
        bands = band_settings(opened.sources, train_fold, initial.card.bands if initial else None, progress)
        network, weights, seconds = _train(opened, bands, settings, initial, last, job, progress)
        card = SegmenterCard(
            settings=settings,
            legend=opened.sources[0].legend,
            bands=bands,
            gsd=common_gsd(opened.sources, initial.card.gsd if initial else None),
            provenance={"software": f"geosynth {__version__}", "weights": weights, **job},
        )
        trained = as_saved(network, card, model_path, "auto")
        report = _test(trained, opened, weights, job, seconds)
        save_segmenter(model_path, trained.network, card.model_copy(update={"scores": report.scores()}))
        report.save(report_path)
        last.unlink(missing_ok=True)
        return report


def _load_initial(init: str | Path, settings: SegmentSettings, sources: Sequence[PatchSource]) -> Segmenter:
    """The segmenter to train further, after checking that it fits settings and data."""
    initial = load_segmenter(init)
    theirs = initial.card.settings.encoder
    if theirs != settings.encoder:
        what = f"the segmenter {init} has {theirs}, not {settings.encoder}; give {theirs}"
        raise SettingsError(what, setting="encoder")
    check_fits(sources, init, initial.card.legend.names, initial.card.bands)
    return initial


def _finished(path: Path, job: dict[str, Any]) -> SegmentReport:
    """The existing report, if it is for the same settings and data."""
    report = SegmentReport.load(path)
    own = report.model_dump(mode="json")
    differing = [name for name in job if name not in ("settings", "data") and own[name] != job[name]]
    differing += [name for name, value in job["settings"].items() if own["settings"][name] != value]
    if not differing and own["data"] != job["data"]:  # also depends on the others
        differing = ["data"]
    if differing:
        raise OutputError(
            f"{path}: already exists, made differently ({', '.join(differing)}); choose another folder or"
            " use --overwrite"
        )
    return report


def _train(
    data: SegmentData,
    bands: BandSettings,
    settings: SegmentSettings,
    initial: Segmenter | None,
    last: Path,
    job: dict[str, Any],
    progress: Progress,
) -> tuple[nn.Module, str, float]:
    """The trained U-Net, its initial weights (a text), and the seconds that training took."""
    coarse = None if settings.coarse is None else coarse_tiles(data, settings.coarse, settings.crop_size)
    device = choose_device()
    fabric = open_fabric("bf16" if uses_bfloat16(settings.precision, device) else "fp32", device)
    shares = None if coarse is None else coarse.shares.to(fabric.device)
    network, weights = _start(settings, len(bands.names), data.sources[0].legend.num_classes, initial)
    network = network.to(fabric.device).to(memory_format=torch.channels_last)
    adam = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate)
    optimizer: Any = fabric.setup_optimizers(adam)
    checkpoint = _load_checkpoint(last, job)
    if checkpoint is not None:
        network.load_state_dict(checkpoint.network)
        adam.load_state_dict(checkpoint.others["adam"])
    losses = LossHistory("lower learning_rate")
    loop = Loop(
        last,
        job,
        fabric,
        settings.steps,
        save_minutes=settings.save_minutes,
        resume=checkpoint,
        progress=lambda done, total, left: progress(done, total),
    )
    with loop, torch.random.fork_rng(devices=[fabric.device] if fabric.device.type == "cuda" else []):
        batches = Batches(data.train, coarse, bands, settings)

        def ready(step: int) -> Batch:
            batch = batches.batch(step)  # a copy from memory that is not pinned would wait for the previous step
            pins = fabric.device.type == "cuda"
            return {name: values.pin_memory() for name, values in batch.items()} if pins else batch

        for batch in loop.until_over(made_ahead(range(loop.done, settings.steps), fabric.device, ready)):
            # Some encoders skip layers at random; which ones depends only on the seed and the step.
            torch.manual_seed(int(np.random.SeedSequence([settings.seed, loop.done]).generate_state(1)[0]))
            adam.param_groups[0]["lr"] = settings.learning_rate * _rate(loop.done, settings.steps)
            with fabric.autocast():
                loss = _loss(network, fabric.to_device(batch), settings, shares)
            fabric.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            losses.add(loop.done + 1, {"cross-entropy": loss})
            loop.end_step()
            loop.tell()
            if loop.is_save_due:
                losses.settle()
                loop.save(network, adam=adam.state_dict())
    return network, weights, loop.seconds


def _start(
    settings: SegmentSettings, num_bands: int, num_classes: int, initial: Segmenter | None
) -> tuple[nn.Module, str]:
    """The U-Net before its first step, on the CPU, and its initial weights (a text), for the report."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = build_unet(settings.encoder, num_bands, num_classes)
    for size in {settings.tile_size, settings.crop_size or settings.tile_size}:
        check_takes(network, settings.encoder, num_bands, size)
    if initial is None:
        return network, load_encoder_weights(network, settings.encoder, settings.weights)
    network.load_state_dict(initial.network.state_dict())
    return network, initial.path.name


def _load_checkpoint(path: Path, job: dict[str, Any]) -> Checkpoint | None:
    """The checkpoint of an interrupted training; None, and its file is removed, if it cannot be continued."""
    if not path.exists():
        return None
    try:
        checkpoint = Checkpoint.load(path)
        if checkpoint.job == job:
            return checkpoint
    except CheckpointError:
        pass
    _LOG.warning("%s: unfinished work with other settings or data is discarded; starting again", path)
    path.unlink()
    return None


def _rate(step: int, steps: int) -> float:
    """The share of the learning rate at a step: it rises for a twentieth of the steps, then falls as half a cosine."""
    rise = max(1, steps // _WARM_UP)
    if step < rise:
        return (step + 1) / rise
    return 0.5 + 0.5 * math.cos(math.pi * (step - rise + 1) / max(1, steps - rise + 1))


def _loss(network: nn.Module, batch: Batch, settings: SegmentSettings, shares: CoarseShares | None) -> Tensor:
    """The loss of a batch of `Batches` on the device: cross-entropy, and the loss of coarse labels."""
    images, labels = batch["image"], batch["mask"]
    if shares is None:
        return _cross_entropy(network(images), labels)
    # In one pass, so that batch norm sees both.
    fine, coarse = network(torch.cat([images, batch["coarse_image"]])).float().split(len(images))
    coarse_loss = super_resolution_loss(coarse.softmax(1), batch["coarse_mask"], shares)
    return _cross_entropy(fine, labels) + settings.coarse_weight * coarse_loss


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the pixels with a class; 0 if there is none."""
    num_classes = logits.shape[1]
    total = F.cross_entropy(logits.float(), labels, ignore_index=num_classes, reduction="sum")
    return total / (labels < num_classes).sum().clamp(min=1)


def _test(segmenter: Segmenter, data: SegmentData, weights: str, job: dict[str, Any], seconds: float) -> SegmentReport:
    """The report of a trained segmenter.

    Args:
        segmenter: with rounded weights, as in its file.
        data: the train and test data.
        weights: its initial weights.
        job: of the training, see `segment`.
        seconds: time of the training.
    """
    started = time.monotonic()
    tiles: dict[int, list[int]] = {}
    for index, place in enumerate(data.test_places):
        tiles.setdefault(place, []).append(index)
    places = [segmenter.scores(map(data.test.__getitem__, indices)) for indices in tiles.values()]
    legend, settings = segmenter.card.legend, segmenter.card.settings
    total = sum(places, Confusion(legend.num_classes))
    miou = miou_estimate([[place.matrix for place in places]], seed=settings.seed)
    return SegmentReport(
        miou=total.miou(),
        miou_low=miou.low,
        miou_high=miou.high,
        test_places=len(places),
        class_iou=dict(zip(legend.names, total.iou().tolist(), strict=True)),
        accuracy=total.accuracy(),
        confusion=total.to_values(),
        place_confusions=tuple(place.to_values() for place in places),
        real_tiles=data.train.num_real,
        synthetic_tiles=len(data.train) - data.train.num_real,
        coarse_tiles=len(data.coarse or ()),
        test_tiles=len(data.test),
        weights=weights,
        left_out=None if job["judge"] is None else left_out(data.train),
        **{**job, "settings": settings},
        seconds=round(seconds + time.monotonic() - started, 3),
    )
