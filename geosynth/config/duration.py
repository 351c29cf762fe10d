"""Lengths of time as people write them."""

from __future__ import annotations

import re
from typing import Any

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_WORD = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([dhms])", re.IGNORECASE)


def parse_duration(value: Any) -> Any:
    """Seconds of "90m", "2h", "1h30m", "45s" or "1d"; plain numbers are seconds, and pass.

    Raises:
        ValueError: if a text is none of these (pydantic reports it with the setting's name).
    """
    if not isinstance(value, str):
        return value
    text = value.strip()
    total, position = 0.0, 0
    while position < len(text) and (word := _WORD.match(text, position)):
        total += float(word[1]) * _SECONDS[word[2].lower()]
        position = word.end()
    if text and position == len(text):
        return total
    try:
        return float(text)
    except ValueError:
        raise ValueError("say a time as in 90m, 2h or 1h30m") from None
