"""Chesapeake Land Cover: the layout that TorchGeo's ChesapeakeCVPR reads, in small."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from affine import Affine
from typer.testing import CliRunner

from geosynth.errors import DataError, SettingsError
from geosynth.legend import CHESAPEAKE
from geosynth.raster.stores.chesapeake import chesapeake_items
from geosynth.raster.stores.ingest import ingest
from geosynth.raster.stores.store import Store, open_stores
from geosynth_cli.main import _typer
from rasters import UTM, UTM_18N, random_codes, random_image, write_raster

HEIGHT, WIDTH = 75, 60  # 7,500 x 6,000 in the original
TILES = {  # state, split, tile: CRS, place in tiles
    ("md", "train", "m_3807501_ne_18_1"): (UTM_18N, 0),
    ("md", "train", "m_3807502_ne_18_1"): (UTM_18N, 3),
    ("md", "val", "m_3807503_ne_18_1"): (UTM_18N, 6),
    ("md", "test", "m_3907640_nw_17_1"): (UTM, 0),
    ("va", "train", "m_3707501_ne_18_1"): (UTM_18N, 9),
}
RGBN = ("red", "green", "blue", "nir")


def tile_folder(state: str, split: str) -> str:
    return f"{state}_1m_{2014 if state in ('va', 'wv') else 2013}_extended-debuffered-{split}_tiles"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The data set with small tiles; codes 0 and 15 among the labels."""
    features = []
    for seed, ((state, split, tile), (crs, place)) in enumerate(TILES.items()):
        folder = tmp_path / "data" / tile_folder(state, split)
        transform = Affine(1, 0, 400_000 + place * 10 * WIDTH, 0, -1, 4_300_000)
        image = random_image(seed, HEIGHT, WIDTH)
        image[3] = 0  # as over water: no transparency
        write_raster(folder / f"{tile}_naip-new.tif", image, transform, crs=crs)
        write_raster(folder / f"{tile}_naip-old.tif", random_image(seed + 50, HEIGHT, WIDTH), transform, crs=crs)
        codes = random_codes(seed, HEIGHT, WIDTH, (1, 2, 3, 4, 5, 6, 0, 15))
        write_raster(folder / f"{tile}_lc.tif", codes, transform, crs=crs)
        nlcd = random_codes(seed + 100, HEIGHT, WIDTH, (11, 21, 22, 41, 82))
        write_raster(folder / f"{tile}_nlcd.tif", nlcd, transform, crs=crs)
        write_raster(folder / f"{tile}_buildings.tif", (codes == 5).astype(np.uint8), transform, crs=crs)
        for layer in ("landsat-leaf-on", "landsat-leaf-off"):
            write_raster(folder / f"{tile}_{layer}.tif", random_image(0, HEIGHT, WIDTH, bands=9), transform, crs=crs)
        layers = ("naip-new", "naip-old", "lc", "nlcd", "buildings", "landsat-leaf-on", "landsat-leaf-off")
        properties = {layer: f"{folder.name}/{tile}_{layer}.tif" for layer in layers}
        features.append(
            {"type": "Feature", "geometry": None, "properties": {"split": f"{state}-{split}", **properties}}
        )
    index = {"type": "FeatureCollection", "features": features}
    (tmp_path / "data" / "spatial_index.geojson").write_text(json.dumps(index))
    return tmp_path / "data"


