"""How a benchmark ends: with its result as one JSON object on the last line of its output and, if wanted, in a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def print_result(result: Mapping[str, Any], file: Path | None) -> None:
    """To both."""
    line = json.dumps(result)
    if file is not None:
        file.write_text(line + "\n")
    print(line)
