"""Going on with an interrupted training: what its checkpoint must agree with."""

from __future__ import annotations

import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from geosynth.config import TrainSettings
from geosynth.errors import CheckpointError, DataError, SettingsError, TrainingError
from geosynth.legend import Legend
from geosynth.raster.stores.source import PatchSource
from geosynth.training.records import Records, preview_grid, writing
from geosynth.training.replicas import agreed
from geosynth.training.step import SpadeTask

# --- What happens around the steps: learning rates, progress, checkpoints, records, interruption, the end.

# (steps done, steps to do, seconds that remain by the estimate)
TrainProgress = Callable[[int, int, float], None]


def share_done(settings: TrainSettings, steps: int, seconds: float) -> float:
    """How much of a training is over (0..1), by steps or by time, whichever is further."""
    by_time = seconds / settings.max_time if settings.max_time else 0.0
    return min(1.0, max(steps / settings.steps, by_time))


class Watch(Callback):
    """The callback of `train`. On several devices all have one, with the clock and the interruptions of the first.

    Args:
        settings: of the training.
        data: what to keep in checkpoints of the data, as plain values.
        out: folder for checkpoints and records.
        legend: of the previews.
        progress: told after each step.
    """

    STATE_KEY = "_Watch"  # names its state in checkpoints
    state_key = STATE_KEY

    def __init__(
        self, settings: TrainSettings, data: dict[str, Any], out: Path, legend: Legend, progress: TrainProgress
    ) -> None:
        self.settings = settings
        self.data = data
        self.out = out
        self.legend = legend
        self.progress = progress
        self.seconds = 0.0  # of training, with those of interrupted runs
        self.interrupted = False
        self.is_between_steps = False
        self.records: Records | None = None
        self.rates = (0.0, 0.0)
        self.sums: dict[str, float] = {}  # of losses, since the last line of metrics

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
        if trainer.is_global_zero:
            self.records = Records(self.out, task.steps_done)
        self.started = self.saved = time.monotonic()
        self.first_seconds, self.first_step = self.seconds, task.steps_done
        self.logged_seconds, self.logged_step = self.seconds, task.steps_done

    def on_train_batch_start(self, trainer: Trainer, task: LightningModule, batch: Any, batch_idx: int) -> None:
        """Set the learning rates."""
        assert isinstance(task, SpadeTask)
        self.is_between_steps = False
        self.rates = task.set_rates(share_done(self.settings, task.steps_done, self.seconds))

    def on_train_batch_end(
        self, trainer: Trainer, task: LightningModule, outputs: Any, batch: dict[str, torch.Tensor], batch_idx: int
    ) -> None:
        """Tell, record, save and show what is due; end the training when it is over or interrupted."""
        assert isinstance(task, SpadeTask)
        now = time.monotonic()
        run_seconds, minutes, interrupted = agreed(
            now - self.started, (now - self.saved) / 60, float(self.interrupted), device=task.device
        )
        self.seconds = self.first_seconds + run_seconds
        self.is_between_steps = True
        settings, done = self.settings, task.steps_done
        share = share_done(settings, done, self.seconds)
        self._record(task, last=share >= 1)
        self.progress(min(done, settings.steps), settings.steps, self._left(done, run_seconds))
        if share >= 1:
            trainer.should_stop = True
        if done % settings.save_every == 0 or minutes >= settings.save_minutes or share >= 1:
            if not _is_finite(task):
                raise TrainingError(f"step {done}: weights are no longer finite; lower the learning rates")
            self._save(trainer)
        if settings.preview_every and (done % settings.preview_every == 0 or share >= 1):
            grid = preview_grid(task, batch, self.legend)
            if self.records:
                self.records.show(done, grid)
        if interrupted:
            raise KeyboardInterrupt

    def on_exception(self, trainer: Trainer, task: LightningModule, exception: BaseException) -> None:
        """Keep what an interrupted run has done, if the networks are not in the middle of a step."""
        if isinstance(exception, KeyboardInterrupt) and self.is_between_steps and _is_finite(task):
            self._save(trainer)

    def teardown(self, trainer: Trainer, task: LightningModule, stage: str) -> None:
        """Close what is open."""
        if self.records:
            self.records.close()

    def _left(self, done: int, run_seconds: float) -> float:
        settings = self.settings
        by_steps = (settings.steps - done) * run_seconds / (done - self.first_step)
        by_time = settings.max_time - self.seconds if settings.max_time else float("inf")
        return max(0.0, min(by_steps, by_time))

    def _record(self, task: SpadeTask, *, last: bool) -> None:
        """Add up losses; write their means when it is time."""
        for name, value in task.losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        done = task.steps_done
        if done % self.settings.log_every and not last:
            return
        count = done - self.logged_step
        values = {f"loss/{name}": value / count for name, value in self.sums.items()}
        values |= dict(zip(("rate/generator", "rate/discriminator"), self.rates, strict=True))
        passed = max(self.seconds - self.logged_seconds, 1e-9)
        values |= {"images_per_second": count * self.settings.batch_size / passed, "seconds": self.seconds}
        if self.records:
            self.records.add(done, values)
        self.sums, self.logged_seconds, self.logged_step = {}, self.seconds, done

    def _save(self, trainer: Trainer) -> None:
        """All devices together; the first writes."""
        path = self.out / "last.ckpt"
        partial = path.with_name("last.ckpt.partial")
        try:
            with writing(path):
                trainer.save_checkpoint(partial)
                if trainer.is_global_zero:
                    partial.replace(path)
        finally:
            if trainer.is_global_zero:
                with suppress(OSError):
                    partial.unlink()
        self.saved = time.monotonic()


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


