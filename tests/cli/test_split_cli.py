"""geosynth split and geosynth tiles, as a user meets them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import geopandas as gpd
import pytest
from affine import Affine

from geosynth.grid import Window
from geosynth.raster.stores.store import Store
from scene_stores import make_scene_store

Call = Callable[..., Any]  # see the fixture `run`


@pytest.fixture
def store(tmp_path: Path) -> Path:
    places = {"a.tif": Window(0, 0, 200, 200), "b.tif": Window(0, 260, 200, 120), "c.tif": Window(300, 0, 90, 200)}
    make_scene_store(tmp_path / "store", places)
    return tmp_path / "store"


@pytest.fixture
def call(run: Call, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs the command line in this process, on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    return run


def test_split_check_and_tiles(call: Call, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "split.geojson"
    done = call("split", "--data", store, "--by", "blocks", "--block-size", "64px", "--buffer", 6, "--out", out)
    assert (done.code, done.err) == (0, "")
    assert all(word in done.out for word in ("train", "val", "test", "none", "tree canopy", "share of all"))
    assert str(out) in done.out.splitlines()
    assert set(gpd.read_file(out)["fold"]) == {"train", "val", "test"}

    kept = call("split", "--check", "--data", store, "--buffer", 6)
    assert (kept.code, kept.err) == (0, "")
    assert "smallest distance, m " in kept.out
    assert call("split", "--check", "--data", store, "--buffer", "10px").code == 0  # of 0.6 m
    assert call("split", "--check", "--data", store, "--buffer", "11px").code == 1
    broken = call("split", "--check", "--data", store, "--buffer", 30, "--json")
    assert broken.code == 1
    assert broken.err.startswith("error: train and test leak: ")
    assert broken.err.count("\n") == 1
    report = json.loads(broken.out)
    assert report["leaks"] is True
    assert min(leak["smallest"] for leak in report["measured"]) == pytest.approx(6)

    counted = json.loads(call("tiles", "--data", store, "--size", 30, "--json").out)
    assert counted["stride"] == 15
    assert min(counted["tiles"].values()) > 0
    none = call("tiles", "--data", store, "--size", 9999, "--export", tmp_path / "tiles")
    assert (none.code, none.out) == (1, "")
    assert "no tile of 9999 px lies wholly in fold train" in none.err
    exported = call("tiles", "--data", store, "--size", 30, "--export", tmp_path / "tiles")
    assert exported.code == 0
    for fold, count in counted["tiles"].items():
        assert len(list((tmp_path / "tiles" / fold / "image").iterdir())) == count
    folders = [part for fold in ("train", "test") for part in (f"--{fold}", tmp_path / "tiles" / fold / "image")]
    assert call("split", "--check", *folders, "--buffer", 6).code == 0


def test_stores_of_several_crss_are_summed_up(call: Call, tmp_path: Path) -> None:
    for zone in ("26917", "26918"):
        make_scene_store(tmp_path / f"stores/{zone}", {"a": Window(0, 0, 200, 200)}, crs=f"EPSG:{zone}")
    done = call("split", "--data", tmp_path / "stores", "--by", "blocks", "--block-size", 50)
    assert (done.code, done.err) == (0, "")
    *of_stores, of_all = re.findall(r"^pixels +(.*)", done.out, re.MULTILINE)
    numbers = [[int(number.replace(",", "")) for number in line.split()] for line in (*of_stores, of_all)]
    assert [sum(column) for column in zip(*numbers[:-1], strict=True)] == numbers[-1]
    assert "\nall stores:\n" in done.out


def test_without_a_crs_lengths_are_pixels(call: Call, tmp_path: Path) -> None:
    places = {"a.tif": Window(0, 0, 200, 200), "b.tif": Window(0, 260, 200, 120)}
    data = make_scene_store(tmp_path / "store", places, crs=None, transform=Affine(2, 0, 5, 0, -2, 0)).path
    options = ("--by", "clusters", "--shares", "0.6,0,0.4", "--no-stratify")
    assert call("split", "--data", data, *options, "--buffer", "20px").code == 0
    for how in (options, ("--check",)):
        refused = call("split", "--data", data, *how, "--buffer", 20)
        assert refused.code == 1
        assert refused.err.startswith("error: --buffer: ")
        assert "metres mean nothing here; give pixels, as in 64px" in refused.err
    kept = call("split", "--check", "--data", data, "--buffer", "60px", "--patch-size", "64px")
    assert (kept.code, kept.err) == (0, "")
    assert "smallest distance, px" in kept.out
    assert "60.00" in kept.out
    broken = call("split", "--check", "--data", data, "--buffer", "61px")
    assert "nearer than 61 px or touching, the smallest distance is 60 px" in broken.err


@pytest.mark.parametrize("option", ["--block-size", "--patch-size"])
def test_a_side_that_is_no_number_of_pixels(call: Call, store: Path, option: str) -> None:
    done = call("split", "--data", store, option, "64m")
    assert done.code == 2
    assert "whole pixels are needed" in done.err


def test_tiles_overwrite_only_what_they_export(call: Call, store: Path) -> None:
    done = call("tiles", "--data", store, "--overwrite")
    assert (done.code, done.out, done.err) == (1, "", "error: --overwrite: no effect without --export\n")


def test_a_split_as_json_and_only_in_a_file(call: Call, store: Path, tmp_path: Path) -> None:
    before = Store(store).split
    options = ("--by", "clusters", "--shares", "1,0,1", "--file-only", "--out", tmp_path / "split.parquet", "--json")
    done = call("split", "--data", store, *options)
    assert json.loads(done.out)["stores"][0]["folds"]["val"]["pixels"] == 0
    assert Store(store).split == before
    again = call("split", "--data", store, *options)
    assert again.code == 1
    assert "already exists" in again.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--shares", "0.7,0.3"), "shares"),
        (("--shares", "most"), "three numbers are needed"),
        (("--by", "tiles"), "blocks, clusters, polygons or scenes"),
        (("--by", "polygons"), "needs a file"),
        (("--buffer", "far"), "neither metres, as in 200, nor pixels, as in 64px"),
        (("--block-size", "64", "--buffer", "100px"), "leaves fold"),
        (("--train", "."), "for --check"),
        (("--overwrite",), "--overwrite: no effect without --out"),
        (("--patch-size", "8"), "--patch-size: no effect without --check"),
        (("--check", "--patch-size", "9999"), "no fold holds a patch of 9999 px"),
        (("--check", "--out", "split.gpkg"), "--out: no effect with --check"),
        (("--check", "--by", "clusters"), "--by: no effect with --check"),
        (("--by", "clusters", "--block-size", "64"), "--block-size: no effect with --by clusters"),
        (("--by", "polygons", "--seed", "0"), "--seed: no effect with --by polygons"),
        (("--by", "scenes", "--shares", "1,0,1"), "--shares: no effect with --by scenes"),
        (("--by", "scenes", "--no-stratify"), "--stratify: no effect with --by scenes"),
        (("--check", "--buffer", "far"), "neither metres, as in 200, nor pixels, as in 64px"),
    ],
)
def test_one_line_says_what_is_wrong(call: Call, store: Path, arguments: tuple[str, ...], said: str) -> None:
    done = call("split", "--data", store, *arguments)
    assert done.code == 1
    assert done.out == ""
    assert said in done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
