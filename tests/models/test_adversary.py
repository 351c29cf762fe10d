"""Both adversaries: their losses are those of the discriminator's outputs, for each side; bad input in one line."""

import pytest
import torch
from torch.nn import functional as F

from geosynth.config import DiscriminatorSettings, OasisSettings
from geosynth.errors import DataError
from geosynth.models.adversary import OasisAdversary, PatchAdversary, features_of
from geosynth.models.losses import diversity

CLASSES, BANDS = 3, 2


def build(kind, weight=10.0):
    torch.manual_seed(0)
    if kind == "patch":
        return PatchAdversary(DiscriminatorSettings(num_classes=CLASSES, num_bands=BANDS, base_width=4), weight).eval()
    settings = OasisSettings(num_classes=CLASSES, num_bands=BANDS, base_width=2, num_levels=3)
    return OasisAdversary(settings, weight).eval()


def batch(count=2, size=32):
    """Labels without class 1, with some pixels of no class; fake and real."""
    rng = torch.Generator().manual_seed(1)
    labels = torch.randint(CLASSES + 1, (count, size, size), generator=rng)
    labels[labels == 1] = 0
    return labels, *torch.randn((2, count, BANDS, size, size), generator=rng)


def sides(count=2):
    return torch.rand((count, CLASSES + 1), generator=torch.Generator().manual_seed(0)) < 0.5


def losses(adversary, labels, fake, real, **said):
    judged = adversary.judge_both(labels, fake, real)
    return {
        **adversary.for_generator(judged, **said),
        **adversary.for_discriminator(judged, sides(len(labels))),
    }


def test_patch_losses_are_hinge_and_feature_matching():
    adversary = build("patch")
    labels, fake, real = batch()
    one_hot = torch.stack([labels == index for index in range(CLASSES)], dim=1).float()
    outputs = adversary.discriminator(torch.cat([one_hot] * 2), torch.cat([fake, real]))
    found = losses(adversary, labels, fake, real)
    assert found.keys() == {"gan", "features", "discriminator"}
    predictions = [scale[-1] for scale in outputs]
    gan = -sum(value[:2].mean() for value in predictions) / 2
    hinge = sum(F.relu(1 + value[:2]).mean() + F.relu(1 - value[2:]).mean() for value in predictions) / 2
    matching = 10 * sum((value[:2] - value[2:]).abs().mean() for scale in outputs for value in scale[:-1]) / 2
    for name, expected in (("gan", gan), ("discriminator", hinge), ("features", matching)):
        torch.testing.assert_close(found[name], expected, rtol=1e-4, atol=1e-4)


def test_feature_matching_looks_at_paired_samples_only():
    adversary = build("patch")
    labels, fake, real = batch(3)
    found = losses(adversary, labels, fake, real, paired=torch.tensor([2, 0]))
    alone = losses(adversary, labels[[0, 2]], fake[[0, 2]], real[[0, 2]])
    torch.testing.assert_close(found["features"], alone["features"], rtol=1e-4, atol=1e-5)
    for weight, paired in ((10, torch.tensor([], dtype=torch.long)), (0, None)):
        assert "features" not in losses(build("patch", weight), labels, fake, real, paired=paired)


def test_oasis_generator_wants_its_labels_and_discriminator_wants_fake():
    adversary = build("oasis")
    labels, fake, real = batch()
    logits = adversary.discriminator(torch.cat([fake, real]))[0]
    counts = torch.tensor([int((labels == index).sum()) for index in range(CLASSES)])
    weights = torch.where(counts > 0, counts.sum() / (counts * 2), 0.0)  # two classes are present

    def balanced(scores):
        entropy = F.cross_entropy(scores, labels.clamp(max=CLASSES - 1), reduction="none")
        return (entropy * weights[labels.clamp(max=CLASSES - 1)] * (labels < CLASSES)).mean()

    unmasked = F.cross_entropy(logits[:2], torch.full_like(labels, CLASSES), reduction="none")
    found = losses(adversary, labels, fake, real)
    assert found.keys() == {"gan", "discriminator", "label_mix"}
    torch.testing.assert_close(found["gan"], balanced(logits[:2]))
    torch.testing.assert_close(found["discriminator"], balanced(logits[2:]) + (unmasked * (labels < CLASSES)).mean())
    assert float(found["label_mix"].detach()) > 0
    assert "label_mix" not in losses(build("oasis", weight=0), labels, fake, real)


@pytest.mark.parametrize("kind", ["patch", "oasis"])
def test_one_judgement_serves_both_sides(kind):
    """Gradients of the generator's losses reach the fake, those of the discriminator's its weights."""
    adversary = build(kind)
    labels, fake, real = batch()
    fake.requires_grad_()
    judged = adversary.judge_both(labels, fake, real)
    sum(adversary.for_generator(judged).values()).backward(inputs=[fake], retain_graph=True)
    assert fake.grad.abs().sum() > 0
    weights = list(adversary.parameters())
    before = fake.grad.clone()
    sum(adversary.for_discriminator(judged, sides()).values()).backward(inputs=weights)
    assert torch.equal(fake.grad, before)
    assert all(value.grad is not None and torch.isfinite(value.grad).all() for value in weights)


@pytest.mark.parametrize("kind", ["patch", "oasis"])
def test_a_batch_of_one_with_one_class_and_uint8_labels(kind):
    _, fake, real = batch(1)
    labels = torch.full((1, 32, 32), 2, dtype=torch.uint8)
    adversary = build(kind)
    assert all(torch.isfinite(value) for value in losses(adversary, labels, fake, real).values())
    nothing = torch.full((1, 32, 32), CLASSES)
    assert all(torch.isfinite(value) for value in losses(adversary, nothing, fake, real).values())


@pytest.mark.parametrize("kind", ["patch", "oasis"])
@pytest.mark.parametrize(
    ("labels", "image", "words"),
    [
        ((2, 32, 32), (2, BANDS, 32, 16), "differ in number, height or width"),
        ((1, 32, 32), (2, BANDS, 32, 32), "differ in number"),
        ((2, 32, 32), (2, BANDS + 2, 32, 32), "image of 4 bands: the discriminator reads 2"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(kind, labels, image, words):
    with pytest.raises(DataError, match=words) as caught:
        build(kind).judge(torch.zeros(labels, dtype=torch.long), torch.zeros(image))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["patch", "oasis"])
def test_diversity_can_be_measured_in_features(kind):
    adversary = build(kind)
    labels, first, second = batch()
    z = torch.randn((2, 2, 5), generator=torch.Generator().manual_seed(3))
    features = [features_of(adversary.judge(labels, image)) for image in (first, second)]
    distances = [[(a[i] - b[i]).abs().mean() for a, b in zip(*features, strict=True)] for i in range(2)]
    ratios = [torch.stack(distances[i]).mean() / ((z[0, i] - z[1, i]).abs().mean() + 1e-5) for i in range(2)]
    expected = torch.stack(ratios).mean()
    torch.testing.assert_close(diversity(*features, *z, limit=1e9), expected)
    assert all(values.ndim == 4 for values in features[0])
