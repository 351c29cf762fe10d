"""The shipped average: spectral norm folded in, statistics measured."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from geosynth.config import GeneratorSettings
from geosynth.models.field import random_noise
from geosynth.models.generator import SpadeGenerator
from geosynth.models.spectral import with_spectral_norm
from geosynth.training.average import estimate_norms, folded_parameters, update_average

SETTINGS = GeneratorSettings(
    num_classes=3,
    num_bands=2,
    base_width=3,
    max_multiple=2,
    hidden_channels=4,
    latent_size=3,
    noise_channels=1,
    depth="less",
)


def inputs(seed, batch=2):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (batch, 32, 32), generator=rng)
    latent = torch.randn((batch, 3), generator=rng)
    return labels, {"latent": latent, "noise": random_noise(SETTINGS, batch, 32, 32, rng)}


@pytest.fixture
def trained():
    """A generator with spectral norm that has seen two batches in training mode."""
    torch.manual_seed(0)
    generator = SpadeGenerator(SETTINGS, spectral_norm=True)
    with torch.no_grad():
        for seed in range(2):
            labels, others = inputs(seed)
            generator(labels, **others)
    return generator


def plain_copy(generator):
    """What torch itself makes of it: parametrisations removed."""
    plain = SpadeGenerator(SETTINGS, spectral_norm=True)
    plain.load_state_dict(generator.state_dict())
    plain.eval()
    for module in plain.modules():
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")
    return plain


def test_folded_parameters_are_torchs_own(trained):
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    folded = folded_parameters(trained)
    expected = dict(plain_copy(trained).named_parameters())
    assert folded.keys() == expected.keys() == dict(SpadeGenerator(SETTINGS).named_parameters()).keys()
    for name, value in expected.items():
        torch.testing.assert_close(folded[name], value)
    # Reading changed nothing: no power iteration, no mode.
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert all(module.training for module in trained.modules())


def test_average_of_decay_zero_paints_what_the_source_does(trained):
    average = SpadeGenerator(SETTINGS)
    update_average(average, trained, decay=0.0)
    average.load_state_dict(
        {name: value for name, value in trained.named_buffers() if "running" in name or "num_batches" in name},
        strict=False,
    )
    with torch.no_grad():
        labels, others = inputs(9)
        torch.testing.assert_close(
            average.eval()(labels, **others), trained.eval()(labels, **others), rtol=1e-4, atol=1e-5
        )


def test_average_runs(trained):
    average = SpadeGenerator(SETTINGS)
    before = {name: value.detach().clone() for name, value in average.named_parameters()}
    folded = folded_parameters(trained)
    update_average(average, trained, decay=0.75)
    for name, value in average.named_parameters():
        torch.testing.assert_close(value, 0.75 * before[name] + 0.25 * folded[name])


def test_folding_works_on_a_single_layer_and_on_layers_without_norm():
    torch.manual_seed(0)
    layer = with_spectral_norm(nn.Conv2d(3, 4, 3))
    assert set(folded_parameters(layer)) == {"weight", "bias"}
    assert torch.linalg.matrix_norm(folded_parameters(layer)["weight"].flatten(1), 2) == pytest.approx(1, abs=0.1)
    plain = nn.Sequential(nn.Linear(2, 2))
    assert folded_parameters(plain).keys() == dict(plain.named_parameters()).keys()


def record_inputs(generator):
    """What each batch norm is fed, batch by batch."""
    seen = {name: [] for name, module in generator.named_modules() if isinstance(module, nn.BatchNorm2d)}
    for name in seen:
        generator.get_submodule(name).register_forward_pre_hook(lambda _, args, name=name: seen[name].append(args[0]))
    return seen


def test_norms_get_the_mean_and_variance_of_what_they_saw():
    torch.manual_seed(0)
    generator = SpadeGenerator(SETTINGS)
    seen = record_inputs(generator)
    momenta = {module.momentum for module in generator.modules() if isinstance(module, nn.BatchNorm2d)}
    estimate_norms(generator, (inputs(seed) for seed in range(3)))
    assert not generator.training
    for name, batches in seen.items():
        norm = generator.get_submodule(name)
        assert norm.momentum in momenta
        assert len(batches) == 3
        means = torch.stack([batch.double().mean((0, 2, 3)) for batch in batches]).mean(0)
        variances = torch.stack([batch.double().var((0, 2, 3)) for batch in batches]).mean(0)
        torch.testing.assert_close(norm.running_mean.double(), means, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var.double(), variances, rtol=1e-4, atol=1e-6)


def test_estimated_norms_do_not_depend_on_what_was_there_before():
    torch.manual_seed(0)
    generator = SpadeGenerator(SETTINGS)
    results = []
    for start in (0.0, 50.0):
        for module in generator.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.fill_(start)
        estimate_norms(generator, [inputs(0), inputs(1)])
        results.append({name: value.clone() for name, value in generator.named_buffers()})
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())
