"""Model files: weights, settings, legend, bands, ground sampling distance and provenance in one safetensors file."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from pydantic import SerializerFunctionWrapHandler, model_serializer, model_validator
from safetensors.torch import load_file
from torch import Tensor, nn

from geosynth.config import EncoderSettings, GeneratorSettings
from geosynth.config.networks import check_look_name
from geosynth.download import model_path
from geosynth.errors import CheckpointError, OutputError, SettingsError
from geosynth.files import parents_of, refuse_folder, write_whole
from geosynth.header import Card
from geosynth.inputs import sha256_of
from geosynth.models.device import choose_device, plain_device_error, without_weights
from geosynth.models.encoder import StyleEncoder
from geosynth.models.generator import SpadeGenerator
from geosynth.models.looks.look import OBJECTS, Look
from geosynth.models.looks.styles import style_size
from geosynth.models.spectral import folded_state
from geosynth.models.state import fill
from geosynth.models.weight_cache import WeightCache
from geosynth.unfinished import UnfinishedWork, making

_ENCODER = "encoder."  # prefix for names of the style encoder's tensors
_LOOK = "look."  # and for those of a look: look.NAME.mean

Network = TypeVar("Network", bound=nn.Module)


class ModelCard(Card):
    """The card of a model file: its metadata, without weights."""

    entry = "geosynth"
    kind = "model"
    maker = "geosynth train"

    settings: GeneratorSettings
    """The settings of the generator."""
    encoder: EncoderSettings | None = None
    """The settings of the style encoder in the file; None if there is none."""
    looks: tuple[str, ...] = ()
    """Names of the looks in the file, the default first; for generators conditioned on looks."""

    @model_validator(mode="after")
    def _check_fit(self) -> Self:
        counts = (self.legend.num_classes, len(self.bands.names))
        if counts != (self.settings.num_classes, self.settings.num_bands):
            raise ValueError(
                f"a generator of {self.settings.num_classes} classes and {self.settings.num_bands} bands does not fit a"
                f" legend of {counts[0]} classes and {counts[1]} band names"
            )
        if self.encoder is not None:
            encoder = (self.encoder.latent_size, self.encoder.num_bands)
            if encoder != (self.settings.latent_size, self.settings.num_bands):
                raise ValueError(
                    f"an encoder of {encoder[1]} bands and {encoder[0]} latent numbers does not fit a generator of"
                    f" {self.settings.num_bands} bands and {self.settings.latent_size} latent numbers"
                )
        if self.looks and not self.settings.style_lengths:
            raise ValueError("looks need a generator conditioned on looks (style_lengths)")
        if len(set(self.looks)) < len(self.looks):
            raise ValueError(f"two looks have one name: {', '.join(self.looks)}")
        for name in self.looks:
            check_look_name(name)
        return self

    @property
    def loss_networks(self) -> frozenset[str] | None:
        """Pretrained networks used by losses in its trainings; None if the file does not record them."""
        return _loss_networks(self.provenance)

    @model_serializer(mode="wrap")
    def _leave_out_what_is_absent(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out an absent encoder and looks, as files always have: equal models are equal files."""
        values: dict[str, Any] = dump(self)
        return {name: value for name, value in values.items() if name not in ("encoder", "looks") or value}


