"""Splits of several grids, whose folds must not meet where the grids do."""

from __future__ import annotations

from collections.abc import Sequence

import geopandas as gpd
import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from geosynth.grid.split import FOLDS, SpatialSplit
from geosynth.grid.vector import to_coordinates, to_pixels


def part_neighbours(grids: Sequence[GeoBox], splits: Sequence[SpatialSplit]) -> list[SpatialSplit]:
    """Cut from each grid's train and val what is near another grid's folds, as at the border of two UTM zones."""
    parted = []
    for place, (grid, own) in enumerate(zip(grids, splits, strict=True)):
        near: dict[str, list[shapely.Geometry]] = {fold: [] for fold in FOLDS}
        for other, (foreign, split) in enumerate(zip(grids, splits, strict=True)):
            if other != place and foreign.crs and grid.crs:
                for fold in FOLDS:
                    near[fold].append(_moved(split.area(fold), foreign, grid))
        parted.append(own.away_from({fold: shapely.unary_union(areas) for fold, areas in near.items()}))
    return parted


def _moved(area: shapely.Geometry, start: GeoBox, end: GeoBox) -> shapely.Geometry:
    # A straight edge is not straight in another projection: over a kilometre it errs by millimetres.
    dense = shapely.segmentize(to_coordinates(area, start), 1000)
    moved = gpd.GeoSeries([dense], crs=start.crs.to_wkt()).to_crs(end.crs.to_wkt()).iloc[0]
    if not np.isfinite(shapely.get_coordinates(moved)).all():
        return shapely.MultiPolygon()  # so far away that the projection does not reach there
    return to_pixels(moved, end)
