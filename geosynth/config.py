"""Settings: frozen, validated, free of torch. They travel inside checkpoints as JSON and come back equal.

A settings object holds what a user may choose; what follows from the choice (strides, channel counts, the halo) is a
property, so that it cannot disagree.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from geosynth.errors import SettingsError

ArrayLike = TypeVar("ArrayLike", bound=Any)  # a numpy array or a torch tensor: this room imports neither


class Settings(BaseModel):
    """Base of all settings: immutable, no unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Build from plain values (JSON, YAML, command line).

        Raises:
            SettingsError: one line naming the first offending setting.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError(_first_line(cls.__name__, error)) from error


def _first_line(owner: str, error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or owner
    return f"{owner}: {where}: {first['msg']} (got {first['input']!r})"


class StageSpec(NamedTuple):
    """One residual block of the generator. Widths are channel counts; `stride` is full-resolution pixels per cell."""

    name: str
    in_channels: int
    out_channels: int
    stride: int


Depth = Literal["less", "normal", "more", "most"]

# Per depth: the strides of head_0, G_middle_0, G_middle_1, then of up_0, up_1, ... (Park et al. 2019: "normal" has five
# doublings, "more" one between the middle blocks, "most" one more at the end; "less" is ours: none after head_0).
_STRIDES: dict[Depth, tuple[int, ...]] = {
    "less": (16, 16, 16, 8, 4, 2, 1),
    "normal": (32, 16, 16, 8, 4, 2, 1),
    "more": (64, 32, 16, 8, 4, 2, 1),
    "most": (128, 64, 32, 16, 8, 4, 2, 1),
}
_NAMES = ("head_0", "G_middle_0", "G_middle_1", "up_0", "up_1", "up_2", "up_3", "up_4")


class GeneratorSettings(Settings):
    """The SPADE generator.

    Attributes:
        num_classes: classes in the legend (nodata not counted).
        num_bands: bands of the image.
        base_width: "ngf" of the reference: channels at full resolution.
        max_multiple: cap on the channel multiple of the coarse blocks (the reference uses 16).
        hidden_channels: channels of the hidden layer inside each modulation (the reference uses 128).
        depth: number of doublings, by the reference's names, and "less" (four).
        start: "convolution" reads labels, latent and noise through a 3x3 convolution: shift-equivariant, hence free of
            seams. "linear" is the reference start, tied to one `crop_size`.
        latent_size: length of the style vector z; 0 for none.
        noise_channels: noise maps that enter at the start.
        stage_noise: one noise map a block, with a learned strength per class and channel.
        padding: what convolutions see outside the window. "zeros" (the reference) tells the network where a crop
            ends; "replicate" does not.
        crop_size: pixels; only for the linear start.
    """

    num_classes: int = Field(ge=1, le=254)
    num_bands: int = Field(ge=1)
    base_width: int = Field(64, ge=2)
    max_multiple: int = Field(16, ge=1, le=16)
    hidden_channels: int = Field(128, ge=1)
    depth: Depth = "normal"
    start: Literal["convolution", "linear"] = "convolution"
    latent_size: int = Field(64, ge=0)
    noise_channels: int = Field(16, ge=0)
    stage_noise: bool = True
    padding: Literal["replicate", "zeros"] = "replicate"
    crop_size: int | None = Field(None, ge=1)

    @classmethod
    def reference(cls, num_classes: int, num_bands: int, *, crop_size: int = 256, **changes: Any) -> Self:
        """The generator of Park et al. 2019 with the VAE: linear start, zero padding, no spatial noise."""
        values: dict[str, Any] = {
            "start": "linear",
            "latent_size": 256,
            "noise_channels": 0,
            "stage_noise": False,
            "padding": "zeros",
        }
        return cls.parse(
            {"num_classes": num_classes, "num_bands": num_bands, "crop_size": crop_size, **values, **changes}
        )

    @model_validator(mode="after")
    def _check_start(self) -> Self:
        if self.start == "linear":
            if self.latent_size == 0:
                raise ValueError("the linear start needs a latent: set latent_size > 0")
            if self.crop_size is None or self.crop_size % self.stride:
                raise ValueError(f"the linear start needs a crop_size that is a multiple of {self.stride}")
            if self.noise_channels:
                raise ValueError("noise_channels enter through the convolutional start: set them to 0")
        elif self.crop_size is not None:
            raise ValueError("crop_size belongs to the linear start only")
        return self

    @property
    def stride(self) -> int:
        """Full-resolution pixels per cell of the start: windows lie on this lattice."""
        return _STRIDES[self.depth][0]

    @property
    def stages(self) -> tuple[StageSpec, ...]:
        """The residual blocks in order, coarse to fine."""
        strides = _STRIDES[self.depth]
        # Output multiples of base_width: 16 up to the middle blocks, then halved by each up block ("most" ends at 1/2).
        multiples = [16.0, 16.0, 16.0, 8.0, 4.0, 2.0, 1.0, 0.5][: len(strides)]
        widths = [int(min(multiple, self.max_multiple) * self.base_width) for multiple in multiples]
        inputs = [widths[0], *widths[:-1]]
        return tuple(StageSpec(*spec) for spec in zip(_NAMES, inputs, widths, strides, strict=False))

    @property
    def halo(self) -> int:
        """Context in pixels beyond a window (on the `stride` lattice) outside which nothing can change its pixels.

        Follows the network backwards from the last convolution. Each 3x3 convolution widens the need by one cell; a
        modulation reads labels two cells away (two 3x3 convolutions).
        """
        features = 1  # conv_img
        labels = features
        for stage in reversed(self.stages):
            features = _round_up(features, stage.stride) + 2 * stage.stride  # conv_1, conv_0
            labels = max(labels, features + 2 * stage.stride)  # norm_0 lies behind both
        start = _round_up(features, self.stride) + self.stride
        return _round_up(max(labels, start), self.stride)


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


class EncoderSettings(Settings):
    """The VAE encoder that reads a style z from an image (Park et al. 2019, section "image encoder")."""

    num_bands: int = Field(ge=1)
    base_width: int = Field(64, ge=1)
    latent_size: int = Field(64, ge=1)


class DiscriminatorSettings(Settings):
    """Multi-scale patch discriminator (pix2pixHD, Park et al. 2019)."""

    num_classes: int = Field(ge=1)
    num_bands: int = Field(ge=1)
    base_width: int = Field(64, ge=1)
    num_scales: int = Field(2, ge=1)


class BandSettings(Settings):
    """What the generator's output channels mean.

    Attributes:
        names: one a band, as in `("red", "green", "blue", "nir")`.
        low, high: raster values that correspond to -1 and 1 in the network.
        dtype: of the raster.
    """

    names: tuple[str, ...] = Field(min_length=1)
    low: float = 0.0
    high: float = 255.0
    dtype: Literal["uint8"] = "uint8"

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if not self.low < self.high:
            raise ValueError("low must be less than high")
        return self

    def to_network(self, values: ArrayLike) -> ArrayLike:
        """Raster values (a float array or tensor) scaled to [-1, 1]."""
        scaled: ArrayLike = (values - self.low) * (2 / (self.high - self.low)) - 1
        return scaled

    def from_network(self, values: ArrayLike) -> ArrayLike:
        """The inverse of `to_network`; rounding and casting to `dtype` are left to the writer."""
        scaled: ArrayLike = (values + 1) * ((self.high - self.low) / 2) + self.low
        return scaled


class TrainSettings(Settings):
    """Everything `train` may be told. Defaults suit a small model on a CPU.

    Attributes:
        steps: generator updates.
        max_hours: end earlier when this much time has passed; None for no limit.
        batch_size, crop_size: patches a step, and their side in pixels (the style encoder halves it six times).
        base_width .. noise_channels: see `GeneratorSettings`.
        encoder_width, discriminator_width, num_scales: see the settings of those networks.
        generator_rate, discriminator_rate: Adam learning rates (TTUR); betas (0, 0.9).
        kl_weight: of the VAE's Kullback-Leibler term, summed over dimensions, averaged over the batch.
        feature_weight: of feature matching, averaged over scales.
        mean_weight: of the L1 distance between 8 x 8 block means of real and fake: holds colours where they belong.
        ema_decay: of the running average of the generator that is shipped.
        decay_from: share of the training after which learning rates fall linearly to zero.
        precision: "bf16" runs convolutions in bfloat16, "fp32" all in float32, "auto" chooses by the processor.
        seed: of weights, patches and noise.
        preview_every: steps between picture grids; 0 for none.
    """

    steps: int = Field(1000, ge=1, lt=2**31)
    max_hours: float | None = Field(None, gt=0)
    batch_size: int = Field(8, ge=1)
    crop_size: int = Field(128, ge=64)
    base_width: int = Field(24, ge=2)
    max_multiple: int = Field(16, ge=1, le=16)
    hidden_channels: int = Field(64, ge=1)
    depth: Depth = "less"
    latent_size: int = Field(64, ge=1)
    noise_channels: int = Field(16, ge=0)
    encoder_width: int = Field(32, ge=1)
    discriminator_width: int = Field(48, ge=1)
    num_scales: int = Field(2, ge=1)
    generator_rate: float = Field(1e-4, gt=0)
    discriminator_rate: float = Field(4e-4, gt=0)
    kl_weight: float = Field(0.05, ge=0)
    feature_weight: float = Field(10.0, ge=0)
    mean_weight: float = Field(5.0, ge=0)
    ema_decay: float = Field(0.999, ge=0, lt=1)
    decay_from: float = Field(0.5, ge=0, le=1)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    seed: int = Field(0, ge=0, lt=2**62)
    preview_every: int = Field(200, ge=0)

    def generator(self, num_classes: int, num_bands: int) -> GeneratorSettings:
        """The generator that these settings ask for."""
        shared = self.model_dump(
            include={"base_width", "max_multiple", "hidden_channels", "depth", "latent_size", "noise_channels"}
        )
        return GeneratorSettings(num_classes=num_classes, num_bands=num_bands, **shared)

    @model_validator(mode="after")
    def _check_crop(self) -> Self:
        stride = _STRIDES[self.depth][0]
        if self.crop_size % stride:
            raise ValueError(f"crop_size must be a multiple of {stride} for depth {self.depth!r}")
        return self


class GenerateSettings(Settings):
    """Everything `generate` may be told beside its inputs and its output.

    Attributes:
        seed: of styles and noise; with the pixel's absolute position it fixes every pixel.
        block_size: pixels; side of the windows that go through the network (without halo).
        style_length: pixels over which the style drifts to another one; 0 keeps one style.
        precision: as in `TrainSettings`.
        device: "cpu", "cuda", "cuda:1", ...
        compress: of the GeoTIFF.
    """

    seed: int = Field(0, ge=0, lt=2**63)
    block_size: int = Field(1024, ge=128, multiple_of=128)
    style_length: int = Field(2048, ge=0)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    device: str = "cpu"
    compress: Literal["deflate", "zstd", "lzw"] = "deflate"
