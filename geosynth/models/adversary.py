"""Adversaries: a discriminator with the losses of both sides. Both kinds have the same interface.

An image is judged once, and the judgement is used for the losses of both sides:

    judged = adversary.judge_both(labels, painted, image)
    adversary.for_generator(judged)
    adversary.for_discriminator(judged, sides)

All losses are means over samples and pixels, so that the mean over equal parts of a batch is that of the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geosynth.config import DiscriminatorSettings, OasisSettings
from geosynth.errors import DataError
from geosynth.models.losses import Outputs, feature_matching, hinge_discriminator, hinge_generator
from geosynth.models.oasis import (
    OasisDiscriminator,
    class_weights,
    count_classes,
    fake_loss,
    label_mix_loss,
    label_mix_mask,
    segmentation_loss,
)
from geosynth.models.patterns import one_hot_classes
from geosynth.models.spectral import with_spectral_norm


class MultiscaleDiscriminator(nn.Module):
    """The same patch discriminator at full, half, ... resolution (pix2pixHD, as used by Park et al. 2019)."""

    def __init__(self, settings: DiscriminatorSettings) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PatchDiscriminator(settings) for _ in range(settings.num_scales))

    def forward(self, one_hot: Tensor, image: Tensor) -> Outputs:
        """(B, num_classes, H, W) labels and (B, num_bands, H, W) images to the outputs of each scale."""
        outputs = []
        values = torch.cat([one_hot, image], dim=1)
        for index, scale in enumerate(self.scales):
            if index:
                values = F.avg_pool2d(values, 3, stride=2, padding=1, count_include_pad=False)
            outputs.append(scale(values))
        return outputs


class PatchDiscriminator(nn.Module):
    """4x4 convolutions: width s2 -> 2 width s2 -> 4 width s2 -> 8 width s1 -> 1; norms on the middle three."""

    def __init__(self, settings: DiscriminatorSettings) -> None:
        super().__init__()
        width = settings.base_width
        self.first = nn.Conv2d(settings.num_classes + settings.num_bands, width, 4, stride=2, padding=2)
        self.middle = nn.ModuleList(
            with_spectral_norm(nn.Conv2d(inputs, 2 * inputs, 4, stride=stride, padding=2, bias=False))
            for inputs, stride in ((width, 2), (2 * width, 2), (4 * width, 1))
        )
        self.last = nn.Conv2d(8 * width, 1, 4, padding=2)
        for layer in (self.first, self.last):
            nn.init.xavier_normal_(layer.weight, gain=0.02)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, values: Tensor) -> list[Tensor]:
        """Features of the four layers, then the prediction."""
        features = [F.leaky_relu(self.first(values), 0.2)]
        for conv in self.middle:
            features.append(F.leaky_relu(F.instance_norm(conv(features[-1])), 0.2))
        return [*features, self.last(features[-1])]


Losses = dict[str, Tensor]


def features_of(outputs: Outputs) -> list[Tensor]:
    """The features of all layers and scales, without the predictions."""
    return [values for scale in outputs for values in scale[:-1]]


@dataclass(frozen=True)
class Judged:
    """Painted and real images of the same labels, and a discriminator's outputs for them."""

    labels: Tensor
    """(B, H, W) class indices; `num_classes` for "no class"."""
    fake_image: Tensor
    """(B, num_bands, H, W), painted."""
    real_image: Tensor
    """(B, num_bands, H, W)."""
    fake: Outputs
    """The discriminator's outputs for the painted images, from `Adversary.judge`."""
    real: Outputs
    """Its outputs for the real images."""


