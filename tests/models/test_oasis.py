"""The segmentation discriminator and its losses against naive forms."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.nn import functional as F

from geosynth.config import OasisSettings
from geosynth.errors import DataError
from geosynth.models.oasis import (
    OasisDiscriminator,
    class_weights,
    count_classes,
    fake_loss,
    label_mix_loss,
    label_mix_mask,
    segmentation_loss,
)

CLASSES = 4


def build(**changes):
    torch.manual_seed(0)
    values = {"num_classes": CLASSES, "num_bands": 3, "base_width": 4, **changes}
    return OasisDiscriminator(OasisSettings(**values)).eval().requires_grad_(False)


def random_case(seed=0, size=8):
    """Labels with a class that is absent and pixels without one, and logits."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES + 1, (3, size, size), generator=rng)
    labels[labels == 2] = 0
    return labels, torch.randn((3, CLASSES + 1, size, size), generator=rng)


def test_channels_are_the_papers():
    """With the paper's width of 64, that is; here a quarter of it, which is quicker to build."""
    network, width = build(base_width=16), 16
    down = [(block.conv_0.weight.shape[1], block.conv_1.weight.shape[0]) for block in network.down]
    up = [(block.conv_0.weight.shape[1], block.conv_1.weight.shape[0]) for block in network.up]
    assert down[0] == (3, 2 * width)
    paper = [(128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    paper += [(512, 512), (1024, 256), (512, 256), (512, 128), (256, 128), (256, 64)]
    assert [*down[1:], *up] == [(inputs // 4, outputs // 4) for inputs, outputs in paper]
    assert network.to_classes.weight.shape == (CLASSES + 1, width, 1, 1)


@pytest.mark.parametrize(("size", "levels"), [((64, 64), 6), ((70, 101), 6), ((32, 48), 4), ((2, 3), 1)])
def test_one_prediction_a_pixel_at_any_size(size, levels):
    logits, features = build(num_levels=levels)(torch.randn(2, 3, *size))
    assert logits.shape == (2, CLASSES + 1, *size)
    assert len(features) == 2 * levels
    assert torch.isfinite(logits).all()


def test_too_small_an_image_is_refused():
    with pytest.raises(DataError, match="40 x 63 px: 6 levels need sides of 64 px"):
        build()(torch.zeros(1, 3, 40, 63))


def test_skips_carry_fine_detail():
    """One pixel of a large image changes the prediction there more than anywhere else."""
    network = build()
    image = torch.randn((1, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    other = image.clone()
    other[:, :, 20, 33] += 3
    change = (network(other)[0] - network(image)[0]).abs().sum(1)[0]
    assert abs(int(change.argmax()) // 64 - 20) <= 4
    assert abs(int(change.argmax()) % 64 - 33) <= 4


def test_all_convolutions_have_spectral_norm_one():
    network = build().train()
    for _ in range(30):
        network(torch.zeros(1, 3, 64, 64))
    layers = [layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert layers
    for layer in layers:
        assert float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2)) == pytest.approx(1, abs=0.05)


def naive_weights(labels):
    pixels = [index for index in labels.flatten().tolist() if index < CLASSES]
    present = set(pixels)
    return [len(pixels) / (pixels.count(index) * len(present)) if index in present else 0 for index in range(CLASSES)]


@settings(max_examples=40)
@given(hnp.arrays("int64", (2, 3, 4), elements=st.integers(0, CLASSES)))
def test_class_weights_are_inverse_frequencies(values):
    labels = torch.from_numpy(values)
    weights = class_weights(count_classes(labels, CLASSES))
    torch.testing.assert_close(weights, torch.tensor(naive_weights(labels)))
    known = labels[labels < CLASSES]
    if len(known):
        assert float(weights[known].mean()) == pytest.approx(1)


def test_segmentation_loss_is_the_naive_sum():
    labels, logits = random_case()
    weights, total = naive_weights(labels), 0.0
    for sample, row, column in torch.cartesian_prod(*(torch.arange(size) for size in labels.shape)).tolist():
        label = int(labels[sample, row, column])
        if label < CLASSES:
            scores = logits[sample, :, row, column].tolist()
            total += weights[label] * (math.log(sum(map(math.exp, scores))) - scores[label])
    loss = segmentation_loss(logits, labels, class_weights(count_classes(labels, CLASSES)))
    assert float(loss) == pytest.approx(total / labels.numel(), rel=1e-5)


def test_fake_loss_is_the_naive_sum():
    labels, logits = random_case()
    entropy = logits.exp().sum(1).log() - logits[:, CLASSES]
    assert float(fake_loss(logits, labels)) == pytest.approx(float(entropy[labels < CLASSES].sum() / labels.numel()))


def test_losses_without_any_class_are_zero_and_finite():
    labels, logits = torch.full((1, 4, 4), CLASSES, dtype=torch.uint8), torch.randn(1, CLASSES + 1, 4, 4)
    logits.requires_grad_()
    weights = class_weights(count_classes(labels, CLASSES))
    loss = segmentation_loss(logits, labels, weights) + fake_loss(logits, labels)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not logits.grad.any()


def test_mean_over_halves_of_a_batch_is_the_whole_with_counts_of_the_whole():
    labels, logits = random_case()
    labels, logits = labels.repeat(2, 1, 1)[:4], logits.repeat(2, 1, 1, 1)[:4]
    weights = class_weights(count_classes(labels, CLASSES))
    halves = [segmentation_loss(logits[part], labels[part], weights) for part in (slice(0, 2), slice(2, 4))]
    assert float(sum(halves) / 2) == pytest.approx(float(segmentation_loss(logits, labels, weights)), rel=1e-5)


def test_label_mix_follows_class_regions():
    labels, _ = random_case(size=16)
    for seed in range(40):
        drawn = torch.rand((3, CLASSES + 1), generator=torch.Generator().manual_seed(seed)) < 0.5
        mask = label_mix_mask(labels.to(torch.uint8), drawn)
        assert mask.shape == (3, 1, 16, 16)
        for sample in range(3):
            regions = [mask[sample, 0][labels[sample] == index] for index in labels[sample].unique()]
            assert all(region.all() or not region.any() for region in regions)
            assert [bool(region[0]) for region in regions] == drawn[sample, labels[sample].unique()].tolist()
    alone = label_mix_mask(labels[2:], drawn[2:])
    assert alone.shape == (1, 1, 16, 16)


def test_label_mix_loss_is_zero_for_a_pixelwise_network_and_the_mean_square_else():
    """A network that looks at single pixels cannot tell a mixture."""
    labels, _ = random_case()
    rng = torch.Generator().manual_seed(1)
    weight = torch.randn((CLASSES + 1, 3, 1, 1), generator=rng)
    fake, real = torch.randn((2, 3, 3, 8, 8), generator=rng)
    mask = label_mix_mask(labels, torch.rand((3, CLASSES + 1), generator=rng) < 0.5)
    mixed = torch.where(mask, real, fake)
    judged = [F.conv2d(values, weight) for values in (mixed, fake, real)]
    assert float(label_mix_loss(*judged, mask)) < 1e-10
    off = judged[0] + torch.arange(CLASSES + 1.0).view(1, -1, 1, 1)
    assert float(label_mix_loss(off, *judged[1:], mask)) == pytest.approx((0 + 1 + 4 + 9 + 16) / 5, rel=1e-5)
