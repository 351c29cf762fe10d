"""Colours of label files against the legend: doubted where they should be, and only there."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

import geosynth
from geosynth.checkpoint import GeneratorModel
from geosynth.legend import CHESAPEAKE, Legend
from geosynth.raster.class_table import ClassTable
from geosynth.raster.label_legend import Verdict, compare_colours
from geosynth.raster.raster_file import open_raster
from geosynth.raster.stores.ingest import ingest
from geosynth.raster.stores.store import Store
from rasters import north_up, random_codes, random_image, write_class_table, write_raster

# Of somebody else's classes.
FOREIGN = {1: "#8429f6", 2: "#e2a929", 3: "#3c1098", 4: "#fedd3a", 5: "#6ec1e4", 6: "#ffffff"}
OWN = {entry.code: entry.colour.lower() for entry in CHESAPEAKE.classes}
PADDING = dict.fromkeys(range(7, 256), "#000000")


def table(colours: dict[int, str], names: dict[int, str] | None = None) -> ClassTable:
    return {code: ((names or {}).get(code), colour) for code, colour in colours.items()}


@pytest.mark.parametrize(
    ("found", "used", "verdict"),
    [
        (table(OWN), range(1, 7), ""),
        (table({}), range(1, 7), ""),
        (table({**OWN, 1: "#00c5ff", 2: "#267301", 3: "#a3ff74", 4: "#ff0000"}), range(1, 7), ""),
        (table({**OWN, 1: "#0070ff"}), [1], ""),  # a tile of nothing but water
        (table(FOREIGN), range(1, 7), "of no class"),
        (table(FOREIGN | PADDING), [1, 2], "of no class"),
        (table({**FOREIGN, 6: "#000000"} | PADDING), [1, 2, 3], "of no class"),  # 6 is padding too, not a road
        (table({**FOREIGN, 6: "#000000"} | PADDING), [1, 6], ""),
        (table(FOREIGN), [15], ""),  # nodata only
        (table({**OWN, 1: OWN[2], 2: OWN[1]}), range(1, 7), "of other classes"),
        (table({**OWN, 1: OWN[2], 2: OWN[1]}), [1, 3], ""),  # one such code may be a matter of taste
        (table({**OWN, 1: "#000000", 2: "#000000", 6: "#ffffff"} | PADDING), range(1, 7), ""),
        (table({**FOREIGN, 1: OWN[2], 2: OWN[1]}, {3: "Low Vegetation"}), range(1, 7), ""),
    ],
)
def test_what_colours_say(found: ClassTable, used: list[int], verdict: Verdict) -> None:
    assert compare_colours(found, CHESAPEAKE, used) == verdict


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images."""
    for number in range(2):
        write_raster(tmp_path / "images" / f"{number}.tif", random_image(number, 40, 40, 3), north_up(100 * number))
    return tmp_path


def paint(folder: Path, number: int, colours: dict[int, str]) -> None:
    codes = random_codes(number, 40, 40)
    path = write_raster(folder / "labels" / f"{number}.tif", codes, north_up(100 * number))
    rgb = {code: (*bytes.fromhex(colour[1:]), 255) for code, colour in colours.items()}
    with rasterio.open(path, "r+") as dataset:
        dataset.write_colormap(1, rgb)


def run(folder: Path, **options: Any) -> Store:
    paths = folder / "images", folder / "labels", folder / "out"
    (store,) = ingest(*paths, bands=("red", "green", "blue"), shares=(1, 0, 0), overwrite=True, **options)
    return store


def test_one_line_for_all_files_with_foreign_colours_unless_a_legend_is_named(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "geosynth")
    paint(folder, 0, FOREIGN)
    paint(folder, 1, FOREIGN)
    run(folder)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{folder / 'labels' / '0.tif'} (and 1 more): its colours are not those")
    caplog.clear()
    run(folder, legend="chesapeake")
    assert not caplog.messages
    paint(folder, 1, {**OWN, 1: OWN[2], 2: OWN[1]})
    run(folder, legend="chesapeake")
    assert [message.split(":")[0] for message in caplog.messages] == [str(folder / "labels" / "1.tif")]


