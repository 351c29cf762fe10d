"""On which device and in which numbers networks compute."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from geosynth.errors import CheckpointError, counted, first_line, is_out_of_memory
from geosynth.parallel import after_fork


def choose_device(device: str = "auto") -> str:
    """The device that a user's choice means in this process: "cpu", "cuda", "cuda:1", ...

    Args:
        device: "auto" is a GPU if there is one, else "cpu". "cuda" is the first GPU; workers of a Dask cluster are
            distributed over the GPUs of their machine, by the number at the end of their name. Anything else is
            returned unchanged.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    worker = _number_of_worker()
    if device != "cuda" or worker is None or (count := torch.cuda.device_count()) < 2:
        return device
    return f"cuda:{worker % count}"


def _number_of_worker() -> int | None:
    """Number of the Dask worker whose task this thread does; None if there is none, or if dask-cuda assigns GPUs."""
    distributed = sys.modules.get("distributed")  # a process that has not imported it is no worker
    if distributed is None or "dask_cuda" in sys.modules:  # which puts each worker's GPU first
        return None
    try:
        digits = re.search(r"\d+$", str(distributed.get_worker().name))
    except ValueError:
        return None
    return int(digits[0]) if digits else 0


class _NoDraws(TorchFunctionMode):
    """Skips random numbers: for tensors without values torch would import its compiler, which takes a second."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if function is Tensor.normal_ else function(*args, **(kwargs or {}))


def survive_forks() -> None:
    """Let processes that are forked from now on compute, with one thread each; call it before torch computes here."""
    after_fork(_with_one_thread)


def _with_one_thread() -> None:
    torch.set_num_threads(1)


@contextmanager
def without_weights() -> Iterator[None]:
    """A context in which new modules get weights without memory or random numbers, as these are replaced at once."""
    survive_forks()  # a network is about to compute
    with torch.device("meta"), _NoDraws():
        yield


def uses_bfloat16(precision: str, device: str) -> bool:
    """Whether convolutions run in bfloat16.

    Args:
        precision: "bf16", "fp32", or "auto": bfloat16 if the hardware computes it fast.
        device: as for `choose_device`.
    """
    if precision != "auto":
        return precision == "bf16"
    place = torch.device(choose_device(device))
    if place.type == "cuda":  # by the rule of torch.cuda.is_bf16_supported, which asks the current GPU only
        has_any = torch.cuda.is_available()
        return has_any and (torch.version.hip is not None or torch.cuda.get_device_capability(place) >= (8, 0))
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # not public: older torch has none
    return probe is not None and bool(probe())


def product_type(weight: Tensor) -> torch.dtype:
    """The type of products with a weight: the weight's own, or that of autocast if it is on."""
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


@lru_cache(maxsize=8)
def has_kernels(device: torch.device | str) -> bool:
    """Whether the kernels of `geosynth.models` can run on a device: a GPU that is not too old, with Triton."""
    if torch.device(device).type != "cuda" or not torch.cuda.is_available() or find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (7, 0)


Submit = Callable[..., Future[Any]]


def call_now(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """As `Executor.submit`, but the function is called at once, in the caller's thread; its errors are raised."""
    future: Future[Any] = Future()
    future.set_result(function(*arguments))
    return future


@contextmanager
def side_by_side(count: int) -> Iterator[Submit]:
    """`Executor.submit` of `count` threads, each with its share of torch's threads; `call_now` for one.

    When the context ends, calls that have not begun are dropped.
    """
    threads = torch.get_num_threads()
    if min(count, threads) == 1:
        yield call_now
        return
    pool = ThreadPoolExecutor(count, "geosynth-network", torch.set_num_threads, (threads // count,))
    try:
        yield pool.submit
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # also applies to threads that start later


_DEVICES = "auto, cpu, cuda and cuda:1 are"
_KINDS = ("cpu", "cuda")  # of devices; AMD's GPUs are "cuda" too. Apple's, for one, lack float64 and pinned memory


@contextmanager
def plain_device_error(device: str) -> Iterator[None]:
    """A context that turns torch's errors for an unusable device into one line.

    Args:
        device: as for `choose_device`.

    Raises:
        CheckpointError: instead of what torch raises; and for a device on which geosynth does not compute.
    """

    def refused(why: str) -> CheckpointError:
        return CheckpointError(f"{device!r} cannot be used: {why}", setting="device")

    try:
        place = torch.device(choose_device(device))
    except (RuntimeError, TypeError) as error:  # torch names its 22 kinds of device
        raise refused(f"it is none; {_DEVICES}") from error
    if place.type not in _KINDS:
        raise refused(f"geosynth does not compute on {place.type}; {_DEVICES}")
    count = torch.cuda.device_count() if place.type == "cuda" else 0
    if place.index is not None and 0 < count <= place.index:
        raise refused(f"this machine has {counted(count, 'GPU')}, the first is cuda:0")
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        raise refused(first_line(error)[:200]) from error


@contextmanager
def plain_memory_error() -> Iterator[None]:
    """A context that turns torch's errors for exhausted memory, of the CPU or an accelerator, into `MemoryError`.

    Raises:
        MemoryError: one line, torch's own, which says how much was requested.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or is_out_of_memory(error):
            raise MemoryError(first_line(error)) from error
        raise
