"""Painter: one window of labels in, its pixels out, the same however the raster is cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from geosynth.grid import Window
from geosynth.models.field import position_noise, style_field
from geosynth.models.memory import plain_memory_error
from geosynth.models.precision import uses_bfloat16


class Painter:
    """A generator that paints windows at absolute positions.

    Styles and noise depend on the seed and on absolute pixel positions only, windows lie on the generator's lattice,
    and the halo covers all that can reach a pixel: so a pixel does not depend on the window it was painted in.
    """

    def __init__(self, model: GeneratorModel, settings: GenerateSettings) -> None:
        self.model = model
        self.settings = settings
        self.device = str(next(model.generator.parameters()).device)
        self.bfloat16 = uses_bfloat16(settings.precision, self.device)

    def context(self, window: Window, origin: tuple[int, int]) -> Window:
        """The labels needed to paint a window: grown to the lattice, then by the halo.

        Args:
            window: in the raster's pixel coordinates.
            origin: absolute (row, column) of the raster's first pixel.
        """
        network = self.model.card.settings
        stride, halo = network.stride, network.halo
        top, left = window.row + origin[0], window.column + origin[1]
        bottom, right = window.bottom + origin[0], window.right + origin[1]
        row, column = top // stride * stride - halo, left // stride * stride - halo
        height = -(-bottom // stride) * stride + halo - row
        width = -(-right // stride) * stride + halo - column
        return Window(row - origin[0], column - origin[1], height, width)

    @torch.inference_mode()
    def paint(self, indices: npt.NDArray[np.uint8], context: Window, window: Window, origin: tuple[int, int]) -> Any:
        """(bands, height, width) of `window` in the dtype of the model's bands.

        Args:
            indices: class indices of `context`, as `LabelRaster.read` gives them.
            context: from `context(window, origin)`.
            window: to paint, in the raster's pixel coordinates.
            origin: absolute (row, column) of the raster's first pixel.
        """
        network, settings, device = self.model.card.settings, self.settings, self.device
        place = (context.row + origin[0], context.column + origin[1], context.height, context.width)
        latent = None
        if network.latent_size:
            latent = style_field(network, settings.seed, *place, settings.style_length, device)
        noise = position_noise(network, settings.seed, *place, device)
        labels = torch.from_numpy(indices).to(device).unsqueeze(0)
        autocast = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=self.bfloat16)
        with autocast, plain_memory_error():
            image = self.model.generator(labels, latent, noise)
        top, left = window.row - context.row, window.column - context.column
        image = image[0, :, top : top + window.height, left : left + window.width].float()
        bands = self.model.card.bands
        limits = np.iinfo(bands.dtype)
        values = bands.from_network(image).round().clamp(limits.min, limits.max)
        return values.cpu().numpy().astype(bands.dtype)
