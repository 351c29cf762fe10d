"""What the training loops of generators and segmenters share: device, clock, Ctrl-C, checkpoints, losses.

A loop that can be interrupted, and then continues from its checkpoint, reads:

    fabric = open_fabric(settings.precision, choose_device())
    earlier = Checkpoint.load(path)
    with Loop(path, job, fabric, steps, save_minutes=10, resume=earlier, progress=progress) as loop:
        for batch in loop.until_over(batches):
            losses.add(loop.done + 1, learn(batch))
            loop.end_step()
            loop.tell()
            if loop.is_save_due:
                losses.settle()
                loop.save(network, optimizer=optimizer.state_dict())
"""

from __future__ import annotations

import logging
import math
import pickle
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins import ClusterEnvironment, MixedPrecision, Precision
from torch import Tensor, nn

from geosynth.errors import CheckpointError, TrainingError
from geosynth.files import replacing
from geosynth.models.device import plain_memory_error, survive_forks, uses_bfloat16
from geosynth.progress import StepProgress, silent

_Item = TypeVar("_Item")
_FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_LARGEST_LOSS = 1e6  # beyond this, a training has diverged
_FINISHERS = 4  # threads; a single one draws slower than a GPU learns


def open_fabric(precision: str, device: str, devices: int = 1, environment: ClusterEnvironment | None = None) -> Fabric:
    """Lightning Fabric, ready to use.

    Args:
        precision: as in `number_format`.
        device: "cpu", "cuda", "cuda:1", ...
        devices: number of processes that train together, each on its own GPU if the device is one.
        environment: which of them this is, and where they meet; not needed by a single one.
    """
    survive_forks()
    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    dtype, place = number_format(precision, device), torch.device(device)
    if dtype == torch.float32:
        torch.backends.cudnn.allow_tf32 = False  # else cuDNN's convolutions would use TF32, with 10 bits of fraction
        plugin = Precision()
    else:
        # As a plugin, because by name Fabric would replace float16 by bfloat16 on a CPU.
        plugin = MixedPrecision("16-mixed" if dtype == torch.float16 else "bf16-mixed", place.type)
    fabric = Fabric(
        accelerator=place.type,
        devices=devices if place.index is None or devices > 1 else [place.index],
        strategy="ddp" if devices > 1 else "auto",
        plugins=[plugin, *([environment] if environment else [])],
    )
    fabric.launch()
    return fabric


