"""Images in files of one band each, named by one name with braces: as one file of all bands would be."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - registers the accessor `.rio`
import yaml
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from rasterio.windows import Window as Part

from geosynth.config import BandSettings
from geosynth.config.bands import Quantity
from geosynth.errors import DataError, GridError, OutputError, RasterError
from geosynth.evaluation.evaluate import evaluate
from geosynth.files import refuse_inputs
from geosynth.grid import Window
from geosynth.inputs import band_files, name_of_band_files
from geosynth.raster.cast import CastImage
from geosynth.raster.model_bands import NeededBands, open_bands
from geosynth.raster.names import files_named, image_name
from geosynth.raster.raster_file import open_raster
from geosynth.raster.stores.item_list import read_items
from geosynth.raster.stores.items import pair_files
from geosynth.raster.stores.open import open_sources
from geosynth.raster.stores.store import open_stores
from geosynth_cli import app
from range_server import RangeServer
from rasters import north_up, random_codes, random_image, write_raster
from strategies import few

SIDE = 70
BANDS = {"red": "B04", "green": "B03", "blue": "B02", "nir": "B08"}
BRACES = "{red=B04,green=B03,blue=B02,nir=B08}"
ROTATED = north_up() @ Affine.rotation(2)
DATES = ("20240701T101031", "20240803T101559")


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        app(list(arguments))
    return int(end.value.code or 0)


def write_bands(name: str, image: Any, place: Affine | None = None, **profile: Any) -> str:
    """A file for each band, called as Sentinel-2's; the name of them all."""
    for part, band in zip(BANDS.values(), image, strict=True):
        write_raster(Path(f"{name}_{part}_10m.tif"), band, place or north_up(), **profile)
    return f"{name}_{BRACES}_10m.tif"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def scenes(here: Path) -> list[np.ndarray]:
    """Two dates of four bands, side by side, their labels, and the same images as one file each."""
    images = []
    for number, date in enumerate(DATES):
        image, place = random_image(number, SIDE, SIDE, dtype="uint16"), north_up(SIDE * number)
        image[:, 3:9, 5:20] = 0
        write_bands(f"S2/T32TQM_{date}", image, place, nodata=0)
        write_raster(Path(f"whole/T32TQM_{date}.tif"), image, place, nodata=0)
        write_raster(Path(f"labels/{date}.tif"), random_codes(number, SIDE, SIDE), place)
        images.append(image)
    return images


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("T1_{red=B04,nir=B08}.tif", {"red": "T1_B04.tif", "nir": "T1_B08.tif"}),
        ("T1_{ red = B04, nir=B08 }.tif", {"red": "T1_B04.tif", "nir": "T1_B08.tif"}),
        ("s3://b/{B04,B08}.tif", {"B04": "s3://b/B04.tif", "B08": "s3://b/B08.tif"}),
        ("{red=R10m/x}.jp2", {"red": "R10m/x.jp2"}),
        ("{3F2504E0-4F89}/a.tif", {}),
        ("{3F2504E0-4F89}/{red=a}.tif", {"red": "{3F2504E0-4F89}/a.tif"}),
        ("T1_{band}.tif", {}),
        ("T1.tif", {}),
    ],
)
def test_braces_name_files(name: str, found: dict[str, str]) -> None:
    assert band_files(name) == found
    assert list(band_files(Path(name)).values()) == [str(Path(file)) for file in found.values()]


@pytest.mark.parametrize("inner", ["red=B04,red=B08", "red=B04,nir=B04", "B04,", "red=,nir=B08", "red=B*", ",", "="])
def test_braces_that_tell_no_files(inner: str) -> None:
    with pytest.raises(DataError, match="names no file for each band; name them in one pair of braces"):
        band_files(f"T1_{{{inner}}}.tif")
    with pytest.raises(DataError, match="one pair of braces"):
        band_files("{a,b}/{red=B04,nir=B08}.tif")


@pytest.mark.parametrize("outside", ["T1_{}.tif", "s3://b/{}.tif", "{}/a.tif", "B04_{}_B08"])
@pytest.mark.parametrize("inside", ["red=B04,nir=B08", "red=B04,nir=x/B8A_10m,B02=B02"])
def test_one_name_stands_for_the_files_of_all_bands(outside: str, inside: str) -> None:
    name = outside.replace("{}", f"{{{inside}}}")
    assert name_of_band_files(band_files(name)) == name


