"""TileView: which tiles there are, without copying a pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geosynth.errors import SettingsError
from geosynth.grid import SpatialSplit, Window
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.store import Store
from geosynth.raster.stores.tiles import TileView, clusters_of
from rasters import UTM_18N, north_up, random_codes
from scene_stores import make_scene_store
from strategies import few

PLACES = {
    "a.tif": Window(10, 20, 150, 170),
    "b.tif": Window(30, 220, 90, 81),
    "c.tif": Window(200, 5, 40, 200),
    "d.tif": Window(80, 130, 70, 120),  # over the others
}
SPLIT = SpatialSplit.by_blocks(list(PLACES.values()), 64, seed=2, buffer=3)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    codes = random_codes(3, 240, 301)
    codes[60:67, 100:130] = 15
    codes[40, 230] = 0  # one pixel
    return make_scene_store(tmp_path_factory.mktemp("tiles") / "store", PLACES, split=SPLIT, codes=codes)


@few
@given(
    st.integers(8, 60), st.integers(4, 70), st.sampled_from(["align", "skip"]), st.sampled_from([0.0, 0.02, 0.3, 1.0])
)
def test_tiles_are_those_that_a_look_at_each_pixel_allows(
    store: Store, size: int, stride: int, edge: str, max_nodata: float
) -> None:
    labels = store.read_labels(Window(0, 0, *store.geobox.shape))
    for fold in ("train", "val", "test", None):
        mask = np.ones(labels.shape, bool) if fold is None else SPLIT.mask(Window(0, 0, *labels.shape), fold)
        wanted = []
        for number, place in enumerate(PLACES.values(), start=1):
            later = list(PLACES.values())[number:]
            rows, columns = (starts(side, size, stride, edge) for side in (place.height, place.width))
            for row in rows:
                for column in columns:
                    window = Window(place.row + row, place.column + column, size, size)
                    share = (labels[window.slices] == 6).mean()
                    is_hidden = any(above.contains(window) for above in later)
                    if mask[window.slices].all() and share <= max_nodata and not is_hidden:
                        wanted.append(window)
        view = TileView(store, fold, size, stride, edge=edge, max_nodata=max_nodata)  # type: ignore[arg-type]
        assert list(view) == view[:] == wanted
        assert len(view) == len(wanted) == len({view.name(index) for index in range(len(view))})
        for index in range(len(view)):
            assert view.scene_of(index).window.contains(view[index])


def test_scenes_that_touch_through_one_without_a_tile_are_a_cluster(tmp_path: Path) -> None:
    places = {
        "a.tif": Window(0, 0, 40, 40),
        "between.tif": Window(10, 40, 8, 8),
        "b.tif": Window(0, 48, 40, 40),
        "apart.tif": Window(0, 90, 40, 40),
    }
    split = SpatialSplit.by_scenes({"train": list(places.values())})
    view = TileView(make_scene_store(tmp_path / "store", places, split=split), "train", 20, 20)
    names = np.array([view.scene_of(index).name for index in range(len(view))])
    a, b, apart = (set(view.clusters()[names == name].tolist()) for name in ("a.tif", "b.tif", "apart.tif"))
    assert len(names) == 3 * 4
    assert a == b != apart
    assert len(a) == len(apart) == 1


def test_scenes_of_several_sources_are_clusters_where_their_places_are_known(tmp_path: Path) -> None:
    """Dates of one place are one; so are neighbours on another grid of the CRS. Elsewhere nobody can tell."""
    two = {"a.tif": Window(0, 0, 40, 40), "b.tif": Window(0, 60, 40, 40)}
    beside = {"beside.tif": Window(0, 5, 40, 40)}  # of a, to its left, if the grid begins 45 px before
    views = [
        TileView(make_scene_store(tmp_path / name, places, **options), "train", 20, 20)  # type: ignore[arg-type]
        for name, places, options in (
            ("first", two, {}),
            ("second", two, {}),
            ("left", beside, {"transform": north_up(1000 - 45, 2000)}),
            ("zone", two, {"crs": UTM_18N}),
            ("nowhere", two, {"crs": None}),
            ("unknown", two, {"crs": None}),
        )
    ]
    first, second, left, *others = (found.tolist() for found in clusters_of(views))
    assert first == second
    assert len(set(first)) == 2
    assert set(left) == {first[0]}
    assert all(len(set(one)) == 2 for one in others)
    assert len({*first, *(number for one in others for number in one)}) == 2 * (1 + len(others))
    assert first == views[0].clusters().tolist()


def starts(side: int, size: int, stride: int, edge: str) -> list[int]:
    found = [start for start in range(0, side, stride) if start + size <= side]
    if edge == "align" and found and found[-1] + size < side:
        found.append(side - size)
    return found


def test_complete_scenes_are_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Window] = []
    monkeypatch.setattr(Store, "read_labels", lambda self, window: read.append(window) or np.zeros((40, 200), np.uint8))
    monkeypatch.setattr(Store, "read_image", lambda self, window: pytest.fail("pixels were read"))
    TileView(store, None, 16)
    assert read
    assert all(not window.intersection(PLACES["c.tif"]) for window in read)
    read.clear()
    view = TileView(store, None, 16, max_nodata=1.0)
    assert not read
    assert repr(view) == f"TileView({store.path!r}, all folds, {len(view)} tiles of 16 px)"


def test_tiles_of_scenes_of_the_study() -> None:
    """Numbers of overlapping tiles of large scenes, by hand; a hundred scenes are laid out in a moment."""

    class Source(PatchSource):
        read = read_labels = None  # type: ignore[assignment]  # not asked for
        path, split, legend = "large", None, None  # type: ignore[assignment]
        scenes = tuple(
            type("Scene", (), {"name": f"{i}.tif", "window": Window(0, 7000 * i, 6000, 4000), "is_complete": True})()
            for i in range(100)
        )

    view = TileView(Source(), None, 256, 256, edge="skip")
    assert len(view) == 100 * 23 * 15
    half = TileView(Source(), None, 256, 128)
    assert len(half) == 100 * 46 * 31  # the last row and column end at the edge
    assert half[len(half) - 1] == Window(6000 - 256, 7000 * 99 + 4000 - 256, 256, 256)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"size": 0}, "size"),
        ({"stride": 0}, "stride"),
        ({"edge": "crop"}, "edge: align or skip, not 'crop'"),
        ({"max_nodata": 1.5}, "from 0 to 1"),
        ({"max_nodata": float("nan")}, "from 0 to 1"),
        ({"fold": "training"}, "fold 'training'"),
    ],
)
def test_settings_that_cannot_be(store: Store, settings: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        TileView(store, **{"fold": "train", "size": 32, **settings})  # type: ignore[arg-type]
