"""ingest of what does not lie on one grid: several CRSs, other pixels, resampling that was asked for."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.warp
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling

from geosynth.errors import DataError, GridError, SettingsError
from geosynth.grid import Window
from geosynth.inputs import sha256_of
from geosynth.legend import CHESAPEAKE
from geosynth.raster.stores.ingest import ingest
from geosynth.raster.stores.items import Item, pair_files
from geosynth.raster.stores.open import open_in_place
from geosynth.raster.stores.pairs import open_pairs
from geosynth.raster.stores.store import Store, open_stores
from rasters import SITE, UTM, UTM_18N, north_up, random_codes, random_image, write_raster

RGBN = ("red", "green", "blue", "nir")
ALL_TRAIN = (1, 0, 0)
SIDE = 48


def add(folder: Path, name: str, transform: Affine, seed: int = 0, side: int = SIDE, **profile: Any) -> None:
    image = random_image(seed, side, side)
    write_raster(folder / "images" / name, image, transform, photometric="minisblack", alpha="no", **profile)
    write_raster(folder / "labels" / name, random_codes(seed, side, side), transform, **profile)


def run(folder: Path, **options: Any) -> list[Store]:
    return ingest(
        folder / "images", folder / "labels", folder / "out", **{"bands": RGBN, "shares": ALL_TRAIN, **options}
    )


def zone_border(zone: int, shift: float = 0) -> Affine:
    """A place at the border of zones 17 and 18 (78 degrees west), in either zone."""
    crs = UTM if zone == 17 else UTM_18N
    (x,), (y,) = rasterio.warp.transform("EPSG:4326", crs, [-78.0], [39.0])
    return Affine(0.6, 0, round(x) + shift, 0, -0.6, round(y))


def test_each_crs_gets_a_store(tmp_path: Path) -> None:
    add(tmp_path, "a.tif", zone_border(17), seed=1, crs=UTM)
    add(tmp_path, "b.tif", zone_border(18, 500), seed=2, crs=UTM_18N)
    add(tmp_path, "c.tif", zone_border(17, -120), seed=3, crs=UTM)
    stores = run(tmp_path)
    assert [(Path(store.path).name, len(store.scenes)) for store in stores] == [("epsg_26917", 2), ("epsg_26918", 1)]
    for store in open_stores(tmp_path / "out"):
        assert store.geobox.crs.epsg == int(Path(store.path).name[5:])
        for scene in store.scenes:
            with rasterio.open(tmp_path / "images" / scene.name) as image:
                np.testing.assert_array_equal(store.read_image(scene.window), image.read())
    with pytest.raises(Exception, match="already exists"):
        run(tmp_path)
    assert len(run(tmp_path, overwrite=True)) == 2


def test_a_crs_may_be_given_by_its_name(tmp_path: Path) -> None:
    """GDAL does not know it by that, so it ended in an error without a message."""
    add(tmp_path, "a.tif", zone_border(17), crs=UTM)
    options = {"resolution": 0.6, "resample_images": "nearest", "resample_labels": "nearest", "overwrite": True}
    found = []
    for crs in (UTM_18N, "NAD83 / UTM zone 18N"):
        (store,) = run(tmp_path, crs=crs, **options)
        found.append((store.geobox.affine, store.image[:]))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_neighbours_in_two_zones_share_a_fold(tmp_path: Path) -> None:
    """The same ground, once in each zone, and six places elsewhere: for every seed they go together."""
    add(tmp_path, "a.tif", zone_border(17), seed=1, crs=UTM)
    add(tmp_path, "b.tif", zone_border(18, 10), seed=2, crs=UTM_18N)
    for number in range(6):
        add(tmp_path, f"far{number}.tif", zone_border(17, -6000 * (number + 1)), seed=number, crs=UTM)
    for seed in range(4):
        stores = run(tmp_path, shares=(0.5, 0.2, 0.3), seed=seed, overwrite=True)
        folds = {s.name: store.split.fold_of(s.window) for store in stores for s in store.scenes}
        assert folds["a.tif"] == folds["b.tif"]
        assert set(folds.values()) == {"train", "val", "test"}


def test_chosen_folds_are_kept_apart_across_zones(tmp_path: Path) -> None:
    add(tmp_path, "a.tif", zone_border(17), seed=1, crs=UTM)
    add(tmp_path, "b.tif", zone_border(18, 10), seed=2, crs=UTM_18N)
    items = [
        Item(str(tmp_path / "images" / name), str(tmp_path / "labels" / name), fold=fold)
        for name, fold in (("a.tif", "train"), ("b.tif", "test"))
    ]
    train, test = ingest(None, None, tmp_path / "out", items=items, bands=RGBN)
    assert sum(test.class_pixels("test")) == SIDE * SIDE
    assert 0 < sum(train.class_pixels("train")) < SIDE * SIDE  # what test shows too was taken out


def test_items_name_folds_for_all_or_none(tmp_path: Path) -> None:
    add(tmp_path, "a.tif", north_up(0, 0))
    add(tmp_path, "b.tif", north_up(100, 0))
    pairs = [(str(tmp_path / "images" / name), str(tmp_path / "labels" / name)) for name in ("a.tif", "b.tif")]
    items = [Item(*pairs[0], fold="test", date="2020-06-01", name="first"), Item(*pairs[1])]
    with pytest.raises(DataError, match=r"b\.tif: has no fold"):
        ingest(None, None, tmp_path / "out", items=items, bands=RGBN)
    items[1] = Item(*pairs[1], fold="train")
    with pytest.raises(SettingsError, match="shares: no effect: the items name their folds already"):
        ingest(None, None, tmp_path / "out", items=items, bands=RGBN, shares=ALL_TRAIN)
    (store,) = ingest(None, None, tmp_path / "out", items=items, bands=RGBN)
    assert [(s.name, s.date, s.image) for s in store.scenes] == [
        ("first", "2020-06-01", pairs[0][0]),
        ("b.tif", None, pairs[1][0]),
    ]
    assert [store.split.fold_of(s.window) for s in store.scenes] == ["test", "train"]


def test_blocks_split_within_a_scene(tmp_path: Path) -> None:
    add(tmp_path, "a.tif", north_up(0, 0), side=400)
    (store,) = run(tmp_path, by="blocks", block_size=50, shares=(0.6, 0.1, 0.3), buffer="6px")
    pixels = {fold: sum(store.class_pixels(fold)) for fold in ("train", "val", "test")}
    assert all(pixels.values())
    assert sum(pixels.values()) < 400 * 400  # the buffer is no one's
    assert store.split.buffer == 6
    assert [len(store.scenes_in(fold)) for fold in pixels] == [1, 1, 1]
    with pytest.raises(SettingsError, match="by: clusters or blocks, not 'rows'"):
        run(tmp_path, by="rows", overwrite=True)


OTHER_GRIDS: dict[str, tuple[Affine, str]] = {
    "half a pixel": (north_up(100.5, 0.5), "fraction"),
    "coarser": (north_up(33, 0, 1.8), "pixel size"),
    "rotated": (north_up(100, 0) @ Affine.rotation(20), "pixel size or orientation"),
    "south-up": (north_up(100, 48) @ Affine.scale(1, -1), "pixel size or orientation"),
}


@pytest.mark.parametrize("name", OTHER_GRIDS)
def test_other_pixels_are_refused_or_resampled_as_asked(tmp_path: Path, name: str) -> None:
    transform, complaint = OTHER_GRIDS[name]
    add(tmp_path, "a.tif", north_up(0, 0), seed=1)
    add(tmp_path, "b.tif", transform, seed=2)
    with pytest.raises(GridError, match=rf"images/b\.tif: .*{complaint}.*--resample-images nearest\|bilinear"):
        run(tmp_path)
    with pytest.raises(GridError, match=r"labels/b\.tif: .*--resample-labels nearest\|mode"):
        run(tmp_path, resample_images="average")
    assert not (tmp_path / ".out.unfinished").exists()
    (store,) = run(tmp_path, resample_images="average", resample_labels="nearest")
    first, second = store.scenes
    with rasterio.open(tmp_path / "images" / "a.tif") as image:  # this one is not touched
        np.testing.assert_array_equal(store.read_image(first.window), image.read())
    grid = window_grid(store, second.window)
    codes = warp(tmp_path / "labels" / "b.tif", grid, "nearest")[0]
    has_class = store.labels[second.window.slices] != 15
    assert has_class.mean() > (0.4 if name == "rotated" else 0.9)
    differing = (store.labels[second.window.slices] != codes)[has_class]
    assert differing.mean() < 0.03 if name == "half a pixel" else not differing.any()
    image = warp(tmp_path / "images" / "b.tif", grid, "average")
    difference = np.abs(store.read_image(second.window).astype(int) - image)[:, has_class]
    assert (difference <= 1).mean() > 0.99
    assert second.class_pixels == tuple((store.labels[second.window.slices] == code).sum() for code in range(1, 7))


def window_grid(store: Store, window: Window) -> GeoBox:
    transform = store.geobox.affine @ Affine.translation(window.column, window.row)
    return GeoBox((window.height, window.width), transform, store.geobox.crs)


def warp(path: Path, grid: GeoBox, method: str) -> np.ndarray:
    with rasterio.open(path) as source:
        values = np.zeros((source.count, *grid.shape), source.dtypes[0])
        rasterio.warp.reproject(
            rasterio.band(source, list(source.indexes)),
            values,
            dst_transform=grid.affine,
            dst_crs=str(grid.crs),
            resampling=Resampling[method],
            tolerance=0,
        )
    return values


@pytest.mark.parametrize(("side", "block"), [(400, 256), (48, 32)])
def test_one_scene_needs_no_options(tmp_path: Path, side: int, block: int, caplog: pytest.LogCaptureFixture) -> None:
    add(tmp_path, "a.tif", north_up(0, 0), side=side)
    (store,) = ingest(tmp_path / "images", tmp_path / "labels", tmp_path / "out", bands=RGBN)
    assert f"blocks of {block} px (--by blocks) are split" in caplog.text
    assert caplog.text.count("are split") == 1
    assert all(sum(store.class_pixels(fold)) for fold in ("train", "val", "test"))
    with pytest.raises(DataError, match="none left for fold"):
        ingest(tmp_path / "images", tmp_path / "labels", tmp_path / "other", bands=RGBN, by="clusters")
    (source,) = open_in_place(tmp_path / "images", tmp_path / "labels", bands=RGBN)
    assert {fold for fold in ("train", "val", "test") if source.scenes_in(fold)} == {"train", "val", "test"}


def test_imagery_without_data_is_said_to_be(tmp_path: Path) -> None:
    add(tmp_path, "a.tif", north_up(0, 0))
    write_raster(tmp_path / "images" / "a.tif", np.zeros((4, SIDE, SIDE), np.uint8), north_up(0, 0), nodata=0)
    with pytest.raises(DataError, match=r"a\.tif: no pixel has a class and, in the image, data$"):
        ingest(tmp_path / "images", tmp_path / "labels", tmp_path / "out", bands=RGBN)


def test_labels_of_another_pixel_size_by_mode(tmp_path: Path) -> None:
    """Images at 0.6 m, labels at 0.2 m on the same corner: each image pixel holds nine labels."""
    write_raster(tmp_path / "images" / "a.tif", random_image(1, SIDE, SIDE), north_up(0, 0))
    fine = random_codes(5, 3 * SIDE, 3 * SIDE)
    write_raster(tmp_path / "labels" / "a.tif", fine, north_up(0, 0, 0.2))
    with pytest.raises(GridError, match="--resample-labels"):
        run(tmp_path)
    (store,) = run(tmp_path, resample_labels="mode")
    counts = [(fine == code).reshape(SIDE, 3, SIDE, 3).sum(axis=(1, 3)) for code in range(1, 7)]
    clear = np.sort(counts, axis=0)[-1] > 4  # more than half
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(store.labels[:][clear], np.argmax(counts, axis=0)[clear] + 1)
    np.testing.assert_array_equal(store.image[:], random_image(1, SIDE, SIDE))


def test_labels_that_cover_a_part_only(tmp_path: Path) -> None:
    write_raster(tmp_path / "images" / "a.tif", random_image(1, SIDE, SIDE), north_up(0, 0))
    codes = random_codes(5, 30, 30)
    write_raster(tmp_path / "labels" / "a.tif", codes, north_up(10, 5))
    with pytest.raises(GridError, match="does not cover the same pixels as"):
        run(tmp_path)
    (store,) = run(tmp_path, resample_labels="nearest")
    wanted = np.full((SIDE, SIDE), 15)
    wanted[5:35, 10:40] = codes
    np.testing.assert_array_equal(store.labels[:], wanted)


@pytest.mark.parametrize(("column", "row"), [(1, -2), (-2, 1), (-5, -2), (-2, -5)])
def test_labels_that_lack_one_row_or_column(tmp_path: Path, column: int, row: int) -> None:
    write_raster(tmp_path / "images" / "a.tif", random_image(1, SIDE, SIDE), north_up())
    write_raster(tmp_path / "labels" / "a.tif", random_codes(5, SIDE + 4, SIDE + 4), north_up(column, row))
    with pytest.raises(GridError, match="does not cover the same pixels as"):
        run(tmp_path)


def test_one_label_raster_of_a_county_is_cropped(tmp_path: Path) -> None:
    county = random_codes(5, 150, 200)
    county[:SIDE, 150:] = 99  # no class, where no image is
    write_raster(tmp_path / "labels" / "county.tif", county, north_up(-20, -10))
    for number, column in enumerate((0, 60)):
        write_raster(tmp_path / "images" / f"{number}.tif", random_image(number, SIDE, SIDE), north_up(column, 0))
    (store,) = run(tmp_path)
    for scene, column in zip(store.scenes, (20, 80), strict=True):
        codes = county[10 : 10 + SIDE, column : column + SIDE]
        np.testing.assert_array_equal(store.labels[scene.window.slices], codes)
        assert list(scene.class_pixels) == [int((codes == code).sum()) for code in store.legend.codes]
    assert store.scenes[0].labels_sha256 == store.scenes[1].labels_sha256 == sha256_of(tmp_path / "labels/county.tif")
    write_raster(tmp_path / "images" / "beyond.tif", random_image(1, SIDE, SIDE), north_up(150, 0))
    with pytest.raises(GridError, match=r"county.tif: does not cover the same pixels as .*beyond.tif"):
        run(tmp_path, overwrite=True)


def test_a_resolution_sets_the_lattice(tmp_path: Path) -> None:
    add(tmp_path, "a.tif", north_up(0, 0), seed=1)
    (store,) = run(tmp_path, resolution=1.0, resample_images="bilinear", resample_labels="nearest")
    assert store.gsd == 1
    assert (store.geobox.affine.c % 1, store.geobox.affine.f % 1) == (0, 0)
    assert store.geobox.shape == (29, 30)  # 28.8 m, the corner off the lattice in x


def test_the_grid_of_another_raster(tmp_path: Path) -> None:
    add(tmp_path, "a.tif", zone_border(18), seed=1, crs=UTM_18N)
    add(tmp_path, "b.tif", zone_border(17, 300.2), seed=2, crs=UTM)
    like = write_raster(tmp_path / "like.tif", random_codes(0, 9, 9), zone_border(17))
    (store,) = run(tmp_path, like=like, resample_images="bilinear", resample_labels="nearest")
    assert store.geobox.crs.epsg == 26917
    offset = ~zone_border(17) @ (store.geobox.affine.c, store.geobox.affine.f)
    np.testing.assert_allclose(np.array(offset) - np.round(offset), 0, atol=1e-6)
    window = store.scenes[0].window
    has_class = store.labels[window.slices] != 15
    assert has_class.sum() > 0.9 * SIDE * SIDE
    codes = warp(tmp_path / "labels" / "a.tif", window_grid(store, window), "nearest")[0]
    np.testing.assert_array_equal(store.labels[window.slices][has_class], codes[has_class])


def test_one_crs_for_all(tmp_path: Path) -> None:
    add(tmp_path, "a.tif", zone_border(18), seed=1, crs=UTM_18N)
    add(tmp_path, "b.tif", zone_border(17, 300), seed=2, crs=UTM)
    how = {"resample_images": "cubic", "resample_labels": "mode"}
    with pytest.raises(GridError, match="--resolution"):
        run(tmp_path, crs="EPSG:5070", **how)
    with pytest.raises(GridError, match=r"a\.tif: CRS EPSG:26918 differs from EPSG:26917.*--resample-images"):
        run(tmp_path, crs="EPSG:26917")
    (store,) = run(tmp_path, crs="EPSG:26917", **how)
    assert [scene.is_complete for scene in store.scenes] == [False, True]  # the second one was there already
    with rasterio.open(tmp_path / "images" / "b.tif") as image:
        np.testing.assert_array_equal(store.read_image(store.scenes[1].window), image.read())
    (store,) = run(tmp_path, crs="EPSG:5070", resolution=0.6, overwrite=True, **how)
    assert store.geobox.crs.epsg == 5070


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"resample_images": "mode"}, "resample_images: one of nearest, bilinear.* not mode"),
        ({"resample_labels": "bilinear"}, "resample_labels: one of nearest, mode is needed, not bilinear"),
        ({"resolution": 0}, "resolution: a positive size is needed, got 0"),
        ({"resolution": float("nan")}, "resolution: a positive size is needed, got nan"),
        ({"seed": -1}, "seed: .* greater than or equal to 0"),
        ({"crs": "EPSG:0"}, "CRS EPSG:0: unknown; write it"),
        ({"crs": UTM, "like": "x.tif"}, "like tells the grid already"),
    ],
)
def test_impossible_settings(tmp_path: Path, options: dict[str, Any], complaint: str) -> None:
    add(tmp_path, "a.tif", north_up(0, 0))
    with pytest.raises(SettingsError, match=complaint):
        run(tmp_path, **options)
    assert not (tmp_path / ".out.unfinished").exists()


@pytest.mark.parametrize("resolution", [1e-300, 1e-9])
def test_pixels_too_small_to_be_counted(tmp_path: Path, resolution: float) -> None:
    add(tmp_path, "a.tif", north_up(0, 0))
    with pytest.raises(GridError, match=r"gives pixels no place|no raster is so large"):
        run(tmp_path, resolution=resolution, resample_images="nearest", resample_labels="nearest")


def test_scenes_in_a_sites_own_coordinates(tmp_path: Path) -> None:
    """Neither projected nor geographic: the conventions have no name for its axes."""
    add(tmp_path, "a.tif", north_up(0, 0), crs=SITE)
    (store,) = run(tmp_path)
    assert (store.geobox.crs, store.geobox.affine) == (SITE, north_up(0, 0))
    with xr.open_zarr(tmp_path / "out", consolidated=False) as opened:
        assert opened.x.attrs == {"axis": "X"}
    with rasterio.open(tmp_path / "images/a.tif") as file:
        np.testing.assert_array_equal(store.read_image(store.scenes[0].window), file.read())


def test_a_site_of_its_own_coordinates_has_no_place_among_others(tmp_path: Path) -> None:
    add(tmp_path, "a.tif", north_up(0, 0))
    add(tmp_path, "b.tif", north_up(0, 0), crs=SITE)
    for options, crs in (({}, "EPSG:6933"), ({"crs": UTM, "resample_images": "nearest"}, UTM)):
        with pytest.raises(GridError, match=rf"images/b\.tif: has no place in the CRS {crs}"):
            run(tmp_path, **options)


def test_pixels_much_finer_than_the_images_are_refused(tmp_path: Path) -> None:
    add(tmp_path, "a.tif", north_up(0, 0))
    with pytest.raises(GridError, match=r"a\.tif: would become 28800\d{4} x 28800\d{4} px, but no raster is so large"):
        run(tmp_path, resolution=1e-7, resample_images="nearest", resample_labels="nearest")


def test_pixels_much_coarser_than_the_images_are_refused(tmp_path: Path) -> None:
    """As metres that are degrees for one of the CRSs."""
    add(tmp_path, "a.tif", north_up(0, 0))
    add(tmp_path, "b.tif", Affine(4.5e-6, 0, -43.2, 0, -4.5e-6, -22.9), crs="EPSG:4326")
    how = {"resample_images": "average", "resample_labels": "mode"}
    with pytest.raises(
        GridError,
        match=r"b\.tif: would become 1 x 1 px, each .* 10000 of its own; choose finer .* units of EPSG:4326\)$",
    ):
        run(tmp_path, resolution=0.5, **how)
    assert len(run(tmp_path, crs="EPSG:3857", resolution=50, **how)) == 1  # 83 px of the first one in each


def test_a_scene_without_crs_among_others(tmp_path: Path) -> None:
    add(tmp_path, "a.tif", north_up(0, 0))
    add(tmp_path, "b.tif", north_up(100, 0), crs=None)
    with pytest.raises(GridError, match=r"b\.tif: has no CRS, but .*a\.tif has"):
        run(tmp_path, resample_images="nearest", resample_labels="nearest")


def test_where_only_one_crs_is_known_no_resampling_is_offered(tmp_path: Path) -> None:
    write_raster(tmp_path / "images" / "a.tif", random_image(1, SIDE, SIDE), north_up(), crs=UTM)
    write_raster(tmp_path / "labels" / "a.tif", random_codes(1, SIDE, SIDE), north_up(), crs=None)
    with pytest.raises(GridError, match=r"labels/a\.tif: CRS none differs from EPSG:26917; assign the right one$"):
        run(tmp_path)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("crs", [UTM, None])
@pytest.mark.parametrize("options", [{}, {"resample_labels": "nearest"}])
def test_labels_without_georeference_beside_images_that_have_one(
    tmp_path: Path, crs: str | None, options: dict[str, Any]
) -> None:
    """Resampled they would lie nowhere near, and the scene would be without a class."""
    add(tmp_path, "a.tif", north_up(0, 0), crs=crs)
    add(tmp_path, "b.tif", north_up(100, 0), crs=crs)
    write_raster(tmp_path / "labels" / "b.tif", random_codes(1, SIDE, SIDE + 1), crs=None)
    with pytest.raises(
        GridError, match=r"labels/b\.tif: has no georeference, but .*images/b\.tif has one; give it that"
    ):
        run(tmp_path, **options)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    "options", [{}, {"resolution": 1.2, "resample_images": "nearest", "resample_labels": "nearest"}]
)
def test_labels_without_georeference_lie_on_images_of_their_size(
    tmp_path: Path, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """As ISPRS' masks, and PNG masks of GeoTIFFs: as if they had the georeference of their images."""
    for name, place in (("a", north_up(0, 0)), ("b", north_up(100, 0))):
        add(tmp_path, f"{name}.tif", place, seed=ord(name))
    (wanted,) = run(tmp_path, **options)
    labels = [wanted.read_labels(scene.window) for scene in wanted.scenes]
    write_raster(tmp_path / "labels" / "b.tif", random_codes(ord("b"), SIDE, SIDE), crs=None)
    (found,) = run(tmp_path, **options, overwrite=True)
    assert found.scenes[1].window == wanted.scenes[1].window
    for scene, codes in zip(found.scenes, labels, strict=True):
        np.testing.assert_array_equal(found.read_labels(scene.window), codes)
    assert f"{tmp_path / 'labels' / 'b.tif'}: has no georeference, but the size of its image" in caplog.text


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_images_without_georeference_apart(tmp_path: Path) -> None:
    """Photographs: each a place of its own, with pixels and codes as they are."""
    for number, (height, width) in enumerate([(40, 5000), (30, 4096), (60, 20), (60, 20)]):
        for kind, values in (
            ("images", random_image(number, height, width, 3)),
            ("labels", random_codes(number, height, width)),
        ):
            write_raster(tmp_path / kind / f"{number}.png", values, crs=None, driver="PNG")
    paths = f"{tmp_path}/images/*.png", f"{tmp_path}/labels/*.png"
    with pytest.raises(GridError, match=r"0\.png: has no georeference.* use --apart$"):
        ingest(*paths, tmp_path / "out", shares=ALL_TRAIN)
    (store,) = ingest(*paths, tmp_path / "out", apart=True, shares=(0.5, 0.25, 0.25), buffer="64px")
    (in_place,) = open_in_place(*paths, apart=True)
    assert [scene.window for scene in in_place.scenes] == [scene.window for scene in store.scenes]
    windows = [scene.window for scene in store.scenes]
    assert all(right.column - left.right >= 4096 for left, right in itertools.pairwise(windows))
    assert {store.split.fold_of(window) for window in windows} == {"train", "val", "test"}
    for scene in store.scenes:
        with rasterio.open(tmp_path / "images" / scene.name) as image, rasterio.open(scene.labels) as labels:
            np.testing.assert_array_equal(store.read_image(scene.window), image.read())
            np.testing.assert_array_equal(store.labels[scene.window.slices], labels.read(1))
            for found, wanted in zip(in_place.read(scene.window), store.read(scene.window), strict=True):
                np.testing.assert_array_equal(found, wanted)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    ("options", "error", "complaint"),
    [
        ({"resolution": 1.0}, SettingsError, "leave out crs, resolution and like"),
        ({"per": "year"}, SettingsError, "images of several dates may show one place"),
        (
            {"labels": "map.tif"},
            DataError,
            r"map\.tif: is of several images; with --apart each needs labels of its own",
        ),
        ({"placed": "b.tif"}, GridError, r"b\.tif: has a georeference, so its place is known; leave out --apart"),
    ],
)
def test_what_is_not_laid_apart(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], complaint: str
) -> None:
    placed = options.pop("placed", None)
    for name in ("a.tif", "b.tif"):
        add(tmp_path, name, north_up() if name == placed else Affine.identity(), crs=UTM if name == placed else None)
    write_raster(tmp_path / "map.tif", random_codes(0, SIDE, SIDE), crs=None)
    labels = tmp_path / options.pop("labels", "labels")
    with pytest.raises(error, match=complaint):
        ingest(tmp_path / "images", labels, tmp_path / "out", bands=RGBN, apart=True, **options)


