"""A painter that travels to other processes as the path of its model, and is made there once."""

from __future__ import annotations

import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch

from geosynth.checkpoint import load_generator
from geosynth.config import GenerateSettings
from geosynth.errors import CheckpointError
from geosynth.grid import Window
from geosynth.mosaic.painter import Painter

_loading = threading.Lock()


class PortablePainter:
    """A `Painter` for tasks: the weights are never pickled, and one window of a process is painted at a time.

    Threads take turns, since the network uses all the threads it may have by itself, and memory then does not grow
    with the number of tasks.

    Args:
        painter: used as it is in this process; elsewhere its model is loaded from its file, which must be the same
            one there.
    """

    def __init__(self, painter: Painter) -> None:
        self.painter = painter
        self._turn = threading.Lock()

    def paint(self, *arguments: Any) -> npt.NDArray[Any]:
        """As `Painter.paint`."""
        with self._turn:
            return self.painter.paint(*arguments)

    def context(self, window: Window, origin: tuple[int, int]) -> Window:
        """As `Painter.context`."""
        return self.painter.context(window, origin)

    def __reduce__(self) -> Any:
        one = self.painter
        style = None if one.style is None else tuple(one.style.flatten().tolist())
        identity = (one.model.path.absolute(), one.model.sha256, one.settings, one.style_length, style)
        return _load, (type(one), *identity)

    def __dask_tokenize__(self) -> Any:
        return self.__reduce__()[1]


def _load(*identity: Any) -> PortablePainter:
    with _loading:
        return _loaded(*identity)


@lru_cache(maxsize=2)
def _loaded(
    kind: type[Painter],
    path: Path,
    sha256: str,
    settings: GenerateSettings,
    style_length: int,
    style: tuple[float, ...] | None,
) -> PortablePainter:
    model = load_generator(path, settings.device)
    if model.sha256 != sha256:
        raise CheckpointError(f"{path}: on this worker another file than where the work began; copy the model there")
    return PortablePainter(kind(model, settings, style_length, None if style is None else torch.tensor(style)))
