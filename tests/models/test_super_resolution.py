"""Label super-resolution: the loss by its formula, its minimum, and shares that are recovered."""

import math

import pytest
import torch
from operations import Record, fake_gpu

from geosynth.errors import DataError
from geosynth.models.super_resolution import CoarseShares, estimate_shares, super_resolution_loss

SHARES = CoarseShares(
    torch.tensor([[0.7, 0.2, 0.1], [0.05, 0.15, 0.8]]), torch.tensor([[0.05, 0.02, 0.0], [0.0, 0.1, 0.1]])
)


def random_case(size=12):
    rng = torch.Generator().manual_seed(0)
    coarse = torch.randint(3, (2, size, size), generator=rng)  # 2 is "no class"
    return torch.randn((2, 3, size, size), generator=rng).softmax(1), coarse


def naive(probabilities, coarse, shares, block):
    """Sums over samples, blocks, coarse and fine classes, one after the other."""
    total, count = 0.0, 0
    batch, _, height, width = probabilities.shape
    for sample in range(batch):
        for top in range(0, height, block):
            for left in range(0, width, block):
                place = slice(top, top + block), slice(left, left + block)
                for code in range(2):
                    mask = coarse[sample][place] == code
                    n = int(mask.sum())
                    for fine in range(3) if n else ():
                        q = probabilities[sample, fine][place][mask].double()
                        p, v = float(q.mean()), float((q * (1 - q)).sum()) / n**2
                        mu, sigma = float(shares.mean[code, fine]), float(shares.deviation[code, fine])
                        excess = max(0.0, abs(p - mu) - sigma)
                        total += n * (excess**2 / (v + sigma**2 + 1e-6) + math.log(v + 0.03))
                    count += n
    return total / count


@pytest.mark.parametrize("block", [None, 5, 4])
def test_loss_is_the_naive_sum(block):
    probabilities, coarse = random_case()
    expected = naive(probabilities, coarse, SHARES, block or 12)
    for labels in (coarse, coarse.to(torch.uint8)):
        assert float(super_resolution_loss(probabilities, labels, SHARES, block)) == pytest.approx(expected, rel=1e-4)


def test_sure_predictions_with_shares_inside_the_interval_reach_the_minimum():
    """Then nothing but log(0.03) is left, for each fine class: a closed form, and the least there is."""
    coarse = torch.zeros((1, 10, 10), dtype=torch.long)
    fine = torch.tensor([0] * 72 + [1] * 18 + [2] * 10).view(1, 10, 10)
    shares = CoarseShares(torch.tensor([[0.7, 0.2, 0.1]]), torch.tensor([[0.03, 0.03, 0.01]]))
    sure = torch.nn.functional.one_hot(fine, 3).permute(0, 3, 1, 2).float()
    assert float(super_resolution_loss(sure, coarse, shares)) == pytest.approx(3 * math.log(0.03), rel=1e-5)
    outside = CoarseShares(torch.tensor([[0.6, 0.3, 0.1]]), torch.tensor([[0.02, 0.02, 0.01]]))
    expected = 3 * math.log(0.03) + 2 * 0.1**2 / (0.02**2 + 1e-6)
    assert float(super_resolution_loss(sure, coarse, outside)) == pytest.approx(expected, rel=1e-4)


def test_learning_from_coarse_labels_recovers_the_shares():
    """Three textures, known coarse classes only: a classifier of texture learns how often each occurs under them."""
    rng = torch.Generator().manual_seed(0)
    coarse = torch.randint(2, (6, 1, 1), generator=rng).expand(-1, 24, 24).contiguous()
    coarse[0], coarse[1] = 0, 1
    fine = torch.multinomial(SHARES.mean[coarse.flatten()], 1, generator=rng).view(coarse.shape)
    texture = torch.nn.functional.one_hot(fine, 3).permute(0, 3, 1, 2).float()
    measured = estimate_shares(coarse, fine, 2, 3)
    weight = torch.zeros((3, 3), requires_grad=True)
    optimiser = torch.optim.Adam([weight], 0.1)
    with torch.no_grad():  # which texture is which class must be hinted at: that is what the few fine labels are for
        weight.copy_(0.5 * torch.eye(3))
    for _ in range(200):
        probabilities = torch.einsum("fc,bchw->bfhw", weight, texture).softmax(1)
        loss = super_resolution_loss(probabilities, coarse, measured)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.equal(probabilities.argmax(1), fine)
    for code in range(2):
        found = probabilities.permute(0, 2, 3, 1)[coarse == code].mean(0)
        torch.testing.assert_close(found, measured.mean[code], rtol=0, atol=0.05)


