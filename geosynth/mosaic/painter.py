"""Painter: from the labels around a window to the window's pixels, which do not depend on how the raster is cut.

Exact mode. Styles and noise depend only on the seed and on absolute pixel positions; the network sees cells of one
lattice of absolute positions, each extended by its halo, whatever window is asked for; and a pixel's result does not
depend on what else is in its cell. So a pixel depends neither on blocks, workers and order, nor on the raster that it
belongs to. To the bit, this holds on the CPU only: on a GPU, cuDNN chooses the order of additions by the input's shape.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from odc.geo.geobox import GeoBox
from torch import Tensor

from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from geosynth.errors import SettingsError
from geosynth.grid import BlockPlan, Window, block_plan, cut
from geosynth.legend import ClassIndices
from geosynth.models.device import Submit, call_now, plain_memory_error, uses_bfloat16
from geosynth.models.field import latent_field, position_noise
from geosynth.models.generator import check_labels
from geosynth.models.looks.field import look_field
from geosynth.models.looks.look import Look
from geosynth.models.looks.surroundings import Surroundings
from geosynth.models.process_settings import full_float32, keep_freed_memory
from geosynth.models.replay import Replay
from geosynth.models.windows import Windows
from geosynth.raster.read import Array, Mask

# Pixels: side of a cell, without its halo. Larger cells save little, since the halo is trimmed level by level, and
# memory grows with the square of the side.
CELL = 512
_SLIVER = 96  # pixels; a strip narrower than this at an edge costs less when it is painted with its neighbour
_CELLS_A_LAUNCH = 4  # on a GPU, which one cell would not fill
_GPU_HELPERS = 4  # fewer do not keep up with a GPU

_TORCH_TYPES = {"uint8": torch.uint8, "uint16": torch.uint16, "int16": torch.int16, "float32": torch.float32}


class LabelledWindow(NamedTuple):
    """A window to paint, and the labels around it; positions are absolute."""

    window: Window
    """The window to paint."""
    context: Window
    """The window of the labels, `Painter.context(window)`."""
    indices: ClassIndices
    """Class indices of the context, as `LabelRaster.read` gives them."""
    valid: Mask
    """Where the window has a class, (height, width): where pixels are wanted."""


class Cell(NamedTuple):
    """One window for the network, with what it needs of the labels; positions are absolute."""

    window: Window
    part: Window
    """The part of the window that is wanted."""
    labels: ClassIndices
    """Class indices of the window and the painter's margin."""
    around: Surroundings
    """Those of the same area."""


