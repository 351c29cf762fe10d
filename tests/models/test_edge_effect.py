"""Styles depend on the share of their class around: measured, undone, and done again where a style is painted."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geosynth.config import GeneratorSettings
from geosynth.config.networks import EDGE_SIDE
from geosynth.models.looks.edge_effect import edge_change, fitted_edge_effect, shares_around, without_edges
from geosynth.models.looks.field import look_field
from geosynth.models.looks.labelled import TileStyles, fit_look
from geosynth.models.looks.look import OBJECTS, Look
from geosynth.models.looks.styles import STYLE_CELL, style_size
from geosynth.models.looks.surroundings import Surroundings
from geosynth.models.windows import Windows

CLASSES, BANDS = 3, 2
SIZE = style_size(BANDS)
LENGTHS = (24, 40, 24)
CHANGED = slice(BANDS, -2)  # spreads and detail
SETTINGS = GeneratorSettings(num_classes=CLASSES, num_bands=BANDS, latent_size=0, style_lengths=LENGTHS, depth="less")


def patches(height, width, seed=0):
    """Class indices in rectangles, with pixels of no class."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.uint8)
    for _ in range(height * width // 3000):
        row, column = rng.integers(0, height), rng.integers(0, width)
        labels[row : row + rng.integers(1, 120), column : column + rng.integers(1, 120)] = rng.integers(0, CLASSES + 1)
    return labels


@given(st.integers(1, 14), st.integers(1, 14), st.integers(0, 99))
def test_shares_are_those_of_the_pixels_in_the_square(down, across, seed):
    labels = patches(down * STYLE_CELL, across * STYLE_CELL, seed)
    found = shares_around(labels, CLASSES)
    for row, column in np.ndindex(down, across):
        top, left = (max(0, STYLE_CELL * place - EDGE_SIDE) for place in (row, column))
        bottom, right = (STYLE_CELL * (place + 1) + EDGE_SIDE for place in (row, column))
        square = labels[top:bottom, left:right]
        expected = [np.mean(square == number) for number in range(CLASSES)]
        np.testing.assert_allclose(found[:, row, column], expected, atol=1e-6)


@pytest.mark.parametrize("regions", [(), (1,)])
def test_a_window_sees_the_shares_that_the_whole_does(regions):
    """To the bit, as an image is not to depend on how it is cut; and of a part that of the part."""
    settings = GeneratorSettings.parse({**SETTINGS.model_dump(), "style_regions": regions})
    labels, side = patches(640, 480), settings.look_side
    whole = Surroundings.of(labels, settings)
    part = Surroundings.of(labels[64 : 64 + 256 + 2 * side, 40 : 40 + 160 + 2 * side], settings)
    assert part.ways.shape == (len(regions), 2, 32, 20)
    assert part.shares.shape == (CLASSES, 32, 20)
    same = whole.within(slice(64, 320), slice(40, 200))
    for seen, expected in zip(part, same, strict=True):
        np.testing.assert_array_equal(seen, expected)
    assert part.tobytes() == same.tobytes()
    other = labels.copy()
    other[64 : 64 + side] = 0  # outside the part, in what its looks depend on
    elsewhere = Surroundings.of(other[64 : 64 + 256 + 2 * side, 40 : 40 + 160 + 2 * side], settings)
    assert part.tobytes() != elsewhere.tobytes()


def test_a_generator_without_looks_needs_no_shares():
    plain = GeneratorSettings(num_classes=CLASSES, num_bands=BANDS)
    seen = Surroundings.of(patches(64, 48), plain)
    assert seen.ways.shape == (0, 2, 8, 6)
    assert seen.shares.shape == (0, 8, 6)


def test_the_effect_is_found_that_styles_were_made_with():
    """In spreads and detail, beside what differs from object to object; not in colours and directions."""
    rng = torch.Generator().manual_seed(0)
    shares = torch.rand(80, CLASSES, OBJECTS, generator=rng, dtype=torch.float64).sqrt()
    effect = torch.randn(CLASSES, 2, SIZE, generator=rng, dtype=torch.float64)
    noise = 0.2 * torch.randn(80, CLASSES, OBJECTS, SIZE, generator=rng, dtype=torch.float64)
    styles = 5 + edge_change(shares.unsqueeze(3), *effect.unsqueeze(2).unbind(1)) + noise
    found = fitted_edge_effect(styles, shares, without=(2,))
    assert (found - effect)[:2, :, CHANGED].abs().max() < 0.15
    assert not found[..., :BANDS].any()
    assert not found[..., -2:].any()
    assert not found[2].any()
    numbers = shares[:, 0].flatten()
    design = torch.stack([torch.ones_like(numbers), numbers, (numbers - 0.9).clamp(min=0) * 10], 1)
    expected = torch.linalg.lstsq(design, styles[:, 0].flatten(0, 1)).solution[1:]
    torch.testing.assert_close(found[0, :, CHANGED], expected[:, CHANGED], atol=0.1, rtol=0)


def test_one_surrounding_shows_no_effect_and_few_tiles_a_weak_one():
    rng = torch.Generator().manual_seed(0)
    shares = torch.rand(100, 1, OBJECTS, generator=rng, dtype=torch.float64)
    styles = shares.unsqueeze(3).expand(-1, -1, -1, SIZE)
    assert fitted_edge_effect(styles, torch.full_like(shares, 0.4)).abs().max() < 1e-12
    of_few, of_many = (fitted_edge_effect(styles[:count], shares[:count])[0, 0, BANDS] for count in (2, 100))
    assert 0.3 < of_few < 0.8 < 0.95 < of_many < 1


def a_look(effect):
    """Objects that differ only by the share around them."""
    rng = torch.Generator().manual_seed(0)
    around = torch.rand(20, CLASSES, OBJECTS, generator=rng)
    effect = torch.tensor(effect).view(1, 2, 1).expand(CLASSES, 2, SIZE)
    there = edge_change(around.unsqueeze(3), *effect.unsqueeze(2).unbind(1))
    departures = there - there.mean((0, 2), keepdim=True)
    return Look(torch.zeros(CLASSES, SIZE), departures, torch.ones(CLASSES) / 3, around=around, edge_effect=effect)


def test_without_the_edges_that_explain_all_no_style_departs_from_the_mean():
    look = a_look([0.6, -0.4])
    even, usual = without_edges(look)
    assert even.departures.abs().max() < 1e-6
    change = 0.6 * look.around - 0.4 * ((look.around - 0.9).clamp(min=0) * 10)
    torch.testing.assert_close(usual, change.mean((0, 2)).unsqueeze(1).expand(-1, SIZE))
    again, nothing = without_edges(even)
    assert again is even
    assert not nothing.any()


def test_a_style_is_changed_to_that_of_the_place_where_it_is_painted():
    """Where the share explains all, the look of a place follows from the share there alone."""
    look = a_look([0.6, -0.4])
    shares = torch.linspace(0, 1, 12 * 9).view(1, 1, 12, 9).expand(1, CLASSES, -1, -1)
    within = (shares > look.around.amin((0, 2)).max()) & (shares < look.around.amax((0, 2)).min())
    window = (3, Windows.at(64, 128, 96, 72), 256)
    styles = look_field(SETTINGS, look, *window, None, shares)
    change = 0.6 * shares - 0.4 * ((shares - 0.9).clamp(min=0) * 10)
    left = torch.where(within.unsqueeze(2), styles - change.unsqueeze(2), torch.nan).flatten(3)[0]
    assert (left.nan_to_num(-9).amax(2) - left.nan_to_num(9).amin(2)).abs().max() < 1e-5
    highest, higher = (look_field(SETTINGS, look, *window, None, shares * much) for much in (9, 99))
    assert torch.equal(highest[..., 2:, :], higher[..., 2:, :])  # beyond what was observed, nothing is known


def test_without_shares_or_an_effect_styles_are_those_observed():
    look, shares = a_look([0.6, -0.4]), torch.rand(1, CLASSES, 12, 9)
    window = (3, Windows.at(64, 128, 96, 72), 256)
    plain = look_field(SETTINGS, replace(look, around=None, edge_effect=None), *window)
    assert torch.equal(look_field(SETTINGS, look, *window), plain)
    assert torch.equal(look_field(SETTINGS, replace(look, edge_effect=None), *window, None, shares), plain)
    none = replace(look, edge_effect=torch.zeros_like(look.edge_effect))
    torch.testing.assert_close(look_field(SETTINGS, none, *window, None, shares), plain, atol=1e-6, rtol=0)


def mottled(labels, seed):
    """An image that is even inside its classes, and mottled within 16 px of an edge."""
    rng = np.random.default_rng(seed)
    height, width = labels.shape
    edge = np.zeros((height, width), bool)
    for row, column in np.argwhere(np.diff(labels, axis=0, prepend=labels[:1]) != 0):
        edge[max(0, row - 16) : row + 16, column] = True
    spread = np.where(edge, 0.2, 0.01)
    return torch.from_numpy(0.2 * labels + spread * rng.standard_normal((BANDS, height, width)) - 0.3).float()


def halves(row):
    labels = np.ones((256, 256), np.uint8)
    labels[:row] = 0
    return labels


def test_a_measured_look_is_livelier_at_edges_and_its_mean_is_as_measured():
    tiles = [halves(row) for row in range(0, 257, 16)]
    parts = [
        TileStyles.of(mottled(tile, seed).unsqueeze(0), torch.from_numpy(tile).long().unsqueeze(0), CLASSES, LENGTHS)
        for seed, tile in enumerate(tiles)
    ]
    look = fit_look(TileStyles.joined(parts))
    assert look.edge_effect is not None
    whole = edge_change(torch.tensor([0.5, 1.0]).view(2, 1, 1), *look.edge_effect.unbind(1))
    assert (whole[1] - whole[0])[:2, BANDS : 2 * BANDS].max() < -0.5
    painted = halves(128)
    shares = torch.from_numpy(shares_around(painted, CLASSES)).unsqueeze(0)
    styles = look_field(SETTINGS, look, 1, Windows.at(0, 0, 256, 256), 256, None, shares)[0]
    inside, edge = styles[0, BANDS, 2:6].mean(), styles[0, BANDS, 14:16].mean()
    assert edge - inside > 0.5


def test_the_look_of_few_tiles_has_the_edges_of_the_known_one_and_its_own_colours():
    """Measured in the middle of fields only; the mean of a place like that is painted as measured."""
    known = a_look([0.3, 0.4])
    images = torch.full((4, BANDS, 64, 64), 0.25) + 0.01 * torch.randn(4, BANDS, 64, 64)
    tiles = TileStyles.of(images, torch.zeros(4, 64, 64, dtype=torch.long), CLASSES, LENGTHS)
    look = fit_look(tiles, known)
    assert torch.equal(look.edge_effect, known.edge_effect)
    window = Windows.at(0, 0, 512, 512)
    inside, middle = (
        look_field(SETTINGS, look, 1, window, 64, None, torch.full((1, CLASSES, 64, 64), share))[0, 0, :BANDS]
        for share in (1.0, 0.5)
    )
    assert (inside.mean() - 0.25).abs() < 0.05
    assert (inside - middle).mean() == pytest.approx(0.3 * 0.5 + 0.4, abs=0.06)
