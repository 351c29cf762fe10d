"""How a benchmark ends: with its result as one JSON object on the last line of its output and, if wanted, in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def print_result(result: Mapping[str, Any], file: Path | None, digits: int | None = None) -> None:
    """To both; floats rounded to so many digits behind the point, None for as they are."""
    if digits is not None:
        result = {name: round(value, digits) if isinstance(value, float) else value for name, value in result.items()}
    line = json.dumps(result)
    if file is not None:
        file.write_text(line + "\n")
    print(line)
