"""Zarr images: what xarray and rioxarray find in them, and that they appear whole or not at all."""

from __future__ import annotations

import json
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import odc.geo.xr  # noqa: F401 - registers `.odc`
import pytest
import rasterio
import rioxarray  # noqa: F401 - registers `.rio`
import xarray as xr
import zarr
import zarr_cm
from affine import Affine
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox
from rasterio.enums import Resampling

from geosynth.errors import OutputError
from geosynth.grid import Window
from geosynth.raster import images
from geosynth.raster.read import Read
from geosynth.raster.zarr_image import writing_bytes, zarr_image_writer
from rasters import SITE, north_up, random_image, write_raster

BANDS = ("red", "green", "blue", "nir")
GRIDS = {
    "north-up": GeoBox((130, 4200), north_up(), "EPSG:26917"),
    "south-up": GeoBox((30, 40), Affine(1, 0, 5e5, 0, 1, 4e6), "EPSG:26918"),
    "degrees": GeoBox((30, 40), Affine(1e-5, 0, -81.3, 0, -1e-5, 40.1), "EPSG:4326"),
    "rotated": GeoBox((30, 40), Affine.translation(5e5, 4e6) @ Affine.rotation(20), "EPSG:26918"),
    "without CRS": GeoBox((30, 40), north_up(), None),
    "a site's own": GeoBox((30, 40), north_up(), SITE),
}


def source(geobox: GeoBox, seed: int = 0) -> tuple[np.ndarray, np.ndarray, Read]:
    """Pixels, where they are valid, and a function that reads windows of them."""
    pixels = random_image(seed, *geobox.shape)
    valid = np.random.default_rng(1).random(geobox.shape) > 0.3

    def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
        return pixels[(slice(None), *window.slices)], valid[window.slices]

    return pixels, valid, read


def read_node(path: Path) -> dict[str, Any]:
    node: dict[str, Any] = json.loads((path / "zarr.json").read_text())
    return node


def open_image(path: Path) -> xr.DataArray:
    return xr.open_zarr(path, decode_coords="all")["image"]


@pytest.mark.parametrize("name", GRIDS)
def test_xarray_finds_grid_bands_mask_and_provenance(name: str, tmp_path: Path) -> None:
    geobox = GRIDS[name]
    pixels, valid, read = source(geobox)
    with zarr_image_writer(tmp_path / "image.zarr", geobox, BANDS, tags={"SYNTHETIC": "yes"}) as copy:
        copy(read)
    image = open_image(tmp_path / "image.zarr")
    np.testing.assert_array_equal(image, np.where(valid, pixels, 0))
    np.testing.assert_array_equal(image.valid, valid)
    assert image.dtype == np.uint8, "0 is data: no fill value turns it into NaN"
    assert image.dims == ("band", "y", "x")
    assert tuple(image.band.values) == BANDS
    assert image.rio.transform() == geobox.affine
    assert (CRS(image.rio.crs.to_wkt()) if image.rio.crs else None) == geobox.crs
    assert image.attrs["SYNTHETIC"] == "yes"
    if name == "rotated":
        assert "x" not in image.coords
    elif name != "without CRS":
        inside = image.isel(x=slice(10, 20), y=slice(5, 9))
        corners = [float(value) for edge in (np.min, np.max) for value in (edge(inside.x), edge(inside.y))]
        assert image.rio.clip_box(*corners).equals(inside)
    assert [path.name for path in tmp_path.iterdir()] == ["image.zarr"]