def test_what_is_painted_is_doubted_as_well(
    folder: Path, tiny_model: GeneratorModel, caplog: pytest.LogCaptureFixture
) -> None:
    """Colours of other classes always; colours of none where nobody named the legend, and it is Chesapeake's."""
    turned = {**OWN, 1: OWN[2], 2: OWN[1]}
    own = CHESAPEAKE.model_copy(update={"name": "own"})
    of_own = replace(tiny_model, card=tiny_model.card.model_copy(update={"legend": own}))
    for colours, model, legend, is_doubted in (
        (OWN, tiny_model, None, False),
        (FOREIGN, tiny_model, None, True),
        (FOREIGN, tiny_model, "chesapeake", False),
        (FOREIGN, of_own, None, False),
        (turned, of_own, None, True),
        (turned, tiny_model, "chesapeake", True),
        (turned, tiny_model, "from-raster", False),
    ):
        caplog.clear()
        paint(folder, 0, colours)
        labels = folder / "labels" / "0.tif"
        geosynth.generate(labels, folder / "image.tif", model, legend=legend, device="cpu", overwrite=True)
        doubts = [message for message in caplog.messages if message.startswith(f"{labels}: its colours are not those")]
        assert len(doubts) == is_doubted


def test_labels_that_this_package_writes_are_not_doubted(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(2):
        codes = random_codes(number, 40, 40)
        path = write_raster(folder / "labels" / f"{number}.tif", codes, north_up(100 * number))
        write_class_table(path, CHESAPEAKE, 15)
    run(folder)
    assert not caplog.messages


def test_a_palette_mask_as_people_have_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.fromarray(np.moveaxis(random_image(0, 40, 40, 3), 0, -1)).save(tmp_path / "a.jpg")
    mask = Image.fromarray(random_codes(0, 40, 40)).convert("P")
    mask.putpalette(bytes.fromhex("000000" + "".join(colour[1:] for colour in FOREIGN.values())))
    mask.save(tmp_path / "a.png")
    ingest(tmp_path / "a.jpg", tmp_path / "a.png", tmp_path / "out", shares=(1, 0, 0))
    assert [message.split(":")[0] for message in caplog.messages] == [str(tmp_path / "a.png")]


def test_each_file_is_read_by_its_own_class_table(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Palettes that differ from file to file; black, which pads colour tables, stays where it is."""
    turned = {code: OWN[code % 5 + 1] for code in range(1, 6)} | {6: OWN[6]}
    paint(folder, 0, OWN)
    paint(folder, 1, turned)
    store = run(folder, label_legend="from-raster")
    first, second = (store.labels[scene.window.slices] for scene in store.scenes)
    np.testing.assert_array_equal(first, random_codes(0, 40, 40))
    codes = random_codes(1, 40, 40)
    np.testing.assert_array_equal(second, np.where(codes == 6, 6, codes % 5 + 1))
    assert not caplog.messages


@pytest.mark.realdata
def test_real_labels_are_not_doubted(real_data: Path) -> None:
    """The other two Chesapeake products hold codes that the legend refuses, before colours are looked at."""
    path = real_data / "chesapeake_labels" / "Baywide_7class_20132014_E1300000_N1770000.tif"
    seven = open_raster(path).class_table
    assert compare_colours(seven, CHESAPEAKE, CHESAPEAKE.codes) == ""
    legend = Legend.load(Path(__file__).parents[2] / "examples" / "ohio_naip_legend.yaml")
    for path in (real_data / "ohio_naip" / "labels").glob("*.tif"):
        assert compare_colours(open_raster(path).class_table, legend, legend.codes) == ""
