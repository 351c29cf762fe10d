"""Images in Zarr stores at the command line: what a verb makes of one is what it makes of the same GeoTIFF."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - registers the accessor `.rio`
import torch
import xarray as xr

from geosynth.checkpoint import GeneratorModel, load_generator
from geosynth.config import BandSettings, SegmentSettings
from geosynth.legend import CHESAPEAKE
from geosynth.raster.stores.store import Store
from geosynth.segmentation.segmenter import SegmenterCard, save_segmenter
from geosynth.segmentation.unet import build_unet
from rasters import draw_labels, north_up, pixels_of, write_raster, write_zarr_image

SIDE = 128
BANDS = ("red", "green", "blue", "nir")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with labels, two images of theirs with a hole, as GeoTIFFs and as the Zarr images of the same pixels."""
    monkeypatch.chdir(tmp_path)
    codes = draw_labels(SIDE, SIDE)
    write_raster(tmp_path / "labels.tif", codes, north_up())
    for seed, name in enumerate(("real", "painted")):
        image = (codes * 35 + np.random.default_rng(seed).integers(1, 30, (4, SIDE, SIDE))).astype(np.uint8)
        mask = np.full((SIDE, SIDE), 255, np.uint8)
        mask[: 10 * seed, :40] = 0
        image[:, mask == 0] = 0
        path = write_raster(tmp_path / f"{name}.tif", image, north_up(), photometric="minisblack", alpha="no")
        with rasterio.open(path, "r+") as file:
            file.descriptions = BANDS
            file.write_mask(mask)
        write_zarr_image(tmp_path / f"{name}.zarr", path)
    return tmp_path


def done(ran: tuple[int, str, str]) -> str:
    code, printed, errors = ran
    assert code == 0, errors
    return printed


def test_evaluate(here: Path, run: Run) -> None:
    reports = []
    for kind in ("tif", "zarr"):
        images = ("--real", f"real.{kind}", "--synthetic", f"painted.{kind}", "--target", f"real.{kind}")
        done(run("evaluate", *images, "--labels", "labels.tif", "--out", kind, "--tile-size", 32))
        reports.append(json.loads(Path(kind, "report.json").read_text().replace(".zarr", ".tif")))
    assert reports[0] == reports[1]
    assert reports[0]["pixels"] == SIDE * SIDE - 400, "and the hole of one image is in no comparison"
    assert reports[0]["bands"] == list(BANDS)


def test_looks_and_styles(here: Path, run: Run, told_model: GeneratorModel) -> None:
    looks, painted = [], []
    for kind in ("tif", "zarr"):
        own = ("--image", f"painted.{kind}", "--labels", "labels.tif", "--model", told_model.path)
        done(run("looks", "add", "here", *own, "--out", f"{kind}.safetensors"))
        looks.append(load_generator(f"{kind}.safetensors").look("here"))
        own = ("--labels", "labels.tif", "--model", told_model.path, "--precision", "fp32")
        done(run("generate", *own, "--style-from", f"painted.{kind}", "--out", f"of_{kind}.tif"))
        painted.append(pixels_of(Path(f"of_{kind}.tif")))
    for name, values in looks[0].tensors().items():
        np.testing.assert_array_equal(values, looks[1].tensors()[name])
    np.testing.assert_array_equal(*painted)


def test_classify(here: Path, run: Run) -> None:
    torch.manual_seed(0)
    settings = SegmentSettings(encoder="tu-test_resnet")
    card = SegmenterCard(settings=settings, legend=CHESAPEAKE, bands=BandSettings(names=BANDS), gsd=None)
    save_segmenter(here / "model.safetensors", build_unet("tu-test_resnet", 4, 6), card)
    for kind in ("tif", "zarr"):
        files = ("--image", f"painted.{kind}", "--model", "model.safetensors", "--out", f"classes_{kind}.tif")
        done(run("classify", *files))
    classes = pixels_of(here / "classes_zarr.tif")
    np.testing.assert_array_equal(classes, pixels_of(here / "classes_tif.tif"))
    assert (classes[0, :10, :40] == CHESAPEAKE.nodata_code).all(), "no class where the image has no data"
    with rasterio.open("classes_zarr.tif") as file, rasterio.open("painted.tif") as image:
        assert (file.transform, file.crs) == (image.transform, image.crs)


