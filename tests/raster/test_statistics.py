"""Percentiles of bands: those of all pixels of the fold, whatever the blocks; and the scaling they give."""

from __future__ import annotations

import numpy as np
import pytest

from geosynth.config import BandSettings
from geosynth.errors import DataError
from geosynth.grid import SpatialSplit, Window
from geosynth.raster.stores import statistics
from geosynth.raster.stores.statistics import band_percentiles, band_settings
from memory_source import MemorySource


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "BLOCK", 16)


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
def test_percentiles_are_those_of_all_pixels(dtype: str, scale: float, shift: float) -> None:
    source, pixels = make(dtype, scale, shift)
    method = "inverted_cdf" if dtype != "float32" else "linear"
    expected = np.percentile(pixels, [0.1, 99.9], axis=1, method=method)
    np.testing.assert_allclose(band_percentiles([source]), expected, rtol=1e-6)


def test_several_sources_count_together_and_blocks_may_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    (one, first), (other, second) = make("uint16", 200, 3), make("uint16", 10, 20_000)
    both = np.concatenate([first, second], axis=1)
    found = band_percentiles([one, other])
    np.testing.assert_array_equal(found, np.percentile(both, [0.1, 99.9], axis=1, method="inverted_cdf"))
    monkeypatch.setattr(statistics, "_MAX_BLOCKS", 2)
    read: list[Window] = []
    monkeypatch.setattr(one, "read", lambda window: (read.append(window), type(one).read(one, window))[1])
    few = band_percentiles([one])
    assert len(read) == 2
    assert (few[0] >= first.min(axis=1)).all()
    assert (few[1] <= first.max(axis=1)).all()
    np.testing.assert_array_equal(few, band_percentiles([one]))
    assert read[:2] == read[2:]


def test_settings_by_type() -> None:
    bytes_, _ = make("uint8")
    assert band_settings([bytes_]) == BandSettings(names=bytes_.band_names)
    words, pixels = make("uint16", 200, 3)
    found = band_settings([words])
    assert (found.dtype, found.names) == ("uint16", words.band_names)
    assert found.low == pytest.approx(np.percentile(pixels, 0.1, axis=1, method="inverted_cdf").tolist())
    assert found.high == pytest.approx(np.percentile(pixels, 99.9, axis=1, method="inverted_cdf").tolist())
    assert BandSettings.model_validate_json(found.model_dump_json()) == found


def test_refusals() -> None:
    words, _ = make("uint16")
    with pytest.raises(DataError, match=r"imagery of float64.*float32"):
        band_settings([make("float64")[0]])
    words.image[2] = 9
    with pytest.raises(DataError, match="band blue is 9"):
        band_settings([words])
    with pytest.raises(DataError, match="'val' has no pixel"):
        band_percentiles([words], "val")
