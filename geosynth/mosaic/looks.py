"""Looks of images: how the classes look in a place, season or sensor, which the model need not have seen."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from geosynth.checkpoint import GeneratorModel, card_with_look, check_model_output, load_generator, save_with_look
from geosynth.config.networks import check_look_name
from geosynth.errors import DataError, GridError, SettingsError, counted
from geosynth.files import output_path
from geosynth.grid import Window, offset_in, warn_of_pixel_size
from geosynth.grid.alignment import is_south_up
from geosynth.inputs import as_list
from geosynth.legend import ClassIndices, Legend
from geosynth.models.looks.calibration import asked_for
from geosynth.models.looks.labelled import TileStyles, fit_look
from geosynth.models.looks.look import Look
from geosynth.models.looks.styles import STYLE_CELL, without_holes
from geosynth.models.looks.unlabelled import cell_styles, fit_look_unlabelled
from geosynth.raster.label_files import open_labels
from geosynth.raster.label_legend import choose_legend
from geosynth.raster.labels import LabelRaster
from geosynth.raster.model_bands import NeededBands, open_common_bands
from geosynth.raster.read import Array, ImageRaster

_LOG = logging.getLogger(__name__)
_TILE = 256  # pixels; a look keeps the styles of a tile together
_MAX_TILES = 256  # of an image; more change little
_PAINTED_TILES = 8  # at least; at most twice as many


def add_look(
    name: str,
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    model: str | Path | None = None,
    *,
    labels: str | Path | Sequence[str | Path] | None = None,
    legend: str | Path | Legend | None = None,
    bands: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model file with one more look, which `generate` then accepts by its name.

    Args:
        name: of the look: letters, digits, - and _.
        images: rasters with the bands of the model, found by name or, if bands have no names, taken in their order.
        out: the model file, ending in ".safetensors"; may be `model` itself, with `overwrite`.
        model: a file made by `train`; None for the embedded model.
        labels: of the images, one raster each, on their pixel grid. Without them the look is guessed from the colours
            of the images as a whole.
        legend: of the labels, if their codes are not the model's.
        bands: names of the images' bands, if they do not have them, or those to take; with numbers, as in "red=4",
            those of files without these names.
        overwrite: replace an existing file.

    Returns:
        `out`.

    Raises:
        SettingsError: if the model is not conditioned on looks, or already has one of that name.
        RasterError, DataError, GridError, LegendError: if an image or its labels cannot be used.
        OutputError: if the file cannot be written.
    """
    out = output_path(out)
    check_model_output(out, overwrite=overwrite)
    check_look_name(name)
    loaded = load_generator(model)
    _known(loaded)
    card_with_look(loaded, name)  # refused before an image is read
    return save_with_look(loaded, out, name, look_from_images(as_list(images), as_list(labels), loaded, legend, bands))


def look_from_images(
    images: Sequence[str | Path],
    labels: Sequence[str | Path],
    model: GeneratorModel,
    legend: str | Path | Legend | None = None,
    named: Sequence[str] | None = None,
    unknown: Literal["error", "nodata"] = "error",
) -> Look:
    """The look of images, with or without their labels.

    Classes and bands that the images lack get values that are plausible beside the others, judging by the model's
    first look; for bands there is a warning. Of large images, at most 256 tiles of 256 px, spread evenly, are read.
    Nothing is resampled: a pixel size other than the model's gives a warning.

    Args:
        images: at least one, with bands of the model; a band that one of them lacks is ignored in the others.
        labels: one for each image, on its pixel grid, or none at all.
        model: with a generator conditioned on looks.
        legend: of the labels, as for `generate`.
        named: names that the user gave for the images' bands, see `open_chosen`; None for none.
        unknown: whether codes that the legend does not list are refused, or taken as nodata.

    Raises:
        SettingsError: if the model is not conditioned on looks, there is no image, or there are not as many label
            rasters as images.
        RasterError, DataError, GridError, LegendError: if an image or its labels cannot be used.
    """
    _known(model)
    if not images:
        raise SettingsError("no image to take a look from is given")
    if labels and len(labels) != len(images):
        given = f"{counted(len(labels), 'label raster')} for {counted(len(images), 'image')}"
        raise SettingsError(f"{given}; give one for each, in their order")

    rasters, bands = open_common_bands(images, NeededBands(model.card.bands, "model", model.path), named)
    if missing := ", ".join(name for number, name in enumerate(model.card.bands.names) if number not in bands):
        message = "%s: without %s; its look is estimated from the other bands"
        _LOG.warning(message, ", ".join(map(str, images)), missing)

    def tiles() -> Iterator[tuple[Array, ClassIndices]]:
        for number, raster in enumerate(rasters):
            told = "the model was trained on %g m and sees looks at that scale"
            warn_of_pixel_size(raster.path, raster.geobox, model.card.gsd, told)
            own = None
            if labels:
                opened = open_labels(labels[number])
                own = LabelRaster(opened, choose_legend(opened, legend, model.card.legend), unknown=unknown)
            yield from _tiles(raster, own)

    return look_from_tiles(tiles(), model, ", ".join(map(str, images)), labelled=bool(labels), bands=bands)


