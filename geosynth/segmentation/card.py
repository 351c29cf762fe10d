"""SegmenterCard: what a segmenter's file says about itself; free of torch, so that it is read at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from geosynth.config import BandSettings, SegmentSettings
from geosynth.errors import CheckpointError
from geosynth.header import from_entry, to_entry
from geosynth.legend import Legend

_ENTRY = "geosynth_segmenter"  # of the header
_VERSION = 1


@dataclass(frozen=True)
class SegmenterCard:
    """What a segmenter's file says about itself, without its weights.

    Attributes:
        settings: of the network and its training.
        legend: of the labels.
        bands: of the images.
        gsd: metres a pixel of the training imagery; None where its CRS does not tell.
        provenance: free facts: software version, data, what it started from.
    """

    settings: SegmentSettings
    legend: Legend
    bands: BandSettings
    gsd: float | None
    provenance: dict[str, Any] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, str]:
        """For a safetensors header."""
        return {_ENTRY: to_entry(self, _VERSION)}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str] | None, source: str) -> SegmenterCard:
        """The inverse of `to_metadata`; raises CheckpointError naming `source`."""
        if not metadata or _ENTRY not in metadata:
            what = "a generator" if metadata and "geosynth" in metadata else "a safetensors file"
            raise CheckpointError(f"{source}: {what}, but not a segmenter; make one with `geosynth segment`")

        def build(
            values: dict[str, Any], legend: Legend, bands: BandSettings, gsd: float | None, provenance: dict[str, Any]
        ) -> SegmenterCard:
            return cls(SegmentSettings.parse(values["settings"]), legend, bands, gsd, provenance)

        return from_entry(metadata[_ENTRY], _VERSION, "segmenter", source, build)


def is_segmenter(path: Path) -> bool:
    """Whether a file is one that `segment` wrote."""
    try:
        with safe_open(str(path), framework="np") as file:
            return _ENTRY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def read_segmenter_card(path: Path) -> SegmenterCard:
    """What a segmenter's file says about itself; reads only its header.

    Raises:
        CheckpointError: if it is missing, not a segmenter, or damaged.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such segmenter file")
    try:
        with safe_open(str(path), framework="np") as file:
            return SegmenterCard.from_metadata(file.metadata(), str(path))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a safetensors file") from error
