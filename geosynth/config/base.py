"""What all settings share: the base class, durations as text, YAML files."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from geosynth.errors import SettingsError, first_fault
from geosynth.inputs import read_values


class Settings(BaseModel):
    """Base of all settings: immutable, without unknown names, numbers finite. The text below a field describes it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    def __init__(self, **values: Any) -> None:
        """Settings by name; the others have their defaults.

        Raises:
            SettingsError: one line that names the first invalid setting.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _settings_error(type(self), error) from error

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # as BaseModel's: not called for parts

    if not TYPE_CHECKING:  # as in BaseModel: else type checkers would accept any name

        def __setattr__(self, name: str, value: Any) -> None:
            """Refuse to change a setting.

            Raises:
                SettingsError: always; it says how to make changed settings.
            """
            own = type(self).__name__
            what = f"settings do not change; make others: {own}.changed(settings, {{{name!r}: {value!r}}})"
            raise SettingsError(what, setting=name)

    @classmethod
    def parse(cls, values: dict[str, Any]) -> Self:
        """Settings from plain values (JSON, YAML, command line).

        Raises:
            SettingsError: one line that names the first invalid setting.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise _settings_error(cls, error) from error

    @classmethod
    def changed(cls, settings: Self | None, changes: dict[str, Any]) -> Self:
        """The given settings, or the defaults, with single ones changed by name.

        Raises:
            SettingsError: if `settings` is of another class, or if a name or value is invalid.
        """
        if not isinstance(settings, cls | None):
            kind = type(settings).__name__
            raise SettingsError(f"{cls.__name__} are needed, not {kind}", setting="settings")
        settings = settings or cls()
        return cls.parse({**settings.model_dump(exclude_unset=True), **changes}) if changes else settings

    def refuse_idle(self, why: str, *names: str) -> None:
        """Refuse settings that were given but have no effect.

        Args:
            why: why they have none, as in "without features".
            names: of the settings; those that are None or empty count as not given.

        Raises:
            SettingsError: if one of them was given.
        """
        for name in names:
            if name in self.model_fields_set and getattr(self, name) not in (None, ()):
                raise SettingsError(f"no effect {why}", setting=name)


Function = TypeVar("Function", bound=Callable[..., Any])


def takes(settings: type[Settings]) -> Callable[[Function], Function]:
    """Decorator for a function that takes settings as `**changes`: its signature then shows each of them."""

    def show(function: Function) -> Function:
        signature = inspect.signature(function)
        own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        single = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=field.annotation)
            for name, field in settings.model_fields.items()
        ]
        function.__signature__ = signature.replace(parameters=[*own, *single])  # type: ignore[attr-defined]
        return function

    return show


def _settings_error(settings: type[Settings], error: ValidationError) -> SettingsError:
    first = error.errors()[0]
    name, what = first_fault(error)
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(name), settings.model_fields, n=1)
        what = f"there is no such setting{f'; {near[0]!r} is one' if near else ''}"
    elif first["loc"] and first["type"] != "missing":  # else settings contradict each other, or one is missing
        got = repr(first["input"])
        what += f" (got {got if len(got) <= 200 else got[:200] + '...'})"
    return SettingsError(what, setting=name)


def read_yaml(path: Path) -> dict[str, Any]:
    """Names and values in a YAML file; empty for an empty file.

    Raises:
        SettingsError: if it cannot be read, or is not a mapping of names.
    """
    values = read_values(path, SettingsError)
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise SettingsError(f"{path}: write one setting per line, as in `steps: 5000`")
    return values


def _text_of_path(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


FileName = Annotated[str, BeforeValidator(_text_of_path)]
"""A text that may be the name of a file; a Path becomes one."""

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_WORD = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([dhms])", re.IGNORECASE)


def parse_duration(value: Any) -> Any:
    """Seconds from "90m", "2h", "1h30m", "45s" or "1d"; plain numbers are seconds already.

    Raises:
        ValueError: if a text is not a duration (pydantic reports it with the setting's name).
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
        raise ValueError("give a time, as in 90m, 2h or 1h30m") from None


Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]
"""Seconds; also as text such as "90m", "2h" or "1h30m"."""
