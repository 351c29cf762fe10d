"""Ways to call generate: files and arrays in, a file or a lazy array out; a wrong call is one GeosynthError."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rioxarray
import xarray as xr

import geosynth
from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from geosynth.config.base import Settings
from geosynth.raster.raster_file import open_raster
from rasters import NORTH_UP, UTM_18N, draw_labels, write_raster

SETTINGS = GenerateSettings(precision="fp32", block_size=128)


def with_holes() -> np.ndarray:
    codes = draw_labels(150, 170)
    codes[100:, 90:130] = 15
    return codes


def as_array(path: Path) -> xr.DataArray:
    return rioxarray.open_rasterio(path, masked=True)


def as_tiles(path: Path) -> Path:
    with rasterio.open(path) as dataset:
        codes = dataset.read(1)
    for name, column in (("west", 0), ("east", 80)):
        part = codes[:, column : column + 90]
        place = NORTH_UP @ NORTH_UP.translation(column, 0)
        write_raster(path.parent / "tiles" / f"{name}.tif", part, place, crs=UTM_18N, nodata=15)
    return path.parent / "tiles"


WAYS: dict[str, Callable[[Path], Any]] = {"array": as_array, "tiles": as_tiles, "raster": open_raster, "file": Path}


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_all_ways_give_the_same_pixels(way: str, lazy: bool, tmp_path: Path, tiny_model: GeneratorModel) -> None:
    path = write_raster(tmp_path / "labels.tif", with_holes(), NORTH_UP, crs=UTM_18N, nodata=15)
    with rasterio.open(geosynth.generate(path, tmp_path / "expected.tif", tiny_model, SETTINGS)) as expected:
        pixels, mask, transform = expected.read(), expected.dataset_mask() > 0, expected.transform
    labels = WAYS[way](path)
    if lazy:
        image = geosynth.generate(labels, model=tiny_model, settings=SETTINGS)
        np.testing.assert_array_equal(image, pixels)
        np.testing.assert_array_equal(image.valid, mask)
        assert image.rio.transform() == transform
    else:
        with rasterio.open(geosynth.generate(labels, tmp_path / "image.tif", tiny_model, SETTINGS)) as written:
            np.testing.assert_array_equal(written.read(), pixels)
            np.testing.assert_array_equal(written.dataset_mask() > 0, mask)
            assert written.transform == transform


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint64", "int64"])
def test_pixels_that_only_a_mask_hides_are_hidden_in_a_lazy_image(
    dtype: str, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    path, mask = tmp_path / "labels.tif", np.ones((40, 50), bool)
    mask[10:20, 5:] = False
    profile = {"driver": "GTiff", "count": 1, "dtype": dtype, "height": 40, "width": 50}
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(path, "w", **profile, transform=NORTH_UP, crs=UTM_18N) as dataset,
    ):
        dataset.write(draw_labels(40, 50).astype(dtype), 1)
        dataset.write_mask(mask)
    image = geosynth.generate(path, model=tiny_model, settings=SETTINGS)
    np.testing.assert_array_equal(image.valid, mask)


@pytest.mark.parametrize(
    ("function", "settings"),
    [
        (geosynth.generate, GenerateSettings),
        (geosynth.generate_many, GenerateSettings),
        (geosynth.twin, GenerateSettings),
        (geosynth.train, geosynth.TrainSettings),
        (geosynth.segment, geosynth.SegmentSettings),
        (geosynth.evaluate, geosynth.EvaluateSettings),
    ],
)
def test_signatures_name_each_option(function: Callable[..., Any], settings: type[Settings]) -> None:
    parameters = inspect.signature(function).parameters
    kinds = {parameter.kind for parameter in parameters.values()}
    assert kinds == {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    for name, field in settings.model_fields.items():
        assert parameters[name].default == field.default
        assert field.description


WRONG: dict[str, Callable[[Path, GeneratorModel], Any]] = {
    "the model comes second": lambda labels, model: geosynth.generate(as_array(labels), model),
    "its file comes second": lambda labels, model: geosynth.generate(labels, model.path),
    "no labels": lambda labels, model: geosynth.generate(None, labels.with_name("out.tif"), model),
    "a plain array": lambda labels, model: geosynth.generate(np.ones((9, 9)), model=model),
    "a mapping of settings": lambda labels, model: geosynth.generate(labels, model=model, settings={"seed": 3}),
    "no such option": lambda labels, model: geosynth.generate(labels, labels.with_name("out.tif"), model, sede=3),
    "no such value": lambda labels, model: geosynth.generate(labels, labels.with_name("out.tif"), model, unknown="?"),
    "no such model": lambda labels, model: geosynth.generate(labels, labels.with_name("out.tif"), 3),
    "a preview of nothing": lambda labels, model: geosynth.generate(labels, model=model, preview=True),
    "a compression of nothing": lambda labels, model: geosynth.generate(labels, model=model, compress="zstd"),
    "a compression of a twin": lambda labels, model: geosynth.twin(
        labels, labels.with_name("twin"), model, compress="lzw"
    ),
    "a cluster for nothing": lambda labels, model: geosynth.generate(labels, model=model, workers=2),
    "no such name": lambda labels, model: geosynth.generate(labels, "image", model),
    "many of an array": lambda labels, model: geosynth.generate_many(as_array(labels), "out", model, each=True),
    "no samples": lambda labels, model: geosynth.generate_many(labels, "out.tif", model, samples="two"),
    "a preview of a twin": lambda labels, model: geosynth.twin(labels, labels.with_name("twin"), model, preview=True),
    "a mapping to segment by": lambda labels, model: geosynth.segment(labels, "out", settings={"seed": 3}),
    "a mapping to evaluate by": lambda labels, model: geosynth.evaluate(labels, labels, labels, settings={"seed": 3}),
    "nothing to classify": lambda labels, model: geosynth.classify(None, model.path, labels.with_name("out.tif")),
    "no segmenter": lambda labels, model: geosynth.classify(labels, model, labels.with_name("out.tif")),
}


@pytest.mark.parametrize("call", WRONG)
def test_a_wrong_call_is_one_line_and_leaves_nothing(
    call: str, tmp_path: Path, tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = write_raster(tmp_path / "labels.tif", draw_labels(64, 64), NORTH_UP, crs=UTM_18N)
    with pytest.raises(geosynth.GeosynthError) as caught:
        WRONG[call](labels, tiny_model)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.tif"]


@pytest.mark.parametrize("beside", ["image.png", "image.json", "image.tif"])
def test_no_output_replaces_an_input(beside: str, tmp_path: Path, tiny_model: GeneratorModel) -> None:
    source, other = tmp_path / beside, tmp_path / "labels.tif"
    for path, driver in ((source, "PNG" if beside.endswith("png") else "GTiff"), (other, "GTiff")):
        write_raster(path, draw_labels(64, 64), NORTH_UP, crs=UTM_18N, driver=driver)
    options: Any = {"model": tiny_model, "preview": True, "stac": True, "overwrite": True}
    inputs: list[dict[str, Any]] = [
        {"labels": source},
        {"labels": str(tmp_path / f"[i]{beside[1:]}")},
        {"labels": as_array(source)},
    ]
    for one in [*inputs, {"labels": other, "legend": source}, {"labels": other, "style": source}]:
        with pytest.raises(geosynth.GeosynthError, match=f"{beside}: is also an input and would be lost"):
            geosynth.generate(out=tmp_path / "image.tif", **one, **options)


def test_no_output_replaces_what_a_vrt_is_made_of(tmp_path: Path, tiny_model: GeneratorModel) -> None:
    tile = write_raster(tmp_path / "tile.tif", draw_labels(64, 64), NORTH_UP, crs=UTM_18N)
    vrt = tmp_path / "labels.vrt"
    rasterio.shutil.copy(tile, vrt, driver="VRT")
    before = tile.read_bytes()
    for function in (geosynth.generate, geosynth.generate_many):
        with pytest.raises(geosynth.GeosynthError, match=r"tile\.tif: is also an input and would be lost"):
            function(vrt, tile, tiny_model, overwrite=True)
    (tmp_path / "tiles").mkdir()
    moved = vrt.rename(tmp_path / "tiles" / "tile.vrt")
    moved.write_text(moved.read_text().replace(">tile.tif", ">../tile.tif"))
    with pytest.raises(geosynth.GeosynthError, match=r"tile\.tif: is also an input and would be lost"):
        geosynth.generate_many(tmp_path / "tiles", tmp_path, tiny_model, each=True, overwrite=True)
    assert tile.read_bytes() == before
