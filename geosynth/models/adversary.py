"""Adversaries: a discriminator with its losses, for either side. Both kinds answer to the same calls.

An image is judged once; the judgement serves the losses of both sides:

    fake, real = adversary.judge(labels, painted), adversary.judge(labels, image)
    adversary.for_generator(fake, real, labels)
    adversary.for_discriminator(fake, real, labels, painted, image, sides)

All losses are means over samples and pixels, so that the mean over equal parts of a batch is that of the whole.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

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

# --- Multi-scale patch discriminator (pix2pixHD, as used by Park et al. 2019).


class MultiscaleDiscriminator(nn.Module):
    """The same patch discriminator at full, half, ... resolution."""

    def __init__(self, settings: DiscriminatorSettings) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PatchDiscriminator(settings) for _ in range(settings.num_scales))

    def forward(self, one_hot: Tensor, image: Tensor) -> Outputs:
        """(B, num_classes, H, W) labels and (B, num_bands, H, W) images; real and fake go in as one batch."""
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
            parametrizations.spectral_norm(nn.Conv2d(inputs, 2 * inputs, 4, stride=stride, padding=2, bias=False))
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


# --- Differentiable augmentation of what a discriminator sees (Zhao et al. 2020).

# The paper's, at strength 1, of images in [-1, 1].
_BRIGHTNESS = 0.5  # at most, added to all bands
_CONTRAST = 0.5  # at most, of the distance to the image's mean
_SATURATION = 1.0  # at most, of the distance to the mean over bands
_HOLE = 0.5  # side, of the image's


class Augmentation:
    """One change a sample, the same for all images and labels that it is applied to.

    Args:
        strength: 0 (none) to 1 (the paper's).
        height, width: of the images, pixels.
        drawn: (B, NUM_DRAWS) numbers, uniform in [0, 1), on the images' device: they decide each sample's change.
    """

    NUM_DRAWS = 5

    def __init__(self, strength: float, height: int, width: int, drawn: Tensor) -> None:
        colours = zip((2 * drawn[:, :3] - 1).unbind(1), (_BRIGHTNESS, _CONTRAST, _SATURATION), strict=True)
        self._colours = [(strength * either_way * limit)[:, None, None, None] for either_way, limit in colours]
        rows, columns = (
            _span(size, strength * _HOLE, place) for size, place in zip((height, width), drawn[:, 3:].T, strict=True)
        )
        self._hole = rows[:, :, None] & columns[:, None, :]  # (B, H, W)

    def image(self, image: Tensor) -> Tensor:
        """(B, num_bands, H, W) in [-1, 1], changed; 0 in the hole."""
        brightness, contrast, saturation = self._colours
        grey = image.mean(1, keepdim=True)
        image = grey + (1 + saturation) * (image - grey) + brightness
        mean = image.mean((1, 2, 3), keepdim=True)
        image = mean + (1 + contrast) * (image - mean)
        return image * ~self._hole[:, None]

    def labels(self, labels: Tensor, num_classes: int) -> Tensor:
        """(B, H, W) class indices; `num_classes`, "no class", in the hole."""
        return labels.masked_fill(self._hole, num_classes)


def _span(size: int, share: float, place: Tensor) -> Tensor:
    """(B, size) bool: a run of `share` of the size whose centre lies anywhere inside, cut off at the ends."""
    centre = place[:, None] * size
    distance = (torch.arange(size, device=place.device) + 0.5 - centre).abs()
    return distance < share * size / 2


Losses = dict[str, Tensor]


def features_of(outputs: Outputs) -> list[Tensor]:
    """The features of all layers and scales, without the predictions."""
    return [values for scale in outputs for values in scale[:-1]]


class PatchAdversary(nn.Module):
    """Multi-scale patch discriminator with hinge losses and feature matching (Park et al. 2019).

    Args:
        settings: of the discriminator.
        feature_weight: of feature matching; 0 leaves it out.
    """

    def __init__(self, settings: DiscriminatorSettings, feature_weight: float = 10.0) -> None:
        super().__init__()
        self.settings = settings
        self.feature_weight = feature_weight
        self.discriminator = MultiscaleDiscriminator(settings)

    def judge(self, labels: Tensor, image: Tensor) -> Outputs:
        """Per scale the features of the layers, then the prediction.

        Args:
            labels: (B, H, W) class indices; `num_classes` for "no class".
            image: (B, num_bands, H, W) in [-1, 1].

        Raises:
            DataError: if labels and image differ in size, or the bands are not what the discriminator reads.
        """
        _check(labels, image, self.settings.num_bands)
        one_hot = one_hot_classes(labels, self.settings.num_classes, image.dtype)
        outputs = self.discriminator(one_hot, image)
        return [[value.float() for value in scale] for scale in outputs]

    def for_generator(
        self,
        fake: Outputs,
        real: Outputs,
        labels: Tensor,
        *,
        paired: Tensor | None = None,
        counts: Tensor | None = None,
    ) -> Losses:
        """Weighted losses of the generator, by name.

        Args:
            fake: judgement of the painted images.
            real: judgement of the images of the same labels.
            labels: (B, H, W).
            paired: (n,) indices of the samples that were painted in the style of their real image, which feature
                matching asks for; None for all.
            counts: not used here.
        """
        losses = {"gan": hinge_generator(fake)}
        rows = slice(None) if paired is None else paired
        if self.feature_weight and len(labels[rows]):
            pairs = [[[value[rows] for value in scale] for scale in outputs] for outputs in (fake, real)]
            losses["features"] = self.feature_weight * feature_matching(*pairs)
        return losses

    def for_discriminator(
        self,
        fake: Outputs,
        real: Outputs,
        labels: Tensor,
        fake_image: Tensor,
        real_image: Tensor,
        sides: Tensor | None = None,
        *,
        counts: Tensor | None = None,
    ) -> Losses:
        """Weighted losses of the discriminator, by name; of the arguments, only the judgements are used here."""
        return {"discriminator": hinge_discriminator(fake, real)}


class OasisAdversary(nn.Module):
    """Segmentation discriminator with class-balanced cross-entropy and LabelMix (Schoenfeld et al. 2021).

    Args:
        settings: of the discriminator.
        mix_weight: of the LabelMix consistency; 0 leaves it out.
    """

    def __init__(self, settings: OasisSettings, mix_weight: float = 10.0) -> None:
        super().__init__()
        self.settings = settings
        self.mix_weight = mix_weight
        self.discriminator = OasisDiscriminator(settings)

    def judge(self, labels: Tensor, image: Tensor) -> Outputs:
        """As `PatchAdversary.judge`, with one scale; the prediction is logits (B, num_classes + 1, H, W)."""
        _check(labels, image, self.settings.num_bands)
        logits, features = self.discriminator(image)
        return [[*(value.float() for value in features), logits.float()]]

    def for_generator(
        self,
        fake: Outputs,
        real: Outputs,
        labels: Tensor,
        *,
        paired: Tensor | None = None,
        counts: Tensor | None = None,
    ) -> Losses:
        """As `PatchAdversary.for_generator`, of which `real` and `paired` are not used.

        `counts`: (num_classes,) pixels of each class in the whole batch, where `labels` is a part of it.
        """
        return {"gan": segmentation_loss(fake[0][-1], labels, self._weights(labels, counts))}

    def for_discriminator(
        self,
        fake: Outputs,
        real: Outputs,
        labels: Tensor,
        fake_image: Tensor,
        real_image: Tensor,
        sides: Tensor | None = None,
        *,
        counts: Tensor | None = None,
    ) -> Losses:
        """Weighted losses of the discriminator, by name.

        Args:
            fake: judgement of the painted images.
            real: judgement of the images of the same labels.
            labels: (B, H, W).
            fake_image: the painted images; LabelMix judges mixtures of them and of `real_image`.
            real_image: the images.
            sides: (B, num_classes + 1) bool: which classes of each sample LabelMix takes from the real image; not
                needed without it.
            counts: as for `for_generator`.
        """
        fake_logits, real_logits = fake[0][-1], real[0][-1]
        weights = self._weights(labels, counts)
        losses = {"discriminator": segmentation_loss(real_logits, labels, weights) + fake_loss(fake_logits, labels)}
        if self.mix_weight:
            assert sides is not None
            mask = label_mix_mask(labels, sides)
            mixed = self.judge(labels, torch.where(mask, real_image, fake_image).detach())[0][-1]
            losses["label_mix"] = self.mix_weight * label_mix_loss(mixed, fake_logits, real_logits, mask)
        return losses

    def _weights(self, labels: Tensor, counts: Tensor | None) -> Tensor:
        return class_weights(count_classes(labels, self.settings.num_classes) if counts is None else counts)


def _check(labels: Tensor, image: Tensor, num_bands: int) -> None:
    if labels.shape[1:] != image.shape[2:] or len(labels) != len(image):
        raise DataError(
            f"labels {tuple(labels.shape)} and images {tuple(image.shape)} differ in number, height or width"
        )
    if image.shape[1] != num_bands:
        raise DataError(f"image of {image.shape[1]} bands: the discriminator reads {num_bands}")
