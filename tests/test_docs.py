"""The documentation: its commands run, what it names exists, its site builds, its notebooks work.

Commands stand in fenced blocks of the language `bash`, Python in `python`. They run page by page, in their order, in a
folder that holds what the page says at its top: `<!-- starts with: scenes landcover -->` (`MAKERS` below). Networks are
as small as they come (`SMALLEST` is added to each command). Before a block may stand

    <!-- tested with: --block-size 64 -->        options that are added to its commands
    <!-- tested by: tests/test_x.py -->          it is not run here, but there
    <!-- not run: why (2026-11-28) -->           it is not run; when that was last done by hand, or (never)
    <!-- file: my_city.yaml -->                  it is written into the folder under this name
"""

from __future__ import annotations

import inspect
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
import typer
import yaml

import geosynth
from geosynth.checkpoint import GeneratorModel
from geosynth_cli import main
from rasters import north_up, random_codes, write_raster

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", ROOT / "geosynth/weights/MODEL_CARD.md", *(ROOT / "docs").rglob("*.md"))
    if path.name != "commands.md"  # made by the site
)
BANDS = ("red", "green", "blue", "nir")
Run = Callable[..., Any]  # see the fixture `run`

_TRAIN = "steps=2 batch_size=4 crop_size=64 precision=fp32 discriminator_width=2 preview_every=0"
_NETWORK = "encoder_width=2 base_width=2 max_multiple=2 hidden_channels=4 latent_size=3 noise_channels=2"
_SEGMENT = "encoder=tu-test_resnet steps=2 batch_size=2 tile_size=32 precision=fp32"


def _settings(text: str, prefix: str = "") -> list[str]:
    return [word for setting in text.split() for word in ("--set", prefix + setting)]


SMALLEST = {
    "train": _settings(_TRAIN),
    "segment": _settings(_SEGMENT),
    "study": [
        "--seeds",
        "1",
        *_settings(_SEGMENT.replace("tile_size=32", "tile_size=64"), "segment."),
        *_settings(_TRAIN + " " + _NETWORK, "train."),
    ],
    "evaluate": ["--tile-size", "64", "--max-tiles", "16"],
}


# --- Blocks of a page.


class Block(NamedTuple):
    """A fenced block."""

    language: str
    text: str
    marks: dict[str, str]
    """By name, what the comments right before it say."""


def blocks_of(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"^((?:<!-- [^\n]* -->\n)*) *```([^\n]*)\n(.*?)^ *```$", text, flags=re.MULTILINE | re.DOTALL)
    return [
        Block(language, body, dict(re.findall(r"<!-- ([\w ]+): (.*) -->", marks))) for marks, language, body in found
    ]


def commands_in(text: str) -> list[list[str]]:
    """The words of each command, its continuations joined, without comments."""
    lines = text.replace("\\\n", "").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


@pytest.mark.parametrize("page", PAGES)
def test_blocks_are_run_or_say_why_not(page: str) -> None:
    for language, text, marks in blocks_of(page):
        assert language or not re.search(r"^ *(\$ )?(geosynth|python|make|pip|conda|docker) ", text, re.MULTILINE), text
        assert not marks.keys() - {"starts with", "tested with", "tested by", "not run", "file"}, marks
        if "tested by" in marks:
            assert (ROOT / marks["tested by"]).is_file()
        elif "not run" in marks:
            assert re.search(r"\w.* \((20\d\d-\d\d-\d\d|never)\)$", marks["not run"]), (
                "why, and when it was run by hand"
            )
        elif language == "bash":
            assert {words[0] for words in commands_in(text)} == {"geosynth"}, text


# --- What pages start with.


