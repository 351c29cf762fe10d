"""The end of every benchmark: its result as a JSON object on the last line of its output and, if wanted, in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def print_result(result: Mapping[str, Any], file: Path | None, digits: int | None = None) -> None:
    """Print and write the result; floats are rounded to `digits` decimals, None for no rounding."""
    if digits is not None:
        result = {name: round(value, digits) if isinstance(value, float) else value for name, value in result.items()}
    line = json.dumps(result)
    if file is not None:
        file.write_text(line + "\n")
    print(line)
