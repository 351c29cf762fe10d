"""The import rule: which room may know which, no circles, no undeclared library; what must stay out of start-up."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "geosynth"

# Room (top-level module or folder of geosynth): rooms it may import. docs/architecture.md explains each.
MAY_KNOW: dict[str, set[str]] = {
    "__init__": set(),  # public names are imported when first used
    "__main__": set(),  # the command
    "version": set(),
    "estimate": set(),
    "page": {"estimate"},
    "errors": set(),
    "files": set(),
    "inputs": set(),
    "progress": set(),
    "locks": set(),
    "unfinished": set(),
    "cluster": set(),
    "parallel": {"cluster"},
    "download": set(),
    "model_item": {"config"},
    "config": set(),
    "legend": set(),
    "grid": set(),
    "models": {"config"},
    "raster": {"config", "grid", "legend"},
    "header": {"config", "grid", "legend"},
    "checkpoint": {"config", "download", "header", "legend", "models"},
    "spade": {"checkpoint", "config", "legend", "models"},
    "patches": {"raster", "grid", "legend", "config"},
    "loop": {"models"},
    "training": {"loop", "patches", "raster", "models", "checkpoint", "config", "download", "legend"},
    "mosaic": {"grid", "raster", "checkpoint", "models", "legend", "config"},
    "segmentation": {
        *("loop", "patches", "grid", "raster", "models", "legend", "config"),
        *("download", "header", "estimate"),
    },
    "evaluation": {
        *("grid", "raster", "legend", "config", "checkpoint", "models"),
        *("mosaic", "segmentation", "estimate", "page"),
    },
    "study": {
        *("grid", "raster", "legend", "config", "checkpoint", "models"),
        *("download", "training", "mosaic", "segmentation", "evaluation", "estimate", "page"),
    },
    "machine": {"download", "models", "raster"},
    "viewer": {"config", "grid", "legend", "page", "raster"},
    "describe": {"download", "grid", "model_item", "raster", "checkpoint", "segmentation"},
    "weights": set(),
}
FOR_ALL = {"errors", "files", "inputs", "locks", "parallel", "progress", "unfinished", "version"}

# Libraries that only some rooms may import.
ONLY_IN = {
    "rasterio": {"raster"},
    "rioxarray": {"raster"},
    "zarr": {"raster"},
    "torchgeo": {"patches"},
    "lightning": {"patches", "loop", "training"},
    "torch": {
        *("models", "checkpoint", "spade", "patches", "loop", "training", "mosaic"),
        *("segmentation", "evaluation", "study", "machine"),
    },
    "filelock": {"locks"},
    "distributed": {"cluster", "parallel", "mosaic"},
    "typer": set(),
}


def room_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imports(path: Path, *, type_checking: bool = False) -> set[str]:
    """Dotted names of all that a file imports, in functions too; what only type checkers see where it is asked for."""
    names: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not type_checking:
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


FILES = sorted(PACKAGE.rglob("*.py"))
CLI_FILES = sorted((ROOT / "cli").rglob("*.py"))


def test_every_room_is_listed() -> None:
    rooms = {room_of(path) for path in FILES}
    assert rooms <= set(MAY_KNOW), f"rooms without a rule: {rooms - set(MAY_KNOW)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_downward_only(path: Path) -> None:
    room = room_of(path)
    for name in imports(path):
        library, _, rest = name.partition(".")
        if library == "geosynth":
            target = rest.split(".")[0]
            known = MAY_KNOW[room] | FOR_ALL | {room}
            assert target in known, f"{path.name} ({room}) imports {name}, but may know only {sorted(known)}"
        elif library in ONLY_IN:
            assert room in ONLY_IN[library], f"{path.name} ({room}) imports {library}"


def test_the_rule_has_no_circle() -> None:
    TopologicalSorter(MAY_KNOW).prepare()


def test_modules_do_not_import_each_other_in_a_circle() -> None:
    """Inside a room neither, and not by an import inside a function. (A package's own front is passed by importing any
    of its modules; only what is imported from it by name counts.)
    """
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}

    def module_of(name: str) -> str:
        return name if name in modules else module_of(name.rpartition(".")[0])

    known = {
        module: {module_of(name) for name in imports(path) if name.split(".")[0] == "geosynth"}
        for module, path in modules.items()
    }
    for front in PACKAGE.rglob("__init__.pyi"):  # loads its names from other modules, when they are asked for
        module = ".".join(front.parent.relative_to(ROOT).parts)
        body = ast.parse(front.read_text(encoding="utf-8")).body
        known[module] |= {f"{module}.{node.module}" for node in body if isinstance(node, ast.ImportFrom)}
    try:
        TopologicalSorter(known).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


def test_the_documentation_shows_the_same_rule() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", page, re.MULTILINE)
    shown = {room: set() if known == "-" else set(known.split(", ")) for room, known in rows}
    assert shown == {room: known for room, known in MAY_KNOW.items() if room != "__init__"}


def _assert_there(name: str, page: str) -> None:
    """That a dotted name is one of a module, or of something in it."""
    module, attributes = name, []
    while not any(path.exists() for path in (ROOT / module.replace(".", "/"), ROOT / f"{module.replace('.', '/')}.py")):
        module, _, attribute = module.rpartition(".")
        attributes.insert(0, attribute)
    found: object = importlib.import_module(module)
    for attribute in attributes:
        assert hasattr(found, attribute), f"{page}: {name}"
        found = getattr(found, attribute)


PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "README.md", *PAGES])
def test_names_in_the_documentation_exist(page: str) -> None:
    """Modules and what is in them, and files of the repository."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for name in re.findall(r"`geosynth\.(\w+(?:\.\w+)*)", text):
        _assert_there(f"geosynth.{name}", page)
    if page in ("docs/architecture.md", "CONTRIBUTING.md"):  # where `mosaic.twin` is a module, not a user's file
        for name in re.findall(rf"`((?:{'|'.join(MAY_KNOW)})(?:\.\w+)+)`", text):
            _assert_there(f"geosynth.{name}", page)
    for path in re.findall(r"`((?:models|tests|benchmarks|examples|docs)/[\w./]+)`", text):
        assert (ROOT / path).exists() or (PACKAGE / path).exists(), f"{page}: {path}"


def test_the_command_line_uses_public_names_only() -> None:
    for path in CLI_FILES:
        for name in imports(path):
            assert not name.startswith("geosynth.") or name.startswith("geosynth.errors."), f"{path.name}: {name}"


def _declared() -> dict[str, str]:
    """Dependencies in pyproject.toml, each with the comment behind it."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    rows = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert rows
    found = dict(re.findall(r'^ *"([\w-]+)[^"]*",[ ]*(#.*)?$', rows[1], re.MULTILINE))
    assert len(found) == len(tomllib.loads(text)["project"]["dependencies"])
    return found


def test_libraries_that_are_imported_are_declared_and_the_other_way_round() -> None:
    distributions = {
        module: {name.lower().replace("_", "-") for name in names} for module, names in packages_distributions().items()
    }
    declared = _declared()
    used: set[str] = set()
    for path in FILES + CLI_FILES:
        libraries = {name.split(".")[0] for name in imports(path, type_checking=True)}
        optional = {"triton"} if path.name.endswith("kernels.py") else set()  # comes with torch where it can be used
        for library in libraries - sys.stdlib_module_names - {"geosynth", "geosynth_cli"} - optional:
            given = distributions[library] & declared.keys()
            assert given, f"{path.name} imports {library}, which pyproject.toml does not declare"
            used |= given
    idle = [name for name, comment in declared.items() if name not in used and not comment]
    assert not idle, f"declared, but not imported, and no comment says why: {', '.join(idle)}"


def _loaded(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_start_up_loads_no_heavy_library() -> None:
    heavy = {"torch", "torchgeo", "rasterio", "xarray", "dask", "zarr", "lightning", "pydantic", "numpy"}
    assert not _loaded("import geosynth") & heavy
    assert not _loaded("import geosynth_cli") & heavy


def test_public_names_are_there_and_no_module_shadows_a_verb() -> None:
    import geosynth

    for name in geosynth.__all__:
        assert getattr(geosynth, name) is not None
    verbs = {name for name in geosynth.__all__ if callable(getattr(geosynth, name))}
    assert not verbs & {path.stem for path in PACKAGE.iterdir()}
    with pytest.raises(AttributeError, match="nothing_like_this"):
        geosynth.nothing_like_this  # noqa: B018
