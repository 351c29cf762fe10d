from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from geosynth.estimate import draw_places, estimate_from_draws
from geosynth.evaluation.distances import frechet, gaussian
from geosynth.evaluation.textures import (
    NUM_RINGS,
    RingPower,
    Seams,
    Textures,
    band_statistics,
    feature_scale,
    first_half,
    num_features,
)
from geosynth.evaluation.tiles import Block, Chunk, Tile
from geosynth.grid import Window


def test_band_statistics_are_those_of_numpy() -> None:
    tile = np.random.default_rng(0).integers(0, 256, (3, 32, 32)).astype(np.uint8)
    tile[1] = tile[0] // 2
    features = band_statistics(tile)
    assert features.shape == (num_features(3),)
    flat = tile.reshape(3, -1).astype(float)
    correlation = np.corrcoef(flat)
    assert np.allclose(features[:3], flat.mean(axis=1))
    assert np.allclose(features[3:6], flat.std(axis=1))
    assert np.allclose(features[6:9], [correlation[0, 1], correlation[0, 2], correlation[1, 2]])


def test_bands_that_hardly_vary_have_a_correlation() -> None:
    faint = np.random.default_rng(0).integers(0, 2, (32, 32)).astype(np.uint8)
    assert band_statistics(np.stack([faint, 1 - faint]))[4] == pytest.approx(-1)


@pytest.mark.parametrize(("down", "right"), [(3, 0), (0, 2), (3, 4)])
def test_gradients_of_a_ramp_grow_with_the_scale(down: int, right: int) -> None:
    ramp = np.add.outer(down * np.arange(32), right * np.arange(32)).astype(np.uint8)[None]
    assert band_statistics(ramp)[-3:] == pytest.approx(np.hypot(down, right) * np.array([1, 2, 4]))