class Painter:
    """Paints windows in exact mode; for models with the convolutional start.

    All windows are at absolute positions: those in a raster, shifted by the `absolute_origin` of its grid.

    Args:
        model: stays on its device.
        settings: seed, precision, look.
        style_length: pixels over which the style drifts; 0 for one style.
        style: if the generator is conditioned on looks, the look from which styles are drawn instead of that of the
            settings; otherwise a latent, (latent_size,), used everywhere instead of the seed's style field.

    Raises:
        SettingsError: if the mode, the look or the style does not fit the model.

    Attributes:
        look_name: name of the look, if it is one of the model's.
        helpers: number of threads that read blocks beside the network; as many others write them.
    """

    mode = "exact"

    def __init__(
        self,
        model: GeneratorModel,
        settings: GenerateSettings,
        style_length: int,
        style: Tensor | Look | None = None,
    ) -> None:
        self.model = model
        self.settings = settings
        self.style_length = style_length
        self.network = model.card.settings
        self.look_name: str | None = None
        if style is None:
            style = model.look(settings.look)
            self.look_name = None if style is None else settings.look or next(iter(model.looks))
        elif isinstance(style, Look) != bool(self.network.style_lengths):
            takes = "is conditioned on looks" if self.network.style_lengths else "takes a latent"
            raise SettingsError(f"{model.path}: {takes}; this style is of the other kind")
        self.style = None if style is None else style.to(next(model.generator.parameters()).device)
        self.margin = self.network.halo
        if self.mode == "exact" and self.network.start == "linear":
            raise SettingsError(
                f"{model.path}: paints windows of {self.network.crop_size} px only (linear start), which cannot be"
                " joined exactly; use --mosaic blend"
            )
        self.device = str(next(model.generator.parameters()).device)
        self.on_cpu = torch.device(self.device).type == "cpu"
        self.helpers = 1 if self.on_cpu else _GPU_HELPERS
        self.bfloat16 = uses_bfloat16(settings.precision, self.device)
        self.precision = "bf16" if self.bfloat16 else "fp32"
        self.generator = model.painting(torch.bfloat16) if self.bfloat16 else model.generator
        self.silent = model.generator.silent_maps()
        self.network_pass = Replay(self._network_pass, self.device)

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Set up the process for painting: full float32, and memory of large tensors that is kept for the next ones.

        In this thread, make the painter's GPU the current one, where kernels are started and events recorded.
        """
        with contextlib.ExitStack() as stack:
            if not self.bfloat16:
                stack.enter_context(full_float32())
            if self.on_cpu:
                stack.enter_context(keep_freed_memory())
            else:
                stack.enter_context(torch.cuda.device(self.device))
            yield

    def context(self, window: Window) -> Window:
        """The window of labels needed to paint a window: its cells and their surroundings; may exceed the raster."""
        cells = self.cells(window)
        first, last = cells[0], cells[-1]
        whole = Window(first.row, first.column, last.bottom - first.row, last.right - first.column)
        return whole.buffer(self.margin + self.network.look_side)

    def paint(self, labels: LabelledWindow) -> Array:
        """(bands, height, width) of a window in the dtype of the model's bands; 0 in cells without wanted pixels.

        Raises:
            DataError: if there is an index that belongs to no class.
        """
        return self.begin(self.labelled_cells(labels), labels.window)()

    def begin(self, cells: Sequence[Cell], window: Window, submit: Submit = call_now) -> Callable[[], Array]:
        """Begin to paint the `labelled_cells` of a window; returns a function that waits for the window's pixels.

        Meanwhile a GPU works on; a CPU does so with the `submit` of a `side_by_side` entered within `computing`.
        """
        with self.computing(), plain_memory_error():
            pixels = self._begun(cells, window, submit)
            finished = self._mark()

        def result() -> Array:
            finished()
            return pixels()

        return result

    def _begun(self, cells: Sequence[Cell], window: Window, submit: Submit) -> Callable[[], Array]:
        """Start the work; returns a function that gives the window's pixels once the device is done."""
        painted = [(group, submit(self._fetched, group)) for group in self._groups(cells)]

        def pixels() -> Array:
            result = self.blank(window)
            for group, done in painted:
                for cell, values in zip(group, done.result(), strict=True):
                    common = cell.window.overlap(window)
                    result[:, *common.slices_in(window)] = values[:, *common.slices_in(cell.window)].numpy()
            return result

        return pixels

    def _fetched(self, cells: Sequence[Cell]) -> Tensor:
        """The result of `run`, on its way to the host's memory."""
        return self.run(cells).to("cpu", non_blocking=True)

    def _groups(self, cells: Sequence[Cell]) -> Iterator[Sequence[Cell]]:
        """Cells that go through the network together: on a GPU as many as fill it, and the rest."""
        size = 1 if self.on_cpu else _CELLS_A_LAUNCH
        return (cells[first : first + size] for first in range(0, len(cells), size))

    def _mark(self) -> Callable[[], None]:
        """A function that waits until all work started on the device so far is done."""
        if self.on_cpu:
            return lambda: None
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return event.synchronize

    def cells(self, window: Window) -> list[Window]:
        """The cells of the lattice that a window overlaps, row by row; on a CPU only the parts that it covers.

        The parts are aligned to the network's stride, and slivers at the window's edges are joined to their neighbours,
        as in blocks. On a GPU cells are whole, so that all have one shape.
        """
        step, least = (self.network.stride, sliver(CELL)) if self.on_cpu else (CELL, 0)
        rows, columns = (
            [_on_lattice(start, length, step) for start, length in cut(first, end, 0, CELL, least)]
            for first, end in ((window.row, window.bottom), (window.column, window.right))
        )
        return [Window(row, column, height, width) for row, height in rows for column, width in columns]

    def wanted(self, window: Window, valid: Mask) -> Iterator[tuple[Window, Window]]:
        """Each cell with pixels where `valid`, and the part of the window that it covers."""
        for cell in self.cells(window):
            part = cell.intersection(window)
            if part is not None and valid[part.slices_in(window)].any():
                yield cell, part

    def labelled_cells(self, labels: LabelledWindow) -> list[Cell]:
        """The cells that paint a window, with what they need of the labels."""
        wanted = list(self.wanted(labels.window, labels.valid))
        if not wanted:  # a lazy image asks for blocks without data too
            return []
        known = labels.context.buffer(-self.network.look_side)
        around = Surroundings.of(labels.indices, self.network)
        cells = []
        for cell, part in wanted:
            seen = cell.buffer(self.margin)
            within = around.within(*seen.slices_in(known))
            cells.append(Cell(cell, part, labels.indices[seen.slices_in(labels.context)], within))
        return cells

    def run(self, cells: Sequence[Cell]) -> Tensor:
        """Paint cells of one shape: (cells, bands, height, width) on the device, in the dtype of the bands."""
        seen = [cell.window.buffer(self.margin) for cell in cells]
        of_cells = zip(*((cell.labels, *cell.around) for cell in cells), strict=True)
        classes, ways, shares = (torch.from_numpy(np.stack(values)) for values in of_cells)
        places = torch.tensor([(window.row, window.column) for window in seen], dtype=torch.int64)
        if not self.on_cpu:
            check_labels(self.network, classes)
        with torch.inference_mode(), plain_memory_error():
            if not self.on_cpu:
                classes, places, ways, shares = (values.pin_memory() for values in (classes, places, ways, shares))
            (values,) = self.network_pass(classes, places, ways, shares)
        return values

    def _network_pass(self, labels: Tensor, places: Tensor, ways: Tensor, shares: Tensor) -> tuple[Tensor]:
        """Paint cells by the same operations, whatever the labels and the places; see `Replay`."""
        (row, column), (height, width) = places.unbind(1), labels.shape[1:]
        latent, noise, styles = self.inputs(Windows(row, column, height, width), ways, shares)
        image = self.generator(labels, latent, noise, self.margin, styles)
        pixels = self.as_pixels(self.model.card.bands.from_network(image.float()))
        return (pixels.contiguous(),)  # in rows already: reordering bytes would be the host's longest task

    def inputs(
        self, windows: Windows, ways: Tensor, shares: Tensor
    ) -> tuple[Tensor | None, list[Tensor | None], Tensor | None]:
        """Latent, noise and styles of windows, as the generator takes them; see `look_field`."""
        dtype, seed = torch.bfloat16 if self.bfloat16 else torch.float32, self.settings.seed
        noise = position_noise(self.network, seed, windows, self.margin, self.silent, dtype)
        styles = None
        if isinstance(self.style, Look):
            styles = look_field(self.network, self.style, seed, windows, self.style_length, ways, shares)
        return self.latent(windows), noise, styles

    def latent(self, windows: Windows) -> Tensor | None:
        """The latent of windows, (B, latent_size, height / stride, width / stride)."""
        if not self.network.latent_size:
            return None
        if isinstance(self.style, Tensor):
            down, across = (side // self.network.stride for side in (windows.height, windows.width))
            return self.style.view(1, -1, 1, 1).expand(len(windows.row), -1, down, across)
        return latent_field(self.network, self.settings.seed, windows, self.style_length)

    def blank(self, window: Window) -> Array:
        """Zeros, (bands, height, width)."""
        bands = self.model.card.bands
        return np.zeros((len(bands.names), window.height, window.width), dtype=bands.dtype)

    def as_pixels(self, values: Tensor) -> Tensor:
        """Raster values in the bands' dtype: integers are rounded and clipped, floats unchanged."""
        dtype = np.dtype(self.model.card.bands.dtype)
        if np.issubdtype(dtype, np.integer):
            limits = np.iinfo(dtype)
            values = values.round().clamp_(limits.min, limits.max)
        return values.to(_TORCH_TYPES[dtype.name])


def sliver(size: int) -> int:
    """The least width, in pixels, that a strip at an edge of a raster must have to be a block or cell of its own."""
    return min(_SLIVER, size // 4)


def paint_plan(geobox: GeoBox, block_size: int) -> BlockPlan:
    """The blocks in which a grid is painted: the same everywhere, in every process."""
    return block_plan(geobox, block_size, sliver(block_size))


def _on_lattice(start: int, length: int, stride: int) -> tuple[int, int]:
    """(start, length) of [start, start + length), extended to multiples of the stride."""
    first, last = start // stride * stride, -(-(start + length) // stride) * stride
    return first, last - first
