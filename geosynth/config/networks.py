"""Settings of the networks: generator, style encoder, discriminators."""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from geosynth.config.base import Settings
from geosynth.errors import SettingsError


class StageSpec(NamedTuple):
    """One residual block of the generator."""

    name: str
    """Name in the reference implementation."""
    in_channels: int
    out_channels: int
    stride: int
    """Side of one of its feature cells, in pixels of the image."""


Depth = Literal["less", "normal", "more", "most"]

# Per depth: the strides of head_0, G_middle_0, G_middle_1, then of up_0, up_1, ... (Park et al. 2019: "normal" has five
# doublings, "more" one between the middle blocks, "most" one more at the end; "less" is ours: none after head_0).
_STRIDES: dict[Depth, tuple[int, ...]] = {
    "less": (16, 16, 16, 8, 4, 2, 1),
    "normal": (32, 16, 16, 8, 4, 2, 1),
    "more": (64, 32, 16, 8, 4, 2, 1),
    "most": (128, 64, 32, 16, 8, 4, 2, 1),
}


def stride_of(depth: Depth) -> int:
    """Side of a feature cell at the start of a generator, in pixels of the image."""
    return _STRIDES[depth][0]


REGION_SIDE = 96  # pixels; a wider connected region has several looks; a multiple of the side of a style's cell
EDGE_SIDE = 32  # pixels around a style's cell, in which labels decide whether it is at an edge; likewise
_NAMES = ("head_0", "G_middle_0", "G_middle_1", "up_0", "up_1", "up_2", "up_3", "up_4")


