"""From images of reflectances to synthetic ones: others read reflectances at both ends, by the command line alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr

import geosynth
from rasters import north_up, random_codes, write_raster

SIDE = 128
SCALE, OFFSET, UNIT = 0.0001, -0.1, "reflectance"
TINY = """--steps 2 --batch-size 2 --crop-size 64 --precision fp32 --set base_width=2 --set max_multiple=2
    --set hidden_channels=4 --set latent_size=3 --set noise_channels=2 --set encoder_width=2 --set discriminator_width=2
    --set preview_every=0"""
SEGMENT = "--set encoder=tu-test_resnet --set steps=2 --set batch_size=2 --set tile_size=32 --set precision=fp32"
Run = Callable[..., tuple[int, str, str]]


def write_scene(folder: Path, number: int, offset: float = OFFSET) -> Path:
    codes = random_codes(number, SIDE, SIDE)
    values = (1000 + 300.0 * codes + np.random.default_rng(number).integers(0, 200, (2, SIDE, SIDE))).astype(np.uint16)
    place, path = north_up(2 * SIDE * number), folder / "images" / f"{number}.tif"
    write_raster(folder / "labels" / path.name, codes, place)
    write_raster(path, values, place, photometric="minisblack")
    with rasterio.open(path, "r+") as file:
        file.descriptions = ("red", "nir")
        file.scales, file.offsets, file.units = (SCALE,) * 2, (offset,) * 2, (UNIT,) * 2
    return path


def test_reflectances_stay_reflectances(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def say(line: str) -> str:
        code, printed, errors = run(*line.split())
        assert code == 0, errors
        assert "not told" not in errors
        return printed

    for number in range(3):
        write_scene(tmp_path, number)
    items = [f"images/{number}.tif,labels/{number}.tif,{fold}" for number, fold in enumerate(("train", "val", "test"))]
    Path("items.csv").write_text("\n".join(["image,labels,fold", *items]))
    say("ingest --items items.csv --out data.zarr")
    say(f"train --data data.zarr --out model {TINY}")
    say("generate --labels labels/0.tif --model model --out a.tif --precision fp32 --stac")
    say("generate --labels labels/0.tif --model model --out a.zarr --precision fp32")
    say("generate --labels labels/0.tif --model model --out both.zarr --samples 2 --summary --precision fp32")
    say("twin --data data.zarr --model model --out twin.zarr --precision fp32")
    say("tiles --data twin.zarr --size 64 --stride 64 --max-nodata 0.5 --export tiles")
    say(f"segment --data data.zarr --synthetic twin.zarr --out segmenter {SEGMENT}")
    say("classify --image a.tif --model segmenter --out classes.tif")

    tile = next(Path("tiles/train/image").rglob("*.tif"))
    for path in (Path("a.tif"), tile):
        with rasterio.open(path) as image, rasterio.open("images/0.tif") as real:
            assert (image.scales, image.offsets, image.units) == (real.scales, real.offsets, real.units)
            stored = image.read()
        decoded = rioxarray.open_rasterio(path, mask_and_scale=True)
        np.testing.assert_allclose(decoded, stored * SCALE + OFFSET, atol=1e-6)
    with rasterio.open("a.tif") as image:
        meant = image.read() * SCALE + OFFSET
    np.testing.assert_allclose(xr.open_zarr("a.zarr", decode_coords="all")["image"], meant, atol=1e-6)
    np.testing.assert_allclose(xr.open_zarr("both.zarr", decode_coords="all")["image"][0], meant, atol=1e-6)
    lazy = geosynth.generate(rioxarray.open_rasterio("labels/0.tif"), model="model", precision="fp32")
    np.testing.assert_allclose(xr.decode_cf(lazy.to_dataset())["image"], meant, atol=1e-6)
    with rasterio.open("both_summary.tif") as summary:
        assert summary.offsets == (OFFSET, OFFSET, 0, 0, 0, 0, 0, 0)

    quantity = {"scale": SCALE, "offset": OFFSET, "unit": UNIT}
    for name in ("data.zarr", "twin.zarr"):
        assert json.loads(say(f"info {name} --json"))["quantities"] == [quantity] * 2
    for name in ("model", "segmenter"):
        assert json.loads(say(f"info {name} --json"))["bands"]["quantities"] == [quantity] * 2
    for name in ("images/0.tif", "a.tif", "a.zarr"):
        assert all(band.items() >= quantity.items() for band in json.loads(say(f"info {name} --json"))["bands"])
        assert f"{SCALE}" in say(f"info {name}")

    other = write_scene(tmp_path / "before", 9, offset=0)
    line = "before/images/9.tif: band red holds values x 0.0001 (reflectance), but values x 0.0001 - 0.1 (reflectance)"
    Path("items.csv").write_text(
        "\n".join(["image,labels", "images/0.tif,labels/0.tif", f"{other},before/labels/9.tif"])
    )
    for words in (
        "ingest --items items.csv --out mixed.zarr",
        "generate --labels labels/0.tif --model model --style-from before/images/9.tif --out b.tif",
        "classify --image before/images/9.tif --model segmenter --out other.tif",
    ):
        code, printed, errors = run(*words.split())
        assert (code, printed) == (1, ""), words
        assert line in errors, words
        assert len(errors.splitlines()) == 1, words
