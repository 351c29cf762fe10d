"""Settings of the whole process that are on only while networks compute: exact float32, and memory that is kept."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch


class _ProcessSetting:
    """A setting of the whole process that is on while at least one context is open, in any thread.

    Args:
        switch_on: turns it on, and returns a function that turns it off again.
    """

    def __init__(self, switch_on: Callable[[], Callable[[], object]]) -> None:
        self._switch_on = switch_on
        self._lock = threading.Lock()
        self._open = 0

    @property
    def is_on(self) -> bool:
        """Whether a context is open."""
        return self._open > 0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._open:
                self._switch_off = self._switch_on()
            self._open += 1
        try:
            yield
        finally:
            with self._lock:
                self._open -= 1
                if not self._open:
                    self._switch_off()


def _exact_convolutions() -> Callable[[], object]:
    place: Any = torch.backends.cudnn
    name, exact = "allow_tf32", cast(Any, False)
    try:
        before = place.allow_tf32
    except RuntimeError:  # torch from 2.9 on, if the process sets it for each operation
        place, name, exact = place.conv, "fp32_precision", "ieee"
        before = place.fp32_precision
    setattr(place, name, exact)
    return lambda: setattr(place, name, before)


# Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4

# Dask sets this for each worker that it starts, so it is not the user's choice.
_OF_DASK = ("MALLOC_TRIM_THRESHOLD_", "65536")


def _own_allocator() -> Callable[[], object]:
    chosen = any(name.startswith("MALLOC_") and (name, value) != _OF_DASK for name, value in os.environ.items())
    if chosen or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):  # by the user
        return lambda: None
    try:
        library = ctypes.CDLL(None)
        mallopt, malloc_trim = library.mallopt, library.malloc_trim
    except (AttributeError, OSError, TypeError):  # no glibc
        return lambda: None
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)

    def give_back() -> None:
        # The values that glibc itself reaches in a process that has freed a large block.
        mallopt(_M_MMAP_MAX, 65536)
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, int(os.environ.get(_OF_DASK[0], 64 << 20)))
        malloc_trim(0)

    return give_back


full_float32 = _ProcessSetting(_exact_convolutions)
"""Context in which float32 means float32: by default cuDNN's convolutions use TF32 instead, which keeps 10 of the 23
bits of the fraction."""

keep_freed_memory = _ProcessSetting(_own_allocator)
"""Context in which the memory of large tensors is used again instead of being returned to the system each time.

With glibc, memory for each tensor beyond 32 MiB is mapped again, and the first access to its pages takes longer than
the arithmetic. In this context, the process keeps up to 2 GiB that it has freed. Without glibc, or if the environment
sets the allocator, this does nothing."""
