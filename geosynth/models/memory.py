"""Running out of memory, on any device, as Python's own error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# The processor's allocator has no error class of its own.
_CPU_WORDS = ("DefaultCPUAllocator", "can't allocate memory", "not enough memory")


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
