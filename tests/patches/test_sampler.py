"""PatchSampler: the seed alone decides, each position is as likely as another, nodata is never drawn."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from stores import NO_CLASS, SCENES, make_store
from torchgeo.samplers import GeoSampler

from geosynth.errors import DataError
from geosynth.grid import Window
from geosynth.patches.dataset import PatchDataset
from geosynth.patches.sampler import PatchSampler

TRAIN = [window for window, fold in SCENES.values() if fold == "train"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PatchDataset:
    return PatchDataset(make_store(tmp_path_factory.mktemp("stores") / "whole"), "train")


def test_the_seed_alone_decides(dataset: PatchDataset) -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  (a state that must not matter)
    sampler = PatchSampler(dataset, 16, 20, seed=5)
    first = list(sampler.windows())
    torch.manual_seed(1)
    assert list(sampler.windows()) == first
    assert list(PatchSampler(dataset, 16, 20, seed=5).windows()) == first
    assert list(PatchSampler(dataset, 16, 20, seed=6).windows()) != first
    assert list(PatchSampler(dataset, 16, 30, seed=5).windows())[:20] == first  # a longer run goes on
    assert len(sampler) == len(first) == 20
    assert isinstance(sampler, GeoSampler)


def test_queries_are_those_of_the_windows(dataset: PatchDataset) -> None:
    sampler = PatchSampler(dataset, 16, 10, seed=0)
    for query, window in zip(sampler, sampler.windows(), strict=True):
        assert dataset[query]["window"].tolist() == [window.row, window.column, 16, 16]


def test_patches_lie_inside_scenes_of_the_fold(dataset: PatchDataset) -> None:
    for window in PatchSampler(dataset, 16, 300, seed=1).windows():
        assert any(scene.contains(window) for scene in TRAIN)


def test_each_position_is_as_likely_as_another(dataset: PatchDataset) -> None:
    size, draws = 28, 40_000
    wanted = {
        (row, column)
        for scene in TRAIN
        for row in range(scene.row, scene.bottom - size + 1)
        for column in range(scene.column, scene.right - size + 1)
    }
    counts = Counter((window.row, window.column) for window in PatchSampler(dataset, size, draws, seed=2).windows())
    assert set(counts) == wanted
    expected = draws / len(wanted)
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    freedom = len(wanted) - 1
    assert abs(chi_square - freedom) < 5 * (2 * freedom) ** 0.5


def test_a_patch_as_large_as_a_scene(dataset: PatchDataset) -> None:
    assert set(PatchSampler(dataset, 40, 20, seed=0).windows()) <= {
        Window(10, column, 40, 40) for column in range(20, 31)
    }


def test_nodata_is_never_drawn(tmp_path: Path) -> None:
    dataset = PatchDataset(make_store(tmp_path / "holes", holes=True), "train")
    windows = list(PatchSampler(dataset, 12, 200, seed=0).windows())
    assert {scene.is_complete for scene in dataset.scenes} == {True, False}
    assert any(TRAIN[0].contains(window) for window in windows)
    for window in windows:
        assert (dataset.patch(window)["mask"] < NO_CLASS).all()


def test_a_patch_larger_than_any_scene_is_refused(dataset: PatchDataset) -> None:
    with pytest.raises(DataError, match="41 px: the largest is 40 px"):
        PatchSampler(dataset, 41, 1, seed=0)


def test_a_fold_full_of_holes_is_refused(tmp_path: Path) -> None:
    dataset = PatchDataset(make_store(tmp_path / "holes", holes=True), "train")
    with pytest.raises(DataError, match="free of nodata"):
        list(PatchSampler(dataset, 38, 1, seed=0).windows())  # each such patch of "a" holds the hole; "b" is too small
