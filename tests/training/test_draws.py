"""What a step draws is a function of seed, step and place in the batch, with the statistics that `generate` has."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geosynth.config import GeneratorSettings
from geosynth.models.field import position_noise, style_field
from geosynth.training.draws import draw_rows, drawn_places, random_inputs, random_style, sample_rngs

SETTINGS = GeneratorSettings(num_classes=3, num_bands=2, base_width=2, depth="less", latent_size=5, noise_channels=2)
LINEAR = SETTINGS.model_copy(update={"start": "linear", "noise_channels": 0, "crop_size": 32})


def batch(count, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.rand((count, 2, 32, 32), generator=rng), torch.randint(3, (count, 32, 32), generator=rng)


def draw(image, mask, *, step=0, first_place=0, drawn=(1, 3), seed=7, settings=SETTINGS, turn=True):
    return draw_rows(image, mask, settings, seed=seed, step=step, first_place=first_place, drawn=drawn, turn=turn)


def tensors(rows):
    return [rows.image, rows.mask, *rows.noise, rows.latents]


@pytest.mark.parametrize("settings", [SETTINGS, LINEAR], ids=["convolution", "linear"])
def test_shares_of_a_batch_draw_what_the_whole_does(settings):
    image, mask = batch(4)
    whole = draw(image, mask, settings=settings)
    shares = [
        draw(image[first : first + 2], mask[first : first + 2], first_place=first, settings=settings)
        for first in (0, 2)
    ]
    for expected, *parts in zip(tensors(whole), *map(tensors, shares), strict=True):
        assert torch.equal(expected, torch.cat(parts))
    assert torch.equal(whole.seconds, torch.cat([share.seconds for share in shares]))
    assert [share.drawn.tolist() for share in shares] == [[1], [1]]
    assert [share.paired.tolist() for share in shares] == [[0], [0]]
    assert torch.rand(1, generator=whole.rngs[2]) == torch.rand(1, generator=shares[1].rngs[0])


def test_parts_hold_the_rows_of_the_whole():
    rows = draw(*batch(4), drawn=(0, 3))
    parts = [rows.part(index, 2) for index in range(2)]
    for expected, *pieces in zip(tensors(rows), *map(tensors, parts), strict=True):
        assert torch.equal(expected, torch.cat(pieces))
    assert torch.equal(rows.seconds, torch.cat([part.seconds for part in parts]))
    assert [part.drawn.tolist() for part in parts] == [[0], [1]]
    assert [part.paired.tolist() for part in parts] == [[1], [0]]


def test_steps_and_seeds_draw_other_numbers():
    image, mask = batch(4)
    noises = [draw(image, mask, seed=seed, step=step).noise[-1] for seed, step in ((7, 0), (7, 1), (8, 0))]
    assert not any(torch.equal(noises[0], other) for other in noises[1:])
    assert not torch.equal(noises[0][0], noises[0][1])


def test_image_and_mask_turn_together():
    _, mask = batch(16)
    rows = draw(mask[:, None].float().expand(-1, 2, -1, -1), mask)
    assert torch.equal(rows.image[:, 1], rows.mask.float())
    assert not torch.equal(rows.mask, mask)
    assert [sorted(one.flatten().tolist()) for one in rows.mask] == [sorted(one.flatten().tolist()) for one in mask]


def test_north_stays_up_where_that_is_wanted():
    image, mask = batch(4)
    rows = draw(image, mask, turn=False)
    assert torch.equal(rows.image, image)
    assert torch.equal(rows.mask, mask)


@given(st.floats(0, 1), st.integers(1, 64))
def test_drawn_places_are_as_many_as_their_share_says_and_spread(share, size):
    places = drawn_places(share, size)
    assert len(places) == pytest.approx(share * size, abs=1)
    assert places == sorted(set(places))
    assert all(0 <= place < size for place in places)
    gaps = np.diff(places)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_a_share_of_one_draws_all_and_of_zero_none():
    assert drawn_places(1.0, 7) == list(range(7))
    assert drawn_places(0.0, 7) == []
    assert drawn_places(0.5, 1) == []


def spectrum(maps):
    """Mean power by spatial frequency, of (B, H, W) maps, in units of the variance of white noise."""
    return (torch.fft.rfft2(maps, norm="ortho").abs() ** 2).mean(0)


def test_noise_has_the_statistics_that_generate_uses():
    """Moments and a flat spectrum: nothing shifts between training and painting."""
    mask = torch.zeros((48, 64, 64), dtype=torch.long)
    _, ours = random_inputs(SETTINGS, mask, sample_rngs(0, 0, range(48)))
    tiles = [position_noise(SETTINGS, 3, 64 * row, 640, 64, 64) for row in range(48)]
    theirs = [torch.cat(maps) for maps in zip(*tiles, strict=True)]
    for own, other in zip(ours, theirs, strict=True):
        assert own.shape == other.shape
        for values in (own, other):
            error = values.numel() ** -0.5
            assert abs(float(values.mean())) < 5 * error
            assert float(values.var()) == pytest.approx(1, abs=8 * error)
            assert float((values**4).mean()) == pytest.approx(3, abs=50 * error)
    for values in (ours[-1][:, 0], theirs[-1][:, 0]):
        power = spectrum(values)
        bands = [part.mean() for row in power.chunk(4, 0) for part in row.chunk(4, 1)]
        assert all(float(band) == pytest.approx(1, abs=0.1) for band in bands)


def test_styles_have_the_statistics_that_generate_uses():
    """Each value standard normal, and as alike over a crop as in the field that `generate` draws."""
    ours = torch.cat([random_style(SETTINGS, 128, 128, rng) for rng in sample_rngs(0, 0, range(400))])
    theirs = torch.cat([style_field(SETTINGS, seed, 0, 128 * seed, 128, 128, 2048) for seed in range(400)])
    for styles in (ours, theirs):
        assert styles.shape == (400, 5, 8, 8)
        assert abs(float(styles[:, :, 0, 0].mean())) < 0.1
        assert float(styles[:, :, 0, 0].var()) == pytest.approx(1, abs=0.15)
    drift = [float((styles[..., 0, 0] - styles[..., -1, -1]).square().mean()) for styles in (ours, theirs)]
    assert drift[0] == pytest.approx(drift[1], rel=0.25)
    assert 0 < drift[0] < 0.2


def test_a_style_for_the_encoder_does_not_drift():
    [rng] = sample_rngs(0, 0, [0])
    style = random_style(SETTINGS, 64, 64, rng, drifts=False)
    assert torch.equal(style, style[:, :, :1, :1].expand_as(style))
