"""What goes into a generator: other sizes are padded, what does not fit is refused in one line."""

import pytest
import torch
from label_maps import label_map, randomise

from geosynth.config import GeneratorSettings
from geosynth.errors import DataError, SettingsError
from geosynth.models.field import random_noise
from geosynth.models.generator import SpadeGenerator

TINY = GeneratorSettings(
    num_classes=4,
    num_bands=2,
    depth="less",
    base_width=2,
    max_multiple=3,
    hidden_channels=8,
    latent_size=3,
    noise_channels=2,
)


def build(settings):
    generator = SpadeGenerator(settings).eval().requires_grad_(False)
    randomise(generator)
    return generator


def noise_for(settings, *shape):
    return random_noise(settings, *shape, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(40, 33), (1, 1), (17, 48)])
def test_sizes_off_the_lattice_are_painted_on_repeated_labels(size):
    generator, (height, width) = build(TINY), size
    labels = label_map("noise", (2, height, width), 4)
    padded = -(-height // 16) * 16, -(-width // 16) * 16
    assert TINY.padded_size(height, width) == padded
    noise = noise_for(TINY, 2, height, width)
    rows, columns = (torch.arange(long).clamp(max=short - 1) for long, short in zip(padded, size, strict=True))
    expected = generator(labels[:, rows][:, :, columns], torch.ones(2, 3), noise)
    painted = generator(labels, torch.ones(2, 3), noise)
    assert painted.shape == (2, 2, height, width)
    assert torch.equal(painted, expected[..., :height, :width])


def test_linear_start_pads_to_its_crop_and_refuses_more():
    settings = GeneratorSettings.reference(3, 2, crop_size=64, base_width=2, hidden_channels=4, latent_size=4)
    linear, z = build(settings), torch.zeros(1, 4)
    assert linear(torch.zeros((1, 60, 33), dtype=torch.long), z).shape == (1, 2, 60, 33)
    with pytest.raises(DataError, match="65 x 32 px: the linear start paints windows of up to 64 px"):
        linear(torch.zeros((1, 65, 32), dtype=torch.long), z)
    with pytest.raises(SettingsError, match=r"takes \(1, 4\)$"):
        linear(torch.zeros((1, 64, 64), dtype=torch.long), torch.zeros(1, 4, 2, 2))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"labels": torch.full((2, 32, 32), 5)}, DataError, "labels hold 5..5: class indices are 0..3, and 4 where"),
        ({"labels": torch.full((2, 32, 32), -1)}, DataError, "labels hold -1..-1"),
        ({"labels": torch.zeros(2, 32, 32)}, DataError, "integers"),
        ({"labels": torch.zeros((32, 32), dtype=torch.long)}, DataError, "(B, H, W)"),
        ({"labels": torch.zeros((2, 0, 32), dtype=torch.long)}, DataError, "(2, 0, 32)"),
        ({"latent": None}, SettingsError, "latent None: for these labels the generator takes (2, 3) or (2, 3, 2, 2)"),
        ({"latent": torch.zeros(2, 4)}, SettingsError, "latent (2, 4)"),
        ({"latent": torch.zeros(1, 3)}, SettingsError, "latent (1, 3)"),
        ({"latent": torch.zeros(2, 3, 4, 2)}, SettingsError, "latent (2, 3, 4, 2)"),
        ({"noise": []}, SettingsError, "0 noise maps: the generator takes 8"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(changes, error, words):
    values = {
        "labels": torch.zeros((2, 32, 32), dtype=torch.long),
        "latent": torch.zeros(2, 3),
        "noise": noise_for(TINY, 2, 32, 32),
    }
    with pytest.raises(error) as caught:
        build(TINY)(**{**values, **changes})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_batch_of_one_uint8_map_of_one_class_trains():
    generator = build(TINY).train()
    labels = torch.full((1, 32, 32), 2, dtype=torch.uint8)
    noise = noise_for(TINY, 1, 32, 32)
    image = generator(labels, torch.ones(1, 3), noise)
    assert torch.isfinite(image).all()
    assert torch.equal(image, generator(labels.long(), torch.ones(1, 3), noise))


def test_one_value_a_channel_cannot_be_normalised():
    generator = build(TINY).train()
    labels = torch.zeros((1, 16, 16), dtype=torch.long)
    with pytest.raises(DataError, match="larger batch or crop"):
        generator(labels, torch.ones(1, 3), noise_for(TINY, 1, 16, 16))
    assert generator.eval()(labels, torch.ones(1, 3), noise_for(TINY, 1, 16, 16)).shape == (1, 2, 16, 16)
