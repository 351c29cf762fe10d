"""What the generator is asked for beside the adversary's opinion, and which patches each loss looks at."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geosynth.config import DiscriminatorSettings, OasisSettings, TrainSettings
from geosynth.models.adversary import OasisAdversary, PatchAdversary, features_of
from geosynth.models.augment import Augmentation
from geosynth.models.discriminator import Outputs
from geosynth.models.losses import block_mean_distance, diversity, kl_divergence
from geosynth.models.perceptual import PerceptualLoss
from geosynth.training.draws import Rows, drawn_places

Adversary = PatchAdversary | OasisAdversary


def build_adversary(settings: TrainSettings, num_classes: int, num_bands: int) -> Adversary:
    """The discriminator that the settings ask for, with its losses."""
    width = settings.discriminator_width
    if settings.discriminator == "oasis":
        levels = min(6, (settings.crop_size & -settings.crop_size).bit_length() - 3)
        oasis = OasisSettings(num_classes=num_classes, num_bands=num_bands, base_width=width, num_levels=levels)
        return OasisAdversary(oasis, settings.labelmix_weight)
    patch = DiscriminatorSettings(
        num_classes=num_classes, num_bands=num_bands, base_width=width, num_scales=settings.num_scales
    )
    return PatchAdversary(patch, settings.feature_weight)


class Objectives:
    """Losses by name, each weighted.

    A loss that looks at some patches only is scaled such that its mean over parts and devices is its mean over all
    such patches of the batch, however they are spread.

    Args:
        settings: of the training.
        num_classes: in the labels.
        band_names: of the images.
    """

    def __init__(self, settings: TrainSettings, num_classes: int, band_names: Sequence[str]) -> None:
        self.settings, self.num_classes = settings, num_classes
        self.num_drawn = len(drawn_places(settings.prior_share, settings.batch_size))
        self.wants_second = settings.diversity_weight > 0
        self.perceptual = (
            PerceptualLoss.build(settings.perceptual_source, band_names, settings.perceptual_path)
            if settings.perceptual_weight
            else None
        )

    def to(self, device: torch.device) -> None:
        """Move pretrained networks."""
        if self.perceptual is not None:
            self.perceptual.to(device)

    def shown(self, fake: Tensor, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """Labels, fake and real images as the discriminator sees them."""
        mask, real, strength = rows.mask, rows.image, self.settings.augment
        if not strength:
            return mask, fake, real
        height, width = mask.shape[1:]
        change = Augmentation(strength, height, width, rows.rngs, mask.device)
        return change.labels(mask, self.num_classes), change.image(fake), change.image(real)

    def paired(self, rows: Rows) -> Tensor | None:
        """The rows that are compared to their real images; None for all."""
        return rows.paired if self.settings.has_encoder else None

    def paired_share(self, rows: Rows) -> float:
        """What a mean over the rows that are compared counts."""
        return self._share(rows, rows.paired) if self.settings.has_encoder else 1.0

    def comparing(self, fake: Tensor, rows: Rows) -> dict[str, Tensor]:
        """Distances of fakes to their real images: block means, pretrained features."""
        settings, real = self.settings, rows.image
        if settings.has_encoder:
            fake, real = fake[rows.paired], real[rows.paired]
        share, losses = self.paired_share(rows), {}
        if settings.mean_weight:
            means = block_mean_distance(fake, real) if share else fake.new_zeros(())
            losses["means"] = share * settings.mean_weight * means
        if self.perceptual is not None:
            distance = self.perceptual(fake, real) if share else fake.new_zeros(())
            losses["perceptual"] = share * settings.perceptual_weight * distance
        return losses

    def kl(self, moments: tuple[Tensor, Tensor] | None, rows: Rows) -> dict[str, Tensor]:
        """The Kullback-Leibler term of styles that were read from images, by their (mean, log variance)."""
        if not self.settings.has_encoder:
            return {}
        value = kl_divergence(*moments) if moments else rows.latents.new_zeros(())
        return {"kl": self.paired_share(rows) * self.settings.kl_weight * value}

    def diversity(
        self, adversary: Adversary, judged: Outputs, fake: Tensor, second: Tensor, latents: Tensor, rows: Rows
    ) -> dict[str, Tensor]:
        """The DSGAN term over pairs of fakes that differ in their drawn styles only."""
        if not len(rows.drawn):
            return {"diversity": fake.new_zeros(())}
        first_latent, second_latent = latents[rows.drawn], latents[len(rows.mask) :]
        if self.settings.diversity_distance == "pixels":
            pair = [fake[rows.drawn]], [second]
        else:
            chosen = [[values[rows.drawn] for values in scale] for scale in judged]
            pair = features_of(chosen), features_of(adversary.judge(rows.mask[rows.drawn], second))
        weight = self.settings.diversity_weight * self._share(rows, rows.drawn)
        return {"diversity": -weight * diversity(*pair, first_latent, second_latent, self.settings.diversity_limit)}

    def _share(self, rows: Rows, chosen: Tensor) -> float:
        """What the mean over `chosen` rows of a part counts, so that parts and devices average to the batch's mean."""
        everywhere = self.num_drawn if chosen is rows.drawn else self.settings.batch_size - self.num_drawn
        num_shares = self.settings.batch_size / len(rows.mask)
        return len(chosen) * num_shares / everywhere if everywhere else 0.0
