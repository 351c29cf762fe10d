"""Looks: what is measured is what was put in, and what a generator is told reaches the pixels of that class only."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from label_maps import label_map, randomise
from scipy import ndimage

from geosynth.config import GeneratorSettings
from geosynth.errors import SettingsError
from geosynth.models.field import position_noise, random_noise
from geosynth.models.generator import SpadeGenerator
from geosynth.models.looks.codes import StyleCodes
from geosynth.models.looks.field import _objects, look_field
from geosynth.models.looks.look import Look, LookDraws
from geosynth.models.looks.styles import STYLE_CELL, local_statistics, style_size
from geosynth.models.windows import Windows

CLASSES, BANDS = 3, 2
SIZE = style_size(BANDS)
TINY = GeneratorSettings(
    num_classes=CLASSES,
    num_bands=BANDS,
    depth="less",
    base_width=2,
    max_multiple=3,
    hidden_channels=8,
    latent_size=0,
    noise_channels=2,
    style_lengths=(24, 40, 24),
    style_width=4,
)


def statistics(image, labels, lengths=(24, 40, 24)):
    return local_statistics(image, labels, CLASSES, lengths)


def noisy(labels, seed=0):
    """Two bands whose mean and deviation differ from class to class."""
    rng = torch.Generator().manual_seed(seed)
    level = torch.tensor([[-0.5, 0.2], [0.1, -0.3], [0.4, 0.0]])[labels].permute(0, 3, 1, 2)
    spread = torch.tensor([0.02, 0.1, 0.2])[labels].unsqueeze(1)
    return level + spread * torch.randn(level.shape, generator=rng)


def test_statistics_are_those_of_the_class_and_no_other():
    labels = label_map("patches", (2, 96, 96), CLASSES)
    image = noisy(labels)
    styles, pixels = statistics(image, labels, (400,) * CLASSES)  # squares that hold the whole patch
    assert torch.equal(pixels.sum((2, 3)).long(), torch.stack([(labels == c).sum((1, 2)) for c in range(CLASSES)], 1))
    for sample in range(2):
        for index in range(CLASSES):
            own = image[sample][:, labels[sample] == index]
            expected = torch.cat([own.mean(1), torch.log((own.var(1, correction=0) + 1 / 127.5**2).sqrt())])
            found = styles[sample, index, : 2 * BANDS]
            assert torch.allclose(found, expected[:, None, None].expand_as(found), atol=1e-3)


def naive_style(image, labels, index, length, row, column):
    """The style of a class around one cell, from the pixels of that class in a square of cells."""
    image, here = image.astype(np.float64), labels == index

    def blurred(values, weights):
        return ndimage.correlate1d(ndimage.correlate1d(values, weights, 1, mode="nearest"), weights, 2, mode="nearest")

    smooth = blurred(image, np.array([1, 2, 1]) / 4)
    fine, middle = (image - smooth) ** 2, (smooth - blurred(smooth, np.array([1, 0, 2, 0, 1]) / 4)) ** 2
    down, across = (ndimage.correlate1d(smooth.mean(0), [-1, 0, 1], axis, mode="nearest") for axis in (0, 1))
    steep = [down**2 + across**2, across**2 - down**2, 2 * down * across]
    values = np.stack([*image, *image**2, fine.mean(0), middle.mean(0), *steep])
    reach = min(range(10), key=lambda cells: abs((2 * cells + 1) * STYLE_CELL - length))
    top, left = (max(0, (place - reach) * STYLE_CELL) for place in (row, column))
    square = slice(top, (row + reach + 1) * STYLE_CELL), slice(left, (column + reach + 1) * STYLE_CELL)
    # The mean of the patch counts as 16 pixels more.
    inside, around = values[:, *square][:, here[square]], values[:, here].mean(1)
    means = (inside.sum(1) + 16 * around) / (inside.shape[1] + 16)
    bands, least = len(image), 1 / 127.5**2
    mean, square, (*detail, gradient, cosine, sine) = np.split(means, [bands, 2 * bands])
    spread = np.log(np.sqrt(np.maximum(square - mean**2, 0) + least))
    coherence = np.array([cosine, sine]) / (gradient + least)
    return np.concatenate([mean, spread, np.log(np.sqrt(np.array(detail) + least)), coherence])


def test_a_style_is_that_of_the_pixels_of_the_class_in_the_square():
    labels = label_map("patches", (2, 48, 64), CLASSES)
    image, lengths = noisy(labels).clamp(-1, 1), (8, 40, 33)  # the last is measured in 40
    styles, _ = statistics(image, labels, lengths)
    for patch, index, row, column in itertools.product((0, 1), range(CLASSES), (0, 3, 5), (1, 7)):
        expected = naive_style(image[patch].numpy(), labels[patch].numpy(), index, lengths[index], row, column)
        np.testing.assert_allclose(styles[patch, index, :, row, column], expected, atol=2e-4)


def test_gain_and_offset_show_in_means_and_deviations():
    labels = label_map("patches", (1, 64, 64), CLASSES)
    image = noisy(labels)
    (before, _), (after, _) = statistics(image, labels), statistics(0.5 * image + 0.1, labels)
    present = (labels.flatten().bincount(minlength=CLASSES) > 0).nonzero().squeeze(1)
    means, deviations = slice(0, BANDS), slice(BANDS, 2 * BANDS)
    assert torch.allclose(after[:, present, means], 0.5 * before[:, present, means] + 0.1, atol=1e-5)
    loud = before[:, :, deviations] > np.log(0.08)  # where rounding to 1 DN counts little
    assert loud.any()
    assert torch.allclose((after - before)[:, :, deviations][loud], torch.tensor(np.log(0.5)).float(), atol=0.02)


def test_a_square_reaches_as_far_as_the_class_is_even():
    labels = torch.zeros((1, 128, 128), dtype=torch.long)
    image = torch.zeros((1, BANDS, 128, 128))
    image[..., :64] = 0.5
    styles, _ = statistics(image, labels)
    across = styles[0, 0, 0, 8]
    far = slice(0, 6), slice(10, 16)
    whole = 16 / (16 + 24 * 24) * 0.25  # sixteen pixels of the patch's mean
    assert torch.allclose(across[far[0]], torch.tensor(0.5 - whole), atol=0.01)
    assert torch.allclose(across[far[1]], torch.tensor(whole), atol=0.01)


def test_rows_show_in_the_direction():
    labels = torch.zeros((1, 64, 64), dtype=torch.long)
    wave = torch.sin(torch.arange(64) * 0.8)
    across = wave.expand(1, BANDS, 64, 64)
    for image, sign in ((across, 1.0), (across.mT, -1.0)):
        direction = statistics(image, labels)[0][0, 0, -2:, 2:-2, 2:-2]
        assert torch.allclose(direction[0], torch.tensor(sign), atol=0.05)
        assert direction[1].abs().max() < 0.05


def test_a_class_that_is_not_there_has_no_style():
    styles, pixels = statistics(torch.rand(1, BANDS, 32, 32), torch.full((1, 32, 32), CLASSES))
    assert not styles.any()
    assert not pixels.any()


def some_look(seed=0, tiles=3, objects=2):
    rng = torch.Generator().manual_seed(seed)
    departures = 0.3 * torch.randn(tiles, CLASSES, objects, SIZE, generator=rng)
    return Look(torch.randn(CLASSES, SIZE, generator=rng), departures, torch.full((CLASSES,), 1 / CLASSES))


def test_drawn_styles_are_those_observed_each_as_often():
    look = some_look()
    places = torch.arange(400) * 4096
    drawn = look_field(TINY, look, 5, Windows(places, places // 2, 64, 64), style_length=64)
    tiles, _, objects, _ = look.departures.shape
    for index in range(CLASSES):
        styles = drawn[:, index].permute(0, 2, 3, 1).reshape(-1, SIZE)[:, BANDS:]  # colours depart further
        known = (look.mean[index] + look.departures[:, index].reshape(-1, SIZE))[:, BANDS:]
        distance, number = torch.cdist(styles, known, compute_mode="donot_use_mm_for_euclid_dist").min(1)
        whole = distance < 1e-4  # not between objects, where they are mixed
        assert whole.float().mean() > 0.3
        counts = number[whole].bincount(minlength=tiles * objects) / whole.sum()
        assert torch.allclose(counts, torch.tensor(1 / (tiles * objects)), atol=0.05)
        assert torch.allclose(styles.mean(0), known.mean(0), atol=0.1)


def test_colours_vary_about_as_much_as_those_observed():
    look = some_look(tiles=20)
    windows = Windows(torch.arange(400) * 4096, torch.arange(400) * 2048, 64, 64)
    drawn = look_field(TINY, look, 5, windows, style_length=64)
    drawn, observed = drawn[:, :, :BANDS].var((0, 3, 4)).mean(1), look.departures[..., :BANDS].var((0, 2)).mean(1)
    assert (drawn / observed - 1).abs().max() < 0.25


def test_objects_of_a_place_are_of_one_tile():
    look = some_look(tiles=20)
    drawn = look_field(TINY, look, 5, Windows.at(0, 0, 512, 512), style_length=0)
    found = set()
    for index in range(CLASSES):
        styles = drawn[0, index].permute(1, 2, 0).reshape(-1, SIZE)[:, BANDS:]
        known = (look.mean[index] + look.departures[:, index].reshape(-1, SIZE))[:, BANDS:]
        distance, number = torch.cdist(styles, known, compute_mode="donot_use_mm_for_euclid_dist").min(1)
        found |= set((number[distance < 1e-4] // look.departures.shape[2]).tolist())
    assert len(found) == 1
    seeds = [look_field(TINY, look, seed, Windows.at(0, 0, 64, 64), style_length=0) for seed in range(5)]
    assert len({values.sum().item() for values in seeds}) == 5


def test_objects_are_as_large_as_their_class_says():
    look = some_look(tiles=50, objects=8)
    drawn = look_field(TINY, look, 1, Windows.at(0, 0, 2048, 2048), style_length=64)
    changes = drawn.diff(dim=4).square().sum(2)
    edges = (changes > 1e-6).float().mean((0, 2, 3))
    assert edges[1] < 0.8 * edges[0]  # 40 px against 24
    assert abs(edges[2] - edges[0]) < 0.1 * edges[0]


def test_water_changes_gradually_between_the_styles_observed_and_nothing_else_changes():
    look = some_look(tiles=20)
    settings = TINY.model_copy(update={"style_gradual": (1,)})
    window = Windows.at(-4096, 512, 1024, 1024)
    gradual, usual = (look_field(each, look, 1, window, style_length=64) for each in (settings, TINY))
    assert torch.equal(gradual[:, [0, 2]], usual[:, [0, 2]])
    styles, known = gradual[0, 1, BANDS:], (look.mean[1] + look.departures[:, 1].reshape(-1, SIZE))[:, BANDS:]
    assert (styles >= known.amin(0)[:, None, None] - 1e-5).all()
    assert (styles <= known.amax(0)[:, None, None] + 1e-5).all()
    assert torch.allclose(styles.mean((1, 2)), known.mean(0), atol=0.1)
    assert 0.3 < styles.std() / usual[0, 1, BANDS:].std() < 1
    for axis in (3, 4):  # an object's cell is 80 px: the change from one style to another takes ten cells, not three
        assert gradual[:, 1:2].diff(dim=axis).abs().max() < 0.5 * usual[:, 1:2].diff(dim=axis).abs().max()


@pytest.mark.parametrize("place", [(0, 0), (1 << 22, -(1 << 20) - 8)])
def test_a_style_is_that_of_the_nearest_object_or_gradually_the_mean_of_those_around(place):
    """Against all objects of a large square, whose places and styles `_objects` gives."""
    look, gap, cells = some_look(), 2 * TINY.style_lengths[1], 20
    whole = replace(look, departures=torch.cat([1.2 * look.departures[..., :BANDS], look.departures[..., BANDS:]], -1))
    nodes = [(torch.arange(12) - 4 + first // gap).view(1, 1, -1) for first in place]
    spacing = torch.tensor([2.0 * length for length in TINY.style_lengths], dtype=torch.float64).view(-1, 1, 1)
    rows, columns = nodes[0].unsqueeze(3).expand(1, CLASSES, -1, 1), nodes[1].unsqueeze(2).expand(1, CLASSES, 1, -1)
    node_y, node_x, style = (
        values[0, 1] for values in _objects(LookDraws(whole, 9, (), (), 256), rows, columns, spacing)
    )
    departures = whole.departures.reshape(-1, SIZE)[style]

    def squared(row, column):
        y, x = ((first + 8 * cell + 4) / gap for first, cell in zip(place, (row, column), strict=True))
        return (node_y - y) ** 2 + (node_x - x) ** 2

    window = Windows.at(*place, 160, 160)
    gradual, usual = (
        look_field(TINY.model_copy(update={"style_gradual": of}), look, 9, window, style_length=256)[0, 1]
        for of in ((1,), ())
    )
    corners, inside = ((0, 0), (3, 17), (cells - 1, 8)), itertools.product(range(0, cells, 3), repeat=2)
    for row, column in (*corners, *inside):
        weights = (1.25**2 - squared(row, column)).clamp(min=0) ** 3
        expected = look.mean[1] + (departures * weights.unsqueeze(2)).sum((0, 1)) / weights.sum()
        assert torch.allclose(gradual[:, row, column].double(), expected, atol=1e-5)
        around = itertools.product(range(row - 1, row + 2), range(column - 1, column + 2))
        nearest = [departures.flatten(0, 1)[squared(*cell).argmin()] for cell in around]
        assert torch.allclose(usual[:, row, column], look.mean[1] + torch.stack(nearest).mean(0), atol=1e-5)


def test_what_a_generator_is_asked_for_takes_the_place_of_the_mean():
    look = some_look()
    told = [
        look_field(TINY, one, 5, Windows.at(0, 0, 64, 64), style_length=64)
        for one in (look, replace(look, asked=look.mean + 1))
    ]
    assert torch.allclose(told[1], told[0] + 1, atol=1e-5)


def test_objects_take_the_tile_of_the_nearer_node_more_often():
    """Nodes of the tiles, here 100 objects apart, are at multiples of `style_length`."""
    spacing = torch.full((CLASSES, 1, 1), 8.0, dtype=torch.float64)
    draws = LookDraws(some_look(tiles=50, objects=1), 5, (), (), 800)

    def tiles_around(row, column):
        nodes = [torch.arange(middle - 20, middle + 20).expand(1, CLASSES, -1) for middle in (row, column)]
        *places, style = _objects(draws, nodes[0].unsqueeze(3), nodes[1].unsqueeze(2), spacing)
        for place in places:  # so that the nearest object is always one of nine
            assert [f"{value:.2f}" for value in (place % 1).aminmax()] == ["0.25", "0.75"]
        return (style // CLASSES).flatten()

    here = int(tiles_around(0, 0).mode().values)
    for row, column in ((100, 0), (0, 100), (100, 100), (-100, 0), (0, -100)):
        assert (tiles_around(row, column) == tiles_around(row, column).mode().values).float().mean() > 0.85
        between = tiles_around(row // 2, column // 2)
        expected = 0.5 if 0 in (row, column) else 0.25
        assert (between == here).float().mean() == pytest.approx(expected, abs=0.07)


@pytest.mark.parametrize("gradual", [(), (1,), (0, 2)])
def test_styles_depend_on_absolute_positions_only(gradual):
    settings = TINY.model_copy(update={"style_gradual": gradual})
    look, place = some_look(), (1 << 22, -(1 << 20))
    window = Windows.at(*place, 192, 256)
    whole = look_field(settings, look, 3, window, style_length=512)
    part = look_field(settings, look, 3, Windows.at(place[0] + 64, place[1] + 32, 96, 128), style_length=512)
    assert torch.equal(whole[..., 8:20, 4:20], part)
    assert not torch.equal(look_field(settings, look, 4, window, style_length=512), whole)


def build(settings=TINY):
    generator = SpadeGenerator(settings).eval().requires_grad_(False)
    randomise(generator)
    return generator


def test_a_style_reaches_the_pixels_of_its_class_only():
    generator = build()
    labels = torch.zeros((1, 320, 32), dtype=torch.long)
    labels[:, 160:] = 1  # the halo is 160 px
    noise = random_noise(TINY, 1, 320, 32, torch.Generator().manual_seed(0))
    styles = torch.zeros(1, CLASSES, SIZE, 320 // STYLE_CELL, 32 // STYLE_CELL)
    changed = styles.clone()
    changed[:, 1] += 1
    before, after = (generator(labels, None, noise, styles=values) for values in (styles, changed))
    assert torch.equal(before[..., 0, :], after[..., 0, :])
    assert (before != after)[..., 160:, :].any(1).float().mean() > 0.9
    changed[:, 1], changed[:, 2] = 0, 1  # no pixel is of class 2
    assert torch.equal(generator(labels, None, noise, styles=changed), before)


def test_a_window_is_the_crop_of_the_whole():
    look, margin = some_look(), TINY.halo
    generator = build()
    labels = label_map("patches", (1, 640, 672), CLASSES)

    def paint(row, column, height, width):
        seen = labels[:, row : row + height + 2 * margin, column : column + width + 2 * margin]
        window = Windows.at(row, column, height + 2 * margin, width + 2 * margin)
        noise = position_noise(TINY, 1, window, margin=margin)
        return generator(seen, None, noise, margin, look_field(TINY, look, 1, window, 512))

    whole = paint(0, 0, 320, 352)[..., 64:224, 32:192]
    assert whole.std() > 0.05
    assert torch.allclose(paint(64, 32, 160, 160), whole, atol=1e-4)


def test_table_and_dense_form_agree():
    labels = label_map("patches", (2, 64, 64), CLASSES, holes=True)
    noise = random_noise(TINY, 2, 64, 64, torch.Generator().manual_seed(0))
    styles = torch.randn(2, CLASSES, SIZE, 8, 8, generator=torch.Generator().manual_seed(1))
    images = []
    for form in ("table", "dense"):
        generator = build()
        for module in generator.modules():
            if hasattr(module, "form"):
                module.form = form
        images.append(generator(labels, None, noise, styles=styles))
    assert torch.allclose(*images, atol=1e-4)


def test_codes_are_told_alike_while_gradients_are_wanted():
    labels = label_map("patches", (2, 64, 96), CLASSES, holes=True)
    noise = random_noise(TINY, 2, 64, 96, torch.Generator().manual_seed(0))
    styles = torch.randn(2, CLASSES, SIZE, 8, 12, generator=torch.Generator().manual_seed(1))
    generator = build()  # in evaluation
    told = generator(labels, None, noise, styles=styles)
    with torch.no_grad():  # at fine levels by a table of cells and classes
        assert torch.allclose(generator(labels, None, noise, styles=styles), told, atol=1e-4)
    assert (told - generator(labels, None, noise, styles=styles.flip(4))).abs().mean() > 0.01


def test_codes_are_those_of_styles_in_standard_units():
    torch.manual_seed(0)
    codes, styles = StyleCodes(CLASSES, BANDS, 4), torch.randn(2, CLASSES, SIZE, 2, 3)
    with torch.no_grad():
        codes.classes.normal_()
        plain = codes(styles)
        codes.centre.normal_()
        codes.scale.uniform_(0.5, 2)
        units = styles * codes.scale[:, None, None] + codes.centre[:, None, None]
        torch.testing.assert_close(codes(units), plain)
    assert plain.shape == (2 * 2 * 3 * (CLASSES + 1), 4)
    assert not plain.view(-1, CLASSES + 1, 4)[:, CLASSES].any()


def test_at_first_the_blocks_are_not_told():
    generator = SpadeGenerator(TINY).eval()
    assert not any(block.style.scale_shift.weight.any() for block in generator.blocks.values())


def test_gradients_reach_codes_and_styles():
    generator = build().requires_grad_(True)
    noise = random_noise(TINY, 1, 32, 32, torch.Generator().manual_seed(0))
    styles = torch.randn(1, CLASSES, SIZE, 4, 4, requires_grad=True)
    image = generator(label_map("patches", (1, 32, 32), CLASSES), None, noise, styles=styles)
    image.square().sum().backward()
    assert styles.grad.any()
    assert generator.style_codes.first.weight.grad.any()


@pytest.mark.parametrize("styles", [None, torch.zeros(1, CLASSES, SIZE, 4, 5)])
def test_styles_of_another_size_are_refused(styles):
    noise = random_noise(TINY, 1, 32, 32, torch.Generator().manual_seed(0))
    with pytest.raises(SettingsError, match=r"the generator takes \(1, 3, 8, 4, 4\)"):
        build()(torch.zeros((1, 32, 32), dtype=torch.long), None, noise, styles=styles)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"style_lengths": (8, 8)}, "one length"),
        ({"style_lengths": (8, 8, 0)}, "one length"),
        (
            {"style_lengths": (8,) * 3, "start": "linear", "crop_size": 64, "latent_size": 4, "noise_channels": 0},
            "start",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, words):
    with pytest.raises(SettingsError, match=words):
        GeneratorSettings.parse({"num_classes": 3, "num_bands": 2, "depth": "less", **changes})
