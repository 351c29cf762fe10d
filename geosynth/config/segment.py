"""Everything `segment` may be told beside its data and its output."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from geosynth.config.base import Settings

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
        synthetic_tiles: how many tiles of the twin are added; None for all. See `geosynth.segmentation.mixture`.
        pool_tiles: among how many train tiles both are chosen; None for all of the fold.
        subset_seed: of the choice; None for `seed`.
        augment: of train tiles. "flips": flips and quarter turns. "flips+colour": also contrast and brightness, one
            change for all bands of an image. See `geosynth.segmentation.augment`.
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
