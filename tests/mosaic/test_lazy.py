"""The lazy image: equal to the file, painted only where it is asked for, honest about its labels."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from rasterio.transform import Affine

import geosynth
from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from geosynth.errors import CheckpointError, DataError, GridError, LegendError
from geosynth.mosaic.painter import LabelledWindow, Painter
from geosynth.mosaic.portable import PortablePainter
from geosynth.raster.mark import MARK, read_mark
from rasters import NORTH_UP, draw_labels, pixels_of, write_class_table

Write = Callable[..., Path]
SETTINGS = GenerateSettings(precision="fp32", block_size=128, seed=3)


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The windows that have been painted since."""
    windows: list[object] = []
    paint = Painter.paint

    def count(self: Painter, labels: LabelledWindow) -> object:
        windows.append(labels.window)
        return paint(self, labels)

    monkeypatch.setattr(Painter, "paint", count)
    return windows


def with_holes(height: int = 140, width: int = 201) -> np.ndarray:
    codes = draw_labels(height, width)
    codes[100:, 100:170] = 15
    codes[0:3, 0:2] = 0
    return codes


OPENED = {
    "in its file": {},
    "masked": {"masked": True},
    "in chunks that do not divide": {"chunks": {"y": 77, "x": 60}},
    "in one chunk, masked": {"chunks": {"y": -1, "x": -1}, "masked": True},
}


