"""What models and segmenters say about themselves: one entry of a safetensors header, which holds strings.

One entry only: safetensors writes entries in random order, and equal models shall be equal files.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from geosynth.config import BandSettings
from geosynth.config.base import Settings
from geosynth.errors import CheckpointError
from geosynth.legend import Legend

T = TypeVar("T")


class Card(Protocol):
    """What all cards hold."""

    @property
    def settings(self) -> Settings: ...  # noqa: D102
    @property
    def legend(self) -> Legend: ...  # noqa: D102
    @property
    def bands(self) -> BandSettings: ...  # noqa: D102
    @property
    def gsd(self) -> float | None: ...  # noqa: D102
    @property
    def provenance(self) -> dict[str, Any]: ...  # noqa: D102


def to_entry(card: Card, version: int, **own: Any) -> str:
    """A card as the text of its entry, with values of its own beside those that all cards hold."""
    values = {
        "version": version,
        "settings": card.settings.model_dump(mode="json"),
        "legend": card.legend.model_dump(mode="json"),
        "bands": card.bands.model_dump(mode="json"),
        "gsd": card.gsd,
        "provenance": card.provenance,
        **own,
    }
    return json.dumps(values, sort_keys=True)


def from_entry(
    text: str,
    version: int,
    what: str,
    source: str,
    build: Callable[[dict[str, Any], Legend, BandSettings, float | None, dict[str, Any]], T],
) -> T:
    """The inverse of `to_entry`.

    Args:
        text: of the entry.
        version: that can be read.
        what: the file is, for messages.
        source: its name, for messages.
        build: makes the card of all values, and of its legend, bands, gsd and provenance.

    Raises:
        CheckpointError: if it is of another version, or damaged.
    """
    try:
        values = json.loads(text)
        found = values["version"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: damaged {what} description ({error})") from error
    if found != version:
        raise CheckpointError(f"{source}: {what} version {found}; this geosynth reads {version}")
    try:
        return build(
            values,
            Legend.from_values(values["legend"]),
            BandSettings.parse(values["bands"]),
            None if values["gsd"] is None else float(values["gsd"]),
            dict(values["provenance"]),
        )
    except (KeyError, TypeError, ValueError) as error:  # SettingsError and LegendError are ValueErrors
        raise CheckpointError(f"{source}: damaged {what} description ({error})") from error
