"""Reads weights in the layout of the SPADE reference implementation.

Settings are inferred from shapes where possible; spectral norms are folded into the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from geosynth.config import EncoderSettings, GeneratorSettings
from geosynth.config.networks import Depth, stride_of
from geosynth.errors import CheckpointError, SettingsError
from geosynth.models.device import without_weights
from geosynth.models.encoder import StyleEncoder
from geosynth.models.generator import SpadeGenerator
from geosynth.models.state import fill

Network = TypeVar("Network", bound=nn.Module)

_START_MULTIPLE = 16  # of the base width: channels of the first block
_LAST_BLOCK = "up_3"  # whose output has the base width, at every depth


def read_generator(
    state: Mapping[str, Tensor], source: str, *, depth: Depth | None = None, crop_size: int | None = None
) -> SpadeGenerator:
    """The generator of a `latest_net_G.pth`.

    Classes, bands, base width, hidden and latent size, the kind of start, and "most" follow from shapes. "normal" and
    "more" have the same weights; with the linear start the crop size distinguishes them, else they must be named.

    Args:
        state: its state dict.
        source: its name in messages.
        depth: "normal", "more" or "most".
        crop_size: pixels; side of the crops it was trained on.

    Raises:
        CheckpointError: if these are not the weights of such a generator.
        SettingsError: if neither depth nor crop size distinguishes "normal" and "more", or they contradict the weights.
    """
    start = _take(state, "fc.weight", source)
    shared = _take(state, "head_0.norm_0.mlp_shared.0.weight", source)
    base_width = len(_take(state, f"{_LAST_BLOCK}.conv_1.bias", source))
    linear = start.ndim == 2
    cells = _start_cells(start, base_width, source) if linear else None
    depth = _find_depth("up_4.conv_0.bias" in state, depth, crop_size, cells, source)
    values: dict[str, Any] = {
        "num_classes": shared.shape[1],
        "num_bands": len(_take(state, "conv_img.weight", source)),
        "base_width": base_width,
        "hidden_channels": len(shared),
        "depth": depth,
    }
    if cells is None:
        settings = GeneratorSettings.reference(**values, start="convolution", crop_size=None, latent_size=0)
    else:
        crop_size = cells * stride_of(depth)
        settings = GeneratorSettings.reference(**values, latent_size=start.shape[1], crop_size=crop_size)
    with without_weights():
        network = SpadeGenerator(settings)
    return _filled(network, _generator_state(state, settings, source), source)


def read_encoder(state: Mapping[str, Tensor], source: str) -> StyleEncoder:
    """The style encoder of a `latest_net_E.pth`.

    Args:
        state: its state dict.
        source: its name in messages.

    Raises:
        CheckpointError: if these are not the weights of such an encoder.
    """
    num_layers: Literal[5, 6] = 6 if any(name.startswith("layer6.") for name in state) else 5
    values = {f"convs.{index}.weight": _folded(state, f"layer{index + 1}.0", source) for index in range(num_layers)}
    for ours, theirs in (("mean", "fc_mu"), ("log_variance", "fc_var")):
        values |= {f"{ours}.{name}": _take(state, f"{theirs}.{name}", source) for name in ("weight", "bias")}
    first = values["convs.0.weight"]
    settings = EncoderSettings(
        num_bands=first.shape[1], base_width=len(first), latent_size=len(values["mean.bias"]), num_layers=num_layers
    )
    with without_weights():
        network = StyleEncoder(settings)
    return _filled(network, values, source)


def _start_cells(start: Tensor, base_width: int, source: str) -> int:
    """Side of the start's map, whose values are the rows of the linear layer."""
    count = len(start) / (_START_MULTIPLE * base_width)
    side = isqrt(int(count))
    if side * side != count:
        raise CheckpointError(f"{source}: its start has {count:g} cells, no square: only square crops are supported")
    return side


