"""The matrix of journeys: every command that takes data, on every kind of data.

Each cell works, or is refused in one line that says what to do. All of it goes through the command line.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import rioxarray  # noqa: F401 - registers the accessor `.rio`
import xarray as xr
import yaml

from geosynth.checkpoint import GeneratorModel
from geosynth.raster.stores.open import open_sources
from geosynth_cli import app
from range_server import RangeServer
from rasters import north_up, random_codes, write_raster

SIDE = 128  # of a scene, pixels
BANDS = "red,green,blue,nir"
FOLDS = ("train", "val", "test")
UTM_17N, UTM_18N = "EPSG:26917", "EPSG:26918"

# Networks and numbers of steps as small as they come.
TRAIN = """ --steps 2 --batch-size 2 --crop-size 64 --precision fp32 --set base_width=2 --set max_multiple=2
    --set hidden_channels=4 --set latent_size=3 --set noise_channels=2 --set encoder_width=2 --set discriminator_width=2
    --set preview_every=0"""
SEGMENT = " --set encoder=tu-test_resnet --set steps=2 --set batch_size=2 --set tile_size=32 --set precision=fp32"

KINDS = ("store", "stores", "files", "arrays", "remote")
Run = Callable[..., tuple[int, str, str]]


class Data(NamedTuple):
    """One kind of data: what to say for --data, and of how many grids it is."""

    path: str
    num_stores: int


def write_scenes(folder: Path, crs: str, seed: int) -> list[tuple[Path, Path, str]]:
    """A scene for each fold, apart from each other: image, labels, fold. Each class has its own colour."""
    rng = np.random.default_rng(seed)
    scenes = []
    for place, fold in enumerate(FOLDS):
        codes = random_codes(10 * seed + place, SIDE, SIDE)
        image = (codes * 35 + rng.integers(0, 30, (4, SIDE, SIDE))).astype(np.uint8)
        grid = north_up(column=3 * SIDE * place)
        files = folder / "images" / f"{seed}_{fold}.tif", folder / "labels" / f"{seed}_{fold}.tif"
        for file, values in zip(files, (image, codes), strict=True):
            write_raster(file, values, grid, crs=crs)
        scenes.append((*files, fold))
    return scenes


def ingest(scenes: list[tuple[Path, Path, str]], out: Path) -> Path:
    items = out.with_suffix(".csv")
    items.write_text("image,labels,fold\n" + "".join(f"{image},{labels},{fold}\n" for image, labels, fold in scenes))
    with pytest.raises(SystemExit, match=r"^0$"):
        app(["ingest", "--items", str(items), "--bands", BANDS, "--out", str(out)])
        raise SystemExit(0)
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journeys")


@pytest.fixture(scope="module")
def scenes(folder: Path) -> list[tuple[Path, Path, str]]:
    return write_scenes(folder / "west", UTM_17N, 1)


@pytest.fixture(scope="module")
def store(folder: Path, scenes: list[tuple[Path, Path, str]]) -> Data:
    return Data(str(ingest(scenes, folder / "store.zarr")), 1)


@pytest.fixture(scope="module")
def stores(folder: Path, scenes: list[tuple[Path, Path, str]]) -> Data:
    """A folder of two stores, in two CRSs."""
    both = scenes + write_scenes(folder / "east", UTM_18N, 2)
    return Data(str(ingest(both, folder / "stores")), 2)


@pytest.fixture(scope="module")
def files(folder: Path, scenes: list[tuple[Path, Path, str]]) -> Data:
    """GeoTIFFs in place."""
    description = {
        "images": "west/images/*.tif",
        "labels": "west/labels",
        "bands": BANDS.split(","),
        "split": {"shares": [0.34, 0.33, 0.33]},  # three places, one for each fold
    }
    file = folder / "files.yaml"
    file.write_text(yaml.safe_dump(description))
    return Data(str(file), 1)


@pytest.fixture(scope="module")
def arrays(folder: Path) -> Data:
    """Zarr arrays of somebody else's, in place: one scene, split by blocks that are a buffer apart."""
    block = 192
    codes = random_codes(7, SIDE, 3 * block)
    image = (codes * 35 + np.random.default_rng(7).integers(0, 30, (4, *codes.shape))).astype(np.uint8)
    transform = north_up()
    across = {"y": transform.f + transform.e * (np.arange(SIDE) + 0.5)}
    across["x"] = transform.c + transform.a * (np.arange(3 * block) + 0.5)
    cube = xr.Dataset(
        {"naip": (("band", "y", "x"), image), "land_cover": (("y", "x"), codes)},
        coords=across,
    )
    cube.rio.write_crs(UTM_17N).to_zarr(folder / "cube.zarr", consolidated=False)
    description = {
        "zarr": "cube.zarr",
        "images": "naip",
        "labels": "land_cover",
        "bands": BANDS.split(","),
        "split": {"blocks": block, "shares": [0.34, 0.33, 0.33], "buffer": "32px"},
    }
    file = folder / "arrays.yaml"
    file.write_text(yaml.safe_dump(description))
    return Data(str(file), 1)


