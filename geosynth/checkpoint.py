"""One safetensors file a model: weights, settings, legend, bands, ground sampling distance, provenance. No pickle."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from geosynth.config import BandSettings, EncoderSettings, GeneratorSettings
from geosynth.errors import CheckpointError, SettingsError
from geosynth.files import sha256_of, write_whole
from geosynth.header import from_entry, to_entry
from geosynth.legend import Legend
from geosynth.models.encoder import StyleEncoder
from geosynth.models.generator import SpadeGenerator
from geosynth.models.spectral import folded_state

DEFAULT_MODEL = "chesapeake-small"
_ENTRY = "geosynth"  # of the header
_VERSION = 1
_ENCODER = "encoder."  # before the names of its tensors

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class ModelCard:
    """What a generator file says about itself, without its weights.

    Attributes:
        settings: of the network.
        legend: the labels it was trained on; `generate` reads label rasters by it.
        bands: meaning of its output.
        gsd: metres a pixel of the training imagery; None where its CRS does not tell.
        provenance: free facts: software version, data, steps, seed.
        encoder: of the style encoder in the file; None if there is none.

    Raises:
        SettingsError: if the networks, the legend and the bands differ in their numbers.
    """

    settings: GeneratorSettings
    legend: Legend
    bands: BandSettings
    gsd: float | None
    provenance: dict[str, Any] = field(default_factory=dict)
    encoder: EncoderSettings | None = None

    def __post_init__(self) -> None:
        counts = (self.legend.num_classes, len(self.bands.names))
        if counts != (self.settings.num_classes, self.settings.num_bands):
            raise SettingsError(
                f"a generator of {self.settings.num_classes} classes and {self.settings.num_bands} bands does not fit a"
                f" legend of {counts[0]} classes and {counts[1]} band names"
            )
        if self.encoder is not None:
            encoder = (self.encoder.latent_size, self.encoder.num_bands)
            if encoder != (self.settings.latent_size, self.settings.num_bands):
                raise SettingsError(
                    f"an encoder of {encoder[1]} bands and {encoder[0]} latent numbers does not fit a generator of"
                    f" {self.settings.num_bands} bands and {self.settings.latent_size} latent numbers"
                )

    def to_metadata(self) -> dict[str, str]:
        """For a safetensors header."""
        own = {} if self.encoder is None else {"encoder": self.encoder.model_dump(mode="json")}
        return {_ENTRY: to_entry(self, _VERSION, **own)}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str] | None, source: str) -> ModelCard:
        """The inverse of `to_metadata`; raises CheckpointError naming `source`."""
        if not metadata or _ENTRY not in metadata:
            raise CheckpointError(f"{source}: a safetensors file, but not a geosynth model")

        def build(
            values: dict[str, Any], legend: Legend, bands: BandSettings, gsd: float | None, provenance: dict[str, Any]
        ) -> ModelCard:
            encoder = EncoderSettings.parse(values["encoder"]) if "encoder" in values else None
            return cls(GeneratorSettings.parse(values["settings"]), legend, bands, gsd, provenance, encoder)

        return from_entry(metadata[_ENTRY], _VERSION, "model", source, build)


@dataclass(frozen=True)
class GeneratorModel:
    """A generator ready to paint, its card, and the encoder that reads its styles from images, if the file has one."""

    generator: SpadeGenerator
    card: ModelCard
    path: Path
    encoder: StyleEncoder | None = None

    @cached_property
    def sha256(self) -> str:
        """Of the model file."""
        return sha256_of(self.path)


def save_generator(
    path: str | Path,
    generator: SpadeGenerator,
    card: ModelCard,
    encoder: StyleEncoder | None = None,
    *,
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Write a model file, under a temporary name until it is whole.

    Args:
        path: of the file; its folder is made if need be.
        generator: with or without spectral norm, which is folded in.
        card: what the file says about itself; its `encoder` is set from the next argument.
        encoder: what reads styles for `generator` from images, likewise.
        dtype: of the stored weights; running statistics stay float32.

    Raises:
        SettingsError: if the encoder does not fit the generator.
        OutputError: if the file cannot be written.
    """
    path = Path(path)
    card = replace(card, encoder=None if encoder is None else encoder.settings)
    tensors: dict[str, Tensor] = {}
    for prefix, network in (("", generator), (_ENCODER, encoder)):
        if network is not None:
            weights, statistics = folded_state(network)
            stored = {name: value.to(dtype) for name, value in weights.items()} | statistics
            tensors |= {prefix + name: value.detach().cpu().contiguous() for name, value in stored.items()}
    # Not save_file: it makes files that only their owner can read.
    write_whole(path, save(tensors, metadata=card.to_metadata()))
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
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a safetensors file: {_one_line(error)}") from error


def load_generator(model: str | Path | None = None, device: str = "cpu") -> GeneratorModel:
    """Load a generator (and its encoder) for inference, in float32 and evaluation mode.

    Args:
        model: a file made by `geosynth train`; None, or its name, for the embedded default.
        device: "cpu", "cuda", "cuda:1", ...

    Raises:
        CheckpointError: if the file is missing, not a geosynth model, or damaged.
    """
    path = model_path(model)
    card = read_card(path)
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        with torch.device("meta"):  # no memory and no random numbers for weights that are replaced at once
            generator = SpadeGenerator(card.settings)
            encoder = None if card.encoder is None else StyleEncoder(card.encoder)
        if encoder is not None:
            _fill(encoder, {name: tensors.pop(name) for name in list(tensors) if name.startswith(_ENCODER)}, _ENCODER)
        _fill(generator, tensors)
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{path}: its weights do not fit its settings: {_one_line(error)}") from error
    try:
        generator = _ready(generator, device)
        encoder = None if encoder is None else _ready(encoder, device)
    except (RuntimeError, AssertionError) as error:
        raise CheckpointError(f"device {device!r} cannot be used: {_one_line(error)}") from error
    return GeneratorModel(generator, card, path, encoder)


def _fill(network: nn.Module, tensors: dict[str, Tensor], prefix: str = "") -> None:
    full = {
        name.removeprefix(prefix): value.float() if value.is_floating_point() else value
        for name, value in tensors.items()
    }
    network.load_state_dict(full, assign=True)


def _ready(network: Network, device: str) -> Network:
    network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def model_path(model: str | Path | None = None) -> Path:
    """Where a model is: the file itself, or the embedded generator for "chesapeake-small" and None.

    Raises:
        CheckpointError: if the embedded generator is asked for, and missing.
    """
    if model is not None and str(model) != DEFAULT_MODEL:
        return Path(model)
    path = Path(str(resources.files("geosynth") / "weights" / f"{DEFAULT_MODEL}.safetensors"))
    if not path.is_file():
        raise CheckpointError(f"the embedded model {DEFAULT_MODEL} is missing from this installation; say --model FILE")
    return path


def _one_line(error: Exception) -> str:
    """Torch's messages run over many lines."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:200] + " ..."
