"""The networks: generator, style encoder, discriminator."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from geosynth.config.base import Settings


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
    def reference(cls, num_classes: int, num_bands: int, *, crop_size: int | None = 256, **changes: Any) -> Self:
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

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """The window (pixels) that is painted for labels of this size: the next multiples of `stride`.

        With the linear start, which knows one size only, the next multiple of `crop_size`.
        """
        step = self.stride if self.crop_size is None else self.crop_size
        return _round_up(height, step), _round_up(width, step)

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

        Fine levels need far less of it, see `margins`.
        """
        return self.margins[self.stride]

    @property
    def margins(self) -> dict[int, int]:
        """Per stride of a level: the pixels beyond a window that this level and finer ones read; multiples of it.

        Follows the network backwards from the last convolution. Each 3x3 convolution widens the need by one cell; a
        modulation reads labels two cells away (two 3x3 convolutions).
        """
        features = 1  # conv_img
        margins: dict[int, int] = {}
        for stage in reversed(self.stages):
            features = _round_up(features, stage.stride) + 2 * stage.stride  # conv_1, conv_0
            margins[stage.stride] = features + 2 * stage.stride  # norm_0 lies behind both
        start = features + self.stride
        return {**margins, self.stride: max(margins[self.stride], start)}


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


class EncoderSettings(Settings):
    """The VAE encoder that reads a style z from an image (Park et al. 2019, section "image encoder").

    Attributes:
        num_bands: bands of the image.
        base_width: channels after the first convolution (the reference uses 64).
        latent_size: length of z (the reference uses 256).
        num_layers: stride-2 convolutions; the reference has six for crops from 256 px on, else five.
    """

    num_bands: int = Field(ge=1)
    base_width: int = Field(64, ge=1)
    latent_size: int = Field(64, ge=1)
    num_layers: Literal[5, 6] = 6


class DiscriminatorSettings(Settings):
    """Multi-scale patch discriminator (pix2pixHD, Park et al. 2019)."""

    num_classes: int = Field(ge=1)
    num_bands: int = Field(ge=1)
    base_width: int = Field(64, ge=1)
    num_scales: int = Field(2, ge=1)


class OasisSettings(Settings):
    """Segmentation discriminator (OASIS, Schoenfeld et al. 2021).

    Attributes:
        num_classes: classes in the legend; the network tells one more, "fake".
        num_bands: bands of the image.
        base_width: channels at full resolution (the paper uses 64).
        num_levels: halvings on the way down (the paper uses 6, for crops of 256 px).
    """

    num_classes: int = Field(ge=1)
    num_bands: int = Field(ge=1)
    base_width: int = Field(64, ge=1)
    num_levels: int = Field(6, ge=1, le=6)
