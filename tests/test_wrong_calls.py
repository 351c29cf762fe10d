"""Calls of the public functions with what is no file name, no store, no settings: one error with one clear line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr

import geosynth
from geosynth.errors import SettingsError
from rasters import NORTH_UP, UTM_18N, write_raster

# What stands in the place of a file name, and what the message must say about it.
STRANGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a number": (lambda _: 3, "not int"),
    "bytes": (lambda _: b"labels.tif", "not bytes"),
    "a class": (lambda _: Path, "not type"),
    "numpy": (lambda _: np.ones((9, 9), np.uint8), "not ndarray, which has no grid"),
    "rasterio": (rasterio.open, "not DatasetReader; pass its name, '.*labels.tif'"),
    "a variable": (rioxarray.open_rasterio, r"not DataArray; write it first, as with \.rio\.to_raster"),
    "a dataset": (lambda path: xr.Dataset({"a": rioxarray.open_rasterio(path)}), "not Dataset; choose one of its"),
}
# Calls in which an input is `strange`; the other arguments would do.
INPUTS: dict[str, Callable[[Any, Path], Any]] = {
    "open_raster": lambda strange, _: geosynth.open_raster(strange),
    "open_store": lambda strange, _: geosynth.open_store(strange),
    "PatchDataset": lambda strange, _: geosynth.PatchDataset(strange, "train"),
    "view_tiles": lambda strange, _: geosynth.view_tiles(strange, "train"),
    "Legend.load": lambda strange, _: geosynth.Legend.load(strange),
    "info": lambda strange, _: geosynth.info(strange),
    "view": lambda strange, out: geosynth.view(strange, out / "page.html"),
    "view, one of two": lambda strange, out: geosynth.view([out / "labels.tif", strange], out / "page.html"),
    "rasterize": lambda strange, out: geosynth.rasterize(strange, out / "new.tif", "class", resolution=1),
    "VectorLabels": lambda strange, _: geosynth.VectorLabels(strange, "class", resolution=1),
    "split": lambda strange, _: geosynth.split(strange),
    "check_split": lambda strange, _: geosynth.check_split(strange),
    "check_split, folds": lambda strange, out: geosynth.check_split(folds={"train": strange}),
    "ingest": lambda strange, out: geosynth.ingest(strange, out / "labels.tif", out / "new.zarr"),
    "ingest, one of a list": lambda strange, out: geosynth.ingest([strange], out / "labels.tif", out / "new.zarr"),
    "read_items": lambda strange, _: geosynth.read_items(strange),
    "chesapeake_items": lambda strange, _: geosynth.chesapeake_items(strange),
    "load_generator": lambda strange, _: geosynth.load_generator(strange),
    "load_segmenter": lambda strange, _: geosynth.load_segmenter(strange),
    "import_spade": lambda strange, out: geosynth.import_spade(
        strange, out / "new.safetensors", legend="chesapeake", bands=["a"]
    ),
    "train": lambda strange, out: geosynth.train(strange, out / "new"),
    "segment": lambda strange, out: geosynth.segment(strange, out / "new"),
    "twin": lambda strange, out: geosynth.twin(strange, out / "new.zarr"),
    "evaluate": lambda strange, out: geosynth.evaluate(data=strange, synthetic=out / "twin.zarr"),
    "generate, legend": lambda strange, out: geosynth.generate(
        out / "labels.tif", out / "new.tif", legend=strange, workers=1
    ),
    "generate, style": lambda strange, out: geosynth.generate(out / "labels.tif", out / "new.tif", style=strange),
    "generate, tiles": lambda strange, out: geosynth.generate([out / "labels.tif", strange], out / "new.tif"),
    "plan_study": lambda strange, out: geosynth.plan_study(strange, out / "new", geosynth.AugmentSettings()),
}


def strange_input(kind: str, folder: Path) -> Any:
    return STRANGE[kind][0](write_raster(folder / "labels.tif", np.ones((9, 9), np.uint8), NORTH_UP, crs=UTM_18N))


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("call", INPUTS)
def test_what_is_no_name_is_refused_in_one_line_with_a_remedy(call: str, kind: str, tmp_path: Path) -> None:
    strange, told = strange_input(kind, tmp_path), STRANGE[kind][1]
    if call == "generate, tiles":
        told = "files, a raster or an xarray.DataArray are needed, not list"
    with pytest.raises(SettingsError, match=told) as caught:
        INPUTS[call](strange, tmp_path)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.tif"]


def out_of(function: str) -> Callable[[Any, Path], Any]:
    """A call with any inputs, but with `out` as given: outputs are looked at first."""

    def call(out: Any, folder: Path) -> Any:
        names = inspect.signature(getattr(geosynth, function)).parameters
        needed = [name for name, one in names.items() if one.default is one.empty and name not in ("out", "changes")]
        inputs: dict[str, Any] = {name: folder / "labels.tif" for name in needed if names[name].kind != 4}
        inputs |= {"settings": geosynth.AugmentSettings()} if "settings" in needed else {}
        inputs |= {"legend": "chesapeake"} if "legend" in needed else {}
        return getattr(geosynth, function)(**inputs | {"out": out})

    return call


OUTPUTS = "generate generate_many view rasterize ingest import_spade train segment twin classify add_look check_place"


@pytest.mark.parametrize("function", OUTPUTS.split())
@pytest.mark.parametrize("kind", ["a number", "numpy", "a variable"])
def test_an_output_that_is_no_name_is_refused(function: str, kind: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^out: an output is needed by its file name or URL, not"):
        out_of(function)(strange_input(kind, tmp_path), tmp_path)


OTHERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "bands": (lambda path: geosynth.open_raster(path, [2]), "bands: .* have numbers from 1 to 1, got 2"),
    "no bands": (lambda path: geosynth.open_raster(path, []), "bands: .* have numbers from 1 to 1"),
    "names of bands": (lambda path: geosynth.open_raster(path, "red"), "bands: .* have numbers from 1 to 1, got 'red'"),
    "a client": (lambda path: geosynth.generate(path, path.with_name("new.tif"), client="tcp://a:1"), "^client: a"),
    "a device": (lambda _: geosynth.load_generator(device=None), "^device: None cannot be used"),
    "settings": (
        lambda path: geosynth.plan_study(path, path.with_name("new"), {"seeds": 1}),
        "^settings: those of a sweep are needed, not dict",
    ),
    "items": (
        lambda path: geosynth.ingest(None, None, path.with_name("new.zarr"), items=[(path, path)]),
        "^items: a file that lists pairs, or what read_items returns, not tuple",
    ),
    "views": (
        lambda path: geosynth.export_tiles([path], path.with_name("new")),
        "^views: one or several TileView are needed",
    ),
    "a setting": (lambda path: geosynth.train(path, path.with_name("new"), stesp=4), "^stesp: .*'steps' is one"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_wrong_arguments_are_named(what: str, tmp_path: Path) -> None:
    call, told = OTHERS[what]
    with pytest.raises(geosynth.GeosynthError, match=told):
        call(write_raster(tmp_path / "labels.tif", np.ones((9, 9), np.uint8), NORTH_UP, crs=UTM_18N))
    assert [path.name for path in tmp_path.iterdir()] == ["labels.tif"]
