"""The summary of realisations: numpy's moments of their files, window by window, one realisation at a time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from odc.geo.geobox import GeoBox

import geosynth
from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from geosynth.config.bands import Quantity
from geosynth.errors import OutputError, RasterError, SettingsError
from geosynth.grid import Window
from geosynth.mosaic import batch
from geosynth.mosaic.summary import Moments, _summarise, summary_tags, write_summary
from rasters import NORTH_UP, UTM_18N, draw_labels, random_image, write_raster

FP32 = GenerateSettings(precision="fp32", block_size=128)
BANDS = ("red", "green", "blue", "nir")
NDVI = [f"ndvi_{what}" for what in ("mean", "std", "min", "max")]


def moments_of(stack: np.ndarray, *, ndvi: bool = True) -> np.ndarray:
    """What a summary holds of (samples, bands, height, width), by numpy."""
    stack = stack.astype(float)
    layers = [*stack.mean(0), *stack.std(0, ddof=1)]
    if ndvi:
        red, nir = stack[:, 0], stack[:, 3]
        index = np.divide(nir - red, nir + red, out=np.zeros_like(red), where=nir + red > 0)
        layers += [index.mean(0), index.std(0, ddof=1), index.min(0), index.max(0)]
    return np.stack(layers)


@given(arrays(np.uint8, st.tuples(st.integers(2, 6), st.integers(1, 4), st.integers(1, 4))))
def test_moments_are_those_of_numpy(values: np.ndarray) -> None:
    moments = Moments()
    for one in values.astype(float):
        moments.add(one)
    np.testing.assert_allclose(moments.mean, values.mean(0), atol=1e-9)
    np.testing.assert_allclose(moments.deviation, values.std(0, ddof=1), atol=1e-6)
    np.testing.assert_array_equal((moments.low, moments.high), (values.min(0), values.max(0)))


def test_ndvi_is_nothing_where_both_bands_are() -> None:
    stack = np.array([[[[0, 9, 200]], [[1, 2, 3]], [[4, 5, 6]], [[0, 90, 0]]], [[[0, 0, 50]]] * 4], np.uint8)
    readers = [lambda window, one=one: (one, np.ones(one.shape[1:], bool)) for one in stack]
    found = _summarise(Window(0, 0, 1, 3), readers, (0, 3))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, moments_of(stack), rtol=1e-6)
    np.testing.assert_allclose(_summarise(Window(0, 0, 1, 3), readers, None), moments_of(stack, ndvi=False), rtol=1e-6)


def test_values_less_than_nothing_are_nothing_to_ndvi_as_in_a_report() -> None:
    stack = np.array([[[[-100, 50, -9]], [[120, 150, -9]]]] * 2, np.int16)
    readers = [lambda window, one=one: (one, np.ones(one.shape[1:], bool)) for one in stack]
    mean, _, low, high = _summarise(Window(0, 0, 1, 3), readers, (0, 1))[4:]
    for layer in (mean, low, high):
        np.testing.assert_allclose(layer, [[1, 0.5, 0]], rtol=1e-6)


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
def test_the_summary_is_that_of_the_files(suffix: str, tmp_path: Path, tiny_model: GeneratorModel) -> None:
    codes = draw_labels(140, 90)
    codes[100:, 40:] = 15
    labels = write_raster(tmp_path / "labels.tif", codes, NORTH_UP, crs=UTM_18N, nodata=15)
    made = geosynth.generate_many(labels, tmp_path / f"image{suffix}", tiny_model, FP32, samples=3, summary=True)
    assert made[-1] == tmp_path / "image_summary.tif"
    if suffix == ".zarr":
        stack = xr.open_zarr(made[0])["image"].to_numpy()
    else:
        stack = np.stack([rasterio.open(path).read() for path in made[:-1]])
    assert len(stack) == 3
    assert (stack[0] != stack[1]).any()
    with rasterio.open(made[-1]) as summary:
        assert summary.descriptions == (*(f"{name}_{what}" for what in ("mean", "std") for name in BANDS), *NDVI)
        assert set(summary.dtypes) == {"float32"}
        assert (summary.crs, summary.transform) == (UTM_18N, NORTH_UP)
        assert summary.tags()["GEOSYNTH_SUMMARY"] == "of 3 realisations"
        valid = summary.dataset_mask() > 0
        np.testing.assert_array_equal(valid, codes != 15)
        np.testing.assert_allclose(summary.read()[:, valid], moments_of(stack)[:, valid], atol=1e-4)
    before = made[-1].read_bytes()
    if suffix == ".tif":  # the same call again finds all made
        assert geosynth.generate_many(labels, tmp_path / "image.tif", tiny_model, FP32, samples=3, summary=True) == made
        assert made[-1].read_bytes() == before
        with pytest.raises(OutputError, match=r"image_summary\.tif: already exists, made differently"):
            geosynth.generate_many(labels, tmp_path / "image.tif", tiny_model, FP32, samples=4, summary=True)


def test_labels_may_have_the_name_of_a_summary_that_nobody_wants(tmp_path: Path, tiny_model: GeneratorModel) -> None:
    labels = write_raster(tmp_path / "image_summary.tif", draw_labels(32, 32), NORTH_UP, crs=UTM_18N)
    assert geosynth.generate_many(labels, tmp_path / "image.tif", tiny_model, FP32) == [tmp_path / "image.tif"]
    with pytest.raises(OutputError, match=r"image_summary\.tif: is also an input and would be lost"):
        geosynth.generate_many(labels, tmp_path / "image.tif", tiny_model, FP32, samples=2, summary=True)


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
def test_a_kill_before_the_summary_is_made_up_for(
    suffix: str, tmp_path: Path, tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = write_raster(tmp_path / "labels.tif", draw_labels(64, 64), NORTH_UP, crs=UTM_18N)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(batch, "write_summary", stop)
        geosynth.generate_many(labels, tmp_path / f"image{suffix}", tiny_model, FP32, samples=2, summary=True)
    assert not (tmp_path / "image_summary.tif").exists()
    geosynth.generate_many(labels, tmp_path / f"image{suffix}", tiny_model, FP32, samples=2, summary=True)
    numbers = {f"image_{number}.tif" for number in range(2)} if suffix == ".tif" else {"image.zarr"}
    assert {path.name for path in tmp_path.iterdir()} == {"labels.tif", "image_summary.tif", *numbers}


def test_realisations_are_read_window_by_window_one_after_the_other(tmp_path: Path) -> None:
    stack, seen = random_image(0, 700, 600, 15).reshape(5, 3, 700, 600), []

    def reader(number: int):  # type: ignore[no-untyped-def]
        def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
            seen.append((number, window.height * window.width))
            return stack[number][:, *window.slices], np.ones((window.height, window.width), bool)

        return read

    grid = GeoBox((700, 600), NORTH_UP, "EPSG:32618")
    readers = [reader(number) for number in range(5)]
    told = []

    def tell(done: int, total: int) -> None:
        told.append((done, total))
        assert len(list((tmp_path / ".a_summary.tif.unfinished").glob("*.partial*"))) == 1, "where leftovers are sought"

    bands = ("green", "blue", "nir")
    out = write_summary(tmp_path / "a.tif", grid, bands, readers, {"SYNTHETIC": "yes"}, progress=tell)
    assert told == [(done, 4) for done in (1, 2, 3, 4)]
    assert max(pixels for _, pixels in seen) <= 512**2
    with rasterio.open(out) as summary:
        assert summary.count == 6, "no NDVI without red"
        np.testing.assert_allclose(summary.read(), moments_of(stack, ndvi=False), atol=1e-4)
    with pytest.raises(OutputError, match=r"a_summary\.tif: already exists, made differently"):
        write_summary(tmp_path / "a.tif", grid, bands, readers, {"SYNTHETIC": "no"})
    with rasterio.open(
        write_summary(out.with_name("a.tif"), grid, bands, readers, {"SYNTHETIC": "no"}, overwrite=True)
    ) as new:
        assert new.tags()["SYNTHETIC"] == "no"
    two = [
        lambda window, one=one: (one[:2, *window.slices], np.ones(one.shape[1:], bool)[window.slices]) for one in stack
    ]
    with rasterio.open(write_summary(tmp_path / "b.tif", grid, ("RED", "nir"), two, {"SYNTHETIC": "yes"})) as summary:
        assert summary.descriptions == ("RED_mean", "nir_mean", "RED_std", "nir_std", *NDVI)


def test_data_are_where_the_first_has_data(tmp_path: Path) -> None:
    """And a tile where it has none stays empty."""
    stack, valid = random_image(0, 520, 40, 8).reshape(2, 4, 520, 40), np.ones((2, 520, 40), bool)
    valid[0, :30], valid[0, 512:], valid[1, 100:] = False, False, False
    steps: list[tuple[int, int]] = []

    def reader(number: int):  # type: ignore[no-untyped-def]
        return lambda window: (stack[number][:, *window.slices], valid[number][window.slices])

    out = write_summary(
        tmp_path / "a.tif",
        GeoBox((520, 40), NORTH_UP, "EPSG:32618"),
        BANDS,
        [reader(0), reader(1)],
        {"SYNTHETIC": "yes"},
        progress=lambda done, total: steps.append((done, total)),
    )
    with rasterio.open(out) as summary:
        np.testing.assert_array_equal(summary.dataset_mask() > 0, valid[0])
        np.testing.assert_allclose(summary.read()[:, valid[0]], moments_of(stack)[:, valid[0]], atol=1e-4)
    assert steps == [(1, 2), (2, 2)]


def test_it_means_what_the_moments_of_the_meant_values_are(tmp_path: Path) -> None:
    stack, valid = random_image(0, 9, 8, 8).reshape(2, 4, 9, 8).astype(np.float64), np.ones((9, 8), bool)
    scales, offsets = (0.5, 1, -2, 0.25), (1, 0, 600, 2)
    out = write_summary(
        tmp_path / "a.tif",
        GeoBox((9, 8), NORTH_UP, "EPSG:32618"),
        BANDS,
        [lambda window, one=one: (one, valid) for one in stack],
        {"SYNTHETIC": "yes"},
        quantities=[Quantity(scale=scale, offset=offset) for scale, offset in zip(scales, offsets, strict=True)],
    )
    meant = stack * np.reshape(scales, (4, 1, 1)) + np.reshape(offsets, (4, 1, 1))
    with rasterio.open(out) as summary:
        told = summary.read() * np.reshape(summary.scales, (12, 1, 1)) + np.reshape(summary.offsets, (12, 1, 1))
    np.testing.assert_allclose(told, moments_of(meant), atol=1e-4)


def test_what_is_no_image_is_replaced_only_where_that_is_said(tmp_path: Path) -> None:
    def read(window: Window) -> tuple[np.ndarray, np.ndarray]:
        return np.ones((1, window.height, window.width), np.uint8), np.ones((window.height, window.width), bool)

    (tmp_path / "a_summary.tif").write_text("no image")
    given = (tmp_path / "a.tif", GeoBox((9, 8), NORTH_UP, "EPSG:32618"), ("red",), [read, read], {"SYNTHETIC": "yes"})
    with pytest.raises(RasterError, match=r"a_summary\.tif: cannot be opened"):
        write_summary(*given)
    with rasterio.open(write_summary(*given, overwrite=True)) as summary:
        assert summary.descriptions == ("red_mean", "red_std")


def test_a_summary_says_what_it_is_made_of() -> None:
    tags = summary_tags({"GEOSYNTH_SEED": "5", "IMAGEDESCRIPTION": "one"}, [5, 2**63 - 1])
    assert json.loads(tags["GEOSYNTH_SAMPLE_SEEDS"]) == [5, 2**63 - 1]
    assert tags["GEOSYNTH_SEED"] == "5"
    assert "not an observation" in tags["IMAGEDESCRIPTION"]


def test_one_image_has_no_spread(tmp_path: Path, tiny_model: GeneratorModel) -> None:
    with pytest.raises(SettingsError, match="a summary needs several realisations"):
        geosynth.generate_many(tmp_path / "labels.tif", tmp_path / "image.tif", tiny_model, summary=True)
