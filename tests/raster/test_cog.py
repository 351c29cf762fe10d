"""CogWriter: what is written is read back, whole or not at all, in any order of windows."""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio._env import del_gdal_config
from rasterio.errors import RasterioError
from rio_cogeo.cogeo import cog_validate

from geosynth.errors import OutputError
from geosynth.grid import TilePlan, Window
from geosynth.raster import cog
from geosynth.raster.cog import CogWriter
from geosynth.raster.preview import write_preview
from geosynth.raster.written import WrittenPixels
from rasters import NORTH_UP, UTM_18N, random_image


def geobox(height: int, width: int) -> GeoBox:
    return GeoBox((height, width), NORTH_UP, UTM_18N)


# What a user's environment may set for GDAL; each of these changed the bytes of a file, or made it unreadable.
OF_THE_ENVIRONMENT = {
    "COMPRESS_OVERVIEW": "JPEG",
    "GDAL_GEOREF_SOURCES": "NONE",
    "GDAL_TIFF_DEFLATE_SUBCODEC": "ZLIB",
    "GDAL_TIFF_ENDIANNESS": "BIG",
    "GDAL_TIFF_OVR_BLOCKSIZE": "64",
    "GTIFF_DONT_WRITE_BLOCKS": "YES",
    "INTERLEAVE_OVERVIEW": "BAND",
    "PHOTOMETRIC_OVERVIEW": "YCBCR",
    "PREDICTOR_OVERVIEW": "1",
    "TIFF_USE_OVR": "YES",
    "USE_RRD": "YES",
    "ZLEVEL_OVERVIEW": "9",
    "ZSTD_LEVEL_OVERVIEW": "1",
}