@pytest.fixture(scope="module")
def remote(folder: Path, store: Data) -> Iterator[Data]:
    """The store behind a local HTTP server."""
    pytest.importorskip("aiohttp")
    with pytest.MonkeyPatch.context() as patch, RangeServer(folder).running() as server:
        for name in ("http_proxy", "https_proxy", "all_proxy", "GDAL_HTTP_PROXY"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        patch.setenv("no_proxy", "*")
        yield Data(f"{server.url}/{Path(store.path).name}", 1)


COMMANDS = {
    "train": "train --data {data} --out {out}" + TRAIN,
    "twin": "twin --data {data} --out {out} --model {model} --precision fp32",
    "segment": "segment --data {data} --out {out}" + SEGMENT,
    "evaluate": "evaluate --data {data} --out {out} --model {model} --tile-size 64 --latents 1 --no-features",
    "study": "study replace --data {data} --out {out} --model {model} --seeds 1 --tiles 2 --shares 1"
    + SEGMENT.replace("--set ", "--set segment.")
    + " --set generate.precision=fp32",
    "tiles": "tiles --data {data} --size 64 --stride 64 --export {out} --json",
    "split": "split --data {data} --by blocks --block-size 128 --shares 0.34,0.33,0.33 --json",
    "split into a file": "split --data {data} --by blocks --block-size 128 --shares 0.34,0.33,0.33 --json"
    " --file-only --out {out}/split.geojson",
    "split --check": "split --check --data {data} --json",
    "info": "info {data} --json",
}

# Files that a command leaves in its output's folder; those of stores once for each CRS.
LEFT = {
    "train": ("model.safetensors", "last.ckpt", "metrics.csv"),
    "segment": ("model.safetensors", "report.json"),
    "evaluate": ("report.json", "report.html"),
    "study": ("replace/report.html", "replace/results.json"),
    "tiles": tuple(f"{fold}/index.parquet" for fold in FOLDS),
}

# What is refused, and how the line goes on after the name of the data.
ONE_OF_THEM = r"/stores: holds several stores; choose one: .*epsg_26917, .*epsg_26918"
INTO_A_FILE = (
    r"(\.yaml: is read in place|/store\.zarr: is behind a URL) and cannot keep a split; give --out and --file-only"
)
A_STORE = r"\.yaml: not a geosynth store; make one with `geosynth ingest`"
REFUSED = {
    ("stores", "evaluate"): ONE_OF_THEM,
    ("stores", "study"): ONE_OF_THEM,
    ("files", "study"): A_STORE,
    ("arrays", "study"): A_STORE,
    ("files", "split"): INTO_A_FILE,
    ("arrays", "split"): INTO_A_FILE,
    ("remote", "split"): INTO_A_FILE,
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_journey_ends_well_or_is_refused_in_one_line(
    kind: str, command: str, request: pytest.FixtureRequest, run: Run, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    data: Data = request.getfixturevalue(kind)
    path, out = data.path, tmp_path / "out"
    if command == "split" and Path(path).is_dir():  # others look at this store too
        path = str(shutil.copytree(path, tmp_path / Path(path).name))
    code, printed, errors = run(
        *(word.format(data=path, out=out, model=tiny_model.path) for word in COMMANDS[command].split())
    )
    refusal = REFUSED.get((kind, command))
    if refusal is not None:
        assert code == 1, errors
        assert printed == ""
        assert re.fullmatch(f"error: .*{refusal}", errors.rstrip("\n")), errors  # "." is no line break
        assert not out.exists()
        return
    assert code == 0, errors
    assert "error" not in errors
    for name in LEFT.get(command, ()):
        assert (out / name).is_file(), name
    check = CHECKS.get(command)
    if check is not None:
        check(json.loads(printed) if "--json" in COMMANDS[command] else printed, out, data)


def check_twin(printed: str, out: Path, data: Data) -> None:
    made = list(open_sources(out))
    assert len(made) == data.num_stores
    for real, twin in zip(open_sources(data.path), made, strict=True):
        assert [scene.window for scene in real.scenes] == [scene.window for scene in twin.scenes]
        window = real.scenes[0].window
        labels = twin.read_labels(window)
        painted = labels < twin.legend.num_classes  # all but what the buffer between folds takes
        assert painted.mean() > 0.5
        np.testing.assert_array_equal(labels[painted], real.read_labels(window)[painted])
        assert (real.read_image(window) != twin.read_image(window))[:, painted].mean() > 0.5


def check_tiles(told: dict[str, Any], out: Path, data: Data) -> None:
    for fold in FOLDS:
        assert told["tiles"][fold] >= 2 * data.num_stores
        assert len(list((out / fold / "image").rglob("*.tif"))) == told["tiles"][fold]


def check_split(told: dict[str, Any], out: Path, data: Data) -> None:
    assert len(told["stores"]) == data.num_stores
    for store in told["stores"]:
        assert all(store["folds"][fold]["pixels"] > 0 for fold in FOLDS)


def check_info(told: dict[str, Any], out: Path, data: Data) -> None:
    if data.path.endswith(".yaml"):
        assert (told["kind"], len(told["grids"])) == ("data in place", data.num_stores)
    else:
        assert told["kind"] == ("store" if data.num_stores == 1 else "stores")
        assert len(told.get("stores", [told])) == data.num_stores


CHECKS: dict[str, Callable[[Any, Path, Data], None]] = {
    "twin": check_twin,
    "tiles": check_tiles,
    "split": check_split,
    "split into a file": check_split,
    "info": check_info,
}
