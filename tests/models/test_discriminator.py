"""Shapes, scales and norms of the discriminator."""

import torch
from torch.nn import functional as F

from geosynth.config import DiscriminatorSettings
from geosynth.models.adversary import MultiscaleDiscriminator


def build():
    torch.manual_seed(0)
    return MultiscaleDiscriminator(DiscriminatorSettings(num_classes=5, num_bands=4, base_width=6)).eval()


def inputs(size):
    rng = torch.Generator().manual_seed(1)
    labels = torch.randint(5, (2, size, size), generator=rng)
    return F.one_hot(labels, 5).permute(0, 3, 1, 2).float(), torch.randn((2, 4, size, size), generator=rng)


def test_features_have_the_papers_sizes():
    """Kernel 4, padding 2: n -> n // 2 + 1 at stride 2, n + 1 at stride 1; two scales, the second on half the size."""
    with torch.no_grad():
        outputs = build()(*inputs(64))
    sizes = [[value.shape for value in scale] for scale in outputs]
    for scale, side in zip(sizes, (64, 32), strict=True):
        first, second, third = side // 2 + 1, (side // 2 + 1) // 2 + 1, ((side // 2 + 1) // 2 + 1) // 2 + 1
        assert scale == [
            (2, 6, first, first),
            (2, 12, second, second),
            (2, 24, third, third),
            (2, 48, third + 1, third + 1),
            (2, 1, third + 2, third + 2),
        ]


def test_second_scale_sees_the_pooled_input():
    network = build()
    one_hot, image = inputs(32)
    pooled = F.avg_pool2d(torch.cat([one_hot, image], 1), 3, 2, 1, count_include_pad=False)
    with torch.no_grad():
        outputs = network(one_hot, image)
        for value, expected in zip(outputs[1], network.scales[1](pooled), strict=True):
            assert torch.equal(value, expected)


def test_norms_sit_on_the_middle_layers_only():
    """Scaling the first layer scales its features; what comes after a norm does not notice."""
    network = build()
    features = []
    with torch.no_grad():
        network.scales[0].first.weight.mul_(100)  # so that the norms' epsilon does not matter
        for _ in range(2):
            features.append(network(*inputs(64))[0])
            network.scales[0].first.weight.mul_(2)
    torch.testing.assert_close(features[1][0], 2 * features[0][0])
    for once, twice in zip(features[0][1:], features[1][1:], strict=True):
        torch.testing.assert_close(once, twice, rtol=1e-3, atol=1e-3)
    for value in features[0][1:4]:
        # leaky ReLU undone, each channel of each sample has mean 0 and variance 1
        linear = torch.where(value < 0, value / 0.2, value)
        assert linear.mean((2, 3)).abs().max() < 1e-3
        assert (linear.var((2, 3), unbiased=False) - 1).abs().max() < 0.01
    for layer in network.scales[0].middle:
        assert layer.bias is None
        norm = float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2))
        assert 0.9 < norm < 1.1  # found by power iteration


def test_samples_of_a_batch_do_not_see_each_other():
    """Real and fake may go through in one batch."""
    network = build()
    one_hot, image = inputs(32)
    with torch.no_grad():
        together, alone = network(one_hot, image), network(one_hot[1:], image[1:])
    for scale, alone_scale in zip(together, alone, strict=True):
        for value, alone_value in zip(scale, alone_scale, strict=True):
            torch.testing.assert_close(value[1:], alone_value, rtol=1e-4, atol=1e-5)