@pytest.mark.parametrize("names", [("a,b.tif", "c.tif"), ("a_{x,y}.tif", "b_{x,y}.tif"), ("a.tif", "a_1.tif")])
def test_files_for_which_no_name_can_stand_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(DataError, match=rf"^{re.escape(', '.join(names))}: names of files of one image must differ"):
        name_of_band_files(dict(zip(("red", "nir"), names, strict=True)))


def test_a_file_that_is_called_so_is_itself() -> None:
    path = write_raster(Path("a_{red=1,nir=2}.tif"), random_image(0, 8, 8))
    assert open_raster(path).count == 4
    assert files_named("a_*.tif") == [str(path)]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("S2/T32TQM_20240701_{red=B04,nir=B08}_10m.jp2", "T32TQM_20240701_10m.jp2"),
        ("LC08_02_T1_SR_{red=B4,nir=B5}.TIF", "LC08_02_T1_SR.TIF"),
        ("S2A_32TQM_0_L2A/{red=B04,nir=B08}.tif", "S2A_32TQM_0_L2A.tif"),
        ("S2/{red=B04,nir=B08}/a.tif", "a.tif"),
        ("{B04,B08}_a.tif", "a.tif"),
        ("in/a.tif", "a.tif"),
        ("folder/T32_{red=B04,nir=B08}_10m.jp2", "T32_10m.jp2"),
        ("folder/{red=B04,nir=B08}_T32.jp2", "T32.jp2"),
        ("S2A_32TQM/{red=B04,nir=B08}.tif", "S2A_32TQM.tif"),
    ],
)
def test_what_a_scene_is_called(path: str, name: str) -> None:
    assert image_name(path) == name


def touch(*files: str) -> None:
    for file in files:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()


@pytest.mark.parametrize(
    ("pattern", "scenes"),
    [
        ("*_{red=B1,nir=B10}.tif", ["B1_{}.tif", "x_{}.tif"]),
        ("**/{red=B1,nir=B10}/*.tif", ["deep/down/{}/a.tif", "{}/a.tif", "{}/b.tif"]),
        ("{red=B1,nir=B10}/**/*.tif", ["{}/a.tif", "{}/b.tif", "{}/c/a.tif"]),
        ("d?[0-9]/{red=B1,nir=B10}*", ["da1/{}_10m.tif"]),
        ("nothing_*_{red=B1,nir=B10}.tif", []),
    ],
)
def test_a_glob_stands_for_images_that_differ_elsewhere(pattern: str, scenes: list[str]) -> None:
    touch("x_B1.tif", "x_B10.tif", "x_TCI.tif", "B1_B1.tif", "B1_B10.tif", "da1/B1_10m.tif", "da1/B10_10m.tif")
    touch("B1/a.tif", "B10/a.tif", "B1/b.tif", "B1/c/a.tif", "deep/down/B10/a.tif")
    assert files_named(pattern) == [scene.replace("{}", "{red=B1,nir=B10}") for scene in scenes]


def random_windows() -> st.SearchStrategy[Window]:
    starts, sizes = st.integers(0, SIDE - 1), st.integers(1, SIDE)
    return st.builds(
        lambda row, column, height, width: Window(row, column, min(height, SIDE - row), min(width, SIDE - column)),
        *(starts, starts, sizes, sizes),
    )