def test_estimated_shares_are_weighted_means_and_deviations():
    coarse = torch.tensor([[[0, 0, 0, 1], [0, 2, 1, 1]], [[0, 0, 1, 1], [1, 1, 1, 1]]])
    fine = torch.tensor([[[0, 1, 1, 1], [3, 0, 1, 0]], [[0, 0, 2, 2], [2, 2, 1, 1]]])  # 3: unknown
    shares = estimate_shares(coarse, fine, 4, 3)
    # Class 0: three pixels of the first image (shares 1/3, 2/3), two of the second (1, 0).
    mean = (3 * (1 / 3) + 2 * 1) / 5
    deviation = math.sqrt((3 * (1 / 3 - mean) ** 2 + 2 * (1 - mean) ** 2) / 5)
    torch.testing.assert_close(shares.mean[0], torch.tensor([mean, 1 - mean, 0]))
    torch.testing.assert_close(shares.deviation[0], torch.tensor([deviation, deviation, 0.01]))
    # Class 2 occurs once; class 3 never: it asks for nothing.
    assert shares.mean[2].tolist() == [1, 0, 0]
    torch.testing.assert_close(shares.mean[3], torch.full((3,), 1 / 3))
    assert shares.deviation[3].tolist() == [1, 1, 1]


@pytest.mark.parametrize("side", [4, 5])
def test_estimation_by_blocks_equals_that_of_the_blocks_as_images(side):
    """Those at the edges may be cut off: beyond them nothing is known."""
    rng = torch.Generator().manual_seed(0)
    coarse, fine = torch.randint(3, (2, 2, 8, 12), generator=rng)
    blocks = []
    for labels in (coarse, fine):
        padded = torch.nn.functional.pad(labels, (0, -12 % side, 0, -8 % side), value=3)
        blocks.append([block for rows in padded.split(side, 1) for block in rows.split(side, 2)])
    apart = estimate_shares(torch.cat(blocks[0]), torch.cat(blocks[1]), 3, 3)
    together = estimate_shares(coarse, fine, 3, 3, block_size=side)
    torch.testing.assert_close(together.mean, apart.mean)
    torch.testing.assert_close(together.deviation, apart.deviation)


def test_nothing_known_gives_zero_with_a_gradient():
    probabilities = torch.rand(1, 3, 4, 4).requires_grad_()
    loss = super_resolution_loss(probabilities, torch.full((1, 4, 4), 2), SHARES)
    loss.backward()
    assert float(loss.detach()) == 0
    assert not probabilities.grad.any()


def test_what_does_not_fit_is_refused_in_one_line():
    probabilities, coarse = random_case()
    for call, words in (
        (lambda: super_resolution_loss(probabilities, coarse[:, :6], SHARES), "do not fit probabilities"),
        (lambda: super_resolution_loss(probabilities[:, :2], coarse, SHARES), "2 classes of probabilities"),
        (lambda: super_resolution_loss(probabilities, coarse + 1, SHARES), "coarse labels hold 1..3, not 0..2"),
        (lambda: estimate_shares(coarse, coarse[:1], 2, 3), "differ in shape"),
        (lambda: CoarseShares(torch.ones(2, 3), torch.ones(3)), "coarse classes x fine classes"),
        (lambda: CoarseShares(2 * torch.ones(2, 3), torch.ones(2, 3)), "0..1"),
    ):
        with pytest.raises(DataError, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_the_loss_waits_for_nothing():
    with fake_gpu(), Record() as record:
        shares = CoarseShares.__new__(CoarseShares)  # whose check reads values, once
        object.__setattr__(shares, "mean", torch.rand(2, 3))
        object.__setattr__(shares, "deviation", torch.rand(2, 3))
        loss = super_resolution_loss(torch.rand(2, 3, 8, 8), torch.zeros((2, 8, 8), dtype=torch.long), shares, 4)
    assert loss.shape == ()
    assert not record.waits
