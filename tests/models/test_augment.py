"""What a discriminator sees of images and labels, against the paper's formulas written out."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geosynth.models.augment import Augmentation

CLASSES = 6


def draws(count, seed=0):
    return torch.rand((count, Augmentation.NUM_DRAWS), generator=torch.Generator().manual_seed(seed))


def batch(count=3, height=16, width=24):
    rng = torch.Generator().manual_seed(9)
    image = torch.rand((count, 4, height, width), generator=rng) * 2 - 1
    return image, torch.randint(CLASSES, (count, height, width), generator=rng)


def test_colours_are_the_papers_with_one_change_an_image():
    image, labels = batch()
    change = Augmentation(1.0, 16, 24, draws(3))
    shown, mask = change.image(image).numpy(), change.labels(labels, CLASSES).numpy() < CLASSES
    for index, drawn in enumerate(draws(3)):
        brightness, contrast, saturation = 2 * drawn[:3].double().numpy() - 1
        values = image[index].double().numpy()
        values = values.mean(0) + (1 + saturation) * (values - values.mean(0)) + brightness / 2
        values = values.mean() + (1 + contrast / 2) * (values - values.mean())
        np.testing.assert_allclose(shown[index][:, mask[index]], values[:, mask[index]], atol=1e-5)


@given(strength=st.floats(0.1, 1.0), seed=st.integers(0, 2**20), height=st.integers(8, 40), width=st.integers(8, 40))
def test_the_hole_is_a_rectangle_of_half_the_sides_at_most_in_image_and_labels_alike(strength, seed, height, width):
    image, labels = batch(2, height, width)
    change = Augmentation(strength, height, width, draws(2, seed))
    shown, left = change.image(image), change.labels(labels, CLASSES)
    hole = left == CLASSES
    assert torch.equal(left[~hole], labels[~hole])
    assert not shown.movedim(1, -1)[hole].any()
    assert (shown.movedim(1, -1)[~hole] != 0).any()
    for one in hole.numpy():
        rows, columns = np.flatnonzero(one.any(1)), np.flatnonzero(one.any(0))
        assert one.sum() == len(rows) * len(columns)
        assert len(rows) <= strength * height / 2 + 1
        assert len(columns) <= strength * width / 2 + 1
        assert (np.diff(rows) == 1).all()
        assert (np.diff(columns) == 1).all()


def test_holes_lie_everywhere_alike_and_changes_average_out():
    count = 4000
    image = torch.full((count, 4, 16, 16), 0.25)
    change = Augmentation(1.0, 16, 16, draws(count))
    hole = change.labels(torch.zeros((count, 16, 16), dtype=torch.long), CLASSES) == CLASSES
    share = hole.float().mean(0)
    assert share[8, 8] == pytest.approx(0.25, abs=0.04)  # half of each side; the edges see fewer
    assert share[0, 0] == pytest.approx((4.5 / 16) ** 2, abs=0.02)  # the centre is 4 px from that pixel at most
    left = change.image(image)[:, 0][~hole]
    assert float(left.mean()) == pytest.approx(0.25, abs=0.02)


def test_real_and_fake_are_changed_alike_and_gradients_flow():
    image, _ = batch()
    change = Augmentation(0.7, 16, 24, draws(3))
    assert torch.equal(change.image(image), change.image(image))
    image.requires_grad_()
    change.image(image).square().sum().backward()
    assert torch.isfinite(image.grad).all()
    assert image.grad.abs().sum() > 0


def test_strength_none_changes_nothing():
    image, labels = batch()
    change = Augmentation(0.0, 16, 24, draws(3))
    torch.testing.assert_close(change.image(image), image)
    assert torch.equal(change.labels(labels, CLASSES), labels)
