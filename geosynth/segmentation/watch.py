"""What happens around the steps of a segmenter's training: progress and checkpoints."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from geosynth.outputs import writing

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
