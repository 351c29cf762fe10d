"""segment: train a segmenter on real and synthetic tiles, test it on real ones."""

from __future__ import annotations

import logging
import math
import pickle
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from geosynth.config import BandSettings, SegmentSettings
from geosynth.errors import OutputError, SettingsError, TrainingError
from geosynth.files import check_output, writing
from geosynth.models.device import best_device, full_float32, plain_memory_error, uses_bfloat16
from geosynth.models.super_resolution import CoarseShares, super_resolution_loss
from geosynth.patches.statistics import band_settings
from geosynth.raster.stores.source import PatchSource
from geosynth.segmentation.data import Batches, SegmentData, coarse_tiles, open_data
from geosynth.segmentation.scores import Confusion, SegmentReport, miou_estimate
from geosynth.segmentation.segmenter import (
    Segmenter,
    SegmenterCard,
    load_encoder_weights,
    load_segmenter,
    save_segmenter,
)
from geosynth.version import __version__

# --- The Lightning task: TorchGeo's, with a schedule by steps and, if asked for, the loss of coarse labels.

try:  # TorchGeo 0.10 on Python 3.12 and newer
    from torchgeo.tasks import SemanticSegmentation
except ImportError:  # 0.8
    from torchgeo.trainers import SemanticSegmentationTask as SemanticSegmentation


_WARM_UP = 20  # one part in so many of the steps


class SegmentTask(SemanticSegmentation):  # type: ignore[misc]  # TorchGeo has no types
    """A U-Net trained with cross-entropy, pixels without a class left out.

    Args:
        settings: of the training.
        num_bands: of the images.
        num_classes: of the labels; `num_classes` itself marks pixels without one.
        shares: of the classes under coarse ones; None without coarse labels.

    Raises:
        SettingsError: if there is no such encoder.
    """

    # Of what Lightning keeps in checkpoints: plain values only, so that they load without pickle.
    ignore = ("weights", "settings", "shares")

    def __init__(
        self, settings: SegmentSettings, num_bands: int, num_classes: int, shares: CoarseShares | None = None
    ) -> None:
        try:
            super().__init__(
                model="unet",
                backbone=settings.encoder,
                weights=None,
                in_channels=num_bands,
                task="multiclass",
                num_classes=num_classes,
                loss="ce",
                ignore_index=num_classes,
                lr=settings.learning_rate,
            )
        except (KeyError, ValueError, RuntimeError) as error:  # smp's, and timm's
            raise SettingsError(
                f"encoder {settings.encoder!r}: segmentation_models_pytorch has none of that name for {num_bands} bands"
            ) from error
        self.settings, self.shares = settings, shares

    def configure_metrics(self) -> None:
        """None: the test counts for itself, and metrics of each step would cost more than they tell."""

    def training_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """The loss of a batch of `Batches`.

        Raises:
            TrainingError: if it is not a finite number.
        """
        images, labels = batch["image"], batch["mask"]
        if self.shares is None:
            loss = self._cross_entropy(self(images), labels)
        else:  # in one pass, so that batch norm sees both
            fine, coarse = self(torch.cat([images, batch["coarse_image"]])).float().split(len(images))
            loss = self._cross_entropy(fine, labels) + self.settings.coarse_weight * super_resolution_loss(
                coarse.softmax(1), batch["coarse_mask"], self.shares
            )
        if not torch.isfinite(loss):
            raise TrainingError(f"step {batch_idx}: the loss is not a finite number; lower learning_rate")
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW; its rate rises for a twentieth of the steps, then falls to zero as half a cosine."""
        steps = self.settings.steps
        rise = max(1, steps // _WARM_UP)

        def share(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            return 0.5 + 0.5 * math.cos(math.pi * (step - rise + 1) / max(1, steps - rise + 1))

        optimizer = torch.optim.AdamW(self.parameters(), lr=self.settings.learning_rate)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        logits = logits.float()
        if not (labels < logits.shape[1]).any():  # a mean over no pixel
            return logits.sum() * 0
        loss: Tensor = self.criterion(logits, labels)
        return loss


# --- What happens around the steps of a segmenter's training: progress and checkpoints.

Progress = Callable[[int, int], None]

_log = logging.getLogger(__name__)


class Watch(Callback):
    """Tells of each step, and now and then keeps a checkpoint to go on from.

    Args:
        path: of the checkpoint.
        key: what decides the training's result; kept in the checkpoint.
        steps: to do.
        minutes: between checkpoints.
        seconds: that earlier runs of the training took.
        progress: told steps done and steps to do.
    """

    def __init__(
        self, path: Path, key: dict[str, Any], steps: int, minutes: float, seconds: float, progress: Progress
    ) -> None:
        self.path, self.key, self.steps, self.minutes, self.progress = path, key, steps, minutes, progress
        self.started = time.monotonic() - seconds
        self.saved = time.monotonic()

    @property
    def seconds(self) -> float:
        """Of the training so far, with earlier runs."""
        return time.monotonic() - self.started

    def on_save_checkpoint(self, trainer: Trainer, task: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep what the next run must agree with."""
        checkpoint["geosynth"] = {"key": self.key, "seconds": self.seconds}

    def on_train_batch_end(
        self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell; save if it is time."""
        self.progress(trainer.global_step, self.steps)
        if (time.monotonic() - self.saved) / 60 >= self.minutes:
            partial = self.path.with_name(self.path.name + ".partial")
            try:
                with writing(self.path, RuntimeError):
                    trainer.save_checkpoint(partial)
                    partial.replace(self.path)
            finally:
                with suppress(OSError):
                    partial.unlink()
            self.saved = time.monotonic()


def resume_from(path: Path, key: dict[str, Any]) -> tuple[int, float] | None:
    """Steps done and seconds taken in an interrupted training; None, and no file, if it is not to be gone on with."""
    if not path.exists():
        return None
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        kept = checkpoint["geosynth"]
        found = int(checkpoint["global_step"]), float(kept["seconds"])
        known = kept["key"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError):
        known, found = None, (0, 0.0)
    if known == key:
        return found
    _log.warning("%s: unfinished work with other settings or data is thrown away; starting afresh", path)
    path.unlink()
    return None


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
        "data": opened.digest,
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
    card = SegmenterCard(
        settings=settings,
        legend=opened.sources[0].legend,
        bands=bands,
        gsd=opened.sources[0].gsd,
        provenance=provenance,
    )
    save_segmenter(model_path, network, card)
    started = time.monotonic()
    # The file is what is tested: its weights are rounded.
    places = _test(load_segmenter(model_path, best_device()), opened)
    total = sum(places, Confusion(card.legend.num_classes))
    miou = miou_estimate(places, settings.seed)
    report = SegmentReport(
        miou=total.miou(),
        miou_low=miou.low,
        miou_high=miou.high,
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
        data=opened.digest,
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
