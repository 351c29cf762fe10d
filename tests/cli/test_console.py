"""What commands print: whole and as it is, on any terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from geosynth_cli import console
from geosynth_cli.console import print_mapping, print_table, progress_bar
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