class Adversary(nn.Module):
    """A discriminator with its losses.

    Args:
        num_classes: of the labels.
        num_bands: that the discriminator reads.
    """

    def __init__(self, num_classes: int, num_bands: int) -> None:
        super().__init__()
        self.num_classes, self.num_bands = num_classes, num_bands

    def judge(self, labels: Tensor, image: Tensor) -> Outputs:
        """For each scale the features of the layers, then the prediction; float32.

        Args:
            labels: (B, H, W) class indices; `num_classes` for "no class".
            image: (B, num_bands, H, W) in [-1, 1].

        Raises:
            DataError: if labels and image differ in size, or the number of bands is wrong.
        """
        if labels.shape[1:] != image.shape[2:] or len(labels) != len(image):
            raise DataError(
                f"labels {tuple(labels.shape)} and images {tuple(image.shape)} differ in number, height or width"
            )
        if image.shape[1] != self.num_bands:
            raise DataError(f"image of {image.shape[1]} bands: the discriminator reads {self.num_bands}")
        return [[value.float() for value in scale] for scale in self._outputs(labels, image)]

    def judge_both(self, labels: Tensor, fake_image: Tensor, real_image: Tensor) -> Judged:
        """`judge` of painted and real images; errors as there."""
        fake, real = self.judge(labels, fake_image), self.judge(labels, real_image)
        return Judged(labels, fake_image, real_image, fake, real)

    def for_generator(self, judged: Judged, *, paired: Tensor | None = None, counts: Tensor | None = None) -> Losses:
        """Weighted losses of the generator, by name.

        Args:
            judged: the images.
            paired: (n,) indices of the samples that were painted in the style of their real image, which feature
                matching requires; None for all.
            counts: (num_classes,) pixels of each class in the whole batch, if `judged` is a part of it.
        """
        raise NotImplementedError

    def for_discriminator(self, judged: Judged, sides: Tensor | None = None, *, counts: Tensor | None = None) -> Losses:
        """Weighted losses of the discriminator, by name.

        Args:
            judged: the images.
            sides: (B, num_classes + 1) bool, which classes of each sample LabelMix takes from the real image; None
                without LabelMix.
            counts: as for `for_generator`.
        """
        raise NotImplementedError

    def _outputs(self, labels: Tensor, image: Tensor) -> Outputs:
        raise NotImplementedError


class PatchAdversary(Adversary):
    """Multi-scale patch discriminator with hinge losses and feature matching (Park et al. 2019).

    Args:
        settings: of the discriminator.
        feature_weight: of feature matching; 0 leaves it out.
    """

    def __init__(self, settings: DiscriminatorSettings, feature_weight: float) -> None:
        super().__init__(settings.num_classes, settings.num_bands)
        self.feature_weight = feature_weight
        self.discriminator = MultiscaleDiscriminator(settings)

    def _outputs(self, labels: Tensor, image: Tensor) -> Outputs:
        outputs: Outputs = self.discriminator(one_hot_classes(labels, self.num_classes, image.dtype), image)
        return outputs

    def for_generator(self, judged: Judged, *, paired: Tensor | None = None, counts: Tensor | None = None) -> Losses:
        """Hinge loss and feature matching."""
        losses = {"gan": hinge_generator(judged.fake)}
        rows = slice(None) if paired is None else paired
        if self.feature_weight and len(judged.labels[rows]):
            fake, real = (
                [[value[rows] for value in scale] for scale in outputs] for outputs in (judged.fake, judged.real)
            )
            losses["features"] = self.feature_weight * feature_matching(fake, real)
        return losses

    def for_discriminator(self, judged: Judged, sides: Tensor | None = None, *, counts: Tensor | None = None) -> Losses:
        """Hinge loss."""
        return {"discriminator": hinge_discriminator(judged.fake, judged.real)}


class OasisAdversary(Adversary):
    """Segmentation discriminator with class-balanced cross-entropy and LabelMix (Schoenfeld et al. 2021).

    It has one scale, and its prediction is logits, (B, num_classes + 1, H, W).

    Args:
        settings: of the discriminator.
        mix_weight: of the LabelMix consistency; 0 leaves it out.
    """

    def __init__(self, settings: OasisSettings, mix_weight: float) -> None:
        super().__init__(settings.num_classes, settings.num_bands)
        self.mix_weight = mix_weight
        self.discriminator = OasisDiscriminator(settings)

    def _outputs(self, labels: Tensor, image: Tensor) -> Outputs:
        logits, features = self.discriminator(image)
        return [[*features, logits]]

    def for_generator(self, judged: Judged, *, paired: Tensor | None = None, counts: Tensor | None = None) -> Losses:
        """Cross-entropy with the labels."""
        weights = self._weights(judged.labels, counts)
        return {"gan": segmentation_loss(judged.fake[0][-1], judged.labels, weights)}

    def for_discriminator(self, judged: Judged, sides: Tensor | None = None, *, counts: Tensor | None = None) -> Losses:
        """Cross-entropy of both images, and LabelMix."""
        labels, fake, real = judged.labels, judged.fake[0][-1], judged.real[0][-1]
        weights = self._weights(labels, counts)
        losses = {"discriminator": segmentation_loss(real, labels, weights) + fake_loss(fake, labels)}
        if self.mix_weight:
            assert sides is not None
            mask = label_mix_mask(labels, sides)
            mixed = self.judge(labels, torch.where(mask, judged.real_image, judged.fake_image).detach())[0][-1]
            losses["label_mix"] = self.mix_weight * label_mix_loss(mixed, fake, real, mask)
        return losses

    def _weights(self, labels: Tensor, counts: Tensor | None) -> Tensor:
        return class_weights(count_classes(labels, self.num_classes) if counts is None else counts)
