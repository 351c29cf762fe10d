"""Trying kernels before they are used: whether their results equal those of the plain form."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from geosynth.errors import first_line
from geosynth.models.process_settings import full_float32

_LOG = logging.getLogger(__name__)


class KernelTrials:
    """Which kernels give the same as the plain form: each is tried on a small input before it is used.

    After the first that fails or differs, there is one warning, and no kernel is used any more in this process.

    Attributes:
        problem: what was wrong with that kernel; "" if none has failed.
    """

    def __init__(self) -> None:
        self._passed: set[Hashable] = set()
        self.problem = ""

    def passed(
        self, key: Hashable, kernel: Callable[[], Tensor], plain: Callable[[], Tensor], tolerance: float = 1e-3
    ) -> bool:
        """Whether a kernel may be used.

        Args:
            key: of the kernel and its use: device, types, sizes. Each is tried once, which waits for the device.
            kernel: returns the kernel's result for the small input.
            plain: returns the correct result.
            tolerance: largest difference, relative to the largest value, or to 1 if that is larger.
        """
        if self.problem or key in self._passed:
            return not self.problem
        with torch.no_grad(), full_float32():
            expected = plain().float()
            try:
                difference = float((kernel().float() - expected).abs().max() / expected.abs().max().clamp(min=1))
                self.problem = "" if difference <= tolerance else f"its result differs by {difference:.2g}"
            except Exception as error:  # from a compiler or driver; whatever it is, the plain form works
                self.problem = first_line(error)
        if self.problem:
            _LOG.warning("GPU kernels are not used, painting is slower: %s", self.problem)
        else:
            self._passed.add(key)
        return not self.problem


kernel_trials = KernelTrials()
"""The trials of this process."""
