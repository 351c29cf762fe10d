"""geosynth: synthetic satellite and aerial imagery from land-cover labels.

Public names are loaded when they are first used, so that importing geosynth costs milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from geosynth.version import __version__

if TYPE_CHECKING:
    from geosynth.checkpoint import load_generator as load_generator
    from geosynth.config import AugmentSettings as AugmentSettings
    from geosynth.config import DiversitySettings as DiversitySettings
    from geosynth.config import EvaluateSettings as EvaluateSettings
    from geosynth.config import GenerateSettings as GenerateSettings
    from geosynth.config import GeneratorSettings as GeneratorSettings
    from geosynth.config import ReplaceSettings as ReplaceSettings
    from geosynth.config import SegmentSettings as SegmentSettings
    from geosynth.config import StudySettings as StudySettings
    from geosynth.config import TrainSettings as TrainSettings
    from geosynth.describe import info as info
    from geosynth.errors import GeosynthError as GeosynthError
    from geosynth.evaluation.evaluate import evaluate as evaluate
    from geosynth.grid import SpatialSplit as SpatialSplit
    from geosynth.grid import TilePlan as TilePlan
    from geosynth.legend import Legend as Legend
    from geosynth.models.generator import SpadeGenerator as SpadeGenerator
    from geosynth.mosaic.batch import generate_many as generate_many
    from geosynth.mosaic.generate import generate as generate
    from geosynth.mosaic.twin import twin as twin
    from geosynth.patches.dataset import PatchDataset as PatchDataset
    from geosynth.raster.read import open_raster as open_raster
    from geosynth.raster.stores.ingest import ingest as ingest
    from geosynth.raster.stores.items import chesapeake_items as chesapeake_items
    from geosynth.raster.stores.items import read_items as read_items
    from geosynth.raster.stores.split import check_split as check_split
    from geosynth.raster.stores.split import split as split
    from geosynth.raster.stores.tiles import TileView as TileView
    from geosynth.raster.stores.tiles import export_tiles as export_tiles
    from geosynth.raster.stores.tiles import view_tiles as view_tiles
    from geosynth.reference import import_spade as import_spade
    from geosynth.segmentation.classify import classify as classify
    from geosynth.segmentation.segment import segment as segment
    from geosynth.segmentation.segmenter import load_segmenter as load_segmenter
    from geosynth.study.run import plan_study as plan_study
    from geosynth.study.run import run_study as run_study
    from geosynth.study.run import tabulate_study as tabulate_study
    from geosynth.training.train import train as train

_PUBLIC = {
    "AugmentSettings": "geosynth.config",
    "DiversitySettings": "geosynth.config",
    "EvaluateSettings": "geosynth.config",
    "GenerateSettings": "geosynth.config",
    "GeneratorSettings": "geosynth.config",
    "GeosynthError": "geosynth.errors",
    "Legend": "geosynth.legend",
    "PatchDataset": "geosynth.patches.dataset",
    "ReplaceSettings": "geosynth.config",
    "SegmentSettings": "geosynth.config",
    "SpadeGenerator": "geosynth.models.generator",
    "SpatialSplit": "geosynth.grid",
    "StudySettings": "geosynth.config",
    "TilePlan": "geosynth.grid",
    "TileView": "geosynth.raster.stores.tiles",
    "TrainSettings": "geosynth.config",
    "chesapeake_items": "geosynth.raster.stores.items",
    "check_split": "geosynth.raster.stores.split",
    "classify": "geosynth.segmentation.classify",
    "evaluate": "geosynth.evaluation.evaluate",
    "export_tiles": "geosynth.raster.stores.tiles",
    "generate": "geosynth.mosaic.generate",
    "generate_many": "geosynth.mosaic.batch",
    "import_spade": "geosynth.reference",
    "info": "geosynth.describe",
    "ingest": "geosynth.raster.stores.ingest",
    "load_generator": "geosynth.checkpoint",
    "load_segmenter": "geosynth.segmentation.segmenter",
    "open_raster": "geosynth.raster.read",
    "plan_study": "geosynth.study.run",
    "read_items": "geosynth.raster.stores.items",
    "run_study": "geosynth.study.run",
    "segment": "geosynth.segmentation.segment",
    "split": "geosynth.raster.stores.split",
    "tabulate_study": "geosynth.study.run",
    "train": "geosynth.training.train",
    "twin": "geosynth.mosaic.twin",
    "view_tiles": "geosynth.raster.stores.tiles",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'geosynth' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
