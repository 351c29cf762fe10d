"""Grid geometry in whole pixels: windows, tile plans, alignment, spatial splits. numpy and odc-geo only."""

from geosynth.grid.alignment import absolute_origin, ground_sampling_distance, offset_in
from geosynth.grid.split import SpatialSplit
from geosynth.grid.tiles import TilePlan
from geosynth.grid.window import Window

__all__ = ["SpatialSplit", "TilePlan", "Window", "absolute_origin", "ground_sampling_distance", "offset_in"]
