"""State dicts: weights by name, read without running any code in a file, and loaded into networks."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from geosynth.errors import CheckpointError
from geosynth.inputs import check_input, sha256_once


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a state dict by name, on the CPU, from a `.safetensors` file or one of PyTorch's own format.

    Raises:
        CheckpointError: if the file is missing, is not a state dict, or contains more than tensors, which could run
            code.
    """
    check_input(path, "a file of weights")
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise CheckpointError(f"{path}: not a safetensors file") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: not read: it holds more than tensors, or is damaged") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{path}: not a file of PyTorch weights ({type(error).__name__})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: not a state dict, which maps names to tensors")
    return {str(name): value for name, value in state.items()}


def weights_digest(file: Path | None) -> str | None:
    """SHA-256 of a weights file; None for None.

    Raises:
        CheckpointError: if it cannot be read.
    """
    try:
        return None if file is None else sha256_once(file)
    except OSError as error:
        raise CheckpointError(f"{file}: weights cannot be read: {error.strerror}") from error


def fill(network: nn.Module, state: Mapping[str, Tensor], wrong: str) -> None:
    """Give a network its weights, in float32.

    Args:
        network: preferably made `without_weights`; tensors that are float32 are used without a copy.
        state: all weights by name, of any float type.
        wrong: the message if they belong to another network; torch's reason is appended.

    Raises:
        CheckpointError: if they belong to another network.
    """
    full = {name: value.float() if value.is_floating_point() else value for name, value in state.items()}
    try:
        network.load_state_dict(full, assign=True)
    except RuntimeError as error:
        raise CheckpointError(f"{wrong}: {last_line(error)}") from error


def last_line(error: RuntimeError) -> str:
    """The last line of torch's message, which has the reason; shortened, as names may be many."""
    return str(error).strip().splitlines()[-1].strip()[:200]
