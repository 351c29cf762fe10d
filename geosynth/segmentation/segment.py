"""segment: train a segmenter on real and synthetic tiles, test it on real ones."""

from __future__ import annotations

import logging
import math
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Trainer
from torch import nn

from geosynth.config import BandSettings, SegmentSettings
from geosynth.errors import OutputError
from geosynth.models.memory import plain_memory_error
from geosynth.models.precision import best_device, full_float32, uses_bfloat16
from geosynth.outputs import check_output, writing
from geosynth.patches.statistics import band_settings
from geosynth.raster.stores.source import PatchSource
from geosynth.segmentation.batches import Batches
from geosynth.segmentation.card import SegmenterCard
from geosynth.segmentation.coarse import coarse_tiles
from geosynth.segmentation.data import SegmentData, open_data
from geosynth.segmentation.pretrained import load_encoder_weights
from geosynth.segmentation.report import SegmentReport
from geosynth.segmentation.scores import Confusion, miou_interval
from geosynth.segmentation.segmenter import Segmenter, load_segmenter, save_segmenter
from geosynth.segmentation.task import SegmentTask
from geosynth.segmentation.watch import Progress, Watch, resume_from
from geosynth.version import __version__


@plain_memory_error()
def segment(
    data: str | Path | PatchSource,
    out: str | Path,
    settings: SegmentSettings | None = None,
    *,
    synthetic: str | Path | PatchSource | None = None,
    train_fold: str = "train",
    test_fold: str = "test",
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
    **changes: Any,
) -> SegmentReport:
    """Train a U-Net on a mixture of real and synthetic tiles, and test it on real tiles of places it has not seen.

    `out` becomes a folder with `model.safetensors` (for `load_segmenter` and `classify`) and `report.json`. If it holds
    the report of the same settings and data, that is returned and nothing is done. An interrupted training leaves
    `last.ckpt` there, if it was long enough (`save_minutes`), and the same call goes on from it.

    Args:
        data: real imagery and labels: a store, or what `train` takes.
        out: the folder.
        settings: None for the defaults.
        synthetic: a twin of `data`: a store on the same grid whose imagery is synthetic.
        train_fold: of `data`.
        test_fold: of `data`.
        overwrite: do it again whatever is in `out`.
        progress: told steps done and steps to do.
        changes: single settings, as in `steps=500`; they go over `settings`.

    Returns:
        what the test found.

    Raises:
        SettingsError: if settings cannot work, or synthetic tiles are asked for without a twin.
        DataError: if there are too few tiles, the twin does not fit, or the imagery cannot be scaled.
        RasterError: if data cannot be read.
        CheckpointError: if pretrained weights cannot be had.
        TrainingError: if the loss is no longer a finite number.
        OutputError: if `out` cannot be written, or holds a report of other settings or data.
        MemoryError: if a step does not fit into memory.
    """
    settings = SegmentSettings.parse({**(settings or SegmentSettings()).model_dump(), **changes})
    out = Path(out)
    check_output(out / "report.json", overwrite=True)
    opened = open_data(data, synthetic, settings, train_fold, test_fold)
    key = {
        "settings": settings.model_dump(mode="json", exclude={"save_minutes"}),
        "data": opened.fingerprint,
        "train_fold": train_fold,
        "test_fold": test_fold,
    }
    report_path, model_path, last = out / "report.json", out / "model.safetensors", out / "last.ckpt"
    if overwrite:
        for path in (report_path, last):
            path.unlink(missing_ok=True)
    elif report_path.exists():
        return _finished(report_path, key)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    bands = band_settings(opened.sources, train_fold)
    network, weights, seconds = _train(opened, bands, settings, last, key, progress)
    provenance = {"software": f"geosynth {__version__}", "weights": weights, **key}
    card = SegmenterCard(settings, opened.sources[0].legend, bands, opened.sources[0].gsd, provenance)
    save_segmenter(model_path, network, card)
    started = time.monotonic()
    # The file is what is tested: its weights are rounded.
    places = _test(load_segmenter(model_path, best_device()), opened)
    total = sum(places, Confusion(card.legend.num_classes))
    low, high = miou_interval(places, settings.seed) or (None, None)
    report = SegmentReport(
        miou=total.miou(),
        miou_low=low,
        miou_high=high,
        test_places=len(places),
        class_iou={
            name: None if math.isnan(iou) else iou
            for name, iou in zip(card.legend.names, total.iou().tolist(), strict=True)
        },
        accuracy=total.accuracy(),
        confusion=tuple(map(tuple, total.matrix.tolist())),
        real_tiles=opened.num_real,
        synthetic_tiles=len(opened.train) - opened.num_real,
        coarse_tiles=len(opened.coarse or ()),
        test_tiles=len(opened.test),
        weights=weights,
        train_fold=train_fold,
        test_fold=test_fold,
        settings=settings,
        data=opened.fingerprint,
        seconds=round(seconds + time.monotonic() - started, 3),
    )
    report.save(report_path)
    last.unlink(missing_ok=True)
    return report


