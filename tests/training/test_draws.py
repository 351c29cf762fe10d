"""What a step draws is a function of seed, step and place in the batch, with the statistics that `generate` has."""

import numpy as np
import pytest
import torch
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from geosynth.config import GeneratorSettings, TrainSettings
from geosynth.errors import DataError
from geosynth.models.augment import Augmentation
from geosynth.models.field import latent_field, position_noise
from geosynth.models.looks.field import look_field
from geosynth.models.looks.look import Look
from geosynth.models.windows import Windows
from geosynth.mosaic.style import style_length_pixels
from geosynth.training.draws import (
    draw_batch,
    drawn_places,
    random_inputs,
    random_look,
    random_style,
    sample_rngs,
    split_batch,
)

SETTINGS = GeneratorSettings(num_classes=3, num_bands=2, base_width=2, depth="less", latent_size=5, noise_channels=2)
LINEAR = SETTINGS.model_copy(update={"start": "linear", "noise_channels": 0, "crop_size": 32})
TOLD = SETTINGS.model_copy(update={"latent_size": 0, "style_lengths": (8, 8, 8)})
LOOK = Look(torch.zeros(3, 8), torch.arange(500.0).view(500, 1, 1, 1).expand(500, 3, 4, 8), torch.ones(3))
TRAIN = TrainSettings(seed=7, batch_size=4, prior_share=0.5, augment=1.0)  # places 1 and 3 have a drawn style


