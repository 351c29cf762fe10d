"""The generator against the paper's table, against a plain implementation, and against itself on other windows."""

import pytest
import torch
from label_maps import assert_within, label_map, load_plain_spade, randomise

from geosynth.config import GeneratorSettings
from geosynth.models.field import latent_field, position_noise, random_noise
from geosynth.models.generator import SpadeGenerator
from geosynth.models.modulation import SpadeModulation
from geosynth.models.windows import Windows

plain_spade = load_plain_spade()

# Channels in, middle, out in base widths, learned shortcut (Park et al. 2019).
REFERENCE_BLOCKS = {
    "head_0": (16, 16, 16, False),
    "G_middle_0": (16, 16, 16, False),
    "G_middle_1": (16, 16, 16, False),
    "up_0": (16, 8, 8, True),
    "up_1": (8, 4, 4, True),
    "up_2": (4, 2, 2, True),
    "up_3": (2, 1, 1, True),
}


def build(settings, seed=0):
    torch.manual_seed(seed)
    generator = SpadeGenerator(settings).eval().requires_grad_(False)
    randomise(generator, seed)
    return generator


def test_reference_generator_has_the_papers_size_and_layers():
    with torch.device("meta"):
        generator = SpadeGenerator(GeneratorSettings.reference(6, 3, base_width=64))
    assert sum(value.numel() for value in generator.parameters()) == 108_935_875
    assert list(generator.blocks) == list(REFERENCE_BLOCKS)
    for name, (inputs, middle, outputs, learned) in REFERENCE_BLOCKS.items():
        block, width = generator.blocks[name], 64
        assert block.conv_0.weight.shape == (middle * width, inputs * width, 3, 3)
        assert block.conv_1.weight.shape == (outputs * width, middle * width, 3, 3)
        assert block.learned_shortcut is learned
        norms = {"norm_0": inputs, "norm_1": middle}
        if learned:
            assert block.conv_s.weight.shape == (outputs * width, inputs * width, 1, 1)
            assert block.conv_s.bias is None
            norms["norm_s"] = inputs
        for norm, channels in norms.items():
            assert getattr(block, norm).modulation.shared.weight.shape == (128, 6, 3, 3)
            assert getattr(block, norm).modulation.gamma_beta.weight.shape == (2 * channels * width, 128, 3, 3)
    assert generator.start.weight.shape == (16 * 64 * 8 * 8, 256)
    assert generator.to_image.weight.shape == (3, 64, 3, 3)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(("depth", "crop_size"), [("normal", 96), ("more", 128), ("most", 128)])