def _finished(path: Path, key: dict[str, Any]) -> SegmentReport:
    """The report that is there, if it is of the same settings and data."""
    report = SegmentReport.load(path)
    own = report.model_dump(mode="json")
    differing = [name for name in ("train_fold", "test_fold") if own[name] != key[name]]
    differing += [name for name, value in key["settings"].items() if own["settings"][name] != value]
    if not differing and own["data"] != key["data"]:  # which follows from the others too
        differing = ["data"]
    if differing:
        raise OutputError(
            f"{path}: exists already, made otherwise ({', '.join(differing)}); choose another folder or say --overwrite"
        )
    return report


def _train(
    data: SegmentData,
    bands: BandSettings,
    settings: SegmentSettings,
    last: Path,
    key: dict[str, Any],
    progress: Progress,
) -> tuple[nn.Module, str, float]:
    """The trained U-Net, what its encoder started from, and the seconds that training took."""
    coarse = None if settings.coarse is None else coarse_tiles(data, settings.coarse, settings.crop_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        task = SegmentTask(
            settings, len(bands.names), data.sources[0].legend.num_classes, None if coarse is None else coarse.shares
        )
    weights = load_encoder_weights(task.model, settings.encoder, settings.weights)
    task = task.to(memory_format=torch.channels_last)
    begun = resume_from(last, key)
    done, seconds = begun or (0, 0.0)
    watch = Watch(last, key, settings.steps, settings.save_minutes, seconds, progress)
    batches = Batches(data.train, coarse, bands, settings, start=done)
    device = best_device()
    bfloat16 = uses_bfloat16(settings.precision, device)
    if not bfloat16:
        full_float32()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    trainer = Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        precision="bf16-mixed" if bfloat16 else "32-true",
        max_steps=settings.steps,
        max_epochs=-1,
        limit_val_batches=0,
        logger=False,
        callbacks=[watch],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings():
        # Lightning warns of what is meant here: one loading process, no validation, a checkpoint amid an epoch.
        warnings.simplefilter("ignore", PossibleUserWarning)
        warnings.filterwarnings("ignore", message=".*LeafSpec.*|.*checkpoint.*|.*val_dataloader.*|.*lr_scheduler.*")
        try:
            trainer.fit(task, batches, ckpt_path=None if begun is None else str(last), weights_only=True)
        except SystemExit as error:  # what Lightning makes of KeyboardInterrupt
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            raise
    network: nn.Module = task.model
    return network, weights, watch.seconds


def _test(segmenter: Segmenter, data: SegmentData) -> list[Confusion]:
    """Pixels by true and predicted class, for each place."""
    tiles: dict[int, list[int]] = {}
    for index, place in enumerate(data.test_places):
        tiles.setdefault(place, []).append(index)
    return [segmenter.scores(map(data.test.__getitem__, indices)) for indices in tiles.values()]
