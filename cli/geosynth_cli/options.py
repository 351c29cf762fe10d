"""Values of options that several commands have."""

from __future__ import annotations

from typing import Any

import typer


def parse_pixels(value: int | str) -> int:
    """A side in pixels, as in 1024 or 1024px; typer sends its default through here too."""
    try:
        return int(str(value).removesuffix("px"))
    except ValueError as error:
        raise typer.BadParameter(f"{value!r}: whole pixels are needed, as in 1024 or 1024px") from error


def parse_setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE, the value as YAML would read it: null, true, numbers and lists are what they look like."""
    import yaml

    from geosynth.errors import SettingsError

    name, equals, value = text.partition("=")
    if not equals:
        raise SettingsError(f"--set {text}: say NAME=VALUE")
    try:
        return name, yaml.safe_load(value) if value else value
    except yaml.YAMLError as error:
        raise SettingsError(f"--set {text}: its value is not YAML") from error
