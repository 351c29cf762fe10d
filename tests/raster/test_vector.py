"""Vector labels against rasterio's dense rasterising; what cannot be used is refused in one line."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import rasterio
import rasterio.features
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import LineString, Point, Polygon, box

import geosynth
from disks import disk
from geosynth.errors import DataError, GeosynthError, GridError, LegendError, OutputError, RasterError, SettingsError
from geosynth.grid import Window
from geosynth.legend import CHESAPEAKE
from geosynth.raster.raster_file import open_raster
from geosynth.raster.vector import VectorLabels
from rasters import NORTH_UP, SITE, UTM_18N, write_raster

SUFFIXES = (".gpkg", ".geojson", ".shp", ".parquet", ".fgb")
X, Y = NORTH_UP.c, NORTH_UP.f


def write(path: Path, shapes: list[Any], classes: list[Any], crs: str | None = UTM_18N, **columns: Any) -> Path:
    table = gpd.GeoDataFrame({"class": classes, **columns}, geometry=shapes, crs=crs)
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_file(path)
    return path


def triangles(count: int, side: float, seed: int = 0) -> list[Polygon]:
    """Large and small ones that overlap, with corners on eighths of a metre: some edges run through pixel centres."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, side, (count, 1, 2)) + rng.uniform(-side / 4, side / 4, (count, 3, 2))
    return [Polygon(np.round(own * 8) / 8 + [X, Y - side]) for own in corners]


def dense(shapes: list[Any], codes: list[int], transform: Affine, shape: tuple[int, int]) -> np.ndarray:
    result: np.ndarray = rasterio.features.rasterize(
        list(zip(shapes, codes, strict=True)), out_shape=shape, transform=transform, fill=15, dtype="uint8"
    )
    return result


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_pixels_are_those_of_dense_rasterising(tmp_path: Path, suffix: str) -> None:
    shapes = triangles(60, 200)
    codes = [1 + number % 6 for number in range(60)]
    names = [CHESAPEAKE.names[code - 1] for code in codes]
    path = write(tmp_path / f"land{suffix}", shapes, names)
    if suffix == ".fgb":  # whose writer sorts features by place
        table = gpd.read_file(path)
        shapes, codes = list(table.geometry), [CHESAPEAKE.names.index(name) + 1 for name in table["class"]]
    out = geosynth.rasterize(path, tmp_path / "labels.tif", "class", resolution=0.5, crs=UTM_18N)
    with rasterio.open(out) as dataset:
        left, bottom, right, top = shapely.total_bounds(shapes)
        assert dataset.bounds == pytest.approx(
            (np.floor(left * 2) / 2, np.floor(bottom * 2) / 2, np.ceil(right * 2) / 2, np.ceil(top * 2) / 2), abs=1e-6
        )
        assert dataset.crs == UTM_18N
        assert dataset.nodata == 15
        expected = dense(shapes, codes, dataset.transform, dataset.shape)
        differing = (dataset.read(1) != expected).mean()
        assert differing <= (1e-3 if suffix == ".geojson" else 0)  # which is in degrees
        assert dataset.colormap(1)[2][:3] == CHESAPEAKE.classes[1].rgb
    assert open_raster(out).class_table[5][0] == "impervious (other)"


@settings(max_examples=8)
@given(seed=st.integers(0, 99), row=st.integers(0, 99), column=st.integers(0, 99), size=st.integers(1, 100))
def test_a_window_is_cut_out_of_the_whole(tmp_path: Path, seed: int, row: int, column: int, size: int) -> None:
    path = tmp_path / f"{seed}.gpkg"
    if not path.exists():
        write(path, triangles(30, 100, seed), [1 + number % 6 for number in range(30)])
    grid = write_raster(tmp_path / "grid.tif", np.zeros((100, 100), np.uint8), NORTH_UP, crs=UTM_18N)
    with VectorLabels(path, "class", like=grid) as labels:
        window = Window(row, column, min(size, 100 - row), min(size, 100 - column))
        whole, all_valid = labels.read(labels.window)
        part, valid = labels.read(window)
    assert np.array_equal(part[0], whole[0][window.slices])
    assert np.array_equal(valid, all_valid[window.slices])
    assert np.array_equal(
        whole[0], dense(triangles(30, 100, seed), [1 + n % 6 for n in range(30)], NORTH_UP, (100, 100))
    )


