"""Splits as files: the same split back from every format, polygons from any CRS, and what cannot be a split."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pyogrio
import pytest
import shapely
from affine import Affine
from areas import polygons, scenes
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import CRS

from geosynth.errors import DataError, GridError, OutputError, SettingsError
from geosynth.grid import SpatialSplit, Window, buffer_pixels
from geosynth.grid.lengths import parse_distance
from geosynth.grid.split import FOLDS, part_neighbours
from geosynth.grid.vector import check_can_be_read, read_table, to_coordinates
from rasters import SITE, UTM, north_up
from strategies import few

GRIDS = {
    "north-up": GeoBox((300, 300), north_up(), UTM),
    "0.1 m far north": GeoBox((300, 300), Affine(0.1, 0, 266115.63, 0, -0.1, 9303356.07), "EPSG:32617"),
    "south-up": GeoBox((300, 300), Affine(1 / 3, 0, 266115.6, 0, 1 / 3, 4303356.0), UTM),
    "rotated": GeoBox((300, 300), north_up() @ Affine.rotation(30), UTM),
    "degrees": GeoBox((300, 300), Affine(1 / 3600, 0, -78.0, 0, -1 / 3600, 38.0), "EPSG:4326"),
    "no authority": GeoBox((300, 300), Affine(1, 0, 1_650_000, 0, -1, 1_950_000), "ESRI:102039"),
    "none": GeoBox((300, 300), Affine.identity(), None),
}


@pytest.mark.parametrize("suffix", [".parquet", ".gpkg", ".geojson", ".fgb"])
@pytest.mark.parametrize("grid", GRIDS)
def test_a_split_comes_back_exactly(tmp_path: Path, grid: str, suffix: str) -> None:
    places = [Window(3, 5, 280, 200), Window(40, 190, 200, 110)]
    blocks = SpatialSplit.by_blocks(places, 32, seed=4, buffer=5)
    drawn = {
        "train": shapely.Point(150.3, 80.7).buffer(77),
        "test": shapely.Polygon([(9, 9.5), (90, 30), (20, 200.25)]),
    }
    for split in (blocks, SpatialSplit.by_polygons(drawn, places, buffer=3)):
        path = tmp_path / f"split{suffix}"
        split.save(path, GRIDS[grid])
        assert SpatialSplit.load(path, GRIDS[grid]) == split
        assert [file.name for file in tmp_path.iterdir()] == [path.name]
        table = read_table(path)
        assert {"fold", "buffer", "pixels"} < set(table.columns)
        assert table["pixels"].sum() == pytest.approx(sum(area.area for area in split.areas))
        path.unlink()


@few
@given(scenes(), st.dictionaries(st.sampled_from(FOLDS), polygons(), min_size=1), st.integers(0, 4))
def test_any_split_comes_back_exactly(
    tmp_path_factory: pytest.TempPathFactory, places: list[Window], drawn: dict[str, shapely.Polygon], buffer: int
) -> None:
    path = tmp_path_factory.mktemp("split") / "split.parquet"
    try:
        split = SpatialSplit.by_polygons(drawn, places, buffer=buffer)
    except DataError:
        return
    split.save(path, GRIDS["north-up"])
    if all(area.is_empty for area in split.areas):  # polygons beside all scenes
        with pytest.raises(DataError, match="holds no polygon"):
            SpatialSplit.load(path, GRIDS["north-up"])
    else:
        assert SpatialSplit.load(path, GRIDS["north-up"]) == split


def test_a_geographic_system_reads_it_as_polygons_in_place(tmp_path: Path) -> None:
    grid = GRIDS["north-up"]
    split = SpatialSplit.by_blocks([Window(0, 0, 300, 300)], 64, seed=1, buffer=10)
    split.save(tmp_path / "split.parquet", grid)
    split.save(tmp_path / "split.geojson", grid)
    table = gpd.read_parquet(tmp_path / "split.parquet")
    assert table.crs.to_epsg() == 26917
    assert table.geometry.is_valid.all()
    for fold, rows in table.groupby("fold"):
        assert rows.geometry.area.sum() == pytest.approx(split.area(fold).area * 0.6**2)
        assert rows["pixels"].sum() == split.area(fold).area
        corner = grid.affine @ split.area(fold).bounds[:2]
        assert (rows.total_bounds[0], rows.total_bounds[3]) == pytest.approx(corner)
    written = json.loads((tmp_path / "split.geojson").read_text())
    points = np.array([p for row in written["features"] for ring in row["geometry"]["coordinates"] for p in ring])
    assert (np.abs(points - (-83.7, 38.85)) < 0.05).all()  # longitude first


def test_polygons_drawn_in_another_crs_are_reprojected_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grid = GRIDS["north-up"]
    there = gpd.GeoSeries([shapely.box(*_bounds(grid, 20, 30, 120, 200))], crs=UTM).to_crs("EPSG:3857")
    table = gpd.GeoDataFrame({"fold": ["train"], "note": ["by hand"]}, geometry=there.to_numpy(), crs="EPSG:3857")
    table.to_file(tmp_path / "drawn.gpkg", driver="GPKG")
    split = SpatialSplit.load(tmp_path / "drawn.gpkg", grid)
    assert split.area("train").equals(shapely.box(20, 30, 120, 200))
    changed = "polygons were reprojected from WGS 84 / Pseudo-Mercator to NAD83 / UTM zone 17N"
    assert f"{tmp_path / 'drawn.gpkg'}: {changed}" in caplog.text


def test_the_same_crs_in_other_words_is_not_reprojected(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    grid = GeoBox((300, 300), Affine(1, 0, 500_000, 0, -1, 5_500_000), "EPSG:25832")
    other = CRS("+proj=utm +zone=32 +ellps=GRS80 +units=m +no_defs")
    assert other != CRS(25832)
    box = shapely.box(*_bounds(grid, 20, 30, 120, 200))
    gpd.GeoDataFrame({"fold": ["train"]}, geometry=[box], crs=other).to_parquet(tmp_path / "drawn.parquet")
    split = SpatialSplit.load(tmp_path / "drawn.parquet", grid)
    assert split.area("train").equals(shapely.box(20, 30, 120, 200))
    assert not caplog.text


def test_geojson_of_pixels_without_a_crs_may_be_called_json(tmp_path: Path) -> None:
    split = SpatialSplit.by_scenes({"train": [Window(0, 0, 50, 50)]})
    split.save(tmp_path / "split.json", GRIDS["none"])
    assert SpatialSplit.load(tmp_path / "split.json", GRIDS["none"]) == split


def test_what_the_driver_cannot_write_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise pyogrio.errors.DataLayerError("no room")

    monkeypatch.setattr(gpd.GeoDataFrame, "to_file", fail)
    split = SpatialSplit.by_scenes({"train": [Window(0, 0, 50, 50)]})
    for name in ("split.gpkg", "split.geojson"):
        with pytest.raises(OutputError, match=rf"{name}.*no room"):
            split.save(tmp_path / name, GRIDS["north-up"])
    monkeypatch.undo()
    monkeypatch.setattr(gpd, "read_file", lambda path: [])
    with pytest.raises(OutputError, match=r"split\.gpkg.*its rows cannot be read back"):
        split.save(tmp_path / "split.gpkg", GRIDS["north-up"])
    assert not list(tmp_path.iterdir())


def test_an_edited_file_keeps_its_buffer(tmp_path: Path) -> None:
    grid = GRIDS["north-up"]
    SpatialSplit.by_scenes({"train": [Window(0, 0, 50, 50)], "test": [Window(0, 60, 50, 50)]}, buffer=8).save(
        tmp_path / "split.parquet", grid
    )
    table = gpd.read_parquet(tmp_path / "split.parquet")
    crs = table.crs  # which pandas 2 forgets when a row comes
    table.loc[len(table)] = ["train", 8, 0.0, shapely.box(*_bounds(grid, 50, 0, 58, 50))]  # up to two pixels from test
    table.set_crs(crs, allow_override=True).to_parquet(tmp_path / "edited.parquet")
    assert SpatialSplit.load(tmp_path / "edited.parquet", grid).area("train").bounds == (0, 0, 52, 50)


def _bounds(grid: GeoBox, left: int, top: int, right: int, bottom: int) -> tuple[float, ...]:
    (x0, y1), (x1, y0) = grid.affine @ (left, top), grid.affine @ (right, bottom)
    return x0, y0, x1, y1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"fold": ["training"]}, r"split\.gpkg: fold training; the folds are train, val, test"),
        ({"set": ["train"]}, r"split\.gpkg: needs polygons with a column 'fold'; its columns are set, geometry"),
        ({"fold": []}, r"split\.gpkg: holds no polygon"),
    ],
)
def test_tables_that_are_no_split(tmp_path: Path, values: dict[str, list[str]], said: str) -> None:
    boxes = [shapely.box(*_bounds(GRIDS["north-up"], 0, 0, 9, 9))] * len(next(iter(values.values())))
    gpd.GeoDataFrame(values, geometry=boxes, crs=UTM).to_file(tmp_path / "split.gpkg", driver="GPKG")
    with pytest.raises(DataError, match=said):
        SpatialSplit.load(tmp_path / "split.gpkg", GRIDS["north-up"])


def test_one_row_may_hold_many_polygons(tmp_path: Path) -> None:
    boxes = [shapely.box(*_bounds(GRIDS["north-up"], left, 0, left + 5, 5)) for left in (0, 10)]
    table = gpd.GeoDataFrame({"fold": ["test"]}, geometry=[shapely.MultiPolygon(boxes)], crs=UTM)
    table.to_parquet(tmp_path / "split.parquet")
    for scenes_, pixels in ((None, 50), ([Window(0, 0, 5, 12)], 35)):
        split = SpatialSplit.load(tmp_path / "split.parquet", GRIDS["north-up"], scenes_)
        assert split.area("test").area == pytest.approx(pixels)


@pytest.mark.parametrize("suffix", [".gpkg", ".geojson", ".fgb"])
def test_the_layer_has_the_name_of_the_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"folds of 2026{suffix}"
    SpatialSplit.by_scenes({"train": [Window(0, 0, 9, 9)]}).save(path, GRIDS["north-up"])
    assert pyogrio.list_layers(path)[:, 0].tolist() == ["folds_of_2026"]


@pytest.mark.parametrize(
    ("name", "beginning", "said"),
    [
        ("split.json", b'\xef\xbb\xbf \t\r\n{"type": ', None),
        ("split.fgb", b"fgb\3fgb", None),
        ("split.fgb", b" fgb\3fgb", "its content is not what its name says"),
        ("split.fgb", b"Xfgb\3fgb", "its content is not what its name says"),
        ("split.json", b'["{"', "its content is not what its name says"),
        ("split.kml", b"{", "is not a vector file that can be read; these end in .parquet, "),
    ],
)
def test_a_file_is_what_its_name_and_its_beginning_say(
    tmp_path: Path, name: str, beginning: bytes, said: str | None
) -> None:
    (tmp_path / name).write_bytes(beginning)
    if said is None:
        check_can_be_read(tmp_path / name)
    else:
        with pytest.raises(DataError, match=f"{name}: .*{said}"):
            check_can_be_read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.parquet", b"PAR1 PAR1"), ("a.gpkg", b"SQLite format 3\0"), ("a.geojson", b"{broken"), ("a.fgb", b"fgb\3")],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name}: cannot be read as a table of polygons: ") as caught:
        read_table(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("x", [np.inf, np.nan])
def test_polygons_without_a_place_are_told(tmp_path: Path, x: float) -> None:
    drawn = shapely.Polygon([(0, 0), (x, 0), (0, 9)])
    gpd.GeoDataFrame({"fold": ["train"]}, geometry=[drawn], crs=UTM).to_parquet(tmp_path / "drawn.parquet")
    with pytest.raises(DataError, match=r"drawn\.parquet: has polygons without a place on the grid: their coord"):
        SpatialSplit.load(tmp_path / "drawn.parquet", GRIDS["north-up"])


def test_a_table_without_polygons_is_told_by_its_columns(tmp_path: Path) -> None:
    pyogrio.write_dataframe(pd.DataFrame({"a": [1], "fold": ["train"]}), tmp_path / "table.gpkg")
    with pytest.raises(DataError, match=r"table\.gpkg: needs polygons; its columns are a, fold$"):
        read_table(tmp_path / "table.gpkg")


def test_five_unknown_folds_are_named(tmp_path: Path) -> None:
    box = shapely.box(*_bounds(GRIDS["north-up"], 0, 0, 9, 9))
    table = gpd.GeoDataFrame({"fold": [*"gfedcba", "train"]}, geometry=[box] * 8, crs=UTM)
    table.to_file(tmp_path / "split.gpkg", driver="GPKG")
    with pytest.raises(DataError, match=r"split\.gpkg: fold a, b, c, d, e and 2 more; the folds are train, val, test$"):
        SpatialSplit.load(tmp_path / "split.gpkg", GRIDS["north-up"])


@pytest.mark.parametrize(("shared", "said"), [(0.75, False), (1.25, True)])
def test_polygons_that_overlap_by_a_pixel_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, shared: float, *, said: bool
) -> None:
    boxes = [shapely.box(*_bounds(GRIDS["north-up"], *box)) for box in ((0, 0, 9, 4), (9 - shared, 3, 20, 12))]
    gpd.GeoDataFrame({"fold": ["train", "test"]}, geometry=boxes, crs=UTM).to_parquet(tmp_path / "drawn.parquet")
    split = SpatialSplit.load(tmp_path / "drawn.parquet", GRIDS["north-up"])
    assert split.buffer == 0
    told = "drawn.parquet: polygons of train and test overlap in 1 px, which go to test"
    assert (told in caplog.text) == said


def test_files_that_are_no_tables_of_polygons(tmp_path: Path) -> None:
    grid = GRIDS["north-up"]
    for name in ("split.parquet", "split.gpkg", "split.geojson"):
        with pytest.raises(DataError, match=f"{name}: cannot be read .* no such file"):
            SpatialSplit.load(tmp_path / name, grid)
        (tmp_path / name).write_text("not a table")
        with pytest.raises(DataError, match=f"{name}: cannot be read") as caught:
            SpatialSplit.load(tmp_path / name, grid)
        assert "\n" not in str(caught.value)
    points = gpd.GeoDataFrame({"fold": ["train"]}, geometry=[shapely.Point(1, 2)], crs=UTM)
    points.to_parquet(tmp_path / "points.parquet")
    with pytest.raises(DataError, match="row 0 holds no polygon"):
        SpatialSplit.load(tmp_path / "points.parquet", grid)
    boxes = gpd.GeoDataFrame({"fold": ["train"]}, geometry=[shapely.box(1, 2, 3, 4)])
    boxes.to_parquet(tmp_path / "nowhere.parquet")
    with pytest.raises(GridError, match="its polygons have no CRS"):
        SpatialSplit.load(tmp_path / "nowhere.parquet", grid)
    boxes.set_crs(UTM).to_parquet(tmp_path / "somewhere.parquet")
    with pytest.raises(GridError, match="the grid has no CRS"):
        SpatialSplit.load(tmp_path / "somewhere.parquet", GRIDS["none"])
    with pytest.raises(OutputError, match=r"\.shp: .*suffixes \.parquet, \.geoparquet, "):
        SpatialSplit.by_scenes({"train": [Window(0, 0, 3, 3)]}).save(tmp_path / "split.shp", grid)


def test_grids_of_two_zones_keep_their_folds_apart() -> None:
    """The same ground in two UTM zones: a train scene of one lies on a test scene of the other, another beside it."""
    east = GeoBox((400, 800), Affine(10, 0, 700_000, 0, -10, 4_310_000), "EPSG:32617")
    corner = gpd.GeoSeries.from_xy([704_000], [4_308_000], crs="EPSG:32617").to_crs("EPSG:32618")
    west = GeoBox((400, 800), Affine(10, 0, round(corner.x[0]), 0, -10, round(corner.y[0])), "EPSG:32618")
    first = SpatialSplit.by_scenes({"train": [Window(0, 0, 400, 700)]}, buffer=20)
    second = SpatialSplit.by_scenes({"test": [Window(0, 0, 60, 60)], "val": [Window(200, 0, 60, 60)]}, buffer=20)
    (train, _, _), (_, val, test) = (split.areas for split in part_neighbours([east, west], [first, second]))

    def on_the_ground(area: shapely.Geometry, grid: GeoBox) -> shapely.Geometry:
        dense = shapely.segmentize(to_coordinates(area, grid), 100)
        return gpd.GeoSeries([dense], crs=grid.crs.to_wkt()).to_crs("EPSG:32617").iloc[0]

    for area in (val, test):
        assert 200 <= shapely.distance(on_the_ground(train, east), on_the_ground(area, west)) < 230
    assert train.area > 0.8 * first.area("train").area
    assert (val, test) == (second.area("val"), second.area("test"))


def test_grids_that_no_projection_joins_part_nothing() -> None:
    everything = SpatialSplit.by_scenes({"train": [Window(0, 0, 60, 60)], "val": [Window(0, 90, 60, 60)]}, buffer=20)
    far = GeoBox((300, 300), Affine(1e-4, 0, 9.0, 0, -1e-4, 0.0), "EPSG:4326")  # 90 degrees from the zone's meridian
    grids = [GRIDS["north-up"], far, GRIDS["none"], GeoBox((300, 300), GRIDS["north-up"].affine, SITE)]
    assert part_neighbours(grids, [everything] * 4) == [everything] * 4


def test_a_site_that_no_projection_brings_to_longitudes_is_refused_as_geojson(tmp_path: Path) -> None:
    grid, split = (
        GeoBox((300, 300), GRIDS["north-up"].affine, SITE),
        SpatialSplit.by_blocks([Window(0, 0, 300, 300)], 64),
    )
    with pytest.raises(OutputError, match=r"^GeoJSON is .* the CRS site does not give; choose another suffix"):
        split.save(tmp_path / "a.geojson", grid)
    assert not list(tmp_path.iterdir())
    split.save(tmp_path / "a.gpkg", grid)
    assert SpatialSplit.load(tmp_path / "a.gpkg", grid) == split


def test_polygons_that_no_projection_brings_to_the_grid_are_refused(tmp_path: Path) -> None:
    table = gpd.GeoDataFrame({"fold": ["train"]}, geometry=[shapely.box(9, 50, 10, 51)], crs="EPSG:4326")
    table.to_parquet(tmp_path / "drawn.parquet")
    with pytest.raises(DataError, match="without a place on the grid"):
        SpatialSplit.load(tmp_path / "drawn.parquet", GeoBox((300, 300), GRIDS["north-up"].affine, SITE))


@pytest.mark.parametrize(
    ("transform", "crs", "metres", "pixels"),
    [
        (Affine(0.6, 0, 0, 0, -0.6, 0), UTM, 200, 334),
        (Affine(0.6, 0, 0, 0, -0.6, 0), UTM, 0.6 * 7, 7),
        (Affine(0.600000000599999, 0, 0, 0, -0.600000000599999, 0), UTM, 6, 10),
        (Affine(2, 0, 0, 0, -1, 0), UTM, 10, 10),  # the shorter side counts
        (Affine.rotation(30) @ Affine.scale(2, -1), UTM, 10, 10),
        (Affine(10, 0, 0, 0, -10, 0), "EPSG:2264", 10, 4),  # US survey feet: 3.05 m pixels
        (Affine(1e-5, 0, 0, 0, -1e-5, 0), "EPSG:4326", 0, 0),
    ],
)
def test_metres_become_whole_pixels_rounded_up(transform: Affine, crs: str, metres: float, pixels: int) -> None:
    assert buffer_pixels(metres, GeoBox((4, 4), transform, crs)) == pixels


def test_metres_on_a_grid_without_metres_are_refused() -> None:
    for crs in ("EPSG:4326", None):
        with pytest.raises(GridError, match="give pixels"):
            buffer_pixels(5, GeoBox((4, 4), Affine.identity(), crs))
    for metres in (-1, float("inf"), float("nan")):
        with pytest.raises(SettingsError, match=r"^buffer: must be metres, 0 or more"):
            buffer_pixels(metres, GRIDS["north-up"])


@pytest.mark.parametrize(
    ("text", "pixels"), [("200", 334), ("200 m", 334), (6, 10), ("64px", 64), ("0", 0), ("0px", 0)]
)
def test_a_buffer_is_in_metres_or_in_pixels(text: str | float, pixels: int) -> None:
    assert buffer_pixels(text, GRIDS["north-up"]) == pixels


@pytest.mark.parametrize("text", ["far", "-3px", "2.5px", "nanpx", "64pxm", "nan", "-1", "inf", "3 km"])
def test_a_buffer_that_cannot_be(text: str) -> None:
    with pytest.raises(SettingsError, match=r"^buffer[ :]"):
        buffer_pixels(text, GRIDS["north-up"])
    with pytest.raises(SettingsError, match=r"^buffer[ :]"):
        parse_distance(text)
