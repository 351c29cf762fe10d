"""Settings of `train`, and presets with their costs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Field, model_validator

from geosynth.config.base import Duration, FileName, Settings, read_yaml
from geosynth.config.networks import Depth, GeneratorSettings, check_look_name, stride_of
from geosynth.errors import SettingsError


class Cost(NamedTuple):
    """What a training costs."""

    memory: float
    """Peak memory in GiB, of the process, or of its tensors on the GPU."""
    seconds_per_step: float


class Preset(NamedTuple):
    """A named choice of settings.

    Costs were measured by `python benchmarks/training.py --preset NAME [--device cuda]`, without the perceptual loss;
    None if they were not.
    """

    purpose: str
    values: dict[str, Any]
    """The settings that differ from the defaults."""
    parameters: int
    """Number of weights of generator, style encoder and discriminator together, for 6 classes and 4 bands."""
    on_core: Cost | None = None
    """On one core of an AMD EPYC with AVX512-BF16, shared with other work."""
    on_gpu: Cost | None = None
    """On an NVIDIA H100, with the code before training was recorded and replayed; not measured since."""


PRESETS: dict[str, Preset] = {
    "tiny": Preset(
        "to see that everything works",
        {
            "steps": 1000,
            "batch_size": 4,
            "base_width": 8,
            "hidden_channels": 32,
            "latent_size": 32,
            "noise_channels": 8,
            "encoder_width": 16,
            "discriminator_width": 24,
        },
        3_086_782,
        on_core=Cost(1.1, 0.34),
    ),
    "small": Preset(
        "a CPU and a few hours; the defaults",
        {"steps": 10_000},
        19_120_702,
        on_core=Cost(1.9, 1.66),
        on_gpu=Cost(1.1, 0.145),
    ),
    "base": Preset(
        "one GPU and a day",
        {
            "steps": 100_000,
            "batch_size": 16,
            "crop_size": 256,
            "depth": "normal",
            "base_width": 64,
            "hidden_channels": 128,
            "encoder_width": 64,
            "discriminator_width": 64,
            "ema_decay": 0.9999,
            "preview_every": 2000,
            "log_every": 100,
        },
        105_775_430,
        on_gpu=Cost(14.6, 0.188),
    ),
    "adapt": Preset(
        "a new place from 1 to 8 labelled tiles, in minutes; goes on from --init, or the embedded model",
        {
            "init": "chesapeake-small",
            "steps": 300,
            "max_time": 900,
            "batch_size": 8,
            "crop_size": 128,
            "class_balance": 0.3,
            "turn": False,
            "look_name": ("adapted",),
            "colour_change": 0.25,
            "prior_share": 0.375,
            "discriminator_width": 32,
            "projected_weight": 1.0,
            "feature_weight": 2.0,
            "perceptual_weight": 0.5,
            "mean_weight": 2.0,
            "style_weight": 2.0,
            "augment": 0.5,
            "learn": "styles",
            "style_rate": 3.0,
            "head_start": 0.15,
            "keep_norms": True,
            "warmup": 0.05,
            "decay_from": 0.6,
            "ema_decay": 0.99,
            "preview_every": 300,  # once, at the end
        },
        9_152_454,
    ),
    "reference": Preset(
        "SPADE with the VAE as in Park et al. 2019; needs VGG19 (a download)",
        {
            "steps": 100_000,
            "batch_size": 16,
            "crop_size": 256,
            "depth": "normal",
            "start": "linear",
            "padding": "zeros",
            "stage_noise": False,
            "noise_channels": 0,
            "base_width": 64,
            "hidden_channels": 128,
            "latent_size": 256,
            "encoder_width": 64,
            "discriminator_width": 64,
            "prior_share": 0.0,
            "mean_weight": 0.0,
            "perceptual_weight": 10.0,
            "perceptual_source": "vgg19",
            "ema_decay": 0.9999,
            "preview_every": 2000,
            "log_every": 100,
        },
        124_942_470,
    ),
}


def _one_or_several(names: Any) -> Any:
    return (names,) if isinstance(names, str) else names


class TrainSettings(Settings):
    """All settings of `train`. Defaults suit a small model on a CPU."""

    init: FileName | None = None
    """A model file, or the name of the embedded model, whose generator and encoder are trained further.

    The settings of these networks are then the model's. None starts from random weights.
    """
    steps: int = Field(default=1000, ge=1, lt=2**31)
    """Number of updates of the generator."""
    max_time: Duration | None = None
    """Time after which to end earlier: seconds, or text such as "90m" or "1h30m"; None for no limit.

    Learning rates then follow the clock, too, so that they are lowest at the end.
    """
    batch_size: int = Field(default=8, ge=1, le=1 << 16)
    """Patches per step, over all devices and parts."""
    parts: int = Field(default=1, ge=1, le=1 << 16)
    """Number of parts in which a device processes its share of the batch, one after the other (gradient accumulation).

    More parts take less memory and more time.
    """
    crop_size: int = Field(default=128, ge=64, le=1 << 16)
    """Side of a patch in pixels."""
    class_balance: float = Field(default=0.0, ge=0, le=1)
    """To what extent patches are drawn by class instead of by area.

    At 0 all places are equally likely; at 1 all classes are (a class is drawn, then a pixel of it, then a patch that
    contains it). In between, a class is weighted by its share of the pixels to the power of 1 - class_balance.
    """
    turn: bool = True
    """Whether patches are rotated by multiples of 90 degrees and flipped at random.

    If False, north stays up, and shadows fall as in the imagery.
    """
    base_width: int = Field(default=24, ge=2, le=4096)
    """See `GeneratorSettings.base_width`."""
    max_multiple: int = Field(default=16, ge=1, le=16)
    """See `GeneratorSettings.max_multiple`."""
    hidden_channels: int = Field(default=64, ge=1, le=4096)
    """See `GeneratorSettings.hidden_channels`."""
    depth: Depth = "less"
    """See `GeneratorSettings.depth`."""
    start: Literal["convolution", "linear"] = "convolution"
    """See `GeneratorSettings.start`."""
    latent_size: int = Field(default=64, ge=1, le=4096)
    """See `GeneratorSettings.latent_size`."""
    noise_channels: int = Field(default=16, ge=0, le=4096)
    """See `GeneratorSettings.noise_channels`."""
    stage_noise: bool = True
    """See `GeneratorSettings.stage_noise`."""
    padding: Literal["replicate", "zeros"] = "replicate"
    """See `GeneratorSettings.padding`."""
    style_lengths: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """For a generator conditioned on looks, instead of latent and encoder: see `GeneratorSettings.style_lengths`. One
    number, or one for each class; empty for a generator that is not conditioned on looks.
    """
    style_width: int = Field(default=16, ge=1, le=4096)
    """See `GeneratorSettings.style_width`."""
    style_regions: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """See `GeneratorSettings.style_regions`."""
    style_gradual: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """See `GeneratorSettings.style_gradual`."""
    look_name: Annotated[tuple[str, ...], BeforeValidator(_one_or_several)] = ("training",)
    """Name, in the model, of the look of the training's own tiles, which comes first, before the looks of `init`.

    One name for all stores, or one for each store, in their order, for a look of each.
    """
    store_shares: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Relative number of patches from each store, in their order; empty to draw by area, or by class."""
    colour_change: float = Field(default=0.5, ge=0, le=1)
    """For a generator conditioned on looks: share of the patches with their own look whose colours are changed."""
    encoder_width: int = Field(default=32, ge=1, le=4096)
    """See `EncoderSettings.base_width`."""
    prior_share: float = Field(default=0.25, ge=0, le=1)
    """Share of the batch whose style is drawn, as in `generate`, instead of read from or measured in the real image.

    At 1 there is no encoder. Losses that compare a fake with its real image use the other patches, or all patches if
    there is no encoder.
    """
    discriminator: Literal["patch", "oasis"] = "patch"
    """Multi-scale "patch" (Park et al. 2019), or "oasis", a U-Net that segments (Schoenfeld et al. 2021)."""
    discriminator_width: int = Field(default=48, ge=1, le=4096)
    """Width of the discriminator: see `base_width` of `DiscriminatorSettings` and `OasisSettings`."""
    projected_weight: float = Field(default=0.0, ge=0)
    """Weight of a second discriminator, which sees features of EfficientNet-Lite0; 0 for none.

    It teaches textures in few steps and from few tiles (projected GANs, Sauer et al. 2021).
    """
    num_scales: int = Field(default=2, ge=1, le=8)
    """See `DiscriminatorSettings.num_scales`; for "patch" only."""
    generator_rate: float = Field(default=1e-4, gt=0)
    """Adam's learning rate for the generator and the encoder."""
    discriminator_rate: float = Field(default=4e-4, gt=0)
    """Adam's learning rate for the discriminator; higher than the generator's (TTUR, Heusel et al. 2017)."""
    noise_rate: float = Field(default=10.0, ge=0)
    """Learning rate of the noise strengths, as a multiple of `generator_rate`.

    They start small and are few, so they should learn faster than other weights; 0 leaves them unchanged.
    """
    style_rate: float = Field(default=8.0, ge=0)
    """Learning rate of the layers that condition a generator on looks, as a multiple of `generator_rate`.

    They start from zero, in a model that may have learned everything else.
    """
    adam_betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.0, 0.9)
    """Adam's decay rates of its two running means."""
    kl_weight: float = Field(default=0.05, ge=0)
    """Weight of the VAE's Kullback-Leibler term, which is summed over latent numbers and averaged over the batch."""
    feature_weight: float = Field(default=10.0, ge=0)
    """Weight of feature matching, averaged over scales; for "patch" only."""
    mean_weight: float = Field(default=5.0, ge=0)
    """Weight of the L1 distance between means of blocks of 8 x 8 px in the real image and in the fake.

    It keeps colours in their places.
    """
    style_weight: float = Field(default=4.0, ge=0)
    """Weight of the distance between the looks asked for and those measured in the fakes."""
    perceptual_weight: float = Field(default=0.0, ge=0)
    """Weight of the distance between features of a pretrained network; 0 for none.

    The network sees the composites of `geosynth.models.perceptual.composites`.
    """
    perceptual_source: Literal["efficientnet-lite0", "vgg19"] = "efficientnet-lite0"
    """That network: "efficientnet-lite0" (installed, offline) or "vgg19" (as in the reference)."""
    perceptual_path: FileName | None = None
    """A local file of VGG19's weights; None lets torchvision download them."""
    diversity_weight: float = Field(default=0.0, ge=0)
    """Weight of the term that keeps styles different: lambda of DSGAN (Yang et al. 2019); 0 for none.

    It needs a second fake in each step.
    """
    diversity_limit: float = Field(default=1.0, gt=0)
    """tau of DSGAN: ratio of the distance of two images to that of their latents, beyond which more is no better."""
    diversity_distance: Literal["pixels", "features"] = "pixels"
    """Whether images are compared by "pixels", or by the discriminator's "features"."""
    labelmix_weight: float = Field(default=10.0, ge=0)
    """Weight of LabelMix consistency; for "oasis" only."""
    augment: float = Field(default=0.0, ge=0, le=1)
    """How much images and labels, real and fake, are changed before the discriminator sees them.

    0 is not at all; 1 has the changes of colour of Zhao et al. 2020, and their hole of half the side. This keeps the
    discriminator from memorising few images.
    """
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    """Decay per step of the running average of the generator, which becomes the model."""
    head_start: float = Field(default=0.0, ge=0, lt=1)
    """With `init`: share of the training, at its start, in which only the discriminator learns."""
    learn: Literal["all", "styles"] = "all"
    """Which weights of the generator learn: "styles" are the few that condition it on looks."""
    keep_norms: bool = False
    """Whether batch norms keep the statistics of `init`, so that the generator is trained as it will paint.

    Small or mixed batches would have other statistics.
    """
    warmup: float | None = Field(default=None, ge=0, le=1)
    """Share of the training, after the head start, in which the generator's learning rate rises linearly from zero.

    None is 0.1 with `init`, as an untrained discriminator would undo what the generator has learned, else 0.
    """
    decay_from: float = Field(default=0.5, ge=0, le=1)
    """Share of the training after which learning rates fall linearly to zero."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Arithmetic: "bf16" and "fp16" compute convolutions in 16 bits, "fp32" everything in float32.

    "auto" chooses by the hardware.
    """
    devices: int = Field(default=1, ge=1, le=1 << 16)
    """Number of processes, each with its own GPU, or all on the CPU if there is no GPU."""
    workers: int = Field(default=0, ge=0, le=1 << 16)
    """Number of threads per device that read patches ahead; 0 to read between the steps."""
    seed: int = Field(default=0, ge=0, lt=2**62)
    """Fixes weights, patches, styles and noise."""
    save_minutes: float = Field(default=5.0, gt=0)
    """Minutes between checkpoints."""
    save_every: int | None = Field(default=None, ge=1)
    """Also save whenever this many steps have passed; None to save only by the clock."""
    preview_every: int = Field(default=200, ge=0)
    """Steps between picture grids; 0 for none."""
    log_every: int = Field(default=20, ge=1)
    """Steps between lines of metrics."""

    @classmethod
    def resolve(cls, /, *, preset: str | None = None, config: str | Path | None = None, **changes: Any) -> Self:
        """Defaults, overridden by a preset, by a YAML file, and by single settings, in this order.

        Args:
            preset: one of `presets`; None for the one that the file names under "preset", if any.
            config: a YAML file with names and values of settings.
            changes: settings by name; texts are interpreted as in the file.

        Raises:
            SettingsError: if the preset, the file or a setting cannot be used.
        """
        values = read_yaml(Path(config)) if config else {}
        return cls.over_preset({**values, **({"preset": preset} if preset else {}), **changes})

    @classmethod
    def over_preset(cls, values: dict[str, Any]) -> Self:
        """Settings from plain values by name; those of "preset", if it is among them, are overridden by the others.

        Raises:
            SettingsError: if the preset or a setting cannot be used.
        """
        preset = values.get("preset")
        if preset is not None and preset not in list(PRESETS):  # a list, which YAML may give, is unhashable
            raise SettingsError(f"there is no {preset!r}; choose from {', '.join(PRESETS)}", setting="preset")
        start = {} if preset is None else PRESETS[preset].values
        return cls.parse({**start, **{name: value for name, value in values.items() if name != "preset"}})

    @staticmethod
    def presets() -> dict[str, Preset]:
        """All presets by name, from small to large."""
        return dict(PRESETS)

    def generator(self, num_classes: int, num_bands: int) -> GeneratorSettings:
        """The generator that these settings ask for."""
        networks = {"base_width", "max_multiple", "hidden_channels", "depth"}
        inputs = {"start", "latent_size", "noise_channels", "stage_noise", "padding"}
        shared: dict[str, Any] = self.model_dump(include=networks | inputs)
        if self.start == "linear":
            shared["crop_size"] = self.crop_size
        if self.style_lengths:
            lengths = self.style_lengths * (num_classes if len(self.style_lengths) == 1 else 1)
            shared |= {"latent_size": 0, "style_lengths": lengths, "style_width": self.style_width}
            shared |= {"style_regions": self.style_regions, "style_gradual": self.style_gradual}
        return GeneratorSettings.parse({"num_classes": num_classes, "num_bands": num_bands, **shared})

    @property
    def generator_warmup(self) -> float:
        """The value of `warmup`, with the default filled in."""
        return (0.1 if self.init else 0.0) if self.warmup is None else self.warmup

    @property
    def has_encoder(self) -> bool:
        """Whether there is a network that reads styles from images."""
        return self.prior_share < 1 and not self.style_lengths

    @property
    def pairs(self) -> bool:
        """Whether some fakes have the style of their real image, read or measured."""
        return self.has_encoder or bool(self.style_lengths)

    @property
    def perceptual_file(self) -> Path | None:
        """The file of `perceptual_path`; None if none is needed, as no loss uses such a network."""
        is_used = self.perceptual_weight or self.projected_weight
        return Path(self.perceptual_path) if is_used and self.perceptual_path is not None else None

    @model_validator(mode="after")
    def _check_parts_that_meet(self) -> Self:
        """Check settings against each other. The generator's own checks raise here, too."""
        stride = stride_of(self.depth)
        if self.crop_size % stride:
            raise SettingsError(f"must be a multiple of {stride} for depth {self.depth!r}", setting="crop_size")
        if self.discriminator == "patch" and self.num_scales > (most := (self.crop_size - 1).bit_length()):
            raise SettingsError(f"must be {most} at most for crops of {self.crop_size} px", setting="num_scales")
        for name in ("style_regions", "style_gradual"):
            if getattr(self, name) and not (self.style_lengths or self.init):
                raise SettingsError("needs a generator conditioned on looks: set style_lengths", setting=name)
        count = len(self.style_lengths)  # one number is for all classes
        named = max((*self.style_regions, *self.style_gradual), default=0) + 1
        self.generator(count if count > 1 else named, 1)
        if self.batch_size % (self.devices * self.parts):
            what = f"must be a multiple of devices x parts, {self.devices * self.parts}"
            raise SettingsError(what, setting="batch_size")
        if self.augment and self.diversity_weight and self.diversity_distance == "features":
            what = "changes the images whose features are compared: set diversity_distance to pixels"
            raise SettingsError(what, setting="augment")
        if self.diversity_weight and self.style_lengths:
            raise SettingsError("needs a generator without style_lengths", setting="diversity_weight")
        if self.diversity_weight and int(self.prior_share * self.batch_size + 1e-9) == 0:
            what = "needs drawn styles: set prior_share to 1 / batch_size at least"
            raise SettingsError(what, setting="diversity_weight")
        if self.projected_weight and self.perceptual_weight and self.perceptual_source != "efficientnet-lite0":
            what = "uses efficientnet-lite0: set perceptual_source to it as well"
            raise SettingsError(what, setting="projected_weight")
        if self.learn == "styles" and not (self.style_rate and (self.style_lengths or self.init)):
            raise SettingsError("styles need a generator conditioned on looks", setting="learn")
        for name in self.look_name:
            check_look_name(name)
        for name in ("head_start", "keep_norms"):
            if getattr(self, name) and self.init is None:
                raise SettingsError("needs init, a model to start from", setting=name)
        return self
