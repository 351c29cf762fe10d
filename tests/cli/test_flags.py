"""One look of all commands: what is the same is called and described the same. And what a shell and a stranger see."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import typer

import geosynth
from geosynth.legend import BUILT_IN
from geosynth_cli import main
from rasters import NORTH_UP, draw_labels, random_image, write_raster

Run = Callable[..., Any]  # see the fixture `run`

# Options that mean the same wherever they stand.
SAME = {"--overwrite", "--json", "--scheduler", "--workers", "--device", "--look", "--style-length", "--buffer"} | {
    *("--layer", "--width"),
}
# Options for what may be behind a URL.
ADDRESSES = {"--data", "--model", "--init", "--judge", "--segmenter", "--synthetic", "--target", "--like"} | {
    *("--image", "--images", "--real", "--labels", "--style-from", "--style-labels"),
}
PIXELS = {"--block-size", "--tile-size", "--patch-size", "--size", "--stride", "--overlap"}


def commands(group: Any = None, before: str = "") -> Iterator[tuple[str, Any]]:
    """All commands and what each is called."""
    for name, command in (group or typer.main.get_command(main._typer)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name, command


OPTIONS = [
    (name, option)
    for name, command in commands()
    for option in command.params
    if option.param_type_name == "option" and option.name != "help"
]


def test_the_same_option_reads_the_same_in_all_commands() -> None:
    texts, kinds = defaultdict(set), defaultdict(set)
    for _, option in OPTIONS:
        texts[option.opts[0]].add(option.help)
        kinds[option.opts[0]].add(option.is_flag)
    assert {name: found for name, found in texts.items() if name in SAME and len(found) > 1} == {}
    assert texts.keys() >= SAME
    assert {name for name, found in kinds.items() if len(found) > 1} <= {"--stac"}, "a switch is a switch everywhere"


def test_what_may_be_an_address_is_no_path() -> None:
    """A `Path` would make one slash of the two in https://."""
    found = defaultdict(set)
    for command in main._typer.registered_commands:
        for hint in get_type_hints(command.callback, include_extras=True).values():
            if get_origin(hint) is Annotated:
                kind, option = get_args(hint)
                found[option.default].add(kind)  # where Annotated has an option's name
    assert {name for name in ADDRESSES if not found[name] or any("Path" in str(kind) for kind in found[name])} == set()


def test_options_have_one_form() -> None:
    for name, option in OPTIONS:
        for form in option.opts:
            assert re.fullmatch(r"--[a-z][a-z-]*", form), f"{name} {form}: short forms are those of all commands only"
        assert option.help.endswith((".", "?")), f"{name} {option.opts[0]}"
        assert option.opts[0] not in PIXELS or option.metavar == "PIXELS", f"{name} {option.opts[0]}: takes 64px too"


def test_each_command_says_what_it_does() -> None:
    for name, command in commands():
        assert command.help
        assert re.match(r"[A-Z]", command.help), name
        first = command.help.split("\n\n")[0]
        assert first.endswith("."), name


def test_the_help_of_twin_tells_the_defaults_of_what_recombines_and_judges() -> None:
    """They stand there in words, since None says that an option is not given."""
    help_of = {option.name: option.help for name, option in OPTIONS if name == "twin"}
    for name in ("tile_size", "agreement"):
        default = inspect.signature(geosynth.twin).parameters[name].default
        assert help_of[name].endswith(f"; default {default}."), name


def test_help_tells_the_exit_codes(run: Run) -> None:
    assert "130 interrupted" in " ".join(run("--help").out.split())