@dataclass(frozen=True)
class GeneratorModel:
    """A loaded model: a generator ready to paint, its card, and its encoder or looks.

    Attributes:
        generator: on a device, in evaluation mode.
        card: metadata of the file.
        path: of the file.
        encoder: reads styles from images; None if the file has none.
        looks: by name, the default first; empty if the generator is not conditioned on looks.
    """

    generator: SpadeGenerator
    card: ModelCard
    path: Path
    encoder: StyleEncoder | None = None
    looks: Mapping[str, Look] = field(default_factory=dict)
    _painting: WeightCache[SpadeGenerator] = field(default_factory=WeightCache, init=False, repr=False, compare=False)

    def __repr__(self) -> str:
        names, looks = ", ".join(self.card.bands.names), ", ".join(self.looks) or "none"
        return (
            f"GeneratorModel({str(self.path)!r}, {len(self.card.legend.names)} classes, bands: {names}, looks: {looks})"
        )

    def painting(self, dtype: torch.dtype) -> SpadeGenerator:
        """The generator with its products in `dtype`: one for all images, which keeps its folded weights."""
        with torch.no_grad():
            sources = itertools.chain(self.generator.parameters(), self.generator.buffers())
            return self._painting.get(dtype, sources, lambda: self.generator.for_painting(dtype))

    def look(self, name: str | None = None) -> Look | None:
        """A look by its name, None for the default; None is returned if the generator is not conditioned on looks.

        Raises:
            SettingsError: if there is no such look, or if the generator is conditioned on looks but its file has none.
        """
        if name is None and not self.card.settings.style_lengths:
            return None
        if name is None and self.looks:
            return next(iter(self.looks.values()))
        if name is None or name not in self.looks:
            has = f"its looks are {', '.join(self.looks)}" if self.looks else "it has no looks"
            raise SettingsError(f"{self.path}: {'' if name is None else f'no look {name!r}; '}{has}")
        return self.looks[name]

    @cached_property
    def sha256(self) -> str:
        """The SHA-256 of the model file."""
        return sha256_of(self.path)


def check_model_output(out: Path, *, overwrite: bool) -> None:
    """Refuse, before any work, a model file that could not be written, or whose name does not end in .safetensors.

    Raises:
        OutputError: one line.
    """
    if out.suffix != ".safetensors":
        raise OutputError(f"{out}: the name of a model file must end in .safetensors")
    work = UnfinishedWork(out)
    work.check(overwrite=overwrite)
    refuse_folder(out)
    with parents_of(out), work.alone():  # makes a file there, to see whether that is possible
        pass


def save_generator(
    path: str | Path,
    generator: SpadeGenerator,
    card: ModelCard,
    encoder: StyleEncoder | None = None,
    *,
    looks: Mapping[str, Look] | None = None,
    dtype: torch.dtype = torch.float16,
) -> Path:
    """Write a model file, under a temporary name until it is complete.

    Args:
        path: the file; its folder is created if needed.
        generator: the network; if it has spectral norm, that is folded into its weights.
        card: metadata of the file; its `encoder` and `looks` are set from the next arguments.
        encoder: the network that reads styles from images; None for none.
        looks: looks by name, the default first.
        dtype: data type of the stored weights; running statistics stay float32.

    Raises:
        SettingsError: if the encoder or the looks do not fit the generator.
        OutputError: if the file cannot be written.
    """
    path, looks = Path(path), looks or {}
    settings = None if encoder is None else encoder.settings
    card = ModelCard.parse({**dict(card), "encoder": settings, "looks": tuple(looks)})
    tensors: dict[str, Tensor] = {}
    for prefix, network in (("", generator), (_ENCODER, encoder)):
        if network is not None:
            weights, statistics = folded_state(network)
            stored = {name: value.to(dtype) for name, value in weights.items()} | statistics
            tensors |= {prefix + name: value.detach().cpu().contiguous() for name, value in stored.items()}
    for name, look in looks.items():
        tensors |= _stored(name, look)
    # Not by save_file, which makes files that only their owner can read.
    write_whole(path, card.to_bytes(tensors))
    return path


