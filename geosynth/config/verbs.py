"""Everything `segment` may be told beside its data and its output."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from geosynth.config.base import Settings

# --- Everything `generate` may be told beside its inputs and its output.

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


# --- Everything `evaluate` may be told beside its inputs and its output.


class EvaluateSettings(Settings):
    """Everything `evaluate` may be told beside its inputs and its output.

    Attributes:
        tile_size: pixels; side of the tiles for distances, spectra and intervals. A multiple of 4, 32 to 4096.
        block_size: pixels; side of the blocks that a synthetic raster was made of, for the seam score.
        seed: of intervals, draws of tiles, pictures, and the first twin where a model paints them.
        features: also compare the features of a network (EfficientNet-Lite0, offline), which takes most of the time.
        inception: FID and KID too: a file of the weights that torch-fidelity uses, or "download" to fetch them.
        max_tiles: of each set of tiles, drawn at random where there are more: bounds memory and time of distances
            between features.
        latents: number of twins with different latents that a model paints; 2 or more give the diversity.
        device: that networks run on: "cpu", "cuda", ...
    """

    tile_size: int = Field(256, ge=32, le=4096, multiple_of=4)
    block_size: int = Field(1024, ge=2)
    seed: int = Field(0, ge=0, lt=2**63)
    features: bool = True
    inception: str | None = None
    max_tiles: int = Field(5000, ge=2)
    latents: int = Field(2, ge=1, le=16)
    device: str = "cpu"


_STRIDE = 32  # of the encoders: their coarsest features


class SegmentSettings(Settings):
    """Everything `segment` may be told beside its data and its output. Defaults suit a small model on a CPU.

    Attributes:
        encoder: of the U-Net, by its name in segmentation_models_pytorch.
        weights: of the encoder at the start: "none" (random), "imagenet" (downloaded), or a local file of ImageNet
            weights (.pth or .safetensors).
        tile_size: side of train and test tiles, pixels.
        stride: pixels from one train tile to the next; None for tiles side by side. Test tiles never overlap.
        max_nodata: share of a tile's pixels that may have no data; they count neither in training nor in the test.
        crop_size: side of a random part of each train tile that a step sees; None for whole tiles.
        real_tiles: how many train tiles are real; None for all.
        synthetic_tiles: how many tiles of the twin are added; None for all. See `geosynth.segmentation.data`.
        pool_tiles: among how many train tiles both are chosen; None for all of the fold.
        subset_seed: of the choice; None for `seed`.
        augment: of train tiles. "flips": flips and quarter turns. "flips+colour": also contrast and brightness, one
            change for all bands of an image. See `geosynth.segmentation.data`.
        coarse: name of a map of the store with coarse classes, from which further train tiles teach (label
            super-resolution); None for none.
        coarse_tiles: how many such tiles; None for all of the pool that are not real train tiles.
        coarse_weight: of their loss beside the cross-entropy (Robinson et al. 2019: 1/40).
        steps: updates of the network.
        batch_size: tiles a step; with `coarse` as many coarse ones again.
        learning_rate: AdamW's, at its height: it rises for a twentieth of the steps, then falls as a cosine.
        precision: "bf16" computes in 16 bit, "fp32" in float32; "auto" chooses by the processor.
        seed: of weights, order of tiles, crops and augmentation.
        save_minutes: minutes of training between checkpoints.
    """

    encoder: str = Field("resnet18", min_length=1)
    weights: str = Field("none", min_length=1)
    tile_size: int = Field(256, ge=_STRIDE, multiple_of=_STRIDE)
    stride: int | None = Field(None, ge=1)
    max_nodata: float = Field(0.5, ge=0, lt=1)
    crop_size: int | None = Field(None, ge=_STRIDE, multiple_of=_STRIDE)
    real_tiles: int | None = Field(None, ge=0)
    synthetic_tiles: int | None = Field(0, ge=0)
    pool_tiles: int | None = Field(None, ge=1)
    subset_seed: int | None = Field(None, ge=0, lt=2**62)
    augment: Literal["none", "flips", "flips+colour"] = "none"
    coarse: str | None = None
    coarse_tiles: int | None = Field(None, ge=1)
    coarse_weight: float = Field(1 / 40, gt=0)
    steps: int = Field(1000, ge=1, lt=2**31)
    batch_size: int = Field(8, ge=2)  # batch norm needs two
    learning_rate: float = Field(1e-3, gt=0)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    seed: int = Field(0, ge=0, lt=2**62)
    save_minutes: float = Field(5.0, gt=0)

    @model_validator(mode="after")
    def _check_parts_that_meet(self) -> Self:
        if self.crop_size is not None and self.crop_size > self.tile_size:
            raise ValueError(f"crop_size {self.crop_size} is larger than tile_size {self.tile_size}")
        if self.coarse is not None and self.real_tiles == 0:
            raise ValueError("coarse needs real_tiles: they tell which classes lie under a coarse one")
        return self
