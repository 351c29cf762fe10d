"""The discriminator that looks through a frozen network: what learns in it, and that it learns."""

import pytest
import torch

from geosynth.models.perceptual import PerceptualLoss
from geosynth.models.projected import ProjectedAdversary

BANDS = ("red", "green", "blue", "nir")


@pytest.fixture(scope="module")
def eyes():
    return PerceptualLoss.build("efficientnet-lite0", BANDS)


def images(count=4, seed=0):
    """Smooth ones, the same with a hatching, and labels."""
    rng = torch.Generator().manual_seed(seed)
    smooth = torch.rand(count, 4, 4, 4, generator=rng) - 0.5
    smooth = torch.nn.functional.interpolate(smooth, size=(64, 64), mode="bilinear")
    hatched = smooth + 0.2 * (torch.arange(64) % 3 - 1)
    return smooth, hatched, torch.randint(3, (count, 64, 64), generator=rng)


def test_it_learns_what_tells_them_apart(eyes):
    torch.manual_seed(0)
    adversary = ProjectedAdversary(2, 2)
    adam = torch.optim.Adam([weight for weight in adversary.parameters() if weight.requires_grad], 1e-3)
    for step in range(12):
        real, fake, labels = images(seed=step)
        _, loss = adversary.losses(labels, eyes.seen(fake)[1:], eyes.seen(real)[1:])
        adam.zero_grad()
        loss.backward()
        adam.step()
    real, fake, labels = images(seed=99)
    said = adversary.judge(labels, eyes.seen(fake)[1:], eyes.seen(real)[1:])
    gaps = torch.stack([one.mean() - other.mean() for other, one in zip(*said, strict=True)])
    assert len(gaps) == 8  # four scales of both pictures
    assert gaps.mean() > 0.5


def test_gradients_reach_the_image_and_the_heads_only(eyes):
    adversary = ProjectedAdversary(2, 2)
    real, fake, labels = images()
    fake.requires_grad_()
    of_generator, of_heads = adversary.losses(labels, eyes.seen(fake)[1:], eyes.seen(real)[1:])
    of_heads.backward(retain_graph=True, inputs=[weight for weight in adversary.parameters() if weight.requires_grad])
    of_generator.backward(inputs=[fake])
    assert fake.grad.any()
    learning = {name.split(".")[0] for name, weight in adversary.named_parameters() if weight.requires_grad}
    assert learning == {"heads"}
    assert not any(weight.requires_grad for weight in eyes.parameters())


def test_labels_count(eyes):
    adversary = ProjectedAdversary(2, 2)
    real, fake, labels = images()
    maps = eyes.seen(fake)[1:], eyes.seen(real)[1:]
    assert not torch.equal(adversary.losses(labels, *maps)[0], adversary.losses(2 - labels, *maps)[0])


def test_projections_are_the_same_each_time():
    one, other = (dict(ProjectedAdversary(2, 1).named_parameters()) for _ in range(2))
    fixed = [name for name, weight in one.items() if not weight.requires_grad]
    assert fixed
    assert all(torch.equal(one[name], other[name]) for name in fixed)
