"""`geosynth segment` and `geosynth classify`, as typed."""

from __future__ import annotations

import json

import numpy as np
import pytest

import geosynth
from rasters import north_up, write_raster

TYPED = ("--tile-size", 32, "--encoder", "tu-test_resnet", "--batch-size", 2, "--steps", 2)


def test_segment_then_classify(run, segment_store, segment_twin, tmp_path):
    out = tmp_path / "out"
    typed = (
        *("segment", "--data", segment_store.path, "--out", out, "--synthetic", segment_twin.path, *TYPED),
        *("--real-tiles", 4, "--synthetic-tiles", 3, "--augment", "flips", "--set", "precision=fp32"),
    )
    code, shown, err = run(*typed)
    assert (code, err) == (0, "")
    assert "mean IoU" in shown
    assert "4 real and 3 synthetic tiles, encoder from scratch" in shown
    assert shown.splitlines()[-1] == str(out / "model.safetensors")  # to classify with
    code, shown, err = run(*typed, "--json")  # the report that is there
    assert (code, err) == (0, "")
    assert json.loads(shown) == json.loads((out / "report.json").read_text())

    image = write_raster(tmp_path / "image.tif", np.full((4, 32, 32), 9, np.uint8), north_up())
    typed = ("classify", "--image", image, "--model", out, "--out", tmp_path / "labels.tif")
    code, shown, err = run(*typed)
    assert (code, shown.strip(), err) == (0, str(tmp_path / "labels.tif"), "")
    code, shown, err = run(*typed)
    assert (code, shown) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    code, shown, err = run(*typed, "--overwrite", "--device", "nowhere")
    assert (code, shown, err) == (
        1,
        "",
        "error: --device: 'nowhere' cannot be used: it is none; auto, cpu, cuda and cuda:1 are\n",
    )
    code, shown, err = run("info", out / "model.safetensors", "--json")
    assert (code, json.loads(shown)["kind"], err) == (0, "segmenter", "")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), (None, None, None)),
        (("--synthetic", "twin.zarr"), ("twin.zarr", None, None)),
        (("--synthetic", "twin.zarr", "--synthetic-tiles", "5", "--real-tiles", "0"), ("twin.zarr", 0, 5)),
    ],
)
def test_a_twin_that_is_given_is_used(run, monkeypatch, tmp_path, options, expected):
    asked = []

    def segment(data, out, settings, **others):
        asked.append((others["synthetic"], settings.real_tiles, settings.synthetic_tiles))
        raise geosynth.GeosynthError("enough")

    monkeypatch.setitem(vars(geosynth), "segment", segment)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "twin.zarr").mkdir()
    code, _, err = run("segment", "--data", tmp_path, "--out", tmp_path, *options)
    assert (code, err.strip()) == (1, "error: enough")
    assert asked == [expected]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--augment", "colour"), "augment"),
        (("--set", "tile_size=33"), "tile_size"),
        (("--set", "tiles=3"), "tiles"),
        (("--real-tiles", "0", "--set", "coarse=nlcd"), "error: coarse: needs real tiles"),
        (("--synthetic-tiles", "2"), "synthetic tiles need a twin"),
        (("--init", ".", "--weights", "imagenet"), "--weights: no effect with --init"),
        (("--init", ".", "--set", "weights=imagenet"), "error: weights: no effect with --init"),
        (("--set", "agreement=0.1"), "error: agreement: no effect without --judge"),
        (("--set", "coarse_tiles=2"), "error: coarse_tiles: no effect without coarse"),
    ],
)
def test_refusals_are_one_line(run, segment_store, tmp_path, options, said):
    code, out, err = run(
        "segment", "--data", segment_store.path, "--out", tmp_path / "out", "--tile-size", 32, *options
    )
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1