def look_from_tiles(
    tiles: Iterable[tuple[Array, ClassIndices]],
    model: GeneratorModel,
    name: str,
    *,
    labelled: bool,
    bands: Sequence[int] | None = None,
) -> Look:
    """The look of tiles of imagery, otherwise as `look_from_images`.

    Args:
        tiles: images (bands, h, w) in raster values, NaN where there is no data; and labels (h, w); h and w are
            multiples of `STYLE_CELL`. Labels are class indices if `labelled`, else 0 where there is an image and 1
            where there is none.
        model: with a generator conditioned on looks.
        name: of the imagery, for messages.
        labelled: whether classes are known.
        bands: positions of the tiles' bands among the model's bands; None for all.

    Raises:
        SettingsError: if the model is not conditioned on looks.
        DataError: if no pixel has a class.
    """
    known, settings = _known(model), model.card.settings
    bands = range(len(model.card.bands.names)) if bands is None else bands
    scaling = model.card.bands.only(bands)
    parts: list[TileStyles] = []
    cells: list[torch.Tensor] = []
    painted: list[torch.Tensor] = []  # tiles to paint once the look is known, to see what the generator makes of it
    every = 1
    for number, (pixels, indices) in enumerate(tiles):
        values = scaling.to_network(torch.from_numpy(pixels).float().unsqueeze(0))
        classes = torch.from_numpy(indices).long().unsqueeze(0)
        values, classes = without_holes(values, classes, settings.num_classes if labelled else 1)
        if labelled:
            kinds = settings.num_classes, settings.style_lengths, settings.style_regions
            parts.append(TileStyles.of(values, classes, *kinds))
            if number % every == 0:
                painted.append(classes[0])
            if len(painted) == 2 * _PAINTED_TILES:
                painted, every = painted[::2], 2 * every
        else:
            cells.append(cell_styles(values, classes == 0))
    if not sum(float(part.pixels.sum()) for part in parts) + sum(map(len, cells)):
        what = "no pixel with a class" if labelled else f"no square of {STYLE_CELL} px that has data everywhere,"
        raise DataError(f"{name}: {what} to take a look from")
    if labelled:
        return asked_for(fit_look(TileStyles.joined(parts), known, bands), model.generator, painted)
    return fit_look_unlabelled(torch.cat(cells), known, bands)


def _known(model: GeneratorModel) -> Look:
    """The model's first look, which says what is plausible."""
    known = model.look()
    if known is None:
        raise SettingsError(f"{model.path}: its generator is not conditioned on looks; train one with style_lengths")
    return known


def _tiles(image: ImageRaster, labels: LabelRaster | None) -> Iterator[tuple[Array, ClassIndices]]:
    """Images (bands, h, w) and class indices (h, w) of tiles; h and w are multiples of `STYLE_CELL`.

    Without labels all pixels are of class 0. Images are NaN where they or the labels have no data. Images stored south
    up are turned north up, as directions of detail and of shadows are measured in images with north up.

    Raises:
        GridError: if image and labels have different pixel grids, or no common pixel.
        LegendError: if the labels contain codes that their legend does not list.
    """
    mirrored = is_south_up(image.geobox)
    area, offset, nothing = image.window, (0, 0), 1
    if labels is not None:
        offset, nothing = offset_in(image.geobox, labels.geobox, labels.name), labels.legend.num_classes
        height, width = labels.geobox.shape
        common = area.intersection(Window(*offset, height, width))
        if common is None:
            raise GridError(f"{labels.name} and {image.path} have no pixel in common")
        area = common
    plan = area.pieces(_TILE)
    for tile in plan[:: max(1, -(-len(plan) // _MAX_TILES))]:
        pixels, valid = image.read(tile)
        indices = np.zeros(valid.shape, np.uint8)
        if labels is not None:
            indices = labels.read_known(tile.shift(-offset[0], -offset[1]), valid)
            valid = indices < nothing
        if mirrored:
            pixels, valid, indices = pixels[:, ::-1], valid[::-1], indices[::-1]
        sides = [(0, -side % STYLE_CELL) for side in valid.shape]
        holed = np.where(valid, pixels, np.float32(np.nan))
        yield np.pad(holed, [(0, 0), *sides], mode="edge"), np.pad(indices, sides, constant_values=nothing)
