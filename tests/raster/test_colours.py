"""Labels that tell classes by colour: what they are read as is what codes of the same classes are read as."""

from __future__ import annotations

import functools
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import rioxarray
import xarray as xr
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import geosynth
from geosynth.checkpoint import GeneratorModel
from geosynth.errors import DataError, GeosynthError, GridError, LegendError, OutputError
from geosynth.grid import Window
from geosynth.legend import CHESAPEAKE, Legend
from geosynth.raster.label_files import open_labels
from geosynth.raster.label_legend import choose_legend
from geosynth.raster.labels import LabelRaster
from geosynth.raster.mosaic import TileInMosaic, with_neighbours
from geosynth.raster.stores.folds import SplitRule
from geosynth.raster.stores.open import open_in_place, open_zarr_in_place
from geosynth.raster.warp import WarpedRaster, resample_labels
from rasters import UTM, north_up, random_codes, random_image, write_raster
from strategies import few

Run = Callable[..., Any]
Codes = npt.NDArray[np.uint8]
NO_CLASS = CHESAPEAKE.num_classes
HEIGHT, WIDTH = 40, 56
TRAIN_ONLY = SplitRule(shares=(1, 0, 0))

# Codes rise as colours do: of equal areas the smaller one stands, and colours have another order than Chesapeake's.
RISING = Legend.from_values(
    {
        "name": "rising",
        "nodata": [0, "#000000"],
        "classes": [{"code": n, "name": f"class {n}", "colour": f"#{n:02x}80{255 - n:02x}"} for n in range(1, 8)],
    }
)


def coloured(codes: Codes, legend: Legend = CHESAPEAKE, hole: str = "#fedcba") -> npt.NDArray[np.uint8]:
    """(3, height, width) in the legend's colours; what has no class in `hole`."""
    colours = {entry.code: entry.colour for entry in legend.classes}
    values = np.zeros((3, *codes.shape), np.uint8)
    for code in np.unique(codes):
        values[:, codes == code] = np.reshape(list(bytes.fromhex(colours.get(int(code), hole)[1:])), (3, 1))
    return values


def recipe(colours: npt.NDArray[np.uint8], legend: Legend) -> Codes:
    """The codes, by a comparison a class."""
    codes = np.full(colours.shape[1:], legend.nodata_code, np.uint8)
    for entry in legend.classes:
        codes[(colours == np.reshape(entry.rgb, (3, 1, 1))).all(axis=0)] = entry.code
    return codes


def write_pair(folder: Path, codes: Codes, legend: Legend, name: str = "labels.tif", column: int = 0) -> list[Path]:
    """The same labels, as codes and as colours."""
    place = north_up(column)
    return [
        write_raster(folder / "codes" / name, codes, place),
        write_raster(folder / "colours" / name, coloured(codes, legend, "#000000"), place),
    ]


