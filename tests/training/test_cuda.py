"""What a GPU computes is what the CPU computes; skipped where there is none."""

import numpy as np
import pytest
import torch
from trainings import TINY, make_store, ready, update

from geosynth.checkpoint import load_generator
from geosynth.config import GenerateSettings
from geosynth.models.field import latent_field, position_noise, random_noise
from geosynth.models.windows import Windows
from geosynth.mosaic.twin import twin
from geosynth.raster.stores.store import Store
from geosynth.training.train import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

CHOICES = [
    {},
    {"discriminator": "oasis"},
    {"diversity_weight": 4.0, "diversity_distance": "features"},
    {"prior_share": 1.0, "stage_noise": False},
    {"start": "linear", "padding": "zeros", "noise_channels": 0, "stage_noise": False},
    {"style_lengths": (24,) * 6, "style_weight": 1.0},
]


@pytest.fixture(autouse=True)
def _whole_float32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cuda")
    store = make_store(folder / "store.zarr", folds=("train", "test"))
    settings = TINY.model_copy(update={"precision": "bf16", "preview_every": 2})
    return store, train(store, folder / "run", settings)


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: ",".join(choice) or "defaults")
def test_steps_have_the_losses_of_the_cpu(choice):
    settings = TINY.model_copy(update=choice)
    rng = torch.Generator().manual_seed(0)
    image = torch.rand((2, 4, 64, 64), generator=rng) * 2 - 1
    mask = torch.randint(6, (2, 8, 8), generator=rng).repeat_interleave(8, 1).repeat_interleave(8, 2)
    losses = {}
    for device in ("cpu", "cuda"):
        step = ready(settings, device)
        losses[device] = [update(step, image, mask, number) for number in range(2)]
    for on_cpu, on_gpu in zip(losses["cpu"], losses["cuda"], strict=True):
        assert on_gpu == pytest.approx(on_cpu, rel=1e-2, abs=1e-3)


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: ",".join(choice) or "defaults")
def test_replayed_steps_have_the_losses_of_those_that_are_not(choice):
    """What can be told without a GPU is in test_replayed_training.py; here is whether a GPU records at all."""
    replayed, eager = (ready(TINY.model_copy(update=choice), "cuda") for _ in range(2))
    eager._replay.enabled = False
    rng = torch.Generator().manual_seed(0)
    for number in range(6):
        image = torch.rand((2, 4, 64, 64), generator=rng) * 2 - 1
        mask = torch.randint(6, (2, 8, 8), generator=rng).repeat_interleave(8, 1).repeat_interleave(8, 2)
        expected = update(eager, image, mask, number)
        assert update(replayed, image, mask, number) == pytest.approx(expected, rel=1e-2, abs=1e-3)
    assert replayed._replay.enabled
    assert len(replayed._replay._recordings) == 1


def test_a_model_trained_in_16_bits_paints_alike_on_both(model):
    path = model[1]
    labels = torch.randint(6, (1, 64, 64), generator=torch.Generator().manual_seed(0))
    on_cpu, on_gpu = (load_generator(path, device) for device in ("cpu", "cuda"))
    noise = random_noise(on_cpu.card.settings, 1, 64, 64, torch.Generator().manual_seed(0))
    expected = on_cpu.generator(labels, torch.zeros(1, 3), noise)
    found = on_gpu.generator(labels.cuda(), torch.zeros(1, 3).cuda(), [values.cuda() for values in noise]).cpu()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_noise_and_style_are_those_of_the_cpu():
    settings = TINY.generator(6, 4)
    here, there = (Windows.at(64 * 10_001, 64 * 5_003, 128, 192, device) for device in ("cpu", "cuda"))
    for on_cpu, on_gpu in zip(position_noise(settings, 7, here), position_noise(settings, 7, there), strict=True):
        torch.testing.assert_close(on_gpu.cpu(), on_cpu, atol=1e-4, rtol=0)
    fields = [latent_field(settings, 7, place, 512).cpu() for place in (here, there)]
    torch.testing.assert_close(fields[1], fields[0], atol=1e-4, rtol=0)


def test_twins_differ_by_rounding_only(model, tmp_path):
    store, path = model
    images = []
    for device in ("cpu", "cuda"):
        out = tmp_path / f"{device}.zarr"
        twin(store, out, path, GenerateSettings(precision="fp32", device=device), folds=["test"])
        image = Store(out).read_image(store.scenes_in("test")[0].window)
        images.append(image.astype(np.int16))
    assert np.abs(images[1] - images[0]).max() <= 1
