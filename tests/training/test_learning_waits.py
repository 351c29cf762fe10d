"""The learning part of a step never waits for a GPU, which is told without one: its tensors have no values."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from geosynth.config import TrainSettings
from geosynth.models import generator
from geosynth.models.modulation import SpadeModulation
from geosynth.models.oasis import count_classes
from geosynth.models.perceptual import PerceptualLoss, composites
from geosynth.models.products import ProductWeights
from geosynth.training.draws import draw_batch, split_batch
from geosynth.training.networks import SpadeNetworks
from geosynth.training.objectives import Objectives
from geosynth.training.step import SpadeStep

sys.path.append(str(Path(__file__).parents[1] / "models"))
from operations import Record, fake_gpu
from trainings import a_look

SMALL = {"batch_size": 4, "crop_size": 64, "base_width": 4, "latent_size": 3, "hidden_channels": 8, "encoder_width": 4}
CHOICES = {
    "oasis": {"perceptual_weight": 0.0, "discriminator": "oasis", "augment": 0.5},
    "oasis, features": {
        "perceptual_weight": 1.0,
        "discriminator": "oasis",
        "diversity_weight": 4.0,
        "diversity_distance": "features",
    },
    "features": {"perceptual_weight": 0.0, "diversity_weight": 4.0, "diversity_distance": "features", "parts": 2},
    "perceptual, pixels": {"perceptual_weight": 1.0, "diversity_weight": 4.0},
    "told, projected": {
        "perceptual_weight": 1.0,
        "projected_weight": 1.0,
        "style_lengths": [24],
        "augment": 0.5,
    },
    "reference": {"perceptual_weight": 0.0, "start": "linear", "noise_channels": 0, "stage_noise": False},
}
# Operations of a step's learning part, losses, both backward passes and averages included, at depth "normal".
MOST = {
    "oasis": 2080,
    "oasis, features": 2860,
    "features": 3520,
    "perceptual, pixels": 2280,
    "told, projected": 3940,
    "reference": 1540,
}


class OneProcess:
    """What a step asks of Fabric, for a single process in bfloat16."""

    world_size, global_rank = 1, 0

    def __init__(self, device):
        self.device = torch.device(device)

    def autocast(self):
        return torch.autocast(self.device.type, torch.bfloat16)

    def backward(self, loss, **options):
        torch.autograd.backward(loss, **options)

    def all_reduce(self, values, reduce_op):
        return values

    def setup_optimizers(self, optimizer):
        return optimizer


BANDS = ("red", "green", "blue", "nir")


def parts_of(choice):
    """Settings, networks and a drawn batch of the labels "all one class"."""
    settings = TrainSettings.parse({**SMALL, "precision": "bf16", **CHOICES[choice]})
    looks = [a_look()] if settings.style_lengths else []
    networks = SpadeNetworks(settings, 6, len(BANDS), looks=looks, num_pictures=len(composites(BANDS)))
    image, mask = torch.zeros(4, 4, 64, 64), torch.zeros((4, 64, 64), dtype=torch.long)
    looks = networks.looks_in_turn(len(mask))
    return settings, networks, draw_batch(image, mask, settings, networks.generator.settings, looks, step=0)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize("choice", CHOICES)
def test_losses_on_a_gpu_wait_for_nothing_and_stay_in_16_bits(choice, monkeypatch):
    """Without the backward pass, which asks for a driver."""
    settings, networks, drawn = parts_of(choice)
    whole = [networks]
    if settings.perceptual_weight or settings.projected_weight:
        perceptual = PerceptualLoss.build("efficientnet-lite0", BANDS)
        monkeypatch.setattr(PerceptualLoss, "build", lambda *arguments: perceptual)
        whole.append(perceptual)
    for part in whole:
        monkeypatch.setattr(part, "to", lambda device, part=part: part)
    monkeypatch.setattr("torch.amp.autocast_mode.torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    fabric = OneProcess("cuda")
    with fake_gpu(*whole):
        objectives = Objectives(networks, settings, BANDS, fabric.device)
        batch = drawn.apply(lambda values: torch.empty(values.shape, dtype=values.dtype))
        parts = split_batch(settings, 0, fabric.device)
        learning = networks.painting_weights(), networks.judging_weights()
        weights = ProductWeights(whole, learning, torch.bfloat16)
        with fabric.autocast(), Record() as record:
            counts = count_classes(batch.mask, 6)
            weights.refine()
            with weights.in_place():
                painting, judging = objectives(batch.part(parts[0]), parts[0], counts)
    assert painting.keys()
    assert judging.keys()
    assert not record.waits
    convolutions = [each for each in record.launches if each.name in ("convolution", "conv2d", "cudnn_convolution")]
    assert len(convolutions) > 50
    assert {shape[1] for each in convolutions for shape in each.shapes[:1]} == {torch.bfloat16}
    kernels = {shape[0] for each in convolutions for shape in each.shapes[1:2]}
    casts = [each.shapes[0][0] for each in record.launches if each.name == "_to_copy"]
    assert not kernels.intersection(casts)  # weights are rounded all at once


@pytest.mark.parametrize("choice", CHOICES)
def test_learning_is_the_same_operations_for_any_labels(choice, monkeypatch):
    """With values, on a processor, in the form that a GPU takes; and not more of them than there were."""
    monkeypatch.setattr(generator, "check_labels", lambda *arguments: None)  # on a GPU it is left to whoever draws
    settings, networks, drawn = parts_of(choice)
    for module in networks.modules():
        if isinstance(module, SpadeModulation):
            module.form = "dense"
    step = SpadeStep(networks, settings, BANDS, OneProcess("cpu"))
    mixed = torch.randint(7, drawn.mask.shape, generator=torch.Generator().manual_seed(0))
    records = []
    for mask in (drawn.mask, drawn.mask, mixed):  # the first makes Adam's state
        with Record() as record:
            step._learn_and_average(torch.tensor(0.5), *replace(drawn, mask=mask).tensors())
        assert not record.waits
        records.append(record.operations)
    assert records[1] == records[2]
    assert len(record.launches) <= MOST[choice]
