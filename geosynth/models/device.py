"""The processor's memory: running out of it as Python's own error, and not paying for it twice."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.util import find_spec

import torch

# --- Which device and which number format to compute in.


def best_device() -> str:
    """Where training runs: "cuda", the first GPU, if there is one, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def uses_bfloat16(precision: str, device: str) -> bool:
    """Whether convolutions run in bfloat16.

    Args:
        precision: "bf16", "fp32", or "auto": bfloat16 where the hardware is fast at it.
        device: "cpu", "cuda", "cuda:1", ...
    """
    if precision != "auto":
        return precision == "bf16"
    if torch.device(device).type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # not public: older torch has none
    return probe is not None and bool(probe())


def product_type(weight: torch.Tensor) -> torch.dtype:
    """What products with a weight are made in: its own type, or that of autocast where it is on."""
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


@lru_cache(maxsize=8)
def has_kernels(device: torch.device | str) -> bool:
    """Whether the kernels of `geosynth.models.kernels` run there: on an NVIDIA GPU, with Triton."""
    if torch.device(device).type != "cuda" or not torch.cuda.is_available() or find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (7, 0)


def full_float32() -> None:
    """Let float32 mean float32, from now on in this process: by default cuDNN's convolutions take TF32 instead.

    TF32 keeps 10 of the 23 bits of a float32's fraction.
    """
    torch.backends.cudnn.allow_tf32 = False


# The processor's allocator has no error class of its own.
_CPU_WORDS = ("DefaultCPUAllocator", "can't allocate memory", "not enough memory")
# Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@contextmanager
def plain_memory_error() -> Iterator[None]:
    """Turn torch's errors for exhausted memory, of the processor or of an accelerator, into `MemoryError`.

    Raises:
        MemoryError: one line: torch's own, which says how much was asked for.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or any(word in str(error) for word in _CPU_WORDS):
            raise MemoryError(str(error).strip().split("\n")[0]) from error
        raise


def keep_freed_memory() -> None:
    """Let this process reuse the memory of large tensors instead of returning it to the system each time.

    With glibc each tensor beyond 32 MiB is mapped anew, and touching its pages for the first time costs more than the
    arithmetic on it. Elsewhere this does nothing. The process then keeps up to 2 GiB that it has freed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no glibc
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