def test_the_later_feature_lies_on_top_whatever_batch_it_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geosynth.raster.vector_layer._BATCH", 7)
    shapes, codes = triangles(40, 100), [1 + number % 6 for number in range(40)]
    shapes.append(box(X + 10, Y - 90, X + 90, Y - 10))
    codes.append(0)  # no data: takes away what lies below it
    path = write(tmp_path / "land.gpkg", shapes, codes)
    grid = write_raster(tmp_path / "grid.tif", np.zeros((100, 100), np.uint8), NORTH_UP, crs=UTM_18N)
    seen: list[tuple[str, int, int]] = []
    out = geosynth.rasterize(
        path, tmp_path / "labels.tif", "class", like=grid, progress=lambda *told: seen.append(told)
    )
    with rasterio.open(out) as dataset:
        expected = dense(shapes, [15 if code == 0 else code for code in codes], NORTH_UP, (100, 100))
        assert np.array_equal(dataset.read(1), expected)
        assert dataset.transform == NORTH_UP
        assert (dataset.read(1)[10:90, 10:90] == 15).all()
    assert seen[0] == ("features", 7, 41)
    assert seen[-1] == ("pixels", 1, 1)


def test_lines_have_their_width(tmp_path: Path) -> None:
    roads = [LineString([(X, Y - 20), (X + 80, Y - 20)]), LineString([(X + 40, Y), (X + 40, Y - 80)])]
    field = box(X, Y - 80, X + 80, Y)
    path = write(tmp_path / "land.gpkg", [field, *roads], [3, 6, 6], metres=[None, 6.0, 10.0])
    grid = write_raster(tmp_path / "grid.tif", np.zeros((80, 80), np.uint8), NORTH_UP, crs=UTM_18N)
    for width, wide, high in ((6, 6, 6), ("metres", 6, 10)):
        with VectorLabels(path, "class", like=grid, width=width) as labels:
            codes = labels.read(labels.window)[0][0]
        assert (codes[:, 10] == 6).sum() == wide
        assert (codes[60] == 6).sum() == high
        assert set(np.unique(codes)) == {3, 6}


def test_another_crs_and_a_grid_that_covers_only_a_part(tmp_path: Path) -> None:
    square = box(X + 20, Y - 60, X + 60, Y - 20)
    moved = gpd.GeoSeries([square], crs=UTM_18N).to_crs("EPSG:4326").iloc[0]
    path = write(tmp_path / "land.geojson", [moved], ["Tree-Canopy"], crs="EPSG:4326")
    grid = write_raster(tmp_path / "grid.tif", np.zeros((40, 40), np.uint8), NORTH_UP, crs=UTM_18N)
    with VectorLabels(path, "class", like=grid) as labels:
        codes, valid = labels.read(labels.window)
    assert np.array_equal(np.argwhere(valid), np.argwhere(np.pad(np.ones((20, 20), bool), ((20, 0), (20, 0)))))
    assert (codes[0][valid] == 2).all()


FIJI = {
    "one on each side": [box(179.5, -17.1, 179.51, -17), box(-179.51, -17.1, -179.5, -17)],
    "one across": [box(179.99, -17.1, 180.01, -17)],
}