def batch(count, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.rand((count, 2, 32, 32), generator=rng), torch.randint(3, (count, 32, 32), generator=rng)


def draw(image, mask, *, step=0, rank=0, generator=SETTINGS, **changes):
    looks = [LOOK] * len(mask) if generator.style_lengths else None
    return draw_batch(image, mask, TRAIN.model_copy(update=changes), generator, looks, step=step, rank=rank)


@pytest.mark.parametrize("settings", [SETTINGS, LINEAR, TOLD], ids=["convolution", "linear", "looks"])
def test_shares_of_a_batch_draw_what_the_whole_does(settings):
    image, mask = batch(4)
    whole = draw(image, mask, generator=settings)
    shares = [
        draw(image[2 * rank : 2 * rank + 2], mask[2 * rank : 2 * rank + 2], rank=rank, generator=settings)
        for rank in (0, 1)
    ]
    for expected, *parts in zip(*(part.tensors() for part in (whole, *shares)), strict=True):
        assert torch.equal(expected, torch.cat(parts))
    assert len(whole.second_latents) == len(whole.styles) == 2
    assert whole.colours.any(1).tolist() == [False, False, settings is TOLD, False]  # half of those that are not drawn


def test_parts_hold_the_rows_of_the_whole():
    whole, layout = draw(*batch(4)), split_batch(TRAIN.model_copy(update={"parts": 2}))
    parts = [whole.part(part) for part in layout]
    for expected, *pieces in zip(*(part.tensors() for part in (whole, *parts)), strict=True):
        assert torch.equal(expected, torch.cat(pieces))
    assert [(len(part.second_latents), len(part.styles)) for part in parts] == [(1, 1), (1, 1)]
    assert [part.drawn.tolist() for part in layout] == [[1], [1]]
    assert [part.paired.tolist() for part in layout] == [[0], [0]]


@given(st.floats(0, 1), st.sampled_from([(1, 1), (2, 1), (1, 4), (2, 3)]), st.integers(1, 5))
def test_means_over_parts_and_devices_are_those_of_the_batch(share, cut, size):
    """Of a value a row, over the rows with a drawn style, and over the others."""
    devices, parts = cut
    count = devices * parts * size
    settings = TRAIN.model_copy(update={"devices": devices, "parts": parts, "batch_size": count, "prior_share": share})
    values = torch.rand(count, generator=torch.Generator().manual_seed(0))
    layout = [part for rank in range(devices) for part in split_batch(settings, rank)]
    drawn = torch.tensor([place in drawn_places(share, count) for place in range(count)])
    for name, rows in (("drawn", drawn), ("paired", ~drawn)):
        found = 0.0
        for place, part in enumerate(layout):
            chosen = values[place * size :][getattr(part, name)]
            found += float(chosen.mean()) * getattr(part, f"{name}_share") / len(layout) if len(chosen) else 0.0
        assert found == pytest.approx(float(values[rows].mean()) if rows.any() else 0.0, abs=1e-5)


def test_steps_and_seeds_draw_other_numbers():
    image, mask = batch(4)
    noises = [draw(image, mask, seed=seed, step=step).noise[-1] for seed, step in ((7, 0), (7, 1), (8, 0))]
    assert not any(torch.equal(noises[0], other) for other in noises[1:])
    assert not torch.equal(noises[0][0], noises[0][1])


def test_each_row_is_drawn_what_it_needs():
    image, mask = batch(4)
    whole = draw(image, mask)
    drifts = [[bool((row != row[:, :1, :1]).any()) for row in rows] for rows in (whole.latents, whole.second_latents)]
    assert drifts == [[False, True, False, True], [True, True]]  # the encoder's numbers do not
    assert draw(image, mask, generator=LINEAR).latents.shape == (4, 5)
    assert draw(image, mask, generator=TOLD).latents.shape == (4, 0)
    assert draw(image, mask, generator=TOLD).styles.shape == (2, 3, 8, 4, 4)
    assert [draw(image, mask, augment=share).changes.shape for share in (0.0, 0.1)] == [
        (4, 0),
        (4, Augmentation.NUM_DRAWS),
    ]
    sides = torch.cat([draw(image, mask, step=step).sides for step in range(100)])
    assert sides.shape == (400, 4)
    assert torch.allclose(sides.float().mean(0), torch.tensor(0.5), atol=0.1)


def test_image_and_mask_turn_together():
    _, mask = batch(16)
    turned = draw(mask[:, None].float().expand(-1, 2, -1, -1), mask)
    assert torch.equal(turned.image[:, 1], turned.mask.float())
    assert not torch.equal(turned.mask, mask)
    assert [sorted(one.flatten().tolist()) for one in turned.mask] == [sorted(one.flatten().tolist()) for one in mask]


def test_north_stays_up_where_that_is_wanted():
    image, mask = batch(4)
    kept = draw(image, mask, turn=False)
    assert torch.equal(kept.image, image)
    assert torch.equal(kept.mask, mask)


@pytest.mark.parametrize("label", [4, -1])
def test_labels_that_are_no_class_are_refused(label):
    image, mask = batch(4)
    draw(image, mask.fill_(3))  # no class
    with pytest.raises(DataError, match=f"labels hold {min(label, 3)}..{max(label, 3)}: class indices are 0..2, and 3"):
        draw(image, mask.index_fill(0, torch.tensor([1]), label))


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
    ours = random_inputs(SETTINGS, mask, 0, 0)["noise"]
    tiles = [position_noise(SETTINGS, 3, Windows.at(64 * row, 640, 64, 64)) for row in range(48)]
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
    places = [Windows.at(0, 128 * number, 128, 128) for number in range(400)]
    theirs = torch.cat([latent_field(SETTINGS, seed, place, 2048) for seed, place in enumerate(places)])
    for styles in (ours, theirs):
        assert styles.shape == (400, 5, 8, 8)
        assert abs(float(styles[:, :, 0, 0].mean())) < 0.1
        assert float(styles[:, :, 0, 0].var()) == pytest.approx(1, abs=0.15)
    drift = [float((styles[..., 0, 0] - styles[..., -1, -1]).square().mean()) for styles in (ours, theirs)]
    assert drift[0] == pytest.approx(drift[1], rel=0.25)
    assert 0 < drift[0] < 0.2


def test_looks_drift_as_those_of_generate_do():
    """As far apart over a crop, where each tile has a style of its own."""
    tiles = torch.arange(500.0).view(500, 1, 1, 1).expand(500, 3, 1, 8)
    look = Look(torch.zeros(3, 8), tiles, torch.ones(3))
    length = style_length_pixels(None, GeoBox((9, 9), Affine.scale(1, -1), "EPSG:26917"), TOLD)

    def num_tiles(styles):
        return len(styles.unique())

    ours = sum(num_tiles(random_look(TOLD, look, torch.zeros(128, 128), rng)) for rng in sample_rngs(0, 0, range(40)))
    places = [Windows.at(1024 * number, 0, 128, 128) for number in range(40)]
    theirs = sum(num_tiles(look_field(TOLD, look, seed, place, length)) for seed, place in enumerate(places))
    assert ours == pytest.approx(theirs, rel=0.15)


def test_a_region_has_one_look():
    settings = TOLD.model_copy(update={"style_regions": (2,)})
    mask = torch.zeros(128, 128, dtype=torch.long)
    mask[16:80, 40:88] = 2
    [styles] = random_look(settings, LOOK, mask, sample_rngs(0, 0, [0])[0])
    assert len(styles[2, 0, 2:10, 5:11].unique()) == 1
    assert len(styles[1, 0, 2:10, 5:11].unique()) > 1


def test_a_style_for_the_encoder_does_not_drift():
    [rng] = sample_rngs(0, 0, [0])
    style = random_style(SETTINGS, 64, 64, rng, drifts=False)
    assert torch.equal(style, style[:, :, :1, :1].expand_as(style))
