"""Each option of a command changes what the library is asked for: none is silently without effect."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

import geosynth
from geosynth_cli.main import app

Told = dict[str, Any]

PAINT = {"--seed 5": {"seed": 5}, "--look dry": {"look": "dry"}, "--style-length 40": {"style_length": 40.0}}
PAINT |= {"--precision fp32": {"precision": "fp32"}, "--device cpu": {"device": "cpu"}}
REPLACE = {"--overwrite": {"overwrite": True}}
CLUSTER = {"--workers 3": {"workers": 3}, "--scheduler tcp://a:1": {"scheduler": "tcp://a:1"}}
SHARES = {"--by clusters": {"by": "clusters"}, "--shares 0.5,0.2,0.3": {"shares": [0.5, 0.2, 0.3]}}
SHARES |= {"--seed 5": {"seed": 5}, "--buffer 64px": {"buffer": "64px"}}

COMMANDS: dict[str, tuple[str, dict[str, Told]]] = {
    "rasterize a.gpkg --out OUT.tif --column kind": (
        "rasterize",
        {
            "--layer roads": {"layer": "roads"},
            "--resolution 2.5": {"resolution": 2.5},
            "--crs EPSG:4326": {"crs": "EPSG:4326"},
            "--like b.tif": {"like": "b.tif"},
            "--width 3": {"width": 3.0},
            "--width lanes": {"width": "lanes"},
            **REPLACE,
        },
    ),
    "ingest --images a.tif --labels b.tif --out OUT.zarr": (
        "ingest",
        {
            "--images c.tif": {"images": ["a.tif", "c.tif"]},
            "--labels c.tif": {"labels": ["b.tif", "c.tif"]},
            "--legend chesapeake": {"legend": "chesapeake"},
            "--label-legend from-raster": {"label_legend": "from-raster"},
            "--bands red,nir": {"bands": ["red", "nir"]},
            "--dtype uint8": {"dtype": "uint8"},
            "--crs EPSG:4326": {"crs": "EPSG:4326"},
            "--resolution 2.5": {"resolution": 2.5},
            "--like b.tif": {"like": "b.tif"},
            "--resample-images cubic": {"resample_images": "cubic"},
            "--resample-labels mode": {"resample_labels": "mode"},
            "--apart": {"apart": True},
            "--by blocks --block-size 512px": {"by": "blocks", "block_size": 512},
            "--per year": {"per": "year"},
            "--scheduler tcp://a:1": {"scheduler": "tcp://a:1"},
            **SHARES,
            **REPLACE,
        },
    ),
    "split --data a.zarr": (
        "split",
        {
            "--block-size 512px": {"block_size": 512},
            "--no-stratify": {"stratify": False},
            "--polygons a.gpkg --by polygons": {"polygons": Path("a.gpkg"), "by": "polygons"},
            "--scenes a.csv --by scenes": {"scenes": Path("a.csv"), "by": "scenes"},
            "--out s.gpkg": {"out": Path("s.gpkg")},
            "--out s.gpkg --overwrite": {"out": Path("s.gpkg"), "overwrite": True},
            "--file-only": {"keep": False},
            **SHARES,
        },
    ),
    "split --check --data a.zarr": (
        "check_split",
        {
            "--buffer 64px": {"distance": "64px"},
            "--patch-size 32px": {"patch_size": 32},
            "--train a --val b --test c": {"folds": {"train": ["a"], "val": ["b"], "test": ["c"]}},
        },
    ),
    "tiles --data a.zarr": (
        "view_tiles",
        {
            "--fold val": {"fold": "val"},
            "--size 64px": {"size": 64},
            "--stride 32px": {"stride": 32},
            "--edge skip": {"edge": "skip"},
            "--max-nodata 0.5": {"max_nodata": 0.5},
        },
    ),
    "train --data a.zarr --out OUT": (
        "train",
        {
            "--fold val": {"fold": "val"},
            "--steps 7": {"steps": 7},
            "--max-time 2h": {"max_time": 7200.0},
            "--batch-size 3": {"batch_size": 3},
            "--crop-size 256px": {"crop_size": 256},
            "--precision fp32": {"precision": "fp32"},
            "--devices 2": {"devices": 2},
            "--seed 5": {"seed": 5},
            "--set base_width=16": {"base_width": 16},
        },
    ),
    "generate --labels a.tif --out OUT.tif": (
        "generate_many",
        {
            "--legend chesapeake": {"legend": "chesapeake"},
            "--model a.safetensors": {"model": "a.safetensors"},
            "--samples 3": {"samples": 3},
            "--summary": {"summary": True},
            "--style-from b.tif --style-bands red,nir": {"style": ["b.tif"], "style_bands": ["red", "nir"]},
            "--style-from b.tif --style-labels c.tif": {"style": ["b.tif"], "style_labels": ["c.tif"]},
            "--compress lzw": {"compress": "lzw"},
            "--unknown nodata": {"unknown": "nodata"},
            "--resample-labels mode": {"resample": "mode"},
            "--preview": {"preview": True},
            "--stac": {"stac": True},
            "--mosaic blend --overlap 32px": {"mosaic": "blend", "overlap": 32},
            "--block-size 512px": {"block_size": 512},
            **PAINT,
            **CLUSTER,
            **REPLACE,
        },
    ),
    "twin --data a.zarr --out OUT.zarr": (
        "twin",
        {
            "--model a.safetensors": {"model": "a.safetensors"},
            "--fold val --fold test": {"folds": ["val", "test"]},
            "--emphasise roads=3": {"emphasise": {"roads": 3.0}},
            "--emphasise roads=3 --tile-size 64px --tiles 9": {
                "emphasise": {"roads": 3.0},
                "tile_size": 64,
                "num_tiles": 9,
            },
            **PAINT,
            **CLUSTER,
            **REPLACE,
        },
    ),
    "segment --data a.zarr --out OUT": (
        "segment",
        {
            "--synthetic b.zarr": {"synthetic": "b.zarr"},
            "--real-tiles 7": {"real_tiles": 7},
            "--synthetic-tiles 7": {"synthetic_tiles": 7},
            "--tile-size 64px --set crop_size=64": {"tile_size": 64, "crop_size": 64},
            "--augment flips": {"augment": "flips"},
            "--encoder resnet50": {"encoder": "resnet50"},
            "--weights imagenet": {"weights": "imagenet"},
            "--init a.safetensors": {"init": "a.safetensors"},
            "--judge a.safetensors": {"judge": "a.safetensors"},
            "--steps 7": {"steps": 7},
            "--batch-size 3": {"batch_size": 3},
            "--seed 5": {"seed": 5},
            "--train-fold val": {"train_fold": "val"},
            "--test-fold val": {"test_fold": "val"},
            **REPLACE,
        },
    ),
    "classify --image a.tif --model a.safetensors --out OUT.tif": (
        "classify",
        {"--bands red,nir": {"bands": ["red", "nir"]}, "--device cpu": {"device": "cpu"}, **REPLACE},
    ),
    "evaluate --data a.zarr --out OUT": (
        "evaluate",
        {
            "--synthetic b.zarr": {"synthetic": ["b.zarr"]},
            "--model a.safetensors": {"model": "a.safetensors"},
            "--fold val": {"fold": "val"},
            "--legend chesapeake": {"legend": "chesapeake"},
            "--label-legend chesapeake": {"label_legend": "chesapeake"},
            "--bands red,nir": {"bands": ["red", "nir"]},
            "--segmenter a.safetensors": {"segmenter": "a.safetensors"},
            "--target b.tif": {"target": ["b.tif"]},
            "--inception download": {"inception": "download"},
            "--judge wavelets": {"judges": ("wavelets",)},
            "--no-features": {"features": False},
            "--tile-size 64px": {"tile_size": 64},
            "--max-tiles 7": {"max_tiles": 7},
            "--block-size 512px": {"block_size": 512},
            "--latents 3": {"latents": 3},
            "--look dry": {"look": "dry"},
            "--seed 5": {"seed": 5},
            "--device cpu": {"device": "cpu"},
            "--cache kept": {"cache": Path("kept")},
            **REPLACE,
        },
    ),
    "evaluate --real a.tif --synthetic b.tif --labels c.tif": ("evaluate", {"--target d.tif": {"target": ["d.tif"]}}),
    "study replace --data a.zarr --out OUT": (
        "run_study",
        {
            "--model a.safetensors": {"model": "a.safetensors"},
            "--seeds 4": {"seeds": 4},
            "--tiles 40": {"tiles": 40},
            **CLUSTER,
        },
    ),
    "study replace --dry-run --data a.zarr --out OUT": (
        "plan_study",
        {"--model a.safetensors": {"model": "a.safetensors"}, "--workers 3": {"workers": 3}},
    ),
    "study replace --tabulate --data a.zarr --out OUT": (
        "tabulate_study",
        {"--model a.safetensors": {"model": "a.safetensors"}},
    ),
    "import-spade net.pth --legend chesapeake --out OUT.safetensors": (
        "import_spade",
        {
            "--bands red,nir": {"bands": ["red", "nir"]},
            "--encoder e.pth": {"encoder": Path("e.pth")},
            "--depth most": {"depth": "most"},
            "--crop-size 128": {"crop_size": 128},
            "--gsd 0.6": {"gsd": 0.6},
            **REPLACE,
        },
    ),
    "looks add dry --image a.tif --out OUT.safetensors": (
        "add_look",
        {
            "--image b.tif": {"images": ["a.tif", "b.tif"]},
            "--labels c.tif": {"labels": ["c.tif"]},
            "--model a.safetensors": {"model": "a.safetensors"},
            "--legend from-raster": {"legend": "from-raster"},
            "--bands red,nir": {"bands": ["red", "nir"]},
            **REPLACE,
        },
    ),
    "info a.tif": ("info", {"--stac": {"stac": True}, "--verify": {"verify": True}}),
    "view a.tif --out OUT.html": (
        "view",
        {"--legend chesapeake": {"legend": "chesapeake"}, "--size 64px": {"size": 64}, **REPLACE},
    ),
}


@pytest.mark.parametrize("line", COMMANDS)
def test_each_option_reaches_the_library(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, options = COMMANDS[line]
    signature, calls = inspect.signature(getattr(geosynth, name)), []

    def called(*values: Any, **named: Any) -> None:
        bound = signature.bind(*values, **named)
        bound.apply_defaults()
        told = {key: value for key, value in bound.arguments.items() if key != "progress"}
        settings, others = told.pop("settings", None), told.pop("grid", {})
        calls.append(told | others | (settings.model_dump() if settings is not None else {}))
        raise geosynth.GeosynthError("called")

    monkeypatch.setattr(geosynth, name, called)
    monkeypatch.setattr("geosynth_cli.options.is_there", lambda name: True)
    monkeypatch.chdir(tmp_path)
    for more in ["", *options]:
        with pytest.raises(SystemExit):
            app([*line.replace("OUT", str(tmp_path / "out")).split(), *more.split()])
    plain, *changed = calls
    assert "OUT" not in line or "out" not in plain or str(plain["out"]).startswith(str(tmp_path / "out"))
    assert len(changed) == len(options), "each is accepted"
    for told, (option, expected) in zip(changed, options.items(), strict=True):
        differing = {key: value for key, value in told.items() if value != plain[key]}
        assert differing == expected, option


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("twin --data a.zarr --out b.zarr --tiles 3", "--tiles: no effect without --emphasise"),
        ("twin --data a.zarr --out b.zarr --agreement 0.1", "--agreement: no effect without --judge"),
        ("evaluate --data a.zarr --overwrite", "--overwrite: no effect without --out"),
        ("evaluate --real a --labels b --synthetic c --synthetic d", "several --synthetic need --data"),
        ("evaluate --real a --labels b", "give --real, --synthetic and --labels, or --data"),
        ("evaluate --real a --synthetic b", "give --real, --synthetic and --labels, or --data"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("geosynth_cli.options.is_there", lambda name: True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        app(line.split())
    assert (ended.value.code, capfd.readouterr().err) == (1, f"error: {said}\n")
