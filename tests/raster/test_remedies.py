"""What refusals and warnings say can be done with rasterio's command `rio` is done by it, and cures."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - registers the accessor `.rio`
from affine import Affine
from click.testing import CliRunner
from rasterio.control import GroundControlPoint
from rasterio.enums import ColorInterp
from rasterio.rio.main import main_group
from rasterio.rpc import RPC

import geosynth
from geosynth.config import BandSettings
from geosynth.errors import GeosynthError
from geosynth.legend import CHESAPEAKE
from geosynth.raster.bands import check_image_type, open_chosen
from geosynth.raster.labels import LabelRaster
from geosynth.raster.model_bands import NeededBands, open_bands
from geosynth.raster.raster_file import open_raster
from geosynth.raster.stac import check_can_be_item
from geosynth.raster.stores.items import Item
from geosynth.raster.stores.pairs import TargetGrid, open_pairs
from geosynth.raster.warp import resample_labels
from rasters import north_up, random_codes, random_image, write_raster

SIDE = 40
RGB = random_image(0, SIDE, SIDE, 3)
CODES = random_codes(0, SIDE, SIDE)
DEGREES = Affine(1e-5, 0, -82, 0, -1e-5, 38)
COLOURED = {"photometric": "minisblack", "alpha": "no"}


def pair(name: str, transform: Affine | None, labels: Affine | None, crs: str | None, labels_crs: str | None) -> None:
    write_raster(Path("images", name), RGB, transform, crs=crs, photometric="rgb")
    write_raster(Path("labels", name), CODES, labels, crs=labels_crs)


def two(first: Affine | None, second: Affine | None, crs: str | None, second_crs: str | None) -> None:
    pair("a.tif", first, first, crs, crs)
    pair("b.tif", second, second, second_crs, second_crs)


def pairs(*names: str, **target: Any) -> None:
    open_pairs([Item(f"images/{name}", f"labels/{name}") for name in names], CHESAPEAKE, TargetGrid(**target))


def controlled() -> None:
    corners = ((0, 0), (0, SIDE), (SIDE, 0))
    write_raster(Path("a.tif"), RGB, crs=None, photometric="rgb")
    with rasterio.open("a.tif", "r+") as file:
        file.gcps = [GroundControlPoint(row, column, 4e5 + column, 4e6 - row) for row, column in corners], "EPSG:26917"


def placed_by_rpcs() -> None:
    """Longitude -82.1 and latitude 38.8, each 0.001 degrees to either side."""
    line, sample, one = ([0.0] * 20 for _ in range(3))
    line[2], sample[1], one[0] = -1.0, 1.0, 1.0
    write_raster(Path("a.tif"), RGB, crs=None, photometric="rgb")
    with rasterio.open("a.tif", "r+") as file:
        file.rpcs = RPC(
            **{"lat_off": 38.8, "lat_scale": 0.001, "long_off": -82.1, "long_scale": 0.001},
            **{f"{axis}_{what}": SIDE / 2 for axis in ("line", "samp") for what in ("off", "scale")},
            **{"line_num_coeff": line, "samp_num_coeff": sample, "line_den_coeff": one, "samp_den_coeff": one},
            **{"height_off": 0, "height_scale": 100},
        )


def coloured(*colours: str) -> None:
    write_raster(Path("a.tif"), random_image(1, SIDE, SIDE, 4), north_up(), **COLOURED)
    with rasterio.open("a.tif", "r+") as file:
        file.colorinterp = [ColorInterp[colour] for colour in colours]


def bands_of_other_types() -> None:
    for name, dtype in (("T_B04.tif", "uint8"), ("T_B03.tif", "uint16")):
        write_raster(Path(name), random_image(0, SIDE, SIDE, 1, dtype), north_up())


def type_of(path: str) -> None:
    check_image_type(open_raster(path).dtype, path)


def view() -> None:
    geosynth.view(["a.tif", "b.tif"], "page.html", overwrite=True)


class Case(NamedTuple):
    """Files, what is refused, or warned of, and what stands for the words in capitals."""

    make: Callable[[], Any]
    ask: Callable[[], Any]
    said: str
    words: Mapping[str, str] = MappingProxyType({})


CASES = {
    "labels nowhere": Case(
        lambda: [
            pair("a.tif", north_up(), None, "EPSG:26917", None),
            write_raster(Path("labels/a.tif"), random_codes(0, SIDE, SIDE + 5), None, crs=None),
        ],
        lambda: pairs("a.tif"),
        "no georeference, but",
    ),
    "scenes nowhere": Case(
        lambda: two(None, Affine.translation(SIDE, 0) @ Affine.scale(1, -1), None, None),
        lambda: pairs("a.tif", "b.tif", labels="nearest"),
        "has no georeference, so",
        {"SIZE": "1", "LEFT": "0", "TOP": "0"},
    ),
    "a scene without CRS": Case(
        lambda: two(north_up(), north_up(SIDE), "EPSG:26917", None),
        lambda: pairs("a.tif", "b.tif", labels="nearest"),
        "has no CRS, but",
        {"CODE": "26917"},
    ),
    "a grid without CRS": Case(
        lambda: [pair("a.tif", *[north_up()] * 2, None, None), write_raster(Path("like.tif"), RGB, north_up(0.5))],
        lambda: pairs("a.tif", like="like.tif", images="nearest", labels="nearest"),
        "one of its CRS",
        {"CODE": "26917"},
    ),
    "the antimeridian": Case(
        lambda: two(
            Affine(0.01, 0, 180 - SIDE / 100, 0, -0.01, 52), Affine(0.01, 0, -180, 0, -0.01, 52), *["EPSG:4326"] * 2
        ),
        lambda: pairs("a.tif", "b.tif", labels="nearest"),
        "meet at the antimeridian",
        {"FILE": "images/b.tif", "SIZE": "0.01", "TOP": "52"},
    ),
    "labels in degrees": Case(
        lambda: write_raster(Path("a.tif"), CODES, DEGREES, crs="EPSG:4326"),
        lambda: resample_labels(open_raster("a.tif"), 2.0),
        "not in metres",
        {"CODE": "26917"},
    ),
    "a folder": Case(
        lambda: [write_raster(Path("in", f"{n}.tif"), RGB, north_up(n * SIDE), photometric="rgb") for n in (0, 1)],
        lambda: open_raster("in"),
        "is a folder",
    ),
    "control points": Case(controlled, lambda: open_raster("a.tif"), "placed by ground", {"CODE": "26917"}),
    "RPCs": Case(
        placed_by_rpcs,
        lambda: open_raster("a.tif"),
        "placed by RPCs",
        {"SIZE": "0.00005", "WEST": "-82.101", "SOUTH": "38.799", "EAST": "-82.099", "NORTH": "38.801"},
    ),
    "no transform": Case(
        lambda: write_raster(Path("a.tif"), RGB, photometric="rgb"),
        lambda: open_raster("a.tif"),
        "has a CRS but no transform",
        {"SIZE": "1", "LEFT": "400000", "TOP": "4000000"},
    ),
    "labels of two bands": Case(
        lambda: write_raster(Path("a.tif"), np.stack([RGB[0], CODES]), north_up()),
        lambda: LabelRaster("a.tif", CHESAPEAKE).read(open_raster("a.tif").window),
        "has 2 bands",
        {"N": "2"},
    ),
    "values of another type": Case(
        lambda: write_raster(Path("a.tif"), RGB.astype(np.uint16) * 16, north_up(), photometric="rgb"),
        lambda: (image := open_chosen("a.tif", None, "uint8")).read(image.window),
        "values that do not fit uint8",
        {"RATIO": "0.0625"},
    ),
    "float64": Case(
        lambda: write_raster(Path("a.tif"), RGB.astype("float64"), north_up()),
        lambda: type_of("a.tif"),
        "imagery of float64",
        {"TYPE": "float32"},
    ),
    "imagery marked as transparency": Case(
        lambda: coloured("red", "green", "blue", "alpha"),
        lambda: open_chosen("a.tif", ("red", "green", "blue")),
        "looks like imagery",
    ),
    "bands without names": Case(
        lambda: coloured("gray", "undefined", "undefined", "undefined"),
        lambda: open_bands("a.tif", NeededBands(BandSettings(names=("B8",)), "model", "model.safetensors")),
        "the model's are B8",
        {"N": "2", "NAME": "B8"},
    ),
    "bands of other types": Case(
        bands_of_other_types,
        lambda: open_raster("T_{red=B04,green=B03}.tif"),
        "holds uint16 values",
    ),
    "another area": Case(
        lambda: [write_raster(Path(f"{n}.tif"), RGB, north_up(9 * (n == "b")), photometric="rgb") for n in "ab"],
        view,
        "does not show the area",
    ),
    "no CRS for STAC": Case(
        lambda: write_raster(Path("a.tif"), CODES, north_up(), crs=None),
        lambda: check_can_be_item(open_raster("a.tif")),
        "a STAC item needs one",
        {"CODE": "26917"},
    ),
}


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("name", CASES)
def test_what_is_told_cures(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    case = CASES[name]
    case.make()

    def said() -> str:
        caplog.clear()
        geosynth.raster.raster_file._warn_of_no_place.cache_clear()  # else it warns once
        try:
            case.ask()
        except GeosynthError as error:
            return str(error)
        return "\n".join(record.message for record in caplog.records)

    line = said()
    assert case.said in line
    file = line.partition(": ")[0]
    told = re.search(r"\brio (.*?)(?: takes band N| names one|; a local grid [^)]*)?\)", line)[1]
    for word, meant in {"FILE": file, "NEW": "new.tif", **case.words}.items():
        told = re.sub(rf"\b{word}\b", meant, told)
    words = [part for word in shlex.split(told) for part in (sorted(map(str, Path().glob(word))) or [word])]
    result = CliRunner().invoke(main_group, words)
    assert result.exit_code == 0, (told, result.output, result.exception)
    if Path("new.tif").exists():
        if Path(file).is_dir():
            Path(file).rename("before")
        Path("new.tif").replace(file)
    if Path("labels", Path(file).name).exists() and file.startswith("images"):  # the same for its labels
        rest = [part.replace("images", "labels") for part in words]
        assert CliRunner().invoke(main_group, rest).exit_code == 0
    assert said() == ""