@pytest.mark.parametrize("where", FIJI)
def test_features_at_both_ends_of_a_crs_make_no_raster_around_the_earth(tmp_path: Path, where: str) -> None:
    path = write(tmp_path / "fiji.gpkg", FIJI[where], [1] * len(FIJI[where]), crs="EPSG:4326")
    out = tmp_path / "labels.tif"
    with pytest.raises(GridError, match=r"fiji\.gpkg: features lie on both sides of the line .* EPSG:3857 ends"):
        geosynth.rasterize(path, out, "class", resolution=100, crs="EPSG:3857")
    assert list(tmp_path.iterdir()) == [path]
    geosynth.rasterize(path, out, "class", resolution=100, crs="EPSG:3832")  # what the message says
    with rasterio.open(out) as dataset:
        assert dataset.width < 1200
        assert (dataset.read(1) == 1).any()


@pytest.mark.parametrize("start", ["EPSG:3832", "EPSG:32701", "EPSG:3460"])  # Mercator, UTM and Fiji's own, metres
@pytest.mark.parametrize("end", ["EPSG:3857", "EPSG:4326"])
def test_features_in_metres_across_the_end_of_a_crs_are_refused_too(tmp_path: Path, start: str, end: str) -> None:
    shapes = gpd.GeoSeries(FIJI["one across"], crs="EPSG:4326").to_crs(start)
    path = write(tmp_path / "fiji.gpkg", list(shapes), [1], crs=start)
    grid: dict[str, Any] = {"resolution": 100, "crs": end}
    if end == "EPSG:4326":
        like = write_raster(
            tmp_path / "like.tif", np.zeros((18, 36), np.uint8), Affine(10, 0, -180, 0, -10, 90), crs=end
        )
        grid = {"like": like}
    with pytest.raises(GridError, match=rf"fiji\.gpkg: features lie on both sides of the line .* {end} ends"):
        VectorLabels(path, "class", **grid)


def test_features_all_around_the_earth_are_a_raster_of_it(tmp_path: Path) -> None:
    shapes = [box(-179, 0, -178, 1), box(-60, 0, -59, 1), box(60, 0, 61, 1), box(178, 0, 179, 1)]
    path = write(tmp_path / "land.gpkg", shapes, [1] * 4, crs="EPSG:4326")
    with VectorLabels(path, "class", resolution=100_000, crs="EPSG:3857") as labels:
        assert labels.geobox.shape == (2, 400)


def test_features_without_class_or_shape_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "land.gpkg", [box(X, Y - 9, X + 9, Y), None, box(X, Y - 20, X + 20, Y)], ["2", "2", None])
    with VectorLabels(path, "class", resolution=1) as labels:
        assert labels.geobox.shape == (9, 9)
    assert "left out, without class or shape: 2 features" in caplog.text


def test_what_was_closed_is_said_to_be(tmp_path: Path) -> None:
    path = write(tmp_path / "land.gpkg", [box(X, Y - 9, X + 9, Y)], [1])
    with VectorLabels(path, "class", resolution=1) as labels:
        assert (labels.read_indices(labels.window) == 0).all()
    with pytest.raises(RasterError, match=r"land\.gpkg: its features are closed, or on another machine; "):
        labels.read_indices(labels.window)


def test_the_image_of_vector_labels_is_that_of_their_raster(tmp_path: Path, tiny_model: Any) -> None:
    path = write(tmp_path / "land.gpkg", triangles(20, 64), [1 + number % 6 for number in range(20)])
    raster = geosynth.rasterize(path, tmp_path / "labels.tif", "class", resolution=1)
    with VectorLabels(path, "class", resolution=1) as labels:
        geosynth.generate(labels, tmp_path / "a.tif", tiny_model, precision="fp32")
    geosynth.generate(raster, tmp_path / "b.tif", tiny_model, precision="fp32")
    with rasterio.open(tmp_path / "a.tif") as first, rasterio.open(tmp_path / "b.tif") as second:
        assert np.array_equal(first.read(), second.read())


SQUARE = box(X, Y - 9, X + 9, Y)
LINE = LineString([(X, Y), (X + 5, Y)])