def test_gradients_are_those_of_a_loop() -> None:
    tile = np.random.default_rng(3).integers(0, 256, (2, 8, 12)).astype(np.uint8)
    for number, factor in enumerate((1, 2, 4)):
        coarse = tile.reshape(2, 8 // factor, factor, 12 // factor, factor).mean(axis=(2, 4))
        steps = [
            np.hypot(band[row + 1, column] - band[row, column], band[row, column + 1] - band[row, column])
            for band in coarse
            for row, column in np.ndindex(8 // factor - 1, 12 // factor - 1)
        ]
        assert band_statistics(tile)[number - 3] == pytest.approx(np.mean(steps), rel=1e-5)


def test_fine_noise_shows_at_the_fine_scale_only() -> None:
    checks = (np.indices((32, 32)).sum(axis=0) % 2 * 10).astype(np.uint8)[None]
    fine, medium, coarse = band_statistics(checks)[-3:]
    assert fine == pytest.approx(10 * np.sqrt(2))
    assert medium == coarse == 0


def test_a_constant_tile_has_features() -> None:
    features = band_statistics(np.full((4, 32, 32), 7, np.uint8))
    assert features[:4].tolist() == [7] * 4
    assert not features[4:].any()


def test_what_hardly_varies_is_not_blown_up() -> None:
    features = np.random.default_rng(0).normal(size=(50, num_features(2))) * 1e-6
    scale = feature_scale(features, 2)
    assert scale.tolist() == [1] * 4 + [0.05] + [1] * 3
    assert np.allclose(feature_scale(features * 1e9, 2), features.std(axis=0, ddof=1) * 1e9)


@pytest.mark.parametrize("cycles", [4, 9, 14])
def test_a_wave_has_its_power_in_its_ring(cycles: int) -> None:
    wave = 128 + 100 * np.sin(2 * np.pi * cycles * np.arange(32) / 32)
    ring_power = RingPower(32)
    for tile in (np.tile(wave, (32, 1)), np.tile(wave, (32, 1)).T):
        power = ring_power(np.rint(tile)[None].astype(np.uint8))[0]
        # a Hann window spreads a line over its two neighbours
        assert power[cycles - 1 : cycles + 2].sum() > 0.97 * power.sum()
        assert ring_power.frequencies[np.argmax(power)] == pytest.approx(cycles / 32, abs=1 / 32)


def test_spectral_power_is_quadratic_and_ignores_the_mean() -> None:
    tile = np.random.default_rng(0).integers(0, 60, (2, 64, 64)).astype(np.uint8)
    ring_power = RingPower(64)
    assert np.allclose(ring_power(3 * tile), 9 * ring_power(tile), rtol=1e-4)
    assert np.allclose(ring_power(tile + 100), ring_power(tile), rtol=1e-3)
    each = np.array([0, 150], np.uint8)[:, None, None]  # bands lose their own means
    assert np.allclose(ring_power(tile + each), ring_power(tile), rtol=1e-3)
    assert not ring_power(np.full((1, 64, 64), 9, np.uint8)).any()


@pytest.mark.parametrize("size", [32, 36])
def test_spectral_power_is_that_of_a_sum_over_frequencies(size: int) -> None:
    """Of the windowed tile, over the whole plane; frequencies in the corners, beyond 0.5, count nowhere."""
    tile = np.random.default_rng(2).integers(0, 256, (1, size, size)).astype(np.uint8)
    hann = np.sin(np.pi * np.arange(size) / size) ** 2
    power = np.abs(np.fft.fft2((tile[0] - tile[0].mean()) * hann[:, None] * hann)) ** 2
    expected = np.zeros(NUM_RINGS)
    for row, column in np.ndindex(size, size):
        radius = np.hypot(np.fft.fftfreq(size)[row], np.fft.fftfreq(size)[column])
        if radius < 0.5:
            expected[int(radius * 2 * NUM_RINGS)] += power[row, column]
    ring_power = RingPower(size)
    assert np.allclose(ring_power(tile)[0], expected, rtol=1e-3)
    assert np.allclose(ring_power(tile.swapaxes(1, 2))[0], expected, rtol=1e-3)
    assert ring_power.frequencies.tolist() == [(ring + 0.5) / 32 for ring in range(NUM_RINGS)]


@pytest.mark.parametrize("turned", [False, True])
def test_the_first_half_is_that_at_the_low_end_of_the_longer_axis(turned: bool) -> None:
    places = [(0, 5), (1, 9), (0, 2), (1, 2), (1, 0)]  # rows and columns; of equals the one further up
    tiles = [Window(*(place[::-1] if turned else place), 1, 1) for place in places]
    assert first_half(tiles).tolist() == [False, False, True, False, True]


def naive_score(image: np.ndarray, valid: np.ndarray, origin: tuple[int, int], size: int) -> tuple[float, int]:
    """And how many pairs of pixels lie across lines."""
    lines, elsewhere = [], []
    _, height, width = image.shape
    for row in range(height):
        for column in range(width):
            for down, right in ((1, 0), (0, 1)):
                y, x = row + down, column + right
                if y < height and x < width and valid[row, column] and valid[y, x]:
                    step = np.abs(image[:, y, x].astype(int) - image[:, row, column]).sum()
                    crosses = (origin[0] + y) % size == 0 if down else (origin[1] + x) % size == 0
                    (lines if crosses else elsewhere).append(step)
    return float(np.mean(lines) / np.mean(elsewhere)), len(lines)


def test_seam_score_is_that_of_a_loop_however_it_is_cut() -> None:
    rng = np.random.default_rng(0)
    image, valid = rng.integers(0, 256, (2, 23, 30)).astype(np.uint8), rng.random((23, 30)) > 0.2
    origin = (-5, 1003)
    other = rng.integers(0, 256, image.shape).astype(np.uint8)
    expected = [naive_score(one, valid, origin, 8) for one in (image, other)]
    for step in (30, 7, 8):
        seams = Seams(1, 8)
        for row in range(0, 23, step):
            for column in range(0, 30, step):
                grown = (slice(row, row + step + 1), slice(column, column + step + 1))
                shape = (min(step, 23 - row), min(step, 30 - column))
                block = Block(image[(..., *grown)], other[(..., *grown)], (~valid[grown]).astype(np.uint8))
                seams.add(Chunk(block, [], shape, (origin[0] + row, origin[1] + column)))
        assert seams.scores() == pytest.approx([score for score, _ in expected])
        result = seams.result()
        assert (result.real, result.synthetic) == tuple(seams.scores())
        assert (result.block_size, result.num_pairs, result.reason) == (8, expected[0][1], None)


def test_why_there_is_no_seam_score_or_spectrum() -> None:
    flat = np.full((1, 32, 32), 5, np.uint8)
    block = Block(flat, flat, np.zeros((32, 32), np.uint8))
    for size, found in ((16, "the synthetic image has no texture"), (64, "no block line in the area")):
        seams = Seams(1, size)
        seams.add(Chunk(block, [], (32, 32), (0, 0)))
        assert seams.result().reason == f"{found} (blocks of {size} px)"
    textures = seen_by_textures(0)[0]
    assert textures.spectrum().reason == "no whole tile is free of nodata"
    textures.add([Tile(0, Window(0, 0, 32, 32), 0, block)])
    assert textures.spectrum().reason == "the real tiles have no texture"


def test_a_step_at_block_lines_is_found_and_nothing_else() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(100, 110, (1, 64, 64))
    tiled = image + 50 * (np.indices((64, 64)) // 16).sum(axis=0) % 100

    def score(values: np.ndarray, size: int) -> float:
        seams = Seams(1, size)
        block = Block(*2 * [values.astype(np.uint8)], np.zeros((64, 64), np.uint8))
        seams.add(Chunk(block, [], (64, 64), (0, 0)))
        real, synthetic = seams.scores()
        assert real == pytest.approx(synthetic, nan_ok=True)
        return float(synthetic)

    assert score(image, 16) == pytest.approx(1, abs=0.15)
    assert score(tiled, 16) > 10
    assert score(tiled, 15) < 2
    assert np.isnan(score(image, 64))
    assert np.isnan(score(np.full((1, 64, 64), 5), 16))


def seen_by_textures(num_tiles: int) -> tuple[Textures, np.ndarray, np.ndarray]:
    """Of one band, two tiles a place, and their features, real and synthetic (2, tiles, 5)."""
    rng = np.random.default_rng(0)
    tiles = []
    for number in range(num_tiles):
        contrast = 20 + 80 * rng.random()
        real = rng.normal(120, contrast, (1, 32, 32)).clip(0, 255).astype(np.uint8)
        synthetic = (real // 2 + rng.integers(0, 90, real.shape)).astype(np.uint8)
        window = Window(number % 3 * 32, number * 32, 32, 32)
        tiles.append(Tile(number, window, number // 2, Block(real, synthetic, np.zeros((32, 32), np.uint8))))
    pair: Any = SimpleNamespace(tile_size=32, bands=("pan",), num_places=num_tiles // 2)
    textures = Textures(pair)
    textures.add(tiles[:7])
    textures.add(tiles[7:])
    images = [[tile.block.real for tile in tiles], [tile.block.synthetic for tile in tiles]]
    features = np.array([[band_statistics(image) for image in of] for of in images])
    power = np.array([np.sum([RingPower(32)(image) for image in of], axis=0) for of in images])
    return textures, features, power


def test_the_frechet_distance_is_that_of_repeated_tiles() -> None:
    """A draw of places is the same tiles, each as often as its place was drawn; halves are each other's measure."""
    textures, features, _ = seen_by_textures(24)
    found = textures.frechet(seed=3)
    real, synthetic = features / feature_scale(features[0], 1)

    def distance(one: np.ndarray, other: np.ndarray) -> float:
        return frechet(gaussian(one), gaussian(other))

    half = np.arange(24) < 12  # columns grow with the tiles
    assert found.halves_real == pytest.approx(distance(real[half], real[~half]))
    across = (distance(real[half], synthetic[~half]) + distance(real[~half], synthetic[half])) / 2
    assert found.halves_across == pytest.approx(across)
    draws = []
    for weights in draw_places(12, 3):
        again = np.repeat(np.arange(24), np.repeat(weights, 2).astype(int))
        draws.append(distance(real[again], synthetic[again]))
    expected = estimate_from_draws(draws, 12, least=0.0)
    assert found.distance.value == pytest.approx(expected.value)
    assert (found.distance.low, found.distance.high) == pytest.approx((expected.low, expected.high))
    assert (found.num_features, found.num_tiles, found.min_tiles) == (5, 24, 20)
    assert seen_by_textures(20)[0].frechet(0).distance.value is not None
    assert seen_by_textures(18)[0].frechet(0).distance.value is None


def test_draws_of_too_few_tiles_have_no_frechet_distance() -> None:
    """Of 40 places 32 have no tile, and one has most: draws without it have no more tiles than features."""
    textures, (features, _), _ = seen_by_textures(28)
    textures._places = [0] * 21 + list(range(1, 8))
    textures._pair.num_places = 40
    far = features + np.where(np.arange(28) == 27, 100, 0)[:, None]  # but for one tile both are alike
    textures._features = list(zip(features, far, strict=True))
    real, synthetic = features / feature_scale(features, 1), far / feature_scale(features, 1)
    draws = []
    for weights in draw_places(40, 3)[:, textures._places]:
        again = np.repeat(np.arange(28), weights.astype(int))
        enough = len(again) > 5
        draws.append(frechet(gaussian(real[again]), gaussian(synthetic[again])) if enough else np.nan)
    assert np.isnan(draws).any()
    expected, found = estimate_from_draws(draws, 8, least=0.0), textures.frechet(seed=3).distance
    assert expected.value > 1
    assert expected.low == 0
    assert (found.low, found.high) == pytest.approx((0, expected.high))
    assert found.n == 8


def test_the_spectrum_is_the_ratio_of_all_tiles_powers() -> None:
    textures, _, (real, synthetic) = seen_by_textures(8)
    found = textures.spectrum()
    np.testing.assert_allclose(found.ratio["pan"], (synthetic / real)[0])
    assert found.fine_detail == pytest.approx(synthetic[:, 8:].sum() / real[:, 8:].sum())
    np.testing.assert_allclose(found.frequencies, (np.arange(16) + 0.5) / 32)
    assert (found.num_tiles, found.reason) == (8, None)
