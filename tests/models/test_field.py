"""Noise and style: functions of (seed, position) and of nothing else, with the right statistics."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geosynth.config import GeneratorSettings
from geosynth.models.field import latent_field, position_noise, random_noise
from geosynth.models.hashing import hash_bits
from geosynth.models.windows import Windows

SETTINGS = GeneratorSettings(num_classes=3, num_bands=1, base_width=2, latent_size=6, noise_channels=2, depth="less")
STRIDE = SETTINGS.stride
FAR = 10**7 // STRIDE * STRIDE


def signed(value):
    return value - (1 << 64) if value >> 63 else value


def test_hash_is_splitmix64():
    # The first three outputs of Vigna's splitmix64.c for the seed 1234567.
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    states = [signed((1234567 + step * 0x9E3779B97F4A7C15) % 2**64) for step in range(3)]
    assert hash_bits(torch.tensor(states)).tolist() == [signed(value) for value in expected]


positions = st.integers(-(10**7) // STRIDE, 10**7 // STRIDE).map(lambda cell: cell * STRIDE)
sides = st.integers(1, 6).map(lambda cells: cells * STRIDE)


@settings(max_examples=30)
@given(row=positions, column=positions, heights=st.tuples(sides, sides), widths=st.tuples(sides, sides))
def test_values_do_not_depend_on_the_cut(row, column, heights, widths):
    """The whole against four pieces, computed last to first."""
    height, width = sum(heights), sum(widths)
    window = Windows.at(row, column, height, width)
    whole = position_noise(SETTINGS, 7, window)
    style = latent_field(SETTINGS, 7, window, style_length=100)
    pieces = [
        (slice(top, top + h), slice(left, left + w))
        for top, h in zip((0, heights[0]), heights, strict=True)
        for left, w in zip((0, widths[0]), widths, strict=True)
    ]
    for down, across in reversed(pieces):
        sides = down.stop - down.start, across.stop - across.start
        piece = Windows.at(row + down.start, column + across.start, *sides)
        for full, part in zip(whole, position_noise(SETTINGS, 7, piece), strict=True):
            step = height // full.shape[2]
            cells = (slice(s.start // step, s.stop // step) for s in (down, across))
            assert torch.equal(full[:, :, *cells], part)
        cells = (slice(s.start // STRIDE, s.stop // STRIDE) for s in (down, across))
        # Matrix products of other sizes may round their sums of two differently.
        torch.testing.assert_close(
            style[:, :, *cells], latent_field(SETTINGS, 7, piece, style_length=100), rtol=0, atol=1e-6
        )


def test_random_noise_has_the_layout_of_position_noise():
    rng = torch.Generator().manual_seed(0)
    drawn = random_noise(SETTINGS, 3, 64, 32, rng)
    placed = position_noise(SETTINGS, 0, Windows.at(0, 0, 64, 32))
    assert [value.shape[1:] for value in drawn] == [value.shape[1:] for value in placed]
    assert len(drawn) == 1 + len(SETTINGS.stages)
    assert all(len(value) == 3 for value in drawn)
    repeated = random_noise(SETTINGS, 3, 64, 32, torch.Generator().manual_seed(0))
    assert all(torch.equal(one, other) for one, other in zip(drawn, repeated, strict=True))


SIDE = 512


def full_resolution(seed, row=0, column=0):
    return position_noise(SETTINGS, seed, Windows.at(row, column, SIDE, SIDE))[-1][0, 0].double()


@pytest.mark.parametrize(("row", "column"), [(0, 0), (-FAR, FAR), (-SIDE // 2, -SIDE // 2)])
def test_noise_is_standard_normal(row, column):
    values = full_resolution(11, row, column).flatten()
    count = len(values)
    bound = 5 / math.sqrt(count)  # five standard errors
    assert abs(values.mean()) < bound
    assert abs(values.square().mean() - 1) < bound * math.sqrt(2)
    assert abs((values**3).mean()) < bound * math.sqrt(15)
    assert abs((values**4).mean() - 3) < bound * math.sqrt(96)
    # Kolmogorov and Smirnov: the distance between distributions exceeds 2.2 / sqrt(n) once in ten thousand times.
    normal = 0.5 * (1 + torch.erf(values.sort().values / math.sqrt(2)))
    steps = torch.arange(count + 1).double() / count
    assert max((steps[1:] - normal).max(), (normal - steps[:-1]).max()) < 2.2 / math.sqrt(count)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (lambda: full_resolution(1)[1:], lambda: full_resolution(1)[:-1]),
        (lambda: full_resolution(1)[:, 1:], lambda: full_resolution(1)[:, :-1]),
        (lambda: full_resolution(1)[1:, 1:], lambda: full_resolution(1)[:-1, :-1]),
        (lambda: full_resolution(1), lambda: full_resolution(1).T),
        (lambda: full_resolution(1), lambda: full_resolution(2)),
        (lambda: full_resolution(0), lambda: full_resolution(2**62)),
        (lambda: full_resolution(1), lambda: full_resolution(1, FAR, FAR)),
        (lambda: full_resolution(1), lambda: full_resolution(1, -SIDE, -SIDE)),
        (lambda: full_resolution(1)[1:].square(), lambda: full_resolution(1)[:-1].square()),
        (lambda: full_resolution(1)[:, 1:].square(), lambda: full_resolution(1)[:, :-1].square()),
    ],
    ids=[
        "down",
        "across",
        "diagonal",
        "transposed",
        "seed",
        "large seed",
        "far",
        "negative",
        "squares down",
        "squares",
    ],
)
def test_noise_is_not_correlated(first, second):
    pair = torch.stack([first().flatten(), second().flatten()])
    assert abs(torch.corrcoef(pair)[0, 1]) < 5 / math.sqrt(pair.shape[1])


def test_channels_and_stages_differ():
    maps = position_noise(SETTINGS, 3, Windows.at(0, 0, SIDE, SIDE))
    start, same_size = maps[0][0], [value[0] for value in maps[1:] if value.shape[2:] == maps[0].shape[2:]]
    channels = torch.cat([start, *same_size]).flatten(1)
    assert len(channels) == 5  # two of the start, head_0, G_middle_0, G_middle_1
    off_diagonal = torch.corrcoef(channels) - torch.eye(len(channels))
    assert off_diagonal.abs().max() < 5 / math.sqrt(channels.shape[1])


# Wider than settings allow, for statistics over many channels.
WIDE = GeneratorSettings(num_classes=2, num_bands=1, depth="less").model_copy(update={"latent_size": 20_000})


@pytest.mark.parametrize("length", [STRIDE, 48, 100, 4 * STRIDE])
def test_style_has_unit_variance_everywhere(length):
    """At nodes of the lattice and between them; independent channels are the sample."""
    field = latent_field(WIDE, 1, Windows.at(-32, FAR, 96, 96), style_length=length)[0].double()
    bound = 5 / math.sqrt(WIDE.latent_size)
    assert field.mean(0).abs().max() < bound
    assert (field.var(0) - 1).abs().max() < bound * math.sqrt(2)


def test_style_drifts_without_jumps():
    """The step between neighbouring cells is bounded by the slope of the weights, across nodes of the lattice too."""
    length = 20 * STRIDE
    window = Windows.at(-2 * length, FAR, 2 * length, 3 * STRIDE)
    field = latent_field(WIDE, 1, window, style_length=length)[0].double()
    steps = field.diff(dim=1).square().mean((0, 2)).sqrt()
    slope = math.pi / 2 * STRIDE / length
    assert steps.max() < 1.5 * slope
    assert steps.min() > 0
    # A whole lattice step away it is another style.
    assert abs((field[:, 0] * field[:, 2 * length // STRIDE - 1]).mean()) < 5 / math.sqrt(3 * WIDE.latent_size)


def test_style_length_zero_is_one_style_everywhere():
    one = latent_field(SETTINGS, 4, Windows.at(0, 0, 64, 32), style_length=0)
    assert one.shape == (1, SETTINGS.latent_size, 4, 2)
    assert torch.equal(one, one[:, :, :1, :1].expand_as(one))
    assert torch.equal(one, latent_field(SETTINGS, 4, Windows.at(FAR, -FAR, 64, 32), style_length=0))
    assert not torch.equal(one, latent_field(SETTINGS, 5, Windows.at(0, 0, 64, 32), style_length=0))
