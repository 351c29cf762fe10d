"""Everything `generate` may be told beside its inputs and its output."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from geosynth.config.base import Settings

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def _parse_memory(value: Any) -> Any:
    """Bytes of "4GB", "512 MiB", "2G" or "1.5e9"; other than text passes."""
    if not isinstance(value, str):
        return value
    text = value.strip().upper()
    number = text.rstrip("BKMGTI ")
    try:
        return int(float(number) * _UNITS[text[len(number) :].strip()])
    except (KeyError, ValueError):
        raise ValueError('say a number of bytes, as in "4GB" or "512MiB"') from None


Memory = Annotated[int, BeforeValidator(_parse_memory), Field(gt=0)]


class GenerateSettings(Settings):
    """Everything `generate` may be told beside its inputs and its output.

    Attributes:
        seed: of styles and noise; with the pixel's absolute position it fixes every pixel.
        mosaic: how windows are joined. "exact": no pixel depends on the cutting; for the convolutional start. "blend":
            overlapping windows, weighted; for the linear start too. None: by the model's start.
        overlap: of windows in blend mode, pixels.
        block_size: pixels; side of what is read, painted, written and, after an interruption, kept as one. The network
            sees cells of 512 px or less.
        max_memory: of the process, such as "4GB"; chooses the block size instead. None for no limit.
        style_length: metres over which the style drifts to another one (pixels where a raster has no metres); 0 keeps
            one style. None: 2048, or 0 for a model with the linear start.
        precision: as in `TrainSettings`.
        device: "cpu", "cuda", "cuda:1", ...
        compress: of the GeoTIFF.
    """

    seed: int = Field(0, ge=0, lt=2**63)
    mosaic: Literal["exact", "blend"] | None = None
    overlap: int = Field(64, ge=0)
    block_size: int = Field(1024, ge=128, multiple_of=128)
    max_memory: Memory | None = None
    style_length: float | None = Field(None, ge=0, allow_inf_nan=False)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    device: str = "cpu"
    compress: Literal["deflate", "zstd", "lzw"] = "deflate"
