"""Which legend reads a label raster: the one that is named, the raster's own, or the model's."""

from __future__ import annotations

import logging
from pathlib import Path

from geosynth.errors import LegendError
from geosynth.legend import Legend
from geosynth.raster.class_table import ClassTable, legend_of_table, plain, read_class_table
from geosynth.raster.label_zarr import ZarrLabels
from geosynth.raster.like import RasterLike
from geosynth.raster.read import Raster
from geosynth.raster.resample import ResampledRaster
from geosynth.raster.tiles import TileInMosaic, TileMosaic

_LOG = logging.getLogger(__name__)
FROM_RASTER = "from-raster"


def choose_legend(raster: RasterLike, legend: str | Path | Legend | None, target: Legend) -> Legend:
    """The legend of a label raster, in the class order of the model's.

    Where none is named, codes mean what they mean to the model, unless the raster names its classes by the model's
    names under other codes: then its own class table decides, and a warning says so.

    Args:
        raster: the labels.
        legend: a legend, its built-in name or file; "from-raster" for the raster's own class table.
        target: the model's.

    Raises:
        LegendError: if there is no such legend, or its classes are not the model's.
    """
    if legend is not None and legend != FROM_RASTER:
        return Legend.load(legend).translation_to(target)
    table = class_table_of(raster)
    if legend == FROM_RASTER:
        if not table:
            raise LegendError(f"{raster.path}: has no class table (names or colours of its codes); name a legend file")
        return legend_of_table(table, target, raster.path)
    of_target = {plain(entry.name): entry.code for entry in target.classes}
    names = {code: name for code, (name, _) in table.items() if name}
    known = {code: of_target[plain(name)] for code, name in names.items() if plain(name) in of_target}
    if any(code != expected for code, expected in known.items()):
        own = legend_of_table(table, target, raster.path)
        told = ", ".join(f"{code} {names[code]}" for code in list(known)[:8])
        _LOG.warning(
            "%s: its class table has other codes than legend %r and is used: %s", raster.path, target.name, told
        )
        return own
    for entry in target.classes:
        name = names.get(entry.code)
        if name is not None and plain(name) != plain(entry.name):
            _LOG.warning(
                "%s: calls code %d %r; it is taken for %r, as in legend %r (--legend decides otherwise)",
                raster.path,
                entry.code,
                name,
                entry.name,
                target.name,
            )
    return target


def class_table_of(raster: RasterLike) -> ClassTable:
    """What a raster says of its codes; of many tiles, what the first says. Empty where it says nothing."""
    while isinstance(raster, ResampledRaster):
        raster = raster.source
    if isinstance(raster, TileMosaic):
        raster = raster.tiles[0]
    if isinstance(raster, TileInMosaic):
        raster = raster.tile
    if isinstance(raster, Raster):
        return read_class_table(raster.path)
    return raster.class_table if isinstance(raster, ZarrLabels) else {}