def _two_layers(path: Path) -> Path:
    write(path, [SQUARE], [2])
    gpd.GeoDataFrame({"class": [2]}, geometry=[SQUARE], crs=UTM_18N).to_file(path, layer="other", mode="a")
    return path


def write_text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


BAD: dict[str, tuple[Callable[[Path], Path], dict[str, Any], type[GeosynthError], str]] = {
    "no such file": (lambda t: t / "no.gpkg", {}, DataError, "there is no such file"),
    "no such column": (lambda t: write(t / "a.gpkg", [SQUARE], [2], kind=["x"]), {"column": "land"}, DataError,
                       "has no column 'land'; it has class, kind"),
    "unknown class": (lambda t: write(t / "a.gpkg", [SQUARE] * 3, ["Wald", "Wald", "water"]), {}, LegendError,
                      r"does not know: 'Wald' \(2\); it knows water \(1\), tree canopy"),
    "unknown code": (lambda t: write(t / "a.gpkg", [SQUARE], [77]), {}, LegendError, r"'77' \(1\)"),
    "no CRS": (lambda t: write(t / "a.gpkg", [SQUARE], [2], crs=None), {}, GridError, "has no CRS"),
    "degrees": (lambda t: write(t / "a.gpkg", [box(0, 0, 1, 1)], [2], crs="EPSG:4326"), {}, GridError,
                "is not in metres; give a projected CRS"),
    "empty": (lambda t: write(t / "a.gpkg", [], []), {}, DataError, "is empty"),
    "empty GeoJSON": (lambda t: write_text(t / "a.geojson", '{"type": "FeatureCollection", "features": []}'), {},
                      DataError, "is empty: it has no features, and so no column 'class'"),
    "points": (lambda t: write(t / "a.gpkg", [Point(X, Y)], [2]), {}, DataError, "holds a Point"),
    "lines": (lambda t: write(t / "a.gpkg", [LINE], [2]), {}, DataError, "holds lines; .*--width"),
    "mixed": (lambda t: write(t / "a.gpkg", [LINE, SQUARE], [2, 2]), {}, DataError, "lines beside polygons"),
    "no width": (lambda t: write(t / "a.gpkg", [LINE], [2], w=[None]), {"width": "w"}, DataError, "no positive width"),
    "text for width": (lambda t: write(t / "a.gpkg", [LINE], [2], w=["wide"]), {"width": "w"}, DataError,
                       "no positive width"),
    "bad width": (lambda t: write(t / "a.gpkg", [LINE], [2]), {"width": -1.0}, SettingsError, "width: .*not -1"),
    "widths that are lists": (lambda t: write(t / "a.parquet", [LINE], [2], wide=[[3.0]]), {"width": "wide"}, DataError,
                              "no positive width"),
    "classes that are lists": (lambda t: write(t / "a.parquet", [SQUARE], [[2, 3]]), {}, LegendError,
                               r"does not know: '\[2, 3\]' \(1\)"),
    "classes that are records": (lambda t: write(t / "a.parquet", [SQUARE], [{"a": 2}]), {}, LegendError,
                                 "does not know: \"{'a': 2}\" "),
    "layers": (lambda t: _two_layers(t / "a.gpkg"), {}, DataError, r"layers \(a, other\); choose one with --layer"),
    "no layer": (lambda t: _two_layers(t / "a.gpkg"), {"layer": "b"}, DataError, "no layer 'b'; it has a, other"),
    "not what it says": (lambda t: _text(t / "a.gpkg", "<OGRVRTDataSource/>"), {}, DataError, "not what its name says"),
    "a driver that may reach out": (lambda t: _text(t / "a.vrt", "<OGRVRTDataSource/>"), {}, DataError,
                                    "is not a vector file that can be read"),
    "broken": (lambda t: _text(t / "a.geojson", '{"type": "FeatureCollection", '), {}, DataError, "cannot be read"),
    "no geometries": (lambda t: _plain_parquet(t / "a.parquet"), {}, DataError, "holds no geometries"),
    "no JSON": (lambda t: _described_parquet(t / "a.parquet", b"{"), {}, DataError, "GeoParquet is damaged"),
    "no columns": (lambda t: _described_parquet(t / "a.parquet", b"{}"), {}, DataError, "names no column"),
    "no list": (lambda t: _described_parquet(t / "a.parquet", b'{"primary_column": ["a"], "columns": []}'), {},
                DataError, "names no column"),
    "another column": (lambda t: _described_parquet(
        t / "a.parquet", b'{"primary_column": "a", "columns": {"a": {"encoding": "WKB"}}}'), {}, DataError,
        "names no column"),
    "layer of parquet": (lambda t: write(t / "a.parquet", [SQUARE], [2]), {"layer": "b"}, SettingsError, "no layers"),
    "no size": (lambda t: write(t / "a.gpkg", [SQUARE], [2]), {"resolution": 0}, SettingsError, "positive size"),
    "no such size": (lambda t: write(t / "a.gpkg", [SQUARE], [2]), {"resolution": 1e12}, SettingsError, "the Earth"),
    "no grid": (lambda t: write(t / "a.gpkg", [SQUARE], [2]), {"resolution": None}, SettingsError, "give either"),
    "no such CRS": (lambda t: write(t / "a.gpkg", [SQUARE], [2]), {"crs": "EPSG:1"}, SettingsError, "unknown"),
    "no such place": (lambda t: write(t / "a.gpkg", [box(0, 0, 9, 95)], [2], crs="EPSG:4326"), {"crs": "EPSG:3857"},
                      GridError, "has no coordinates"),
    "too large": (lambda t: write(t / "a.gpkg", [SQUARE], [2]), {"resolution": 1e-9}, GridError, "pixels"),
    "a corner beyond all": (lambda t: write(t / "a.gpkg", [SQUARE, _with_corner(1e300)], [2, 2]), {}, GridError,
                            "would be 1e\\+300 x "),
    "an endless corner": (lambda t: write(t / "a.gpkg", [SQUARE, _with_corner(np.inf)], [2, 2]), {}, DataError,
                          "coordinates that are NaN or infinite"),
    "a corner that is no number": (lambda t: write(t / "a.gpkg", [SQUARE, _with_corner(np.nan)], [2, 2]), {}, DataError,
                                   "coordinates that are NaN or infinite"),
}  # fmt: skip


