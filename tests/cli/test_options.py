"""Values of options: what their parsers return, and the line that refuses the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from geosynth.errors import SettingsError
from geosynth_cli.options import (
    given,
    is_there,
    parse_factors,
    parse_names,
    parse_pixels,
    parse_setting,
    parse_shares,
    parse_width,
    refuse_idle,
)


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (parse_pixels, "1024", 1024),
        (parse_pixels, "64px", 64),
        (parse_pixels, 256, 256),
        (parse_names, "red, green ,nir", ["red", "green", "nir"]),
        (parse_names, None, None),
        (parse_shares, "0.7, 0.1,0.2", [0.7, 0.1, 0.2]),
        (parse_shares, None, None),
        (parse_factors, ["roads=3", " low = vegetation =0.5"], {"roads": 3.0, "low = vegetation": 0.5}),
        (parse_width, "2.5", 2.5),
        (parse_width, "lanes", "lanes"),
        (parse_width, None, None),
        (parse_setting, "base_width=32", ("base_width", 32)),
        (parse_setting, "style_lengths=[24, 72]", ("style_lengths", [24, 72])),
        (parse_setting, "init=null", ("init", None)),
        (parse_setting, "name=a=b", ("name", "a=b")),
        (parse_setting, "name=", ("name", "")),
    ],
)
def test_values_are_read(parse: Callable[[Any], Any], text: Any, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "line"),
    [
        (parse_shares, "0.7,rest", "--shares 0.7,rest: three numbers are needed, as in 0.7,0.1,0.2"),
        (parse_factors, ["roads=3", "roads =4"], "--emphasise roads =4: roads is given twice; give it once"),
        (parse_factors, ["roads=many"], "--emphasise roads=many: a class and a number are needed, as in roads=3"),
        (parse_factors, ["roads"], "--emphasise roads: a class and a number are needed, as in roads=3"),
        (parse_factors, ["=3"], "--emphasise =3: a class and a number are needed, as in roads=3"),
        (parse_setting, "steps", "--set steps: write NAME=VALUE"),
        (parse_setting, "=5", "--set =5: write NAME=VALUE"),
        (parse_setting, "steps=[1", "--set steps=[1: its value is not YAML"),
        (given, ["steps=5", "seed=1", "steps=6"], "--set steps: is given twice; give it once"),
    ],
)
def test_other_values_are_one_line(parse: Callable[[Any], Any], text: Any, line: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse(text)
    assert str(refused.value) == line


@pytest.mark.parametrize("value", ["1024m", "1.5", ""])
def test_parts_of_pixels_are_wrong_usage(value: str) -> None:
    with pytest.raises(typer.BadParameter, match="whole pixels are needed"):
        parse_pixels(value)


def test_what_was_given_is_kept_also_if_it_is_nothing_and_set_counts_most() -> None:
    assert given(None, steps=0, seed=None, apart=False, name="") == {"steps": 0, "apart": False, "name": ""}
    assert given(["steps=7", "init=null"], steps=5, seed=1) == {"steps": 7, "seed": 1, "init": None}


def test_options_without_effect_are_named_together() -> None:
    refuse_idle("without --data", None, max_tiles=3)
    refuse_idle("without --data", True, max_tiles=None, fold=None)
    with pytest.raises(SettingsError) as refused:
        refuse_idle("without --data", True, max_tiles=0, model=None, fold="test")
    assert str(refused.value) == "--max-tiles, --fold: no effect without --data"


def test_only_names_of_files_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here.tif").touch()
    others = [
        "https://host/a.tif",
        "T1_{red=B04,nir=B08}.tif",
        "/vsicurl_streaming/a.tif",
        "*.tif",
        "?.tif",
        "[ab].tif",
    ]
    assert [name for name in ["here.tif", str(tmp_path), *others] if not is_there(name)] == []
    assert [name for name in ("there.tif", "folder/here.tif", "vsi.tif") if is_there(name)] == []