def test_a_shell_completes_commands() -> None:
    script = Path(sys.executable).with_name("geosynth")
    asked = {"_GEOSYNTH_COMPLETE": "complete_bash", "COMP_WORDS": "geosynth eval", "COMP_CWORD": "1"}
    run = subprocess.run([script], env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["evaluate"]


def test_the_package_is_the_command() -> None:
    run = subprocess.run([sys.executable, "-m", "geosynth", "--version"], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == geosynth.__version__


def test_a_variable_that_is_not_set_is_not_the_present_folder(run: Run) -> None:
    for words, place in (
        (("generate", "--labels", "", "--out", "a.tif"), "--labels"),
        (("generate", "--labels=", "--out", "a.tif"), "--labels"),
        (("", "b"), "geosynth"),
    ):
        found = run(*words)
        assert (found.code, found.out) == (2, "")
        assert found.err == f"error: {place}: followed by nothing, as by a shell variable that is not set\n"


def test_a_value_may_end_in_an_equals_sign(run: Run) -> None:
    assert "nothing" not in run("train", "--data", "nowhere", "--out", "o", "--set", "init=").err


INPUTS = (
    ADDRESSES
    | {"--legend", "--label-legend", "--items", "--chesapeake", "--polygons", "--scenes"}
    | {
        *("--train", "--val", "--test", "--weights", "--inception"),
    }
)
MAKES_ITS_OUT = {"rasterize", "ingest", "generate", "twin", "classify", "import-spade", "view", "looks add"}
REFUSED = {  # command lines, and what is said
    "study replace --data here.yaml --out out": "here.yaml: not a geosynth store",
    "study transfer --data here --target none --out out": "--target none: no such file or folder",
    "generate --labels here --style-from here --style-from none --out out.tif": "--style-from none: no such file",
    "ingest --images he* --labels none --out out": "--labels none: no such file or folder",
    "ingest --images here --labels here --legend from-raster --out out": "--legend from-raster: a name or a YAML",
    "twin --data s3://a/b --model hf://a/b --judge none --out out": "--judge none: no such file or folder",
    "evaluate --data /vsizip/a --judge wavelets --judge dinov2=none": "--judge none: no such file or folder",
    "import-spade here --out out --legend chesapeake --encoder none": "--encoder none: no such file or folder",
    "train --init chesapeake-small --data none --out out": "--data none: no such file or folder",
}


def _line(name: str, command: Any, chosen: Any, value: str) -> str:
    """A call of a command with what it needs, and a value for one of its parameters."""
    words = [name]
    for each in command.params:
        if each is chosen or each.required:
            option = [each.opts[0]] * (each.param_type_name == "option")
            words += [*option, value if each is chosen else {"sweep": "replace", "out": "out"}.get(each.name, "here")]
    return " ".join(words)


for _name, _command in commands():
    for _each in _command.params:
        _option = f"{_each.opts[0]} " * (_each.param_type_name == "option")
        if (_option.strip() in INPUTS) if _option else _each.name not in ("sweep", "name"):
            _prefix = "dinov2=" * ((_name, _option) == ("evaluate", "--judge "))
            REFUSED[_line(_name, _command, _each, f"{_prefix}absent")] = f"{_option}absent: no such file or folder"
        elif _name in MAKES_ITS_OUT and _each.name == "out":
            REFUSED[_line(_name, _command, _each, "there")] = "there: already exists; choose another name"


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Exit codes and errors of those lines, in a process where libraries cannot be imported, which takes seconds."""
    folder = tmp_path_factory.mktemp("refused")
    (folder / "here.yaml").write_text("images: a\nlabels: b\n")
    (folder / "here").mkdir()
    (folder / "there").mkdir()
    script = (
        "import contextlib, io, json, sys\n"
        "sys.modules |= dict.fromkeys(('torch', 'rasterio', 'xarray', 'zarr'))\n"
        "import geosynth_cli.main as main\n"
        "def run(line):\n"
        "    with contextlib.redirect_stderr(io.StringIO()) as error:\n"
        "        try:\n"
        "            main.app(line.split())\n"
        "        except SystemExit as end:\n"
        "            return end.code, error.getvalue()\n"
        "print(json.dumps({line: run(line) for line in sys.argv[1:]}))\n"
    )
    ran = subprocess.run([sys.executable, "-c", script, *REFUSED], cwd=folder, capture_output=True, check=True)
    return json.loads(ran.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("line", REFUSED)
def test_wrong_paths_are_refused_before_libraries_are_loaded(line: str, ended: dict[str, tuple[int, str]]) -> None:
    code, error = ended[line]
    assert code == 1
    assert error.count("\n") == 1
    assert error.startswith(f"error: {REFUSED[line]}")


@pytest.mark.parametrize("name", BUILT_IN)
def test_options_of_legends_know_all_that_are_built_in(name: str) -> None:
    """They say the names themselves: to ask for them would load libraries."""
    told = [
        each.process_value(typer.Context(command), name)
        for _, command in commands()
        for each in command.params
        if each.opts[0] in ("--legend", "--label-legend")
    ]
    assert len(told) >= 7
    assert {str(value) for value in told} == {name}


def test_geotiffs_are_worked_on_without_what_other_files_need(tmp_path: Path, told_model: Any) -> None:
    """The libraries of arrays and tables take a second of the processor's time, torch two."""
    libraries = {"xarray", "rioxarray", "dask.array", "zarr", "pandas", "geopandas", "pyarrow"}
    write_raster(tmp_path / "labels.tif", draw_labels(32, 32), NORTH_UP)
    generate = f"generate --labels labels.tif --model {told_model.path}"
    without_torch = ["info labels.tif", "view labels.tif --out page.html"]
    with_torch = [
        f"{generate} --out image.tif --preview --json",
        f"{generate} --out-dir images",
        f"{generate} --out many.tif --samples 2 --summary",
        f"{generate} --style-from image.tif --out styled.tif",
    ]
    script = (
        "import sys, geosynth_cli.main as main\n"
        "for line in sys.argv[2:]:\n"
        "    try:\n"
        "        main.app(line.split())\n"
        "    except SystemExit as end:\n"
        "        print(end.code, sorted(set(sys.argv[1].split()) & set(sys.modules)))\n"
    )
    for lines, absent in ((without_torch, {*libraries, "torch"}), (with_torch, libraries)):
        words = [" ".join(absent), *lines, f"{generate} --out image.zarr --overwrite"]
        ran = subprocess.run([sys.executable, "-c", script, *words], cwd=tmp_path, capture_output=True, check=True)
        *found, of_zarr = re.findall(r"^\d \[.*", ran.stdout.decode(), re.MULTILINE)
        assert found == ["0 []"] * len(lines)
        assert {"xarray", "zarr"} <= set(re.findall(r"[\w.]+", of_zarr))


def test_stores_are_worked_on_without_what_other_files_need(tmp_path: Path) -> None:
    write_raster(tmp_path / "labels.tif", draw_labels(64, 64), NORTH_UP)
    write_raster(tmp_path / "image.tif", random_image(0, 64, 64), NORTH_UP)
    lines = (
        "ingest --images image.tif --labels labels.tif --bands red,green,blue,nir --by blocks --block-size 16"
        " --out data.zarr",
        "info data.zarr",
        "info data.zarr --verify",
        "split --data data.zarr --by blocks --block-size 32",
        "tiles --data data.zarr --size 16 --stride 16",
    )
    script = (
        "import sys, geosynth_cli.main as main\n"
        "for line in sys.argv[1:]:\n"
        "    try:\n"
        "        main.app(line.split())\n"
        "    except SystemExit as end:\n"
        "        heavy = {'xarray', 'rioxarray', 'dask.array', 'pandas', 'geopandas', 'pyarrow', 'torch'}\n"
        "        print(end.code, sorted(heavy & set(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", script, *lines], cwd=tmp_path, capture_output=True, check=True)
    assert re.findall(r"^\d \[.*", ran.stdout.decode(), re.MULTILINE) == ["0 []"] * len(lines)


def test_quiet_leaves_out_warnings_and_keeps_answers_and_errors(
    run: Run, tmp_path: Path, tiny_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEOSYNTH_PROGRESS", "lines")
    labels = write_raster(tmp_path / "labels.tif", draw_labels(32, 32), crs=None)
    words = ("generate", "--labels", labels, "--model", tiny_model.path, "--out", tmp_path / "a.tif", "--overwrite")
    loud = run(*words)
    assert "warning: " in loud.err
    assert re.search(r"^progress: generate 1/1$", loud.err, re.MULTILINE)
    for quiet in ("-q", "--quiet"):
        found = run(*words, quiet)
        assert (found.code, found.out, found.err) == (0, loud.out, "")
    assert run("-q", "info", tmp_path / "none").err.startswith("error: ")
    assert "warning: " in run(*words).err


def test_doctor_tells_versions_devices_and_places(run: Run) -> None:
    shown = run("doctor")
    assert shown.code == 0
    assert f"version: {geosynth.__version__}" in shown.out
    values = geosynth.doctor()
    assert values["packages"]["numpy"] == np.__version__
    assert "GTiff" in values["gdal"]["formats that are opened"]
    assert Path(values["model"]).is_file()
    assert values["processor"]["bfloat16"].split(":")[0] in ("fast", "slow")
    assert run("doctor", "--json").out.startswith("{")
