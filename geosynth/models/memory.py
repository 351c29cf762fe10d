"""The processor's memory: running out of it as Python's own error, and not paying for it twice."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

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
