"""The kernels against the dense form and against noise and looks of the CPU; test_kernels.py runs this."""

from types import SimpleNamespace

import pytest
import torch
from label_maps import KINDS, assert_within, label_map, randomise
from torch.nn import functional as F

from geosynth.config import GeneratorSettings
from geosynth.models import field_kernels, hashing, modulation, pattern_kernels
from geosynth.models.affine import LayerNoise, PixelRows
from geosynth.models.field import position_noise
from geosynth.models.generator import SpadeGenerator
from geosynth.models.looks import field as look_field
from geosynth.models.looks.look import Look, LookDraws
from geosynth.models.modulation import SpadeModulation, SpadeNorm
from geosynth.models.patterns import LabelPatterns
from geosynth.models.trials import KernelTrials
from geosynth.models.windows import Windows
from geosynth.models.zoom import Zoom


@pytest.fixture(autouse=True)
def trusted(monkeypatch):
    """The kernels are compared here, not tried by themselves before."""
    monkeypatch.setattr(modulation, "kernel_trials", SimpleNamespace(passed=lambda *arguments: True))


@pytest.fixture(autouse=True)
def larger_programs(monkeypatch):
    """The interpreter takes as long for a small program as for a large one; each table still needs two or more."""
    monkeypatch.setattr(pattern_kernels, "_PLACES", pattern_kernels._FEWEST_PLACES // 2)


def compare(
    labels, num_classes, padding, *, channels=5, slope=0.2, noisy=True, dtype=torch.float32, told=None, zoom=None
):
    """The kernel and the dense form on the same labels.

    Looks are told "by row" of a table or "by pixel".
    """
    layer = SpadeNorm(channels, num_classes, 3, padding).eval()
    randomise(layer)
    layer.to(memory_format=torch.channels_last)  # as in a generator
    rng = torch.Generator().manual_seed(0)
    batch, height, width = labels.shape
    size = (height, width) if zoom is None else ((side + 2 * zoom.dropped) // zoom.factor for side in (height, width))
    features = torch.randn((batch, channels, *size), generator=rng).to(dtype)
    look = noise = None
    if noisy:
        drawn = torch.randn((batch, 1, height, width), generator=rng)
        noise = LayerNoise(drawn, torch.rand((num_classes + 1, channels), generator=rng))
    if told is not None:
        wide = torch.randint(9, (batch, height + 3, width + 2), generator=rng)
        rows = wide[:, 2:-1, 1:-1] if told == "by row" else None  # as at a level that drops some of the margin
        count = 9 if told == "by row" else labels.numel()
        look = PixelRows(torch.randn((count, 2 * channels), generator=rng).to(dtype), rows)
    results = []
    with torch.no_grad():
        for form in ("dense", "kernel"):
            layer.modulation.form = form
            patterns = LabelPatterns(labels, num_classes, padding)
            own = look and look._replace(table=look.table.clone())
            results.append(layer(features.clone(), patterns, slope, True, noise, own, zoom))
    assert results[1].is_contiguous(memory_format=torch.channels_last)
    assert results[1].dtype == dtype
    return results


@pytest.mark.parametrize(("noisy", "told"), [(True, "by row"), (True, "by pixel"), (False, None)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_kernel_passes_its_trial(dtype, noisy, told, monkeypatch):
    trials = KernelTrials()
    monkeypatch.setattr(modulation, "kernel_trials", trials)
    dense, kernel = compare(label_map("patches", (1, 3, 4), 2), 2, "replicate", noisy=noisy, dtype=dtype, told=told)
    assert_within(kernel.float(), dense.float(), 1e-4 if dtype == torch.float32 else 0.05)
    assert trials._passed


@pytest.mark.parametrize("padding", ["replicate", "zeros"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_classes", [1, 6])
def test_the_kernel_equals_the_dense_form(kind, padding, num_classes):
    labels = label_map(kind, (2, 13, 11), num_classes, holes=num_classes > 1)
    dense, kernel = compare(labels, num_classes, padding)
    assert_within(kernel, dense)


def test_channels_beyond_one_tile_without_noise_or_activation():
    dense, kernel = compare(label_map("patches", (1, 5, 6), 3), 3, "replicate", channels=70, slope=1.0, noisy=False)
    assert_within(kernel, dense)


@pytest.mark.parametrize("told", ["by row", "by pixel"])
def test_looks_come_before_noise(told):
    labels = label_map("patches", (2, 9, 13), 3, holes=True)[:, 2:, 1:-2]  # a view, as levels see them
    dense, kernel = compare(labels, 3, "replicate", told=told)
    assert_within(kernel, dense)


@pytest.mark.parametrize("zoom", [Zoom(2, 0), Zoom(2, 3)])
def test_features_of_the_level_before(zoom):
    dense, kernel = compare(label_map("lines", (2, 6, 8), 3)[..., 1:7], 3, "zeros", zoom=zoom)
    assert_within(kernel, dense)


@pytest.mark.parametrize("padding", ["replicate", "zeros"])
def test_patterns_that_find_no_place_are_computed_where_they_are_met(padding, monkeypatch):
    labels = label_map("noise", (1, 4, 8), 4, holes=True)
    for name in ("_FEWEST_PLACES", "_MOST_PLACES"):
        monkeypatch.setattr(pattern_kernels, name, 16)
    missing = LabelPatterns(labels, 4, padding).hashed.ids < 0
    assert 0.1 < missing.float().mean() < 0.9
    dense, kernel = compare(labels, 4, padding)
    assert_within(kernel, dense)


@pytest.mark.parametrize("padding", ["replicate", "zeros"])
def test_places_hold_the_patterns_of_the_pixels(padding):
    labels = label_map("lines", (2, 12, 15), 5, holes=True)
    patterns = LabelPatterns(labels, 5, padding)
    hashed = patterns.hashed
    assert (hashed.ids >= 0).all()
    assert len(hashed.ids.unique()) <= patterns.num_patterns
    lone = labels[:, None].float()
    padded = F.pad(lone, (1,) * 4, mode="replicate") if padding == "replicate" else F.pad(lone, (1,) * 4, value=5)
    padded = padded[:, 0].long()
    around = padded.unfold(1, 3, 1).unfold(2, 3, 1).flatten(3)
    powers = 6 ** torch.arange(8, -1, -1)
    assert torch.equal(hashed.codes[hashed.ids.long()], (around * powers).sum(-1))
    taps, bias = torch.randn(45, 3), torch.randn(3)
    expected = F.relu(F.one_hot(around, 6)[..., :-1].flatten(3).float() @ taps + bias)
    assert_within(pattern_kernels.hidden_rows(hashed, taps, bias)[hashed.ids.long()], expected)


def test_a_generator_by_kernel_paints_what_the_dense_one_does():
    settings = GeneratorSettings(
        num_classes=4,
        num_bands=2,
        base_width=2,
        max_multiple=2,
        hidden_channels=4,
        depth="less",
        latent_size=0,
        noise_channels=1,
    )
    generator = SpadeGenerator(settings).eval()
    randomise(generator)
    for value in generator.to_image.parameters():
        value.data.mul_(0.2)  # away from the flat ends of tanh
    size = 2 * settings.halo + settings.stride
    labels = label_map("patches", (1, size, size), 4)
    noise = position_noise(settings, 1, Windows.at(0, 0, size, size), margin=settings.halo)
    images = []
    for form in ("dense", "kernel"):
        for module in generator.modules():
            if isinstance(module, SpadeModulation) and (form == "dense" or module.channels <= 4):
                module.form = form
        for dtype in (torch.float32, torch.bfloat16):
            with torch.inference_mode():
                images.append(generator.for_painting(dtype)(labels, None, noise, settings.halo).float())
    assert images[0].std() > 0.05
    assert_within(images[2], images[0])
    assert (images[3] - images[0]).abs().mean() < 0.02
    assert (images[1] - images[0]).abs().mean() < 0.02


@pytest.mark.parametrize("first", [(0, 0), (-7, 160_001), (12, -5)])
def test_noise_by_kernel_is_that_of_the_cpu(first):
    rows, columns = torch.tensor([first, [start + 100 for start in first]]).unbind(1)  # as a painter has them
    asked = 2**40 + 3, 1 << 20, 3, Windows(rows, columns, 5, 6)
    found, expected = field_kernels.normal_numbers(*asked), hashing.normal_numbers(*asked)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("style_length", [0, 100, 2048])
@pytest.mark.parametrize(("gaps", "gradual"), [((48, 48), ()), ((16, 400, 48), (1,)), ((16, 400), (1, 0))])
def test_looks_by_kernel_are_those_of_the_cpu(gaps, gradual, style_length):
    rng = torch.Generator().manual_seed(0)
    look = Look(
        torch.randn((len(gaps), 7), generator=rng),
        torch.randn((5, len(gaps), 3, 7), generator=rng),
        torch.ones(len(gaps)),
    )
    rows, columns = torch.tensor([[-808, 0], [10**7, -(10**6) - 8]]).unbind(1)  # as a painter has them
    asked = LookDraws(look, 2**40 + 3, gaps, gradual, style_length), Windows(rows, columns, 48, 72)
    found = look_field._looks_by_kernel(*asked)
    assert torch.equal(found, look_field._plain_looks(*asked))
    assert len(found.flatten(0, 2).unique()) > 100


def test_fields_pass_their_trials(monkeypatch):
    trials = KernelTrials()
    for module in (hashing, look_field):
        monkeypatch.setattr(module, "kernel_trials", trials)
        monkeypatch.setattr(module, "has_kernels", lambda device: True)
    settings = GeneratorSettings(num_classes=2, num_bands=1, latent_size=0, style_lengths=(24, 96))
    look = Look(torch.zeros(2, 6), torch.ones(1, 2, 1, 6), torch.ones(2))
    look_field.look_field(settings, look, 1, Windows.at(0, 0, 64, 64), 256)
    position_noise(settings, 1, Windows.at(0, 0, 64, 64))
    assert len(trials._passed) == 2