def check(store: Store, root: Path) -> None:
    """Each scene holds its tile, bit by bit; codes 0 and 15 are nodata."""
    for scene in store.scenes:
        state, split = next((state, split) for state, split, tile in TILES if tile == scene.name)
        folder = root / tile_folder(state, split)
        with rasterio.open(folder / f"{scene.name}_naip-new.tif") as image:
            np.testing.assert_array_equal(store.read_image(scene.window), image.read())
            assert store.geobox.crs.epsg == image.crs.to_epsg()
            assert store.geobox.affine @ (scene.window.column, scene.window.row) == (
                image.transform.c,
                image.transform.f,
            )
        with rasterio.open(folder / f"{scene.name}_lc.tif") as labels:
            codes = labels.read(1)
        np.testing.assert_array_equal(store.labels[scene.window.slices], np.where(codes == 0, 15, codes))
        assert scene.class_pixels == tuple((codes == code).sum() for code in CHESAPEAKE.codes)
        assert store.split.fold_of(scene.window) == split
        for name in store.extras:
            with rasterio.open(folder / f"{scene.name}_{name}.tif") as extra:
                np.testing.assert_array_equal(store.read_extra(name, scene.window), extra.read(1))


def test_the_layout_is_torchgeos() -> None:
    """The folders this test makes are those TorchGeo looks for."""
    spec = importlib.util.find_spec("torchgeo")
    if spec is None or spec.origin is None:
        pytest.skip("no TorchGeo")
    source = (Path(spec.origin).parent / "datasets" / "chesapeake.py").read_text()  # importing it takes seconds
    assert all(f"'{tile_folder(state, split)}'" in source for state, split, _ in TILES)
    assert re.search(r"'wv_1m_2014_extended-debuffered-val_tiles/m_\d{7}_ne_17_1_naip-new\.tif'", source)


def test_one_state_and_split_on_the_command_line(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "md.zarr"
    run = CliRunner().invoke(
        _typer, ["ingest", "--chesapeake", str(root), "--state", "md", "--split", "train", "--out", str(out)]
    )
    assert run.exit_code == 0, run.output
    (store,) = open_stores(out)
    assert store.band_names == RGBN
    assert [scene.name for scene in store.scenes] == ["m_3807501_ne_18_1", "m_3807502_ne_18_1"]
    check(store, root)
    assert store.scenes_in("test") == ()


def test_several_states_in_two_zones_and_extra_maps(root: Path, tmp_path: Path) -> None:
    items = chesapeake_items(root, ["md", "va"], ["train"]) + chesapeake_items(root, ["md"], ["val", "test"])
    assert {item.fold for item in items} == {"train", "val", "test"}
    items = [
        *chesapeake_items(root, ["md", "va"], ["train"], extras=["nlcd", "buildings"]),
        *chesapeake_items(root, ["md"], ["val", "test"], extras=["nlcd", "buildings"]),
    ]
    stores = ingest(None, None, tmp_path / "out", items=items, bands=RGBN)
    assert [Path(store.path).name for store in stores] == ["epsg_26918", "epsg_26917"]
    assert [len(store.scenes) for store in stores] == [4, 1]
    for store in stores:
        assert tuple(store.extras) == ("nlcd", "buildings")
        check(store, root)


def refusals(root: Path) -> list[tuple[type[Exception], str, dict[str, Any]]]:
    return [
        (SettingsError, "state oh: the states of Chesapeake are de, md", {"states": ["oh"]}),
        (SettingsError, "split dev: the splits of Chesapeake are train, val, test", {"splits": ["dev"]}),
        (DataError, r"no tiles ny_1m_201\[34\]_extended-debuffered-train_tiles", {"states": ["ny"]}),
        (
            DataError,
            r"m_3807501_ne_18_1_lidar\.tif: is missing",
            {"states": ["md"], "splits": ["train"], "extras": ["lidar"]},
        ),
    ]


@pytest.mark.parametrize("case", range(4))
def test_refusals(root: Path, case: int) -> None:
    error, complaint, options = refusals(root)[case]
    with pytest.raises(error, match=complaint) as caught:
        chesapeake_items(root, **options)
    assert "\n" not in str(caught.value)


def test_a_layer_of_many_bands_is_no_extra_map(root: Path, tmp_path: Path) -> None:
    items = chesapeake_items(root, ["md"], ["train"], extras=["landsat-leaf-on"])
    with pytest.raises(DataError, match="has 9 bands; an extra map"):
        ingest(None, None, tmp_path / "out", items=items, bands=RGBN)
