"""Which device and which number format to compute in."""

from __future__ import annotations

import torch


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


def full_float32() -> None:
    """Let float32 mean float32, from now on in this process: by default cuDNN's convolutions take TF32 instead.

    TF32 keeps 10 of the 23 bits of a float32's fraction.
    """
    torch.backends.cudnn.allow_tf32 = False
