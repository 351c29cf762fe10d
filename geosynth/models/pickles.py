"""Weights in PyTorch's own files, read without running what such a file may hold."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor

from geosynth.errors import CheckpointError


def read_state(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a state dict (`.pth`, `.pt`) by name, on the processor.

    Raises:
        CheckpointError: if the file is missing, is no state dict, or holds more than tensors: what could run code.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: not read, since it holds other things than tensors, or is damaged") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{path}: not a file of PyTorch weights ({type(error).__name__})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: not a state dict, which maps names to tensors")
    return {str(name): value for name, value in state.items()}