def number_format(precision: str, device: str) -> torch.dtype:
    """The type in which convolutions are computed.

    Args:
        precision: "bf16", "fp16", "fp32", or "auto": bfloat16 if the hardware computes it fast, else float16 on a GPU
            and float32 on a CPU.
        device: "cpu", "cuda", "cuda:1", ...
    """
    if precision != "auto":
        return _FORMATS[precision]
    if uses_bfloat16("auto", device):
        return torch.bfloat16
    return torch.float16 if torch.device(device).type == "cuda" else torch.float32


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training between two steps."""

    job: dict[str, Any]
    """Plain values on which the result depends, such as settings and data; to continue, they must be the same."""
    steps: int
    """Number of finished steps."""
    seconds: float
    """Time that they took, over all runs."""
    network: dict[str, Tensor]
    """Weights and buffers by name."""
    others: dict[str, Any]
    """Everything else that is needed to continue: nested plain values and tensors."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file written by `save`; tensors stay in the file until they are used.

        Raises:
            CheckpointError: if it is damaged, or not a checkpoint. No code in it is run.
        """
        try:
            values = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            steps, seconds = int(values["steps"]), float(values["seconds"])
            return cls(dict(values["job"]), steps, seconds, dict(values["network"]), dict(values["others"]))
        except (OSError, RuntimeError, EOFError, LookupError, TypeError, ValueError, pickle.UnpicklingError) as error:
            raise CheckpointError(f"{path}: not a training checkpoint; delete it to train afresh") from error

    def save(self, path: Path) -> None:
        """Write the checkpoint under a temporary name, then rename it.

        Raises:
            OutputError: if it cannot be written.
            MemoryError: if memory runs out.
        """
        # torch's writer raises RuntimeErrors; with a file opened by Python, its error with the cause is behind them.
        with replacing(path, RuntimeError) as partial, plain_memory_error(), partial.open("wb") as file:
            torch.save(vars(self), file)


class Loop:
    """Counts the steps of a training, over all its runs, and says what is due after each.

    Inside `with`, Ctrl-C lets the current step end; a checkpoint is due, then `KeyboardInterrupt` is raised. A second
    Ctrl-C does not wait for the end of the step. If the caller has its own handler of SIGINT, that remains in charge.

    On several devices each process has a loop, with the clock and the interruptions of the first.

    Args:
        path: of the checkpoint.
        job: see `Checkpoint`.
        fabric: of the processes that train together.
        steps: number of steps, including those of earlier runs.
        max_time: seconds, including those of earlier runs, after which to end earlier; None for no limit.
        save_every: steps between checkpoints; None to save only by the clock.
        save_minutes: also save when this many minutes have passed since the last checkpoint.
        resume: checkpoint of an earlier run; None to start.
        progress: called after each step, only in the first process.

    Attributes:
        done: number of finished steps.
        seconds: time of training so far.
    """

    def __init__(
        self,
        path: Path,
        job: dict[str, Any],
        fabric: Fabric,
        steps: int,
        *,
        save_minutes: float,
        save_every: int | None = None,
        max_time: float | None = None,
        resume: Checkpoint | None = None,
        progress: StepProgress = silent,
    ) -> None:
        self.path, self.job, self.fabric, self.steps, self.progress = path, job, fabric, steps, progress
        self.save_minutes, self.save_every, self.max_time = save_minutes, save_every, max_time
        self.done, self.seconds = (resume.steps, resume.seconds) if resume else (0, 0.0)
        self.is_interrupted = self.is_save_due = False
        self._is_stop_asked = False  # by Ctrl-C; takes effect at the end of a step, followed by a checkpoint
        self._earlier_steps, self._earlier_seconds = self.done, self.seconds

    def __enter__(self) -> Self:
        self._handler = signal.getsignal(signal.SIGINT)
        in_charge = threading.current_thread() is threading.main_thread()  # only it may set handlers
        if in_charge and self._handler is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._interrupt)
        self._started = self._saved = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if signal.getsignal(signal.SIGINT) == self._interrupt:
            signal.signal(signal.SIGINT, self._handler)
        if isinstance(error, TrainingError) and self.path.exists():
            raise TrainingError(f"{error}; {self.path} is kept") from error
        if error is None and (self.is_interrupted or self._is_stop_asked):
            raise KeyboardInterrupt

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self._is_stop_asked:
            raise KeyboardInterrupt
        self._is_stop_asked = True

    @property
    def share(self) -> float:
        """The share of the training that is over, 0 to 1, by steps or by time, whichever is larger."""
        by_time = self.seconds / self.max_time if self.max_time else 0.0
        return min(1.0, max(self.done / self.steps, by_time))

    @property
    def is_finished(self) -> bool:
        """Whether all steps are done or the time is over."""
        return self.share >= 1

    def until_over(self, batches: Iterable[_Item]) -> Iterator[_Item]:
        """Batches, until the training is finished or interrupted."""
        if self.is_finished:
            return
        for batch in batches:
            yield batch
            if self.is_finished or self.is_interrupted:
                return

    def end_step(self) -> None:
        """Count a step. All processes must call this together."""
        now = time.monotonic()
        own = (now - self._started, (now - self._saved) / 60, self._is_stop_asked)
        seconds, minutes, self.is_interrupted = self.fabric.broadcast(own)
        self.done, self.seconds = self.done + 1, self._earlier_seconds + seconds
        by_steps = self.save_every is not None and self.done % self.save_every == 0
        self.is_save_due = by_steps or minutes >= self.save_minutes or self.is_finished or self.is_interrupted

    def tell(self) -> None:
        """Report the progress. A `KeyboardInterrupt` from the callback interrupts the training as Ctrl-C does."""
        left = self._seconds_left()
        try:
            self.progress(min(self.done, self.steps), self._steps_until_over(left), left)
        except KeyboardInterrupt:
            self.is_interrupted = self.is_save_due = True

    def save(self, network: nn.Module, **others: Any) -> None:
        """Write the checkpoint, in the first process.

        Args:
            network: everything that is trained.
            others: see `Checkpoint`.

        Raises:
            TrainingError: if a weight is not finite, since a checkpoint must be usable. An interrupted training then
                just saves nothing.
            OutputError: if it cannot be written.
        """
        if not is_finite(network):
            if self.is_interrupted:
                return
            raise TrainingError(f"step {self.done}: weights are no longer finite; lower the learning rates")
        if self.fabric.is_global_zero:
            Checkpoint(self.job, self.done, self.seconds, network.state_dict(), others).save(self.path)
        self._saved = time.monotonic()

    def _steps_until_over(self, seconds_left: float) -> int:
        """All steps; if the time will end the training before, those that will be done by then."""
        if self.is_finished:
            return min(self.done, self.steps)
        if not self.max_time or not self._seconds_of_step:
            return self.steps
        return min(self.steps, self.done + math.ceil(seconds_left / self._seconds_of_step))

    @property
    def _seconds_of_step(self) -> float:
        """Their mean in this run."""
        return (self.seconds - self._earlier_seconds) / max(1, self.done - self._earlier_steps)

    def _seconds_left(self) -> float:
        if self.is_finished:
            return 0.0
        by_steps = (self.steps - self.done) * self._seconds_of_step
        by_time = self.max_time - self.seconds if self.max_time else math.inf
        return max(0.0, min(by_steps, by_time))


@torch.no_grad()
def is_finite(network: nn.Module) -> bool:
    """Whether no weight or buffer is NaN or infinite."""
    return bool(torch.stack([value.isfinite().all() for value in network.state_dict().values()]).all())


class LossHistory:
    """The losses of steps, on a GPU read one step late, so that the host need not wait.

    Args:
        advice: for the error message: what to do about a loss that is not finite.
    """

    def __init__(self, advice: str) -> None:
        self.advice = advice
        self._unread: deque[tuple[int, tuple[str, ...], Tensor, torch.cuda.Event | None]] = deque()
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, step: int, losses: Mapping[str, Tensor]) -> None:
        """Add the losses of a step, by name, each a tensor with one value.

        Raises:
            TrainingError: if a loss of the previous step, or on a CPU of this one, is not finite or above 1e6.
        """
        values = torch.stack([value.detach().float() for value in losses.values()])
        event = None
        if values.is_cuda:
            values = values.to("cpu", non_blocking=True)  # to pinned memory
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self._unread.append((step, tuple(losses), values, event))
        while len(self._unread) > int(event is not None):
            self._read()

    def settle(self) -> None:
        """Wait for all losses.

        Raises:
            TrainingError: as `add`.
        """
        while self._unread:
            self._read()

    def means(self) -> dict[str, float]:
        """Mean losses over the steps since the last call, by name; waits, and raises, as `settle`."""
        self.settle()
        means = {name: value / self._count for name, value in self._sums.items()}
        self._sums, self._count = {}, 0
        return means

    def _read(self) -> None:
        step, names, values, event = self._unread.popleft()
        if event is not None:
            event.synchronize()
        for name, value in zip(names, values.tolist(), strict=True):
            if not math.isfinite(value) or abs(value) > _LARGEST_LOSS:
                raise TrainingError(f"step {step}: loss {name!r} is {value:.3g}; {self.advice}")
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1


def made_ahead(
    items: Iterable[Any], device: torch.device, finish: Callable[[Any], Any] = lambda item: item
) -> Iterator[Any]:
    """The items in their order, each after `finish`; for a GPU, ahead of time, while earlier ones are in use.

    Then one thread takes the items and several finish them, each with one of torch's threads. For a CPU nothing is made
    ahead, as it would slow down the step.
    """
    if device.type == "cpu":
        yield from map(finish, items)
        return
    iterator, end, threads = iter(items), object(), torch.get_num_threads()
    with (
        ThreadPoolExecutor(1, "geosynth-items") as taking,
        ThreadPoolExecutor(_FINISHERS, "geosynth-finish", torch.set_num_threads, (1,)) as finishing,
    ):

        def begin() -> Future[Any]:
            coming = taking.submit(next, iterator, end)
            return finishing.submit(lambda: end if (item := coming.result()) is end else finish(item))

        try:
            waiting = deque(begin() for _ in range(_FINISHERS))
            while (item := waiting.popleft().result()) is not end:
                waiting.append(begin())
                yield item
        finally:
            torch.set_num_threads(threads)  # also applies to threads that start later