def test_labels_that_lie_elsewhere_are_not_resampled_to_nothing(tmp_path: Path) -> None:
    write_raster(tmp_path / "labels" / "county.tif", random_codes(5, 150, 200), north_up(-20.5, -10))
    refused = r"county\.tif: lies beside .*images/2\.tif; leave that image out"
    for number, column in ((2, 180), (0, 0), (1, 178)):  # the first one only touches them
        write_raster(tmp_path / "images" / f"{number}.tif", random_image(number, SIDE, SIDE), north_up(column, 0))
        if number == 2:  # a way to resample would not help
            with pytest.raises(GridError, match=refused):
                run(tmp_path)
    with pytest.raises(GridError, match=refused):
        run(tmp_path, resample_labels="nearest")
    (tmp_path / "images" / "2.tif").unlink()
    (store,) = run(tmp_path, resample_labels="nearest")
    assert [sum(scene.class_pixels) > 0 for scene in store.scenes] == [True, True]


def test_scenes_on_both_sides_of_the_antimeridian(tmp_path: Path) -> None:
    degrees = SIDE / 1000
    for name, west in (("a.tif", 180 - degrees), ("b.tif", -180.0)):
        add(tmp_path, name, Affine(0.001, 0, west, 0, -0.001, 52), crs="EPSG:4326")
    with pytest.raises(GridError, match=r"a\.tif and .*b\.tif: meet at the antimeridian"):
        run(tmp_path)
    add(tmp_path, "b.tif", Affine(0.001, 0, 180, 0, -0.001, 52), crs="EPSG:4326")  # counted on
    (store,) = run(tmp_path)
    assert store.geobox.shape == (SIDE, 2 * SIDE)
    (store,) = run(
        tmp_path, crs="EPSG:32660", resolution=100, resample_images="nearest", resample_labels="nearest", overwrite=True
    )
    assert store.geobox.crs.epsg == 32660
    assert max(store.geobox.shape) < 100


