"""Where tiles lie: footprints of raster files, tables of polygons, and folds of stores, brought into one metric CRS."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import geopandas as gpd
import shapely

from geosynth.errors import DataError, GridError
from geosynth.grid.leakage import Leak, Places, find_leaks
from geosynth.grid.split import FOLDS
from geosynth.grid.vector import PARQUET, read_table, to_coordinates
from geosynth.raster.read import open_raster
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.tile_view import TileView

_RASTERS = {".tif", ".tiff", ".vrt", ".img", ".jp2"}
_TABLES = {*PARQUET, ".geojson", ".json", ".gpkg", ".fgb", ".shp"}

Footprints = Mapping[str, Sequence[gpd.GeoSeries]]  # of each fold; the index names each polygon


def is_table(path: str | Path) -> bool:
    """Whether a name is that of a table of polygons."""
    return Path(path).suffix.lower() in _TABLES


def footprints_of_files(paths: str | Path | Sequence[str | Path]) -> list[gpd.GeoSeries]:
    """Extents of the rasters in files, folders or globs, and polygons of tables; one series a CRS.

    Raises:
        DataError: if there are none.
        GridError: if a raster has no georeference.
        RasterError: if one cannot be opened.
    """
    listed = [paths] if isinstance(paths, str | Path) else list(paths)
    files = [file for entry in listed for file in _expand(Path(entry))]
    tables = [_polygons_of(Path(file)) for file in files if is_table(file)]
    with ThreadPoolExecutor() as pool:
        extents = list(pool.map(_extent, [file for file in files if not is_table(file)]))
    by_crs: dict[str | None, dict[str, Any]] = {}
    for name, extent, crs in extents:
        by_crs.setdefault(crs, {})[name] = extent
    series = [gpd.GeoSeries(list(found.values()), list(found), crs=crs) for crs, found in by_crs.items()]
    if not series and not tables:
        raise DataError(f"{', '.join(map(str, listed))}: no rasters and no tables of polygons")
    return [*tables, *series]


def footprints_of_table(path: str | Path) -> Footprints:
    """The polygons of a table with a column `fold`.

    Raises:
        DataError: if it cannot be read, or has no such column.
    """
    table = read_table(Path(path), "fold")
    of_fold = {
        str(fold): [gpd.GeoSeries(rows.geometry.to_numpy(), _names(rows, Path(path)), crs=table.crs)]
        for fold, rows in table.groupby("fold")
    }
    return {fold: of_fold[fold] for fold in (*FOLDS, *of_fold) if fold in of_fold}


def footprints_of_sources(sources: Sequence[PatchSource], patch_size: int | None = None) -> Footprints:
    """The areas of each fold, or with `patch_size` the tiles in them at half a patch's stride, as patches would lie.

    A grid without a CRS is measured in its own units.
    """
    found: dict[str, list[gpd.GeoSeries]] = {fold: [] for fold in FOLDS}
    for source in sources:
        crs = source.geobox.crs.to_wkt() if source.geobox.crs else None
        for fold in FOLDS:
            area = source.split.area(fold)
            if area.is_empty:
                continue
            if patch_size is None:
                parts, names = list(area.geoms), [f"{fold} area {index}" for index in range(len(area.geoms))]
            else:
                view = TileView(source, fold, patch_size, max_nodata=1.0)
                row, column, height, width = view.windows.T
                parts = list(shapely.box(column, row, column + width, row + height))
                names = [view.name(index) for index in range(len(view))]
            moved = [to_coordinates(part, source.geobox) for part in parts]
            found[fold].append(gpd.GeoSeries(moved, names, crs=crs))
    return found


def measure_leaks(folds: Footprints, metres: float) -> list[Leak]:
    """Leaks between folds, measured in the first projected CRS among them, else in the UTM zone of their middle.

    Without any CRS the distance is in the units of the coordinates.

    Raises:
        GridError: if some have a CRS and some none.
        SettingsError: if fewer than two folds have places.
    """
    series = [one for group in folds.values() for one in group if len(one)]
    without = [one for one in series if one.crs is None]
    if without and len(without) < len(series):
        raise GridError(f"{without[0].index[0]}: has no CRS, but others have, so their distance is unknown")
    factor = 1.0
    if series and not without:
        crs = next((one.crs for one in series if one.crs.is_projected), None) or series[0].estimate_utm_crs()
        factor = crs.axis_info[0].unit_conversion_factor
        folds = {fold: [one.to_crs(crs) for one in group] for fold, group in folds.items()}
    places = {
        fold: Places(
            shapely.transform([part for one in group for part in one.to_numpy()], lambda points: points * factor),
            [str(name) for one in group for name in one.index],
        )
        for fold, group in folds.items()
        if sum(map(len, group))
    }
    return find_leaks(places, metres)


def _expand(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.suffix.lower() in _RASTERS)
    if glob.has_magic(str(path)) and not path.exists():
        return sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    return [path]


def _extent(path: Path) -> tuple[str, shapely.Geometry, str | None]:
    geobox = open_raster(path).geobox
    if geobox.crs is None and geobox.affine.is_identity:
        raise GridError(f"{path}: has no georeference, so its distance from others is unknown")
    height, width = geobox.shape
    crs = geobox.crs.to_wkt() if geobox.crs else None
    return str(path), to_coordinates(shapely.box(0, 0, width, height), geobox), crs


def _polygons_of(path: Path) -> gpd.GeoSeries:
    table = read_table(path)
    return gpd.GeoSeries(table.geometry.to_numpy(), _names(table, path), crs=table.crs)


def _names(table: gpd.GeoDataFrame, path: Path) -> list[str]:
    if "name" in table.columns:
        return [str(name) for name in table["name"]]
    return [f"{path.name} row {index}" for index in table.index]