@few
@given(window=random_windows(), kind=st.sampled_from(["plain", "nodata", "masks", "nan"]), seed=st.integers(0, 99))
def test_pixels_are_those_of_one_file_of_all_bands(window: Window, kind: str, seed: int) -> None:
    """The oracle: rasterio's own reading of the files, put together."""
    rng = np.random.default_rng(seed)
    image = random_image(seed, SIDE, SIDE, dtype="float32" if kind == "nan" else "uint16")
    holes = rng.random(image.shape) < 0.1
    nodata = {"nodata": (0, 7, None, 255)}.get(kind, (None,) * 4)
    for number, part in enumerate(BANDS.values()):
        if kind == "nan":
            image[number][holes[number]] = np.nan
        elif nodata[number] is not None:
            image[number][holes[number]] = nodata[number]
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
            path = write_raster(Path(f"{kind}_{part}_10m.tif"), image[number], north_up(), nodata=nodata[number])
            if kind == "masks" and number % 2:
                with rasterio.open(path, "r+") as file:
                    file.write_mask(~holes[number])
    raster = open_raster(f"{kind}_{BRACES}_10m.tif")
    assert raster.band_names == tuple(BANDS)
    values, valid = raster.read(window)
    wanted = np.ones((window.height, window.width), bool)
    for number, part in enumerate(BANDS.values()):
        with rasterio.open(f"{kind}_{part}_10m.tif") as file:
            place = Part(window.column, window.row, window.width, window.height)
            np.testing.assert_array_equal(values[number], file.read(1, window=place))
            wanted &= (file.dataset_mask(window=place) != 0) & ~np.isnan(values[number])
    np.testing.assert_array_equal(valid, wanted)
    assert wanted.all() == (kind == "plain") or window.height * window.width < 50
    assert raster.is_full == (kind == "plain")
    some = open_raster(raster.path, [4, 1])
    np.testing.assert_array_equal(some.read(window)[0], values[[3, 0]])
    again = pickle.loads(pickle.dumps(raster))
    np.testing.assert_array_equal(again.read(window)[0], values)
    whole, _ = raster.read_reduced((SIDE // 2, SIDE // 2), "average")
    assert whole.shape == (4, SIDE // 2, SIDE // 2)


def test_a_raster_sent_to_another_folder_reads_its_files(scenes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = pickle.dumps(open_raster(f"S2/T32TQM_{DATES[0]}_{BRACES}_10m.tif"))
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(pickle.loads(sent).read(Window(0, 0, SIDE, SIDE))[0], scenes[0])


def test_files_that_do_not_go_together() -> None:
    name = write_bands("T1", random_image(0, SIDE, SIDE))
    other = Path("T1_B08_10m.tif")
    for values, profile, error, said in (
        (random_image(0, SIDE // 2, SIDE // 2, 1), {"transform": north_up(size=1.2)}, GridError, "pixels of 1.2 x 1.2"),
        (random_image(0, SIDE, SIDE, 1), {"transform": north_up(), "crs": "EPSG:26918"}, GridError, "CRS EPSG:26918"),
        (random_image(0, SIDE, SIDE, 1), {"transform": north_up(), "crs": None}, GridError, "CRS None"),
        (random_image(0, SIDE, SIDE - 1, 1), {"transform": north_up()}, GridError, "69 x 70 px at"),
        (
            random_image(0, SIDE, SIDE, 1),
            {"transform": north_up(0.5)},
            GridError,
            r"70 x 70 px at \(0.6, 0.0, 266115.8",
        ),
        (random_image(0, SIDE, SIDE, 1), {"transform": ROTATED}, GridError, r"70 x 70 px at \(0.59"),
        (random_image(0, SIDE, SIDE, 1, "uint16"), {"transform": north_up()}, DataError, "holds uint16 values"),
        (random_image(0, SIDE, SIDE, 3), {"transform": north_up()}, DataError, "has 3 bands"),
    ):
        write_raster(other, values, **profile)
        with pytest.raises(error, match=f"^{other}: (has )?{said}") as caught:
            open_raster(name)
        assert "\n" not in str(caught.value)
    assert "rio warp" not in str(caught.value)
    other.unlink()
    with pytest.raises(RasterError, match=f"{other}: no such file"):
        open_raster(name)
    other.write_bytes(b"no raster")
    with pytest.raises(RasterError, match=f"^{other}: cannot be opened as a raster"):
        open_raster(name)


def test_coarser_bands_are_told_and_brought_by_the_line_that_is_told() -> None:
    """What the refusal says can be done is done by rasterio's own command, and helps."""
    from click.testing import CliRunner
    from rasterio.rio.main import main_group

    name = write_bands("T1", random_image(0, SIDE, SIDE))
    write_raster(Path("T1_B08_20m.tif"), random_image(1, SIDE // 2, SIDE // 2, 1), north_up(size=1.2))
    shutil.copy("T1_B08_20m.tif", "T1_B08_10m.tif")
    with pytest.raises(GridError) as caught:
        open_raster(name)
    assert str(caught.value) == (
        "T1_B08_10m.tif: has pixels of 1.2 x 1.2, but T1_B04_10m.tif has pixels of 0.6 x 0.6; files of one image have"
        " the same pixels: leave it out, or bring it to them first (rio warp FILE NEW --like T1_B04_10m.tif)"
    )
    told = str(caught.value).partition("(rio ")[2].rstrip(")").replace("FILE NEW", "T1_B08_10m.tif new.tif").split()
    assert CliRunner().invoke(main_group, told).exit_code == 0
    Path("new.tif").rename("T1_B08_10m.tif")
    assert open_raster(name).count == 4


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts the open files of the process")
def test_many_images_do_not_exhaust_the_file_descriptors() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    images = [open_raster(write_bands(f"T{value}", np.full((4, 4, 4), value, np.uint8))) for value in range(30)]
    for _ in range(2):
        assert [int(image.read(image.window)[0].max()) for image in images] == list(range(30))
        assert len(list(Path("/proc/self/fd").iterdir())) - before < 40


def test_a_damaged_file_is_told() -> None:
    raster = open_raster(write_bands("T1", random_image(0, SIDE, SIDE), compress="deflate"))
    raster = pickle.loads(pickle.dumps(raster))  # opens the files anew
    whole = Path("T1_B02_10m.tif").read_bytes()
    Path("T1_B02_10m.tif").write_bytes(whole[:-2000] + bytes(2000))
    with pytest.raises(RasterError, match="T1_B02_10m"):
        raster.read(raster.window)


def test_the_store_is_that_of_whole_files(scenes: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Two dates, four bands each: by globs, as ingest takes them."""
    common = ("--labels", "labels", "--by", "blocks", "--block-size", "20", "--seed", "1")
    assert run("ingest", "--images", f"S2/*_{BRACES}_10m.tif", *common, "--out", "apart.zarr") == 0, capsys.readouterr()
    assert run("ingest", "--images", "whole", "--bands", ",".join(BANDS), *common, "--out", "whole.zarr") == 0
    (apart,), (whole,) = open_stores("apart.zarr"), open_stores("whole.zarr")
    assert apart.band_names == tuple(BANDS)
    assert [scene.name for scene in apart.scenes] == [f"T32TQM_{date}_10m.tif" for date in DATES]
    assert apart.scenes[0].image == f"S2/T32TQM_{DATES[0]}_{BRACES}_10m.tif"
    assert apart.class_pixels() == whole.class_pixels()
    one, other = (
        {
            str(file.relative_to(store.path)): file.read_bytes()
            for file in Path(store.path).rglob("*")
            if file.is_file() and file.name != "zarr.json"
        }
        for store in (apart, whole)
    )
    assert one == other
    capsys.readouterr()
    assert run("info", f"S2/T32TQM_{DATES[0]}_{BRACES}_10m.tif", "--json", "--verify") == 0
    told = json.loads(capsys.readouterr().out)
    assert [band["name"] for band in told["bands"]] == list(BANDS)
    assert (told["driver"], told["mask"], told["width"]) == ("GTiff", "nodata", SIDE)


def test_bands_name_and_choose(scenes: Any) -> None:
    """As of any file: what braces call bands is what the file calls them."""
    common = ("--labels", "labels", "--shares", "1,0,0")
    assert run("ingest", "--images", "S2/*_{B04,B03,B02}_10m.tif", *common, "--out", "own.zarr") == 0
    assert open_stores("own.zarr")[0].band_names == ("B04", "B03", "B02")
    given = ("--bands", "red,green,blue")
    assert run("ingest", "--images", "S2/*_{B04,B03,B02}_10m.tif", *common, *given, "--out", "given.zarr") == 0
    assert open_stores("given.zarr")[0].band_names == ("red", "green", "blue")
    some = ("--bands", "nir,red", "--dtype", "uint8")
    assert run("ingest", "--images", f"S2/*_{BRACES}_10m.tif", *common, *some, "--out", "some.zarr") == 0
    (store,) = open_stores("some.zarr")
    assert (store.band_names, store.dtype) == (("nir", "red"), np.uint8)
    np.testing.assert_array_equal(store.read_image(store.scenes[0].window), scenes[0][[3, 0]])


def test_what_ingest_refuses(scenes: Any, capsys: pytest.CaptureFixture[str]) -> None:
    common, alone = ("--labels", "labels", "--out", "out"), ("--labels", f"labels/{DATES[0]}.tif", "--out", "out")
    Path(f"S2/T32TQM_{DATES[1]}_B08_10m.tif").unlink()
    assert run("ingest", "--images", f"S2/*_{BRACES}_10m.tif", *common) == 1
    assert capsys.readouterr().err == f"error: --images: S2/T32TQM_{DATES[1]}_B08_10m.tif: no such file\n"
    assert run("ingest", "--images", f"S3/*_{BRACES}_10m.tif", *common) == 1
    assert "no raster files in S3/*_{red=" in capsys.readouterr().err
    assert run("ingest", "--images", "S2/*_{red=B04,nir=B04}_10m.tif", *common) == 1
    assert "names no file for each band" in capsys.readouterr().err
    assert run("ingest", "--images", f"S2/*{DATES[0]}*", "--bands", "red,nir", *alone) == 1
    assert "(bands in files of their own: '*_{red=B04,green=B03,blue=B02}_10m.jp2' makes" in capsys.readouterr().err


def test_a_model_finds_its_bands(scenes: Any) -> None:
    name = f"S2/T32TQM_{DATES[0]}_{BRACES}_10m.tif"
    image = open_bands(
        name, NeededBands(BandSettings(names=("nir", "red"), dtype="uint16"), "model", "model.safetensors")
    )
    np.testing.assert_array_equal(image.read(image.window)[0], scenes[0][[3, 0]])
    with pytest.raises(DataError, match="its bands are B04, B03; the model's are red, green"):
        bands = BandSettings(names=("red", "green"), dtype="uint16")
        open_bands(name.replace(BRACES, "{B04,B03}"), NeededBands(bands, "model", "model.safetensors"))


def test_what_values_mean_is_what_each_file_says(here: Path) -> None:
    name = write_bands("T1", random_image(0, SIDE, SIDE))
    for number, part in enumerate(BANDS.values()):
        with rasterio.open(f"T1_{part}_10m.tif", "r+") as file:
            file.scales, file.offsets, file.units = [0.0001], [-0.1 * number], ["reflectance"]
            file.update_tags(PLATFORM="S2A", BAND=part)
    raster = open_raster(name)
    assert raster.quantities == tuple(
        Quantity(scale=0.0001, offset=-0.1 * number, unit="reflectance") for number in range(4)
    )
    assert raster.tags["PLATFORM"] == "S2A"
    assert "BAND" not in raster.tags
    assert CastImage(open_raster(name, [2, 1]), "uint16").quantities == (raster.quantities[1], raster.quantities[0])


def test_evaluate_compares_files_of_bands(here: Path) -> None:
    """A report, in numbers, is that of one file of all bands."""
    image = random_image(0, SIDE, SIDE)
    real = write_bands("real", image)
    write_raster(Path("real.tif"), image, north_up())
    write_raster(Path("synthetic.tif"), random_image(1, SIDE, SIDE), north_up())
    write_raster(Path("labels.tif"), random_codes(0, SIDE, SIDE), north_up())
    options: dict[str, Any] = {"features": False, "tile_size": 32, "bands": list(BANDS)}
    apart, whole = (
        json.loads(evaluate(path, "synthetic.tif", "labels.tif", **options).model_dump_json())
        for path in (real, "real.tif")
    )
    assert apart.pop("real") == real
    assert whole.pop("real") == "real.tif"
    assert apart == whole


def test_an_ingest_depends_on_all_files(scenes: Any) -> None:
    common = ("--labels", "labels", "--shares", "1,0,0", "--overwrite", "--out", "out.zarr")
    last, digests = Path(f"S2/T32TQM_{DATES[1]}_B08_10m.tif"), set()
    for _ in range(2):
        assert run("ingest", "--images", f"S2/*_{BRACES}_10m.tif", *common) == 0
        digests.add(open_stores("out.zarr")[0].scenes[1].image_sha256)
        write_raster(last, scenes[0][0], north_up(SIDE), nodata=0)
    assert len(digests) == 2
    with pytest.raises(OutputError, match="is also an input"):
        refuse_inputs(last, [f"S2/T32TQM_{DATES[1]}_{BRACES}_10m.tif"])


def test_data_in_place_depend_on_all_files(scenes: Any) -> None:
    values = {"images": f"S2/*_{BRACES}_10m.tif", "labels": "labels", "split": {"shares": [1, 0, 0]}}
    Path("place.yaml").write_text(yaml.safe_dump(values))
    (source,) = open_sources("place.yaml")
    assert source.band_names == tuple(BANDS)
    pixels, labels = source.read(Window(0, 0, SIDE, 2 * SIDE))
    wanted = np.concatenate(scenes, axis=2)
    np.testing.assert_array_equal(pixels, wanted)
    np.testing.assert_array_equal(labels == source.legend.num_classes, (wanted == 0).all(axis=0))
    before = source.digest("train")
    write_raster(Path(f"S2/T32TQM_{DATES[1]}_B08_10m.tif"), scenes[0][0], north_up(SIDE), nodata=0)
    assert open_sources("place.yaml")[0].digest("train") != before


def test_dates_of_a_list_are_stores_of_their_own(here: Path) -> None:
    for number, date in enumerate(DATES):
        write_bands(f"S2/T1_{date}", random_image(number, SIDE, SIDE))
    write_raster(Path("labels.tif"), random_codes(0, SIDE, SIDE), north_up())
    rows = [f'"S2/T1_{date}_{BRACES}_10m.tif",labels.tif,{date[:4]}-{date[4:6]}-{date[6:8]}' for date in DATES]
    Path("list.csv").write_text("\n".join(["image,labels,date", *rows]))
    assert [image_name(item.image) for item in read_items("list.csv")] == [f"T1_{date}_10m.tif" for date in DATES]
    assert run("ingest", "--items", "list.csv", "--per", "day", "--shares", "1,0,0", "--out", "out") == 0
    assert len(open_stores("out")) == 2


def test_pairs_are_found_by_the_names_that_are_left(scenes: Any) -> None:
    pairs = pair_files([f"S2/*_{BRACES}_10m.tif"], "labels")
    assert [(item.image, item.labels) for item in pairs] == [
        (f"S2/T32TQM_{date}_{BRACES}_10m.tif", f"labels/{date}.tif") for date in DATES
    ]
    for date in DATES:
        touch(f"cogs/S2A_{date}_L2A/B04.tif", f"cogs/S2A_{date}_L2A/B08.tif", f"truth/S2A_{date}_L2A.tif")
    pairs = pair_files("cogs/*/{red=B04,nir=B08}.tif", "truth")
    assert [item.labels for item in pairs] == [f"truth/S2A_{date}_L2A.tif" for date in DATES]


def test_many_bands_make_a_long_name(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The name of twenty bands is longer than that of a file may be."""
    for number in range(20):
        write_raster(here / f"T1_B{number}.tif", random_image(number, SIDE, SIDE, 1), north_up())
    name = f"T1_{{{','.join(f'reflectance_of_band_{number}=B{number}' for number in range(20))}}}.tif"
    write_raster(Path("labels.tif"), random_codes(0, SIDE, SIDE), north_up())
    for images in (name, name.replace("T1", "T?")):
        arguments = ("--labels", "labels.tif", "--shares", "1,0,0", "--overwrite", "--out", "out")
        assert run("ingest", "--images", images, *arguments) == 0, capsys.readouterr()
    assert run("info", name) == 0
    Path("place.yaml").write_text(yaml.safe_dump({"images": name, "labels": "labels.tif"}))
    assert run("info", "place.yaml") == 0
    assert run("view", name, "--out", "page.html") == 0


@pytest.fixture
def server(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    for name in ("GDAL_HTTP_PROXY", "http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("GDAL_DISABLE_READDIR_ON_OPEN", "EMPTY_DIR")
    with RangeServer(here).running() as running:
        yield running


def test_files_behind_urls(server: RangeServer) -> None:
    image = random_image(0, SIDE, SIDE)
    name = f"{server.url}/{write_bands('T1', image)}"
    write_raster(Path("labels.tif"), random_codes(0, SIDE, SIDE), north_up())
    raster = pickle.loads(pickle.dumps(open_raster(name)))
    np.testing.assert_array_equal(raster.read(raster.window)[0], image)
    assert run("ingest", "--images", name, "--labels", "labels.tif", "--shares", "1,0,0", "--out", "out") == 0
    (store,) = open_stores("out")
    np.testing.assert_array_equal(store.read_image(store.scenes[0].window), image)
    assert store.scenes[0].image_sha256 == ""
