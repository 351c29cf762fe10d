"""SpatialSplit: neighbours never part, and each fold that is wanted gets something."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geosynth.errors import DataError, SettingsError
from geosynth.grid import SpatialSplit, Window
from strategies import few, windows

scattered = st.lists(windows(reach=400), min_size=1, max_size=40)


def naive_clusters(places: list[Window], gap: int) -> list[set[int]]:
    """Merge groups until nothing changes."""
    groups = [{index} for index in range(len(places))]
    merged = True
    while merged:
        merged = False
        for first in groups:
            for second in groups:
                if first is not second and any(
                    places[i].buffer(gap).intersection(places[j]) for i in first for j in second
                ):
                    first |= second
                    groups.remove(second)
                    merged = True
                    break
            if merged:
                break
    return groups


@few
@given(scattered, st.integers(0, 30), st.integers(0, 3))
def test_clusters_never_part(places: list[Window], gap: int, seed: int) -> None:
    clusters = naive_clusters(places, gap)
    if len(clusters) < 3:
        with pytest.raises(DataError, match=rf"{len(clusters)} separate cluster"):
            SpatialSplit.by_cluster(places, seed=seed, gap=gap)
        return
    split = SpatialSplit.by_cluster(places, seed=seed, gap=gap)
    assert all(len({split.folds[index] for index in cluster}) == 1 for cluster in clusters)
    assert set(split.folds) == {"train", "val", "test"}
    assert split.windows == tuple(places)


@few
@given(scattered, st.integers(1, 30))
def test_no_train_window_within_the_gap_of_a_test_window(places: list[Window], gap: int) -> None:
    try:
        split = SpatialSplit.by_cluster(places, (1, 0, 1), gap=gap)
    except DataError:
        return
    for one, fold in zip(places, split.folds, strict=True):
        for other, other_fold in zip(places, split.folds, strict=True):
            down = max(other.row - one.bottom, one.row - other.bottom)
            right = max(other.column - one.right, one.column - other.right)
            assert fold == other_fold or max(down, right) >= gap


def test_touching_scenes_stay_together_and_a_pixel_between_parts_them() -> None:
    touching = [Window(0, 0, 10, 10), Window(10, 10, 10, 10)]  # at a corner
    with pytest.raises(DataError):
        SpatialSplit.by_cluster(touching, (1, 0, 1))
    apart = [Window(0, 0, 10, 10), Window(11, 0, 10, 10)]
    assert set(SpatialSplit.by_cluster(apart, (1, 0, 1)).folds) == {"train", "test"}


def test_shares_are_met_where_scenes_are_many_and_small() -> None:
    places = [Window(0, 20 * index, 10, 10) for index in range(200)]
    folds = SpatialSplit.by_cluster(places, (0.7, 0.1, 0.2)).folds
    assert [folds.count(name) for name in ("train", "val", "test")] == [140, 20, 40]
    assert "val" not in SpatialSplit.by_cluster(places, (0.7, 0, 0.3)).folds


@pytest.mark.parametrize("seed", range(10))
def test_one_large_scene_leaves_no_fold_empty(seed: int) -> None:
    places = [Window(0, 0, 1000, 1000), *(Window(2000 + 20 * index, 0, 10, 10) for index in range(5))]
    assert set(SpatialSplit.by_cluster(places, seed=seed).folds) == {"train", "val", "test"}


def test_the_seed_decides() -> None:
    places = [Window(0, 20 * index, 10, 10) for index in range(50)]
    splits = [SpatialSplit.by_cluster(places, seed=seed) for seed in (0, 0, 1)]
    assert splits[0] == splits[1]
    assert splits[0] != splits[2]


@pytest.mark.parametrize("shares", [(0, 0, 0), (1, -1, 1), (1, 1), (1, 1, 1, 1), (float("nan"), 1, 1)])
def test_shares_that_cannot_be(shares: tuple[float, ...]) -> None:
    with pytest.raises(SettingsError, match="shares"):
        SpatialSplit.by_cluster([Window(0, 0, 1, 1)], shares)
