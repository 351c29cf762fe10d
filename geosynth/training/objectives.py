"""The losses of a training: those of the generator's side and those of the discriminator's side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from geosynth.config import TrainSettings
from geosynth.models.adversary import Losses, features_of
from geosynth.models.augment import Augmentation
from geosynth.models.encoder import reparameterised
from geosynth.models.looks.styles import local_statistics
from geosynth.models.losses import Outputs, block_mean_distance, diversity, kl_divergence
from geosynth.models.perceptual import PerceptualLoss
from geosynth.training.draws import Part, TrainBatch
from geosynth.training.looks import changed_colours, style_distance
from geosynth.training.networks import SpadeNetworks


class Objectives:
    """Losses of a part of a batch, by name, weighted: means over its patches.

    For each patch one fake is painted; the discriminator sees it and the real image once, and the losses of both sides
    are computed from the same outputs.

    Args:
        networks: of the training.
        settings: of the training.
        band_names: of the images.
        device: of the networks.
    """

    def __init__(
        self, networks: SpadeNetworks, settings: TrainSettings, band_names: Sequence[str], device: torch.device
    ) -> None:
        self.networks, self.settings = networks, settings
        self.num_classes = networks.generator.settings.num_classes
        self.wants_second = settings.diversity_weight > 0
        source = "efficientnet-lite0" if settings.projected_weight else settings.perceptual_source
        self.perceptual = (
            PerceptualLoss.build(source, band_names, settings.perceptual_file).to(device)
            if settings.perceptual_weight or settings.projected_weight
            else None
        )

    def __call__(self, batch: TrainBatch, part: Part, counts: Tensor | None) -> tuple[Losses, Losses]:
        """Losses of the generator (with the encoder), and of the discriminator.

        Args:
            batch: the patches of the part.
            part: their layout.
            counts: (num_classes,) pixels of each class in the whole batch; None if the adversary needs none.
        """
        adversary, settings = self.networks.adversary, self.settings
        batch, styles = self._with_looks(batch, part)
        fakes, latents, moments = self._paint(batch, part, styles)
        fake, second = fakes[: len(batch.mask)], fakes[len(batch.mask) :]
        labels, shown_fake, shown_real = self._shown(fake, batch)
        judged = adversary.judge_both(labels, shown_fake, shown_real)
        # All patches are compared to their real images, or only those whose style was read or measured in them.
        paired, share = (part.paired, part.paired_share) if settings.pairs else (None, 1.0)
        painting = adversary.for_generator(judged, paired=paired, counts=counts)
        if settings.feature_weight and settings.discriminator == "patch":  # 0 without pairs, so that all parts have it
            painting["features"] = painting.get("features", fake.new_zeros(())) * share

        def to_real(distance: Callable[[Tensor, Tensor], Tensor], weight: float) -> Tensor:
            rows = slice(None) if paired is None else paired
            return share * weight * (distance(fake[rows], batch.image[rows]) if share else fake.new_zeros(()))

        if settings.mean_weight:
            painting["means"] = to_real(block_mean_distance, settings.mean_weight)
        judging = adversary.for_discriminator(judged, batch.sides, counts=counts)
        if self.networks.projected is not None:
            more, judging["projected_discriminator"] = self._projected(labels, shown_fake, shown_real, paired, share)
            painting |= more
        elif self.perceptual is not None:
            painting["perceptual"] = to_real(self.perceptual, settings.perceptual_weight)
        if settings.has_encoder:
            distance = kl_divergence(*moments) if moments else fake.new_zeros(())
            painting["kl"] = share * settings.kl_weight * distance
        if styles is not None:
            network = self.networks.generator
            distance = style_distance(fake, batch.mask, styles, network.style_codes.scale, network.settings)
            painting["styles"] = settings.style_weight * distance
        if self.wants_second:
            painting["diversity"] = self._diversity(judged.fake, fake, second, latents, batch.mask, part)
        return painting, judging

    @torch.no_grad()
    def _with_looks(self, batch: TrainBatch, part: Part) -> tuple[TrainBatch, Tensor | None]:
        """The patches, some with changed colours, and the styles to paint them in: measured in them, or drawn."""
        settings = self.networks.generator.settings
        if not settings.style_lengths:
            return batch, None
        with torch.autocast(batch.image.device.type, enabled=False):
            image = changed_colours(batch.image, batch.mask, batch.colours, self.num_classes)
            styles, _ = local_statistics(image, batch.mask, self.num_classes, settings.style_lengths)
        image = image.contiguous(memory_format=torch.channels_last)
        return replace(batch, image=image), styles.index_copy(0, part.drawn, batch.styles)

    def _paint(
        self, batch: TrainBatch, part: Part, styles: Tensor | None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
        """Paint: (fakes, their latents, mean and log variance of the latents that were read from images).

        One pass, so that all fakes share their statistics: the B fakes of the patches, then, if wanted, second ones
        with the other drawn style for the rows whose style is drawn.
        """
        latents, moments = batch.latents, None
        if self.networks.encoder is not None and len(part.paired):
            mean, log_variance = self.networks.encoder(batch.image[part.paired])
            moments = mean.float(), log_variance.float()
            latents = latents.index_copy(0, part.paired, reparameterised(*moments, latents[part.paired]))
        mask, noise = batch.mask, batch.noise
        if self.wants_second:
            latents = torch.cat([latents, batch.second_latents])
            mask = torch.cat([mask, mask[part.drawn]])
            noise = [torch.cat([values, values[part.drawn]]) for values in noise]
        fakes = self.networks.generator(mask, latents if latents.shape[1] else None, noise, styles=styles)
        return fakes.float(), latents, moments

    def _shown(self, fake: Tensor, batch: TrainBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Labels, fake and real images as the discriminator sees them."""
        if not self.settings.augment:
            return batch.mask, fake, batch.image
        height, width = batch.mask.shape[1:]
        change = Augmentation(self.settings.augment, height, width, batch.changes)
        return change.labels(batch.mask, self.num_classes), change.image(fake), change.image(batch.image)

    def _projected(
        self, labels: Tensor, fake: Tensor, real: Tensor, paired: Tensor | None, share: float
    ) -> tuple[Losses, Tensor]:
        """Losses from a pretrained network's features of the discriminator's view: the generator's, and the heads'."""
        assert self.perceptual is not None
        assert self.networks.projected is not None
        with torch.no_grad():
            seen_real = self.perceptual.seen(real)
        seen_fake = self.perceptual.seen(fake)
        of_generator, of_heads = self.networks.projected.losses(labels, seen_fake[1:], seen_real[1:])
        losses = {"projected": self.settings.projected_weight * of_generator}
        if self.settings.perceptual_weight:
            distance = self.perceptual.distance(seen_fake, seen_real, paired) if share else fake.new_zeros(())
            losses["perceptual"] = share * self.settings.perceptual_weight * distance
        return losses, of_heads

    def _diversity(
        self, judged: Outputs, fake: Tensor, second: Tensor, latents: Tensor, mask: Tensor, part: Part
    ) -> Tensor:
        """The DSGAN term over pairs of fakes that differ only in their drawn styles."""
        if not len(part.drawn):
            return fake.new_zeros(())
        first_latent, second_latent = latents[part.drawn], latents[len(mask) :]
        if self.settings.diversity_distance == "pixels":
            pair = [fake[part.drawn]], [second]
        else:
            chosen = [[values[part.drawn] for values in scale] for scale in judged]
            pair = features_of(chosen), features_of(self.networks.adversary.judge(mask[part.drawn], second))
        weight = self.settings.diversity_weight * part.drawn_share
        return -weight * diversity(*pair, first_latent, second_latent, self.settings.diversity_limit)