@pytest.mark.parametrize("name", GRIDS)
def test_every_array_follows_the_zarr_conventions(name: str, tmp_path: Path) -> None:
    """zarr-cm holds the rules of the conventions' specifications and schemas, of version 0.1."""
    geobox = GRIDS[name]
    with zarr_image_writer(tmp_path / "image.zarr", geobox, BANDS, tags={}):
        pass
    levels = [""] + (["ovr_2x/", "ovr_4x/", "ovr_8x/", "ovr_16x/"] if name == "north-up" else [])
    assert sorted(tmp_path.glob("image.zarr/ovr*")) == [tmp_path / "image.zarr" / level for level in sorted(levels[1:])]
    root = read_node(tmp_path / "image.zarr")
    for convention in (zarr_cm.multiscales, zarr_cm.spatial, *([zarr_cm.proj] if geobox.crs else [])):
        convention.validate_group_metadata(root)
    layout = root["attributes"]["multiscales"]["layout"]
    assert [level["asset"] for level in layout] == ["image", *(level[:-1] for level in levels[1:])]
    for number, (level, told) in enumerate(zip(levels, layout, strict=True)):
        for array in ("image", "valid"):
            node = read_node(tmp_path / "image.zarr" / level / array)
            for convention in (zarr_cm.spatial, *([zarr_cm.proj] if geobox.crs else [])):
                convention.validate_array_metadata(node)
            attributes = node["attributes"]
            assert node["dimension_names"][-2:] == attributes["spatial:dimensions"] == ["y", "x"]
            assert node["shape"][-2:] == attributes["spatial:shape"] == told["spatial:shape"]
            assert told["spatial:shape"] == [-(-side // 2**number) for side in geobox.shape]
            transform = Affine(*attributes["spatial:transform"])
            assert transform == geobox.affine @ Affine.scale(2**number) == Affine(*told["spatial:transform"])
            if geobox.crs:
                assert CRS(attributes.get("proj:code") or attributes["proj:wkt2"]) == geobox.crs
        image = xr.open_zarr(tmp_path / "image.zarr" / level, decode_coords="all", consolidated=False)["image"]
        assert image.rio.transform() == transform
        assert image.odc.geobox == GeoBox(image.shape[-2:], transform, geobox.crs)


def test_overviews_are_means_of_the_pixels_with_data(tmp_path: Path) -> None:
    """Where all have data, GDAL's; the last row and column of an odd size stand for themselves."""
    geobox = GeoBox((600, 1101), north_up(), "EPSG:26917")
    pixels, valid, read = source(geobox)
    valid[:300, :640] = True
    with zarr_image_writer(tmp_path / "image.zarr", geobox, BANDS, tags={}) as copy:
        copy(read)
    group = zarr.open_group(tmp_path / "image.zarr", mode="r")
    coarse = group["ovr_2x/image"][:]
    means = np.full((4, 300, 551), np.nan)
    for row, column in np.ndindex(300, 551):
        square = np.s_[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        if valid[square].any():
            means[:, row, column] = pixels[(slice(None), *square)][:, valid[square]].mean(axis=1)
    np.testing.assert_array_equal(group["ovr_2x/valid"][:], ~np.isnan(means[0]))
    np.testing.assert_array_equal(coarse, np.nan_to_num(np.floor(means + 0.5)))
    path = write_raster(tmp_path / "image.tif", pixels[:, :300, :640])
    with rasterio.open(path) as dataset:
        gdal = dataset.read(out_shape=(4, 150, 320), resampling=Resampling.average)
    np.testing.assert_array_equal(coarse[:, :150, :320], gdal)
    assert group["ovr_4x/image"].shape == (4, 150, 276)
    assert set(group.group_keys()) == {"ovr_2x", "ovr_4x"}


def test_realisations_lie_along_a_dimension(tmp_path: Path) -> None:
    geobox = GRIDS["south-up"]
    sources = [source(geobox, seed) for seed in range(3)]
    with zarr_image_writer(tmp_path / "image.zarr", geobox, BANDS, tags={}, num_samples=3) as copy:
        for sample, (_, _, read) in enumerate(sources):
            copy(read, sample)
    image = open_image(tmp_path / "image.zarr")
    assert image.dims == ("sample", "band", "y", "x")
    for sample, (pixels, valid, _) in enumerate(sources):
        np.testing.assert_array_equal(image.sel(sample=sample), np.where(valid, pixels, 0))


def test_places_without_data_take_no_room(tmp_path: Path) -> None:
    geobox = GeoBox((4200, 4200), north_up(), "EPSG:26917")

    def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
        shape = (window.height, window.width)
        return np.full((1, *shape), 9, np.uint8), np.full(shape, window == Window(4096, 4096, 104, 104))

    with zarr_image_writer(tmp_path / "image.zarr", geobox, ["grey"], tags={}) as copy:
        copy(read)
    stored = [path.relative_to(tmp_path / "image.zarr" / "image" / "c") for path in stored_in(tmp_path / "image.zarr")]
    assert stored == [Path("0/1/1")]
    assert zarr.open_array(tmp_path / "image.zarr" / "image").chunks == (1, 512, 512)


def stored_in(path: Path) -> list[Path]:
    return sorted(file for file in (path / "image" / "c").rglob("*") if file.is_file())


def test_equal_images_are_equal_files(tmp_path: Path) -> None:
    geobox = GRIDS["north-up"]
    _, _, read = source(geobox)
    contents = []
    for name in ("a.zarr", "b.zarr"):
        with zarr_image_writer(tmp_path / name, geobox, BANDS, tags={"SYNTHETIC": "yes"}) as copy:
            copy(read)
        files = sorted(file for file in (tmp_path / name).rglob("*") if file.is_file())
        contents.append({str(file.relative_to(tmp_path / name)): file.read_bytes() for file in files})
    assert contents[0] == contents[1]


def test_writing_one_gives_no_warning_of_zarr(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    geobox = GRIDS["north-up"]
    with zarr_image_writer(tmp_path / "image.zarr", geobox, BANDS, tags={}) as copy:
        copy(source(geobox)[2])
    assert [str(warning.message) for warning in recwarn if "zarr" in warning.filename] == []


@pytest.mark.parametrize("there", [False, True])
def test_an_error_leaves_what_was_there(there: bool, tmp_path: Path) -> None:
    geobox = GRIDS["south-up"]
    path = tmp_path / "image.zarr"
    pixels, valid, read = source(geobox)
    if there:
        with zarr_image_writer(path, geobox, BANDS, tags={}) as copy:
            copy(read)

    def fail(window: Window) -> tuple[np.ndarray, np.ndarray]:
        raise OSError(28, "No space left on device")

    with (
        pytest.raises(OutputError, match=r"image.zarr: cannot be written: No space left on device$"),
        zarr_image_writer(path, geobox, BANDS, tags={}) as copy,
    ):
        copy(fail)
    assert [entry.name for entry in tmp_path.iterdir()] == (["image.zarr"] if there else [])
    if there:
        np.testing.assert_array_equal(open_image(path), np.where(valid, pixels, 0))


def test_an_image_that_is_there_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "image.zarr"
    path.mkdir()
    (path / "stray").write_text("of an older image")
    with zarr_image_writer(path, GRIDS["south-up"], BANDS, tags={}) as copy:
        copy(source(GRIDS["south-up"])[2])
    assert not (path / "stray").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["image.zarr"]


@pytest.mark.parametrize("name", GRIDS)
def test_it_is_read_as_it_was_written(name: str, tmp_path: Path) -> None:
    """Also on a rotated grid, which has no coordinates."""
    geobox, tags = GRIDS[name], {"GEOSYNTH_SEED": "7"}
    pixels, valid, read = source(geobox)
    with zarr_image_writer(tmp_path / "image.zarr", geobox, BANDS, tags=tags) as copy:
        copy(read)
    window = Window(3, 5, 20, 30)
    for numbers in (None, (3, 4), (4, 2, 3)):
        image: Any = pickle.loads(pickle.dumps(images.open_image(tmp_path / "image.zarr", numbers)))
        rows = [number - 1 for number in image.bands]
        assert image.band_names == tuple(BANDS[row] for row in rows)
        assert (image.geobox.shape, image.geobox.crs) == (geobox.shape, geobox.crs)
        assert image.geobox.affine == geobox.affine, "not as coordinates round it"
        assert (image.mask_kind, image.is_full, image.tags) == ("mask", False, tags)
        found, has_data = image.read(window)
        np.testing.assert_array_equal(has_data, valid[window.slices])
        np.testing.assert_array_equal(found, (pixels * valid)[(rows, *window.slices)])


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_shard_is_written_in_the_memory_that_is_told(dtype: str, tmp_path: Path) -> None:
    geobox = GeoBox((2048, 1024), north_up(), None)
    told = writing_bytes(geobox, 4, dtype) * 4 / 5  # of which a fifth is for the allocator, which is hardly seen here
    noise = np.random.default_rng(0).integers(0, 256, (4, *geobox.shape), np.uint8)  # cannot be compressed

    def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
        valid = np.ones((window.height, window.width), bool)
        valid[0] = False
        return noise.astype(dtype), valid

    def peak(work: Callable[[], object]) -> int:
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    with zarr_image_writer(tmp_path / "a.zarr", geobox, BANDS, dtype=dtype, tags={}) as copy:
        taken = peak(lambda: copy(read))
    pixels, image = noise.astype(dtype), zarr.open_group(str(tmp_path / "a.zarr"))["image"]
    by_zarr = peak(lambda: image.__setitem__(..., pixels))
    assert by_zarr < taken < by_zarr + 1.5 * pixels.nbytes, "pixels are in memory once, beside what zarr takes"
    assert 0.7 * told < taken < 1.1 * told  # 1.06 with the oldest version of zarr, which has one more copy


def test_overviews_are_made_in_little_memory(tmp_path: Path) -> None:
    """A shard has 4096 x 4096 px of all bands, of which sums would take eight times the bytes."""
    pixels, valid = random_image(0, 2048, 2048), np.ones((2048, 2048), bool)
    with zarr_image_writer(
        tmp_path / "a.zarr", GeoBox.from_bbox((0, 0, 1, 1), shape=valid.shape), "rgbn", tags={}
    ) as copy:
        copy(lambda window: (pixels, valid))
        tracemalloc.start()
    try:
        assert tracemalloc.get_traced_memory()[1] < 4 * pixels.nbytes
    finally:
        tracemalloc.stop()


def test_it_is_shown_small_by_its_overviews(tmp_path: Path) -> None:
    geobox = GRIDS["north-up"]
    height, width = geobox.shape
    ramp = np.broadcast_to(np.linspace(1, 255, width).astype(np.uint8), (4, height, width)).copy()
    valid = np.ones((height, width), bool)
    valid[:, 2100:] = False
    path = tmp_path / "image.zarr"
    with zarr_image_writer(path, geobox, BANDS, tags={}) as copy:
        copy(lambda window: (ramp[(slice(None), *window.slices)], valid[window.slices]))
    image = images.open_image(path)
    small, has_data = image.read_reduced((13, 420), "average")
    assert (has_data[:, :209].all(), has_data[:, 211:].any()) == (True, False)
    means = ramp.reshape(4, 13, 10, 420, 10).mean(axis=(2, 4))
    np.testing.assert_allclose(small[:, :, :209], means[:, :, :209], atol=2)
    np.testing.assert_array_equal(image.read_reduced((height, width), "average")[0], ramp * valid)
    zarr.open_group(str(path / "ovr_8x"), mode="r+", use_consolidated=False)["image"][:] = 9
    assert (images.open_image(path).read_reduced((13, 420), "average")[0][:, :, :209] == 9).all()
