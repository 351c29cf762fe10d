"""Images and the plugin in real QGIS (skipped where no Python has it); and how the plugin calls the command."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from shapely.geometry import box

import geosynth
from geosynth.checkpoint import GeneratorModel
from geosynth.config import BandSettings, GenerateSettings, SegmentSettings
from geosynth.legend import CHESAPEAKE
from geosynth.segmentation.segmenter import SegmenterCard, save_segmenter
from geosynth_qgis import command as plugin
from geosynth_qgis.command import CommandError, find_command, run_command
from rasters import NORTH_UP, UTM_18N, draw_labels, random_image, write_raster

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "check_in_qgis.sh"
SIDE = 400
QGIS_PYTHON = "/usr/bin/python3"


def has_qgis() -> bool:
    pythons = [path for path in ("/usr/bin/python3", shutil.which("python3")) if path and Path(path).exists()]
    return any(
        subprocess.run([python, "-c", "import qgis.core"], capture_output=True, check=False).returncode == 0
        for python in pythons
    )


needs_qgis = pytest.mark.skipif(not has_qgis(), reason="QGIS is not installed (examples/check_in_qgis.sh installs it)")


@needs_qgis
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


@pytest.fixture
def command(tmp_path: Path) -> Path:
    """The `geosynth` command of these sources."""
    return _script(tmp_path / "geosynth", f'PYTHONPATH="{ROOT}:{ROOT}/cli" exec "{sys.executable}" -m geosynth "$@"')


def _script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.slow
@needs_qgis
def test_each_algorithm_of_the_plugin_in_qgis(
    tmp_path: Path, command: Path, tiny_model: GeneratorModel, told_model: GeneratorModel
) -> None:
    shape = (96, 128)
    codes = draw_labels(*shape)
    labels = write_raster(tmp_path / "labels.tif", codes, NORTH_UP, crs=UTM_18N, nodata=15)
    real = write_raster(tmp_path / "real.tif", random_image(0, *shape), NORTH_UP, crs=UTM_18N)
    with rasterio.open(real, "r+") as dataset:
        dataset.descriptions = ("red", "green", "blue", "nir")
    corner = (NORTH_UP.c, NORTH_UP.f)
    fields = [box(corner[0], corner[1] - 40, corner[0] + 30, corner[1]), box(*corner, corner[0] + 60, corner[1] + 9)]
    gpd.GeoDataFrame({"kind": ["water", "Tree Canopy"]}, geometry=fields, crs=UTM_18N).to_file(tmp_path / "land.gpkg")
    torch.manual_seed(0)
    network = smp.Unet("tu-test_resnet", encoder_weights=None, in_channels=4, classes=6).eval()
    bands = BandSettings(names=("red", "green", "blue", "nir"))
    card = SegmenterCard(settings=SegmentSettings(encoder="tu-test_resnet"), legend=CHESAPEAKE, bands=bands, gsd=None)
    save_segmenter(tmp_path / "segmenter.safetensors", network, card)

    def out(name: str) -> str:
        return str(tmp_path / name)

    requests: list[dict[str, Any]] = [
        {"algorithm": "paint", "parameters": {"LABELS": labels, "MODEL": tiny_model.path, "OUTPUT": out("a.tif")}},
        {
            "algorithm": "paintlike",
            "parameters": {"LABELS": labels, "STYLE": real, "MODEL": told_model.path, "OUTPUT": out("b.tif")},
        },
        {
            "algorithm": "evaluate",
            "parameters": {"REAL": real, "SYNTHETIC": out("a.tif"), "LABELS": labels, "OUTPUT": out("report")},
        },
        {
            "algorithm": "classify",
            "parameters": {"IMAGE": real, "MODEL": out("segmenter.safetensors"), "OUTPUT": out("c.tif")},
        },
        {
            "algorithm": "rasterize",
            "parameters": {"VECTOR": out("land.gpkg"), "COLUMN": "kind", "RESOLUTION": 0.5, "OUTPUT": out("d.tif")},
        },
        {"algorithm": "rasterize", "parameters": {"VECTOR": out("land.gpkg"), "COLUMN": "kin", "OUTPUT": out("e.tif")}},
    ]
    (tmp_path / "runs.json").write_text(json.dumps(requests, default=str))
    run = subprocess.run(
        [QGIS_PYTHON, ROOT / "qgis" / "check_plugin.py", command, tmp_path / "runs.json", tmp_path],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"HOME": str(tmp_path)},
    )
    assert run.returncode == 0, run.stderr
    painted, alike, evaluated, classified, rasterised, refused = json.loads(run.stdout.splitlines()[-1])
    for report in (painted, alike):
        assert (report["renderer"], report["bands"]) == ("multibandcolor", [1, 2, 3])
        assert report["progress"][-1] == 100
    direct = geosynth.generate(labels, tmp_path / "direct.tif", tiny_model.path)
    with rasterio.open(out("a.tif")) as first, rasterio.open(direct) as second:
        assert np.array_equal(first.read(), second.read())
    assert Path(evaluated["results"]["REPORT"]).read_text().startswith("<!")
    for report in (classified, rasterised):
        assert [name for _, name, _ in report["classes"]] == list(CHESAPEAKE.names)
        assert report["classes"][0] == [1, "water", CHESAPEAKE.classes[0].colour.lower()]
    picture = np.asarray(Image.open(tmp_path / "4_rasterize.png").convert("RGB")).reshape(-1, 3)
    assert {(0, 0x70, 0xC0), (0x26, 0x73, 0x00)} <= set(map(tuple, np.unique(picture, axis=0).tolist()))
    assert refused["error"].endswith("land.gpkg: has no column 'kin'; it has kind")


def test_the_plugin_packs_into_one_zip(tmp_path: Path) -> None:
    icon = (ROOT / "qgis" / "geosynth_qgis" / "icon.png").read_bytes()
    run = subprocess.run([sys.executable, ROOT / "qgis" / "package.py", tmp_path], capture_output=True, check=True)
    assert Path(run.stdout.decode().strip()) == tmp_path / "geosynth_qgis.zip"
    with zipfile.ZipFile(tmp_path / "geosynth_qgis.zip") as archive:
        names = {Path(name).name for name in archive.namelist()}
        assert {"__init__.py", "metadata.txt", "icon.png", "LICENSE"} <= names
        assert all(name.startswith("geosynth_qgis/") for name in archive.namelist())
        assert f"version={geosynth.__version__}\n" in archive.read("geosynth_qgis/metadata.txt").decode()
        assert archive.read("geosynth_qgis/icon.png") == icon


@pytest.fixture
def algorithms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module of the plugin's algorithms, with stand-ins for QGIS."""
    core = MagicMock()
    for name in ("Algorithm", "Exception", "LayerPostProcessorInterface"):
        base = Exception if name == "Exception" else object
        setattr(core, f"QgsProcessing{name}", type(name, (base,), {}))
    core.QgsPalettedRasterRenderer = type("Paletted", (), {})
    core.Qgis.DataType = Enum("DataType", ["Byte", "UInt16"])  # members of such an Enum equal no number
    for module in ("qgis", "qgis.PyQt", "qgis.PyQt.QtGui", "processing", "processing.core"):
        monkeypatch.setitem(sys.modules, module, MagicMock())
    monkeypatch.setitem(sys.modules, "qgis.core", core)
    monkeypatch.setitem(sys.modules, "processing.core.ProcessingConfig", MagicMock())
    yield importlib.import_module("geosynth_qgis.algorithms")
    del sys.modules["geosynth_qgis.algorithms"]


