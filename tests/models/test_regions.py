"""Regions have one look each, the same from whatever window they are seen."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from geosynth.config import GeneratorSettings
from geosynth.config.networks import REGION_SIDE
from geosynth.errors import SettingsError
from geosynth.models.looks.field import look_field
from geosynth.models.looks.labelled import TileStyles
from geosynth.models.looks.look import Look
from geosynth.models.looks.regions import region_of_cells, ways_to_middles
from geosynth.models.looks.styles import STYLE_CELL, local_statistics, style_size
from geosynth.models.windows import Windows

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


def test_a_region_is_measured_as_a_whole():
    """The two slopes of a roof are part of its spread, those of its neighbour are not; also in the first corner."""
    labels = np.zeros((104, 160), np.uint8)
    roofs = [(slice(8, 24), slice(8, 40)), (slice(8, 30), slice(48, 64)), (slice(64, 72), slice(104, 120))]
    roofs.append((slice(0, 6), slice(0, 8)))
    rng = torch.Generator().manual_seed(0)
    image = 0.05 * torch.randn(1, 2, 104, 160, generator=rng)
    for level, (rows, columns) in zip((-0.4, 0.1, 0.5, 0.3), roofs, strict=True):
        labels[rows, columns] = CLASS
        middle = (rows.start + rows.stop) // 2
        image[..., rows.start : middle, columns] += level - 0.2
        image[..., middle : rows.stop, columns] += level + 0.2
    shed = (slice(0, 104), slice(150, 155))  # longer than a region may be
    labels[shed] = CLASS
    image[..., *shed] -= 0.8
    mask = torch.from_numpy(labels).long().unsqueeze(0)

    cells = {CLASS: torch.from_numpy(region_of_cells(labels == CLASS)).unsqueeze(0)}
    styles, _ = local_statistics(image, mask, 3, (24, 40, 24), cells)
    squares, _ = local_statistics(image, mask, 3, (24, 40, 24))
    assert torch.equal(styles[:, :CLASS], squares[:, :CLASS])
    whole = image[0][:, mask[0] == CLASS]
    for rows, columns in roofs:
        own = image[0][:, rows, columns].flatten(1)
        weights = torch.tensor([own.shape[1], 16.0])  # of the roof's pixels and of all of the class in the patch

        def mixed(values, of_all, weights=weights):
            return (weights @ torch.stack([values.mean(1), of_all.mean(1)])) / weights.sum()

        mean = mixed(own, whole)
        spread = 0.5 * (mixed(own**2, whole**2) - mean**2 + 1 / 127.5**2).log()
        found = styles[0, CLASS, :4, rows.start // 8 : -(-rows.stop // 8), columns.start // 8 : columns.stop // 8]
        assert torch.allclose(found, torch.cat([mean, spread])[:, None, None].expand_as(found), atol=1e-4)
    assert torch.equal(styles[0, CLASS, :, :, 18:], squares[0, CLASS, :, :, 18:])

    observed = TileStyles.of(image, mask, 3, (24, 40, 24), (CLASS,)).objects[0, CLASS]
    assert torch.isclose(observed[:, None, :4].float(), styles[0, CLASS, :4].flatten(1).T).all(2).any(1).all()
