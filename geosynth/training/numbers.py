"""Number formats of a training: what convolutions run in, and the scale that keeps float16 gradients from vanishing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from geosynth.models.precision import full_float32, uses_bfloat16

_FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


def number_format(precision: str, device: str) -> torch.dtype:
    """What convolutions run in: as asked for, or what the hardware is fast at.

    Args:
        precision: "bf16", "fp16", "fp32", or "auto": bfloat16 where the hardware is fast at it, else float16 on a GPU
            and float32 on a CPU.
        device: "cpu", "cuda", "cuda:1", ...
    """
    if precision != "auto":
        return _FORMATS[precision]
    if uses_bfloat16("auto", device):
        return torch.bfloat16
    return torch.float16 if torch.device(device).type == "cuda" else torch.float32


class Numbers:
    """Automatic mixed precision for two networks that train side by side.

    Both optimisers step after both backward passes, with one scale for both; Lightning's own would change the scale in
    between.

    Args:
        precision: as in `number_format`.
        device: where the networks are.
    """

    def __init__(self, precision: str, device: torch.device) -> None:
        self.device_type = device.type
        self.dtype = number_format(precision, str(device))
        if self.dtype == torch.float32:
            full_float32()
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)

    def autocast(self) -> torch.autocast:
        """The context of the forward pass."""
        return torch.autocast(self.device_type, self.dtype, enabled=self.dtype != torch.float32)

    def backward(self, loss: Tensor, parameters: Sequence[nn.Parameter], *, keep_graph: bool = False) -> None:
        """Add the loss's gradients to those of `parameters`, and to no others."""
        torch.autograd.backward(self.scaler.scale(loss), inputs=parameters, retain_graph=keep_graph)

    def step(self, optimisers: Iterable[torch.optim.Optimizer]) -> None:
        """Step each; in float16, leave out one whose gradients overflowed, and lower the scale."""
        for optimiser in optimisers:
            self.scaler.step(optimiser)
            optimiser.zero_grad()
        self.scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """What goes into the checkpoint."""
        return self.scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of `state_dict`; that of another format is passed over."""
        if state and self.scaler.is_enabled():
            self.scaler.load_state_dict(state)
