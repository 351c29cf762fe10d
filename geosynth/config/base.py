"""What all settings share."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from geosynth.errors import SettingsError


class Settings(BaseModel):
    """Base of all settings: immutable, no unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Build from plain values (JSON, YAML, command line).

        Raises:
            SettingsError: one line naming the first offending setting.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise SettingsError(_first_line(cls.__name__, error)) from error


def _first_line(owner: str, error: ValidationError) -> str:
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:  # several settings that do not go together
        return f"{owner}: {message}"
    where = ".".join(str(part) for part in first["loc"])
    return f"{owner}: {where}: {message} (got {first['input']!r})"
