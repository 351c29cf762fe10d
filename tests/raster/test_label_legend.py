"""Which legend reads a raster: named, the raster's own, the model's; and what is said about it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import rioxarray  # noqa: F401 - registers the accessor `.rio`
import xarray as xr

from geosynth.errors import LegendError, RasterError
from geosynth.legend import CHESAPEAKE, Legend
from geosynth.raster.label_files import open_labels
from geosynth.raster.label_legend import choose_legend
from geosynth.raster.labels import LabelRaster
from geosynth.raster.raster_file import open_raster
from geosynth.raster.stores.store import create_group
from geosynth.raster.warp import resample_labels
from rasters import north_up, random_codes, write_class_table, write_raster


def moved(*, by: int, names: dict[str, str] | None = None) -> Legend:
    """The Chesapeake legend under other codes, and names."""
    classes = [
        {"code": entry.code + by, "name": (names or {}).get(entry.name, entry.name), "colour": entry.colour}
        for entry in CHESAPEAKE.classes
    ]
    return Legend.from_values({"name": "moved", "classes": classes})


def labels(path: Path, table: Legend | None = None) -> Path:
    write_raster(path, random_codes(0, 24, 24), north_up())
    if table is not None:
        write_class_table(path, table)
    return path


def test_without_a_table_codes_mean_what_they_mean_to_the_model(tmp_path: Path) -> None:
    raster = open_raster(labels(tmp_path / "labels.tif"))
    assert choose_legend(raster, None, CHESAPEAKE) == CHESAPEAKE
    with pytest.raises(LegendError, match=r"labels\.tif: has no class table"):
        choose_legend(raster, "from-raster", CHESAPEAKE)


def test_the_same_table_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        raster = open_raster(labels(tmp_path / "labels.tif", CHESAPEAKE))
        assert choose_legend(raster, None, CHESAPEAKE) == CHESAPEAKE
    assert not caplog.text


@pytest.mark.parametrize("named", [None, "from-raster"])
def test_the_models_names_under_other_codes_decide(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, named: str | None
) -> None:
    raster = open_raster(labels(tmp_path / "labels.tif", moved(by=1)))
    legend = choose_legend(raster, named, CHESAPEAKE)
    assert legend.encode(np.arange(2, 8)).tolist() == [0, 1, 2, 3, 4, 5]
    assert legend.encode(np.array([1])).tolist() == [6], "code 1 is no class of the raster"
    assert ("its class table has other codes" in caplog.text) == (named is None)


def test_other_names_for_the_models_codes_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raster = open_raster(labels(tmp_path / "labels.tif", moved(by=0, names={"barren": "sand"})))
    assert choose_legend(raster, None, CHESAPEAKE) == CHESAPEAKE
    assert "calls code 4 'sand'; it is taken for 'barren'" in caplog.text


def test_a_named_legend_comes_first(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raster = open_raster(labels(tmp_path / "labels.tif", moved(by=1)))
    assert choose_legend(raster, "chesapeake", CHESAPEAKE).codes == CHESAPEAKE.codes
    assert not caplog.text
    with pytest.raises(LegendError, match="no class soil"):
        soil = Legend.from_values({"name": "soil", "classes": [{"code": 1, "name": "soil"}]})
        choose_legend(raster, soil, CHESAPEAKE)


def test_tables_of_tiles_and_of_resampled_rasters(tmp_path: Path) -> None:
    labels(tmp_path / "a.tif", moved(by=1))
    write_raster(tmp_path / "b.tif", random_codes(1, 24, 24), north_up(24))
    expected = open_raster(tmp_path / "a.tif").class_table
    assert expected[2][0] == "water"
    mosaic = open_labels(tmp_path)
    assert mosaic.class_table == expected
    assert resample_labels(mosaic, 1.0).class_table == expected


def test_flags_of_a_zarr(tmp_path: Path) -> None:
    place = {"y": 10.5 - np.arange(6.0), "x": np.arange(6.0)}
    flags = {"flag_values": [10, 20], "flag_meanings": "water tree_canopy"}
    codes = xr.DataArray(np.full((6, 6), 10, np.uint8), dims=("y", "x"), coords=place, attrs=flags)
    codes.to_dataset(name="cover").rio.write_crs("EPSG:26917").to_zarr(tmp_path / "cover.zarr", consolidated=False)
    raster = open_labels(tmp_path / "cover.zarr")
    legend = choose_legend(raster, "from-raster", CHESAPEAKE)
    assert legend.encode(np.array([10, 20, 30])).tolist() == [0, 1, 6]


def test_a_class_that_the_model_lacks_is_named(tmp_path: Path) -> None:
    path = labels(tmp_path / "labels.tif", moved(by=0, names={"barren": "vineyard"}))
    legend = choose_legend(open_raster(path), "from-raster", CHESAPEAKE)
    with pytest.raises(LegendError, match=r"does not know: 4 'vineyard' \(\d+ px\);"):
        LabelRaster(path, legend).survey()


def test_a_folder_of_stores_is_told(tmp_path: Path) -> None:
    for name in ("b.zarr", "a.zarr"):
        xr.Dataset().to_zarr(tmp_path / name, zarr_format=3, consolidated=False)
    with pytest.raises(RasterError, match=r"is a folder of stores; choose one: .*a\.zarr, .*b\.zarr"):
        open_labels(tmp_path)
    create_group(tmp_path / "group", ["epsg_26917", "epsg_26918"])
    with pytest.raises(RasterError, match=r"holds several stores; choose one: .*group/epsg_26917, .*18"):
        open_labels(tmp_path / "group")