def load_generator(model: str | Path | None = None, device: str = "cpu") -> GeneratorModel:
    """Load a generator (and its encoder) for inference, in float32 and evaluation mode.

    Args:
        model: a file made by `geosynth train`, its folder, or its address (https://, hf://); None or
            "chesapeake-small" for the embedded model.
        device: for the networks: "auto" (the GPU if there is one, else the CPU), "cpu", "cuda", "cuda:1", ...

    Raises:
        CheckpointError: if the file is missing, not a geosynth model, or damaged, or if the device cannot be used.
        SettingsError: if `model` is not a name.
    """
    path, device = model_path(model), choose_device(device)
    card = ModelCard.read(path)
    ModelCard.verify(path)
    tensors, wrong = load_file(path), f"{path}: its weights do not fit its settings"
    with without_weights():
        generator = SpadeGenerator(card.settings)
        encoder = None if card.encoder is None else StyleEncoder(card.encoder)
    if encoder is not None:
        own = [name for name in tensors if name.startswith(_ENCODER)]
        fill(encoder, {name.removeprefix(_ENCODER): tensors.pop(name) for name in own}, wrong)
    looks = {name: _look(name, card.settings, tensors, path) for name in card.looks}
    fill(generator, tensors, wrong)
    with plain_device_error(device):
        generator = _ready(generator, device)
        encoder = None if encoder is None else _ready(encoder, device)
    return GeneratorModel(generator, card, path, encoder, looks)


def card_with_look(model: GeneratorModel, name: str) -> ModelCard:
    """The model's card with one more look.

    Raises:
        SettingsError: if it has a look of that name, its generator is not conditioned on looks, or the name is invalid.
    """
    if name in model.looks:
        raise SettingsError(f"{model.path}: has a look {name!r} already; choose another name")
    return ModelCard.parse({**dict(model.card), "looks": (*model.card.looks, name)})


def save_with_look(model: GeneratorModel, out: str | Path, name: str, look: Look) -> Path:
    """Write a copy of a model's file with one more look.

    Raises:
        SettingsError: see `card_with_look`.
        OutputError: if the file cannot be written.
    """
    card = card_with_look(model, name)
    with making(Path(out)) as made:
        made.write_bytes(card.to_bytes({**load_file(model.path), **_stored(name, look)}))
    return Path(out)


def _loss_networks(provenance: Mapping[str, Any]) -> frozenset[str] | None:
    """Loss networks of a training and of those that it continued, or of all models that an average is made of."""
    training, parts = provenance.get("training"), provenance.get("average_of")
    parts, found = list(parts) if isinstance(parts, list) else [], set()
    if isinstance(training, dict):
        if training.get("projected_weight"):
            found.add("efficientnet-lite0")
        elif training.get("perceptual_weight"):
            found.add(training.get("perceptual_source", "efficientnet-lite0"))
    elif not parts:
        return None
    parts += [provenance["init"]] if "init" in provenance else []
    earlier = [_loss_networks(part) if isinstance(part, dict) else None for part in parts]
    return None if None in earlier else frozenset(found).union(*(part for part in earlier if part))


def _stored(name: str, look: Look) -> dict[str, Tensor]:
    return {
        f"{_LOOK}{name}.{part}": values.cpu().clone(memory_format=torch.contiguous_format)
        for part, values in look.tensors().items()
    }


def _look(name: str, settings: GeneratorSettings, tensors: dict[str, Tensor], path: Path) -> Look:
    """The look, removed from the tensors of a file.

    Raises:
        CheckpointError: if it is missing, or does not fit the generator.
    """
    classes, size = settings.num_classes, style_size(settings.num_bands)
    stored = {part.name: tensors.pop(f"{_LOOK}{name}.{part.name}", None) for part in fields(Look)}
    of_edges = ("around", "edge_effect")
    optional = ("asked", *(of_edges if all(stored[part] is None for part in of_edges) else ()))
    for part, values in stored.items():
        if values is None and part not in optional:
            raise CheckpointError(f"{path}: look {name!r} is not whole: {_LOOK}{name}.{part} is missing")
    look = Look(**{part: values.float() for part, values in stored.items() if values is not None})
    of_tiles = (max(1, len(look.departures)), classes, OBJECTS, size)
    wanted = {"mean": (classes, size), "departures": of_tiles, "shares": (classes,), "asked": (classes, size)}
    wanted |= {"around": of_tiles[:3], "edge_effect": (classes, 2, size)}
    if any(values.shape != wanted[part] for part, values in look.tensors().items()):
        raise CheckpointError(f"{path}: look {name!r} is not one of {classes} classes and {settings.num_bands} bands")
    return look


def _ready(network: Network, device: str) -> Network:
    network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)