def _with_corner(y: float) -> Polygon:
    return Polygon([(X, Y), (X + 9, Y), (X + 9, y), (X, Y - 9)])


def _text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def _plain_parquet(path: Path) -> Path:
    gpd.pd.DataFrame({"class": [1]}).to_parquet(path)
    return path


def _described_parquet(path: Path, described: bytes) -> Path:
    table = pyarrow.table({"class": [1]}).replace_schema_metadata({b"geo": described})
    pyarrow.parquet.write_table(table, path)
    return path


@pytest.mark.parametrize("resolution", [0.25, 1.0, 10.0])
@pytest.mark.parametrize("decimals", [7, 15])
def test_rounded_degrees_add_no_pixels(tmp_path: Path, resolution: float, decimals: int) -> None:
    """Of GeoJSON, seven decimals are a centimetre."""
    side, left, low = 100 * resolution, 384_510, 4_310_390  # metres, on pixels' edges
    table = gpd.GeoDataFrame({"class": [2]}, geometry=[shapely.box(left, low, left + side, low + side)], crs=UTM_18N)
    table.to_crs(4326).to_file(tmp_path / "a.geojson", COORDINATE_PRECISION=decimals)
    with VectorLabels(tmp_path / "a.geojson", "class", resolution=resolution, crs=UTM_18N) as labels:
        assert labels.geobox.shape == (100, 100)
        assert labels.read(labels.window)[1].all()