def test_a_number_that_is_not_given_is_the_default_of_its_parameter(algorithms: Any) -> None:
    """As from qgis_process; the dialog gives None for a field that was emptied."""
    algorithm = MagicMock()
    algorithm.parameterAsDouble = lambda parameters, name, context: parameters.get(name, 1.0)

    def number(parameters: dict[str, float | None], default: float | None) -> str:
        algorithm.parameterDefinition.return_value.defaultValue.return_value = default
        result: str = algorithms._Values(algorithm, parameters, None, None).number("RESOLUTION")
        return result

    assert number({}, 1.0) == "1"
    assert number({}, None) == number({"RESOLUTION": None}, 1.0) == ""
    assert number({"RESOLUTION": 0.5}, 1.0) == "0.5"


@pytest.mark.parametrize("kind", ["Byte", "UInt16"])
def test_only_images_of_bytes_are_shown_without_stretch(algorithms: Any, kind: str) -> None:
    layer = MagicMock()
    layer.bandCount.return_value = 4
    provider, kinds = layer.dataProvider(), algorithms.Qgis.DataType
    provider.generateBandName = lambda band: f"Band {band}: {('nir', 'red', 'green', 'blue')[band - 1]}"
    provider.dataType = provider.sourceDataType = lambda band: kinds[kind]
    algorithms._Style().postProcessLayer(layer, None, None)
    algorithms.QgsMultiBandColorRenderer.assert_called_once_with(provider, 2, 3, 4)
    (renderer,) = layer.setRenderer.call_args.args
    for put in (renderer.setRedContrastEnhancement, renderer.setBlueContrastEnhancement):
        assert put.called == (kind == "Byte")
    assert layer.setDefaultContrastEnhancement.called == (kind == "UInt16"), "else values wrap around at 256"