def test_reference_generator_equals_a_plain_one(depth, crop_size, training):
    width, hidden, latent_size = 4, 12, 7
    settings = GeneratorSettings.reference(
        5, 4, crop_size=crop_size, base_width=width, hidden_channels=hidden, latent_size=latent_size, depth=depth
    )
    ours = build(settings).train(training)
    plain = plain_spade.PlainGenerator(
        5, 4, base_width=width, hidden=hidden, latent_size=latent_size, crop_size=crop_size, depth=depth
    ).train(training)
    plain_spade.copy_weights(plain, ours.state_dict())
    labels = label_map("lines", (2, crop_size, crop_size), 5, holes=True)
    z = torch.randn((2, latent_size), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        expected, painted = plain(labels, z), ours(labels, z)
    assert 0.1 < expected.std() < 0.9  # neither flat nor saturated: differences would show
    assert_within(painted, expected)


def test_gradients_equal_the_plain_generators():
    settings = GeneratorSettings.reference(3, 2, crop_size=64, base_width=2, hidden_channels=6, latent_size=4)
    ours = build(settings).requires_grad_()
    plain = plain_spade.PlainGenerator(3, 2, base_width=2, hidden=6, latent_size=4, crop_size=64).eval()
    plain_spade.copy_weights(plain, ours.state_dict())
    labels = label_map("lines", (2, 64, 64), 3)
    gradients = []
    for network, last in ((ours, "to_image"), (plain, "conv_img")):
        z = torch.randn((2, 4), generator=torch.Generator().manual_seed(4), requires_grad=True)
        network(labels, z).square().sum().backward()
        gradients.append((z.grad, getattr(network, last).weight.grad, network.blocks["head_0"].conv_0.weight.grad))
    for mine, theirs in zip(*gradients, strict=True):
        assert_within(mine, theirs)


def tiny(depth, **changes):
    values = {"base_width": 2, "max_multiple": 3, "hidden_channels": 8, "latent_size": 3, "noise_channels": 2}
    return GeneratorSettings(num_classes=4, num_bands=2, depth=depth, **{**values, **changes})


def paint(generator, labels, row, column, height, width):
    """A window at absolute (row, column) of a map whose first pixel stands at `ORIGIN`, with its noise and style."""
    settings = generator.settings
    place = slice(row - ORIGIN[0], row - ORIGIN[0] + height), slice(column - ORIGIN[1], column - ORIGIN[1] + width)
    window = Windows.at(row, column, height, width)
    latent = latent_field(settings, 5, window, style_length=300)
    return generator(labels[:, *place], latent, position_noise(settings, 5, window))


ORIGIN = (-64 * 7, 64 * 150_000)  # negative and large positions, on every stride


@pytest.mark.parametrize("padding", ["replicate", "zeros"])
@pytest.mark.parametrize("depth", ["less", "normal", "more"])
def test_a_window_with_halo_equals_the_crop_of_the_whole(depth, padding):
    settings = tiny(depth, padding=padding)
    generator = build(settings)
    halo, stride = settings.halo, settings.stride
    height, width = 2 * halo + 3 * stride, 2 * halo + 2 * stride
    labels = label_map("lines", (1, height, width), 4, seed=8)
    whole = paint(generator, labels, *ORIGIN, height, width)
    # The window: one stride square, one stride down and right of where the halo just fits.
    size = stride + 2 * halo
    window = paint(generator, labels, ORIGIN[0] + stride, ORIGIN[1] + stride, size, size)
    inside = slice(halo, halo + stride)
    in_whole = slice(stride + halo, 2 * stride + halo)
    assert whole[..., in_whole, in_whole].std() > 0.05
    assert_within(window[..., inside, inside], whole[..., in_whole, in_whole], 1e-5)


def change(values, keep, stride):
    """Other values outside the square `keep` (pixels from, to) of a map at one cell per `stride` pixels."""
    start, stop = keep[0] // stride, keep[1] // stride
    other = (values + 1) % 4 if not values.is_floating_point() else values + 1
    other[..., start:stop, start:stop] = values[..., start:stop, start:stop]
    return other


@pytest.mark.parametrize(("depth", "expected"), [("less", 160), ("normal", 224)])
def test_halo_is_enough_and_at_most_one_stride_too_much(depth, expected):
    settings = tiny(depth)
    generator = build(settings)
    for module in generator.modules():
        if isinstance(module, SpadeModulation):
            module.form = "dense"  # the same sums in the same order whatever the labels
    halo, stride = settings.halo, settings.stride
    assert halo == expected
    size = 2 * halo + 5 * stride
    window = slice(2 * stride + halo, 3 * stride + halo)
    labels = label_map("patches", (1, size, size), 4)
    noise = random_noise(settings, 1, size, size, torch.Generator().manual_seed(0))
    latent = latent_field(settings, 1, Windows.at(0, 0, size, size), style_length=100)
    painted = generator(labels, latent, noise)[..., window, window]

    reach = (2 * stride, 3 * stride + 2 * halo)
    far_noise = [
        change(values, reach, step)
        for values, step in zip(noise, [stride, *(s.stride for s in settings.stages)], strict=True)
    ]
    far = generator(change(labels, reach, 1), change(latent, reach, stride), far_noise)
    assert not torch.equal(far, generator(labels, latent, noise))
    assert torch.equal(far[..., window, window], painted)

    nearer = (reach[0] + stride, reach[1] - stride)
    near = generator(change(labels, nearer, 1), latent, noise)
    assert not torch.equal(near[..., window, window], painted)


def test_a_map_of_one_class_is_not_flat():
    """Noise in space, not the labels, gives texture inside a uniform area."""
    generator = build(tiny("less"))
    labels = torch.zeros((1, 64, 64), dtype=torch.long)
    assert paint(generator, labels, *ORIGIN, 64, 64).std(dim=(2, 3)).min() > 0.01


def test_noise_strength_of_zero_leaves_the_start_noise_only():
    generator = build(tiny("less"))
    labels = label_map("patches", (1, 64, 64), 4)
    latent = torch.zeros(1, 3)
    noise = random_noise(generator.settings, 1, 64, 64, torch.Generator().manual_seed(0))
    quiet = [noise[0], *(torch.zeros_like(values) for values in noise[1:])]
    assert not torch.equal(generator(labels, latent, noise), generator(labels, latent, quiet))
    for block in generator.blocks.values():
        block.noise_strength.zero_()
    assert torch.equal(generator(labels, latent, noise), generator(labels, latent, quiet))


@pytest.mark.parametrize("index", range(8))
def test_each_noise_map_enters_at_its_stage(index):
    """A change of one cell shows, and no farther than the stage's own stride and what lies behind it."""
    settings = tiny("less")
    generator = build(settings)
    labels, latent = torch.zeros((1, 256, 256), dtype=torch.long), torch.zeros(1, 3)
    noise = random_noise(settings, 1, 256, 256, torch.Generator().manual_seed(0))
    before = generator(labels, latent, noise)
    stride = settings.stages[index - 1].stride if index else settings.stride
    noise[index][:, :, 128 // stride, 128 // stride] += 5
    changed = (generator(labels, latent, noise) != before).any(1)[0].nonzero() - 128
    assert len(changed)
    # The cell itself and one conv_1 of the stage; every later stage has two 3x3 convolutions, conv_img one.
    later = (
        [stage.stride for stage in settings.stages[max(index, 1) :]] if index else [s.stride for s in settings.stages]
    )
    reach = stride + 2 * sum(later) + 1
    assert changed.min() >= -reach
    assert changed.max() < stride + reach
    assert changed.max() > 0


def test_one_latent_is_a_constant_field():
    generator = build(tiny("less"))
    labels = label_map("patches", (2, 32, 48), 4)
    rng = torch.Generator().manual_seed(0)
    latent = torch.randn((2, 3), generator=rng)
    noise = random_noise(generator.settings, 2, 32, 48, rng)
    field = latent[:, :, None, None].repeat(1, 1, 2, 3)
    assert torch.equal(generator(labels, latent, noise), generator(labels, field, noise))


def test_works_without_latent_and_noise():
    settings = tiny("less", latent_size=0, noise_channels=0, stage_noise=False)
    image = build(settings)(label_map("patches", (2, 32, 48), 4))
    assert image.shape == (2, 2, 32, 48)
    assert image.abs().max() <= 1
