"""Samplers: the seed alone decides, chunk-aware order draws what plain random order draws, runs go on exactly."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from independent import draw_independently
from stores import NO_CLASS, SCENES, make_store
from test_positions import every_position

from geosynth.errors import DataError, SettingsError
from geosynth.grid import SpatialSplit, Window
from geosynth.patches.dataset import PatchDataset
from geosynth.patches.positions import PositionIndex
from geosynth.patches.sampler import Chances, PatchBatchSampler
from memory_source import MemorySource

TRAIN = [window for window, fold in SCENES.values() if fold == "train"]
SIZE = 5


def make_source(holes: bool = True) -> MemorySource:
    """Two scenes that overlap, one of odd size aside; a test area cuts into the first."""
    scenes = [Window(0, 0, 21, 25), Window(10, 17, 19, 30), Window(33, 3, 9, 11)]
    split = SpatialSplit.by_scenes({"train": scenes, "test": [Window(0, 0, 6, 7)]}, buffer=1)
    return MemorySource((44, 48), scenes, split, seed=4, holes=holes)


def make_batches(source: Any, num_batches: int, seed: int = 0, size: int = 16, **options: Any) -> PatchBatchSampler:
    weights = options.pop("class_weights", None)
    index = PositionIndex(source, "train", SIZE, count_classes=True)
    return PatchBatchSampler(Chances({0: index}, weights), size, num_batches, seed, **options)


def chance_of(windows: Iterable[Window], chances: np.ndarray) -> float:
    """How many standard deviations the chi-square of the windows' positions lies above its mean."""
    counts = Counter((window.row, window.column) for window in windows)
    assert all(chances[place] > 0 for place in counts)
    expected = chances[chances > 0] / chances.sum() * counts.total()
    assert expected.min() > 3  # else the distribution is none
    found = np.array([counts[row, column] for row, column in np.argwhere(chances > 0).tolist()])
    freedom = len(expected) - 1
    return float((((found - expected) ** 2 / expected).sum() - freedom) / (2 * freedom) ** 0.5)


# --- independent draws ---


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PatchDataset:
    return PatchDataset(make_store(tmp_path_factory.mktemp("stores") / "whole"), "train")


def test_each_position_is_as_likely_as_another(dataset: PatchDataset) -> None:
    size, draws = 28, 12_000
    wanted = np.zeros(dataset.source.geobox.shape)
    for scene in TRAIN:
        wanted[scene.row : scene.bottom - size + 1, scene.column : scene.right - size + 1] = 1
    assert abs(chance_of(draw_independently(dataset.source, size, draws, seed=2), wanted)) < 4


def test_a_patch_as_large_as_a_scene(dataset: PatchDataset) -> None:
    assert set(draw_independently(dataset.source, 40, 20, seed=0)) <= {
        Window(10, column, 40, 40) for column in range(20, 31)
    }


def test_nodata_is_never_drawn(tmp_path: Path) -> None:
    dataset = PatchDataset(make_store(tmp_path / "holes", holes=True), "train")
    windows = list(draw_independently(dataset.source, 12, 200, seed=0))
    assert {scene.is_complete for scene in dataset.scenes} == {True, False}
    assert any(TRAIN[0].contains(window) for window in windows)
    for window in windows:
        assert (dataset.patch(window)["mask"] < NO_CLASS).all()


def test_a_patch_larger_than_any_scene_is_refused(dataset: PatchDataset) -> None:
    with pytest.raises(DataError, match="41 px: the largest is 40 px"):
        next(draw_independently(dataset.source, 41, 1, seed=0))


def test_a_fold_full_of_holes_is_refused(tmp_path: Path) -> None:
    dataset = PatchDataset(make_store(tmp_path / "holes", holes=True), "train")
    with pytest.raises(DataError, match="free of nodata"):
        # Each such patch of "a" holds the hole; "b" is too small.
        next(draw_independently(dataset.source, 38, 1, seed=0))


# --- chunk-aware order ---


