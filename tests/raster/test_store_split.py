"""split and check_split on stores, tables and folders of tiles."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from affine import Affine

from forked import start
from geosynth.errors import DataError, GridError, OutputError, RasterError, SettingsError
from geosynth.grid import SpatialSplit, Window
from geosynth.grid.vector import to_coordinates
from geosynth.locks import is_unfinished
from geosynth.raster.stores.export import export_tiles
from geosynth.raster.stores.folds import SplitRule
from geosynth.raster.stores.footprints import check_split
from geosynth.raster.stores.ingest import ingest
from geosynth.raster.stores.split import split
from geosynth.raster.stores.store import Store, open_stores
from geosynth.raster.stores.tiles import TileView
from geosynth.unfinished import UnfinishedWork
from rasters import SITE, north_up, random_codes, write_raster
from scene_stores import make_scene_store

# Three clusters; "c" and "d" touch.
PLACES = {
    "a.tif": Window(0, 0, 300, 300),
    "b.tif": Window(0, 400, 200, 250),
    "c.tif": Window(400, 10, 150, 200),
    "d.tif": Window(550, 10, 50, 200),
}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_scene_store(tmp_path / "store", PLACES)


def fold_area(store: Store, fold: str) -> float:
    return float(Store(store.path).split.area(fold).area)


def test_a_split_by_blocks_is_written_into_the_store_and_says_what_came_out(store: Store, tmp_path: Path) -> None:
    said = split(store.path, block_size=50, buffer=6, seed=3, out=tmp_path / "split.parquet")
    again = Store(store.path)
    assert again.split.buffer == 10  # pixels of 0.6 m
    assert SpatialSplit.load(tmp_path / "split.parquet", store.geobox) == again.split
    (described,) = said["stores"]
    labels = again.read_labels(Window(0, 0, *again.geobox.shape))
    for fold in ("train", "val", "test"):
        own = labels[again.split.mask(Window(0, 0, *labels.shape), fold)]
        values = described["folds"][fold]
        assert values["pixels"] == (own < 6).sum() == sum(again.class_pixels(fold))
        assert list(values["class_shares"].values()) == pytest.approx([(own == c).mean() for c in range(6)])
    assert sum(values["share"] for values in described["folds"].values()) == pytest.approx(1)
    assert sum(values["pixels"] for values in described["folds"].values()) == (labels < 6).sum()
    json.dumps(said)
    assert not any(leak.num_pairs for leak in check_split(again, distance=6))
    assert min(leak.smallest for leak in check_split(store.path, distance=6)) >= 6


def split_until_killed(path: Path, out: Path, seed: int, steps: int) -> None:
    """A split whose process dies before the file system has changed so often."""
    left = itertools.count(steps, -1)

    def dying(change: Any) -> Any:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            if next(left) == 0:
                os._exit(9)
            return change(*arguments, **options)

        return wrapped

    for name in ("replace", "rename", "unlink", "touch", "rmdir", "mkdir"):
        setattr(Path, name, dying(getattr(Path, name)))
    split(path, block_size=100, seed=seed, out=out, overwrite=True)


@pytest.mark.slow
@pytest.mark.parametrize("names", [("store",), ("data/a", "data/b")])
def test_a_kill_leaves_no_file_or_store_of_another_split(tmp_path: Path, names: tuple[str, ...]) -> None:
    """After each change of the file system, or each second one of two stores; and the next run ends as if there had
    been no kill.
    """
    paths = [tmp_path / name for name in names]
    several = len(paths) > 1
    path, out = paths[0].parent if several else paths[0], tmp_path / "split.parquet"
    files = [out.with_name(f"split_{one.name}.parquet") if several else out for one in paths]
    stores = [make_scene_store(one, PLACES) for one in paths]
    before = contents(path)
    split(path, block_size=100, seed=2, out=out)
    wanted = contents(path)
    kills = refused = 0
    for steps in itertools.count(step=len(paths)):
        process = start(split_until_killed, path, out, 3 + kills % 2, steps)
        process.join()
        for store, file in zip(stores, files, strict=True):
            if file.exists():
                assert SpatialSplit.load(file, store.geobox) == Store(store.path, unfinished=True).split
        if any(is_unfinished(store) for store in paths):
            with pytest.raises(RasterError, match=r"its split is being written, or was interrupted; run `geosynth spl"):
                open_stores(path)
            refused += 1
        else:
            assert len({str(store.split.to_values()) for store in open_stores(path)}) == 1
        if process.exitcode == 0:
            break
        assert process.exitcode == 9
        kills += 1
    assert kills > 5
    assert 0 < refused < kills
    split(path, block_size=100, seed=2, out=out, overwrite=True)
    for store, file in zip(stores, files, strict=True):
        assert SpatialSplit.load(file, store.geobox) == Store(store.path).split
    assert contents(path) == wanted != before
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, *(file.name for file in files)}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_failure_leaves_stores_and_files_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those stores that were written before the one that fails."""
    data, out = tmp_path / "data", tmp_path / "split.parquet"
    for name in ("a", "b"):
        make_scene_store(data / name, PLACES)
    split(data, block_size=100, out=out)
    before = contents(tmp_path)
    finish = Store.finish

    def fail(store: Store, *arguments: Any) -> None:
        if store.path.endswith("b"):
            raise OSError(28, "No space left on device")
        finish(store, *arguments)

    monkeypatch.setattr(Store, "finish", fail)
    with pytest.raises(OutputError, match=r"cannot be written: No space left"):
        split(data, block_size=100, seed=5, out=out, overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("taken", ["store", "file"])
def test_of_two_splits_one_says_so(store: Store, tmp_path: Path, taken: str) -> None:
    out = tmp_path / "split.gpkg"
    place = Path(store.path) if taken == "store" else out
    line = rf"^{place}: another process or thread is writing it$"
    with UnfinishedWork(place).alone(), pytest.raises(OutputError, match=line):
        split(store.path, block_size=100, out=out)
    split(store.path, block_size=100, out=out)


@pytest.mark.parametrize("suffix", [".parquet", ".gpkg", ".geojson"])
def test_the_same_seed_gives_the_same_file(suffix: str, store: Store, tmp_path: Path) -> None:
    made = [tmp_path / name / f"split{suffix}" for name in ("one", "two", "three")]
    for out, seed in zip(made, (3, 3, 4), strict=True):
        split(store.path, block_size=50, seed=seed, out=out, keep=False)
    one, two, three = (out.read_bytes() for out in made)
    assert one == two != three


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg"])
def test_the_table_in_a_file_is_called_as_the_file(suffix: str, store: Store, tmp_path: Path) -> None:
    split(store.path, block_size=50, out=tmp_path / f"my-split{suffix}", keep=False)
    assert pyogrio.list_layers(tmp_path / f"my-split{suffix}")[:, 0].tolist() == ["my_split"]


def test_a_store_may_be_left_as_it_was(store: Store, tmp_path: Path) -> None:
    before = Store(store.path).split
    split(store.path, block_size=50, keep=False, out=tmp_path / "split.gpkg")
    assert Store(store.path).split == before
    with pytest.raises(OutputError, match="already exists"):
        split(store.path, block_size=60, out=tmp_path / "split.gpkg")
    assert Store(store.path).split == before


@pytest.mark.parametrize("by", ["clusters", "blocks"])
def test_stratifying_uses_the_labels(tmp_path: Path, by: str) -> None:
    """One class lies in a few places only."""
    rng = np.random.default_rng(5)
    codes = random_codes(5, 630, 630, (1, 2, 3))
    for row, column in rng.permutation([(r, c) for r in range(8) for c in range(8)])[:15]:
        side = rng.integers(10, 60)
        codes[80 * row : 80 * row + side, 80 * column : 80 * column + side] = 6
    places = {f"{r}{c}.tif": Window(80 * r, 80 * c, 70, 70) for r in range(8) for c in range(8)}
    store = make_scene_store(tmp_path / "store", places, codes=codes)
    worst = {}
    for stratify in (True, False):
        said = split(store.path, by=by, block_size=80, stratify=stratify, seed=1)  # type: ignore[arg-type]
        folds = [said["stores"][0]["folds"][fold] for fold in ("train", "val", "test")]
        shares = np.array([list(fold["class_shares"].values()) for fold in folds])
        pixels = np.array([fold["pixels"] for fold in folds])
        worst[stratify] = np.abs(shares - pixels @ shares / pixels.sum()).max()
        assert shares[:, 5].min() > 0 or not stratify
    assert worst[True] < 0.3 * worst[False]


def test_clusters_keep_touching_scenes_together(store: Store) -> None:
    for seed in range(4):
        split(store.path, by="clusters", seed=seed)
        again = Store(store.path).split
        assert again.fold_of(PLACES["c.tif"]) == again.fold_of(PLACES["d.tif"])
        assert {again.fold_of(place) for place in PLACES.values()} == {"train", "val", "test"}
        assert not any(leak.num_pairs for leak in check_split(store.path, distance=0))


def test_scenes_are_listed_with_or_without_suffix(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = tmp_path / "folds.csv"
    table.write_text("scene,fold,note\na.tif,train,\nb,val,flat\nc,test,\n")
    split(store.path, by="scenes", scenes=table)
    again = Store(store.path).split
    assert [again.fold_of(place) for place in PLACES.values()] == ["train", "val", "test", None]
    assert "1 of 4 scenes are in no fold, as d.tif" in caplog.text
    table.write_text("scene,fold\na,train\na,train\na.tif,train\n")  # twice the same is no contradiction
    split(store.path, by="scenes", scenes=table)
    assert Store(store.path).split.fold_of(PLACES["a.tif"]) == "train"
    for text, said in (
        ("scene,fold\nz,train\n", "no scene is called z"),
        ("scene,fold\na,training\n", "fold training"),
        ("name,set\na,train\n", "needs columns scene and fold"),
        ("", "needs columns scene and fold"),
        ("scene,fold\na\n", "row 1: has no fold"),
        ("scene,fold\na,train\nb,val\na,test\n", r"folds\.csv, row 3: puts a into test, but a row before into train"),
        ("scene,fold\na.tif,train\na,test\n", r"a\.tif is in train, but as a in test"),
    ):
        table.write_text(text)
        with pytest.raises((DataError, SettingsError), match=said):
            split(store.path, by="scenes", scenes=table)


def test_polygons_end_at_the_scenes(store: Store, tmp_path: Path) -> None:
    drawn = {"train": shapely.box(-50, -50, 300, 700), "test": shapely.box(350, -50, 900, 900)}
    table = gpd.GeoDataFrame(
        {"fold": list(drawn)},
        geometry=[to_coordinates(area, store.geobox) for area in drawn.values()],
        crs=store.geobox.crs.to_wkt(),
    )
    table.to_file(tmp_path / "drawn.geojson")
    split(store.path, by="polygons", polygons=tmp_path / "drawn.geojson")
    assert fold_area(store, "train") == 300 * 300 + 200 * 200
    assert fold_area(store, "test") == 200 * 250
    table.translate(1e6, 0).to_frame("geometry").assign(fold=list(drawn)).to_file(tmp_path / "far.gpkg")
    with pytest.raises(DataError, match=r"far\.gpkg: gives no scene to a fold"):
        split(store.path, by="polygons", polygons=tmp_path / "far.gpkg")


def test_polygons_that_overlap_are_told(store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    drawn = {
        "train": shapely.box(0, 0, 300, 300),
        "val": shapely.box(290, 0, 310, 300),
        "test": shapely.box(400, 0, 9, 9),
    }
    areas = [to_coordinates(area, store.geobox) for area in drawn.values()]
    table = gpd.GeoDataFrame({"fold": list(drawn)}, geometry=areas, crs=store.geobox.crs.to_wkt())
    table.to_file(tmp_path / "drawn.gpkg")
    SpatialSplit.load(tmp_path / "drawn.gpkg", store.geobox)
    assert "drawn.gpkg: polygons of train and val overlap in 3000 px, which go to val" in caplog.text
    for buffer in ("wide", None, float("inf")):
        table.assign(buffer=[buffer] * 3).to_parquet(tmp_path / "drawn.parquet")
        with pytest.raises(DataError, match=r"drawn\.parquet: its column buffer holds no whole pixels"):
            SpatialSplit.load(tmp_path / "drawn.parquet", store.geobox)
    table.set_geometry([shapely.Polygon([(0, 0), (float("nan"), 1), (1, 1)])] * 3).to_parquet(
        tmp_path / "drawn.parquet"
    )
    with pytest.raises(DataError, match=r"drawn\.parquet: has polygons without a place"):
        SpatialSplit.load(tmp_path / "drawn.parquet", store.geobox)


def test_settings_that_do_not_fit_together(store: Store, tmp_path: Path) -> None:
    for options in ({"by": "polygons"}, {"by": "scenes"}, {"polygons": "x.gpkg"}, {"by": "scenes", "polygons": "x"}):
        with pytest.raises(SettingsError, match="needs a file"):
            split(store.path, **options)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match=r"^by: blocks, clusters, polygons or scenes, not 'tiles'"):
        split(store.path, by="tiles")  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="suffixes"):
        split(store.path, out=tmp_path / "split.csv")
    with pytest.raises(SettingsError, match="either"):
        check_split()


def test_blocks_are_counted_as_the_labels_are(store: Store) -> None:
    labels = store.read_labels(Window(0, 0, *store.geobox.shape))
    blocks = [Window(-20, 30, 100, 100), Window(100, 250, 333, 301), Window(0, 310, 80, 80), Window(5000, 0, 9, 9)]
    for block, counted in zip(blocks, store.count_classes(blocks)[:, -1], strict=True):
        inside = block.intersection(Window(0, 0, *labels.shape))
        own = labels[inside.slices] if inside else np.empty(0, np.uint8)
        assert counted.tolist() == [(own == c).sum() for c in range(6)]


def tile_random(folder: Path, tiles: list[Path], seed: int) -> dict[str, list[Path]]:
    """What leaks: tiles cut from scenes and dealt to folds at random."""
    order = np.random.default_rng(seed).permutation(len(tiles))
    cuts = np.split(order, [int(0.7 * len(tiles)), int(0.8 * len(tiles))])
    return {fold: [tiles[i] for i in part] for fold, part in zip(("train", "val", "test"), cuts, strict=True)}


def test_tiles_dealt_at_random_fail_the_check_and_tiles_of_clusters_pass(store: Store, tmp_path: Path) -> None:
    split(store.path, by="clusters")
    whole = export_tiles([TileView(store, None, 50, 50)], tmp_path / "all")
    tiles = sorted((whole / "image").iterdir())
    leaks = {leak.folds: leak for leak in check_split(folds=tile_random(tmp_path, tiles, 1))}
    assert leaks["train", "test"].num_pairs > 10
    assert leaks["train", "test"].smallest == pytest.approx(0, abs=1e-6)
    folders = {}
    for fold in ("train", "val", "test"):
        view = TileView(Store(store.path), fold, 50, 50)
        folders[fold] = export_tiles([view], tmp_path / fold) / "image"
    for leak in check_split(folds=folders, distance=50):
        assert leak.num_pairs == 0
        assert leak.smallest >= 60  # 100 px
    assert all(leak.num_pairs for leak in check_split(folds=folders, distance=500))


@pytest.mark.realdata
def test_the_publishers_random_split_of_real_tiles_fails_and_clusters_pass(real_data: Path, tmp_path: Path) -> None:
    tiles = sorted((real_data / "ohio_naip" / "images").glob("*.tif"))
    leaks = check_split(folds=tile_random(tmp_path, tiles, 0))
    assert all(leak.num_pairs for leak in leaks)
    windows = {}
    with rasterio.open(tiles[0]) as first:
        origin = first.transform
    for tile in tiles:
        with rasterio.open(tile) as dataset:
            column, row = (round(v) for v in ~origin @ (dataset.transform.c, dataset.transform.f))
            windows[tile] = Window(row, column, 256, 256)
    clusters = SpatialSplit.by_clusters(list(windows.values()), seed=0)
    folds: dict[str, list[Path]] = {}
    for tile, window in windows.items():
        folds.setdefault(str(clusters.fold_of(window)), []).append(tile)
    assert set(folds) == {"train", "val", "test"}
    assert not any(leak.num_pairs for leak in check_split(folds=folds, distance=100))


def test_a_patch_size_looks_at_patches_that_fit(tmp_path: Path) -> None:
    """Areas nearer than the distance, but too narrow for a patch there."""
    places = {"a.tif": Window(0, 0, 100, 100), "b.tif": Window(0, 300, 100, 100)}
    chosen = SpatialSplit.by_scenes({"train": [places["a.tif"], Window(40, 280, 5, 20)], "test": [places["b.tif"]]})
    store = make_scene_store(tmp_path / "store", places, split=chosen)
    assert check_split(store.path)[0].num_pairs == 1
    assert check_split(store.path, patch_size=32)[0].num_pairs == 0
    assert check_split(store.path, patch_size=32)[0].smallest == pytest.approx(200 * 0.6)


def test_rasters_in_two_zones_are_measured_on_the_ground(tmp_path: Path) -> None:
    here = gpd.GeoSeries.from_xy([-81.0], [39.0], crs="EPSG:4326")
    for crs, metres in (("EPSG:26917", 0), ("EPSG:26918", 300)):
        point = here.to_crs(crs)
        transform = Affine(1, 0, point.x[0] + metres, 0, -1, point.y[0])
        write_raster(tmp_path / f"{crs[5:]}.tif", np.zeros((100, 100), np.uint8), transform, crs=crs)
    (leak,) = check_split(folds={"train": tmp_path / "26917.tif", "test": tmp_path / "26918.tif"}, distance=150)
    assert 185 < leak.smallest < 205  # zone 18 is turned by 3.8 degrees there
    assert leak.num_pairs == 0


def test_metres_that_are_none_on_the_ground_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    here = gpd.GeoSeries.from_xy([-81.0], [60.0], crs="EPSG:4326")
    for crs in ("EPSG:32617", "EPSG:3857"):
        point = here.to_crs(crs)
        for name, metres in (("a", 0), ("b", 120)):
            transform = Affine(1, 0, point.x[0] + metres, 0, -1, point.y[0])
            write_raster(tmp_path / f"{name}.tif", np.zeros((100, 100), np.uint8), transform, crs=crs)
        (leak,) = check_split(folds={"train": tmp_path / "a.tif", "test": tmp_path / "b.tif"})
        assert leak.smallest == pytest.approx(20)
        assert ("0.50 m on the ground" in caplog.text) == (crs == "EPSG:3857"), caplog.text


def test_feet_are_told_in_metres(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    boxes = [shapely.box(left, 700_000, left + 1000, 701_000) for left in (2_000_000, 2_001_100)]
    table = gpd.GeoDataFrame({"fold": ["train", "test"]}, geometry=boxes, crs="EPSG:2264")
    table.to_parquet(tmp_path / "feet.parquet")
    (leak,) = check_split(tmp_path / "feet.parquet")
    assert leak.smallest == pytest.approx(100 * 1200 / 3937)
    assert not caplog.text  # a foot is a foot on the ground


def test_a_sites_own_coordinates_are_measured_in_their_unit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, column in (("train", 0), ("test", 300)):
        write_raster(tmp_path / f"{name}.tif", np.zeros((100, 100), np.uint8), north_up(column), crs=SITE)
    folds = {fold: tmp_path / f"{fold}.tif" for fold in ("train", "test")}
    (leak,) = check_split(folds=folds, distance=130)
    assert (leak.unit, leak.smallest, leak.num_pairs) == ("m", pytest.approx(200 * 0.6), 1)
    assert not caplog.text


def test_places_far_from_the_zone_they_are_measured_in_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """From coast to coast, in the zone of the middle, where all is right; at the coasts a metre is 0.95 m."""
    boxes = [shapely.box(x, 40, x + 0.001, 40.001) for x in (-122.0, -75.0, -121.998, -74.998)]
    table = gpd.GeoDataFrame({"fold": ["train", "train", "test", "test"]}, geometry=boxes, crs="EPSG:4326")
    for name, rows in (("wide", table), ("near", table.iloc[::2])):
        rows.to_parquet(tmp_path / f"{name}.parquet")
        caplog.clear()
        (leak,) = check_split(tmp_path / f"{name}.parquet", distance=10)
        assert ("0.95 m on the ground" in caplog.text) == (name == "wide"), caplog.text
        assert leak.smallest == pytest.approx(85 if name == "near" else 90, abs=1)


def test_a_table_with_a_fold_column_is_checked(tmp_path: Path) -> None:
    boxes = [shapely.box(0, 0, 10, 10), shapely.box(12, 0, 20, 10), shapely.box(40, 0, 50, 10)]
    table = gpd.GeoDataFrame({"fold": ["train", "test", "test"], "name": list("abc")}, geometry=boxes, crs="EPSG:32617")
    table.to_parquet(tmp_path / "tiles.parquet")
    with pytest.raises(SettingsError, match="patch_size: of a store's folds"):
        check_split(tmp_path / "tiles.parquet", patch_size=32)
    (leak,) = check_split(tmp_path / "tiles.parquet", distance=5)
    assert (leak.num_pairs, leak.smallest, leak.examples) == (1, 2, (("a", "b", 2.0),))
    table.assign(fold=[["train"], ["test"], None]).to_parquet(tmp_path / "lists.parquet")
    (leak,) = check_split(tmp_path / "lists.parquet")
    assert (leak.folds, leak.smallest, leak.num_second) == (("['test']", "['train']"), 2, 0)
    table.drop(columns="fold").to_parquet(tmp_path / "plain.parquet")
    with pytest.raises(DataError, match="column 'fold'"):
        check_split(tmp_path / "plain.parquet")


@pytest.mark.parametrize("latitude", [87.0, -85.0])
def test_near_a_pole_metres_need_a_projected_crs(tmp_path: Path, latitude: float) -> None:
    path = tmp_path / "areas.parquet"
    places = [shapely.box(west, latitude, west + 0.1, latitude + 0.1) for west in (10, 10.2)]
    table = gpd.GeoDataFrame({"fold": ["train", "test"]}, geometry=places, crs="EPSG:4326")
    table.to_parquet(path)
    with pytest.raises(GridError, match=r"areas\.parquet row 0: .*UTM.*; bring all places to one projected CRS"):
        check_split(path, distance=200)
    table.to_crs("EPSG:3413" if latitude > 0 else "EPSG:3031").to_parquet(path)
    [leak] = check_split(path, distance=200)
    assert leak.smallest == pytest.approx(0.1 * 111_320 * np.cos(np.radians(latitude + 0.05)), rel=0.05)


@pytest.mark.parametrize(("transform", "crs"), [(Affine(2, 0, 7, 0, -2, 9), None), (north_up(), "EPSG:26917")])
def test_rasters_are_checked_in_pixels(tmp_path: Path, transform: Affine, crs: str | None) -> None:
    for name, column in (("a", 0.0), ("b", 30.5)):
        place = transform @ Affine.translation(column, 0)
        write_raster(tmp_path / f"{name}.tif", np.zeros((20, 20), np.uint8), place, crs=crs)
    folds = {"train": tmp_path / "a.tif", "test": tmp_path / "b.tif"}
    for distance, pairs in (("10px", 0), ("11px", 1)):
        (leak,) = check_split(folds=folds, distance=distance)
        assert (leak.unit, leak.num_pairs, leak.smallest) == ("px", pairs, pytest.approx(10.5))
    with pytest.raises(SettingsError, match="patch_size: of a store's folds"):
        check_split(folds=folds, patch_size=32)
    (leak,) = check_split(folds=folds)
    assert (leak.unit, leak.smallest) == (("px", pytest.approx(10.5)) if crs is None else ("m", pytest.approx(6.3)))


def test_pixels_and_metres_where_there_are_none(tmp_path: Path) -> None:
    boxes = [shapely.box(0, 0, 10, 10), shapely.box(12, 0, 20, 10)]
    table = tmp_path / "tiles.parquet"
    gpd.GeoDataFrame({"fold": ["train", "test"]}, geometry=boxes).to_parquet(table)
    (leak,) = check_split(table)
    assert (leak.unit, leak.smallest) == ("", 2)
    with pytest.raises(GridError, match="no CRS, so metres mean nothing here; assign"):
        check_split(table, distance=1)
    with pytest.raises(GridError, match="tables of polygons have no pixels"):
        check_split(table, distance="1px")
    fine = write_raster(tmp_path / "fine.tif", np.zeros((9, 9), np.uint8), north_up())
    coarse = write_raster(tmp_path / "coarse.tif", np.zeros((9, 9), np.uint8), north_up(90, 0, 1.0))
    with pytest.raises(GridError, match="pixels differ"):
        check_split(folds={"train": fine, "test": coarse}, distance="1px")


def test_what_cannot_be_checked(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    placed = write_raster(tmp_path / "placed.tif", np.zeros((9, 9), np.uint8), north_up())
    nowhere = write_raster(tmp_path / "nowhere.tif", np.zeros((9, 9), np.uint8), crs=None)
    adrift = write_raster(tmp_path / "adrift.tif", np.zeros((9, 9), np.uint8), north_up(), crs=None)
    with pytest.raises(DataError, match="empty: no rasters"):
        check_split(folds={"train": placed, "test": tmp_path / "empty"})
    with pytest.raises(GridError, match=r"nowhere\.tif: has no georeference"):
        check_split(folds={"train": placed, "test": nowhere})
    with pytest.raises(GridError, match=r"adrift\.tif: has no CRS"):
        check_split(folds={"train": placed, "test": adrift})


def test_stores_of_two_zones_are_split_and_parted(tmp_path: Path) -> None:
    """Adjacent scenes in two UTM zones, ingested together."""
    here = gpd.GeoSeries.from_xy([-78.0], [39.0], crs="EPSG:4326")
    for index, (crs, metres) in enumerate((("EPSG:26917", -130), ("EPSG:26918", 0), ("EPSG:26917", 5000))):
        point = here.to_crs(crs)
        transform = Affine(1, 0, round(point.x[0]) + metres, 0, -1, round(point.y[0]))
        for kind, values in (("i", np.full((4, 128, 128), 9, np.uint8)), ("l", random_codes(index, 128, 128))):
            write_raster(tmp_path / kind / f"{index}.tif", values, transform, crs=crs)
    bands = ("red", "green", "blue", "nir")
    stores = ingest(tmp_path / "i", tmp_path / "l", tmp_path / "out", bands=bands, shares=(1, 0, 1))
    assert len(stores) == 2
    said = split(tmp_path / "out", block_size=32, buffer=10, shares=(1, 0, 1), seed=1, out=tmp_path / "split.gpkg")
    assert [Path(store["file"]).is_file() for store in said["stores"]] == [True, True]
    for fold, every in said["folds"].items():
        parts = [store["folds"][fold] for store in said["stores"]]
        assert every["pixels"] == sum(part["pixels"] for part in parts) > 0 or fold == "val"
        for name, share in every["class_shares"].items():
            in_all = sum(part["class_shares"][name] * part["pixels"] for part in parts)
            assert share * every["pixels"] == pytest.approx(in_all)
    assert sum(every["share"] for every in said["folds"].values()) == pytest.approx(1)
    (leak,) = check_split(tmp_path / "out", distance=10)
    assert leak.num_pairs == 0
    assert leak.smallest < 100


def test_what_is_wrong_with_a_rule_is_named_once() -> None:
    with pytest.raises(SettingsError, match=r"^shares: three numbers, each 0 or more"):
        SplitRule.of(shares=(float("nan"), 1, 1))
    with pytest.raises(SettingsError, match=r"^blocks: must be greater"):
        SplitRule.of(blocks=0)