@pytest.mark.parametrize(("dtype", "compress"), [("uint8", "deflate"), ("float32", "zstd")])
def test_gdals_settings_in_the_environment_change_no_byte(
    dtype: str, compress: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pixels = random_image(0, 600, 600, 3).astype(dtype)
    valid = np.ones((600, 600), bool)
    valid[:50] = False

    def made() -> bytes:
        path = tmp_path / "image.tif"
        bands = ("red", "green", "blue")
        with CogWriter(path, geobox(600, 600), bands, dtype=dtype, compress=compress, masked=True, tags={}) as writer:
            writer.write(Window(0, 0, 600, 600), pixels, valid)
        assert [other.name for other in tmp_path.iterdir()] == ["image.tif"]
        return path.read_bytes()

    plain = made()
    for name, value in OF_THE_ENVIRONMENT.items():
        with monkeypatch.context() as environment:
            environment.setenv(name, value)
            try:
                assert made() == plain, name
            finally:
                del_gdal_config(name)  # rasterio restores it when it leaves an environment


@settings(max_examples=8)
@given(
    height=st.integers(1, 1100),
    width=st.integers(1, 1100),
    size=st.integers(200, 700),
    bands=st.sampled_from([("red", "green", "blue", "nir"), ("red", "green", "blue"), ("gray",), ("sar_vv", "sar_vh")]),
    seed=st.integers(0, 99),
)
def test_windows_in_any_order_are_read_back(
    height: int, width: int, size: int, bands: tuple[str, ...], seed: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (len(bands), height, width), dtype=np.uint8)
    valid = rng.random((height, width)) < 0.7
    out = tmp_path / f"{rng.integers(1 << 60)}.tif"
    windows = list(TilePlan(height, width, size))
    rng.shuffle(windows)  # type: ignore[arg-type]
    with CogWriter(out, geobox(height, width), bands, masked=True, tags={"KEY": "value"}) as writer:
        for window in windows:
            writer.write(window, pixels[(slice(None), *window.slices)], valid[window.slices])
    with rasterio.open(out) as dataset:
        np.testing.assert_array_equal(dataset.dataset_mask() > 0, valid)
        np.testing.assert_array_equal(dataset.read(), np.where(valid, pixels, 0))
        assert dataset.descriptions == bands
        assert "alpha" not in [interpretation.name for interpretation in dataset.colorinterp]
        assert dataset.tags()["KEY"] == "value"
        for band in np.flatnonzero([valid.any()] * len(bands)):  # statistics are of the pixels with data alone
            told = {name: float(value) for name, value in dataset.tags(int(band) + 1).items()}
            seen = pixels[band][valid].astype(float)
            assert told == {
                "STATISTICS_MINIMUM": seen.min(),
                "STATISTICS_MAXIMUM": seen.max(),
                "STATISTICS_MEAN": pytest.approx(seen.mean()),
                "STATISTICS_STDDEV": pytest.approx(seen.std(), abs=1e-6),
                "STATISTICS_VALID_PERCENT": pytest.approx(100 * valid.mean(), rel=1e-3),
            }
    # GDAL's COG driver keeps no overviews of a raster narrower than a block, which the strict check would like; of one
    # pixel's width the validator takes an overview for the image itself.
    if width > 1:
        is_valid, errors, _ = cog_validate(out, strict=min(height, width) >= 512, quiet=True)
        assert is_valid, errors


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_other_types_are_kept_as_they_are(dtype: str, tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    pixels = (np.random.default_rng(0).normal(0, 1, (2, 600, 700)) * 900 + 1000).astype(dtype)
    valid = pixels[0] > 500
    with CogWriter(out, geobox(600, 700), ["blue", "swir"], dtype=dtype, masked=True, tags={}) as writer:
        writer.write(Window(0, 0, 600, 700), pixels, valid)
    with rasterio.open(out) as dataset:
        assert dataset.dtypes == (dtype, dtype)
        np.testing.assert_array_equal(dataset.read(), np.where(valid, pixels, 0))
        np.testing.assert_array_equal(dataset.dataset_mask() > 0, valid)


def test_temporary_files_stand_in_the_folder_that_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "scratch"
    folder.mkdir()
    window = Window(0, 0, 600, 600)
    with CogWriter(tmp_path / "out.tif", geobox(600, 600), ["gray"], masked=False, tags={}, folder=folder) as writer:
        writer.write(window, np.ones((1, 600, 600), np.uint8), np.ones((600, 600), bool))
        assert len(list(folder.iterdir())) == 1
        assert [path.name for path in tmp_path.iterdir()] == ["scratch"]
    assert list(folder.iterdir()) == []


def test_a_long_name_leaves_room_for_those_beside_it(tmp_path: Path) -> None:
    out, window = tmp_path / f"{'x' * 239}.tif", Window(0, 0, 20, 20)
    with CogWriter(out, geobox(20, 20), ["gray"], masked=False, tags={}) as writer:
        writer.write(window, np.ones((1, 20, 20), np.uint8), np.ones((20, 20), bool))
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_windows_that_are_not_written_have_no_data(tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    with CogWriter(out, geobox(1024, 1024), ["gray"], masked=True, tags={}) as writer:
        writer.write(Window(0, 0, 512, 512), np.full((1, 512, 512), 7, np.uint8), np.ones((512, 512), bool))
    with rasterio.open(out) as dataset:
        expected = np.zeros((1024, 1024), bool)
        expected[:512, :512] = True
        np.testing.assert_array_equal(dataset.dataset_mask() > 0, expected)


def test_overviews_average_valid_pixels_only(tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    pixels = np.zeros((1, 1024, 1024), np.uint8)
    pixels[:, :, ::2] = 200
    valid = pixels[0] > 0
    with CogWriter(out, geobox(1024, 1024), ["gray"], masked=True, tags={}) as writer:
        writer.write(Window(0, 0, 1024, 1024), pixels, valid)
    with rasterio.open(out, overview_level=0) as overview:
        assert (overview.read(1) == 200).all(), "the pixels without data must not darken the overview"


def test_overviews_of_codes_hold_codes_of_the_raster(tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    codes = np.where(np.indices((1, 1100, 1100)).sum(0) % 2, 300, 1).astype(np.uint16)
    with CogWriter(
        out, geobox(1100, 1100), ["codes"], dtype="uint16", masked=False, tags={}, overviews="mode"
    ) as writer:
        writer.write(Window(0, 0, 1100, 1100), codes, np.ones((1100, 1100), bool))
    with rasterio.open(out, overview_level=0) as overview:
        assert set(np.unique(overview.read(1))) <= {1, 300}


def write_islands(out: Path, *, nodata: int | None) -> None:
    """Noise, a black block, a single one, and codes that are few, far from each other."""
    rng = np.random.default_rng(0)
    pixels, valid = np.zeros((1, 3000, 3000), np.uint8), np.zeros((3000, 3000), bool)
    pixels[0, 600:900, 600:800], valid[600:900, 600:800] = rng.integers(0, 9, (300, 200)), True
    valid[2048:2560, 512:1024] = True
    pixels[0, 2700, 2700] = valid[2700, 2700] = True
    with CogWriter(
        out,
        geobox(3000, 3000),
        ["gray"],
        masked=nodata is None,
        tags={},
        nodata=nodata,
        overviews="average" if nodata is None else "mode",
    ) as writer:
        for window in TilePlan(3000, 3000, 1000):
            writer.write(window, pixels[:, *window.slices], valid[window.slices])


@pytest.mark.parametrize("nodata", [None, 15])
def test_blocks_without_data_are_not_stored_and_read_as_if_they_were(
    nodata: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sparse, dense = tmp_path / "sparse.tif", tmp_path / "dense.tif"
    write_islands(sparse, nodata=nodata)
    copy = rasterio.shutil.copy
    monkeypatch.setattr(
        rasterio.shutil, "copy", lambda *files, **options: copy(*files, **options | {"sparse_ok": False})
    )
    monkeypatch.setattr(cog, "writing_environment", lambda **_: rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True))
    write_islands(dense, nodata=nodata)
    for level in (None, 0, 1, 2):
        options = {} if level is None else {"overview_level": level}
        with rasterio.open(sparse, **options) as one, rasterio.open(dense, **options) as other:
            np.testing.assert_array_equal(one.read(), other.read())
            np.testing.assert_array_equal(one.dataset_mask(), other.dataset_mask())
            assert one.tags(1) == other.tags(1)
            if level is None:
                told = {name: float(value) for name, value in one.tags(1).items()}
                seen = one.read(1)[one.dataset_mask() > 0]
                shown = seen.min(), seen.max(), seen.mean(), seen.std()
                assert [
                    told[f"STATISTICS_{name}"] for name in ("MINIMUM", "MAXIMUM", "MEAN", "STDDEV")
                ] == pytest.approx(shown)
            stored = [one.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=1) for (y, x), _ in one.block_windows(1)]
            assert None in stored or one.shape[0] < 1000
            assert any(stored)
    assert sparse.stat().st_size < dense.stat().st_size
    assert cog_validate(sparse, strict=True, quiet=True)[0]


@pytest.mark.parametrize("damaged", [(0, 0), (40, 30), (63, 63)])
def test_each_window_is_read_back(tmp_path: Path, damaged: tuple[int, int]) -> None:
    """Several threads read, each some of the windows."""
    written, pixels, path = WrittenPixels(), np.full((2, 64, 64), 7, np.uint8), tmp_path / "image.tif"
    for row, column in itertools.product(range(0, 64, 8), repeat=2):
        written.add(Window(row, column, 8, 8), pixels[:, :8, :8])
    for is_right in (True, False):
        with rasterio.open(path, "w", driver="GTiff", height=64, width=64, count=2, dtype="uint8") as dataset:
            dataset.write(pixels)
        with nullcontext() if is_right else pytest.raises(RasterioError, match="cannot be read back"):
            written.check(path)
        pixels[1, *damaged] = 8


def test_a_block_that_an_overview_lost_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = rasterio.shutil.copy

    def lossy(source: str, out: str, **options: object) -> None:
        with rasterio.open(source, "r+") as dataset:
            pixels = dataset.read()
            dataset.write(np.zeros_like(pixels))
            dataset.build_overviews([2, 4, 8])
            dataset.write(pixels)
        copy(source, out, **options)

    monkeypatch.setattr(rasterio.shutil, "copy", lossy)
    with pytest.raises(OutputError, match="its overviews have holes"):
        write_islands(tmp_path / "out.tif", nodata=None)
    assert not list(tmp_path.iterdir())


def test_sidecars_of_an_overwritten_image_go(tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    for sidecar in (".aux.xml", ".ovr", ".msk"):
        Path(f"{out}{sidecar}").write_text("of the old image")
    with CogWriter(out, geobox(64, 64), ["gray"], masked=False, tags={}) as writer:
        writer.write(Window(0, 0, 64, 64), np.ones((1, 64, 64), np.uint8), np.ones((64, 64), bool))
    assert [path.name for path in tmp_path.iterdir()] == ["out.tif"]


def test_a_file_that_cannot_be_made_leaves_no_folder_and_no_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    def settings() -> object:  # of GDAL in this thread, which another test may have left on
        return rasterio.env.getenv() if rasterio.env.hasenv() else None

    before = settings()
    monkeypatch.setattr("geosynth.raster.cog.rasterio.open", fail)
    with (
        pytest.raises(OutputError, match="No space left"),
        CogWriter(tmp_path / "new" / "folder" / "out.tif", geobox(64, 64), ["gray"], masked=False, tags={}),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
    assert settings() == before


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    with (
        pytest.raises(error),
        CogWriter(tmp_path / "new" / "out.tif", geobox(600, 600), ["gray"], masked=True, tags={}) as writer,
    ):
        writer.write(Window(0, 0, 512, 512), np.zeros((1, 512, 512), np.uint8), np.ones((512, 512), bool))
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_failing_disk_is_one_line_and_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.tif"
    out.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("geosynth.raster.cog.rasterio.shutil.copy", fail)
    with (
        pytest.raises(OutputError, match=r"out\.tif: cannot be written: .*No space left"),
        CogWriter(out, geobox(64, 64), ["gray"], masked=False, tags={}) as writer,
    ):
        writer.write(Window(0, 0, 64, 64), np.zeros((1, 64, 64), np.uint8), np.ones((64, 64), bool))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["red", "green", "blue", "nir"], (10, 20, 30)),
        (["blue", "green", "red", "nir"], (30, 20, 10)),
        (["nir", "red", "green", "blue"], (20, 30, 40)),
        (["a", "b", "c", "d"], (10, 20, 30)),
        (["vv", "vh"], (10, 20, 20)),
        (["pan"], (10, 10, 10)),
    ],
)
def test_the_preview_has_natural_colours(tmp_path: Path, names: list[str], shown: tuple[int, int, int]) -> None:
    out = tmp_path / "out.tif"
    pixels = np.arange(10, 10 * len(names) + 1, 10, dtype=np.uint8)[:, None, None] * np.ones((1, 40, 50), np.uint8)
    with CogWriter(out, geobox(40, 50), names, masked=True, tags={}) as writer:
        writer.write(Window(0, 0, 40, 50), pixels, np.ones((40, 50), bool))
    write_preview(out, tmp_path / "out.png")
    with rasterio.open(tmp_path / "out.png") as png:
        assert tuple(png.read()[:3, 20, 20]) == shown


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32"])
def test_the_preview_of_other_values_than_bytes_is_stretched(tmp_path: Path, dtype: str) -> None:
    out = tmp_path / "out.tif"
    pixels = np.broadcast_to(np.linspace(100, 1100, 101), (3, 60, 101)).astype(dtype)
    valid = np.ones((60, 101), bool)
    valid[:30] = False
    with CogWriter(out, geobox(60, 101), ["red", "green", "blue"], dtype=dtype, masked=True, tags={}) as writer:
        writer.write(Window(0, 0, 60, 101), pixels, valid)
    write_preview(out, tmp_path / "out.png")
    with rasterio.open(tmp_path / "out.png") as png:
        red, alpha = png.read(1), png.read(4)
    np.testing.assert_array_equal(alpha == 255, valid)
    assert (red[40, :3] == 0).all()
    assert (red[40, -3:] == 255).all()
    np.testing.assert_allclose(red[40, 3:-3], 255 * (np.arange(3, 98) - 2) / 96, atol=0.51)


def test_the_preview_is_small_and_transparent_without_data(tmp_path: Path) -> None:
    out = tmp_path / "out.tif"
    valid = np.ones((900, 1800), bool)
    valid[:, :900] = False
    with CogWriter(out, geobox(900, 1800), ["red", "green", "blue", "nir"], masked=True, tags={}) as writer:
        writer.write(Window(0, 0, 900, 1800), np.full((4, 900, 1800), 90, np.uint8), valid)
    write_preview(out, tmp_path / "out.png")
    with rasterio.open(tmp_path / "out.png") as png:
        assert png.shape == (512, 1024)
        red, alpha = png.read(1), png.read(4)
    assert (alpha[:, :512] == 0).all()
    assert (alpha[:, 512:] == 255).all()
    assert (red[:, 512:] == 90).all()


def test_a_long_finish_in_a_process_apart_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, valid = random_image(0, 1100, 600, 4), np.random.default_rng(1).random((1100, 600)) < 0.5
    for name, long in (("here.tif", 1 << 62), ("apart.tif", 1)):
        monkeypatch.setattr(cog, "_LONG", long)
        bands = ["red", "green", "blue", "nir"]
        with CogWriter(tmp_path / name, geobox(1100, 600), bands, masked=True, tags={"SYNTHETIC": "yes"}) as writer:
            writer.write(Window(0, 0, 1100, 600), pixels, valid)
    assert (tmp_path / "apart.tif").read_bytes() == (tmp_path / "here.tif").read_bytes()