class GeneratorSettings(Settings):
    """The SPADE generator."""

    num_classes: int = Field(ge=1, le=254)
    """Number of classes in the legend, nodata not counted."""
    num_bands: int = Field(ge=1, le=4096)
    """Number of bands of the image."""
    base_width: int = Field(default=64, ge=2, le=4096)
    """Channels at full resolution ("ngf" of the reference implementation)."""
    max_multiple: int = Field(default=16, ge=1, le=16)
    """The coarse blocks have at most this many times `base_width` channels (reference: 16)."""
    hidden_channels: int = Field(default=128, ge=1, le=4096)
    """Channels of the hidden layer inside each modulation (reference: 128)."""
    depth: Depth = "normal"
    """How often the resolution doubles: "less" is four times; the others are named as in the reference."""
    start: Literal["convolution", "linear"] = "convolution"
    """How the coarsest features are made.

    "convolution" makes them from labels, latent and noise by a 3x3 convolution: shift-equivariant, so without seams.
    "linear" is the start of the reference, for one `crop_size` only.
    """
    latent_size: int = Field(default=64, ge=0, le=4096)
    """Length of the style vector z; 0 for none."""
    noise_channels: int = Field(default=16, ge=0, le=4096)
    """Number of noise maps that enter at the start."""
    stage_noise: bool = True
    """Whether a noise map enters in each block, with a strength learned for each class and channel."""
    padding: Literal["replicate", "zeros"] = "replicate"
    """Padding of convolutions beyond the window.

    "zeros" (the reference) shows the network where a crop ends; "replicate" does not.
    """
    crop_size: int | None = Field(default=None, ge=1, le=1 << 16)
    """Side of the training crops in pixels; only for the linear start."""
    style_lengths: tuple[int, ...] = ()
    """For each class, the pixels over which its look is even; empty for a generator not conditioned on looks."""
    style_width: int = Field(default=16, ge=1, le=4096)
    """Length of the vector by which the layers get the look of a class."""
    style_regions: tuple[int, ...] = ()
    """Class indices of the classes whose connected regions, such as roofs, have one look each."""
    style_gradual: tuple[int, ...] = ()
    """Class indices of the classes, such as water, whose look changes gradually from place to place. In all others, it
    changes from one object to the next, as from field to field.
    """

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
            if self.style_lengths:
                raise SettingsError("looks of classes need the convolutional start", setting="style_lengths")
            if self.latent_size == 0:
                raise SettingsError("must be 1 or more for the linear start", setting="latent_size")
            if self.crop_size is None or self.crop_size % self.stride:
                raise SettingsError(f"must be a multiple of {self.stride} for the linear start", setting="crop_size")
            if self.noise_channels:
                raise SettingsError(
                    "must be 0 for the linear start, which has no place for them", setting="noise_channels"
                )
        elif self.crop_size is not None:
            raise SettingsError("belongs to the linear start only", setting="crop_size")
        if self.style_lengths and (len(self.style_lengths) != self.num_classes or min(self.style_lengths) < 1):
            what = f"one length (pixels) for each of the {self.num_classes} classes"
            raise SettingsError(what, setting="style_lengths")
        count = len(self.style_lengths)
        for name, classes in (("style_regions", self.style_regions), ("style_gradual", self.style_gradual)):
            if len(set(classes)) < len(classes) or not set(classes) <= set(range(count)):
                what = f"places in the legend, from 0, below {count}, the number of style_lengths, each once"
                raise SettingsError(what, setting=name)
        return self

    @model_serializer(mode="wrap")
    def _leave_out_absent_looks(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out settings of absent looks, as files always have: equal models are equal files."""
        values: dict[str, Any] = dump(self)
        absent = [name for name in values if name.startswith("style_") and not self.style_lengths]
        absent += [name for name in ("style_regions", "style_gradual") if not values[name]]
        return {name: value for name, value in values.items() if name not in absent}

    @property
    def mosaic(self) -> Literal["exact", "blend"]:
        """How windows are joined unless a user chooses, see `GenerateSettings.mosaic`."""
        return "blend" if self.start == "linear" else "exact"

    @property
    def look_side(self) -> int:
        """Pixels around the network's window within which labels still affect its looks."""
        return 0 if not self.style_lengths else REGION_SIDE if self.style_regions else EDGE_SIDE

    @property
    def stride(self) -> int:
        """Side of a feature cell at the start, in pixels of the image; windows are aligned to this lattice."""
        return stride_of(self.depth)

    @property
    def drift_length(self) -> int:
        """Default distance in metres over which a style drifts to another one; 0 for one style everywhere.

        With the linear start, windows agree best if all have one style. Looks drift faster than other styles: in scenes
        of the embedded model, adjacent tiles of 154 m differ nearly as much as distant ones.
        """
        return 0 if self.start == "linear" else 256 if self.style_lengths else 2048

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width, in pixels, of the window that is painted for labels of this size.

        They are the next multiples of `stride`, or with the linear start, which has only one size, of `crop_size`.
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
        """Pixels beyond a window (on the `stride` lattice) that the network reads to paint it.

        Fine levels need far fewer, see `margins`. Looks depend on another `look_side` pixels.
        """
        return self.margins[self.stride]

    @property
    def margins(self) -> dict[int, int]:
        """By stride of a level, the pixels beyond a window that this level and finer ones read.

        Follows the network backwards from the last convolution. Each 3x3 convolution adds one cell; a modulation reads
        labels two cells away (two 3x3 convolutions).
        """
        features = 1  # conv_img
        margins: dict[int, int] = {}
        for stage in reversed(self.stages):
            features = _round_up(features, stage.stride) + 2 * stage.stride  # conv_1, conv_0
            margins[stage.stride] = features + 2 * stage.stride  # norm_0 comes before both
        start = features + self.stride
        return {**margins, self.stride: max(margins[self.stride], start)}


def check_look_name(name: str) -> None:
    """Refuse a text that cannot be the name of a look, which is a part of tensors' names in model files.

    Raises:
        SettingsError: one line.
    """
    if not re.fullmatch(r"[\w-]+", name):
        raise SettingsError(f"a look's name consists of letters, digits, - and _; got {name!r}")


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


class EncoderSettings(Settings):
    """The VAE encoder that reads a style z from an image (Park et al. 2019, section "image encoder")."""

    num_bands: int = Field(ge=1, le=4096)
    """Number of bands of the image."""
    base_width: int = Field(default=64, ge=1, le=4096)
    """Channels after the first convolution (reference: 64)."""
    latent_size: int = Field(default=64, ge=1, le=4096)
    """Length of z (reference: 256)."""
    num_layers: Literal[5, 6] = 6
    """Number of convolutions with stride 2 (reference: 6 for crops from 256 px on, else 5)."""


class DiscriminatorSettings(Settings):
    """The multi-scale patch discriminator (pix2pixHD; Park et al. 2019)."""

    num_classes: int = Field(ge=1)
    """Number of classes in the legend, nodata not counted."""
    num_bands: int = Field(ge=1, le=4096)
    """Number of bands of the image."""
    base_width: int = Field(default=64, ge=1, le=4096)
    """Channels after the first convolution (reference: 64)."""
    num_scales: int = Field(default=2, ge=1, le=8)
    """Number of discriminators, each of which sees the image at half the resolution of the previous one."""


class OasisSettings(Settings):
    """The discriminator that segments (OASIS, Schoenfeld et al. 2021)."""

    num_classes: int = Field(ge=1)
    """Number of classes in the legend; the network has one more, "fake"."""
    num_bands: int = Field(ge=1, le=4096)
    """Number of bands of the image."""
    base_width: int = Field(default=64, ge=1, le=4096)
    """Channels at full resolution (paper: 64)."""
    num_levels: int = Field(default=6, ge=1, le=6)
    """How often the resolution is halved on the way down (paper: 6, for crops of 256 px)."""
