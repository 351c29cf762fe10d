from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twin_stores import GAP, SIDE, folds, images_of, scene_codes, write_store

from geosynth.errors import DataError
from geosynth.evaluation.tiles import StoreTiles, centred
from geosynth.grid import SpatialSplit, Window
from geosynth.raster.stores.store import Store


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, Store, np.ndarray]:
    """A store of 10 test and 3 train scenes, its twin (of the test fold only), and the codes."""
    codes, split = scene_codes(0, 13), folds(10, 3)
    codes[:8, :8] = 0
    real = write_store(tmp_path / "real.zarr", codes, images_of(1, codes), split)
    covered = codes.copy()
    covered[:, 10 * (SIDE + GAP) :] = 0
    covered[20, 20] = 0
    return real, write_store(tmp_path / "twin.zarr", covered, images_of(2, covered), split), codes


def test_tiles_are_those_of_the_fold_with_both_images(stores: tuple[Store, Store, np.ndarray]) -> None:
    real, twin, codes = stores
    pair = StoreTiles(real, [twin], "test", 32)
    chunks = list(pair.chunks())
    assert len(chunks) == pair.num_tiles == pair.num_chunks == 4 * 10
    for number, chunk in enumerate(chunks):
        (tile,) = chunk.tiles
        assert tile.number == number
        assert tile.block is chunk.block
        assert (chunk.shape, chunk.origin) == ((32, 32), None)
        assert np.array_equal(chunk.block.real, real.read_image(tile.window))
        assert np.array_equal(chunk.block.synthetic, twin.read_image(tile.window))
        labels = codes[tile.window.slices].astype(int) - 1
        labels[labels < 0] = 3
        if tile.window.contains(Window(20, 20, 1, 1)):
            labels[20, 20] = 3
        assert np.array_equal(chunk.block.indices, labels)
    assert [pair.is_whole(chunk.tiles[0]) for chunk in chunks] == [False] + [True] * 39


def test_a_place_is_a_cluster_of_touching_scenes(stores: tuple[Store, Store, np.ndarray]) -> None:
    real, twin, _ = stores
    pair = StoreTiles(real, [twin], "test", 32)
    assert pair.num_places == 10
    assert pair.place_kind == "clusters of touching scenes"
    places = [chunk.tiles[0].place for chunk in pair.chunks()]
    assert places == [number for number in range(10) for _ in range(4)]


def test_few_clusters_are_cut_into_squares(tmp_path: Path) -> None:
    codes, split = scene_codes(0, 3), folds(2, 1)
    real = write_store(tmp_path / "real.zarr", codes, images_of(1, codes), split)
    pair = StoreTiles(real, [real], "test", 32)
    assert pair.num_places == 8
    assert "32 px, which touch" in pair.place_kind
    assert sorted(pair.places.tolist()) == list(range(8))


def test_what_cannot_be_compared_is_refused(stores: tuple[Store, Store, np.ndarray], tmp_path: Path) -> None:
    real, twin, codes = stores
    split, image = folds(10, 3), images_of(1, codes)
    moved = write_store(tmp_path / "grid.zarr", codes, image, split, column=3)
    with pytest.raises(DataError, match=r"grid\.zarr: its grid is not that of"):
        StoreTiles(real, [twin, moved], "test", 32)
    with pytest.raises(DataError, match="no tile of 128 px"):
        StoreTiles(real, [twin], "test", 128)
    strange = write_store(
        tmp_path / "strange.zarr", np.where(codes > 0, codes % 3 + 1, 0).astype(np.uint8), image, split
    )
    with pytest.raises(DataError, match="labels are not those"):
        StoreTiles(real, [strange], "test", 32).read(Window(0, 0, 32, 32))
    with pytest.raises(DataError, match="has no image of"):
        StoreTiles(real, [real, twin], "train", 32).read_latents(Window(0, 10 * (SIDE + GAP), 32, 32))


def test_a_picture_stays_inside_its_scene(tmp_path: Path) -> None:
    codes = scene_codes(0, 1)
    split = SpatialSplit.by_scenes({"test": [Window(0, 0, SIDE, SIDE)]})
    real = write_store(tmp_path / "real.zarr", codes, images_of(1, codes), split)
    pair = StoreTiles(real, [real], "test", 32)
    assert pair.frame(Window(32, 32, 32, 32), 48, 256) == Window(16, 0, 48, 64)
    assert pair.describe(Window(32, 0, 32, 32)) == "scene0.tif, rows 32-63, columns 0-31"


@given(
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 20), st.integers(1, 20)),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
)
def test_a_frame_is_as_near_to_the_middle_as_its_area_allows(
    place: tuple[int, int, int, int], size: tuple[int, int]
) -> None:
    window, inside = Window(*place), Window(0, 0, 60, 60).shift(-7, 5)
    found = centred(window.shift(-7, 5), inside, *size)
    assert (found.height, found.width) == (min(size[0], 60), min(size[1], 60))
    for first, length, low, middle in (
        (found.row, found.height, -7, 2 * (window.row - 7) + window.height),
        (found.column, found.width, 5, 2 * (window.column + 5) + window.width),
    ):
        gaps = {start: abs(2 * start + length - middle) for start in range(low, low + 60 - length + 1)}
        assert gaps[first] <= min(gaps.values()) + 1  # half a pixel, of even and odd lengths
