"""Wheel, sdist and install carry what they should and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(wheel, sdist), built from the checkout."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
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
    assert {"geosynth/py.typed", "geosynth_cli/py.typed"} <= set(names)


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
    assert any(name.startswith("geosynth/weights/") and name.endswith(".safetensors") for name in names)


def test_the_wheel_has_the_version_of_the_code(built: tuple[Path, Path]) -> None:
    import geosynth

    assert built[0].name.startswith(f"geosynth_toolkit-{geosynth.__version__}-")


def test_declared_dependencies_are_used_or_needed() -> None:
    """Every dependency is imported somewhere, but for those that are declared for another package's sake."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[\[><=~! ]", entry)[0] for entry in project["dependencies"]}
    module = {"pyyaml": "yaml", "pillow": "PIL", "odc-geo": "odc.geo", "tensorboard": "torch.utils.tensorboard"}
    for_others = {
        "requests",  # torchgeo 0.8 imports it without declaring it
        "xarray",  # with rioxarray: how users open stores and images (docs/guide.md)
        "rioxarray",
    }
    files = [path for root in ("geosynth", "cli") for path in (ROOT / root).rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    for name in declared - for_others:
        needed = module.get(name, name.replace("-", "_"))
        assert re.search(rf"^\s*(import|from) {re.escape(needed)}\b", text, re.MULTILINE), f"{name} is not used"