@st.composite
def legends_of_colours(draw: st.DrawFn) -> Legend:
    """Legends of several codes and colours a class, all different, and colours of no data."""
    colours = draw(st.lists(st.from_regex(r"\A#[0-9a-fA-F]{6}\Z"), min_size=3, max_size=20, unique_by=str.lower))
    ends = draw(st.lists(st.integers(1, len(colours) - 1), min_size=1, max_size=9, unique=True).map(sorted))
    groups = [colours[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    classes = [{"code": number, "name": str(number), "colour": group} for number, group in enumerate(groups)]
    return Legend.from_values({"name": "drawn", "classes": classes, "nodata": [255, *colours[ends[-1] :]]})


@few
@given(legends_of_colours(), st.integers(0, 2**32 - 1), st.booleans())
def test_colours_are_read_as_their_classes(tmp_path: Path, legend: Legend, seed: int, has_alpha: bool) -> None:
    rng = np.random.default_rng(seed)
    known = [(colour, index) for index, entry in enumerate(legend.classes) for colour in entry.colours]
    known += [(colour, legend.num_classes) for colour in legend.nodata if isinstance(colour, str)]
    drawn = rng.integers(0, len(known), (13, 17))
    values = np.array([list(bytes.fromhex(colour[1:])) for colour, _ in known], np.uint8)[drawn].transpose(2, 0, 1)
    expected = np.array([index for _, index in known])[drawn]
    if has_alpha:
        alpha = rng.choice(np.array([0, 255], np.uint8), (1, 13, 17))
        values, expected = np.concatenate([values, alpha]), np.where(alpha[0] > 0, expected, legend.num_classes)
    expected[0, 0], values[:3, 0, 0] = 0, list(legend.classes[0].rgb)
    values[3:, 0, 0] = 255
    labels = LabelRaster(write_raster(tmp_path / "colours.tif", values, north_up()), legend)
    np.testing.assert_array_equal(labels.read_known(labels.raster.window), expected)
    np.testing.assert_array_equal(labels.read_known(Window(2, 3, 5, 7)), expected[2:7, 3:10])
    counts = labels.survey().counts
    assert labels.legend.count(counts) == tuple(np.bincount(expected.ravel(), minlength=256)[: legend.num_classes])
    again = pickle.loads(pickle.dumps(labels))
    np.testing.assert_array_equal(again.read_known(labels.raster.window), expected)


@few
@given(legends_of_colours())
def test_a_legend_with_lists_of_colours_survives_yaml(legend: Legend) -> None:
    assert Legend.from_values(yaml.safe_load(yaml.safe_dump(legend.model_dump(mode="json")))) == legend
    assert legend.nodata_codes == (255,)
    assert legend.nodata_code == 255


def test_they_are_what_a_comparison_for_each_class_finds(tmp_path: Path) -> None:
    codes = random_codes(0, HEIGHT, WIDTH, (0, 1, 2, 3, 4, 5, 6))
    colours = coloured(codes)
    path = write_raster(tmp_path / "mask.tif", colours, north_up())
    labels = LabelRaster(path, CHESAPEAKE, unknown="nodata")
    expected = CHESAPEAKE.encode(recipe(colours, CHESAPEAKE))
    np.testing.assert_array_equal(labels.read_known(labels.raster.window), expected)


FORMS: dict[str, Callable[[Path, npt.NDArray[np.uint8]], Path]] = {
    "PNG": lambda folder, rgb: _save(folder / "m.png", rgb),
    "PNG with alpha": lambda folder, rgb: _save(folder / "m.png", np.concatenate([rgb, np.full_like(rgb[:1], 255)])),
    "bands in another order": lambda folder, rgb: _blue_first(folder / "m.tif", rgb),
    "VRT": lambda folder, rgb: _as_vrt(folder / "m.vrt", write_raster(folder / "m.tif", rgb, north_up())),
}


def _save(path: Path, values: npt.NDArray[np.uint8]) -> Path:
    Image.fromarray(np.ascontiguousarray(np.moveaxis(values, 0, -1))).save(path)
    return path


def _blue_first(path: Path, rgb: npt.NDArray[np.uint8]) -> Path:
    write_raster(path, rgb[::-1], north_up(), photometric="MINISBLACK")
    with rasterio.open(path, "r+") as dataset:
        dataset.colorinterp = [rasterio.enums.ColorInterp[name] for name in ("blue", "green", "red")]
    return path


def _as_vrt(path: Path, source: Path) -> Path:
    rasterio.shutil.copy(source, path, driver="VRT")
    return path


@pytest.mark.parametrize("form", FORMS)
def test_files_of_any_form(tmp_path: Path, form: str) -> None:
    codes = random_codes(1, HEIGHT, WIDTH)
    labels = LabelRaster(FORMS[form](tmp_path, coloured(codes)), CHESAPEAKE)
    np.testing.assert_array_equal(labels.read_known(labels.raster.window), CHESAPEAKE.encode(codes))


def test_files_say_where_they_have_no_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    codes = random_codes(2, HEIGHT, WIDTH, (0, 2, 3))
    path = write_raster(tmp_path / "mask.tif", coloured(codes, hole="#070707"), north_up(), nodata=7)
    assert LabelRaster(path, CHESAPEAKE).survey().counts == {
        0x267300: (codes == 2).sum(),
        0xA3FF73: (codes == 3).sum(),
    }
    assert not caplog.text
    roads = random_codes(2, HEIGHT, WIDTH, (2, 6))  # which are black
    path = write_raster(tmp_path / "roads.tif", coloured(roads), north_up(), nodata=0)
    with caplog.at_level(logging.WARNING):
        assert LabelRaster(path, CHESAPEAKE).survey().counts == {0x267300: (roads == 2).sum()}
    assert "declares nodata #000000, which is class 'impervious (roads)'" in caplog.text


def test_one_band_stays_codes_whatever_its_palette(tmp_path: Path) -> None:
    codes = random_codes(3, HEIGHT, WIDTH)
    path = write_raster(tmp_path / "palette.tif", codes, north_up(), photometric="PALETTE")
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, {code: (255, 0, code) for code in range(7)})
    assert set(LabelRaster(path, CHESAPEAKE).survey().counts) == set(np.unique(codes))


def test_a_class_that_a_legend_lacks_may_have_any_colour(tmp_path: Path) -> None:
    """Of the model's classes those count that the labels' legend has."""
    own = Legend.from_values(
        {"name": "own", "classes": [{"code": 9, "name": "Water", "colour": ["#000000", "#0000ff"]}]}
    )
    values = np.zeros((3, 4, 6), np.uint8)
    values[2, :, 3:] = 255
    raster = open_labels(write_raster(tmp_path / "water.tif", values, north_up()))
    labels = LabelRaster(raster, choose_legend(raster, own, CHESAPEAKE))
    np.testing.assert_array_equal(labels.read_known(raster.window), np.zeros((4, 6)))
    assert choose_legend(raster, None, CHESAPEAKE) == choose_legend(raster, "from-raster", CHESAPEAKE) == CHESAPEAKE


@pytest.mark.parametrize("method", ["nearest", "mode"])
@pytest.mark.parametrize("gsd", [0.6, 0.9, 2.0])
def test_warped_and_joined_as_codes_are(tmp_path: Path, method: Any, gsd: float) -> None:
    """Tiles of colours, joined and resampled, against the same of codes."""
    whole = random_codes(4, HEIGHT, 2 * WIDTH, (0, *RISING.codes))
    for name, column in (("a.tif", 0), ("b.tif", WIDTH)):
        write_pair(tmp_path, whole[:, column : column + WIDTH], RISING, name, column)
    found = []
    for form in ("codes", "colours"):
        labels = LabelRaster(resample_labels(open_labels(tmp_path / form), gsd, method), RISING)
        found.append((labels.read_known(labels.raster.window), labels.legend.count(labels.survey().counts)))
        tall = labels.raster.window
        np.testing.assert_array_equal(
            labels.read_known(Window(3, 5, tall.height // 2, tall.width // 2)),
            found[-1][0][3 : 3 + tall.height // 2, 5 : 5 + tall.width // 2],
        )
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


def test_turned_as_codes_are(tmp_path: Path) -> None:
    """Where GDAL counts: no colour is one that no pixel has."""
    codes = random_codes(5, HEIGHT, WIDTH, RISING.codes)
    turned = north_up(10, 5) @ rasterio.Affine.rotation(20)
    results = []
    for path in write_pair(tmp_path, codes, RISING):
        raster = open_labels(path)
        grid = rasterio.Affine.scale(1.5)
        warped = WarpedRaster(raster, type(raster.geobox)((20, 20), turned @ grid, UTM), "nearest")
        results.append(LabelRaster(warped, RISING).read_known(warped.window))
    np.testing.assert_array_equal(*results)
    assert (results[0] < RISING.num_classes).any()


def test_tiles_see_neighbours_of_their_kind(tmp_path: Path) -> None:
    codes = random_codes(6, HEIGHT, 3 * WIDTH)
    tiles = []
    for number in range(3):
        part = codes[:, number * WIDTH : (number + 1) * WIDTH]
        tiles.append(write_pair(tmp_path, part, CHESAPEAKE, f"{number}.tif", number * WIDTH)[number > 0])
    alone, *together = with_neighbours([open_labels(tile) for tile in tiles])
    assert not isinstance(alone, TileInMosaic)
    for number, tile in enumerate(together, start=1):
        assert isinstance(tile, TileInMosaic)
        labels = LabelRaster(tile, CHESAPEAKE)
        seen, _ = labels.read(Window(0, -8, HEIGHT, WIDTH + 16))
        left = number * WIDTH - 8
        expected = CHESAPEAKE.encode(np.pad(codes[:, WIDTH:], ((0, 0), (0, 8)), "edge"))
        crop = expected[:, max(0, left - WIDTH) : left - WIDTH + WIDTH + 16]
        np.testing.assert_array_equal(seen[:, -crop.shape[1] :], crop)
    with pytest.raises(DataError, match=r"1\.tif and .*0\.tif: one tells classes by codes, the other by colours"):
        open_labels(tiles[:2])


# --- Refusals.


def _with_pixels(colour: str, count: int) -> npt.NDArray[np.uint8]:
    values = coloured(random_codes(7, HEIGHT, WIDTH))
    values[:, 3, :count] = np.reshape(list(bytes.fromhex(colour[1:])), (3, 1))
    return values


def _jpeg(folder: Path) -> Path:
    path = folder / "mask.jpg"
    Image.fromarray(np.moveaxis(coloured(random_codes(8, 80, 80)), 0, -1)).save(path, quality=60)
    return path


TWINS = Legend.from_values({"name": "twins", "classes": [{"code": 1, "name": "a"}, {"code": 2, "name": "b"}]})
HOLED = Legend.from_values(
    {"name": "holed", "nodata": ["#ABCDEF"], "classes": [{"code": 1, "name": "a", "colour": "#abcdef"}]}
)
REFUSED: dict[str, tuple[Callable[[Path], Path], Legend, type[GeosynthError], str]] = {
    "unknown colour": (
        lambda folder: write_raster(folder / "m.tif", _with_pixels("#123abc", 9), north_up()),
        CHESAPEAKE,
        LegendError,
        r"m\.tif: colours that legend 'chesapeake' does not know: #123abc \(9 px\); it knows #000000, #0070c0, .*;"
        r" choose another with --legend$",
    ),
    "soft edges": (
        _jpeg,
        CHESAPEAKE,
        LegendError,
        r"mask\.jpg: more than 64 colours that .*soft edges \(JPEG.*: take the original one, or resample it to nearest",
    ),
    "small image": (
        lambda folder: write_raster(folder / "m.tif", random_image(0, 40, 50, 3), north_up()),
        CHESAPEAKE,
        LegendError,
        r"m\.tif: more than 64 colours that .*: an image, or",
    ),
    "image": (
        lambda folder: write_raster(folder / "m.tif", random_image(0, 300, 300, 4), north_up()),
        CHESAPEAKE,
        DataError,
        r"m\.tif: has \d+ colours in 256 x 256 px: an image, or a mask .*\? A label raster has one band of",
    ),
    "one colour for two": (
        lambda folder: write_raster(folder / "m.tif", _with_pixels("#808080", 9), north_up()),
        TWINS,
        LegendError,
        r"m\.tif: is read by its colours, but in legend 'twins' #808080 is that of a and b;",
    ),
    "a class without data": (
        lambda folder: write_raster(folder / "m.tif", _with_pixels("#abcdef", 9), north_up()),
        HOLED,
        LegendError,
        r"m\.tif: is read by its colours, but in legend 'holed' #abcdef is that of a and no data;",
    ),
    "near infrared": (
        lambda folder: write_raster(folder / "m.tif", random_image(0, 40, 50, 4), north_up(), photometric="MINISBLACK"),
        CHESAPEAKE,
        DataError,
        r"m\.tif: has 4 bands; a label raster has one band of class codes, or red, green and blue bytes",
    ),
    "uint16": (
        lambda folder: write_raster(folder / "m.tif", random_image(0, 40, 50, 3, "uint16"), north_up()),
        CHESAPEAKE,
        DataError,
        r"m\.tif: has 3 bands; a label raster has one",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_mask_of_the_legend_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    make, legend, error, complaint = REFUSED[case]
    with pytest.raises(error, match=complaint) as caught:
        LabelRaster(make(tmp_path), legend).survey()
    assert "\n" not in str(caught.value)


def test_the_most_frequent_unknown_colours_come_first(tmp_path: Path) -> None:
    values = _with_pixels("#ffffff", 30)
    values[:, 5, :40] = np.arange(40)  # greys, a pixel each
    path = write_raster(tmp_path / "m.tif", values, north_up())
    with pytest.raises(LegendError, match=r"know: #ffffff \(30 px\), #010101 \(1 px\), .* and 28 more; it knows"):
        LabelRaster(path, CHESAPEAKE).survey()
    with pytest.raises(LegendError, match=r"know: #ffffff \(3 px\); it knows"):
        LabelRaster(path, CHESAPEAKE).read_known(Window(2, 7, 3, 3))


def test_unknown_colours_may_be_no_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_raster(tmp_path / "m.tif", _with_pixels("#123abc", 9), north_up())
    LabelRaster(path, CHESAPEAKE, unknown="nodata").survey()
    assert "m.tif: 9 px of unknown colours (#123abc) are treated as nodata" in caplog.text


# --- Journeys.


def test_palettes_that_differ_are_read_by_their_colours_too(tmp_path: Path) -> None:
    """As published: some masks in three bands, others with palettes, each in an order of its own."""
    codes = random_codes(9, HEIGHT, WIDTH, (0, *RISING.codes))
    rng = np.random.default_rng(0)
    for name, column, order in (("rgb.tif", 0, None), ("a.tif", 100, rng.permutation(8)), ("b.tif", 200, np.arange(8))):
        write_raster(tmp_path / "images" / name, random_image(0, HEIGHT, WIDTH, 3), north_up(column))
        path = tmp_path / "masks" / name
        if order is None:
            write_raster(path, coloured(codes, RISING, "#000000"), north_up(column))
            continue
        write_raster(path, order[codes].astype(np.uint8) + 3, north_up(column), photometric="PALETTE")
        rgb = {entry.code: entry.rgb for entry in RISING.classes} | {0: (0, 0, 0)}
        with rasterio.open(path, "r+") as dataset:
            dataset.write_colormap(1, {int(order[code]) + 3: rgb[code] for code in rgb})
    ingest = functools.partial(
        geosynth.ingest, tmp_path / "images", tmp_path / "masks", legend=RISING, shares=(1, 0, 0)
    )
    with pytest.raises(LegendError, match=r"its palette has the legend's colours: --label-legend from-raster"):
        ingest(out=tmp_path / "refused.zarr")
    (store,) = ingest(out=tmp_path / "store.zarr", label_legend="from-raster")
    for scene in store.scenes:
        np.testing.assert_array_equal(store.labels[scene.window.slices], codes)


def test_ingest_of_colours_is_that_of_codes(tmp_path: Path, run: Run) -> None:
    for name, seed, column in (("a.tif", 1, 0), ("b.tif", 2, 500)):
        write_raster(tmp_path / "images" / name, random_image(seed, HEIGHT, WIDTH, 3), north_up(column))
        write_pair(tmp_path, random_codes(seed, HEIGHT, WIDTH, (0, *RISING.codes)), RISING, name, column)
    (tmp_path / "rising.yaml").write_text(yaml.safe_dump(RISING.model_dump(mode="json")))
    stores = []
    for form in ("codes", "colours"):
        out = tmp_path / f"{form}.zarr"
        options = ("--legend", tmp_path / "rising.yaml", "--out", out, "--buffer", "0px")
        result = run("ingest", "--images", tmp_path / "images", "--labels", tmp_path / form, *options)
        assert result.code == 0, result.err
        stores.append(geosynth.open_store(out))
    codes, colours = stores
    assert colours.legend == codes.legend == RISING
    assert colours.class_pixels() == codes.class_pixels()
    for one, other in zip(codes.scenes, colours.scenes, strict=True):
        assert (one.window, one.class_pixels) == (other.window, other.class_pixels)
        assert len(other.labels_sha256) == 64
        np.testing.assert_array_equal(codes.read_labels(one.window), colours.read_labels(one.window))
    sources = [
        open_in_place(tmp_path / "images", tmp_path / form, RISING, split=TRAIN_ONLY)[0]
        for form in ("codes", "colours")
    ]
    assert sources[0].class_pixels() == sources[1].class_pixels() == codes.class_pixels()


def test_an_ingest_of_images_as_labels_leaves_nothing(tmp_path: Path, run: Run) -> None:
    images = write_raster(tmp_path / "images" / "a.tif", random_image(0, HEIGHT, WIDTH, 3), north_up()).parent
    result = run("ingest", "--images", images, "--labels", images, "--out", tmp_path / "store.zarr")
    assert result.code == 1
    *_, line = result.err.splitlines()
    assert "a.tif: more than 64 colours that legend 'chesapeake' does not know" in line
    assert {path.name for path in tmp_path.iterdir()} == {"images"}


@pytest.mark.parametrize("options", [(), ("--resample-labels", "mode")])
def test_images_of_colours_are_those_of_codes(
    tmp_path: Path, run: Run, tiny_model: GeneratorModel, options: tuple[str, ...]
) -> None:
    legend = Legend.from_values(
        {
            "name": "chesapeake",
            "nodata": [0, 15, "#000000"],
            # Colours rise as codes do, so that modes of equal areas are the same.
            "classes": [{**entry.model_dump(), "colour": f"#{entry.code:02x}7777"} for entry in CHESAPEAKE.classes],
        }
    )
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(legend.model_dump(mode="json")))
    images = []
    for path in write_pair(tmp_path, random_codes(10, 80, 90, (0, *legend.codes)), legend):
        out = tmp_path / f"{path.parent.name}.tif"
        arguments = ("--legend", tmp_path / "own.yaml", "--model", tiny_model.path, "--out", out, *options)
        result = run("generate", "--labels", path, *arguments)
        assert result.code == 0, result.err
        with rasterio.open(out) as dataset:
            images.append((dataset.read(), dataset.dataset_mask(), dataset.tags()["GEOSYNTH_CLASS_PIXELS"]))
    for one, other in zip(*images, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_lazy_image_of_colours_is_that_of_codes(tmp_path: Path, tiny_model: GeneratorModel) -> None:
    codes = random_codes(11, 70, 80)
    images = [
        geosynth.generate(path, model=tiny_model, precision="fp32") for path in write_pair(tmp_path, codes, CHESAPEAKE)
    ]
    np.testing.assert_array_equal(images[0].values, images[1].values)
    opened = geosynth.generate(geosynth.open_raster(tmp_path / "colours" / "labels.tif"), model=tiny_model)
    np.testing.assert_array_equal(opened.valid.values, images[0].valid.values)
    write_raster(tmp_path / "m.tif", _with_pixels("#123abc", 9), north_up())
    with pytest.raises(LegendError, match=r"know: #123abc \(9 px\)"):
        geosynth.generate(tmp_path / "m.tif", model=tiny_model).compute()


@pytest.mark.parametrize("names", [None, ["red", "green", "blue", "alpha"]])
@pytest.mark.parametrize("nodata", [None, 255])
def test_alpha_in_xarray_says_where_there_is_no_class(
    tmp_path: Path, tiny_model: GeneratorModel, names: list[str] | None, nodata: int | None
) -> None:
    codes = random_codes(14, 70, 80)
    pixels = np.concatenate([coloured(codes), np.full((1, 70, 80), 255, np.uint8)])
    pixels[3, 20:40, 30:50] = 0
    write_raster(tmp_path / "rgba.tif", pixels, north_up())
    labels = rioxarray.open_rasterio(tmp_path / "rgba.tif")
    labels = labels.rio.write_nodata(nodata) if nodata else labels
    labels = labels if names is None else labels.assign_coords(band=names)
    expected = geosynth.generate(tmp_path / "rgba.tif", model=tiny_model, precision="fp32")
    assert not expected.valid.all()
    np.testing.assert_array_equal(expected.valid, pixels[3] > 0)
    found = geosynth.generate(labels, model=tiny_model, precision="fp32")
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found.valid, expected.valid)


def test_four_bands_of_other_names_are_no_colours(tiny_model: GeneratorModel) -> None:
    pixels = np.concatenate([coloured(random_codes(14, 70, 80)), np.zeros((1, 70, 80), np.uint8)])
    labels = xr.DataArray(pixels, dims=("band", "y", "x"), coords={"band": ["red", "green", "blue", "nir"]})
    with pytest.raises((DataError, GridError), match="more than one layer"):
        geosynth.generate(labels, model=tiny_model)


@pytest.mark.parametrize("way", ["as a file", "in dask chunks", "by names", "bands last"])
def test_colours_in_xarray_are_those_of_the_file(tmp_path: Path, tiny_model: GeneratorModel, way: str) -> None:
    codes = random_codes(14, 70, 80)
    _, path = write_pair(tmp_path, codes, CHESAPEAKE)
    with rasterio.open(path, "r+") as file:
        pixels = file.read()
        pixels[:, 20:40, 30:50] = 255
        file.write(pixels)
        file.nodata = 255
    labels = rioxarray.open_rasterio(path, chunks={"band": 1, "y": 32} if way == "in dask chunks" else None)
    if way == "by names":
        labels = labels.assign_coords(band=["Red", "green", "blue"])
    if way == "bands last":
        labels = labels.transpose("y", "x", "band")
    expected = geosynth.generate(path, model=tiny_model, precision="fp32")
    found = geosynth.generate(labels, model=tiny_model, precision="fp32")
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found.valid, (pixels != 255).any(axis=0))
    np.testing.assert_array_equal(found.x, labels.x)
    with rasterio.open(geosynth.generate(labels, tmp_path / "image.tif", tiny_model, precision="fp32")) as image:
        np.testing.assert_array_equal(image.read(), expected)
    if way == "as a file":
        with pytest.raises(OutputError, match="is also an input"):
            geosynth.generate(labels, path, tiny_model, overwrite=True)


def test_evaluate_reads_colours(tmp_path: Path, run: Run) -> None:
    codes = random_codes(12, 128, 128)
    rng = np.random.default_rng(0)
    for name in ("real.tif", "synthetic.tif"):
        image = (30 * codes + rng.integers(0, 20, (3, 128, 128))).astype(np.uint8)
        write_raster(tmp_path / name, image, north_up())
    reports = []
    for path in write_pair(tmp_path, codes, CHESAPEAKE):
        out = tmp_path / f"report_{path.parent.name}"
        arguments = ("--real", tmp_path / "real.tif", "--synthetic", tmp_path / "synthetic.tif", "--labels", path)
        result = run("evaluate", *arguments, "--out", out, "--tile-size", "32", "--json")
        assert result.code == 0, result.err
        reports.append(result.out.replace(str(path), "labels"))
    assert reports[0] == reports[1]


@pytest.mark.parametrize("has_alpha", [False, True])
def test_colours_in_a_zarr_store(tmp_path: Path, has_alpha: bool) -> None:
    codes = random_codes(13, HEIGHT, WIDTH)
    t = north_up()
    places = {"y": t.f + t.e * (np.arange(HEIGHT) + 0.5), "x": t.c + t.a * (np.arange(WIDTH) + 0.5)}
    names, colours = ["red", "green", "blue"], coloured(codes)
    if has_alpha:
        codes[2:9, 3:7] = CHESAPEAKE.nodata_code
        alpha = np.uint8(255) * (codes != CHESAPEAKE.nodata_code)
        names, colours = [*names, "alpha"], np.concatenate([colours, alpha[np.newaxis]])
    values = {"image": random_image(0, HEIGHT, WIDTH, len(names)), "labels": colours}
    arrays = {
        name: xr.DataArray(pixels, dims=("band", "y", "x"), coords={"band": names, **places})
        for name, pixels in values.items()
    }
    path = tmp_path / "cube.zarr"
    xr.Dataset(arrays).rio.write_crs(UTM).to_zarr(path, consolidated=False)
    source = open_zarr_in_place(path, split=TRAIN_ONLY)
    np.testing.assert_array_equal(source.read_labels(source.window), CHESAPEAKE.encode(codes))
    labels = LabelRaster(path, CHESAPEAKE)
    np.testing.assert_array_equal(labels.read_known(labels.raster.window), CHESAPEAKE.encode(codes))
