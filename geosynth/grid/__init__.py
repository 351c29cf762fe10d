"""Grid geometry in whole pixels: windows, tile plans, alignment, spatial splits, leakage."""

from geosynth.grid.alignment import (
    absolute_origin,
    block_plan,
    buffer_pixels,
    crop,
    ground_sampling_distance,
    metres_per_unit,
    offset_in,
    parse_crs,
    parse_distance,
    pixels_within,
    warn_of_pixel_size,
)
from geosynth.grid.split import SpatialSplit
from geosynth.grid.window import BlockPlan, TilePlan, Window, cut

__all__ = [
    "BlockPlan",
    "SpatialSplit",
    "TilePlan",
    "Window",
    "absolute_origin",
    "block_plan",
    "buffer_pixels",
    "crop",
    "cut",
    "ground_sampling_distance",
    "metres_per_unit",
    "offset_in",
    "parse_crs",
    "parse_distance",
    "pixels_within",
    "warn_of_pixel_size",
]
