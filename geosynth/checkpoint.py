"""One safetensors file a model: weights, settings, legend, bands, ground sampling distance, provenance. No pickle."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from geosynth.config import BandSettings, GeneratorSettings
from geosynth.errors import CheckpointError, OutputError
from geosynth.legend import Legend
from geosynth.models.generator import SpadeGenerator

DEFAULT_MODEL = "chesapeake-small"
_FORMAT = "geosynth-generator"
_VERSION = 1


@dataclass(frozen=True)
class ModelCard:
    """What a generator file says about itself, without its weights.

    Attributes:
        settings: of the network.
        legend: the labels it was trained on; `generate` reads label rasters by it.
        bands: meaning of its output.
        gsd: metres (CRS units) per pixel of the training imagery.
        provenance: free facts: software version, data, steps, seed.
    """

    settings: GeneratorSettings
    legend: Legend
    bands: BandSettings
    gsd: float
    provenance: dict[str, Any] = field(default_factory=dict)

    def to_metadata(self) -> dict[str, str]:
        """For a safetensors header, which holds strings."""
        values = {
            "version": _VERSION,
            "settings": self.settings.model_dump(mode="json"),
            "legend": self.legend.model_dump(mode="json"),
            "bands": self.bands.model_dump(mode="json"),
            "gsd": self.gsd,
            "provenance": self.provenance,
        }
        return {"format": _FORMAT, "geosynth": json.dumps(values, sort_keys=True)}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str] | None, source: str) -> ModelCard:
        """The inverse of `to_metadata`; raises CheckpointError naming `source`."""
        if not metadata or metadata.get("format") != _FORMAT:
            raise CheckpointError(f"{source}: a safetensors file, but not a geosynth model")
        try:
            values = json.loads(metadata["geosynth"])
            if values["version"] != _VERSION:
                raise CheckpointError(f"{source}: model version {values['version']}; this geosynth reads {_VERSION}")
            return cls(
                GeneratorSettings.parse(values["settings"]),
                Legend.from_values(values["legend"]),
                BandSettings.parse(values["bands"]),
                float(values["gsd"]),
                dict(values["provenance"]),
            )
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise CheckpointError(f"{source}: damaged model description ({error})") from error


@dataclass(frozen=True)
class GeneratorModel:
    """A generator ready to paint, and its card."""

    generator: SpadeGenerator
    card: ModelCard
    path: Path

    @cached_property
    def sha256(self) -> str:
        """Of the model file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def save_generator(
    path: str | Path, generator: SpadeGenerator, card: ModelCard, dtype: torch.dtype = torch.float16
) -> Path:
    """Write a model file, under a temporary name until it is whole.

    Args:
        generator: without spectral norm (that is, with it folded in).
        dtype: of the stored weights; running statistics stay float32.

    Raises:
        OutputError: if the file cannot be written.
    """
    path = Path(path)
    statistics = {name for name, _ in generator.named_buffers()}
    tensors = {
        name: value.detach().cpu().contiguous().to(value.dtype if name in statistics else dtype)
        for name, value in generator.state_dict().items()
    }
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not save_file: it makes files that only their owner can read.
        partial.write_bytes(save(tensors, metadata=card.to_metadata()))
        os.replace(partial, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def read_card(path: str | Path) -> ModelCard:
    """What a model file says about itself; reads only its header.

    Raises:
        CheckpointError: if it is missing or not a geosynth model.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such model file")
    try:
        with safe_open(str(path), framework="pt") as file:
            return ModelCard.from_metadata(file.metadata(), str(path))
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file: {error}") from error


def load_generator(model: str | Path | None = None, device: str = "cpu") -> GeneratorModel:
    """Load a generator for inference, in float32 and evaluation mode.

    Args:
        model: a file made by `geosynth train`; None for the embedded default.
        device: "cpu", "cuda", "cuda:1", ...

    Raises:
        CheckpointError: if the file is missing, not a geosynth model, or damaged.
    """
    path = Path(model) if model is not None else default_model_path()
    card = read_card(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        generator = SpadeGenerator(card.settings)
        generator.load_state_dict(tensors)
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{path}: its weights do not fit its settings: {str(error).splitlines()[0]}") from error
    try:
        generator = generator.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    except (RuntimeError, AssertionError) as error:
        raise CheckpointError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
    return GeneratorModel(generator.eval().requires_grad_(False), card, path)


def default_model_path() -> Path:
    """The embedded generator for the Chesapeake legend."""
    path = Path(str(resources.files("geosynth") / "weights" / f"{DEFAULT_MODEL}.safetensors"))
    if not path.is_file():
        raise CheckpointError(f"the embedded model {DEFAULT_MODEL} is missing from this installation; say --model FILE")
    return path