def test_the_command_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "env" / "bin").mkdir(parents=True)
    script = _script(tmp_path / "env" / "bin" / "geosynth", "true")
    assert find_command(str(script)) == find_command(f" {tmp_path / 'env'} ") == str(script)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CommandError, match="not on the PATH; enter its path"):
        find_command("")
    monkeypatch.setenv("PATH", str(script.parent))
    assert find_command(None) == str(script)
    with pytest.raises(CommandError, match="has no geosynth command"):
        find_command(str(tmp_path))


def test_the_command_tells_how_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    script = _script(
        tmp_path / "geosynth",
        'echo "warning: look: out" >&2; echo "progress: paint 1/4" >&2; echo "$1$PYTHONHOME"; echo plain >&2; exit $2',
    )
    told: list[tuple[str, Any]] = []

    def run(code: str) -> str | None:
        result: str | None = run_command(str(script), ["a b", code], lambda *what: told.append(what), lambda: False)
        return result

    assert run("0") == "a b", "one word stays one, and what QGIS sets for its own Python does not come along"
    assert told == [("warning", "look: out"), ("progress", 25.0), ("info", "plain")]
    with pytest.raises(CommandError, match="warning: look: out"):
        run("3")
    with pytest.raises(CommandError, match="cannot be run"):
        run_command(str(tmp_path / "none"), [], print, lambda: False)


@pytest.mark.parametrize("worker_stops", [True, False])
def test_a_run_that_is_cancelled_stops_with_its_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker_stops: bool
) -> None:
    monkeypatch.setattr(plugin, "_PATIENCE", 60 if worker_stops else 0)
    send = plugin._signal

    def send_later(process: Any, number: int) -> None:
        while number == signal.SIGKILL and not (tmp_path / "stopped").exists():
            time.sleep(0.01)
        send(process, number)

    monkeypatch.setattr(plugin, "_signal", send_later)
    on_term = f"echo stopped > {tmp_path}/worker; exit" if worker_stops else ""
    script = _script(
        tmp_path / "geosynth",
        f"trap 'echo stopped > {tmp_path}/stopped; exit 143' TERM\n"
        f"(trap '{on_term}' TERM; touch {tmp_path}/ready; while :; do sleep 0.1; done) &\n"
        f"while [ ! -e {tmp_path}/ready ]; do sleep 0.1; done\n"
        'echo "progress: paint 1/4" >&2\nwhile :; do sleep 0.1; done',
    )
    told: list[Any] = []
    assert run_command(str(script), [], lambda *what: told.append(what), lambda: bool(told)) is None
    assert (tmp_path / "stopped").exists()
    assert (tmp_path / "worker").exists() == worker_stops