@pytest.mark.parametrize("patches_per_visit", [1, 8])
@pytest.mark.parametrize("batch_size", [5, 32])
def test_an_epoch_draws_each_position_alike(patches_per_visit: int, batch_size: int) -> None:
    source = make_source()
    wanted = every_position(source, "train", SIZE).astype(float)
    sampler = make_batches(source, 12_000 // batch_size, 1, batch_size, patches_per_visit=patches_per_visit)
    draws = [draw.window for batch in sampler for draw in batch]
    deviation = chance_of(draws, wanted)
    assert deviation < 4  # below is well: strata are more even than independent draws


def test_the_first_batch_draws_each_position_alike() -> None:
    """Also the start of the stream, over the seeds: no cell is favoured by the order."""
    source = make_source()
    index = PositionIndex(source, "train", SIZE)
    draws = [
        draw.window
        for seed in range(500)
        for draw in next(iter(PatchBatchSampler(Chances({0: index}), 32, 1, seed, patches_per_visit=8)))
    ]
    per_cell = np.zeros(len(index.counts))
    for row, column, *_ in ((window.row, window.column) for window in draws):
        inside = (index.cells[:, :2] <= (row, column)) & (index.cells[:, :2] + index.cells[:, 2:] > (row, column))
        per_cell[inside.all(axis=1)] += 1
    shares, wanted = per_cell / len(draws), index.counts / index.counts.sum()
    assert np.abs(shares - wanted).max() < 0.25 * wanted.max()


def test_class_shares_are_those_of_independent_draws() -> None:
    source = make_source()
    index = PositionIndex(source, "train", SIZE, count_classes=True)
    assert index.class_counts is not None
    wanted = index.class_counts.sum(axis=0) / index.class_counts.sum()
    orders = {
        "plain": list(draw_independently(source, SIZE, 8000, seed=3)),
        "chunk-aware": [draw.window for batch in make_batches(source, 250, 3, 32) for draw in batch],
    }
    for windows in orders.values():
        shares = (
            np.array([np.bincount(source.read_labels(window).ravel(), minlength=6) for window in windows]) / SIZE**2
        )
        error = shares.std(axis=0) / len(windows) ** 0.5
        # Patches of a visit are not independent: at most eight of them count as one.
        assert (np.abs(shares.mean(axis=0) - wanted) < 4 * error * 8**0.5 + 1e-9).all()


def test_class_weights_choose_a_class_then_a_pixel_then_a_patch() -> None:
    source = make_source()
    names = source.legend.names
    weights = {names[source.rarest]: 3.0, names[(source.rarest + 1) % 6]: 1.0}
    admissible = every_position(source, "train", SIZE)
    counts = np.zeros((6, *admissible.shape))
    for row, column in np.argwhere(admissible):
        patch = source.labels[row : row + SIZE, column : column + SIZE]
        counts[:, row, column] = np.bincount(patch.ravel(), minlength=6)
    wanted = sum(weights[names[c]] * counts[c] / counts[c].sum() for c in range(6) if names[c] in weights)
    sampler = make_batches(source, 800, 5, 32, class_weights=weights)
    draws = [draw.window for batch in sampler for draw in batch]
    common = wanted * (wanted * len(draws) / wanted.sum() > 3)  # the test of fit needs some draws of each
    kept = [window for window in draws if common[window.row, window.column] > 0]
    assert len(kept) > 0.5 * len(draws)
    assert chance_of(kept, common) < 4
    independent = draw_independently(source, SIZE, 6000, seed=1, class_weights=weights)
    common = wanted * (wanted * 6000 / wanted.sum() > 5)
    assert abs(chance_of((w for w in independent if common[w.row, w.column] > 0), common)) < 4


def test_rare_classes_are_drawn_as_often_as_common_ones() -> None:
    codes = np.full((64, 64), 3, np.uint8)
    codes[10:12, 50:52] = 6  # a road of four pixels
    scenes = [Window(0, 0, 64, 64)]
    source = MemorySource((64, 64), scenes, SpatialSplit.by_scenes({"train": scenes}), codes=codes)
    for weights, least in ((None, 0.0), ({"low vegetation": 1.0, "impervious (roads)": 1.0}, 0.45)):
        sampler = make_batches(source, 100, 0, 32, class_weights=weights)
        windows = [draw.window for batch in sampler for draw in batch]
        share = np.mean([(source.read_labels(window) == 5).any() for window in windows])
        assert least <= share <= least + 0.12


@pytest.mark.parametrize("weights", [None, {"low vegetation": 1.0, "tree canopy": 1.0}])
def test_a_source_counts_what_it_shall_however_large_it_is(weights: dict[str, float] | None) -> None:
    small, codes = [Window(0, 0, 12, 12)], np.tile(np.array([[2, 3]], np.uint8), (12, 6))
    sources = [make_source(), MemorySource((12, 12), small, SpatialSplit.by_scenes({"train": small}), codes=codes)]
    indexes = {i: PositionIndex(one, "train", SIZE, count_classes=True) for i, one in enumerate(sources)}
    sampler = PatchBatchSampler(Chances(indexes, weights, {0: 1.0, 1: 3.0}), 16, 600, 0)
    assert np.mean([draw.source for batch in sampler for draw in batch]) == pytest.approx(0.75, abs=0.03)


def test_a_source_without_any_pixel_of_the_classes_is_left_alone() -> None:
    scenes = [Window(0, 0, 30, 30)]
    barren = np.full((30, 30), 5, np.uint8)
    sources = [
        MemorySource((30, 30), scenes, SpatialSplit.by_scenes({"train": scenes}), codes=barren),
        _without_barren(),
    ]
    indexes = {number: PositionIndex(one, "train", SIZE, count_classes=True) for number, one in enumerate(sources)}
    [name] = {sources[0].legend.names[index] for index in np.unique(sources[0].labels)}
    chances = Chances(indexes, {name: 1.0}, {0: 1.0, 1: 3.0})
    assert {draw.source for batch in PatchBatchSampler(chances, 16, 5, 0) for draw in batch} == {0}


def test_visits_are_local_and_batches_are_mixed() -> None:
    source = make_source()
    index = PositionIndex(source, "train", SIZE)
    sampler = PatchBatchSampler(Chances({0: index}), 32, 200, 0, patches_per_visit=8)
    visits: dict[int, list[Window]] = {}
    for batch in sampler:
        assert len(batch) == 32
        assert len({draw.visit for draw in batch}) >= 4
        for draw in batch:
            visits.setdefault(draw.visit, []).append(draw.window)
    sizes = Counter(map(len, visits.values()))
    assert max(sizes) == 8
    for windows in visits.values():
        rows, columns = zip(*((window.row, window.column) for window in windows), strict=True)
        assert max(rows) - min(rows) < 8
        assert max(columns) - min(columns) < 8
    assert list(visits) == sorted(visits)


def test_a_pass_visits_each_full_cell_once() -> None:
    scenes = [Window(0, 0, 32 + SIZE - 1, 32 + SIZE - 1)]  # 4 x 4 cells of 8 px
    source = MemorySource((40, 40), scenes, SpatialSplit.by_scenes({"train": scenes}))
    cells = {
        draw.visit: (draw.window.row // 8, draw.window.column // 8)
        for batch in make_batches(source, 32, 3, 32)
        for draw in batch
    }
    assert len(cells) == 8 * 16
    for first in range(0, len(cells), 16):
        assert len({cells[visit] for visit in range(first, first + 16)}) == 16
    assert [cells[visit] for visit in range(16)] != [cells[visit] for visit in range(16, 32)]


def test_a_scene_with_one_place_is_not_drawn_eight_times_at_once() -> None:
    scenes = [Window(0, 0, 40, 40), Window(44, 44, SIZE, SIZE)]
    source = MemorySource((64, 64), scenes, SpatialSplit.by_scenes({"train": scenes}))
    sampler = make_batches(source, 400, 0, 32)
    seen = Counter(draw.visit for batch in sampler for draw in batch if draw.window.row == 44)
    assert seen
    assert set(seen.values()) == {1}


def test_batches_follow_from_the_seed_and_their_number() -> None:
    source = make_source()
    whole = list(make_batches(source, 30, 7))
    assert list(make_batches(source, 30, 7)) == whole
    assert list(make_batches(source, 30, 8)) != whole
    assert list(make_batches(source, 60, 7))[:30] == whole
    for start in (1, 13, 30):
        late = make_batches(source, 30, 7, start=start)
        assert list(late) == whole[start:]
        assert len(late) == 30
    second = make_batches(source, 10, 7)
    second.set_epoch(2)
    assert list(second) == whole[20:]
    ranks = [list(make_batches(source, 30, 7, rank=rank, num_ranks=4)) for rank in range(4)]
    assert [list(itertools.chain(*shares)) for shares in zip(*ranks, strict=True)] == whole


def test_sources_share_by_area() -> None:
    sources = []
    for side in (20, 40):
        scenes = [Window(0, 0, side + SIZE - 1, side + SIZE - 1)]
        sources.append(MemorySource((64, 64), scenes, SpatialSplit.by_scenes({"train": scenes})))
    indexes = {number: PositionIndex(source, "train", SIZE) for number, source in zip((3, 8), sources, strict=True)}
    sampler = PatchBatchSampler(Chances(indexes), 32, 300, 0)
    counts = Counter(draw.source for batch in sampler for draw in batch)
    assert counts.keys() == {3, 8}
    assert counts[3] / counts.total() == pytest.approx(0.2, abs=0.02)


def test_refusals() -> None:
    source = make_source()
    with pytest.raises(SettingsError, match=r"no class lava; the legend has water"):
        make_batches(source, 1, class_weights={"lava": 1})
    with pytest.raises(SettingsError, match="0 or more"):
        make_batches(source, 1, class_weights={"water": -1})
    with pytest.raises(DataError, match="no pixel of barren"):
        make_batches(_without_barren(), 1, class_weights={"barren": 1})
    with pytest.raises(SettingsError, match="multiple of the 3"):
        make_batches(source, 1, num_ranks=3)
    with pytest.raises(SettingsError, match="1 or more"):
        make_batches(source, 0)


def _without_barren() -> MemorySource:
    scenes = [Window(0, 0, 30, 30)]
    codes = np.full((30, 30), 1, np.uint8)
    return MemorySource((30, 30), scenes, SpatialSplit.by_scenes({"train": scenes}), codes=codes)