def test_view(here: Path, run: Run) -> None:
    pages = []
    for kind in ("tif", "zarr"):
        images = (f"painted.{kind}", f"real.{kind}")
        done(run("view", *images, "labels.tif", "--legend", "chesapeake", "--out", f"{kind}.html"))
        pages.append(Path(f"{kind}.html").read_text().replace(".zarr", ".tif"))
    assert pages[0] == pages[1]


def test_ingest(here: Path, run: Run) -> None:
    stores = []
    for kind in ("tif", "zarr"):
        shutil.copyfile("labels.tif", "painted_labels.tif")
        done(run("ingest", "--images", f"painted.{kind}", "--labels", "painted_labels.tif", "--out", f"store_{kind}"))
        stores.append(Store(f"store_{kind}"))
    for read in (Store.read_image, Store.read_labels):
        np.testing.assert_array_equal(*(read(store, store.scenes[0].window) for store in stores))
    assert stores[0].band_names == stores[1].band_names == BANDS
    assert stores[1].scenes[0].image_sha256, "of all files of the image"


def test_generate_of_labels(here: Path, run: Run, tiny_model: GeneratorModel) -> None:
    """Of somebody else's store that holds an image, too; that is the same image to `info` and `view`."""
    with rasterio.open("painted.tif") as image, rasterio.open("labels.tif") as labels:
        values, codes = image.read(), labels.read(1)
    t = north_up()
    across = {"y": t.f + t.e * (np.arange(SIDE) + 0.5), "x": t.c + t.a * (np.arange(SIDE) + 0.5), "band": list(BANDS)}
    cube = xr.Dataset({"naip": (("band", "y", "x"), values), "cover": (("y", "x"), codes)}, coords=across)
    cube.rio.write_crs("EPSG:26917").to_zarr("cube.zarr", consolidated=False, zarr_format=2)
    for labels in ("labels.tif", "cube.zarr"):
        own = ("--labels", labels, "--model", tiny_model.path, "--precision", "fp32")
        done(run("generate", *own, "--out", f"of_{labels}.tif"))
    np.testing.assert_array_equal(pixels_of(Path("of_labels.tif.tif")), pixels_of(Path("of_cube.zarr.tif")))
    done(run("evaluate", "--real", "cube.zarr", "--synthetic", "real.zarr", "--labels", "cube.zarr", "--no-features"))


def test_what_is_no_single_image_is_refused_in_one_line(here: Path, run: Run, told_model: GeneratorModel) -> None:
    own = ("--labels", "labels.tif", "--model", told_model.path, "--precision", "fp32")
    done(run("generate", *own, "--samples", 2, "--out", "both.zarr"))
    shutil.copyfile("labels.tif", "painted_labels.tif")
    done(run("ingest", "--images", "painted.tif", "--labels", "painted_labels.tif", "--out", "store.zarr"))
    Path("empty.zarr").mkdir()
    for name, line in (
        (
            "both.zarr",
            r"'image' is .*'sample': 2, .*; a raster is numbers .* \(generate --samples K --out NAME\.tif makes",
        ),
        ("store.zarr", "is a store of scenes, and no image; say it as --data"),
        ("empty.zarr", "is a folder, but no Zarr store: there is no zarr.json"),
    ):
        for words in (
            ("view", name, "--out", "page.html"),
            ("evaluate", "--real", name, "--synthetic", "real.tif", "--labels", "labels.tif", "--out", "report"),
            ("generate", *own, "--style-from", name, "--out", "styled.tif"),
        ):
            code, printed, errors = run(*words)
            assert (code, printed, errors.count("\n")) == (1, "", 1), errors
            assert re.search(f"^error: {name}: {line}", errors), errors
    assert not any(Path(made).exists() for made in ("page.html", "report", "styled.tif"))
