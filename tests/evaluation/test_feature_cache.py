from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from geosynth.errors import OutputError
from geosynth.evaluation.extractors import Extractor
from geosynth.evaluation.features import FeatureCache


class Counting:
    """A network of three features that counts the images it has seen."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, rgb: Tensor) -> Tensor:
        self.seen += len(rgb)
        return rgb.float().mean((2, 3))


@pytest.fixture
def network() -> Counting:
    return Counting()


@pytest.fixture
def extractor(network: Counting) -> Extractor:
    return Extractor("means", 3, "a digest", network, torch.device("cpu"))


def tiles(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (5, 3, 32, 32)).astype(np.uint8)


def test_features_are_computed_once(tmp_path: Path, extractor: Extractor, network: Counting) -> None:
    cache = FeatureCache(tmp_path / "new" / "cache")
    first = cache.embed(extractor, tiles())
    assert np.allclose(first, tiles().mean(axis=(2, 3)))
    assert np.array_equal(FeatureCache(cache.folder).embed(extractor, tiles()[::1].copy()), first)
    assert network.seen == 5
    assert [path.suffix for path in cache.folder.iterdir()] == [".npz"]


def test_other_content_is_another_entry(tmp_path: Path, extractor: Extractor, network: Counting) -> None:
    cache = FeatureCache(tmp_path)
    changed = tiles()
    changed[4, 2, 31, 31] ^= 1
    others = [
        (extractor, tiles()),
        (extractor, changed),
        (extractor, tiles()[:, ::-1]),  # other bands
        (extractor, tiles().reshape(5, 3, 64, 16).repeat(2, axis=3)),
        (replace(extractor, digest="another"), tiles()),
        (replace(extractor, name="another"), tiles()),
    ]
    for which, images in others:
        assert np.array_equal(cache.embed(which, images), which.embed(images))
    assert len(list(tmp_path.iterdir())) == len(others)
    assert network.seen == 2 * 5 * len(others)


def test_damaged_entries_are_computed_again(tmp_path: Path, extractor: Extractor, network: Counting) -> None:
    cache = FeatureCache(tmp_path)
    features = cache.embed(extractor, tiles())
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    values = whole.find(features.tobytes())
    assert values > 0
    flipped = bytearray(whole)
    flipped[values + 3] ^= 1
    for number, damaged in enumerate((b"", whole[:-20], whole[: values + 8], bytes(flipped), b"not a file"), start=2):
        path.write_bytes(damaged)
        assert np.array_equal(cache.embed(extractor, tiles()), features)
        assert network.seen == 5 * number
        assert path.read_bytes() == whole
    with path.open("wb") as file:
        np.savez(file, features=np.array([{"a": "pickle"}] * 5, dtype=object))
    assert np.array_equal(cache.embed(extractor, tiles()), features)


@pytest.mark.parametrize("is_cached", [False, True])
def test_what_a_kill_left_goes_with_the_next_run(is_cached: bool, tmp_path: Path, extractor: Extractor) -> None:
    if is_cached:
        FeatureCache(tmp_path).embed(extractor, tiles())
    for name in (".lock", ".2f0d.5ba1.partial.npz"):
        (tmp_path / name).write_text("")
    FeatureCache(tmp_path).embed(extractor, tiles())
    (kept,) = tmp_path.iterdir()
    assert not kept.name.startswith(".")


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path, extractor: Extractor) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        FeatureCache(tmp_path / "file").embed(extractor, tiles())