class World:
    """Makes what pages name, once each, as small as it can be."""

    def __init__(self, folder: Path, run: Run, model: GeneratorModel, told: GeneratorModel) -> None:
        self.folder, self.run, self.models = folder, run, {"model.safetensors": model, "looks.safetensors": told}

    def make(self, name: str) -> Path:
        path = self.folder / name
        if not path.exists():
            maker = getattr(self, "_" + Path(name).stem, None)
            if name in self.models:
                shutil.copy(self.models[name].path, path)
            else:
                assert maker is not None, f"no test makes {name}"
                maker(path)
        return path

    def pair(self, image: Path, labels: Path, seed: int, side: int = 256, place: int = 0) -> None:
        codes = np.kron(random_codes(seed, side // 8, side // 8), np.ones((8, 8), np.uint8))
        noise = np.random.default_rng(seed).integers(0, 30, (4, *codes.shape))
        write_raster(image, (codes * 35 + noise).astype(np.uint8), north_up(place), crs="EPSG:26917")
        write_raster(labels, codes, north_up(place), crs="EPSG:26917")

    def _scenes(self, path: Path) -> None:
        """Ten, further apart than any buffer."""
        for seed, name in enumerate("abcdefghij"):
            self.pair(path / f"{name}.tif", self.folder / "landcover" / f"{name}.tif", seed, place=1000 * seed)

    def _landcover(self, path: Path) -> None:
        self.make("scenes")

    def _sentinel(self, path: Path) -> None:
        """The same in files of bands."""
        for scene in sorted(self.make("scenes").glob("*.tif")):
            with rasterio.open(scene) as image:
                profile = {"driver": "JP2OpenJPEG", "crs": image.crs, "QUALITY": 100, "REVERSIBLE": "YES"}
                for number, band in enumerate(("B04", "B03", "B02", "B08"), start=1):
                    name = path / f"{scene.stem}_{band}_10m.jp2"
                    write_raster(name, image.read(number), image.transform, **profile)

    def _scene(self, path: Path) -> None:
        self.pair(path, self.folder / "unused.tif", seed=8, side=128)

    def _land(self, path: Path) -> None:
        fields = [shapely.box(266110 + 20 * n, 4303290, 266150 + 20 * n, 4303340 + n) for n in range(3)]
        names = ["tree canopy", "water", "low vegetation"]
        gpd.GeoDataFrame({"class": names}, geometry=fields, crs="EPSG:26917").to_file(path)

    def _photos(self, path: Path) -> None:
        """Without a georeference, classes as colours."""
        for seed in range(3):
            codes = random_codes(seed, 128, 128, codes=(0, 2, 3, 4, 5, 6, 7))
            colours = (np.stack([codes & 1, codes >> 1 & 1, codes >> 2]) * 255).astype(np.uint8)
            plain = {"crs": None, "photometric": None}
            write_raster(path / f"{seed}_sat.jpg", colours // 2, driver="JPEG", **plain)
            write_raster(path / f"{seed}_mask.png", colours, driver="PNG", **plain)

    def _new_place(self, path: Path) -> None:
        self.pair(path / "image.tif", path / "labels.tif", seed=7, side=128, place=9000)

    def _land_cover(self, path: Path) -> None:
        self.pair(self.folder / "unused.tif", path, seed=8, side=128)

    _md_lc = _land_cover

    def _tiles(self, path: Path) -> None:
        for seed in range(2):
            self.pair(self.folder / "unused.tif", path / f"{seed}.tif", seed, side=64, place=64 * seed)

    def _data(self, path: Path) -> None:
        scenes, landcover = self.make("scenes"), self.make("landcover")
        geosynth.ingest([scenes], [landcover], path, bands=BANDS, shares=(0.7, 0.1, 0.2))

    def _twin(self, path: Path) -> None:
        geosynth.twin(self.make("data.zarr"), path, self.make("model.safetensors"))

    def _synth(self, path: Path) -> None:
        geosynth.generate(self.make("new_place") / "labels.tif", path, self.make("model.safetensors"))

    def _folds(self, path: Path) -> None:
        path.write_text(
            "scene,fold\na,train\nb,val\nc,test\nd,train\ne,train\nf,test\ng,train\nh,train\ni,val\nj,train\n"
        )

    def _my(self, path: Path) -> None:
        path.write_text(yaml.safe_dump({"preset": "tiny", "turn": False}))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_model: GeneratorModel, told_model: GeneratorModel) -> World:
    return World(tmp_path_factory.mktemp("world"), None, tiny_model, told_model)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(
    page: str, world: World, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    starts_with = re.search(r"^<!-- starts with: (.*) -->$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    for name in starts_with.group(1).split() if starts_with else []:
        made = world.make(name)
        (shutil.copytree if made.is_dir() else shutil.copy)(made, tmp_path / name)
    names: dict[str, Any] = {}
    for language, text, marks in blocks_of(page):
        if "file" in marks:
            Path(marks["file"]).write_text(text, encoding="utf-8")
        if marks.keys() & {"tested by", "not run"}:
            continue
        if language == "bash":
            for words in commands_in(text):
                run_command(run, words[1:], shlex.split(marks.get("tested with", "")))
        elif language == "python":
            exec(compile(text, page, "exec"), names)


def run_command(run: Run, words: list[str], more: list[str]) -> None:
    # The networks of a training that starts from a model are the model's.
    network = _settings(_NETWORK) if words[0] == "train" and "--init" not in words else []
    asked = words
    for added in (SMALLEST.get(words[0], []), more, network):
        asked = [*_without_settings_of(added, asked), *added]
    result = run(*asked)
    assert result.code == 0, f"{shlex.join(words)}\n{result.err}"


def _without_settings_of(added: list[str], words: list[str]) -> list[str]:
    """The words of a command without the settings that the added words have too, as none may be given twice."""
    again = {setting.split("=")[0] for option, setting in pairwise(added) if option == "--set"}
    places = [
        n for n, (option, setting) in enumerate(pairwise(words)) if option == "--set" and setting.split("=")[0] in again
    ]
    return [word for n, word in enumerate(words) if n not in places and n - 1 not in places]


@pytest.mark.parametrize("page", PAGES)
def test_commands_that_are_not_run_are_understood(
    page: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All options and settings are read, values too; what is called then is not."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text("preset: tiny\n")

    def called(*arguments: Any, **options: Any) -> None:
        raise geosynth.GeosynthError("called")

    for name in geosynth.__all__:
        if inspect.isfunction(getattr(geosynth, name)) and name != "check_place":
            monkeypatch.setitem(vars(geosynth), name, called)
    monkeypatch.setattr("geosynth_cli.options.is_there", lambda name: True)
    for language, text, marks in blocks_of(page):
        if language == "bash" and marks.keys() & {"tested by", "not run"}:
            for words in commands_in(text):
                if "geosynth" in words[:2]:
                    result = run(*words[words.index("geosynth") + 1 :])
                    assert result.err == "error: called\n", shlex.join(words)


# --- What pages name.


COMMANDS = typer.main.get_command(main._typer).commands  # type: ignore[attr-defined]


def _options(command: Any) -> set[str]:
    inner = [option for each in getattr(command, "commands", {}).values() for option in _options(each)]
    return {*inner, *(option for each in command.params for option in (*each.opts, *each.secondary_opts))}


OPTIONS = {name: _options(command) | {"--debug", "--remote", "--help"} for name, command in COMMANDS.items()}
OTHERS_OPTIONS = {
    "--version",
    "--quiet",
    "--debug",
    "--install-completion",
    "--signal",
    "--only",
}  # of geosynth itself, sbatch, benchmarks


@pytest.mark.parametrize("page", [*PAGES, "examples/dubai_rgb.sh", "examples/train_default.sh"])
def test_commands_and_options_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    prose = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)
    blocks = [block.text.replace("\\\n", " ") for block in blocks_of(page)] if page.endswith(".md") else [text]
    lines = re.findall(r"^ *(?:exec )?geosynth +([a-z].*)", "\n".join(blocks), re.MULTILINE)
    for line in [*lines, *re.findall(r"`geosynth +([a-z][^`]*)`", prose)]:
        verb, *words = line.split("#")[0].split()
        assert verb in COMMANDS, f"{page}: {line}"
        for word in words:
            option = word.partition("=")[0]
            assert not option.startswith("--") or option in OPTIONS[verb], f"{page}: {line}"
    known = set.union(*OPTIONS.values(), OTHERS_OPTIONS)
    for code in re.findall(r"`(--[^`]+)`", prose):
        assert code.split()[0].split("=")[0] in known, f"{page}: {code}"


def test_the_python_reference_is_complete() -> None:
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\.\. auto\w+:: (\w+)$", page, re.MULTILINE))
    assert described == set(geosynth.__all__) - {"__version__"}


# --- The site and the notebooks.


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("furo")
    site = tmp_path / "site"
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", tmp_path / "cache", ROOT / "docs", site],
        capture_output=True,
        text=True,
        env={**os.environ, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},  # offline
    )
    assert built.returncode == 0, built.stderr
    assert (site / "index.html").is_file()
    assert (site / "searchindex.js").is_file()
    for page in site.rglob("*.html"):  # nothing is fetched when they are read
        assert not re.search(r'(?:src|stylesheet" href)="https?://', page.read_text(encoding="utf-8")), page.name


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "cli")]))
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    for name in ("md_lc.tif", "ohio_naip_legend.yaml"):
        shutil.copy(ROOT / "examples" / name, tmp_path / name)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}}).execute()
