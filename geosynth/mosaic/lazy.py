"""The lazy image: an xarray array whose blocks are painted when they are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from dask.base import tokenize
from dask.highlevelgraph import HighLevelGraph

from geosynth.config import GenerateSettings
from geosynth.grid import Window
from geosynth.legend import Legend
from geosynth.mosaic.block_size import choose_block_size
from geosynth.mosaic.image import painter_for, resampled, warn_about_grid
from geosynth.mosaic.inputs import Labels, Model, loaded_model, opened
from geosynth.mosaic.painter import LabelledWindow, Painter, paint_plan
from geosynth.mosaic.portable import PortablePainter
from geosynth.mosaic.provenance import provenance
from geosynth.mosaic.style import Files, Style, chosen_style
from geosynth.raster.label_array import LabelArray
from geosynth.raster.label_legend import choose_legend
from geosynth.raster.labels import LabelRaster, needed_around, to_indices, whole_codes
from geosynth.raster.mark import MARK
from geosynth.raster.quantities import quantity_attributes
from geosynth.raster.read import Array, Mask, Raster, filled, has_data

Chunks = list[list[Array]]


def lazy_image(
    labels: Labels,
    model: Model,
    settings: GenerateSettings,
    legend: str | Path | Legend | None,
    style: Style,
    style_labels: Files,
    style_bands: Sequence[str] | None,
) -> xr.DataArray:
    """The image of labels as a dask array; `generate` describes the arguments and the errors. Nothing is painted yet.

    When a block is computed, it reads the labels under it and under its halo.

    Returns:
        (band, y, x) with the coordinates and the CRS of the labels, names along `band`, and the coordinate `valid`
        (y, x): False where the labels have no class; the image is 0 there. Computing a block raises LegendError for
        codes that the legend does not list, and DataError for codes that are not whole numbers.

    Raises:
        GridError: on a rotated grid, whose pixels have no coordinates y and x.
    """
    raster = opened(labels)
    model = loaded_model(model, settings.device)
    raster = resampled(raster, model, settings)
    source = LabelRaster(raster, choose_legend(raster, legend, model.card.legend))
    warn_about_grid(source.name, source.geobox, model)
    style = chosen_style(style, style_labels, model, settings, legend, style_bands)
    painter = painter_for(raster.geobox, model, settings, style)
    return _array(raster, painter, source.legend, provenance(painter, source) | MARK)


def _array(raster: Raster, painter: Painter, legend: Legend, attributes: dict[str, str]) -> xr.DataArray:
    settings, portable = painter.settings, PortablePainter(painter)
    source = raster if isinstance(raster, LabelArray) else LabelArray.of_raster(raster, settings.block_size)
    plan = paint_plan(source.geobox, choose_block_size(painter))
    sizes = tuple(tuple(length for _, length in pieces) for pieces in (plan.rows, plan.columns))

    labels = tokenize(source.codes.name, source.nodata, legend, plan, settings.unknown)
    pixels_name, valid_name = f"generate-{tokenize(labels, portable)}", f"valid-{labels}"

    def codes(window: Window) -> tuple[_Block, list[list[tuple[Any, ...]]]]:
        """How a task reads a window, and the keys of the chunks that it needs for that."""
        block = _Block(source.nodata, source.path, legend, settings.unknown, window, *source.corners(window))
        return block, source.keys(window)

    pixel_tasks: dict[Any, Any] = {}
    valid_tasks: dict[Any, Any] = {}
    for number, window in enumerate(plan):
        place = divmod(number, len(sizes[1]))
        context = painter.context(window.shift(*plan.origin)).shift(-plan.origin[0], -plan.origin[1])
        inside = needed_around(context).overlap(source.window)
        painting = _Painting(portable, context, window, plan.origin)
        pixel_tasks[pixels_name, 0, *place] = (_paint, painting, *codes(inside))
        valid_tasks[valid_name, *place] = (_has_class, *codes(window))

    def array(tasks: dict[Any, Any], name: str, chunks: Any, dtype: Any) -> da.Array:
        graph = HighLevelGraph.from_collections(name, tasks, dependencies=[source.codes])
        return da.Array(graph, name, chunks, dtype=dtype)

    bands = painter.model.card.bands
    pixels = array(pixel_tasks, pixels_name, ((len(bands.names),), *sizes), bands.dtype)
    valid = array(valid_tasks, valid_name, sizes, bool)
    return source.image(pixels, valid, bands.names, {**attributes, **quantity_attributes(bands.quantities)})


@dataclass(frozen=True)
class _Block:
    """How chunks of labels are put together to the window of codes that a task reads."""

    nodata: float | None
    name: str
    legend: Legend
    unknown: Literal["error", "nodata"]
    inside: Window
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    def read(self, chunks: Chunks) -> tuple[npt.NDArray[np.int64], Mask]:
        """Codes in `inside`, and where there is data."""
        values = np.empty((self.inside.height, self.inside.width), dtype=chunks[0][0].dtype)
        for top, row in zip(self.tops, chunks, strict=True):
            for left, chunk in zip(self.lefts, row, strict=True):
                piece = Window(top, left, *chunk.shape)
                common = piece.overlap(self.inside)
                target = common.slices_in(self.inside)
                values[target] = chunk[common.slices_in(piece)]
        valid = has_data(values[np.newaxis], self.nodata)
        codes = whole_codes(values, valid, self.name)
        if self.unknown == "error":
            without_class = valid & (self.legend.encode(codes) == self.legend.num_classes)
            found = np.unique(codes[without_class], return_counts=True)
            counts = {int(code): int(count) for code, count in zip(*found, strict=True)}
            self.legend.check(counts, f"{self.name}, {self.inside}")
        return codes, valid


@dataclass(frozen=True)
class _Painting:
    """Which window is painted from a block of labels, and with what."""

    painter: PortablePainter
    context: Window
    window: Window
    origin: tuple[int, int]


def _paint(painting: _Painting, block: _Block, chunks: Chunks) -> Array:
    """(bands, height, width) of a window; 0 where there is no class."""
    context, window, origin = painting.context, painting.window, painting.origin
    indices, has_class = to_indices(*block.read(chunks), block.inside, context, block.legend)
    valid = has_class[window.slices_in(context)]
    labels = LabelledWindow(window.shift(*origin), context.shift(*origin), indices, valid)
    return filled(painting.painter.paint(labels), valid)


def _has_class(block: _Block, chunks: Chunks) -> Mask:
    """(height, width): which pixels of the block have a class."""
    codes, valid = block.read(chunks)
    return valid & (block.legend.encode(codes) < block.legend.num_classes)
