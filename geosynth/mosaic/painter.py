"""Painter: labels around a window in, the window's pixels out, the same however the raster is cut.

Exact mode. Styles and noise depend on the seed and on absolute pixel positions only; the network sees cells of one
lattice of absolute positions, grown by its halo, whatever window is asked for; and in each cell no result depends on
what else is in it. So a pixel does not depend on blocks, workers, order, or on the raster it lies in. Bit by bit this
holds on the CPU only: on a GPU cuDNN chooses by the shape of what it is given in which order it adds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from geosynth.errors import SettingsError
from geosynth.grid import Window, cut
from geosynth.models.device import full_float32, keep_freed_memory, plain_memory_error, uses_bfloat16
from geosynth.models.field import position_noise, style_field

# Pixels; side of what goes through the network at once, without the halo. Larger saves little (the halo is trimmed
# level by level), and memory grows with its square.
CELL = 512

_TORCH_TYPES = {"uint8": torch.uint8, "uint16": torch.uint16, "int16": torch.int16, "float32": torch.float32}


@dataclass(frozen=True)
class Inputs:
    """What the network gets for one cell.

    Attributes:
        cell: the pixels that come out, in the raster's coordinates; may reach beyond the window to paint.
        labels: (1, height, width) class indices of the cell and its margin.
        latent, noise: as `SpadeGenerator.forward` takes them.
    """

    cell: Window
    labels: Tensor
    latent: Tensor | None
    noise: list[Tensor | None]


class Painter:
    """Paints windows in exact mode; for the convolutional start.

    Args:
        model: used where it is.
        settings: seed, precision.
        style_length: pixels over which the style drifts; 0 for one style.
        style: (latent_size,) used everywhere instead of the seed's style field.

    Raises:
        SettingsError: if the mode does not fit the model.
    """

    mode = "exact"

    def __init__(
        self, model: GeneratorModel, settings: GenerateSettings, style_length: int, style: Tensor | None = None
    ) -> None:
        self.model = model
        self.settings = settings
        self.style_length = style_length
        self.style = style
        self.network = model.card.settings
        self.margin = self.network.halo
        if self.mode == "exact" and self.network.start == "linear":
            raise SettingsError(
                f"{model.path}: paints windows of {self.network.crop_size} px only (linear start), which cannot be"
                " joined exactly; say --mosaic blend"
            )
        self.device = str(next(model.generator.parameters()).device)
        self.bfloat16 = uses_bfloat16(settings.precision, self.device)
        self.precision = "bf16" if self.bfloat16 else "fp32"
        if not self.bfloat16:
            full_float32()
        if torch.device(self.device).type == "cpu":
            keep_freed_memory()

    def context(self, window: Window, origin: tuple[int, int]) -> Window:
        """The labels needed to paint a window: those of its cells, grown by the margin; may reach beyond the raster.

        Args:
            window: in the raster's pixel coordinates.
            origin: absolute (row, column) of the raster's first pixel.
        """
        cells = self.cells(window, origin)
        first, last = cells[0], cells[-1]
        return Window(first.row, first.column, last.bottom - first.row, last.right - first.column).buffer(self.margin)

    def paint(
        self,
        indices: npt.NDArray[np.uint8],
        context: Window,
        window: Window,
        origin: tuple[int, int],
        valid: npt.NDArray[np.bool_] | None = None,
    ) -> npt.NDArray[Any]:
        """(bands, height, width) of `window` in the dtype of the model's bands.

        Args:
            indices: class indices of `context`, as `LabelRaster.read` gives them.
            context: from `context(window, origin)`.
            window: to paint, in the raster's pixel coordinates.
            origin: absolute (row, column) of the raster's first pixel.
            valid: (height, width) of the window: where pixels are wanted. Cells without any are not painted (0).
        """
        inputs = self.inputs(indices, context, window, origin, valid)
        return self.join(window, ((one.cell, self.run(one)) for one in inputs))

    def cells(self, window: Window, origin: tuple[int, int]) -> list[Window]:
        """The parts of the lattice's cells that a window covers, on the network's stride, row by row."""
        stride = self.network.stride
        rows, columns = (
            [_on_lattice(start, length, offset, stride) for start, length in cut(first, end, offset, CELL)]
            for first, end, offset in ((window.row, window.bottom, origin[0]), (window.column, window.right, origin[1]))
        )
        return [Window(row, column, height, width) for row, height in rows for column, width in columns]

    def inputs(
        self,
        indices: npt.NDArray[np.uint8],
        context: Window,
        window: Window,
        origin: tuple[int, int],
        valid: npt.NDArray[np.bool_] | None,
    ) -> Iterator[Inputs]:
        """What the network gets for each cell with wanted pixels; arguments as for `paint`."""
        for cell, _ in self.wanted(window, origin, valid):
            yield self.cell_inputs(cell, indices[slices_in(context, cell.buffer(self.margin))], origin)

    def wanted(
        self, window: Window, origin: tuple[int, int], valid: npt.NDArray[np.bool_] | None
    ) -> Iterator[tuple[Window, Window]]:
        """Each cell with wanted pixels, and the part of the window that it covers; arguments as for `paint`."""
        for cell in self.cells(window, origin):
            part = cell.intersection(window)
            if part is not None and (valid is None or valid[slices_in(window, part)].any()):
                yield cell, part

    def cell_inputs(self, cell: Window, indices: npt.NDArray[np.uint8], origin: tuple[int, int]) -> Inputs:
        """Labels, latent and noise for one cell; `indices` are those of the cell and its margin."""
        seen = cell.buffer(self.margin).shift(*origin)
        place = (seen.row, seen.column, seen.height, seen.width)
        labels = torch.from_numpy(np.ascontiguousarray(indices)).to(self.device).unsqueeze(0)
        noise = position_noise(self.network, self.settings.seed, *place, self.device, self.margin)
        return Inputs(cell, labels, self.latent(*place), noise)

    def latent(self, row: int, column: int, height: int, width: int) -> Tensor | None:
        """(1, latent_size, height / stride, width / stride) of a place in absolute positions."""
        if not self.network.latent_size:
            return None
        stride = self.network.stride
        if self.style is not None:
            style = self.style.to(self.device).view(1, -1, 1, 1)
            return style.expand(-1, -1, height // stride, width // stride)
        return style_field(self.network, self.settings.seed, row, column, height, width, self.style_length, self.device)

    @torch.inference_mode()
    def run(self, inputs: Inputs) -> Tensor:
        """(bands, height, width) float32 of the cell, in raster values."""
        autocast = torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.bfloat16)
        with autocast, plain_memory_error():
            image = self.model.generator(inputs.labels, inputs.latent, inputs.noise, self.margin)
        values: Tensor = self.model.card.bands.from_network(image[0].float())
        return values

    def join(self, window: Window, parts: Iterable[tuple[Window, Tensor]]) -> npt.NDArray[Any]:
        """The window's pixels from its cells."""
        pixels = self.blank(window)
        for cell, values in parts:
            common = cell.intersection(window)
            assert common is not None
            pixels[:, *slices_in(window, common)] = self.as_pixels(values[:, *slices_in(cell, common)])
        return pixels

    def blank(self, window: Window) -> npt.NDArray[Any]:
        """(bands, height, width) zeros."""
        bands = self.model.card.bands
        return np.zeros((len(bands.names), window.height, window.width), dtype=bands.dtype)

    def as_pixels(self, values: Tensor) -> npt.NDArray[Any]:
        """Raster values as the bands' dtype: integers rounded and clipped, floats as they are."""
        dtype = np.dtype(self.model.card.bands.dtype)
        if np.issubdtype(dtype, np.integer):
            limits = np.iinfo(dtype)
            values = values.round().clamp_(limits.min, limits.max)
        pixels: npt.NDArray[Any] = values.to(_TORCH_TYPES[dtype.name]).cpu().numpy()
        return pixels


def _on_lattice(start: int, length: int, origin: int, stride: int) -> tuple[int, int]:
    """(start, length) of [start, start + length) grown to absolute multiples of the stride."""
    first = (start + origin) // stride * stride - origin
    last = -(-(start + length + origin) // stride) * stride - origin
    return first, last - first


def slices_in(outer: Window, inner: Window) -> tuple[slice, slice]:
    """(rows, columns) of `inner` in an array of `outer`."""
    return inner.shift(-outer.row, -outer.column).slices