def test_pixels_larger_than_all_features_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.gpkg", [SQUARE], [2])
    with VectorLabels(path, "class", resolution=2000) as labels:
        assert labels.geobox.shape in [(rows, columns) for rows in (1, 2) for columns in (1, 2)]
    assert f"{path}: pixels of 2000 m, larger than all features together" in caplog.text


@pytest.mark.parametrize("what", BAD)
@pytest.mark.filterwarnings("ignore:'crs' was not provided")
def test_what_cannot_be_used_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    make, options, error, message = BAD[what]
    options = {"column": "class", "resolution": 1.0, **options}
    path = make(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=message) as raised:
        geosynth.rasterize(path, tmp_path / "out.tif", **options)
    assert "\n" not in str(raised.value)
    assert sorted(tmp_path.iterdir()) == before, "nothing is left"


def test_like_is_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "land.gpkg", [SQUARE], [2])
    plain = write_raster(tmp_path / "plain.tif", np.zeros((9, 9), np.uint8), NORTH_UP, crs=None)
    far = write_raster(tmp_path / "far.tif", np.zeros((9, 9), np.uint8), Affine(1, 0, 9, 0, -1, 9), crs=UTM_18N)
    degrees = write_raster(
        tmp_path / "d.tif", np.zeros((9, 9), np.uint8), Affine(1, 0, -80, 0, -1, 40), crs="EPSG:4326"
    )
    site = write_raster(tmp_path / "site.tif", np.zeros((9, 9), np.uint8), NORTH_UP, crs=SITE)
    for like, error, message in (
        (plain, GridError, "has no CRS"),
        (site, GridError, "a feature lies where .* has no coordinates; choose another CRS"),
        (far, DataError, "no feature with a class on the grid of --like"),
        (tmp_path / "none.tif", RasterError, "no such file"),
    ):
        with pytest.raises(error, match=message):
            geosynth.rasterize(path, tmp_path / "out.tif", "class", like=like)
    lines = write(tmp_path / "lines.gpkg", [LINE], [2])
    with pytest.raises(GridError, match="width is in metres"):
        geosynth.rasterize(lines, tmp_path / "out.tif", "class", like=degrees, width=3)


def test_lines_in_a_sites_own_coordinates_have_widths_in_metres(tmp_path: Path) -> None:
    line = shapely.LineString([(0, 4.5), (9, 4.5)])
    table = gpd.GeoDataFrame({"class": [2]}, geometry=[line], crs=SITE)
    table.to_parquet(tmp_path / "lines.parquet")
    path = geosynth.rasterize(tmp_path / "lines.parquet", tmp_path / "out.tif", "class", resolution=1, width=3)
    with rasterio.open(path) as made:
        assert (made.crs, made.height) == (SITE, 3)


@pytest.mark.parametrize(("shapes", "said"), [([SQUARE], True), ([SQUARE, LINE], False)])
def test_a_width_without_lines_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, shapes: list[Any], said: bool
) -> None:
    path = write(tmp_path / "land.gpkg", shapes, ["water"] * len(shapes))
    VectorLabels(path, "class", resolution=1, width=4).close()
    assert ("has no lines, so their width has no effect" in caplog.text) == said


def test_outputs_are_checked(tmp_path: Path) -> None:
    path = write(tmp_path / "land.gpkg", [SQUARE], [2])
    (tmp_path / "there.tif").touch()
    for out, message in (("out.png", "is a GeoTIFF"), ("there.tif", "already exists")):
        with pytest.raises(OutputError, match=message):
            geosynth.rasterize(path, tmp_path / out, "class", resolution=1)
    geosynth.rasterize(path, tmp_path / "there.tif", "class", resolution=1, overwrite=True)


