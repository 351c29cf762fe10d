"""The networks of a training, with random weights or those of a model file."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geosynth.checkpoint import GeneratorModel
from geosynth.config import DiscriminatorSettings, EncoderSettings, GeneratorSettings, OasisSettings, TrainSettings
from geosynth.models.adversary import Adversary, OasisAdversary, PatchAdversary
from geosynth.models.encoder import StyleEncoder
from geosynth.models.generator import SpadeGenerator
from geosynth.models.looks.codes import StyleCodes, StyleModulation
from geosynth.models.looks.look import Look
from geosynth.models.looks.prior import style_range
from geosynth.models.norm import BatchNorm
from geosynth.models.projected import ProjectedAdversary
from geosynth.models.spectral import folded_state, load_folded
from geosynth.training.average import update_average


class SpadeNetworks(nn.Module):
    """Generator, style encoder and adversary, and the running average of the generator, which goes into the model file.

    Args:
        settings: of the training; the seed determines the weights. The caller's random state is left unchanged.
        num_classes: in the labels.
        num_bands: of the images.
        initial: a model with such networks, whose generator and encoder are trained further. For a generator
            conditioned on looks also one with a latent, which is replaced by its mean.
        looks: for a generator conditioned on looks, the look of each source's tiles.
        num_pictures: number of three-band pictures of an image that a pretrained network sees, see `composites`.
    """

    def __init__(
        self,
        settings: TrainSettings,
        num_classes: int,
        num_bands: int,
        initial: GeneratorModel | None = None,
        looks: Sequence[Look] = (),
        num_pictures: int = 1,
    ) -> None:
        super().__init__()
        self.looks = looks
        generator = settings.generator(num_classes, num_bands)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.generator = SpadeGenerator(generator, spectral_norm=True)
            self.encoder = _build_encoder(settings, num_bands, initial) if settings.has_encoder else None
            self.adversary = _build_adversary(settings, num_classes, num_bands)
            self.projected = ProjectedAdversary(num_classes, num_pictures) if settings.projected_weight else None
            self.average = SpadeGenerator(generator).requires_grad_(False).eval()
        if initial is not None:
            state = initial.generator.state_dict()
            if looks and not initial.card.settings.style_lengths:
                state = _with_styles(state, initial.card.settings, self.generator)
            load_folded(self.generator, state)
            if self.encoder is not None and initial.encoder is not None:
                load_folded(self.encoder, initial.encoder.state_dict())
        if looks:
            codes = self.generator.style_codes
            if initial is None or not initial.card.settings.style_lengths:
                codes.centre, codes.scale = style_range(looks)
            self.average.style_codes.load_state_dict(dict(codes.named_buffers()), strict=False)
        update_average(self.average, self.generator, decay=0.0)
        if settings.keep_norms:
            kept: dict[str, Tensor] = {}
            for name, module in self.generator.named_modules():
                if isinstance(module, BatchNorm):
                    module.eval()
                    kept |= {f"{name}.{buffer}": value for buffer, value in module.named_buffers()}
            self.average.load_state_dict(kept, strict=False)
        self.to(memory_format=torch.channels_last)

    def looks_in_turn(self, count: int) -> list[Look] | None:
        """A look for each of `count` patches, the sources' looks in turn; None for a generator without looks."""
        return [self.looks[row % len(self.looks)] for row in range(count)] if self.looks else None

    def noise_strengths(self) -> list[nn.Parameter]:
        """The generator's strengths of noise, which have their own learning rate."""
        return [value for name, value in self.generator.named_parameters() if name.endswith("noise_strength")]

    def style_weights(self) -> list[nn.Parameter]:
        """The weights that condition a generator on looks, which have their own learning rate, too."""
        kinds = (StyleCodes, StyleModulation)
        return [value for part in self.generator.modules() if isinstance(part, kinds) for value in part.parameters()]

    def painting_weights(self) -> list[nn.Parameter]:
        """All weights that learn from the generator's losses: those of generator and encoder."""
        encoder = [] if self.encoder is None else self.encoder.parameters()
        return [*self.generator.parameters(), *encoder]

    def judging_weights(self) -> list[nn.Parameter]:
        """All weights that learn from the discriminator's losses."""
        both = [*self.adversary.parameters(), *(self.projected.parameters() if self.projected else ())]
        return [weight for weight in both if weight.requires_grad]


def _with_styles(state: dict[str, Tensor], earlier: GeneratorSettings, generator: SpadeGenerator) -> dict[str, Tensor]:
    """The weights of a generator with a latent as those of one conditioned on looks, where looks have no effect yet.

    The inputs of the start were classes, latent, noise; now they are classes, noise, codes of looks.
    """
    start, first = state["start.weight"], earlier.num_classes
    codes = start.new_zeros(len(start), generator.settings.style_width, *start.shape[2:])
    kept = [start[:, :first], start[:, first + earlier.latent_size :], codes]
    weights, statistics = folded_state(generator)
    return {**weights, **statistics, **state, "start.weight": torch.cat(kept, 1)}


def _build_adversary(settings: TrainSettings, num_classes: int, num_bands: int) -> Adversary:
    width = settings.discriminator_width
    if settings.discriminator == "oasis":
        levels = min(6, (settings.crop_size & -settings.crop_size).bit_length() - 3)  # coarsest cells of 4 px or more
        oasis = OasisSettings(num_classes=num_classes, num_bands=num_bands, base_width=width, num_levels=levels)
        return OasisAdversary(oasis, settings.labelmix_weight)
    patch = DiscriminatorSettings(
        num_classes=num_classes, num_bands=num_bands, base_width=width, num_scales=settings.num_scales
    )
    return PatchAdversary(patch, settings.feature_weight)


def _build_encoder(settings: TrainSettings, num_bands: int, initial: GeneratorModel | None) -> StyleEncoder:
    if initial is not None and initial.card.encoder is not None:
        return StyleEncoder(initial.card.encoder, spectral_norm=True)
    return StyleEncoder(
        EncoderSettings(
            num_bands=num_bands,
            base_width=settings.encoder_width,
            latent_size=settings.latent_size,
            num_layers=6 if settings.crop_size >= 256 else 5,
        ),
        spectral_norm=True,
    )
