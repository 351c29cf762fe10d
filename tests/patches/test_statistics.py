"""Band statistics: those of all pixels of the fold, whatever the blocks; and the scaling they give."""

from __future__ import annotations

import numpy as np
import pytest
from memory_source import MemorySource

from geosynth.config import BandSettings
from geosynth.errors import DataError, SettingsError
from geosynth.grid import SpatialSplit, Window
from geosynth.patches import statistics
from geosynth.patches.statistics import band_settings, band_statistics


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "_BLOCK", 16)


def make(dtype: str, scale: float = 1.0, shift: float = 0.0) -> tuple[MemorySource, np.ndarray]:
    """Overlapping scenes with holes; the pixels that count, (bands, pixels)."""
    scenes = [Window(0, 0, 30, 41), Window(20, 30, 30, 30)]
    split = SpatialSplit.by_scenes({"train": scenes, "test": [Window(5, 5, 10, 10)]}, buffer=2)
    source = MemorySource((50, 60), scenes, split, seed=2, holes=True, dtype=dtype)
    source.image = (source.image.astype(np.float64) * scale + shift).astype(dtype)
    whole = Window(0, 0, 50, 60)
    good = split.mask(whole, "train") & (source.labels < source.legend.num_classes)
    source.image[:, ~good] = 77  # must not count
    return source, source.image[:, good].astype(np.float64)


@pytest.mark.parametrize(
    ("dtype", "scale", "shift"), [("uint8", 1, 0), ("uint16", 200, 3), ("int16", 100, -9000), ("float32", 0.01, 1e4)]
)
def test_statistics_are_those_of_all_pixels(dtype: str, scale: float, shift: float) -> None:
    source, pixels = make(dtype, scale, shift)
    found = band_statistics([source])
    assert found.pixels == pixels.shape[1]
    np.testing.assert_allclose(found.mean, pixels.mean(axis=1), rtol=1e-9)
    np.testing.assert_allclose(found.deviation, pixels.std(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(found.minimum, pixels.min(axis=1))
    np.testing.assert_array_equal(found.maximum, pixels.max(axis=1))
    low, high = np.percentile(pixels, [0.1, 99.9], axis=1, method="inverted_cdf" if dtype != "float32" else "linear")
    np.testing.assert_allclose(found.low, low, rtol=1e-6)
    np.testing.assert_allclose(found.high, high, rtol=1e-6)


def test_several_sources_count_together_and_blocks_may_be_drawn() -> None:
    (one, first), (other, second) = make("uint16", 200, 3), make("uint16", 10, 20_000)
    both = np.concatenate([first, second], axis=1)
    np.testing.assert_allclose(band_statistics([one, other]).mean, both.mean(axis=1), rtol=1e-9)
    few = band_statistics([one], max_blocks=3, seed=5)
    assert 0 < few.pixels < first.shape[1]
    assert few.pixels == band_statistics([one], max_blocks=3, seed=5).pixels
    assert few.mean.tolist() != band_statistics([one], max_blocks=3, seed=6).mean.tolist()


def test_settings_by_type() -> None:
    bytes_, _ = make("uint8")
    assert band_settings([bytes_]) == BandSettings(names=bytes_.band_names)
    words, pixels = make("uint16", 200, 3)
    found = band_settings([words])
    assert (found.dtype, found.names) == ("uint16", words.band_names)
    assert found.low == pytest.approx(np.percentile(pixels, 0.1, axis=1, method="inverted_cdf").tolist())
    spread = band_settings([words], scaling="deviation")
    assert isinstance(spread.low, tuple)
    assert min(spread.low) >= 0  # a uint16 holds nothing below
    assert spread.high == pytest.approx((pixels.mean(axis=1) + 3 * pixels.std(axis=1)).clip(max=65535).tolist())
    assert BandSettings.model_validate_json(spread.model_dump_json()) == spread


def test_refusals() -> None:
    words, _ = make("uint16")
    with pytest.raises(SettingsError, match="percentiles or deviation"):
        band_settings([words], scaling="range")
    with pytest.raises(DataError, match=r"imagery of float64.*float32"):
        band_settings([make("float64")[0]])
    words.image[2] = 9
    with pytest.raises(DataError, match="band blue is 9"):
        band_settings([words])
    with pytest.raises(DataError, match="'val' has no pixel"):
        band_statistics([words], "val")
