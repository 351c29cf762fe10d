"""Features of ImageNet networks and the loss on them; where weights come from, and what is said when they do not."""

import pytest
import torch
from torchvision.models import VGG19_Weights, vgg19

from geosynth.config.bands import rgb_bands
from geosynth.errors import CheckpointError
from geosynth.models.perceptual import EfficientNetLiteFeatures, PerceptualLoss, Vgg19Features, composites

RGBN = ("red", "green", "blue", "nir")
WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)


@pytest.fixture(scope="module")
def random_vgg():
    """VGG19's convolutions with random weights that keep the scale of what goes through."""
    with torch.device("meta"):
        network = vgg19(weights=None).features
    network.to_empty(device="cpu")
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in network.parameters():
            spread = (2 / value[0].numel()) ** 0.5 if value.ndim > 1 else 0.0
            value.copy_(spread * torch.randn(value.shape, generator=rng))
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def vgg_path(tmp_path_factory, random_vgg):
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    state = {f"features.{name}": value for name, value in random_vgg.state_dict().items()}
    torch.save({**state, "classifier.0.weight": torch.zeros(2, 2)}, path)
    return path


@pytest.fixture(scope="module")
def lite0():
    return PerceptualLoss.build("efficientnet-lite0", RGBN)


def images(bands=4, size=64):
    return torch.rand((2, 2, bands, size, size), generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_vgg_loss_is_the_papers(random_vgg, vgg_path):
    """L1 on relu1_1 .. relu5_1 of ImageNet-normalised RGB, by walking through torchvision's network."""
    fake, real = images(size=32)
    normalise = VGG19_Weights.IMAGENET1K_V1.transforms()
    mean, deviation = (torch.tensor(values).view(-1, 1, 1) for values in (normalise.mean, normalise.std))

    def features(image):
        values, found, name = ((image[:, :3] + 1) / 2 - mean) / deviation, [], [1, 1]
        for layer in random_vgg:
            values = layer(values)
            if isinstance(layer, torch.nn.ReLU):
                found += [values.clone()] if name[1] == 1 else []  # relu{block}_1
                name[1] += 1
            elif isinstance(layer, torch.nn.MaxPool2d):
                name = [name[0] + 1, 1]
        return found

    expected = sum(
        weight * (one - other).abs().mean()
        for weight, one, other in zip(WEIGHTS, features(fake), features(real), strict=True)
    )
    loss = PerceptualLoss.build("vgg19", RGBN[:3], vgg_path)
    torch.testing.assert_close(loss(fake, real), expected, rtol=1e-4, atol=1e-5)


def test_lite0_weights_fit_what_they_were_trained_for(lite0):
    """Where layers, names or scaling are mixed up, activations leave the statistics that batch norms remember.

    Random smooth images are no photographs: most channels must be within a few deviations.
    """
    network = lite0.features.network
    shifts = []

    def watch(norm, inputs):
        shift = (inputs[0].mean((0, 2, 3)) - norm.running_mean) / norm.running_var.sqrt()
        shifts.append(float(shift.abs().median()))

    handles = [
        module.register_forward_pre_hook(watch)
        for module in network.modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    ]
    coarse = torch.randn((4, 3, 16, 16), generator=torch.Generator().manual_seed(0)) * 0.5
    image = torch.nn.functional.interpolate(coarse, size=128, mode="bicubic").clamp(-1, 1)
    maps = lite0.features(image)
    for handle in handles:
        handle.remove()
    assert len(shifts) == 49
    assert max(shifts) < 2
    assert [tuple(value.shape[1:]) for value in maps] == [
        (16, 64, 64),
        (24, 32, 32),
        (40, 16, 16),
        (112, 8, 8),
        (1280, 4, 4),
    ]


def test_loss_falls_with_likeness_and_moves_the_fake_only(lite0):
    fake, real = images()
    assert float(lite0(real, real)) == 0
    fake.requires_grad_()
    real.requires_grad_()
    near = lite0(real + 0.1 * (fake - real), real)
    far = lite0(fake, real)
    assert 0 < float(near.detach()) < float(far.detach())
    far.backward()
    assert real.grad is None
    assert all(fake.grad[:, band].abs().sum() > 0 for band in range(4))
    assert not any(value.requires_grad for value in lite0.parameters())
    assert not lite0.train().features.network.training


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (RGBN, (0, 1, 2)),
        (("nir", "Blue", "green", "RED"), (3, 2, 1)),
        (("b1", "b2", "b3", "b4", "b5"), (0, 1, 2)),
        (("pan",), (0, 0, 0)),
        (("vv", "vh"), (0, 1, 1)),
    ],
)
def test_rgb_is_found_by_name(names, expected, lite0):
    assert rgb_bands(names) == expected
    loss = PerceptualLoss(lite0.features, [rgb_bands(names)])
    assert torch.isfinite(loss(*images(len(names), 32)))


def test_composites_name_the_bands_that_a_network_sees() -> None:
    natural, infrared = composites(("Red", "Green", "Blue", "NIR")).items()
    assert natural == ("red, green, blue", (0, 1, 2))
    assert infrared == ("nir, red, green", (3, 0, 1))
    assert composites(("blue", "green", "red")) == {"red, green, blue": (2, 1, 0)}
    assert composites(("band 1", "band 2")) == {"band 1, band 2, band 2": (0, 1, 1)}


def test_the_loss_is_the_mean_over_composites(lite0):
    fake, real = images()
    parts = [PerceptualLoss(lite0.features, [bands])(fake, real) for bands in ((0, 1, 2), (3, 0, 1))]
    torch.testing.assert_close(lite0(fake, real), sum(parts) / 2)
    assert float(parts[0]) != pytest.approx(float(parts[1]), rel=0.01)


def test_weights_of_another_network_are_refused(tmp_path, vgg_path):
    other = tmp_path / "other.pth"
    torch.save({"features.0.weight": torch.zeros(2)}, other)
    for call, words in (
        (lambda: Vgg19Features(other), "not the weights of this network"),
        (lambda: Vgg19Features(tmp_path / "none.pth"), "none.pth: no such weights file"),
        (lambda: EfficientNetLiteFeatures(vgg_path), "efficientnet-lite0 has 296"),
    ):
        with pytest.raises(CheckpointError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_download_that_fails_says_what_to_do_instead(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*arguments, **keywords):
        raise OSError("<urlopen error [Errno -2] Name or service not known>")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(CheckpointError, match=r"could not be fetched from https.*give their path") as caught:
        PerceptualLoss.build("vgg19", RGBN)
    assert "\n" not in str(caught.value)
    assert "548 MB" in caplog.text