def _find_depth(most: bool, depth: Depth | None, crop_size: int | None, cells: int | None, source: str) -> Depth:
    depths: tuple[Depth, ...] = get_args(Depth)
    strides = {name: stride_of(name) for name in depths if (name == "most") == most and name != "less"}
    if depth is not None and depth not in strides:
        raise SettingsError(f"{source}: depth {depth!r} does not fit its blocks; it is {' or '.join(strides)}")
    sizes = {name: stride * cells for name, stride in strides.items()} if cells else {}
    fitting = [
        name
        for name in strides
        if depth in (None, name) and (crop_size is None or not sizes or sizes[name] == crop_size)
    ]
    if not fitting:
        wanted = " or ".join(f"{size} px ({name})" for name, size in sizes.items())
        raise SettingsError(f"{source}: trained on crops of {wanted}, not of {crop_size} px as {depth or 'any'}")
    if len(fitting) > 1:
        crops = f", or the crop size: {' or '.join(f'{sizes[name]} ({name})' for name in fitting)} px" if sizes else ""
        raise SettingsError(f"{source}: the weights do not show its depth; give {' or '.join(fitting)}{crops}")
    return fitting[0]


def _generator_state(state: Mapping[str, Tensor], settings: GeneratorSettings, source: str) -> dict[str, Tensor]:
    values: dict[str, Tensor] = {}
    for ours, theirs in (("start", "fc"), ("to_image", "conv_img")):
        values |= {f"{ours}.{name}": _take(state, f"{theirs}.{name}", source) for name in ("weight", "bias")}
    for stage in settings.stages:
        learned = stage.in_channels != stage.out_channels
        for end in ("0", "1", "s") if learned else ("0", "1"):
            conv, norm = f"{stage.name}.conv_{end}", f"{stage.name}.norm_{end}"
            values[f"blocks.{conv}.weight"] = _folded(state, conv, source)
            if end != "s":
                values[f"blocks.{conv}.bias"] = _take(state, f"{conv}.bias", source)
            values |= {f"blocks.{name}": value for name, value in _norm_state(state, norm, source).items()}
    return values


def _norm_state(state: Mapping[str, Tensor], norm: str, source: str) -> dict[str, Tensor]:
    values = {f"{norm}.norm.num_batches_tracked": torch.tensor(0)}  # nothing depends on it
    for name in ("running_mean", "running_var"):
        values[f"{norm}.norm.{name}"] = _take(state, f"{norm}.param_free_norm.{name}", source)
    for name in ("weight", "bias"):
        values[f"{norm}.modulation.shared.{name}"] = _take(state, f"{norm}.mlp_shared.0.{name}", source)
        gamma, beta = (_take(state, f"{norm}.mlp_{kind}.{name}", source) for kind in ("gamma", "beta"))
        if gamma.shape != beta.shape:
            raise CheckpointError(f"{source}: {norm}: gamma and beta differ in shape")
        values[f"{norm}.modulation.gamma_beta.{name}"] = torch.cat([gamma, beta])
    return values


def _take(state: Mapping[str, Tensor], name: str, source: str) -> Tensor:
    if name not in state:
        raise CheckpointError(f"{source}: not in the SPADE reference's layout: {name} is missing")
    return state[name].detach().float()


def _folded(state: Mapping[str, Tensor], layer: str, source: str) -> Tensor:
    """Weight of a layer, divided by its spectral norm sigma = u^T W v, if it has one."""
    if f"{layer}.weight" in state:
        return _take(state, f"{layer}.weight", source)
    weight, u, v = (_take(state, f"{layer}.weight_{kind}", source) for kind in ("orig", "u", "v"))
    try:
        sigma = u @ weight.flatten(1) @ v
    except RuntimeError as error:
        raise CheckpointError(f"{source}: {layer}: its spectral norm's vectors do not fit its weight") from error
    return weight / sigma


def _filled(network: Network, values: dict[str, Tensor], source: str) -> Network:
    fill(network, values, f"{source}: not in the SPADE reference's layout")
    return network.eval().requires_grad_(False)
