"""Regions have one look each, the same from whatever window they are seen."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geosynth.config import GeneratorSettings
from geosynth.config.networks import REGION_SIDE
from geosynth.errors import SettingsError
from geosynth.models.hashing import Windows
from geosynth.models.looks.field import look_field
from geosynth.models.looks.look import Look
from geosynth.models.looks.regions import ways_to_middles
from geosynth.models.looks.styles import STYLE_CELL, style_size

CLASS = 2
TOLD = GeneratorSettings(
    num_classes=3, num_bands=2, latent_size=0, style_lengths=(24, 40, 24), style_regions=(CLASS,), depth="less"
)


def some_look():
    rng = torch.Generator().manual_seed(0)
    mean, departures = torch.randn(3, style_size(2), generator=rng), torch.randn(4, 3, 8, style_size(2), generator=rng)
    return Look(mean, departures, torch.ones(3) / 3)


def houses(height, width, seed=0):
    """Rectangles of `CLASS`, some side by side, some wider than a region may be."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASS, (height, width)).astype(np.uint8)
    for _ in range(height * width // 4000):
        row, column = rng.integers(0, height), rng.integers(0, width)
        longest = 150 if rng.random() < 0.1 else 40
        labels[row : row + rng.integers(1, longest), column : column + rng.integers(1, longest)] = CLASS
    return labels


def flooded(labels):
    """The connected pixels of `CLASS`, one list a region, found pixel by pixel."""
    left = set(zip(*np.nonzero(labels == CLASS), strict=True))
    while left:
        region, border = [], [left.pop()]
        while border:
            row, column = border.pop()
            region.append((row, column))
            near = {(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)} & left
            left -= near
            border += near
        yield np.array(region)


def test_ways_lead_to_the_middle_of_each_region():
    labels = houses(2 * REGION_SIDE + 80, 2 * REGION_SIDE + 104)
    expected = np.full((len(labels) // STYLE_CELL, labels.shape[1] // STYLE_CELL, 2), -1)
    for region in flooded(labels):
        if np.ptp(region, axis=0).max() < REGION_SIDE:
            middle = (region.min(0) + region.max(0) + 1) // 2 // STYLE_CELL
            for row, column in set(map(tuple, region // STYLE_CELL)):
                expected[row, column] = max(tuple(expected[row, column]), tuple(middle))
    own = np.stack(np.indices(expected.shape[:2]), -1)
    ways = np.where(expected < 0, own, expected) - own
    edge = REGION_SIDE // STYLE_CELL
    found = ways_to_middles(labels, (0, CLASS))
    assert found.shape == (2, 2, 10, 13)
    assert (found[1] != 0).mean() > 0.1
    np.testing.assert_array_equal(found[1], ways[edge:-edge, edge:-edge].transpose(2, 0, 1))


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 3))
def test_a_window_sees_what_the_whole_does(row, column, seed):
    labels = houses(480, 480, seed)
    whole = ways_to_middles(labels, (CLASS,))
    part = ways_to_middles(labels[STYLE_CELL * row :, STYLE_CELL * column :][:320, :320], (CLASS,))
    np.testing.assert_array_equal(part, whole[..., row : row + 16, column : column + 16])


def test_regions_have_the_style_drawn_in_their_middle():
    height, width = 128, 192
    labels = np.zeros((height + 2 * REGION_SIDE, width + 2 * REGION_SIDE), np.uint8)
    shown = labels[REGION_SIDE:-REGION_SIDE, REGION_SIDE:-REGION_SIDE]
    shown[8:100, 3:40] = CLASS
    shown[110:120, 100:190] = CLASS
    labels[REGION_SIDE - 60 : REGION_SIDE + 20, REGION_SIDE + 110 : REGION_SIDE + 150] = CLASS  # begins outside
    ways = torch.from_numpy(ways_to_middles(labels, (CLASS,))).unsqueeze(0)
    look, window = some_look(), Windows.at(1 << 20, -4096, height, width)
    styles = look_field(TOLD, look, 3, window, 64, ways)[0]
    drawn = look_field(TOLD, look, 3, window.buffer(96), 64)[0]
    plain = drawn[..., 12:-12, 12:-12]
    for rows, columns, (row, column) in (
        (slice(8, 100), slice(3, 40), (54, 21)),
        (slice(110, 120), slice(100, 190), (115, 145)),
        (slice(0, 20), slice(110, 150), (-20, 130)),
    ):
        cells = slice(rows.start // 8, -(-rows.stop // 8)), slice(columns.start // 8, -(-columns.stop // 8))
        expected = drawn[CLASS, :, 12 + row // 8, 12 + column // 8]
        assert torch.equal(styles[CLASS, :, *cells], expected[:, None, None].expand_as(styles[CLASS, :, *cells]))
        assert not torch.equal(styles[CLASS, :, *cells], plain[CLASS, :, *cells])
    assert torch.equal(styles[:CLASS], plain[:CLASS])


def test_a_wide_region_keeps_what_is_drawn():
    labels = np.zeros((128 + 2 * REGION_SIDE, 128 + 2 * REGION_SIDE), np.uint8)
    labels[REGION_SIDE : REGION_SIDE + 20, 100 : 101 + REGION_SIDE] = CLASS
    assert not ways_to_middles(labels, (CLASS,)).any()
    labels[:, 100] = 0
    assert ways_to_middles(labels, (CLASS,)).any()


def test_ways_of_several_windows_are_followed_each_in_its_own():
    edge = 2 * REGION_SIDE
    maps = [houses(64 + edge, 96 + edge, seed) for seed in range(2)]
    ways = torch.from_numpy(np.stack([ways_to_middles(one, (CLASS,)) for one in maps]))
    rows, columns = torch.tensor([512, 8]), torch.tensor([-64, 1600])
    both = look_field(TOLD, some_look(), 3, Windows(rows, columns, 64, 96), 64, ways)
    for number in range(2):
        window = Windows.at(int(rows[number]), int(columns[number]), 64, 96)
        alone = look_field(TOLD, some_look(), 3, window, 64, ways[number : number + 1])
        assert torch.equal(both[number : number + 1], alone)


@pytest.mark.parametrize(
    "changes", [{"style_regions": (3,)}, {"style_regions": (-1,)}, {"style_regions": (0,), "style_lengths": ()}]
)
def test_regions_of_no_class_are_refused(changes):
    with pytest.raises(SettingsError, match="style_regions"):
        GeneratorSettings.parse({**TOLD.model_dump(), **changes})


def test_files_of_models_without_regions_are_as_before():
    assert "style_regions" not in TOLD.model_copy(update={"style_regions": ()}).model_dump()
    assert GeneratorSettings.parse(TOLD.model_dump()) == TOLD