def test_scenes_at_one_side_of_the_antimeridian_alone(tmp_path: Path) -> None:
    for name, west in (("a.tif", 10.0), ("b.tif", -180.0)):
        add(tmp_path, name, Affine(0.001, 0, west, 0, -0.001, 52), crs="EPSG:4326")
    (group,) = open_pairs(pair_files(tmp_path / "images", tmp_path / "labels"), CHESAPEAKE)
    assert group.geobox.shape == (SIDE, 190_000 + SIDE)


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_other_dtypes_are_resampled_within_their_range(tmp_path: Path, dtype: str) -> None:
    image = random_image(1, SIDE, SIDE, dtype=dtype) * 100
    write_raster(tmp_path / "images" / "a.tif", image, north_up(0.5, 0.5), photometric="minisblack", alpha="no")
    write_raster(tmp_path / "labels" / "a.tif", random_codes(1, SIDE, SIDE), north_up(0.5, 0.5))
    like = write_raster(tmp_path / "like.tif", random_codes(0, 9, 9), north_up())
    (store,) = run(tmp_path, like=like, resample_images="cubic", resample_labels="nearest")
    assert store.dtype == dtype
    wanted = warp(tmp_path / "images" / "a.tif", store.geobox, "cubic")
    inside = (slice(None), slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(store.image[:][inside], wanted[inside], atol=1)
