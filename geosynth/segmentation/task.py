"""The Lightning task: TorchGeo's, with a schedule by steps and, if asked for, the loss of coarse labels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

try:  # TorchGeo 0.10 on Python 3.12 and newer
    from torchgeo.tasks import SemanticSegmentation
except ImportError:  # 0.8
    from torchgeo.trainers import SemanticSegmentationTask as SemanticSegmentation

from geosynth.config import SegmentSettings
from geosynth.errors import SettingsError, TrainingError
from geosynth.models.super_resolution import CoarseShares, super_resolution_loss

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
