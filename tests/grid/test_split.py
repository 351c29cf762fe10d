"""SpatialSplit: folds keep their distance, whatever they are made of."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import shapely
from areas import SIDE, allowed, naive_mask, polygons, scenes, smallest_distance
from hypothesis import given
from hypothesis import strategies as st

from geosynth.errors import DataError, SettingsError
from geosynth.grid import SpatialSplit, Window
from geosynth.grid.groups import blocks_over, touching_groups
from geosynth.grid.split import FOLDS
from strategies import few, windows

crowded = st.lists(windows(reach=120), min_size=8, max_size=40)


@st.composite
def splits(draw: st.DrawFn) -> SpatialSplit:
    """Of all four kinds; None of them empty in all folds."""
    buffer = draw(st.integers(0, 5))
    kind = draw(st.sampled_from(["blocks", "clusters", "scenes", "polygons"]))
    places, seed = draw(scenes()), draw(st.integers(0, 5))
    try:
        if kind == "blocks":
            return SpatialSplit.by_blocks(places, draw(st.integers(5, 16)), seed=seed, buffer=buffer)
        if kind == "clusters":
            return SpatialSplit.by_clusters(places, seed=seed, buffer=buffer)
        if kind == "scenes":
            return SpatialSplit.by_scenes({fold: [draw(st.sampled_from(places))] for fold in FOLDS}, buffer=buffer)
        return SpatialSplit.by_polygons({fold: draw(polygons()) for fold in FOLDS}, buffer=buffer)
    except DataError:
        boxes = {fold: [Window(0, 16 * index, 40, 14)] for index, fold in enumerate(FOLDS)}
        return SpatialSplit.by_scenes(boxes, buffer=2)


@few
@given(splits(), st.integers(1, 9), st.integers(1, 9))
def test_no_patch_lies_within_the_buffer_of_another_fold(split: SpatialSplit, height: int, width: int) -> None:
    masks = {fold: naive_mask(split, fold) for fold in FOLDS}
    for fold, others in (("train", ("val", "test")), ("val", ("test",))):
        patches = allowed(split, fold, height, width)
        for other in others:
            assert smallest_distance(patches, masks[other]) >= split.buffer - 1e-3


@few
@given(splits(), windows(reach=50, largest=40))
def test_masks_are_the_pixels_that_lie_wholly_in_the_area(split: SpatialSplit, window: Window) -> None:
    inside = window.intersection(Window(0, 0, SIDE, SIDE))
    for fold in FOLDS:
        mask = split.mask(window, fold)
        assert (mask.shape, mask.dtype) == ((window.height, window.width), bool)
        if inside is None:
            assert not mask.any()
            continue
        local = inside.shift(-window.row, -window.column)
        assert np.array_equal(mask[local.slices], naive_mask(split, fold)[inside.slices])
        assert mask.sum() == mask[local.slices].sum()


@few
@given(splits(), st.lists(windows(reach=45, largest=12), min_size=1, max_size=20))
def test_holding_meeting_and_masks_agree(split: SpatialSplit, places: list[Window]) -> None:
    table = np.array([(w.row, w.column, w.height, w.width) for w in places])
    for fold in FOLDS:
        held = [split.holds(window, fold) for window in places]
        assert held == split.holds_each(table, fold).tolist()
        assert held == [bool(split.mask(window, fold).all()) for window in places]
        assert all(split.meets(window, fold) for window in places if split.mask(window, fold).any())
        boxes = [shapely.box(w.column, w.row, w.right, w.bottom) for w in places if split.meets(w, fold)]
        assert shapely.intersects(split.area(fold), boxes).all()
    for window in places:
        fold = split.fold_of(window)
        assert ([fold] if fold else []) == [name for name in FOLDS if split.holds(window, name)]


@few
@given(splits())
def test_a_split_survives_json_and_pickle(split: SpatialSplit) -> None:
    assert SpatialSplit.from_values(json.loads(json.dumps(split.to_values()))) == split
    assert pickle.loads(pickle.dumps(split)) == split


def test_threads_may_ask_at_once() -> None:
    split = SpatialSplit.by_blocks([Window(0, 0, 900, 900)], 32, buffer=6, seed=1)
    places = [
        Window(int(row), int(column), 70, 90) for row, column in np.random.default_rng(0).integers(0, 800, (400, 2))
    ]
    alone = [split.mask(window, "train") for window in places]
    fresh = pickle.loads(pickle.dumps(split))
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda window: fresh.mask(window, "train"), places))
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


@few
@given(scenes(), st.integers(4, 20), st.integers(0, 4), st.integers(0, 3))
def test_each_pixel_of_a_scene_is_in_one_fold_or_near_another(
    places: list[Window], block_size: int, buffer: int, seed: int
) -> None:
    """The buffer takes no more than it must: what is cut off is near a pixel of a fold that goes before."""
    try:
        split = SpatialSplit.by_blocks(places, block_size, seed=seed, buffer=buffer)
    except DataError:
        return
    covered = np.zeros((SIDE, SIDE), dtype=bool)
    for place in places:
        covered[place.slices] = True
    masks = {fold: naive_mask(split, fold) for fold in FOLDS}
    assert (sum(mask.astype(int) for mask in masks.values()) <= 1).all()
    assert not (sum(masks.values()) & ~covered).any()
    rows, columns = np.nonzero(covered & ~masks["train"] & ~masks["val"] & ~masks["test"])
    before = np.argwhere(masks["val"] | masks["test"])
    for row, column in zip(rows, columns, strict=True):  # a square of the buffer's side holds a pixel of them
        near = np.abs(before - (row, column)).max(axis=1) <= buffer
        assert near.any()


def test_blocks_lie_on_whole_pixels_of_their_lattice() -> None:
    places = [Window(7, 11, 300, 290), Window(400, 3, 100, 500)]
    split = SpatialSplit.by_blocks(places, 32, seed=2)
    for fold in FOLDS:
        corners = shapely.get_coordinates(split.area(fold))
        assert np.array_equal(corners, np.round(corners))
    for block in blocks_over(places, 32):
        assert block.row % 32 == block.column % 32 == 0
        parts = [part for place in places if (part := place.intersection(block))]
        assert parts
        assert len({split.fold_of(part) for part in parts} - {None}) == 1  # without a buffer no block is cut
        assert all(split.fold_of(part) for part in parts)


@few
@given(crowded, st.integers(0, 3))
def test_clusters_never_part(places: list[Window], seed: int) -> None:
    clusters = naive_clusters(places)
    if len(clusters) < 3:
        with pytest.raises(DataError, match=rf"{len(clusters)} separate scene cluster"):
            SpatialSplit.by_clusters(places, seed=seed)
        return
    split = SpatialSplit.by_clusters(places, seed=seed)
    folds = [split.fold_of(place) for place in places]
    assert all(len({folds[index] for index in cluster}) == 1 for cluster in clusters)
    assert set(folds) == set(FOLDS)


@few
@given(crowded)
def test_groups_touch_directly_or_through_others(places: list[Window]) -> None:
    found = {frozenset(group) for group in touching_groups(places)}
    assert found == set(map(frozenset, naive_clusters(places)))


def naive_clusters(places: list[Window]) -> list[set[int]]:
    """Merge groups until nothing changes."""
    groups = [{index} for index in range(len(places))]
    merged = True
    while merged:
        merged = False
        for first in groups:
            for second in groups:
                if first is not second and any(
                    places[i].buffer(1).intersection(places[j]) for i in first for j in second
                ):
                    first |= second
                    groups.remove(second)
                    merged = True
                    break
            if merged:
                break
    return groups


def test_touching_scenes_stay_together_and_a_pixel_between_parts_them() -> None:
    touching = [Window(0, 0, 10, 10), Window(10, 10, 10, 10)]  # at a corner
    with pytest.raises(DataError):
        SpatialSplit.by_clusters(touching, (1, 0, 1))
    apart = [Window(0, 0, 10, 10), Window(11, 0, 10, 10)]
    split = SpatialSplit.by_clusters(apart, (1, 0, 1))
    assert {split.fold_of(window) for window in apart} == {"train", "test"}


def test_polygons_win_in_the_order_test_val_train_and_end_at_the_scenes(caplog: pytest.LogCaptureFixture) -> None:
    everywhere = {fold: shapely.box(0, 0, 40, 40) for fold in FOLDS}
    with pytest.raises(DataError, match="leaves fold train, val nothing"):
        SpatialSplit.by_polygons(everywhere)
    nested = {"train": shapely.box(0, 0, 40, 40), "val": shapely.box(0, 0, 20, 40), "test": shapely.box(0, 0, 10, 40)}
    split = SpatialSplit.by_polygons(nested, [Window(5, 0, 10, 100)], buffer=2)
    assert [split.area(fold).bounds for fold in FOLDS] == [(22, 5, 40, 15), (12, 5, 20, 15), (0, 5, 10, 15)]
    elsewhere = SpatialSplit.by_polygons(nested | {"train": shapely.box(0, 50, 40, 60)}, [Window(5, 0, 10, 100)])
    assert elsewhere.area("train").is_empty
    assert "fold train has no pixel" in caplog.text


def test_areas_of_another_grid_push_train_and_val_away() -> None:
    split = SpatialSplit.by_scenes(
        {"train": [Window(0, 0, 20, 20)], "val": [Window(0, 40, 20, 20)], "test": [Window(0, 80, 20, 20)]}, buffer=5
    )
    foreign = {"train": shapely.box(80, 20, 100, 40), "val": shapely.box(0, 20, 20, 40)}
    away = split.away_from(foreign)
    assert away.area("test") == split.area("test")
    assert away.area("val") == split.area("val")
    # to x = 60 and y = 20 there are 5 px, two thousandths of them, and one more, in whole pixels
    assert away.area("train").bounds == (0, 0, 20, 13)
    assert split.away_from({"test": shapely.box(66, 0, 70, 20)}).area("val").bounds == (40, 0, 59, 20)
    with pytest.raises(DataError, match="fold val"):
        split.away_from({"test": shapely.box(30, 0, 70, 30)})


@pytest.mark.parametrize(
    "shares", [(0, 0, 0), (1, -1, 1), (1, 1), (1, 1, 1, 1), (float("nan"), 1, 1), (float("inf"), 1, 1)]
)
def test_shares_that_cannot_be(shares: tuple[float, ...]) -> None:
    for split in (SpatialSplit.by_clusters, lambda places, shares: SpatialSplit.by_blocks(places, 4, shares)):
        with pytest.raises(
            SettingsError, match=r"^shares: three numbers, each 0 or more, for train, val, test; got \("
        ):
            split([Window(0, 0, 1, 1)], shares)


def test_what_is_not_said_is_as_the_documentation_has_it() -> None:
    places = [Window(0, 11 * index, 10, 10) for index in range(40)]
    shares = (0.7, 0.1, 0.2)
    assert SpatialSplit.by_clusters(places) == SpatialSplit.by_clusters(places, shares, 0, buffer=0)
    assert SpatialSplit.by_blocks(places, 10) == SpatialSplit.by_blocks(places, 10, shares, 0, buffer=0)
    areas = {"train": shapely.box(0, 0, 9, 9), "test": shapely.box(9, 0, 18, 9)}
    assert SpatialSplit.by_polygons(areas) == SpatialSplit.by_polygons(areas, None, buffer=0)
    scenes = {"train": places[::2], "test": places[1::2]}
    assert SpatialSplit.by_scenes(scenes) == SpatialSplit.by_scenes(scenes, buffer=0)
    assert SpatialSplit.none().areas == (shapely.MultiPolygon(),) * 3


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SpatialSplit.by_blocks([Window(0, 0, 9, 9)], 0), "^block_size: must be 1 px"),
        (lambda: SpatialSplit.by_blocks([Window(0, 0, 9, 9)], 3, buffer=-1), "buffer"),
        (lambda: SpatialSplit.by_blocks([Window(0, 0, 9, 9)], 3, class_pixels=[[1]]), "1 blocks were given for 9"),
        (
            lambda: SpatialSplit.by_scenes({"training": [Window(0, 0, 9, 9)], "valid": [], "train": []}),
            "^fold training, valid: the folds are train, val, test$",
        ),
        (lambda: SpatialSplit.by_scenes({"train": [Window(0, 0, 9, 9)]}).area("valid"), "fold 'valid'"),
    ],
)
def test_settings_that_cannot_be(make: Callable[[], object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        make()


@pytest.mark.parametrize("seed", range(4))
def test_folds_share_a_class_that_only_some_scenes_or_blocks_have(seed: int) -> None:
    """The rare class is in the second and in the last of four clusters of two scenes, or of eight blocks."""
    places = [Window(30 * (index // 2), 10 * (index % 2), 10, 10) for index in range(8)]
    rare = [[100, 0], [100, 0], [100, 0], [95, 5], [100, 0], [100, 0], [95, 5], [100, 0]]
    clusters = SpatialSplit.by_clusters(places, (1, 0, 1), seed, class_pixels=rare)
    blocks = SpatialSplit.by_blocks(places, 10, (1, 0, 1), seed, class_pixels=rare)
    for split in (clusters, blocks):
        assert {split.fold_of(places[3]), split.fold_of(places[6])} == {"train", "test"}
        assert split.area("train").area == split.area("test").area == 400


def test_blocks_without_a_class_are_in_no_fold() -> None:
    pixels = [[0, 0], [1, 0], [0, 2], [0, 0]]
    split = SpatialSplit.by_blocks([Window(0, 0, 1, 4)], 1, (1, 0, 1), class_pixels=pixels)
    assert [split.fold_of(Window(0, column, 1, 1)) is None for column in range(4)] == [True, False, False, True]


def test_folds_without_a_place_are_named() -> None:
    for make, kind in ((SpatialSplit.by_clusters, "separate scene clusters"), (SpatialSplit.by_blocks, "blocks")):
        with pytest.raises(DataError, match=f"^none left for fold train, val, test, of 0 {kind} in all; give"):
            make([], *((9,) if kind == "blocks" else ()))
    with pytest.raises(DataError, match=r"^none left for fold val, test, of 1 block in all; give that fold"):
        SpatialSplit.by_blocks([Window(0, 0, 9, 9)], 9)
    with pytest.raises(DataError, match=r"^none left for fold test, of 1 separate scene cluster in all"):
        SpatialSplit.by_clusters([Window(0, 0, 9, 9)], (1, 0, 1))


def test_a_buffer_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="buffer of 20 px leaves fold"):
        SpatialSplit.by_blocks([Window(0, 0, 64, 64)], 16, buffer=20)
