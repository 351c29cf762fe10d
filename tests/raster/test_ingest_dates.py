"""ingest of scenes of several dates on one place: nothing is lost without a word, and each date can have a store."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geosynth.errors import DataError, SettingsError
from geosynth.grid import Window
from geosynth.raster.stores.ingest import ingest
from geosynth.raster.stores.items import Item
from geosynth.raster.stores.open import open_in_place
from geosynth.raster.stores.split import split
from geosynth.raster.stores.store import Store, open_stores
from geosynth.raster.stores.tiles import TileView
from rasters import UTM_18N, north_up, random_codes, random_image, write_raster
from scene_stores import make_scene_store

SIDE = 64
COLUMNS = (0, SIDE, 200)  # two that touch, and one apart


def scene(folder: Path, name: str, column: int, date: str | None, seed: int, codes: Any = None, **profile: Any) -> Item:
    codes = random_codes(seed, SIDE, SIDE) if codes is None else codes
    image = write_raster(folder / f"images/{name}.tif", random_image(seed, SIDE, SIDE, 3), north_up(column), **profile)
    labels = write_raster(folder / f"labels/{name}.tif", codes, north_up(column), **profile)
    return Item(str(image), str(labels), name, date=date)


def two_years(folder: Path) -> list[Item]:
    return [
        scene(folder, f"{year}_{column}", column, f"{year}-07-0{number + 1}", seed=year + column)
        for year in (2018, 2020)
        for number, column in enumerate(COLUMNS)
    ]


def make(folder: Path, items: list[Item], **options: Any) -> list[Store]:
    return ingest(None, None, folder / "out", items=items, bands=("red", "green", "blue"), **options)


def test_what_is_hidden_is_counted_and_not_listed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    items = two_years(tmp_path)
    with caplog.at_level(logging.WARNING):
        (store,) = make(tmp_path, items, shares=(1, 0, 0))
    hidden = len(COLUMNS) * SIDE**2
    assert f"later scenes hide {hidden} px of earlier ones; left out, as wholly under them: 3 scenes" in caplog.text
    assert "--per year" in caplog.text
    assert [one.name for one in store.scenes] == [f"2020_{column}" for column in COLUMNS]
    assert sum(store.class_pixels()) == hidden
    assert {name[:4] for name in map(TileView(store, "train", 32).name, range(9))} == {"2020"}


def test_what_shows_through_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    holes = random_codes(1, SIDE, SIDE)
    holes[:10, :20] = 0
    items = [scene(tmp_path, "below", 0, None, 0), scene(tmp_path, "above", 0, None, 1, holes)]
    (store,) = make(tmp_path, items, shares=(1, 0, 0))
    assert [one.name for one in store.scenes] == ["below", "above"]
    assert f"later scenes hide {SIDE**2 - 200} px of earlier ones\n" in caplog.text + "\n"
    caplog.clear()
    open_in_place(tmp_path / "images", tmp_path / "labels", bands=("red", "green", "blue"))
    assert "1 of 2 scenes, as above.tif, lie under later ones" in caplog.text


def test_each_year_gets_a_store_under_one_split(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    items = two_years(tmp_path)
    old, new = make(tmp_path, items, per="year", shares=(0.5, 0, 0.5))
    assert not caplog.text
    assert [Path(store.path).name for store in (old, new)] == ["epsg_26917_2018", "epsg_26917_2020"]
    assert old.geobox == new.geobox
    assert old.split == new.split
    for store, year in ((old, 2018), (new, 2020)):
        assert [one.name for one in store.scenes] == [f"{year}_{column}" for column in COLUMNS]
        for one, column in zip(store.scenes, COLUMNS, strict=True):
            np.testing.assert_array_equal(store.read_image(one.window), random_image(year + column, SIDE, SIDE, 3))
            np.testing.assert_array_equal(store.labels[one.window.slices], random_codes(year + column, SIDE, SIDE))
    split(tmp_path / "out", by="blocks", block_size=32, seed=3)
    old, new = open_stores(tmp_path / "out")
    assert old.split == new.split
    assert not old.split.area("test").is_empty


def test_years_of_two_zones(tmp_path: Path) -> None:
    items = [*two_years(tmp_path), scene(tmp_path, "other", 0, "2018", 5, crs=UTM_18N)]
    names = [Path(store.path).name for store in make(tmp_path, items, per="year", shares=(1, 0, 0))]
    assert names == ["epsg_26917_2018", "epsg_26917_2020", "epsg_26918_2018"]


@pytest.mark.parametrize("date", [None, "summer", "2018", "20180701"])
def test_dates_that_do_not_tell_a_month(tmp_path: Path, date: str | None) -> None:
    with pytest.raises(DataError, match=rf"a\.tif: its date \({date}\) tells no month"):
        make(tmp_path, [scene(tmp_path, "a", 0, date, 0)], per="month", shares=(1, 0, 0))


def test_periods(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="year, month or day"):
        make(tmp_path, [scene(tmp_path, "a", 0, None, 0)], per="decade")


def test_no_tile_of_a_scene_lies_wholly_in_a_later_one(tmp_path: Path) -> None:
    store = make_scene_store(tmp_path / "store", {"a": Window(0, 0, 64, 96), "b": Window(0, 32, 64, 64)})
    view = TileView(store, "train", 32)
    assert {(view.scene_of(n).name, window.column) for n, window in enumerate(view)} == {
        ("a", 0),
        ("a", 16),
        ("b", 32),
        ("b", 48),
        ("b", 64),
    }
