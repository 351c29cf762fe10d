"""Class tables: what GDAL reads of what we write, what we read of what GDAL writes, and which legend follows."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import rasterio.shutil
from hypothesis import given
from shapely.geometry import box

import geosynth
from geosynth.errors import LegendError, OutputError, RasterError
from geosynth.legend import CHESAPEAKE, Legend
from geosynth.raster.class_table import (
    CLASSES_TAG,
    legend_of_table,
    write_attribute_table,
)
from geosynth.raster.label_legend import choose_legend
from geosynth.raster.raster_file import open_raster
from rasters import north_up, random_codes, write_class_table, write_raster
from strategies import few, legends

# The classes of the Chesapeake legend under other codes, by names as other makers spell them, and two more.
OTHER = {
    0: "No Data",
    11: "Water",
    41: "Tree_Canopy",
    71: "low-vegetation",
    31: "BARREN",
    21: "Impervious (other)",
    22: "Impervious (Roads)",
    99: "Aberdeen Proving Ground",
}


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    return write_raster(tmp_path / "labels.tif", random_codes(0, 24, 24, tuple(OTHER)), north_up())


def attribute_table(path: Path, columns: list[tuple[str, int, int]], rows: list[tuple[object, ...]]) -> None:
    """A sidecar with an attribute table, as GDAL writes it: (name, type, usage) a column."""
    heads = "".join(
        f'<FieldDefn index="{index}"><Name>{name}</Name><Type>{kind}</Type><Usage>{usage}</Usage></FieldDefn>'
        for index, (name, kind, usage) in enumerate(columns)
    )
    body = "".join(
        f'<Row index="{index}">' + "".join(f"<F>{cell}</F>" for cell in row) + "</Row>"
        for index, row in enumerate(rows)
    )
    table = f'<GDALRasterAttributeTable tableType="thematic">{heads}{body}</GDALRasterAttributeTable>'
    Path(f"{path}.aux.xml").write_text(f'<PAMDataset><PAMRasterBand band="1">{table}</PAMRasterBand></PAMDataset>')


def category_names(path: Path, names: list[str]) -> None:
    listed = "".join(f"<Category>{name}</Category>" for name in names)
    Path(f"{path}.aux.xml").write_text(
        f'<PAMDataset><PAMRasterBand band="1"><CategoryNames>{listed}</CategoryNames></PAMRasterBand></PAMDataset>'
    )


@pytest.mark.parametrize(
    ("columns", "order"),
    [
        ([("Value", 0, 5), ("Class", 2, 2), ("Count", 0, 1)], (0, 1)),
        ([("OID", 0, 0), ("VALUE", 0, 0), ("COUNT", 1, 0), ("CLASS_NAME", 2, 0)], (1, 3)),
        ([("Opacity", 0, 0), ("landcover", 2, 0), ("low", 1, 3)], (2, 1)),
    ],
    ids=["usages", "esri", "real-valued minimum"],
)
def test_attribute_tables_of_other_makers(
    labels: Path, columns: list[tuple[str, int, int]], order: tuple[int, int]
) -> None:
    rows = []
    for code, name in OTHER.items():
        row: list[object] = [7] * len(columns)
        row[order[0]], row[order[1]] = (f"{code}.0" if columns[order[0]][1] == 1 else code), name
        rows.append(tuple(row))
    attribute_table(labels, columns, rows)
    assert {code: name for code, (name, _) in open_raster(labels).class_table.items()} == OTHER


def test_a_table_of_many_rows_and_rows_that_hold_no_code(labels: Path) -> None:
    rows: list[tuple[object, ...]] = [(code, f"class &quot;{code}&quot;") for code in range(300_000)]
    attribute_table(labels, [("Value", 0, 5), ("Class", 2, 2)], [*rows, ("x", "a"), ("", ""), (9, ""), (8,)])
    table = open_raster(labels).class_table
    assert len(table) == 300_000
    assert table[299_999] == ('class "299999"', None)


def test_codes_without_end_are_none(labels: Path) -> None:
    columns = [("Value", 1, 5), ("Name", 2, 2), ("R", 1, 6), ("G", 1, 7), ("B", 1, 8)]
    rows = [("inf", "a", 1, 1, 1), (4, "b", "inf", 1, 1), ("nan", "c", 1, 1, 1), (5, "d", 1, 1, 1)]
    attribute_table(labels, columns, rows)
    table = open_raster(labels).class_table
    assert {code: name for code, (name, _) in table.items()} == {4: "b", 5: "d"}
    assert table[5][1] == "#010101"


def test_colours_of_an_attribute_table(labels: Path) -> None:
    columns = [("Value", 0, 5), ("Name", 2, 2), ("R", 0, 6), ("G", 0, 7), ("B", 0, 8)]
    attribute_table(labels, columns, [(4, "sand &amp; gravel", 255, 170, 0)])
    assert open_raster(labels).class_table == {4: ("sand & gravel", "#ffaa00")}


@pytest.mark.parametrize("suffix", [".vrt", ".img"])
def test_tables_reach_us_through_any_format(labels: Path, suffix: str) -> None:
    category_names(labels, ["", "water", "tree canopy"])
    copy = labels.with_suffix(suffix)
    rasterio.shutil.copy(str(labels), str(copy), driver={".vrt": "VRT", ".img": "HFA"}[suffix])
    names = {code: name for code, (name, _) in open_raster(copy).class_table.items() if name}
    assert names == {1: "water", 2: "tree canopy"}


def test_a_raster_that_says_nothing(labels: Path, tmp_path: Path) -> None:
    assert open_raster(labels).class_table == {}
    with pytest.raises(
        LegendError, match=r"labels\.tif: its class table \(empty\) has no class of legend 'chesapeake'"
    ):
        legend_of_table({}, CHESAPEAKE, str(labels))
    with pytest.raises(RasterError, match=r"absent\.tif"):
        open_raster(tmp_path / "absent.tif")


def test_names_decide_what_codes_mean(labels: Path) -> None:
    attribute_table(labels, [("Value", 0, 5), ("Class", 2, 2)], list(OTHER.items()))
    legend = legend_of_table(open_raster(labels).class_table, CHESAPEAKE, str(labels))
    assert legend.encode(np.array([11, 41, 71, 31, 21, 22])).tolist() == [0, 1, 2, 3, 4, 5]
    assert set(legend.nodata) >= {0, 15}
    with pytest.raises(LegendError, match=r"99 \(3 px\)"):
        legend.check({11: 5, 0: 2, 99: 3}, "labels.tif")


def test_names_that_do_not_decide() -> None:
    twice = {1: ("Water", None), 2: ("WATER", None)}
    with pytest.raises(LegendError, match="class name water appears more than once"):
        legend_of_table(twice, CHESAPEAKE, "labels.tif")
    with pytest.raises(LegendError, match="grass, rock"):
        legend_of_table({1: ("grass", None), 2: ("rock", None)}, CHESAPEAKE, "labels.tif")


def test_colours_decide_where_there_are_no_names() -> None:
    colours = {entry.code: (None, entry.colour.lower()) for entry in CHESAPEAKE.classes}
    padding = dict.fromkeys((0, *range(7, 256)), (None, "#000000"))
    legend = legend_of_table({**padding, **colours}, CHESAPEAKE, "labels.tif")
    assert legend.codes == CHESAPEAKE.codes
    moved = {code + 20: entry for code, entry in colours.items() if entry[1] != "#000000"}
    legend = legend_of_table({**dict.fromkeys(range(20), (None, "#000000")), **moved}, CHESAPEAKE, "labels.tif")
    assert legend.encode(np.array([21, 22, 23, 24, 25, 6, 0, 26])).tolist() == [0, 1, 2, 3, 4, 5, 6, 6]


@few
@given(legends(low=0, high=255))
def test_what_we_write_we_read(tmp_path_factory: pytest.TempPathFactory, legend: Legend) -> None:
    free = [code for code in range(256) if code not in legend.codes]
    nodata = legend.nodata[0] if legend.nodata else free[0]
    path = tmp_path_factory.mktemp("written") / "labels.tif"
    codes = np.resize(np.array(legend.codes, np.uint8), (1, 8, 8))
    write_raster(path, codes, north_up(), nodata=nodata)
    write_class_table(path, legend, nodata)
    table = open_raster(path).class_table
    assert {code: entry for code, entry in table.items() if entry[0]} == {
        entry.code: (entry.name, entry.colour.lower()) for entry in legend.classes
    }
    assert legend_of_table(table, legend, str(path)).codes == legend.codes
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(), codes)
        assert dataset.nodata == nodata
        colours = dataset.colormap(1)
        assert all(colours[entry.code][:3] == entry.rgb for entry in legend.classes)


@pytest.mark.parametrize(("low", "dtype"), [(-5, "int16"), (300, "uint16"), (70000, "uint32")])
def test_codes_beyond_a_byte(tmp_path: Path, low: int, dtype: str) -> None:
    values = [{"code": low + step, "name": f"class {step}"} for step in range(2)]
    legend = Legend.from_values({"name": "wide", "classes": values, "nodata": [low + 200]})
    assert legend.code_dtype == dtype
    path = write_raster(tmp_path / "wide.tif", np.full((1, 4, 4), low, dtype), north_up(), nodata=low + 200)
    write_class_table(path, legend)
    assert {code: name for code, (name, _) in open_raster(path).class_table.items() if name} == {
        low: "class 0",
        low + 1: "class 1",
    }


@pytest.mark.skipif(shutil.which("gdalinfo") is None, reason="gdalinfo is not installed")
def test_gdalinfo_shows_names_and_colours(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "labels.tif", np.ones((1, 4, 4), np.uint8), north_up(), nodata=15)
    write_class_table(path, CHESAPEAKE, 15)
    told = subprocess.run(["gdalinfo", "-json", path], capture_output=True, text=True, check=True)
    description = json.loads(told.stdout)
    rows = [row["f"] for row in description["rat"]["row"]]
    assert rows == [[entry.code, entry.name, *entry.rgb] for entry in CHESAPEAKE.classes]
    colours = description["bands"][0]["colorTable"]["entries"]
    assert all(tuple(colours[entry.code][:3]) == entry.rgb for entry in CHESAPEAKE.classes)


@pytest.mark.realdata
def test_the_palette_of_a_real_tile_is_read(real_data: Path) -> None:
    path = next((real_data / "chesapeake_labels").glob("Baywide_13Class*.tif"))
    with rasterio.open(path) as dataset:
        expected = {
            code: "#{:02x}{:02x}{:02x}".format(*colour) for code, colour in dataset.colormap(1).items() if colour[3]
        }
    assert {code: colour for code, (_, colour) in open_raster(path).class_table.items()} == expected


def test_the_sidecar_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, legend = tmp_path / "labels.tif", Legend.load("chesapeake")
    write_attribute_table(path, legend)
    sidecar = Path(f"{path}.aux.xml")
    before = sidecar.read_bytes()
    write_bytes = Path.write_bytes

    def disk_full(self: Path, content: bytes) -> int:
        write_bytes(self, content[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", disk_full)
    with pytest.raises(OutputError, match=r"labels\.tif\.aux\.xml: cannot be written: No space"):
        write_attribute_table(path, legend)
    assert sidecar.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [sidecar.name]


def test_names_that_the_file_keeps_without_its_sidecar(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A label raster of ours that was copied alone: its codes are not taken for those of another legend."""
    tens = [{"code": 7 - code, "name": name} for code, name in zip(CHESAPEAKE.codes, CHESAPEAKE.names, strict=True)]
    square = gpd.GeoDataFrame({"class": ["water"]}, geometry=[box(0, 0, 20, 20)], crs="EPSG:26917")
    square.to_file(tmp_path / "land.gpkg")
    path = tmp_path / "labels.tif"
    legend = Legend.from_values({"name": "turned", "classes": tens})
    geosynth.rasterize(tmp_path / "land.gpkg", path, "class", legend, resolution=1)
    Path(f"{path}.aux.xml").unlink()
    assert {code: name for code, (name, _) in open_raster(path).class_table.items() if name} == {
        entry.code: entry.name for entry in legend.classes
    }
    raster = open_raster(path)
    assert choose_legend(raster, None, CHESAPEAKE).class_of[6] == 0
    assert "its class table has other codes than legend 'chesapeake' and is used" in caplog.text


@pytest.mark.parametrize("tag", ["{", "[1]", '{"water": "one"}', '{"water": [1]}', "[" * 100_000, '{"water": true}'])
def test_a_damaged_tag_tells_no_names(labels: Path, tag: str) -> None:
    with rasterio.open(labels, "r+") as dataset:
        dataset.update_tags(**{CLASSES_TAG: tag})
    assert not any(name for name, _ in open_raster(labels).class_table.values())
