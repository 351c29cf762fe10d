"""geosynth: synthetic satellite and aerial imagery from land-cover labels.

Public names are loaded when they are first used, so that importing geosynth costs milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from geosynth.version import __version__

if TYPE_CHECKING:
    from geosynth.checkpoint import load_generator as load_generator
    from geosynth.config import GenerateSettings as GenerateSettings
    from geosynth.config import GeneratorSettings as GeneratorSettings
    from geosynth.config import TrainSettings as TrainSettings
    from geosynth.describe import info as info
    from geosynth.errors import GeosynthError as GeosynthError
    from geosynth.evaluation.evaluate import evaluate as evaluate
    from geosynth.grid import SpatialSplit as SpatialSplit
    from geosynth.grid import TilePlan as TilePlan
    from geosynth.legend import Legend as Legend
    from geosynth.models.generator import SpadeGenerator as SpadeGenerator
    from geosynth.mosaic.batch import generate_many as generate_many
    from geosynth.mosaic.verb import generate as generate
    from geosynth.patches.dataset import PatchDataset as PatchDataset
    from geosynth.raster.read import open_raster as open_raster
    from geosynth.raster.stores.chesapeake import chesapeake_items as chesapeake_items
    from geosynth.raster.stores.ingest import ingest as ingest
    from geosynth.raster.stores.items import read_items as read_items
    from geosynth.raster.stores.split import check_split as check_split
    from geosynth.raster.stores.split import split as split
    from geosynth.raster.stores.tile_export import export_tiles as export_tiles
    from geosynth.raster.stores.tile_view import TileView as TileView
    from geosynth.raster.stores.tile_view import view_tiles as view_tiles
    from geosynth.reference import import_spade as import_spade
    from geosynth.training.train import train as train

_PUBLIC = {
    "GenerateSettings": "geosynth.config",
    "GeneratorSettings": "geosynth.config",
    "GeosynthError": "geosynth.errors",
    "Legend": "geosynth.legend",
    "PatchDataset": "geosynth.patches.dataset",
    "SpadeGenerator": "geosynth.models.generator",
    "SpatialSplit": "geosynth.grid",
    "TilePlan": "geosynth.grid",
    "TileView": "geosynth.raster.stores.tile_view",
    "TrainSettings": "geosynth.config",
    "chesapeake_items": "geosynth.raster.stores.chesapeake",
    "check_split": "geosynth.raster.stores.split",
    "evaluate": "geosynth.evaluation.evaluate",
    "export_tiles": "geosynth.raster.stores.tile_export",
    "generate": "geosynth.mosaic.verb",
    "generate_many": "geosynth.mosaic.batch",
    "import_spade": "geosynth.reference",
    "info": "geosynth.describe",
    "ingest": "geosynth.raster.stores.ingest",
    "load_generator": "geosynth.checkpoint",
    "open_raster": "geosynth.raster.read",
    "read_items": "geosynth.raster.stores.items",
    "split": "geosynth.raster.stores.split",
    "train": "geosynth.training.train",
    "view_tiles": "geosynth.raster.stores.tile_view",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'geosynth' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