# Between the runs of one training: how long, on how many devices, and what is written on the way.
_MAY_CHANGE = {
    *("steps", "max_time", "devices", "workers", "save_every", "save_minutes", "preview_every", "log_every"),
}
_OTHER_DATA = {
    "scenes": "on other scenes",
    "areas": "on other areas of the fold",
    "legend": "on another legend",
    "bands": "on other bands",
    "dtype": "on imagery of another type",
    "grid": "on another grid or another pixel size",
    "pixels": "on other pixels",
    "initial": "from another initial model",
}


def data_record(sources: Sequence[PatchSource], fold: str) -> dict[str, Any]:
    """What the model learns from, as plain values; sources of equal records may stand in for each other."""
    facts = [source.facts(fold) for source in sources]
    return {"fold": fold, **{topic: [one[topic] for one in facts] for topic in facts[0]}}


def read_checkpoint(path: Path, settings: TrainSettings, data: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint of an interrupted training, after checking that it had the same settings and data.

    Args:
        path: of `last.ckpt`.
        settings: of now.
        data: `data_record` of now.

    Raises:
        CheckpointError: if the file is damaged.
        SettingsError: if settings or the fold differ.
        DataError: if the data differ.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        seconds_in(checkpoint)
        kept = checkpoint["geosynth"]
        then, data_then = dict(kept["settings"]), dict(kept["data"])
        kept["steps"], checkpoint["state_dict"]
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: not a training checkpoint; delete it to train afresh") from error
    now = settings.model_dump(mode="json")
    for name in now.keys() - _MAY_CHANGE:
        if name not in then or then[name] != now[name]:
            raise SettingsError(
                f"{path}: was trained with {name}={then.get(name)}, not {now[name]}; choose another folder"
            )
    if data_then["fold"] != data["fold"]:
        raise SettingsError(
            f"{path}: was trained with fold={data_then['fold']}, not {data['fold']}; choose another folder"
        )
    for name, what in _OTHER_DATA.items():
        if data_then.get(name) != data.get(name):
            raise DataError(f"{path}: was trained {what}; choose another folder")
    return checkpoint


def steps_in(checkpoint: dict[str, Any]) -> int:
    """Steps done."""
    return int(checkpoint["geosynth"]["steps"])


def seconds_in(checkpoint: dict[str, Any]) -> float:
    """Seconds of training."""
    return float(checkpoint["callbacks"][Watch.STATE_KEY]["seconds"])


def check_networks(path: Path, checkpoint: dict[str, Any], task: SpadeTask) -> None:
    """Refuse a checkpoint whose weights are not those of the task's networks, by name and shape.

    Raises:
        CheckpointError: one line, where torch would list each weight.
    """
    then = {name: getattr(value, "shape", None) for name, value in checkpoint["state_dict"].items()}
    if then != {name: value.shape for name, value in task.state_dict().items()}:
        raise CheckpointError(f"{path}: holds networks for other data or settings; choose another folder")
