"""What commands print: whole and as it is, on any terminal."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from geosynth_cli import console
from geosynth_cli.console import print_json, print_mapping, print_report, print_table, progress_bar, show_warnings
from rasters import write_raster

NAMES = ("road [asphalt]", "[/]", ":fire:", "coniferous-and-deciduous-woodland")


@pytest.mark.parametrize("columns", [20, 200])
def test_tables_lose_nothing(columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Names of classes are no markup, and what does not fit goes on in the next line."""
    monkeypatch.setenv("COLUMNS", str(columns))
    print_table(("", "share"), [(name, "0.25") for name in NAMES])
    printed = capsys.readouterr().out.replace("share", "").replace("0.25", "")
    assert "".join(printed.split()) == "".join(NAMES).replace(" ", "")


def test_tables_in_a_file_have_a_line_for_each_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    print_table(("measure", "meaning"), [("seams", "needs rasters; " * 20), ("diversity", "0 is none")])
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["measure", "seams", "diversity"]


def test_mappings_within_a_list_are_indented_too(capsys: pytest.CaptureFixture[str]) -> None:
    """As the grids of data in place; those that hold no others are a line each."""
    grids = [{"crs": "EPSG:26917", "legend": {"name": "own", "classes": [{"code": 1, "name": "a"}]}}, {"crs": None}]
    print_mapping({"kind": "data in place", "grids": grids})
    assert capsys.readouterr().out.splitlines() == [
        "kind: data in place",
        "grids: (2)",
        "  -",
        "    crs: EPSG:26917",
        "    legend:",
        "      name: own",
        "      classes: (1)",
        "        - code 1, name a",
        "  - crs None",
    ]


def test_in_a_list_what_is_not_known_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_mapping({"classes": [{"code": 1, "name": None}]})
    assert capsys.readouterr().out.splitlines() == ["classes: (1)", "  - code 1"]


def test_numbers_are_shown_with_four_digits_and_transforms_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    shares = {"roads": 0.053199327731092436, "water": 1.0, "ponds": 0.00001234567}
    print_mapping({"class_shares": shares, "gsd": 10.000000000000002, "pixels": 7, "transform": [0.5971642834779395]})
    assert capsys.readouterr().out.splitlines() == [
        "class_shares:",
        "  roads: 0.0532",
        "  water: 1.0",
        "  ponds: 1.235e-05",
        "gsd: 10.0",
        "pixels: 7",
        "transform: 0.5971642834779395",
    ]


@pytest.mark.parametrize(("entries", "more"), [(20, []), (21, ["  ... 1 more (--json shows all)"])])
def test_of_long_lists_the_first_twenty_are_shown(
    entries: int, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    print_mapping({"classes": [{"code": code} for code in range(entries)]})
    shown = [f"  - code {code}" for code in range(20)]
    assert capsys.readouterr().out.splitlines() == [f"classes: ({entries})", *shown, *more]


@pytest.mark.parametrize(
    ("arguments", "encoding", "shown"),
    [
        (["info", "草.tif"], "utf-8", "path: 草.tif"),
        (["info", "草.tif"], "cp1252", r"path: \u8349.tif"),
        (["generate", "--help"], "ascii", "--labels"),  # long texts in boxes, which are cut with an ellipsis
    ],
)
def test_any_encoding_of_the_terminal_will_do(tmp_path: Path, arguments: list[str], encoding: str, shown: str) -> None:
    write_raster(tmp_path / "草.tif", np.ones((9, 9), np.uint8))
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "40"}
    command = [sys.executable, "-m", "geosynth", *arguments]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert shown in ended.stdout.decode(encoding)


def test_large_and_small_numbers_of_either_sign_are_shown_and_what_is_empty(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_mapping({"large": 12345.678912, "below": -12345.678912, "one": 1.234567, "small": -0.000123456})
    print_mapping({"legend": {}, "looks": []})
    assert capsys.readouterr().out.splitlines() == [
        "large: 12345.6789",
        "below: -12345.6789",
        "one: 1.2346",
        "small: -0.0001235",
        "legend: {}",
        "looks: ",
    ]


def test_programs_get_a_line_for_each_percent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GEOSYNTH_PROGRESS", "lines")
    with progress_bar("paint") as progress:
        for done in range(401):
            progress(done, 400)
    assert capsys.readouterr() == ("", "".join(f"progress: paint {done}/400\n" for done in range(0, 401, 4)))
    with progress_bar("ingest") as progress:
        progress(0, 0)
    assert capsys.readouterr().err == "progress: ingest 0/0\n"
    monkeypatch.setattr(console, "_quiet", True)
    with progress_bar("ingest") as progress:
        progress(1, 2)
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def warn(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Warns as geosynth does, while warnings are shown as in a command."""
    logger = logging.getLogger("geosynth")
    monkeypatch.setattr(logger, "handlers", logger.handlers)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with warnings.catch_warnings():
        show_warnings()
        yield logger.warning


def test_a_warning_is_shown_for_two_files_and_not_repeated(
    warn: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.tif", "b.tif", "a.tif", "c.tif"):
        warn("%s: has no CRS", name)
    for found in (4, 4, 5):
        warn("%s: %d tiles differ", Path("a.tif"), found)
    for left in (3, 3, 2):
        warn("%d scenes are left out", left)
    warn("100 % are left out")
    assert capsys.readouterr().err.splitlines() == [
        "warning: a.tif: has no CRS",
        "warning: b.tif: the same, and so maybe of others",
        "warning: a.tif: 4 tiles differ",
        "warning: a.tif: 5 tiles differ",
        "warning: 3 scenes are left out",
        "warning: 2 scenes are left out",
        "warning: 100 % are left out",
    ]


def test_warnings_of_libraries_are_not_shown(warn: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    logging.getLogger("library").warning("of no use to the user")
    warnings.warn("likewise", stacklevel=1)
    assert tuple(capsys.readouterr()) == ("", "")


def test_quiet_commands_show_no_warning(
    warn: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_quiet", True)
    warn("%s: has no CRS", "a.tif")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("as_json", [False, True])
def test_a_report_is_a_table_and_a_path_or_json_alone(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    class Report:
        def summary(self) -> list[tuple[str, str, str]]:
            return [("mIoU", "0.5", "higher is better")]

        def to_json(self) -> str:
            return '{"miou": 0.5}\n'

    print_report(Report(), Path("run/model.safetensors"), as_json)
    lines = [line.split() for line in capsys.readouterr().out.split("\n")]
    table = [["measure", "value", "meaning"], ["mIoU", "0.5", "higher", "is", "better"], ["run/model.safetensors"], []]
    assert lines == ([['{"miou":', "0.5}"], []] if as_json else table)


def test_json_is_indented_and_strict(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [1]})
    assert capsys.readouterr().out == '{\n  "a": [\n    1\n  ]\n}\n'
    with pytest.raises(ValueError, match="nan"):
        print_json({"a": float("nan")})
