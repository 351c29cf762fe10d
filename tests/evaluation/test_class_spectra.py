from __future__ import annotations

import numpy as np
import pytest

from geosynth.evaluation.textures import OCTAVES, ClassSpectra
from geosynth.evaluation.tiles import Block, Tile
from geosynth.grid import Window


def spectra_of(num_classes: int, num_bands: int) -> ClassSpectra:
    names = tuple("abcd")
    return ClassSpectra(names[:num_classes], names[:num_bands])


def tile(labels: np.ndarray, real: np.ndarray, synthetic: np.ndarray) -> list[Tile]:
    return [Tile(0, Window(0, 0, *labels.shape), 0, Block(real, synthetic, labels))]


def scene(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of (96, 128) in squares, with two images of two bands."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (3, 4)).astype(np.uint8).repeat(32, axis=0).repeat(32, axis=1)
    real, synthetic = rng.integers(60, 190, (2, 2, 96, 128)).astype(np.uint8)
    return labels, real, synthetic


def test_only_squares_of_one_class_count() -> None:
    labels, real, synthetic = scene()
    labels[5, 7] = (labels[5, 7] + 1) % 4  # the first square is mixed now
    spectra = spectra_of(3, 2)  # index 3: no class
    spectra.add(tile(labels, real, synthetic))
    squares = labels.reshape(3, 32, 4, 32).swapaxes(1, 2).reshape(12, -1)
    expected = [sum((square == index).all() for square in squares) for index in range(3)]
    assert spectra.num_windows.tolist() == expected
    assert sum(expected) < 11
    known = np.array(expected) > 0
    assert (spectra.power[:, known] > 0).any(axis=-1).all()
    assert not spectra.power[:, ~known].any()


def test_parts_add_up_to_the_whole() -> None:
    labels, real, synthetic = scene(1)
    whole, parts = spectra_of(4, 2), spectra_of(4, 2)
    whole.add(tile(labels, real, synthetic))
    for part in (np.s_[..., :64], np.s_[..., 64:]):
        parts.add(tile(labels[part], real[part], synthetic[part]))
    assert np.array_equal(parts.num_windows, whole.num_windows)
    assert np.allclose(parts.power, whole.power)


@pytest.mark.parametrize("octave", range(4))
def test_a_missing_octave_is_found_and_the_others_are_right(octave: int) -> None:
    rng = np.random.default_rng(octave)
    low, high = OCTAVES[octave]
    real = rng.normal(128, 30, size=(1, 128, 128))
    rows, columns = np.meshgrid(*2 * [np.fft.fftfreq(128)], indexing="ij")
    radius = np.hypot(rows, columns)
    kept = np.where((radius > low) & (radius < high), 0, 1)  # the mean stays
    synthetic = np.fft.ifft2(np.fft.fft2(real) * kept).real
    images = (np.clip(np.rint(image), 0, 255).astype(np.uint8) for image in (real, synthetic))
    spectra = spectra_of(1, 1)
    spectra.add(tile(np.zeros((128, 128), np.uint8), *images))
    ratios = spectra.octave_ratios()[0, 0]
    assert ratios.argmin() == octave
    assert ratios[octave] < 0.35  # short windows leak from the octaves beside
    # the corners of the spectrum, finer than half a cycle a pixel along an axis, leak into nothing that is measured
    assert np.delete(ratios, octave) == pytest.approx(1, abs=0.25)


def test_twice_the_contrast_is_four_times_the_power() -> None:
    labels, real, _ = scene(2)
    spectra = spectra_of(4, 2)
    spectra.add(tile(labels, (real // 2), (real // 2) * 2 - 40))
    ratios = spectra.octave_ratios()
    assert ratios[spectra.num_windows > 0] == pytest.approx(4, rel=1e-3)


def test_what_is_not_there_is_not_known() -> None:
    spectra = spectra_of(2, 1)
    assert np.isnan(spectra.octave_ratios()).all()
    flat = np.full((1, 32, 40), 9, np.uint8)
    noise = np.random.default_rng(3).integers(0, 99, (1, 32, 40)).astype(np.uint8)
    spectra.add(tile(np.zeros((32, 40), np.uint8), flat, noise))
    assert np.isnan(spectra.octave_ratios()).all()  # constant real images
    spectra.add(tile(np.ones((32, 40), np.uint8), noise, flat))
    assert spectra.octave_ratios()[1].tolist() == [[0, 0, 0, 0]]
    assert spectra.num_windows.tolist() == [1, 1]
    found = spectra.result()
    assert [(one.name, one.ratio) for one in found.classes] == [("a", {"a": (None,) * 4}), ("b", {"a": (0,) * 4})]
    assert found.reason is None
    assert "no square of 32 px" in (spectra_of(2, 1).result().reason or "")
