"""generate: the grid, the file, independence from cutting, and every refusal."""

from __future__ import annotations

import gc
import json
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray
import torch
import xarray as xr
import zarr
from rasterio.enums import ColorInterp
from rasterio.transform import Affine
from rio_cogeo.cogeo import cog_validate

import geosynth
from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from geosynth.errors import CheckpointError, DataError, GeosynthError, LegendError, OutputError, RasterError
from geosynth.models.looks.look import Look
from geosynth.models.process_settings import keep_freed_memory
from geosynth.mosaic.image import painter_for
from geosynth.mosaic.painter import Painter
from geosynth.mosaic.provenance import provenance
from geosynth.mosaic.style import style_digest
from geosynth.raster.labels import LabelRaster
from rasters import NORTH_UP, draw_labels

Write = Callable[..., Path]
FP32 = GenerateSettings(precision="fp32", block_size=128)


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read()


def differences(first: np.ndarray, second: np.ndarray) -> tuple[int, float]:
    """Largest difference in DN and the share of differing values."""
    gap = np.abs(first.astype(int) - second.astype(int))
    return int(gap.max()), float((gap > 0).mean())


GRIDS = {
    "north-up": NORTH_UP,
    "south-up": Affine(1.0, 0.0, 384517.0, 0.0, 1.0, 4310393.0),
    "rotated": Affine.translation(384517.0, 4310393.0) @ Affine.rotation(30) @ Affine.scale(1.0, -1.0),
    "fractional": Affine(0.6, 0.0, 266115.6, 0.0, -0.600000000599999, 4303355.999999988),
}


@pytest.mark.parametrize("name", GRIDS)
def test_the_grid_is_kept_exactly(name: str, write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel) -> None:
    labels = write_raster(draw_labels(70, 90), transform=GRIDS[name])
    image = geosynth.generate(labels, tmp_path / "image.tif", tiny_model, FP32)
    with rasterio.open(labels) as source, rasterio.open(image) as result:
        assert result.transform == source.transform
        assert result.crs == source.crs
        assert result.shape == source.shape


