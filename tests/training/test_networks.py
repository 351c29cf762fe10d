"""The networks of a training before its first step."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize
from trainings import TINY

from geosynth.checkpoint import load_generator
from geosynth.models.field import random_noise
from geosynth.training.networks import SpadeNetworks


@pytest.fixture(scope="module", params=["fresh", "of a model"])
def networks(request, trained):
    initial = None if request.param == "fresh" else load_generator(trained[0] / "model.safetensors")
    return SpadeNetworks(TINY, 6, 4, initial)


def test_all_that_learn_have_spectral_norms_and_what_is_shipped_has_none(networks):
    convolutions = [layer for layer in networks.encoder.modules() if isinstance(layer, nn.Conv2d)]
    assert convolutions
    assert all(map(parametrize.is_parametrized, convolutions))
    assert any(map(parametrize.is_parametrized, networks.generator.modules()))
    assert any(map(parametrize.is_parametrized, networks.adversary.modules()))
    assert not any(map(parametrize.is_parametrized, networks.average.modules()))


def test_the_average_begins_as_the_generator(networks):
    settings, rng = networks.generator.settings, torch.Generator().manual_seed(0)
    labels = torch.randint(6, (1, 64, 64), generator=rng)
    inputs = labels, torch.zeros(1, settings.latent_size), random_noise(settings, 1, 64, 64, rng)
    assert not networks.average.training
    assert not any(weight.requires_grad for weight in networks.average.parameters())
    average, generator = networks.average, networks.generator.eval()
    for network in (average, generator):  # with the same statistics, which the average does not take over
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.reset_running_stats()
    with torch.no_grad():
        torch.testing.assert_close(average(*inputs), generator(*inputs), rtol=1e-4, atol=1e-5)
