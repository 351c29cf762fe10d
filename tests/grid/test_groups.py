"""Which fold gets which group: shares, classes, and folds that must not stay empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geosynth.grid import SpatialSplit, Window, groups
from geosynth.grid.groups import allocate, blocks_over
from strategies import few, windows

SHARES = np.array([0.7, 0.1, 0.2])


def worst_deviation(pixels: np.ndarray, folds: np.ndarray) -> float:
    """The largest difference, over folds and classes, between the class share of a fold and of the whole."""
    whole = pixels.sum(axis=0) / pixels.sum()
    shares = [pixels[folds == fold].sum(axis=0) / pixels[folds == fold].sum() for fold in range(3)]
    return float(np.abs(np.array(shares) - whole).max())


def land_cover(seed: int, blocks: int) -> np.ndarray:
    """(blocks, 4): two common classes, one in a quarter of the blocks, and one in six of them."""
    rng = np.random.default_rng(seed)
    pixels = rng.dirichlet([1.5, 1.0], blocks) * 10_000
    middling = np.where(rng.random(blocks) < 0.25, rng.uniform(500, 4000, blocks), 0)
    rare = np.zeros(blocks)
    rare[rng.choice(blocks, 6, replace=False)] = rng.uniform(200, 900, 6)
    return np.column_stack([pixels, middling, rare]).astype(int)


@pytest.mark.parametrize("seed", range(6))
def test_stratifying_brings_class_shares_near_those_of_the_whole(seed: int) -> None:
    pixels = land_cover(seed, 120)
    plain = allocate(pixels.sum(axis=1, keepdims=True), SHARES, seed)
    stratified = allocate(pixels, SHARES, seed)
    assert worst_deviation(pixels, stratified) < 0.4 * worst_deviation(pixels, plain)
    sizes = np.bincount(stratified, pixels.sum(axis=1)) / pixels.sum()
    assert np.abs(sizes - SHARES).max() < 0.01


@pytest.mark.parametrize("seed", range(6))
def test_each_fold_gets_every_class_that_three_groups_have(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = np.zeros((60, 5), dtype=int)
    pixels[:, 0] = rng.integers(1000, 9000, 60)
    for rare in range(1, 5):
        pixels[rng.choice(60, 3, replace=False), rare] = rng.integers(1, 50, 3)
    folds = allocate(pixels, SHARES, seed)
    assert all(pixels[folds == fold].any(axis=0).all() for fold in range(3))


def test_the_best_of_few_groups_is_found() -> None:
    """Against every possible placement of eight groups."""
    pixels = np.random.default_rng(1).integers(1, 100, (8, 3)).astype(float)

    def cost(folds: np.ndarray) -> float:
        goal = pixels / pixels.sum(axis=0)
        goal = np.column_stack([goal, pixels.sum(axis=1) / pixels.sum()])
        filled = np.array([goal[folds == fold].sum(axis=0) for fold in range(3)])
        return float((((filled / SHARES[:, None] - 1) ** 2) @ [1, 1, 1, 3]).sum())

    every = np.stack(np.meshgrid(*[range(3)] * 8, indexing="ij"), axis=-1).reshape(-1, 8)
    costs = np.array([cost(folds) for folds in every if len(set(folds)) == 3])
    rank = (costs < cost(allocate(pixels, SHARES, 0)) - 1e-9).mean()
    assert rank < 0.005


@pytest.mark.parametrize("seed", range(12))
def test_no_group_could_move_or_change_places_for_the_better(seed: int) -> None:
    """By the cost of the docstring."""
    rng = np.random.default_rng(seed)
    groups, classes = rng.integers(8, 24), rng.integers(1, 4)
    pixels = rng.integers(1, 1000, (groups, classes)).astype(float)
    goal, weights = pixels / pixels.sum(axis=0), np.ones(classes)
    if classes > 1:
        goal = np.column_stack([goal, pixels.sum(axis=1) / pixels.sum()])
        weights = np.append(weights, classes)

    def cost(folds: np.ndarray) -> float:
        filled = np.array([goal[folds == fold].sum(axis=0) for fold in range(3)])
        return float((((filled / SHARES[:, None] - 1) ** 2 + 1e6 * (filled < 1e-12)) @ weights).sum())

    found = allocate(pixels, SHARES, seed)
    others = [np.where(np.arange(groups) == group, fold, found) for group in range(groups) for fold in range(3)]
    for one in range(groups):
        for other in range(one):
            changed = found.copy()
            changed[[one, other]] = found[[other, one]]
            others.append(changed)
    assert cost(found) <= min(map(cost, others)) + 1e-4


@few
@given(st.integers(0, 10_000), st.integers(3, 30), st.integers(1, 4), st.integers(0, 3))
def test_every_group_has_a_fold_and_no_fold_is_empty(data: int, groups: int, classes: int, seed: int) -> None:
    pixels = np.random.default_rng(data).integers(0, 1000, (groups, classes)) + 1
    folds = allocate(pixels, SHARES, seed)
    assert folds.shape == (groups,)
    assert set(folds.tolist()) == {0, 1, 2}
    assert np.array_equal(folds, allocate(pixels, SHARES, seed))


def test_many_groups_are_placed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_TRIALS", 20)
    pixels = np.random.default_rng(0).integers(1, 100, (60, 1))
    sizes = np.bincount(allocate(pixels, SHARES, 0), pixels[:, 0]) / pixels.sum()
    assert sizes == pytest.approx(SHARES, abs=0.02)


def test_shares_are_met_where_scenes_are_many_and_small() -> None:
    places = [Window(0, 20 * index, 10, 10) for index in range(200)]
    split = SpatialSplit.by_clusters(places, (0.7, 0.1, 0.2))
    folds = [split.fold_of(place) for place in places]
    assert [folds.count(name) for name in ("train", "val", "test")] == [140, 20, 40]
    assert SpatialSplit.by_clusters(places, (0.7, 0, 0.3)).area("val").is_empty


@pytest.mark.parametrize("seed", range(10))
def test_one_large_scene_leaves_no_fold_empty(seed: int) -> None:
    places = [Window(0, 0, 1000, 1000), *(Window(2000 + 20 * index, 0, 10, 10) for index in range(5))]
    split = SpatialSplit.by_clusters(places, seed=seed)
    assert {split.fold_of(place) for place in places} == {"train", "val", "test"}


def test_the_seed_decides() -> None:
    places = [Window(0, 20 * index, 10, 10) for index in range(50)]
    for make in (SpatialSplit.by_clusters, lambda places, seed: SpatialSplit.by_blocks(places, 10, seed=seed)):
        splits = [make(places, seed=seed) for seed in (0, 0, 1)]
        assert splits[0] == splits[1]
        assert splits[0] != splits[2]


@few
@given(st.lists(windows(reach=20, largest=12), min_size=1, max_size=6), st.integers(1, 20))
def test_blocks_are_those_of_the_lattice_that_meet_a_window(places: list[Window], size: int) -> None:
    reach = range(-40 // size - 1, 40 // size + 1)
    lattice = [Window(row * size, column * size, size, size) for row in reach for column in reach]
    wanted = [block for block in lattice if any(block.intersection(place) for place in places)]
    assert blocks_over(places, size) == wanted
