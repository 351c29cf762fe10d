"""Splits as tables of polygons that open in QGIS, and polygons drawn there as splits."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import geopandas as gpd
import numpy as np
import shapely
from odc.geo.geobox import GeoBox

from geosynth.errors import DataError, GridError
from geosynth.grid.split import FOLDS, SpatialSplit
from geosynth.grid.vector import read_table, to_coordinates, to_pixels, write_table
from geosynth.grid.window import Window

_LOG = logging.getLogger(__name__)


def save_split(split: SpatialSplit, path: Path, geobox: GeoBox) -> None:
    """Write one row a polygon: `fold`, `buffer` (pixels), `pixels` (its area) and the geometry in the grid's CRS.

    GeoParquet (.parquet) and GeoPackage (.gpkg) keep the CRS of the grid; GeoJSON is in longitude and latitude, where
    a straight edge of the grid is not quite straight: its corners are exact, points between them are not. `load_split`
    gives back the same split from each, since it looks at corners only.

    Raises:
        OutputError: if the suffix is unknown, or the file cannot be written.
    """
    rows = [(fold, part) for fold in FOLDS for part in split.area(fold).geoms]
    table = gpd.GeoDataFrame(
        {
            "fold": [fold for fold, _ in rows],
            "buffer": [split.buffer for _ in rows],
            "pixels": [part.area for _, part in rows],
        },
        geometry=[to_coordinates(part, geobox) for _, part in rows],
        crs=geobox.crs.to_wkt() if geobox.crs else None,
    )
    write_table(table, path)


def load_split(
    path: Path, geobox: GeoBox, windows: Sequence[Window] | None = None, buffer: int | None = None
) -> SpatialSplit:
    """Read polygons with a column `fold` (train, val or test), in any CRS, as a split of a grid.

    Polygons in another CRS are reprojected by their vertices, and a warning says so.

    Args:
        path: GeoParquet, GeoPackage, GeoJSON or another vector file that GDAL reads.
        geobox: the grid.
        windows: of the scenes; what is outside of them belongs to no fold. None: all is inside.
        buffer: pixels between folds; None: what the file says in a column `buffer`, else 0.

    Raises:
        DataError: if the file cannot be read, a fold has another name, or the buffer leaves one nothing.
        GridError: if one of file and grid has a CRS and the other has none.
    """
    table = read_table(path, "fold")
    if not len(table):
        raise DataError(f"{path}: holds no polygon")
    unknown = sorted({str(fold) for fold in table["fold"]} - set(FOLDS))
    if unknown:
        raise DataError(f"{path}: fold {', '.join(unknown[:5])}; the folds are {', '.join(FOLDS)}")
    table = _in_crs_of(geobox, table, path)
    valid = shapely.make_valid(np.array([to_pixels(geometry, geobox) for geometry in table.geometry]))
    polygons = {fold: shapely.union_all(valid[(table["fold"] == fold).to_numpy()]) for fold in FOLDS}
    if buffer is None:
        buffer = int(table["buffer"].max()) if "buffer" in table.columns else 0
    return SpatialSplit.by_polygons(polygons, windows, buffer=buffer)


def _in_crs_of(geobox: GeoBox, table: gpd.GeoDataFrame, path: Path) -> gpd.GeoDataFrame:
    if table.crs is None and geobox.crs is None:
        return table
    if geobox.crs is None and path.suffix.lower() in (".geojson", ".json"):
        return table  # GeoJSON cannot say that it has no CRS
    if table.crs is None or geobox.crs is None:
        which = "its polygons have" if table.crs is None else "the grid has"
        raise GridError(f"{path}: {which} no CRS, so the places of polygons on the grid are unknown")
    wanted = geobox.crs.proj
    if table.crs == wanted or (wanted.to_epsg() is not None and table.crs.to_epsg() == wanted.to_epsg()):
        return table
    _LOG.warning("%s: polygons were reprojected from %s to %s", path, table.crs.name, wanted.name)
    return table.to_crs(wanted)
