"""BlendPainter: overlapping windows joined with raised-cosine weights.

For networks that are tied to one window size and position (the reference start, Park et al. 2019), where neighbouring
windows cannot agree exactly. Windows lie on one lattice of absolute positions, `window size - overlap` apart, so every
pixel lies in one, two or four of them. Along an axis the weights in an overlap of N pixels are

    rising(t) = sin^2(pi / 2 * (t + 1/2) / N),    falling(t) = rising(N - 1 - t) = 1 - rising(t),    t = 0 .. N - 1

and their products sum to one everywhere, so nothing has to be normalised and no map of weights is kept.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from geosynth.errors import SettingsError
from geosynth.grid import Window
from geosynth.models.device import Submit
from geosynth.models.field import latent_field
from geosynth.models.looks.look import Look
from geosynth.models.windows import Windows
from geosynth.mosaic.painter import CELL, Cell, Painter
from geosynth.raster.read import Array

# Windows across an edge of a block are kept for the neighbouring blocks, so that each is painted only once.
KEPT_BYTES = 256 << 20


class BlendPainter(Painter):
    """Paints windows in blend mode; arguments as for `Painter`.

    With the linear start the network sees `crop_size` pixels at once, otherwise a cell and a margin of two strides.

    Raises:
        SettingsError: if the overlap does not fit the network's windows.
    """

    mode = "blend"

    def __init__(
        self,
        model: GeneratorModel,
        settings: GenerateSettings,
        style_length: int,
        style: Tensor | Look | None = None,
    ) -> None:
        super().__init__(model, settings, style_length, style)
        linear = self.network.start == "linear"
        self.margin = 0 if linear else 2 * self.network.stride
        self.size = self.network.crop_size or CELL
        overlap = settings.overlap
        if overlap > self.size // 2 or overlap % self.network.stride:
            raise SettingsError(
                f"windows of {self.size} px need a multiple of {self.network.stride} px, {self.size // 2} at most;"
                f" got {overlap}",
                setting="overlap",
            )
        self.step = self.size - overlap
        line = torch.from_numpy(weights(self.size, overlap)).to(self.device)
        self._weights = line[:, None] * line
        self._kept: OrderedDict[bytes, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def cells(self, window: Window) -> list[Window]:
        """All windows of the lattice that overlap a window, row by row."""
        rows, columns = (
            [number * self.step for number in range((first - self.size) // self.step + 1, (end - 1) // self.step + 1)]
            for first, end in ((window.row, window.bottom), (window.column, window.right))
        )
        return [Window(row, column, self.size, self.size) for row in rows for column in columns]

    def _begun(self, cells: Sequence[Cell], window: Window, submit: Submit) -> Callable[[], Array]:
        """The weighted sum of the windows, always in the caller's thread."""
        parts = ((cell.window, self._values(cell)) for cell in cells)
        return self.join(window, parts).to("cpu", non_blocking=True).numpy

    @torch.inference_mode()
    def join(self, window: Window, parts: Iterable[tuple[Window, Tensor]]) -> Tensor:
        """The weighted sum of the windows, (bands, height, width) in the bands' dtype."""
        bands = len(self.model.card.bands.names)
        total = torch.zeros((bands, window.height, window.width), device=self.device)
        for cell, values in parts:
            common = cell.overlap(window)
            rows, columns = common.slices_in(cell)
            total[:, *common.slices_in(window)].addcmul_(values[:, rows, columns], self._weights[rows, columns])
        return super().as_pixels(total)

    def _values(self, cell: Cell) -> Tensor:
        """(bands, height, width) float32 of a window in raster values; kept if only a part of it lies in the block."""
        if cell.part == cell.window:
            return self.run([cell])[0]
        place = np.array([cell.window.row, cell.window.column])
        key = hashlib.blake2b(place.tobytes() + cell.labels.tobytes() + cell.around.tobytes()).digest()
        with self._lock:
            values = self._kept.pop(key, None)
        if values is None:
            values = self.run([cell])[0]
        with self._lock:
            self._kept[key] = values  # now the most recently used
            while len(self._kept) * values.nbytes > KEPT_BYTES:
                self._kept.popitem(last=False)
        return values

    def as_pixels(self, values: Tensor) -> Tensor:
        """Raster values, unchanged: windows are joined before they are rounded."""
        return values

    def latent(self, windows: Windows) -> Tensor | None:
        """As `Painter.latent`; for the linear start, which takes one style, (B, latent_size) at the window's centre."""
        if self.network.start != "linear":
            return super().latent(windows)
        if isinstance(self.style, Tensor):
            return self.style.view(1, -1).expand(len(windows.row), -1)
        stride = self.network.stride
        row, column = (
            first + side // 2 - stride // 2
            for first, side in ((windows.row, windows.height), (windows.column, windows.width))
        )
        centre = Windows(row, column, stride, stride)
        return latent_field(self.network, self.settings.seed, centre, self.style_length)[:, :, 0, 0]


def weights(size: int, overlap: int) -> npt.NDArray[np.float32]:
    """(size,) weights of one window along one axis: raised cosine in the overlaps, one between them."""
    rising = np.sin(np.pi / 2 * (np.arange(overlap) + 0.5) / max(overlap, 1)) ** 2
    line = np.ones(size)
    line[:overlap] = rising
    line[size - overlap :] = rising[::-1]
    return line.astype(np.float32)
