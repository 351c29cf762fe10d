"""`view`: a page that needs nothing else, as Chromium shows it."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray
from affine import Affine
from PIL import Image
from rasterio.enums import ColorInterp

import geosynth
from geosynth.errors import DataError, GeosynthError, GridError, OutputError, SettingsError
from geosynth.legend import CHESAPEAKE, Legend
from geosynth.raster.class_table import write_attribute_table
from geosynth.raster.raster_file import open_raster
from rasters import NORTH_UP, UTM_18N, random_image, write_raster

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HEIGHT, WIDTH = 60, 100


@pytest.fixture
def rasters(tmp_path: Path) -> list[Path]:
    """Labels of water (with a table), and a plain orange image with a hole at its right."""
    codes = np.full((HEIGHT, WIDTH), 1, np.uint8)
    labels = write_raster(tmp_path / "labels.tif", codes, NORTH_UP, crs=UTM_18N, nodata=15)
    write_attribute_table(labels, CHESAPEAKE)
    pixels = np.array([250, 150, 50, 99], np.uint8)[:, None, None] * np.ones((4, HEIGHT, WIDTH), np.uint8)
    pixels[:, :, 90:] = 0
    image = write_raster(tmp_path / "image.tif", pixels, NORTH_UP, crs=UTM_18N, nodata=0)
    return [labels, image]


def shown(page: Path, folder: Path, script: str = "") -> np.ndarray:
    """(height, width, 3) of the page in Chromium, after a script."""
    own = folder / "own.html"
    text = page.read_text(encoding="utf-8").replace("then(resize);", f"then(resize).then(() => {{ {script} }});")
    own.write_text(text, encoding="utf-8")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=800,600")
    picture = folder / "picture.png"
    assert CHROMIUM
    subprocess.run(
        [CHROMIUM, *options, f"--user-data-dir={folder / 'chromium'}", "--virtual-time-budget=3000",
         f"--screenshot={picture}", own.as_uri()],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    return np.asarray(Image.open(picture).convert("RGB"))


WATER, ORANGE = (0x00, 0x70, 0xC0), (250, 150, 50)


def columns_of(picture: np.ndarray, colour: tuple[int, int, int]) -> tuple[int, int]:
    """First and last column that mostly hold a colour."""
    found = np.flatnonzero((picture == colour).all(2).sum(0) > 100)
    return int(found[0]), int(found[-1])


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_slider_parts_the_two_the_wheel_zooms_and_keys_pan(tmp_path: Path, rasters: list[Path]) -> None:
    page = geosynth.view(rasters, tmp_path / "page.html")
    at_first = shown(page, tmp_path)
    water, orange = columns_of(at_first, WATER), columns_of(at_first, ORANGE)
    assert abs(water[1] - 400) < 5
    assert abs(orange[0] - 400) < 5, "the slider stands in the middle"
    moved = shown(page, tmp_path, "slider.value = 250; slider.dispatchEvent(new Event('input'));")
    assert columns_of(moved, WATER)[0] == water[0]
    assert abs(columns_of(moved, ORANGE)[0] - 216) < 6
    swapped = shown(page, tmp_path, "left.value = 1; right.value = 0; left.dispatchEvent(new Event('input'));")
    assert columns_of(swapped, ORANGE)[0] < columns_of(swapped, WATER)[0]
    wheel = "map.dispatchEvent(new WheelEvent('wheel', {deltaY: 400 * Math.log(2), clientX: 400, clientY: 200}));"
    far = shown(page, tmp_path, wheel)
    width, before = columns_of(far, ORANGE)[1] - columns_of(far, WATER)[0], orange[1] - water[0]
    assert width < 0.8 * before, "all of it is smaller"
    left = "map.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft'}));"
    assert abs(columns_of(shown(page, tmp_path, left), WATER)[0] - water[0] - 77) < 5, "by a tenth of the map"


def test_the_page_fetches_nothing_and_names_what_it_shows(tmp_path: Path, rasters: list[Path], run: Any) -> None:
    page = tmp_path / "page.html"
    done = run("view", *rasters, "--out", page)
    assert (done.code, done.out.strip(), done.err) == (0, str(page), "")
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"base64,[^\"]*", "", text))
    assert [name for name in ("labels.tif", "image.tif", "water", UTM_18N, "60 x 100 px") if name not in text] == []
    assert "synthetic" not in text


def test_the_page_is_valid_and_can_be_used_by_keyboard_and_screen_reader(tmp_path: Path, rasters: list[Path]) -> None:
    found: list[tuple[str, dict[str, str | None], bool]] = []  # tag, attributes, whether it is in the body

    class Tags(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.append((tag, dict(attrs), any(name == "body" for name, *_ in found)))

    Tags().feed(geosynth.view(rasters, tmp_path / "page.html").read_text(encoding="utf-8"))
    assert [tag for tag, _, in_body in found if in_body and tag in ("style", "title", "meta", "link")] == []
    assert [given.get("aria-label") for tag, given, _ in found if tag in ("canvas", "button", "input")] == [
        "border between left and right",
        "zoom in",
        "zoom out",
        None,  # says "fit"
        "map: labels.tif, image.tif",
    ]
    assert [given["alt"] for tag, given, _ in found if tag == "img"] == ["labels.tif", "image.tif"]
    (canvas,) = (given for tag, given, _ in found if tag == "canvas")
    assert canvas["tabindex"] == "0"


def test_synthetic_images_are_called_so(tmp_path: Path, rasters: list[Path], tiny_model: Any) -> None:
    image = geosynth.generate(rasters[0], tmp_path / "synth.tif", tiny_model)
    text = geosynth.view([image], tmp_path / "page.html").read_text(encoding="utf-8")
    assert "synth.tif (synthetic)" in text


def test_large_rasters_are_shown_small(tmp_path: Path) -> None:
    pixels = np.zeros((4, 300, 700), np.uint16)
    pixels[:] = np.arange(700)
    path = write_raster(tmp_path / "large.tif", pixels, NORTH_UP, crs=UTM_18N)
    page = geosynth.view([path], tmp_path / "page.html", size=70)
    assert "shown in 30 x 70 px" in page.read_text(encoding="utf-8")
    values, valid = open_raster(path).read_reduced((30, 70), "average")
    with rasterio.open(path) as dataset:
        expected = dataset.read().reshape(4, 30, 10, 70, 10).mean(axis=(2, 4))
    assert np.abs(values - expected).max() <= 1
    assert valid.all()


def test_rasters_of_other_pixels_but_one_area_are_shown_together(tmp_path: Path, rasters: list[Path]) -> None:
    fine = write_raster(tmp_path / "fine.tif", random_image(0, 121, 200), NORTH_UP @ Affine.scale(0.5), crs=UTM_18N)
    geosynth.view([rasters[0], fine], tmp_path / "page.html")
    geosynth.view([fine, rasters[0]], tmp_path / "page2.html")


def pictures_in(page: Path) -> list[np.ndarray]:
    """What the page shows, (height, width, 4) each."""
    told = re.findall(r"data:image/png;base64,([\w+/=]+)", page.read_text(encoding="utf-8"))
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in told]


def test_images_of_one_type_and_scale_are_shown_with_one_stretch(tmp_path: Path, rasters: list[Path]) -> None:
    bright = np.random.default_rng(0).integers(2000, 4000, (4, HEIGHT, WIDTH)).astype(np.uint16)
    dull, other = 2900 + bright // 100, bright // 10  # hardly any contrast; the same seen by another sensor
    paths = []
    for name, pixels, scale in (("bright", bright, 1e-4), ("dull", dull, 1e-4), ("other", other, 1e-3)):
        paths.append(write_raster(tmp_path / f"{name}.tif", pixels, NORTH_UP, crs=UTM_18N))
        with rasterio.open(paths[-1], "r+") as file:
            file.scales = [scale] * 4
    of_bright, of_dull, of_other, of_bytes = pictures_in(geosynth.view([*paths, rasters[1]], tmp_path / "page.html"))
    assert of_bright[..., :3].std() > 60
    assert of_dull[..., :3].std() < 3, "it is as dull beside the bright one as it is"
    assert np.abs(of_dull[..., :3].mean() - of_bright[..., :3].mean()) < 10
    assert of_other[..., :3].std() > 60, "values of another scale do not darken it, nor it them"
    assert (of_bytes[0, 0] == (250, 150, 50, 255)).all()


def test_a_legend_colours_labels_without_a_table_and_nothing_else(tmp_path: Path, rasters: list[Path]) -> None:
    codes = np.full((HEIGHT, WIDTH), 1, np.uint8)
    bare = write_raster(tmp_path / "bare.tif", codes, NORTH_UP, crs=UTM_18N)
    most, smallest = [bare, rasters[1]] * 4, 1
    pictures = pictures_in(geosynth.view(most, tmp_path / "page.html", legend="chesapeake", size=smallest))
    assert [picture.tolist() for picture in pictures] == [[[[*WATER, 255]]], [[[*ORANGE, 255]]]] * 4
    [plain] = pictures_in(geosynth.view([bare], tmp_path / "plain.html"))
    assert tuple(plain[0, 0]) != (*WATER, 255)


def test_a_legend_colours_labels_whose_table_has_names_only(tmp_path: Path, rasters: list[Path]) -> None:
    codes = np.full((HEIGHT, WIDTH), 1, np.uint8)
    flags = {"flag_values": [1, 2], "flag_meanings": "lake wood"}
    labels = rioxarray.open_rasterio(rasters[0]).squeeze(drop=True).copy(data=codes).assign_attrs(flags)
    labels.to_dataset(name="labels").to_zarr(tmp_path / "labels.zarr", consolidated=False)
    page = geosynth.view(tmp_path / "labels.zarr", tmp_path / "page.html", legend="chesapeake")
    assert (pictures_in(page)[0] == (*WATER, 255)).all()
    assert "lake" in page.read_text(encoding="utf-8")


def test_the_colours_of_a_file_count_more_than_those_of_a_legend(tmp_path: Path, rasters: list[Path]) -> None:
    legend = Legend.from_values({"name": "other", "classes": [{"code": 1, "name": "pond", "colour": "#ff0000"}]})
    page = geosynth.view(rasters[0], tmp_path / "page.html", legend=legend)
    assert (pictures_in(page)[0] == (*WATER, 255)).all()
    text = page.read_text(encoding="utf-8").lower()
    assert re.search(r"#0070c0[^#]*water", text), "beside its name"
    assert "pond" not in text


def test_a_palette_without_names_colours_the_codes_that_it_has(tmp_path: Path) -> None:
    codes = np.full((HEIGHT, WIDTH), 1, np.uint8)
    codes[:, 50:], codes[:, 80:] = 2, 0
    path = write_raster(tmp_path / "palette.tif", codes, NORTH_UP, crs=UTM_18N, nodata=0)
    with rasterio.open(path, "r+") as file:
        file.write_colormap(1, {1: (*WATER, 255), 2: (*ORANGE, 255)})
    page = geosynth.view(path, tmp_path / "page.html")
    (picture,) = pictures_in(page)
    for columns, colour in (
        (slice(50), (*WATER, 255)),
        (slice(50, 80), (*ORANGE, 255)),
        (slice(80, None), (0, 0, 0, 0)),
    ):
        assert (picture[:, columns] == colour).all()
    assert "None" not in page.read_text(encoding="utf-8"), "what has no name is not listed"


def test_classes_without_colours_are_told_apart(tmp_path: Path) -> None:
    codes = np.repeat(np.arange(12, dtype=np.uint8)[:, np.newaxis], WIDTH, axis=1)
    names = [{"code": code, "name": f"class {code}"} for code in range(12)]
    path = write_raster(tmp_path / "labels.tif", codes, NORTH_UP, crs=UTM_18N)
    write_attribute_table(path, Legend.from_values({"name": "no colours", "classes": names}))
    (picture,) = pictures_in(geosynth.view(path, tmp_path / "page.html"))
    colours = picture[:, 0, :3].astype(int)
    apart = np.abs(colours[:, np.newaxis] - colours).sum(axis=-1)
    assert apart[np.triu_indices(12, 1)].min() > 30
    assert apart[np.arange(11), np.arange(1, 12)].min() > 150, "of neighbours in the list"


def test_rasters_stored_south_up_are_shown_north_up(tmp_path: Path) -> None:
    codes, image = np.repeat([[1], [2]], WIDTH, axis=1).astype(np.uint8), random_image(1, 2, WIDTH)
    up = NORTH_UP @ Affine.scale(1, HEIGHT / 2)
    down = up @ Affine.translation(0, 2) @ Affine.scale(1, -1)
    paths = []
    for name, transform, step in (("north", up, 1), ("south", down, -1)):
        for what, values in (("labels", codes), ("image", image)):
            path = tmp_path / f"{name}_{what}.tif"
            paths.append(write_raster(path, values[..., ::step, :], transform, crs=UTM_18N))
    labels, imagery, turned_labels, turned_imagery = pictures_in(
        geosynth.view(paths, tmp_path / "page.html", legend="chesapeake")
    )
    np.testing.assert_array_equal(labels, turned_labels)
    np.testing.assert_array_equal(imagery, turned_imagery)
    assert (labels[0] == (*WATER, 255)).all()


@pytest.mark.parametrize("kind", ["NaN", "NaN beside another nodata", "alpha of five bands"])
def test_holes_do_not_grow_when_a_raster_is_shown_small(tmp_path: Path, kind: str) -> None:
    """GDAL does not know of these: it would average them with the pixels around."""
    holes = np.zeros((HEIGHT, WIDTH), bool)
    holes[::10, ::10] = True
    pixels = np.full((5, HEIGHT, WIDTH), 90, np.float32 if "NaN" in kind else np.uint8)
    if "NaN" in kind:
        pixels[:, holes] = np.nan
    else:
        pixels[:4, holes], pixels[4] = 250, 255 * ~holes
    profile = {"driver": "GTiff", "count": 5, "height": HEIGHT, "width": WIDTH, "dtype": pixels.dtype}
    profile |= {"transform": NORTH_UP, "crs": UTM_18N, "photometric": "minisblack"}
    if kind == "NaN beside another nodata":
        profile["nodata"] = -9999
    with rasterio.open(tmp_path / "a.tif", "w", **profile) as file:
        file.colorinterp = [*(ColorInterp[name] for name in ("red", "green", "blue", "nir")), ColorInterp.alpha]
        file.write(pixels)
    values, valid = open_raster(tmp_path / "a.tif", [1, 2, 3]).read_reduced((HEIGHT // 10, WIDTH // 10), "average")
    np.testing.assert_array_equal(values, 90)
    assert valid.all()


BAD: dict[str, tuple[Callable[[Path, list[Path]], list[Path]], dict[str, Any], type[GeosynthError], str]] = {
    "elsewhere": (
        lambda folder, rasters: [
            rasters[0],
            write_raster(folder / "b.tif", random_image(0, 60, 100), NORTH_UP @ Affine.translation(9, 0), crs=UTM_18N),
        ],
        {},
        GridError,
        "b.tif: does not show the area of .*labels.tif",
    ),
    "complex": (
        lambda folder, rasters: [write_raster(folder / "c.tif", np.ones((1, 60, 100), np.complex64), NORTH_UP)],
        {},
        DataError,
        "c.tif: holds complex64 values",
    ),
    "no page": (lambda folder, rasters: rasters, {"out": "page.png"}, SettingsError, "ends in .html"),
    "none": (lambda folder, rasters: [], {}, SettingsError, "from one to eight"),
    "nine": (lambda folder, rasters: [rasters[0]] * 9, {}, SettingsError, "from one to eight rasters, not 9"),
    "no size": (lambda folder, rasters: rasters, {"size": 0}, SettingsError, "size: .*got 0"),
    "a folder": (
        lambda folder, rasters: rasters,
        {"out": "folder.html", "overwrite": True},
        OutputError,
        "a folder has this name",
    ),
    "a legend without labels": (
        lambda folder, rasters: rasters[1:],
        {"legend": "chesapeake"},
        SettingsError,
        "legend: none of the rasters is labels",
    ),
    "a legend for measurements": (
        lambda folder, rasters: [write_raster(folder / "f.tif", np.ones((1, 60, 100), np.float32), NORTH_UP)],
        {"legend": "chesapeake"},
        SettingsError,
        "legend: none of the rasters is labels",
    ),
    "an input": (
        lambda folder, rasters: [shutil.copy(rasters[0], folder / "labels.html")],
        {"out": "labels.html", "overwrite": True},
        OutputError,
        "labels.html: is also an input",
    ),
    "there": (lambda folder, rasters: rasters, {"out": "labels.html"}, OutputError, "already exists"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_shown_is_refused(tmp_path: Path, rasters: list[Path], what: str) -> None:
    choose, options, error, message = BAD[what]
    (tmp_path / "labels.html").touch()
    (tmp_path / "folder.html").mkdir()
    out = tmp_path / options.pop("out", "page.html")
    with pytest.raises(error, match=message):
        geosynth.view(choose(tmp_path, rasters), out, **options)
    assert not (tmp_path / "page.html").exists()
