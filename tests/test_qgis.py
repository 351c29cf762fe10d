"""The image in real QGIS, by the script that users have; skipped where no Python has QGIS."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

import geosynth
from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from rasters import NORTH_UP, UTM_18N, draw_labels, write_raster

SCRIPT = Path(__file__).parents[1] / "examples" / "check_in_qgis.sh"
SIDE = 400


def has_qgis() -> bool:
    pythons = [path for path in ("/usr/bin/python3", shutil.which("python3")) if path and Path(path).exists()]
    return any(
        subprocess.run([python, "-c", "import qgis.core"], capture_output=True, check=False).returncode == 0
        for python in pythons
    )


@pytest.mark.skipif(not has_qgis(), reason="QGIS is not installed (examples/check_in_qgis.sh installs it)")
def test_the_image_is_what_it_is_in_qgis(tmp_path: Path, tiny_model: GeneratorModel) -> None:
    codes = draw_labels(SIDE, SIDE)
    codes[: SIDE // 4] = 15
    labels = write_raster(tmp_path / "labels.tif", codes, NORTH_UP, crs=UTM_18N, nodata=15)
    image = geosynth.generate(labels, tmp_path / "image.tif", tiny_model, GenerateSettings(precision="fp32"))
    run = subprocess.run([SCRIPT, image, tmp_path / "picture.png"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["valid"]
    assert report["crs"] == UTM_18N
    assert (report["width"], report["height"]) == (SIDE, SIDE)
    assert [name.split(": ")[-1] for name in report["bands"][:4]] == ["red", "green", "blue", "nir"]
    assert report["colours"][:3] == ["Red", "Green", "Blue"]
    assert report["colours"][3] != "Alpha", "near infrared is no transparency"
    assert report["renderer"] == "multibandcolor"
    assert report["transparent"] == pytest.approx(0.25, abs=0.01), "what has no class is not drawn, all else is"

    with rasterio.open(image) as dataset:
        pixels = dataset.read([1, 2, 3])
    picture = np.asarray(
        Image.open(tmp_path / "picture.png").convert("RGBA").resize((SIDE, SIDE), Image.Resampling.BOX)
    )
    drawn, valid = picture[SIDE // 4 + 4 :, :, :3].astype(float), pixels[:, SIDE // 4 + 4 :].transpose(1, 2, 0)
    for channel in range(3):  # QGIS stretches contrast: the same pattern, other values
        assert np.corrcoef(drawn[..., channel].ravel(), valid[..., channel].ravel())[0, 1] > 0.8