def test_the_command(tmp_path: Path, run: Callable[..., Any]) -> None:
    legend = tmp_path / "own.yaml"
    legend.write_text("{name: own, classes: [{code: 300, name: wood}, {code: -7, name: way}], nodata: [255]}")
    path = write(tmp_path / "land.gpkg", [SQUARE, LINE], ["Wood", "way"], wide=[None, 4.0])
    out = tmp_path / "labels.tif"
    command = ("rasterize", path, "--column", "class", "--legend", legend, "--resolution", "1", "--out", out)
    assert run(*command).code == 1
    done = run(*command, "--width", "wide")
    assert (done.code, done.out.strip(), done.err) == (0, str(out), "")
    with rasterio.open(out) as dataset:
        assert dataset.dtypes == ("int32",)
        assert set(np.unique(dataset.read(1))) == {300, -7, 255}
    assert open_raster(out).class_table[300][0] == "wood"
    again = run(*command, "--width", "4", "--overwrite")
    assert again.code == 0


def test_generate_paints_vector_labels_at_the_models_pixel_size(
    tmp_path: Path, run: Callable[..., Any], tiny_model: Any
) -> None:
    path = write(tmp_path / "land.gpkg", triangles(20, 64), [CHESAPEAKE.names[number % 6] for number in range(20)])
    common = ("--model", tiny_model.path, "--precision", "fp32")
    done = run("generate", "--labels", path, "--column", "class", "--out", tmp_path / "a.tif", *common)
    assert (done.code, done.err) == (0, "")
    raster = geosynth.rasterize(path, tmp_path / "labels.tif", "class", resolution=tiny_model.card.gsd)
    assert run("generate", "--labels", raster, "--out", tmp_path / "b.tif", *common).code == 0
    with rasterio.open(tmp_path / "a.tif") as first, rasterio.open(tmp_path / "b.tif") as second:
        assert first.transform == second.transform
        assert np.array_equal(first.read(), second.read())
    gpd.read_file(path).to_crs("EPSG:4326").to_file(degrees := tmp_path / "land.geojson", driver="GeoJSON")
    moved = ("--labels", degrees, "--column", "class", "--crs", UTM_18N, "--out", tmp_path / "moved.tif")
    assert run("generate", *moved, *common).code == 0
    with rasterio.open(tmp_path / "moved.tif") as third:
        assert third.crs == UTM_18N
    for wrong, message in (
        ((), "land.gpkg: cannot be opened as a raster: it is a vector file; geosynth rasterize makes"),
        (("--resolution", "2"), "--resolution: no effect without --column, of vector labels"),
        (("--crs", UTM_18N), "--crs: no effect without --column, of vector labels"),
        (("--column", "class", "--width", "x"), "has no column 'x'; it has class"),
    ):
        refused = run("generate", "--labels", path, *wrong, "--out", tmp_path / "c.tif", *common)
        assert refused.code == 1
        assert message in refused.err


def test_a_full_disk_for_temporary_files_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "land.gpkg", [box(X, Y - 9, X + 9, Y)], [3])
    with disk(tmp_path / "disk", "size=40k"):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "disk"))
        with pytest.raises(OutputError, match=r"features\.gpkg: cannot be written: No space left on device"):
            VectorLabels(path, "class", CHESAPEAKE, resolution=1)


def test_a_crs_of_geoparquet_that_is_unknown_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "land.parquet"
    gpd.GeoDataFrame({"class": ["water"]}, geometry=[shapely.box(0, 0, 9, 9)], crs="EPSG:26917").to_parquet(path)
    table = pyarrow.parquet.read_table(path)
    described = json.loads(table.schema.metadata[b"geo"])
    described["columns"]["geometry"]["crs"] = "nothing known"
    metadata = {**table.schema.metadata, b"geo": json.dumps(described).encode()}
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(GridError, match=r"land\.parquet: its CRS cannot be read: "):
        VectorLabels(path, "class", resolution=1)
