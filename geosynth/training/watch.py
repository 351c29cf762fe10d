"""What happens around the steps: learning rates, progress, checkpoints, previews, interruption, the end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from geosynth.config import BandSettings, TrainSettings
from geosynth.errors import TrainingError
from geosynth.training.preview import write_preview
from geosynth.training.task import SpadeTask
from geosynth.training.writing import writing

# (steps done, steps to do, seconds that remain by the estimate)
TrainProgress = Callable[[int, int, float], None]

_SAVE_EVERY = 100


def share_done(settings: TrainSettings, steps: int, seconds: float) -> float:
    """How much of a training is over (0..1), by steps or by time, whichever is further."""
    by_time = seconds / (settings.max_hours * 3600) if settings.max_hours else 0.0
    return min(1.0, max(steps / settings.steps, by_time))


class Watch(Callback):
    """The callback of `train`.

    Args:
        settings: of the training.
        data: what to keep in checkpoints of the data, as plain values.
        out: folder for checkpoints and previews.
        bands: of the previews.
        progress: told after each step.
    """

    STATE_KEY = "_Watch"  # names its state in checkpoints
    state_key = STATE_KEY

    def __init__(
        self,
        settings: TrainSettings,
        data: dict[str, Any],
        out: Path,
        bands: BandSettings,
        progress: TrainProgress,
    ) -> None:
        self.settings = settings
        self.data = data
        self.out = out
        self.bands = bands
        self.progress = progress
        self.seconds = 0.0  # of training, with those of interrupted runs
        self.interrupted = False
        self.is_between_steps = False

    def state_dict(self) -> dict[str, Any]:
        """What goes into the checkpoint."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        self.seconds = state_dict["seconds"]

    def on_save_checkpoint(self, trainer: Trainer, task: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep what the data were, for whoever goes on."""
        checkpoint.setdefault("geosynth", {})["data"] = self.data

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        """Start the clock."""
        assert isinstance(task, SpadeTask)
        self.started = time.monotonic()
        self.first_seconds, self.first_step = self.seconds, int(task.steps_done)

    def on_train_batch_start(self, trainer: Trainer, task: LightningModule, batch: Any, batch_idx: int) -> None:
        """Set the learning rates."""
        assert isinstance(task, SpadeTask)
        self.is_between_steps = False
        task.set_rates(share_done(self.settings, int(task.steps_done), self.seconds))

    def on_train_batch_end(
        self, trainer: Trainer, task: LightningModule, outputs: Any, batch: dict[str, torch.Tensor], batch_idx: int
    ) -> None:
        """Tell, save and show what is due; end the training when it is over or interrupted."""
        assert isinstance(task, SpadeTask)
        run_seconds = time.monotonic() - self.started
        self.seconds = self.first_seconds + run_seconds
        self.is_between_steps = True
        done = int(task.steps_done)
        share = share_done(self.settings, done, self.seconds)
        left = min(
            (self.settings.steps - done) * run_seconds / (done - self.first_step),
            self.settings.max_hours * 3600 - self.seconds if self.settings.max_hours else float("inf"),
        )
        self.progress(min(done, self.settings.steps), self.settings.steps, max(0.0, left))
        if share >= 1:
            trainer.should_stop = True
        if done % _SAVE_EVERY == 0 or share >= 1:
            if not _is_finite(task):
                raise TrainingError(f"step {done}: weights are no longer finite; lower the learning rates")
            self._save(trainer)
        if self.settings.preview_every and (done % self.settings.preview_every == 0 or share >= 1):
            write_preview(task, batch, self.bands, self.out / "previews" / f"{done:06d}.png")
        if self.interrupted:
            raise KeyboardInterrupt

    def on_exception(self, trainer: Trainer, task: LightningModule, exception: BaseException) -> None:
        """Keep what an interrupted run has done, if the networks are not in the middle of a step."""
        if isinstance(exception, KeyboardInterrupt) and self.is_between_steps and _is_finite(task):
            self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        path = self.out / "last.ckpt"
        partial = path.with_name("last.ckpt.partial")
        try:
            with writing(path):
                trainer.save_checkpoint(partial)
                partial.replace(path)
        finally:
            with suppress(OSError):
                partial.unlink()


@contextmanager
def interruptible(watch: Watch) -> Iterator[None]:
    """Ctrl-C lets the step end, is followed by a checkpoint, and comes out as `KeyboardInterrupt`.

    Ctrl-C again does not wait for the step's end. Where the caller has a handler of SIGINT, that one is left in charge.
    """
    in_charge = threading.current_thread() is threading.main_thread()  # others may not set handlers
    earlier = signal.getsignal(signal.SIGINT)

    def interrupt(signum: int, frame: FrameType | None) -> None:
        if watch.interrupted:
            raise KeyboardInterrupt
        watch.interrupted = True

    if in_charge and earlier is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except SystemExit as error:  # what Lightning makes of KeyboardInterrupt, after it has switched SIGINT off
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise
    finally:
        if in_charge and earlier is not None:
            signal.signal(signal.SIGINT, earlier)
    if watch.interrupted:  # after the last step
        raise KeyboardInterrupt


def _is_finite(task: LightningModule) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in task.state_dict().values())
