"""The networks of a training, from random weights or those of a model file."""

from __future__ import annotations

import torch
from torch import nn

from geosynth.checkpoint import GeneratorModel
from geosynth.config import DiscriminatorSettings, EncoderSettings, OasisSettings, TrainSettings
from geosynth.models.adversary import OasisAdversary, PatchAdversary
from geosynth.models.encoder import StyleEncoder
from geosynth.models.generator import SpadeGenerator
from geosynth.models.spectral import load_folded
from geosynth.training.average import update_average

Adversary = PatchAdversary | OasisAdversary


class SpadeNetworks(nn.Module):
    """Generator, style encoder and adversary, and the running average of the generator, which is what gets shipped.

    Args:
        settings: of the training; its seed decides the weights. The caller's random state is left alone.
        num_classes: in the labels.
        num_bands: of the images.
        initial: a model of such networks, whose generator and encoder to go on from.
    """

    def __init__(
        self, settings: TrainSettings, num_classes: int, num_bands: int, initial: GeneratorModel | None = None
    ) -> None:
        super().__init__()
        generator = settings.generator(num_classes, num_bands)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.generator = SpadeGenerator(generator, spectral_norm=True)
            self.encoder = _build_encoder(settings, num_bands, initial) if settings.has_encoder else None
            self.adversary = _build_adversary(settings, num_classes, num_bands)
            self.average = SpadeGenerator(generator).requires_grad_(False).eval()
        if initial is not None:
            load_folded(self.generator, initial.generator.state_dict())
            if self.encoder is not None and initial.encoder is not None:
                load_folded(self.encoder, initial.encoder.state_dict())
        update_average(self.average, self.generator, decay=0.0)
        self.to(memory_format=torch.channels_last)

    def noise_strengths(self) -> list[nn.Parameter]:
        """Weights of the generator that learn at a rate of their own."""
        return [value for name, value in self.generator.named_parameters() if name.endswith("noise_strength")]

    def painting_weights(self) -> list[nn.Parameter]:
        """All that learns from the generator's losses: generator and encoder."""
        encoder = [] if self.encoder is None else self.encoder.parameters()
        return [*self.generator.parameters(), *encoder]

    def judging_weights(self) -> list[nn.Parameter]:
        """All that learns from the discriminator's losses."""
        return list(self.adversary.parameters())


def _build_adversary(settings: TrainSettings, num_classes: int, num_bands: int) -> Adversary:
    width = settings.discriminator_width
    if settings.discriminator == "oasis":
        levels = min(6, (settings.crop_size & -settings.crop_size).bit_length() - 3)
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