def test_values_of_points_stay_values_of_points(
    write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    labels = write_raster(draw_labels(64, 64), transform=NORTH_UP)
    with rasterio.open(labels, "r+") as dataset:
        dataset.update_tags(AREA_OR_POINT="Point")
    image = geosynth.generate(labels, tmp_path / "image.tif", tiny_model, FP32)
    with rasterio.open(labels) as source, rasterio.open(image) as result:
        assert result.tags()["AREA_OR_POINT"] == source.tags()["AREA_OR_POINT"] == "Point"
        assert result.transform == source.transform == NORTH_UP


def test_without_crs_the_image_has_none_and_a_warning_says_so(
    write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel, caplog: pytest.LogCaptureFixture
) -> None:
    labels = write_raster(draw_labels(64, 64), crs=None)
    image = geosynth.generate(labels, tmp_path / "image.tif", tiny_model, FP32)
    with rasterio.open(image) as result:
        assert result.crs is None
        assert result.transform == NORTH_UP
    assert "has no CRS" in caplog.text


def test_the_file_is_a_cog_that_says_what_it_is(
    write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    codes = draw_labels(700, 1100)
    codes[:, :200] = 15
    codes[300:310, 500:510] = 0
    labels = write_raster(codes, nodata=15)
    settings = GenerateSettings(seed=5, block_size=512)
    image = geosynth.generate(labels, tmp_path / "image.tif", tiny_model, settings)

    valid, errors, warnings = cog_validate(image, strict=True)
    assert valid, (errors, warnings)
    with rasterio.open(image) as result:
        assert result.dtypes == ("uint8",) * 4
        assert result.descriptions == ("red", "green", "blue", "nir")
        nir = getattr(ColorInterp, "nir", ColorInterp.undefined)
        assert result.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue, nir)
        assert result.nodata is None
        assert result.overviews(1) == [2, 4]
        # Both codes of "no data" are masked, the declared one and the legend's other one.
        np.testing.assert_array_equal(result.dataset_mask() > 0, ~np.isin(codes, (0, 15)))
        tags = result.tags()
    assert tags["SYNTHETIC"] == "yes"
    assert tags["GEOSYNTH_MODEL_SHA256"] == tiny_model.sha256
    assert tags["GEOSYNTH_SEED"] == "5"
    assert tags["GEOSYNTH_LABELS"] == labels.name
    assert tags["GEOSYNTH_VERSION"] == geosynth.__version__
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tif", "labels.tif"]


def test_tags_are_those_that_readers_know(write_raster: Write, told_model: GeneratorModel) -> None:
    """Their names are part of what is written: other tools read them."""
    codes = draw_labels(40, 50)
    codes[:10] = 15
    source = LabelRaster(write_raster(codes, "cover.tif", nodata=15), told_model.card.legend)
    survey = source.survey()
    trainings = [{"training": {"perceptual_weight": 1, "perceptual_source": name}} for name in ("vgg", "other")]
    model = replace(told_model, card=told_model.card.model_copy(update={"provenance": {"average_of": trainings}}))

    def tags(style: Look | None = None, **changes: Any) -> dict[str, str]:
        settings = GenerateSettings.changed(FP32, {"seed": 5, "style_length": 30, **changes})
        return provenance(painter_for(source.geobox, model, settings, style), source, survey)

    own = {
        "SYNTHETIC": "yes",
        "TIFFTAG_SOFTWARE": f"geosynth {geosynth.__version__}",
        "GEOSYNTH_VERSION": geosynth.__version__,
        "GEOSYNTH_MODEL": "told.safetensors",
        "GEOSYNTH_MODEL_SHA256": told_model.sha256,
        "GEOSYNTH_SEED": "5",
        "GEOSYNTH_STYLE_LENGTH": "30",
        "GEOSYNTH_PRECISION": "fp32",
        "GEOSYNTH_MOSAIC": "exact",
        "GEOSYNTH_LABELS": "cover.tif",
        "GEOSYNTH_LEGEND": "chesapeake",
        "GEOSYNTH_LOSS_NETWORKS": "other,vgg",
        "GEOSYNTH_LABELS_DIGEST": survey.digest,
    }
    found = tags(look="bright")
    assert "not an observation" in found.pop("IMAGEDESCRIPTION")
    pixels = json.loads(found.pop("GEOSYNTH_CLASS_PIXELS"))
    assert pixels == {entry.name: int((codes == entry.code).sum()) for entry in told_model.card.legend.classes}
    assert found == {**own, "GEOSYNTH_LOOK": "bright"}
    look = told_model.look("dim")
    chosen = tags(look)
    assert chosen.keys() - own.keys() - {"IMAGEDESCRIPTION", "GEOSYNTH_CLASS_PIXELS"} == {"GEOSYNTH_STYLE_SHA256"}
    assert chosen["GEOSYNTH_STYLE_SHA256"] == style_digest(look)


@pytest.mark.parametrize("name", ["image.tif", "image.zarr"])
def test_what_is_told_on_the_way(name: str, write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel) -> None:
    """Each stage from its first part to its last; files in the making lie where the next run looks for leftovers."""
    told: dict[str, list[tuple[int, int]]] = {}
    leftovers: dict[str, set[int]] = {}
    parts: list[bytes] = []  # parsed later: before Python 3.11.5 no two threads may at a time (gh-106905)
    folder = tmp_path / f".{name}.unfinished"

    def tell(stage: str, done: int, total: int) -> None:
        told.setdefault(stage, []).append((done, total))
        leftovers.setdefault(stage, set()).add(len(list(folder.glob("*.partial*"))))
        if stage == "finishing" or (stage, done) == ("painting", total):
            parts.append(next(folder.glob("parts/*")).read_bytes())

    codes = draw_labels(300, 400)
    codes[:200, :200] = 15
    geosynth.generate(write_raster(codes, nodata=15), tmp_path / name, tiny_model, FP32, progress=tell)
    assert told.pop("checking") == [(1, 1)]
    assert told.pop("painting") == [(done, 9) for done in range(10)]
    (last,) = told
    assert last == ("finishing" if name == "image.tif" else "writing")
    assert told[last] == sorted(told[last])
    assert {total for _, total in told[last]} == {told[last][-1][0]}
    assert leftovers["painting"] == ({1} if name == "image.tif" else {0}), "a GeoTIFF is written meanwhile"
    assert leftovers.get("writing", {1}) == {1}
    assert {np.load(BytesIO(part))["pixels"].dtype for part in parts} == {np.dtype(np.uint8)}


def test_any_thread_may_paint_an_image_with_a_mask(
    write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    """GDAL's settings are a thread's own; without them the mask would be a file beside the image."""
    codes = draw_labels(300, 400)
    codes[:200, :200] = 15
    labels = write_raster(codes, nodata=15)
    images = []
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
        task = threading.Thread(
            target=geosynth.generate, args=(labels, tmp_path / name / "image.tif", tiny_model, FP32)
        )
        (task.run if name == "here" else task.start)()
        if name == "there":
            task.join()
        (image,) = (tmp_path / name).iterdir()
        images.append(image.read_bytes())
    assert images[0] == images[1]


def test_without_nodata_there_is_no_mask(write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel) -> None:
    image = geosynth.generate(write_raster(draw_labels(64, 64)), tmp_path / "image.tif", tiny_model, FP32)
    with rasterio.open(image) as result:
        assert (result.dataset_mask() == 255).all()
        assert [flag.name for flag in result.mask_flag_enums[3]] == ["all_valid"]


def test_the_seed_alone_decides(write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel) -> None:
    labels = write_raster(draw_labels(100, 100))

    def bytes_of(seed: int, name: str) -> bytes:
        settings = GenerateSettings(precision="fp32", seed=seed)
        return geosynth.generate(labels, tmp_path / name, tiny_model, settings).read_bytes()

    assert bytes_of(1, "a.tif") == bytes_of(1, "b.tif")
    bytes_of(2, "c.tif")
    assert differences(read(tmp_path / "a.tif"), read(tmp_path / "c.tif"))[1] > 0.5


def test_another_legend_is_matched_by_class_name(
    write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    codes = draw_labels(80, 80)
    legend = geosynth.Legend.from_values(
        {"name": "tens", "classes": [{"code": 10 * c.code, "name": c.name} for c in tiny_model.card.legend.classes]}
    )
    plain = geosynth.generate(write_raster(codes, "a.tif"), tmp_path / "a_.tif", tiny_model, FP32)
    tens = geosynth.generate(write_raster(codes * 10, "b.tif"), tmp_path / "b_.tif", tiny_model, FP32, legend=legend)
    np.testing.assert_array_equal(read(plain), read(tens))


def test_the_preview_is_a_picture_of_the_first_bands(
    write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    labels = write_raster(draw_labels(64, 96))
    geosynth.generate(labels, tmp_path / "image.tif", tiny_model, FP32, preview=True, stac=True)
    item = json.loads((tmp_path / "image.json").read_text())
    assert {asset["href"] for asset in item["assets"].values()} == {"./image.tif", "./image.png"}
    np.testing.assert_array_equal(read(tmp_path / "image.png")[:3], read(tmp_path / "image.tif")[:3])


def test_the_embedded_model_paints_each_class_differently(write_raster: Write, tmp_path: Path) -> None:
    codes = np.repeat(np.arange(1, 7, dtype=np.uint8), 64)[np.newaxis].repeat(64, axis=0)
    image = read(geosynth.generate(write_raster(codes), tmp_path / "image.tif", settings=FP32)).astype(float)
    red, nir = image[0], image[3]
    ndvi = (nir - red) / (nir + red + 1)
    by_class = {code: ndvi[codes == code].mean() for code in range(1, 7)}
    assert min(by_class[2], by_class[3]) > max(by_class[1], by_class[6]), "vegetation is greener than water and roads"


REFUSED = {
    "missing": (lambda write, tmp: tmp / "nowhere.tif", RasterError, "no such file"),
    "folder": (lambda write, tmp: tmp, RasterError, "is a folder"),
    "not a raster": (lambda write, tmp: _text(tmp / "text.tif"), RasterError, "cannot be opened as a raster"),
    "float": (lambda write, tmp: write(np.full((64, 64), 0.5, "float32")), DataError, "whole numbers"),
    "several bands": (lambda write, tmp: write(np.ones((2, 64, 64), "uint8")), DataError, "2 bands"),
    "unknown colours": (lambda write, tmp: write(np.ones((3, 64, 64), "uint8")), LegendError, r"#010101 \(4096 px\)"),
    "unknown codes": (lambda write, tmp: write(np.full((64, 64), 9, "uint8")), LegendError, r"9 \(4096 px\)"),
    "all nodata": (
        lambda write, tmp: write(np.full((64, 64), 15, "uint8"), nodata=15),
        DataError,
        "all of it is nodata",
    ),
}


def _text(path: Path) -> Path:
    path.write_text("not a raster")
    return path


@pytest.mark.parametrize("name", REFUSED)
def test_bad_labels_are_refused_in_one_line(
    name: str, write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    make, kind, message = REFUSED[name]
    labels = make(write_raster, tmp_path)
    out = tmp_path / "out" / "image.tif"
    with pytest.raises(kind, match=message) as caught:
        geosynth.generate(labels, out, tiny_model)
    assert "\n" not in str(caught.value)
    assert Path(labels).name in str(caught.value)
    assert not out.parent.exists()


def test_an_existing_output_is_kept_unless_overwrite(
    write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    labels = write_raster(draw_labels(64, 64))
    out = tmp_path / "image.tif"
    out.write_bytes(b"precious")
    with pytest.raises(OutputError, match="already exists"):
        geosynth.generate(labels, out, tiny_model)
    assert out.read_bytes() == b"precious"
    geosynth.generate(labels, out, tiny_model, overwrite=True)
    assert read(out).shape == (4, 64, 64)
    out.unlink()
    out.with_suffix(".png").write_bytes(b"precious")
    with pytest.raises(OutputError, match="png: already exists"):
        geosynth.generate(labels, out, tiny_model, preview=True)


def test_a_place_that_cannot_be_written_is_refused(
    write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        geosynth.generate(write_raster(draw_labels(64, 64)), tmp_path / "file" / "image.tif", tiny_model)


def test_an_input_is_never_overwritten(write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel) -> None:
    labels = write_raster(draw_labels(64, 64))
    (tmp_path / "link.tif").symlink_to(labels)
    picture = write_raster(draw_labels(64, 64), "picture.png.tif").rename(tmp_path / "picture.png")
    before = {path: path.read_bytes() for path in (labels, picture)}
    for source, out in ((labels, "labels.tif"), (labels, "link.tif"), (picture, "picture.tif")):
        with pytest.raises(OutputError, match="is also an input"):
            geosynth.generate(source, tmp_path / out, tiny_model, preview=True, overwrite=True)
    assert {path: path.read_bytes() for path in (labels, picture)} == before


def test_bands_are_of_the_models_type_and_compressed_as_wanted(
    write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    bands = tiny_model.card.bands.model_copy(update={"high": 20_000.0, "dtype": "uint16"})
    model = replace(tiny_model, card=tiny_model.card.model_copy(update={"bands": bands}))
    labels = write_raster(draw_labels(50, 60))
    for name in ("image.TIF", "image.tiff"):
        with rasterio.open(geosynth.generate(labels, tmp_path / name, model, FP32, compress="lzw")) as image:
            assert set(image.dtypes) == {"uint16"}
            assert image.compression.name == "lzw"
            pixels = image.read()
    assert pixels.max() > 1000
    store = zarr.open_group(geosynth.generate(labels, tmp_path / "image.ZARR", model, FP32))
    assert store["image"].dtype == np.uint16
    np.testing.assert_array_equal(store["image"][:], pixels)


@pytest.mark.parametrize("name", ["image.png", "image", "image.jpg"])
def test_the_image_is_a_geotiff_by_name(
    name: str, write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    with pytest.raises(OutputError, match=r"ends in \.tif"):
        geosynth.generate(write_raster(draw_labels(64, 64)), tmp_path / name, tiny_model, preview=True)


@pytest.mark.parametrize(
    ("crs", "size", "said"),
    [
        ("EPSG:26918", 1.0, None),
        ("EPSG:26918", 0.5, "pixels of 0.5 m; the model was trained on 1 m"),
        ("EPSG:2264", 3.28083333, None),  # US survey feet
        ("EPSG:2264", 1.0, "pixels of 0.304801 m"),
        ("EPSG:4326", 1e-5, "not in metres"),
    ],
)
def test_another_pixel_size_is_said_in_metres(
    crs: str,
    size: float,
    said: str | None,
    write_raster: Write,
    tmp_path: Path,
    tiny_model: GeneratorModel,
    caplog: pytest.LogCaptureFixture,
) -> None:
    labels = write_raster(draw_labels(64, 64), crs=crs, transform=Affine(size, 0, 10, 0, -size, 10))
    for out in (tmp_path / "image.tif", None):  # the file, and the lazy array
        caplog.clear()
        geosynth.generate(labels, out, tiny_model, FP32)
        assert caplog.messages == [] if said is None else said in caplog.messages[0]


@pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_wrong_model_file_is_refused(content: bytes, write_raster: Write, tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    model.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        geosynth.generate(write_raster(draw_labels(64, 64)), tmp_path / "image.tif", model)
    assert not (tmp_path / "image.tif").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, GeosynthError])
@pytest.mark.parametrize("overwrite", [False, True])
def test_an_interrupt_leaves_nothing_half_written(
    error: type[BaseException], overwrite: bool, write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    labels = write_raster(draw_labels(200, 200))
    out = tmp_path / "out" / "image.tif"
    out.parent.mkdir()
    if overwrite:
        out.write_bytes(b"the old image")

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "painting" and done == 2:
            raise error("stop")

    with pytest.raises(error):
        geosynth.generate(labels, out, tiny_model, FP32, overwrite=overwrite, progress=interrupt)
    visible = [path for path in out.parent.iterdir() if not path.name.startswith(".")]
    assert [path.read_bytes() for path in visible] == ([b"the old image"] if overwrite else [])
    geosynth.generate(labels, out, tiny_model, FP32, overwrite=overwrite)
    assert [path.name for path in out.parent.iterdir()] == ["image.tif"]


@pytest.mark.realdata
def test_a_window_of_the_real_chesapeake_tile(
    real_data: Path, write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    source = real_data / "chesapeake_labels" / "Baywide_7class_20132014_E1300000_N1770000.tif"
    with rasterio.open(source) as dataset:
        overview = dataset.read(1, out_shape=(625, 625))
        row, column = (np.argwhere(overview != 15).mean(0) * 16).astype(int)
        window = rasterio.windows.Window(column - 150, row - 150, 300, 300)
        codes, transform, crs = dataset.read(1, window=window), dataset.window_transform(window), dataset.crs
    labels = write_raster(codes, transform=transform, crs=crs, nodata=15)
    image = geosynth.generate(labels, tmp_path / "image.tif", tiny_model, FP32)
    with rasterio.open(image) as result:
        assert result.transform == transform
        assert result.crs == crs
        np.testing.assert_array_equal(result.dataset_mask() > 0, codes != 15)


def test_the_process_of_the_caller_stays_as_it_is(
    write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What painting needs of the process is there while it paints, and gone afterwards, in a file and in an array."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen: list[bool] = []
    run = Painter.run

    def spy(self: Painter, *cells: Any) -> torch.Tensor:
        seen.append(torch.backends.cudnn.allow_tf32)
        return run(self, *cells)

    monkeypatch.setattr(Painter, "run", spy)

    def state() -> tuple[Any, ...]:
        backends = torch.backends
        return (
            backends.cudnn.allow_tf32,
            backends.cuda.matmul.allow_tf32,
            torch.get_float32_matmul_precision(),
            torch.get_num_threads(),
            torch.initial_seed(),
            torch.get_default_dtype(),
            keep_freed_memory.is_on,
            dict(os.environ),
            signal.getsignal(signal.SIGINT),
        )

    gc.collect()  # lazy images of other tests
    before = state()
    labels = write_raster(draw_labels(64, 64))
    geosynth.generate(labels, tmp_path / "image.tif", tiny_model, precision="fp32")
    image = geosynth.generate(rioxarray.open_rasterio(labels), model=tiny_model, precision="fp32")
    assert state() == before
    image.compute()
    del image
    gc.collect()
    with pytest.raises(LegendError):
        geosynth.generate(write_raster(draw_labels(64, 64) + 90, "bad.tif"), tmp_path / "out.tif", tiny_model)
    assert seen == [False, False]
    assert state() == before


def some_folder(path: Path) -> None:
    path.mkdir()


def some_array(path: Path) -> None:
    zarr.create_array(str(path), shape=(3,), dtype="u1")


def some_image(path: Path) -> None:
    xr.DataArray(np.zeros((4, 8, 8), np.uint8), dims=("band", "y", "x")).to_dataset(name="image").to_zarr(path)


@pytest.mark.parametrize("make", [some_folder, some_array, some_image], ids=lambda make: make.__name__)
def test_a_folder_of_somebody_else_is_not_overwritten(
    make: Callable[[Path], None], write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    labels, out = write_raster(draw_labels(64, 64)), tmp_path / "image.zarr"
    make(out)
    before = {path: path.is_dir() or path.read_bytes() for path in tmp_path.rglob("*")}
    with pytest.raises(OutputError, match=r"image\.zarr: is a folder, and not an image of geosynth"):
        geosynth.generate(labels, out, tiny_model, FP32, overwrite=True)
    assert {path: path.is_dir() or path.read_bytes() for path in tmp_path.rglob("*")} == before


def test_an_image_in_a_zarr_store_is_overwritten(
    write_raster: Write, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    labels, out = write_raster(draw_labels(64, 64)), tmp_path / "image.zarr"
    for seed in (1, 2):
        geosynth.generate(labels, out, tiny_model, FP32, seed=seed, overwrite=True)
        assert xr.open_zarr(out)["image"].attrs["GEOSYNTH_SEED"] == str(seed)