@pytest.mark.parametrize(("way", "south_up"), [*((way, False) for way in OPENED), ("in its file", True)])
def test_it_equals_the_file_pixel_for_pixel(
    way: str, south_up: bool, write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    transform = Affine(1.0, 0.0, 384517.0, 0.0, 1.0, 4310393.0) if south_up else NORTH_UP
    path = write_raster(with_holes(), nodata=15, transform=transform)
    labels = rioxarray.open_rasterio(path, **OPENED[way])
    image = geosynth.generate(labels, model=tiny_model, settings=SETTINGS)
    assert dask.is_dask_collection(image)

    file = rioxarray.open_rasterio(geosynth.generate(path, tmp_path / "image.tif", tiny_model, SETTINGS))
    np.testing.assert_array_equal(image, file)
    assert image.dtype == file.dtype
    assert image.rio.crs == file.rio.crs
    assert image.rio.transform() == file.rio.transform()
    for name in ("y", "x"):
        np.testing.assert_array_equal(image[name], labels[name])
    with rasterio.open(file.encoding["source"]) as dataset:
        np.testing.assert_array_equal(image.valid, dataset.dataset_mask() > 0)
        assert tuple(image.band.values) == dataset.descriptions == image.attrs["long_name"]
        assert {key: image.attrs[key] for key in ("SYNTHETIC", "GEOSYNTH_SEED", "GEOSYNTH_MODEL_SHA256")}.items() <= (
            dataset.tags().items()
        )
        assert image.attrs.items() >= MARK.items() == read_mark(dataset).items()


def test_it_can_be_kept_in_zarr(write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel) -> None:
    labels = write_raster(with_holes(300, 421), nodata=15)
    image = geosynth.generate(labels, model=tiny_model, settings=SETTINGS)
    image.chunk(y=64, x=64).to_zarr(tmp_path / "image.zarr")
    kept = xr.open_zarr(tmp_path / "image.zarr", decode_coords="all")["image"]
    xr.testing.assert_equal(kept.drop_attrs(), image.drop_attrs())
    assert kept.rio.crs == image.rio.crs
    assert kept.rio.transform() == image.rio.transform()
    assert kept.attrs == image.attrs | {"long_name": list(image.attrs["long_name"])}
    assert "digital_source_type" in geosynth.info(tmp_path / "image.zarr")


def test_what_is_not_asked_for_is_not_painted(
    write_raster: Write, tiny_model: GeneratorModel, painted: list[object]
) -> None:
    labels = rioxarray.open_rasterio(write_raster(draw_labels(300, 421)))
    image = geosynth.generate(labels, model=tiny_model, settings=SETTINGS)
    assert painted == []
    red = image.sel(band="red").isel(y=slice(0, 50), x=slice(0, 50))
    corner = image.rio.clip_box(*image.isel(y=slice(130, 140), x=slice(120, 135)).rio.bounds())
    assert image.valid.all()
    assert painted == []
    assert red.compute().shape == (50, 50)
    assert len(painted) == 1
    np.testing.assert_array_equal(corner, image.compute().isel(y=slice(130, 140), x=slice(120, 135)))
    assert len(painted) == 1 + 2 + 3 * 4
    # One network run gives all bands, also to arithmetic over them.
    painted.clear()
    (image.sel(band="nir").astype(float) - image.sel(band="red")).isel(y=0, x=0).compute()
    assert len(painted) == 1


def test_labels_beyond_a_blocks_halo_are_not_read(tiny_model: GeneratorModel) -> None:
    read = []

    def chunk(block_info: dict) -> np.ndarray:
        place = block_info[None]["array-location"]
        read.append(tuple(start for start, _ in place))
        return np.full([stop - start for start, stop in place], 2, np.uint8)

    codes = da.map_blocks(chunk, chunks=((64,) * 32, (64,) * 32), dtype=np.uint8, meta=np.empty((0, 0), np.uint8))
    image = geosynth.generate(on_grid(codes), model=tiny_model, settings=SETTINGS)
    read.clear()
    image.isel(y=1024, x=1030).compute()
    reach = tiny_model.card.settings.halo + tiny_model.card.settings.stride + 16  # 16 px fill holes
    assert read
    assert min(min(read)) >= 1024 - reach - 64
    assert max(max(read)) <= 1024 + SETTINGS.block_size + reach


def test_blocks_without_data_cost_nothing(tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = []
    run = Painter.run
    monkeypatch.setattr(Painter, "run", lambda self, those, *inputs: cells.extend(those) or run(self, those, *inputs))
    labels = on_grid(np.full((256, 384), 15, np.uint8)).rio.write_nodata(15)
    labels[0, 0] = 3
    image = geosynth.generate(labels, model=tiny_model, settings=SETTINGS).compute()
    assert len(cells) == 1
    assert (image.values[:, np.arange(256)[:, None] + np.arange(384) > 0] == 0).all()
    assert image.where(image.valid).isnull().sum() == 4 * (256 * 384 - 1)


def test_a_code_that_stands_for_no_data_need_not_be_known(tiny_model: GeneratorModel) -> None:
    codes = draw_labels(140, 201)
    codes[50:90, 60:130] = 77
    image = geosynth.generate(on_grid(codes).rio.write_nodata(77), model=tiny_model, settings=SETTINGS)
    pixels = image.data.compute()
    assert (pixels[:, codes == 77] == 0).all()
    assert pixels[:, codes != 77].any()


def test_an_unknown_code_is_told_when_its_block_is_computed(tiny_model: GeneratorModel) -> None:
    codes = draw_labels(256, 1024)
    codes[10, 1000] = 99
    image = geosynth.generate(on_grid(codes).rename("cover"), model=tiny_model, settings=SETTINGS)
    assert image.isel(x=slice(0, 128)).compute().dtype == np.uint8
    part = image.isel(x=slice(-10, None))
    for what in (part.data, part.valid.data):
        with pytest.raises(
            LegendError, match=r"labels 'cover', rows .*: codes that legend 'chesapeake' does not know: 99 \(1 px\)"
        ):
            what.compute()


def test_another_legend_is_matched_by_class_name(tiny_model: GeneratorModel) -> None:
    """Also under codes that no float64 tells apart."""
    codes = draw_labels(128, 128)
    plain = geosynth.generate(on_grid(codes), model=tiny_model, settings=SETTINGS)
    for dtype, factor, shift in ((np.int32, 10, 0), (np.int64, 1, 2**53)):
        classes = [{"code": factor * c.code + shift, "name": c.name} for c in tiny_model.card.legend.classes]
        legend = geosynth.Legend.from_values({"name": "other", "classes": classes})
        labels = on_grid(factor * codes.astype(dtype) + dtype(shift))
        np.testing.assert_array_equal(
            plain, geosynth.generate(labels, model=tiny_model, settings=SETTINGS, legend=legend)
        )


def test_settings_can_be_said_in_words(tiny_model: GeneratorModel) -> None:
    labels = on_grid(draw_labels(100, 90))
    image = geosynth.generate(labels, model=tiny_model, seed=3, precision="fp32", block_size=128)
    np.testing.assert_array_equal(image, geosynth.generate(labels, model=tiny_model, settings=SETTINGS))
    other = geosynth.generate(labels, model=tiny_model, settings=SETTINGS, seed=4)
    assert (other != image).mean() > 0.5


@pytest.mark.parametrize("own_table", [False, True])
def test_all_that_is_said_of_a_file_can_be_said_of_a_lazy_image(
    own_table: bool, write_raster: Write, tmp_path: Path, told_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    classes = [{"code": 10 * entry.code, "name": entry.name} for entry in told_model.card.legend.classes]
    tens = geosynth.Legend.from_values({"name": "tens", "classes": classes})
    codes = 10 * np.kron(draw_labels(60, 70), np.ones((2, 2), np.uint8))
    codes[:4, :6] = 77
    labels = write_raster(codes, transform=NORTH_UP @ NORTH_UP.scale(0.5))
    image = np.random.default_rng(0).integers(1, 120, (4, 64, 64)).astype(np.uint8)
    said = {
        "model": told_model.path,
        "settings": SETTINGS,
        "legend": tens,
        "style": write_raster(image, "like.tif"),
        "style_labels": write_raster(10 * draw_labels(64, 64), "like_labels.tif"),
        "resample": "mode",
        "unknown": "nodata",
        "device": "cpu",
    }
    out = geosynth.generate(labels, tmp_path / "image.tif", **said)
    if own_table:
        expected = pixels_of(out)
        for path in (labels, said["style_labels"]):
            write_class_table(path, tens)
        said["legend"] = "from-raster"
        out = geosynth.generate(labels, tmp_path / "again.tif", **said)
        np.testing.assert_array_equal(pixels_of(out), expected)
    devices = []
    monkeypatch.setattr(
        "geosynth.mosaic.inputs.load_generator", lambda model, device: devices.append(device) or told_model
    )
    for given in (labels, labels if own_table else rioxarray.open_rasterio(labels)):
        lazy = geosynth.generate(given, **(said | {"device": "cuda:1"}))
        with rasterio.open(out) as file:
            np.testing.assert_array_equal(lazy, file.read())
            np.testing.assert_array_equal(lazy.valid, file.dataset_mask() > 0)
            assert not lazy.valid.all()
            tags = {name: value for name, value in file.tags().items() if name.startswith("GEOSYNTH")}
        told = {name: value for name, value in lazy.attrs.items() if name.startswith("GEOSYNTH")}
        assert told.pop("GEOSYNTH_LABELS") in ("labels.tif", "labels")
        assert told.items() <= tags.items()
        assert tags.keys() - told.keys() == {"GEOSYNTH_LABELS", "GEOSYNTH_LABELS_DIGEST", "GEOSYNTH_CLASS_PIXELS"}
    assert devices == ["cuda:1", "cuda:1"]


def on_grid(codes: np.ndarray | da.Array) -> xr.DataArray:
    height, width = codes.shape
    coords = {"y": 4310392.5 - np.arange(height), "x": 384517.5 + np.arange(width)}
    return xr.DataArray(codes, dims=("y", "x"), coords=coords).rio.write_crs("EPSG:26918")


def uneven(labels: xr.DataArray) -> xr.DataArray:
    return labels.assign_coords(x=labels.x + (np.arange(labels.sizes["x"]) == 7) * 0.3)


REFUSED = {
    "uneven": (uneven, GridError, "uneven coordinates along 'x'"),
    "rotated": (lambda labels: labels.drop_vars(["x", "y"]), GridError, "no coordinates along 'y'.* rotated"),
    "other names": (lambda labels: labels.rename(x="i", y="j"), GridError, "no dimensions y and x"),
    "two layers": (lambda labels: xr.concat([labels, labels], "time"), DataError, r"more than one layer \(time 2\)"),
    "colours of other bands": (
        lambda labels: xr.concat([labels] * 3, "band").assign_coords(band=["nir", "red", "green"]),
        DataError,
        r"more than one layer \(band 3\).* \(colours are bytes over band: red, green, blue\)",
    ),
    "words": (lambda labels: labels.astype(str), DataError, "class codes are integers"),
    "booleans": (
        lambda labels: (labels > 2).assign_attrs(_FillValue=15),  # of the codes, as xarray keeps it
        DataError,
        r"bool values; class codes are integers \(.astype\('uint8'\) makes them 0 and 1\)",
    ),
    "no column": (lambda labels: labels.isel(x=[]), GridError, "no pixel along 'x'"),
    "one column, size unknown": (lambda labels: labels.isel(x=[0]), GridError, "one pixel along 'x'"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_placed_or_read_is_refused_by_name(what: str, tiny_model: GeneratorModel) -> None:
    change, error, message = REFUSED[what]
    labels = change(on_grid(draw_labels(40, 50)).rename("cover"))
    with pytest.raises(error, match="labels 'cover': .*" + message):
        geosynth.generate(labels, model=tiny_model, settings=SETTINGS)


def test_a_rotated_file_is_refused(write_raster: Write, tiny_model: GeneratorModel) -> None:
    turned = NORTH_UP @ Affine.rotation(20)
    with pytest.raises(GridError, match="rotated"):
        geosynth.generate(
            rioxarray.open_rasterio(write_raster(draw_labels(40, 50), transform=turned)), model=tiny_model
        )


def test_fractions_are_no_codes(tiny_model: GeneratorModel) -> None:
    labels = on_grid(draw_labels(40, 50).astype(np.float32)) + 0.5
    with pytest.raises(DataError, match="class codes are whole numbers"):
        geosynth.generate(labels, model=tiny_model, settings=SETTINGS).compute()


def test_a_strip_of_one_pixel_keeps_the_size_of_its_pixels(write_raster: Write, tiny_model: GeneratorModel) -> None:
    labels = rioxarray.open_rasterio(write_raster(draw_labels(1, 50)))
    image = geosynth.generate(labels, model=tiny_model, settings=SETTINGS)
    assert image.rio.transform() == NORTH_UP


def test_a_painter_travels_as_the_path_of_its_model(tiny_model: GeneratorModel, tmp_path: Path) -> None:
    def parcel_of(model: GeneratorModel) -> bytes:
        return pickle.dumps(PortablePainter(Painter(model, SETTINGS, 2048)))

    parcel = parcel_of(tiny_model)
    assert len(parcel) < 2000
    first, second = pickle.loads(parcel), pickle.loads(parcel)
    assert first is second, "loaded once in a process"
    copy = tmp_path / "model.safetensors"
    copy.write_bytes(tiny_model.path.read_bytes())
    parcel = parcel_of(geosynth.load_generator(copy))
    copy.write_bytes(geosynth.load_generator().path.read_bytes())
    with pytest.raises(CheckpointError, match="another file"):
        pickle.loads(parcel)


def test_equal_work_has_equal_names(tiny_model: GeneratorModel) -> None:
    """So that dask computes it once, and xarray need not compare `valid` when it combines images."""
    labels = on_grid(da.from_array(draw_labels(100, 90), chunks=64))
    first, again, other = (geosynth.generate(labels, model=tiny_model, seed=seed) for seed in (1, 1, 2))
    assert first.data.name == again.data.name != other.data.name
    assert first.valid.data.name == other.valid.data.name


@pytest.mark.parametrize("what", ["codes", "legend", "nodata", "unknown", "block_size"])
def test_other_work_has_other_names(what: str, tiny_model: GeneratorModel) -> None:
    """Or dask takes one for the other, where both are computed together."""
    codes = da.from_array(draw_labels(100, 90), chunks=64, name="codes")
    labels = on_grid(codes)
    swapped = [
        {"code": 7 - entry.code, "name": entry.name, "colour": entry.colour} for entry in tiny_model.card.legend.classes
    ]
    change = {
        "legend": {"legend": geosynth.Legend.from_values({"name": "chesapeake", "classes": swapped})},
        "nodata": {},
        "codes": {},
        "unknown": {"unknown": "nodata"},
        "block_size": {"block_size": 256},
    }[what]
    other = on_grid(da.from_array(draw_labels(100, 90, 1), chunks=64)) if what == "codes" else labels
    other = labels.rio.write_nodata(3) if what == "nodata" else other
    images = [
        geosynth.generate(labels, model=tiny_model, seed=1),
        geosynth.generate(other, model=tiny_model, seed=1, **change),
    ]
    assert len({image.data.name for image in images}) == 2
    assert len({image.valid.data.name for image in images}) == 2
