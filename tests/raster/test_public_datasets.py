"""The commands of the guide for public datasets, on small imitations of their folders, names, types and codes."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import rasterio.warp
from affine import Affine

from geosynth.legend import Legend
from geosynth.raster.stores.open import open_stores
from geosynth_cli import app
from rasters import north_up, random_image, write_raster

ROOT = Path(__file__).parents[2]
LEGENDS = ROOT / "examples" / "legends"
SIDE = 48
ROWS = dict(
    re.findall(r"^\| ([^|]+) \| `geosynth (ingest [^`]+)` \|$", (ROOT / "docs/data.md").read_text(), re.MULTILINE)
)

Array = npt.NDArray[Any]
Pairs = list[tuple[Array, Array]]  # the bands that the store shall have, and codes of the label file

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def codes_of(legend: str, seed: int, side: int = SIDE) -> npt.NDArray[np.uint8]:
    """All codes of a legend, nodata too, in blocks of 8 pixels."""
    known = Legend.load(LEGENDS / f"{legend}.yaml")
    codes = np.array([*known.codes, *known.nodata_codes], np.uint8)
    blocks = np.random.default_rng(seed).permutation(np.resize(codes, (side // 8) ** 2))
    return np.kron(blocks.reshape(side // 8, -1), np.ones((8, 8), np.uint8))


def put(path: str, values: Array, place: Affine | None, crs: str | None, **profile: Any) -> None:
    write_raster(Path(path), values, place, crs=crs, **profile)


def chesapeake() -> Pairs:
    pairs = []
    for n, fold in enumerate(("train", "val", "test")):
        image, codes = (
            random_image(n, SIDE, SIDE),
            np.resize(np.array([1, 2, 3, 4, 5, 6, 15, 0], np.uint8), (SIDE, SIDE)),
        )
        tile = f"md_1m_2013_extended-debuffered-{fold}_tiles/m_390750{n}_ne_18_1"
        put(f"{tile}_naip-new.tif", image, north_up(100 * n, size=1), "EPSG:26918")
        put(f"{tile}_lc.tif", codes, north_up(100 * n, size=1), "EPSG:26918", nodata=15)
        pairs.append((image, codes))
    return pairs


def dfc2020() -> Pairs:
    pairs = []
    for n in range(3):
        image, codes = random_image(n, SIDE, SIDE, 13, "uint16"), codes_of("dfc2020", n)
        name = f"ROIs0000_validation/{{0}}_{n}/ROIs0000_validation_{{0}}_{n}_p7.tif"
        put(name.format("s2"), image, north_up(100 * n, size=10), "EPSG:32630")
        put(name.format("dfc"), codes, north_up(100 * n, size=10), "EPSG:32630")
        pairs.append((image[[3, 2, 1, 7]], codes))
    return pairs


def flair() -> Pairs:
    pairs = []
    for n, zone in enumerate(("D004_2021/Z1_NN", "D004_2021/Z2_AU", "D041_2021/Z1_NN")):
        image, codes = random_image(n, SIDE, SIDE, 5), codes_of("flair", n)
        put(f"flair_aerial_train/{zone}/img/IMG_00000{n}.tif", image, north_up(100 * n, size=0.2), "EPSG:2154")
        put(f"flair_labels_train/{zone}/msk/MSK_00000{n}.tif", codes, north_up(100 * n, size=0.2), "EPSG:2154")
        pairs.append((image, codes))
    return pairs


def same_names(images: str, labels: str, legend: str, names: dict[str, str], bands: int = 3) -> Pairs:
    """Images and masks of the same names, which differ in nothing but their suffix."""
    pairs = []
    for n, (name, crs) in enumerate(names.items()):
        image, codes = random_image(n, SIDE, SIDE, bands), codes_of(legend, n)
        put(f"{images}/{name}", image, north_up(100 * n, size=1), crs)
        put(f"{labels}/{Path(name).stem}.tif", codes, north_up(100 * n, size=1), crs)
        pairs.append((image, codes))
    return pairs


def potsdam() -> Pairs:
    """Masks of colours, which have no georeference."""
    pairs, known = [], Legend.load(LEGENDS / "isprs.yaml")
    for n in range(3):
        image, codes = random_image(n, SIDE, SIDE), codes_of("isprs", n)
        colours = np.zeros((SIDE, SIDE, 3), np.uint8)
        for entry in known.classes:
            colours[codes == entry.code] = entry.rgb
        put(f"4_Ortho_RGBIR/top_potsdam_2_1{n}_RGBIR.tif", image, north_up(100 * n, size=0.05), "EPSG:32633")
        put(f"5_Labels_all/top_potsdam_2_1{n}_label.tif", np.moveaxis(colours, 2, 0), None, None, photometric="rgb")
        pairs.append((image, codes))
    return pairs


def loveda() -> Pairs:
    pairs = []
    for n, domain in enumerate(("Rural", "Rural", "Urban")):
        image, codes = random_image(n, SIDE, SIDE, 3), codes_of("loveda", n)
        put(f"Train/{domain}/images_png/{n}.png", image, None, None, driver="PNG")
        put(f"Train/{domain}/masks_png/{n}.png", codes, None, None, driver="PNG")
        pairs.append((image, codes))
    return pairs


def several_sizes(name: str, legend: str, crs: tuple[str, str]) -> Pairs:
    """Orthophotos of 0.25 and 0.5 m, of which the former become half as large: each block of codes is 4 pixels then."""
    pairs = []
    for n, size in enumerate((0.25, 0.5)):
        codes = codes_of(legend, n, 96)
        image = np.stack([codes, 255 - codes, codes // 2])  # so that the mean of four pixels is any of them
        place = Affine(size, 0, 3e5 + 1000 * n, 0, -size, 4e5)
        put(name.format("images", n), image, place, crs[n], photometric="rgb")
        put(name.format("masks" if "{0}/" in name[:4] else "labels", n), codes, place, crs[n])
        step = round(0.5 / size)
        pairs.append((image[:, ::step, ::step], codes[::step, ::step]))
    return pairs


def map_of_classes(name: str, legend: str, crs: str, map_crs: str, degrees: float | None, **bands: str) -> Pairs:
    """A large scene in files of bands, and a map in another CRS of one class in its west and another in its east."""
    known = Legend.load(LEGENDS / f"{legend}.yaml")
    image = random_image(1, 96, 96, len(bands), "uint16")
    size = 10 if degrees else 30
    place = Affine(size, 0, 600000, 0, -size, 4300000)
    for path, band in zip(bands.values(), image, strict=True):
        put(
            path,
            band,
            place,
            crs,
            **({"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"} if degrees else {}),
        )
    codes = np.full((96, 96), known.codes[0], np.uint8)
    codes[:, 48:] = known.codes[-1]
    bounds = rasterio.warp.transform_bounds(crs, map_crs, 600000, 4300000 - 96 * size, 600000 + 96 * size, 4300000)
    step = degrees or 30
    wide = Affine(step, 0, bounds[0] - 20 * step, 0, -step, bounds[3] + 20 * step)
    shape = tuple(int((bounds[n + 2] - bounds[n]) / step) + 40 for n in (1, 0))
    warped = np.full(shape, known.nodata_codes[-1], np.uint8)
    rasterio.warp.reproject(
        np.pad(codes, 15, "edge"), warped, src_transform=place @ Affine.translation(-15, -15), src_crs=crs,
        dst_transform=wide, dst_crs=map_crs, init_dest_nodata=False,
    )  # fmt: skip
    put(name, warped, wide, map_crs, nodata=known.nodata_codes[-1])
    return [(image, codes)]


SAFE = "S2A_MSIL2A_20210712.SAFE/GRANULE/L2A_T33UXP/IMG_DATA/R10m/T33UXP_20210712T100031_{}_10m.jp2"
LANDSAT = "LC09_L2SP_019033_20210704_20230408_02_T1_SR_{}.TIF"
MAKE: dict[str, Callable[[], Pairs]] = {
    "Chesapeake Land Cover": chesapeake,
    "DFC2020 (Sentinel-2)": dfc2020,
    "ESA WorldCover on Sentinel-2": lambda: map_of_classes(
        "ESA_WorldCover_10m_2021_v200_N39W084_Map.tif", "worldcover", "EPSG:32633", "EPSG:4326", 1 / 12000,
        **{band: SAFE.format(band) for band in ("B04", "B03", "B02", "B08")},
    ),
    "FLAIR #1": flair,
    "Inria Aerial": lambda: same_names(
        "train/images", "train/gt", "buildings", {"austin1.tif": "EPSG:26914", "chicago1.tif": "EPSG:26916"}
    ),
    "ISPRS Potsdam": potsdam,
    "LandCover.ai": lambda: several_sizes("{0}/M-33-20-D-c-4-{1}.tif", "landcover_ai", ("EPSG:2180", "EPSG:2180")),
    "LoveDA": loveda,
    "Massachusetts roads": lambda: same_names(
        "tiff/train", "tiff/train_labels", "roads", {f"1007{n}_15.tiff": "EPSG:26986" for n in range(3)}
    ),
    "NLCD on Landsat": lambda: map_of_classes(
        "Annual_NLCD_LndCov_2021_CU_C1V0.tif", "nlcd", "EPSG:32617", "EPSG:5070", None,
        **{band: LANDSAT.format(band) for band in ("B4", "B3", "B2", "B5")},
    ),
    "OpenEarthMap": lambda: several_sizes("place{1}/{0}/place{1}_1.tif", "openearthmap", ("EPSG:2180", "EPSG:32632")),
}  # fmt: skip


def test_each_command_is_tried() -> None:
    assert set(ROWS) == set(MAKE)


@pytest.mark.parametrize("dataset", ROWS)
def test_pixels_and_classes_are_those_of_the_files(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(LEGENDS, "legends")
    pairs = MAKE[dataset]()
    with pytest.raises(SystemExit) as end:
        app(shlex.split(ROWS[dataset]))
    assert not end.value.code, capsys.readouterr().err
    stores = open_stores(shlex.split(ROWS[dataset])[-1])
    scenes = [(scene, store) for store in stores for scene in store.scenes]
    assert len(scenes) == len(pairs)
    is_warped = "Map" in ROWS[dataset] or "NLCD" in ROWS[dataset]
    for (scene, store), (image, codes) in zip(scenes, pairs, strict=True):
        found = store.read_labels(scene.window)
        wanted = store.legend.encode(codes)
        assert np.mean(found == wanted) > 0.95 if is_warped else (found == wanted).all()
        is_labelled = found < store.legend.num_classes
        np.testing.assert_array_equal(store.read_image(scene.window)[:, is_labelled], image[:, is_labelled])
