"""Looks fitted to images: what classes are and how much there is of each is found together."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from geosynth.models.looks.edge_effect import of_edges, shares_around, without_edges
from geosynth.models.looks.labelled import TileStyles, fit_look
from geosynth.models.looks.look import OBJECTS
from geosynth.models.looks.prior import style_range
from geosynth.models.looks.styles import local_statistics
from geosynth.models.looks.unlabelled import cell_styles, fit_look_unlabelled

COLOURS = torch.tensor([[-0.8, -0.6, -0.5, -0.9], [-0.4, -0.2, -0.4, 0.4], [0.1, 0.2, -0.2, 0.7], [0.6, 0.5, 0.4, 0.5]])
GRAIN = torch.tensor([0.01, 0.15, 0.04, 0.08])


def scene(shares, gain=1.0, offset=0.0, seed=0, mottled=(1.0, 1.0, 1.0, 1.0)):
    """A map of squares of classes of such shares, and its image in some light; tones vary so many times as usual."""
    rng = torch.Generator().manual_seed(seed)
    cells = torch.multinomial(torch.tensor(shares), 8 * 8 * 4, replacement=True, generator=rng).view(4, 8, 8)
    labels = cells.repeat_interleave(24, 1).repeat_interleave(24, 2)
    grain = GRAIN[labels].unsqueeze(1) * torch.randn(4, 4, *labels.shape[1:], generator=rng)
    tones = 0.04 * torch.randn(4, 4, 8, 8, generator=rng).repeat_interleave(24, 2).repeat_interleave(24, 3)
    tones = tones * torch.tensor(mottled)[labels].unsqueeze(1)
    return gain * (COLOURS[labels].permute(0, 3, 1, 2) + grain + tones) + offset, labels


@pytest.fixture(scope="module")
def known():
    return fit_look(TileStyles.of(*scene([0.1, 0.25, 0.45, 0.2]), 4, (24,) * 4))


@pytest.mark.parametrize(
    ("shares", "gain", "offset"),
    [([0.1, 0.25, 0.45, 0.2], 0.8, 0.1), ([0.02, 0.85, 0.11, 0.02], 0.9, 0.0), ([0.3, 0.15, 0.35, 0.2], 1.1, -0.1)],
)
def test_other_shares_in_another_light(known, shares, gain, offset):
    image, labels = scene(shares, gain, offset, seed=1)
    look = fit_look_unlabelled(cell_styles(image, torch.ones_like(labels, dtype=torch.bool)), known)
    np.testing.assert_allclose(look.shares, shares, atol=0.12)
    common = torch.tensor(shares) > 0.08
    off = (look.mean[:, :4] - (gain * COLOURS + offset)).abs().mean(1)
    assert off[common].max() < 0.15  # 19 DN; the classes span 180


@pytest.mark.parametrize("seed", range(4))
def test_a_class_that_varies_more_than_the_known_one_is_not_taken_for_others(known, seed):
    """Bare woods, whose palest parts are no meadows."""
    shares = [0.01, 0.83, 0.15, 0.01]
    image, labels = scene(shares, 0.9, 0.05, seed, mottled=(1.0, 9.0, 1.0, 1.0))
    look = fit_look_unlabelled(cell_styles(image, torch.ones_like(labels, dtype=torch.bool)), known)
    assert abs(look.shares[1] - shares[1]) < 0.05
    off = (look.mean[1, :4] - (0.9 * COLOURS[1] + 0.05)).abs().mean()
    assert off < 0.04  # 5 DN


def test_cells_without_data_say_nothing(known):
    image, labels = scene([0.1, 0.25, 0.45, 0.2])
    has_data = torch.ones_like(labels, dtype=torch.bool)
    has_data[:, :50] = False
    holed = image.clone()
    holed[:, :, :40] = 1.0  # beside the edge detail sees across it
    cells = cell_styles(holed, has_data)
    assert len(cells) == 4 * (192 - 56) // 8 * 24
    assert torch.equal(cells, cell_styles(image, has_data))
    fits = [fit_look_unlabelled(cells, known) for _ in range(2)]
    assert torch.equal(fits[0].mean, fits[1].mean)


def test_what_is_not_a_number_says_nothing():
    image, labels = scene([0.1, 0.25, 0.45, 0.2])
    has_data = torch.ones_like(labels, dtype=torch.bool)
    has_data[:, :50, 20:90] = False
    seen = torch.ones_like(has_data)
    seen[:, :54, 16:94] = False  # beside a hole nobody knows the detail
    holed = image.masked_fill(~has_data.unsqueeze(1), torch.nan)
    found = TileStyles.of(holed, labels.where(has_data, 4), 4, (24,) * 4)
    for one, expected in zip(found, TileStyles.of(image, labels.where(seen, 4), 4, (24,) * 4), strict=True):
        assert torch.equal(one, expected)
    assert torch.equal(cell_styles(holed, has_data), cell_styles(image, seen))


def test_narrow_roads_keep_their_own_colour(known):
    """Most cells on them hold grass, too."""
    image, labels = scene([0.05, 0.25, 0.65, 0.05], seed=2)
    rng = torch.Generator().manual_seed(3)
    for start in range(5, 192, 48):
        labels[:, :, start : start + 10] = 3
        image[:, :, :, start : start + 10] = COLOURS[3].view(4, 1, 1) + 0.08 * torch.randn(4, 4, 192, 10, generator=rng)
    look = fit_look_unlabelled(cell_styles(image, torch.ones_like(labels, dtype=torch.bool)), known)
    assert (look.mean[3, :4] - COLOURS[3]).abs().mean() < 0.1  # 13 DN


def test_a_class_that_the_tiles_lack_keeps_to_a_plausible_mean(known):
    image, labels = scene([0.0, 0.4, 0.4, 0.2], gain=0.9, seed=1)
    look = fit_look(TileStyles.of(image, labels, 4, (24,) * 4), known)
    assert (look.mean[0, :4] - 0.9 * COLOURS[0]).abs().max() < 0.25
    assert look.of_tiles[:, 0].std() < 0.2 * known.of_tiles[:, 0].std()
    assert look.of_tiles[:, 1:].std() > 0.5 * known.of_tiles[:, 1:].std()
    borrowed = (known.departures - known.of_tiles)[:, 0]
    assert (look.departures[:, 0] - borrowed).abs().mean() < 0.1 * borrowed.abs().mean()


def alike(objects):
    """Shares around objects that are everywhere the same, so that they explain nothing."""
    return torch.full(objects.shape[:3], 0.5, dtype=torch.float64)


def test_a_known_look_without_edges_is_one_whose_edges_change_nothing(known):
    """As in files of older versions."""
    tiles = TileStyles.of(*scene([0.3, 0.15, 0.35, 0.2], seed=1), 4, (24,) * 4)
    old = fit_look(tiles, replace(known, around=None, edge_effect=None))
    same = fit_look(tiles, replace(known, edge_effect=torch.zeros_like(known.edge_effect)))
    assert old.around is None
    assert old.edge_effect is None
    torch.testing.assert_close(old.mean, same.mean)
    torch.testing.assert_close(old.departures, same.departures)


def test_rare_styles_are_drawn_as_the_usual_ones():
    objects = 0.1 * torch.randn(10, 1, 8, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    objects[3, 0, 5] = 5.0
    tiles = TileStyles(torch.zeros(10, 1, 12).double(), torch.full((10, 1), 1000.0).double(), objects, alike(objects))
    assert fit_look(tiles).departures.max() < 2.0


def test_spreads_and_detail_are_not_drawn_far_above_their_mean():
    """Those of small objects come of their edges; colours and directions, and smooth objects, are drawn as observed."""
    objects = 0.1 * torch.randn(40, 1, 8, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tiles = TileStyles(torch.zeros(40, 1, 12).double(), torch.full((40, 1), 1000.0).double(), objects, alike(objects))
    departures = fit_look(tiles).departures / objects.std((0, 2), correction=0, keepdim=True)
    highest, lowest = departures.amax((0, 1, 2)), departures.amin((0, 1, 2))
    assert highest[4:10].max() < 1.51
    assert highest[[0, 1, 2, 3, 10, 11]].min() > 1.9
    assert lowest.max() < -1.9


def test_a_class_looks_as_in_the_tile_that_is_most_alike():
    """Three tiles of two lights; the one without class 0 gets that of its own light."""
    images, labels = scene([0.5, 0.5, 0.0, 0.0])
    images, labels = images[:3], labels[:3].clone()
    images[1] += 0.3
    images[2] += 0.29
    labels[2] = 1
    look = fit_look(TileStyles.of(images, labels, 4, (24,) * 4))
    tones = look.of_tiles[:, 0, 0, 0]
    assert abs(tones[2] - tones[1]) < 0.01
    assert tones[1] - tones[0] > 0.1


def test_objects_are_spread_evenly_over_the_pixels_of_a_class():
    """Of a class whose pixels are listed cell by cell, the cells of the middle one of each eighth."""
    images, labels = scene([0.1, 0.25, 0.45, 0.2])
    labels[0, :100] = 4
    lengths = (24, 8, 40, 24)
    tiles = TileStyles.of(images, labels, 4, lengths)
    styles, pixels = local_statistics(images, labels, 4, lengths)
    for tile, numbers in enumerate(labels.numpy()):
        around = shares_around(numbers, 4)
        for index in range(4):
            cells = np.repeat(np.arange(24 * 24), pixels[tile, index].int().flatten())  # of each pixel
            of_pixels = styles[tile, index].flatten(1)[:, cells].double().mean(1)
            torch.testing.assert_close(tiles.means[tile, index], of_pixels)
            assert tiles.pixels[tile, index] == len(cells) == (numbers == index).sum()
            chosen = cells[[-(-len(cells) * (2 * part + 1) // (2 * OBJECTS)) - 1 for part in range(OBJECTS)]]
            assert torch.equal(tiles.objects[tile, index].float(), styles[tile, index].flatten(1)[:, chosen].T)
            np.testing.assert_array_equal(tiles.around[tile, index], around[index].ravel()[chosen])


@pytest.mark.parametrize(("loud", "quiet", "nearer"), [(4.0, 0.1, 1), (1.0, 0.06, 0)])
def test_what_is_alike_is_judged_in_standard_units_and_by_what_tiles_hold_much_of(loud, quiet, nearer):
    """Of four tiles two lack class 0; a few pixels of class 2, in which each is like the other tile, do not count."""
    means = torch.zeros(4, 3, 12, dtype=torch.float64)
    means[:, 0, :2] = torch.tensor([5.0, 0.05])
    means[:, 1, 0] = torch.tensor([0.0, 10.0, loud, 10.0 - loud])
    means[:, 1, 1] = torch.tensor([0.0, 0.1, quiet, 0.1 - quiet])
    means[:, 2, 2] = torch.tensor([0.0, 1.0, 1.0 - nearer, nearer])
    pixels = torch.tensor([[1000, 1000, 1000], [1000, 1000, 1000], [0, 1000, 300], [0, 1000, 300]]).double()
    objects = torch.arange(4).view(4, 1, 1, 1).expand(4, 3, 8, 12).double()
    full, _ = TileStyles(means, pixels, objects, alike(objects)).completed()
    assert full[:, 0, 0, 0].tolist() == [0, 1, nearer, 1 - nearer]


def test_a_tile_of_many_pixels_lends_its_look_to_many_tiles():
    """Of 8 tiles one has half of a class: four get its tone, those that are most like it in what both hold."""
    tones = torch.linspace(-0.4, 0.4, 8, dtype=torch.float64)
    pixels = torch.full((8, 2), 1000.0, dtype=torch.float64)
    pixels[:, 0] = torch.tensor([0, 1000, 0, 4000, 1000, 0, 1000, 1000])
    means = tones.view(8, 1, 1).expand(8, 2, 12).clone()
    around = pixels.unsqueeze(2).expand(-1, -1, 8) / 8000
    tiles = TileStyles(means, pixels, means.unsqueeze(2).expand(-1, -1, 8, -1).contiguous(), around)
    objects, shares = tiles.completed()
    dealt = objects[:, :, 0, 0]
    torch.testing.assert_close(shares[:, 0, 0] * 8000, pixels[[1, 3, 3, 3, 3, 4, 6, 7], 0])
    torch.testing.assert_close(dealt[:, 1], tones)
    torch.testing.assert_close(dealt[:, 0], tones[[1, 3, 3, 3, 3, 4, 6, 7]])
    drawn = fit_look(tiles)
    assert drawn.departures[:, 0, :, :4].mean().abs() < 1e-6
    torch.testing.assert_close(drawn.mean[0, 0].double(), (tones * pixels[:, 0]).sum() / 8000, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kept", [20, 100])
def test_the_tiles_that_are_kept_are_evenly_spread(known, kept):
    """Of a place that grows brighter from its first tile to its last, half of what is drawn is bright."""
    again = {name: getattr(known, name).repeat(25, *[1] * n)[:kept] for name, n in (("departures", 3), ("around", 2))}
    tiles = TileStyles.of(*scene([0.1, 0.25, 0.45, 0.2]), 4, (24,) * 4)
    tiles = TileStyles(*(values[:1].expand(70, *values.shape[1:]).clone() for values in tiles))
    brighter = torch.linspace(-0.3, 0.3, 70, dtype=torch.float64)
    tiles.means[..., :4] += brighter.view(-1, 1, 1)
    tiles.objects[..., :4] += brighter.view(-1, 1, 1, 1)
    drawn = fit_look(tiles, replace(known, **again)).departures[..., :4]
    assert drawn.mean((0, 2)).abs().max() < 1e-6
    of_tiles = drawn.mean((2, 3))
    assert of_tiles.std(0).min() > 0.15
    assert ((of_tiles > 0).float().mean(0) - 0.5).abs().max() < 0.06


def test_what_the_liveliest_lose_the_others_gain():
    """The mean of squares of spreads and detail stays, so that the image's variance does."""
    objects = torch.randn(40, 2, 8, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    objects *= torch.tensor([0.3, 0.1]).view(2, 1, 1)
    tiles = TileStyles(torch.zeros(40, 2, 12).double(), torch.full((40, 2), 1000.0).double(), objects, alike(objects))
    observed, drawn = (
        (2 * values).exp()[..., 4:10].mean((0, 2))
        for values in (objects - objects.mean((0, 2), keepdim=True), fit_look(tiles).departures.double())
    )
    torch.testing.assert_close(drawn, observed, rtol=5e-3, atol=0)


def test_what_is_even_where_it_was_measured_is_not_flecked_with_known_tones(known):
    """Of a tile that holds little of a class less is taken."""
    tiles = TileStyles.of(*scene([0.1, 0.25, 0.45, 0.2], seed=5), 4, (24,) * 4)

    def within(scale, tiles=tiles):
        middle = tiles.objects.mean(2, keepdim=True)
        objects = middle + scale * (tiles.objects - middle)
        look, _ = without_edges(fit_look(tiles._replace(objects=objects, around=alike(objects)), known))
        return (look.departures - look.of_tiles).std((0, 2))

    even, _ = without_edges(known)
    usual = (even.departures - even.of_tiles).std((0, 2))
    assert (within(0.01) < 0.2 * usual)[:, :4].all()
    assert (within(10.0) > 0.5 * usual)[:, :4].all()
    little = tiles._replace(pixels=torch.full_like(tiles.pixels, 130))  # 520 of each class in all
    assert (within(0.01, little) > 0.2 * usual)[:, :4].all()


def test_tiles_are_drawn_as_observed_but_for_what_is_rare():
    """What the shares around explain is left out while rare colours are reduced, and comes back afterwards."""
    images, labels = scene([0.1, 0.25, 0.45, 0.2])
    tiles = TileStyles.of(images, labels, 4, (24,) * 4)
    look = fit_look(tiles)
    objects, around = tiles.completed()
    assert look.edge_effect.abs().max() > 0.1
    assert torch.equal(look.around, around.float())
    moved = look.departures - (objects - objects.mean((0, 2), keepdim=True)).float()
    assert (moved[..., :4].abs() < 1e-5).float().mean() > 0.95
    moved -= moved.transpose(0, 1).flatten(1, 2).median(1).values.unsqueeze(1)  # spreads and details are raised alike
    assert ((moved.abs() < 1e-5).float().mean((0, 2)) > 0.75).all()
    torch.testing.assert_close(look.shares, labels.flatten().bincount(minlength=4) / labels.numel())


def test_few_tiles_share_a_look_with_known_ones(known):
    """Four tiles count as many as the known look's variation: half of its tiles are taken from them, evenly spread."""
    images, labels = scene([0.0, 0.3, 0.5, 0.2], 0.9, 0.1, seed=1)
    tiles = TileStyles.of(images, labels, 4, (24,) * 4)
    look, (_, own) = fit_look(tiles, known), tiles.completed()
    lacks = torch.tensor([True, False, False, False])
    taken = (torch.arange(4).unsqueeze(1) < 2) & ~lacks
    assert torch.equal(look.around, torch.where(taken.unsqueeze(2), own[[0, 2, 0, 0]].float(), known.around))
    # Means were measured at other shares than those that are drawn.
    plain = fit_look(tiles, replace(known, edge_effect=torch.zeros_like(known.edge_effect)))
    drawn, measured = (of_edges(shares, known.edge_effect).mean((0, 2)) for shares in (look.around, own.float()))
    assert (drawn - measured)[~lacks].abs().amax(1).min() > 1e-3
    torch.testing.assert_close(look.mean - plain.mean, (drawn - measured) * ~lacks.unsqueeze(1), atol=1e-5, rtol=0)


def test_known_tiles_vary_as_they_do_beside_livelier_ones(known):
    tiles = TileStyles.of(*scene([0.1, 0.25, 0.45, 0.2], seed=5), 4, (24,) * 4)
    middle = tiles.objects.mean(2, keepdim=True)
    lively = tiles._replace(objects=middle + 10 * (tiles.objects - middle))
    changed = (fit_look(lively, known).departures - known.departures)[2:]  # but for what shares around explain
    torch.testing.assert_close(changed, changed[:1, :, :1].expand_as(changed), atol=1e-4, rtol=0)


def test_other_spreads_do_not_change_the_colours_of_a_class_that_lacks(known):
    """Of larger or smaller pixels, say."""
    tiles = TileStyles.of(*scene([0.0, 0.4, 0.4, 0.2], gain=0.9, seed=1), 4, (24,) * 4)
    means = tiles.means.clone()
    means[..., 4:8] += torch.tensor([1.0, 0.3, -0.3, 0.6])  # of logarithms
    plain, spread = fit_look(tiles, known).mean[0], fit_look(tiles._replace(means=means), known).mean[0]
    assert torch.allclose(plain[:4], spread[:4], atol=1e-6)
    assert not torch.allclose(plain[4:8], spread[4:8], atol=0.05)


def test_what_one_tile_says_is_drawn_to_what_is_plausible_and_what_many_say_is_not():
    """Tiles of a place differ; its mean is nearer to what one of them makes plausible than to that one's own."""
    rng = torch.Generator().manual_seed(5)

    def tiles(light):
        centres = torch.linspace(-0.6, 0.6, 3).view(3, 1) * torch.ones(12)
        means = (centres + light + 0.15 * torch.randn(60, 3, 12, generator=rng)).double()
        objects = means.unsqueeze(2) + 0.05 * torch.randn(60, 3, 8, 12, generator=rng)
        return TileStyles(means, torch.full((60, 3), 1000.0).double(), objects, alike(objects))

    known, place = fit_look(tiles(0.0)), tiles(0.2)
    truth = place.means.mean(0)
    ones = [TileStyles(*(values[number : number + 1] for values in place)) for number in range(60)]
    off = torch.stack([(fit_look(one, known).mean - truth).abs().mean() for one in ones]).mean()
    measured = torch.stack([(one.means[0] - truth).abs().mean() for one in ones]).mean()
    assert off < 0.85 * measured
    assert (fit_look(place, known).mean - truth).abs().max() < 0.02


def test_of_hardly_a_pixel_all_is_as_expected(known):
    image, labels = scene([0.0, 0.4, 0.4, 0.2], gain=0.5)
    tiles = TileStyles.of(image[:1, :, :16, :16], labels[:1, :16, :16], 4, (24,) * 4)
    assert (fit_look(tiles, known).mean - known.mean)[:, :4].abs().max() < 0.08  # as if measured, some were 0.4


@pytest.mark.parametrize("labelled", [True, False])
def test_a_band_that_the_images_lack_is_guessed_and_changes_nothing_of_the_others(known, labelled):
    """The same scene with all four bands is the oracle."""
    images, labels = scene([0.1, 0.25, 0.45, 0.2], 0.9, 0.05, seed=1)

    def look(bands):
        seen = images[:, bands]
        if labelled:
            return fit_look(TileStyles.of(seen, labels, 4, (24,) * 4), known, bands)
        return fit_look_unlabelled(cell_styles(seen, torch.ones_like(labels, dtype=torch.bool)), known, bands)

    whole, part = look([0, 1, 2, 3]), look([0, 1, 2])
    assert part.mean.shape == whole.mean.shape
    assert part.departures.shape == whole.departures.shape
    assert (part.mean - whole.mean)[:, :3].abs().max() < 0.02
    assert (part.mean - whole.mean)[:, 3].abs().max() < 0.25  # 32 DN; the classes span 210
    assert (part.mean - whole.mean)[:, 8:10].abs().max() < 0.3  # logarithms of detail
    spread = part.departures.std((0, 2)) / whole.departures.std((0, 2))
    assert 0.5 < spread[:, 3].min() <= spread[:, 3].max() < 2
    torch.testing.assert_close(spread[:, :3], torch.ones(4, 3), atol=0.01, rtol=0)


def test_the_styles_of_a_single_class_have_a_range():
    """Else a generator of one class would be told numbers that are none."""
    images, labels = scene([0.0, 0.0, 1.0, 0.0])
    alone, with_others = (
        style_range([fit_look(TileStyles.of(images, numbers, count, (24,) * count))])
        for numbers, count in ((labels - 2, 1), (labels, 4))
    )
    assert all(values.isfinite().all() for values in (*alone, *with_others))
    assert (alone[1] > 0).all()


def test_bands_that_the_images_have_keep_their_places(known):
    """Bands in another place count by their number, not by their order."""
    images, labels = scene([0.1, 0.25, 0.45, 0.2], 0.9, 0.05, seed=1)
    part = fit_look(TileStyles.of(images[:, [1, 3]], labels, 4, (24,) * 4), known, [1, 3])
    whole = fit_look(TileStyles.of(images, labels, 4, (24,) * 4), known)
    assert (part.mean - whole.mean)[:, [1, 3]].abs().max() < 0.02
    assert (part.mean - whole.mean)[:, [0, 2]].abs().max() < 0.25
