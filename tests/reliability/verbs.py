"""Every verb that writes, on inputs that take it a second or two; and the process in which it is run, and broken."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
from shapely.geometry import box

from forked import start
from geosynth_cli import app
from rasters import north_up, random_codes, write_raster

TRIALS = int(os.environ.get("GEOSYNTH_TRIALS", 0))
"""How often each verb is broken; many for `make reliability`, 0 for the few breaks of the plain test suite."""

_PATIENCE = 300  # seconds after which a verb hangs, however busy the machine


@dataclass(frozen=True)
class Verb:
    """A command line, told of inputs in a folder `{inputs}`; its outputs are names in the folder it runs in."""

    words: str
    last: str
    """The output, or the file in it, that is there only when all is whole."""

    def arguments(self, inputs: Path) -> list[str]:
        """The words with the paths filled in."""
        return [word.format(inputs=inputs) for word in self.words.split()]


_TINY_GENERATOR = """ --set base_width=2 --set max_multiple=2 --set hidden_channels=4 --set latent_size=3
    --set noise_channels=2 --set encoder_width=2 --set discriminator_width=2 --set preview_every=0"""
_TINY_SEGMENTER = " --set encoder=tu-test_resnet --set batch_size=2 --set tile_size=32 --set precision=fp32"

VERBS = {
    "rasterize": Verb("rasterize {inputs}/land.gpkg --column class --resolution 0.6 --out out.tif", "out.tif"),
    "ingest": Verb("ingest --items {inputs}/items.csv --bands red,green,blue,nir --out out.zarr", "out.zarr"),
    "tiles": Verb("tiles --data {inputs}/store.zarr --size 32 --stride 32 --export out", "out/test"),
    "generate": Verb(
        "generate --labels {inputs}/labels.tif --model {inputs}/generator.safetensors --block-size 128 --precision fp32"
        " --preview --stac --out out.tif",
        "out.tif",
    ),
    "generate zarr": Verb(
        "generate --labels {inputs}/labels.tif --model {inputs}/generator.safetensors --block-size 128 --precision fp32"
        " --out out.zarr",
        "out.zarr",
    ),
    "twin": Verb(
        "twin --data {inputs}/store.zarr --model {inputs}/generator.safetensors --precision fp32 --out out.zarr",
        "out.zarr",
    ),
    "train": Verb(
        "train --data {inputs}/store.zarr --steps 8 --batch-size 2 --crop-size 64 --precision fp32 --set save_every=2"
        f"{_TINY_GENERATOR} --out out",
        "out/model.safetensors",
    ),
    "segment": Verb(
        "segment --data {inputs}/store.zarr --steps 8 --set save_minutes=0.0001 --out out" + _TINY_SEGMENTER,
        "out/report.json",
    ),
    "classify": Verb(
        "classify --image {inputs}/image.tif --model {inputs}/segmenter --out out.tif",
        "out.tif",
    ),
    "evaluate": Verb(
        "evaluate --data {inputs}/store.zarr --model {inputs}/generator.safetensors --tile-size 128 --latents 2"
        " --out out",
        "out/report.json",
    ),
    "looks add": Verb(
        "looks add mine --image {inputs}/image_0.tif --labels {inputs}/labels_0.tif --out out.safetensors",
        "out.safetensors",
    ),
    "view": Verb("view {inputs}/image_0.tif {inputs}/labels_0.tif --out out.html", "out.html"),
    "study": Verb(
        "study replace --data {inputs}/store.zarr --model {inputs}/generator.safetensors --seeds 1 --tiles 2"
        " --shares 0,1 --set generate.precision=fp32 --set segment.steps=2 --out out"
        + _TINY_SEGMENTER.replace("--set ", "--set segment."),
        "out/replace/results.json",
    ),
}


class Ended(NamedTuple):
    """How a process ended: its exit code (a signal's number, negative), and what it wrote on stderr."""

    code: int
    errors: list[str]


class Running:
    """A verb at work in a process of its own.

    Args:
        arguments: of the command line.
        folder: to run in.
        limits: of the process, as `resource` names them without RLIMIT_; of what it has already so much more.
        before: called in it first.
    """

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        limits: Mapping[str, int] | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        self.errors = folder.with_name(f"{folder.name}.errors")
        self.process = start(_work, arguments, folder, self.errors, limits or {}, before)

    def send(self, number: int) -> None:
        """A signal; none to a process that has ended."""
        if self.process.is_alive():
            assert self.process.pid is not None
            os.kill(self.process.pid, number)

    def end(self, after: float = _PATIENCE) -> Ended | None:
        """How it ended; None if it has not after so many seconds."""
        self.process.join(after)
        if self.process.exitcode is None:
            if after == _PATIENCE:
                self.process.kill()
                raise AssertionError(f"hangs: {self.errors.read_text()}")
            return None
        return Ended(self.process.exitcode, self.errors.read_text(errors="replace").splitlines())


def run(arguments: list[str], folder: Path, **more: Any) -> Ended:
    """Let a verb come to its end."""
    ended = Running(arguments, folder, **more).end()
    assert ended is not None
    return ended


def _work(
    arguments: list[str], folder: Path, errors: Path, limits: Mapping[str, int], before: Callable[[], None] | None
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with errors.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(folder)
    for name, more in limits.items():
        which = getattr(resource, f"RLIMIT_{name}")
        resource.setrlimit(which, (_used(name) + more, resource.getrlimit(which)[1]))
    if before is not None:
        before()
    app(arguments)
    sys.exit(0)


def _used(limit: str) -> int:
    if limit == "NOFILE":
        return 1 + max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    status = Path("/proc/self/status").read_text()
    found = re.search({"AS": r"VmSize:\s*(\d+)", "DATA": r"VmData:\s*(\d+)"}[limit], status)
    assert found is not None
    return 1024 * int(found.group(1))


def the_error(ended: Any) -> str:
    """The one line with which a verb was refused or failed; whatever else it says are warnings."""
    code, errors = ended[0], ended[-1]  # of an `Ended`, or of what the fixture `run` gives
    assert code == 1, ended
    lines = errors.splitlines() if isinstance(errors, str) else errors
    [line] = [line for line in lines if not line.startswith("warning: ")]
    assert line.startswith("error: "), line
    assert "unexpected" not in line, line
    return line


def content(folder: Path) -> dict[str, Any]:
    """All that a verb made, by path: what must be equal however often it was broken off.

    Times spent are left out, and so are the records and checkpoints of a training, which hold them.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or "tensorboard" in name or path.name in ("metrics.csv", "last.ckpt"):
            continue
        if path.suffix == ".json":
            found[name] = _timeless(json.loads(path.read_text()))
        else:
            found[name] = path.read_bytes()
    return found


_TIMES = ("created", "datetime")  # of STAC items


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(one) for key, one in value.items() if "seconds" not in key and key not in _TIMES}
    if isinstance(value, list):
        return [_timeless(one) for one in value]
    return value


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Names of what is not equal in two contents."""
    return sorted(name for name in {*one, *other} if name not in one or name not in other or one[name] != other[name])


def files_in(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_inputs(folder: Path, generator: Path) -> Path:
    """What the verbs are told of: scenes, a store, label and image rasters, a generator and a segmenter."""
    rng = np.random.default_rng(0)
    rows = []
    for place, fold in enumerate(("train", "train", "val", "test", "test")):
        codes = random_codes(place, 128, 128)
        image = (codes * 35 + rng.integers(0, 30, (4, 128, 128))).astype(np.uint8)
        files = folder / f"image_{place}.tif", folder / f"labels_{place}.tif"
        for file, values in zip(files, (image, codes), strict=True):
            write_raster(file, values, north_up(column=400 * place), crs="EPSG:26918")
        rows.append(f"{files[0]},{files[1]},{fold}")
    (folder / "items.csv").write_text("\n".join(["image,labels,fold", *rows, ""]))
    write_raster(folder / "labels.tif", random_codes(9, 380, 250), north_up(), crs="EPSG:26918")
    image = rng.integers(0, 256, (4, 600, 200)).astype(np.uint8)
    write_raster(folder / "image.tif", image, north_up(), crs="EPSG:26918")
    squares = [box(9 * number, 0, 9 * number + 12, 300) for number in range(40)]  # each lies a little over the last
    classes = [1 + number % 6 for number in range(40)]
    gpd.GeoDataFrame({"class": classes}, geometry=squares, crs="EPSG:26918").to_file(folder / "land.gpkg")
    (folder / "generator.safetensors").write_bytes(generator.read_bytes())
    for verb, out, name in (("ingest", "out.zarr", "store.zarr"), ("segment", "out", "segmenter")):
        ended = run(VERBS[verb].arguments(folder), folder)
        assert ended.code == 0, ended
        (folder / out).rename(folder / name)
    return folder
