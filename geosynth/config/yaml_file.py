"""Settings in YAML files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geosynth.errors import SettingsError


def read_yaml(path: Path) -> dict[str, Any]:
    """Names and values of a YAML file; an empty one has none.

    Raises:
        SettingsError: if it cannot be read, or is no mapping of names.
    """
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise SettingsError(f"{path}: say one setting a line, as in `steps: 5000`")
    return values
