"""Damage that would change values without a word: checksums find it, and stores of old are read without."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

import geosynth
from geosynth.errors import GeosynthError, RasterError
from geosynth.grid import Window
from geosynth.raster.stores.store import Store
from geosynth.raster.stores.tiles import TileView
from rasters import north_up, random_image, write_raster
from scene_stores import make_scene_store

PLACES = {"a.tif": Window(0, 0, 150, 140)}


def make(path: Path) -> Store:
    return make_scene_store(path, PLACES)


def files_of(path: Path, array: str) -> list[Path]:
    return sorted(file for file in (path / array / "c").rglob("*") if file.is_file())


def test_a_whole_store(tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    told: list[tuple[int, int]] = []
    values = geosynth.info(store.path, verify=True, progress=lambda *done: told.append(done))
    assert values["verified"] == {"blocks": 8, "checksums": "of each chunk"}
    assert told == [(n, 8) for n in range(1, 9)]
    assert np.array_equal(zarr.open_group(store.path)["image"][:], store.read_image(Window(0, 0, 150, 140)))
    assert "verified" not in geosynth.info(store.path)


@pytest.mark.parametrize("array", ["image", "labels"])
def test_each_flipped_bit_is_noticed(tmp_path: Path, array: str) -> None:
    """Wherever in a shard: in pixels, in the checksums themselves, in the index."""
    store = make(tmp_path / "store")
    rng = random.Random(array)
    for file in files_of(tmp_path / "store", array):
        whole = file.read_bytes()
        for place in [0, 7, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(8))]:
            damaged = bytearray(whole)
            damaged[place] ^= 1 << rng.randrange(8)
            file.write_bytes(damaged)
            with pytest.raises(RasterError, match=rf"{file}.* cannot be read: .*; make the store again") as caught:
                geosynth.info(store.path, verify=True)
            assert "\n" not in str(caught.value)
            with pytest.raises(RasterError, match="cannot be read"):
                read = Store(store.path).read_image if array == "image" else Store(store.path).read_labels
                read(Window(0, 0, 150, 140))
        file.write_bytes(whole)
    geosynth.info(store.path, verify=True)


def test_a_lost_file_and_a_changed_record_are_noticed(tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    metadata = tmp_path / "store" / "zarr.json"
    text = metadata.read_text()
    values = json.loads(text)
    values["attributes"]["geosynth"]["transform"][2] += 10
    metadata.write_text(json.dumps(values))
    with pytest.raises(RasterError, match="its record of grid, legend, scenes and split is not what was written"):
        geosynth.info(store.path, verify=True)
    metadata.write_text(text)
    files_of(tmp_path / "store", "labels")[0].unlink()
    with pytest.raises(RasterError, match=r"labels: has 3 files, but 4 were written"):
        geosynth.info(store.path, verify=True)
    assert Store(store.path).verify()["damaged"] == [f"{store.path}/labels: has 3 files, but 4 were written"]


def places(values: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of each value in JSON, of lists the first two."""
    if place:
        yield place
    if isinstance(values, dict | list):
        for name in list(values) if isinstance(values, dict) else range(min(2, len(values))):
            yield from places(values[name], (*place, name))


def test_any_wrong_value_in_the_record_is_one_line_or_none(tmp_path: Path) -> None:
    make(tmp_path / "store")
    metadata = tmp_path / "store" / "zarr.json"
    text = metadata.read_text()
    refused: list[str] = []
    for place in places(json.loads(text)["attributes"]["geosynth"]):
        for wrong in (None, -1, 1e300, float("nan"), 10**30, "x", [], {}, [[1]]):
            values = json.loads(text)
            inside = values["attributes"]["geosynth"]
            for name in place[:-1]:
                inside = inside[name]
            inside[place[-1]] = wrong
            metadata.write_text(json.dumps(values))
            try:
                view = TileView(tmp_path / "store", "train", 64)
                view.source.describe(), view.source.digest()
            except GeosynthError as error:
                refused.append(str(error))
    assert len(refused) > 200
    assert all(str(tmp_path / "store") in line and "\n" not in line for line in refused)


def test_stores_of_older_versions_are_read_and_say_that_they_have_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = zarr.Group.create_array

    def as_before(group: zarr.Group, name: str, **options: Any) -> Any:
        if "compressors" in options:
            options["compressors"] = options["compressors"][:1]
        return create(group, name, **options)

    monkeypatch.setattr(zarr.Group, "create_array", as_before)
    store = make(tmp_path / "store")
    metadata = tmp_path / "store" / "zarr.json"
    values = json.loads(metadata.read_text())
    del values["attributes"]["geosynth_sha256"], values["attributes"]["geosynth"]["files"]
    metadata.write_text(json.dumps(values))
    again, expected = Store(store.path), zarr.open_group(store.path)["image"][:]
    with monkeypatch.context() as patch:
        patch.setattr(zarr.Array, "__getitem__", None)  # which are read without zarr, too
        assert np.array_equal(again.read_image(Window(0, 0, 150, 140)), expected)
    assert geosynth.info(store.path, verify=True)["verified"] == {"blocks": 8, "checksums": "none"}


def test_rasters_are_read_wholly(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "image.tif", random_image(1, 64, 64), north_up(), compress="deflate")
    assert geosynth.info(path, verify=True)["verified"] == {"blocks": 1, "checksums": "none"}
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(RasterError, match="cannot"):
        geosynth.info(path, verify=True)


def test_each_array_of_a_zarr_store_of_others_is_read_wholly(tmp_path: Path) -> None:
    path = tmp_path / "others.zarr"
    places = {"y": 0.5 - np.arange(40.0), "x": 0.5 + np.arange(50.0)}
    maps = {name: (("y", "x"), np.full((40, 50), 7, np.uint8)) for name in ("cover", "height")}
    xr.Dataset(maps, places).to_zarr(path, zarr_format=3, consolidated=False)
    assert geosynth.info(path, verify=True)["verified"] == {"blocks": 2, "checksums": "none"}
    chunk = next(file for file in (path / "height").rglob("*") if file.is_file() and file.name != "zarr.json")
    chunk.write_bytes(b"broken")
    with pytest.raises(RasterError, match="cannot be read"):
        geosynth.info(path, verify=True)
