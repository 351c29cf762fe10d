"""check_split: how far apart the folds of any split are: of stores, tables of polygons or raster files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geosynth.errors import DataError, GridError, SettingsError, one_line
from geosynth.grid import parse_distance
from geosynth.grid.alignment import is_nowhere, same_pixels
from geosynth.grid.areas import boxes_of
from geosynth.grid.crs import crs_wkt, has_metres
from geosynth.grid.leakage import Leak, Places, find_leaks
from geosynth.grid.split import FOLDS
from geosynth.grid.vector import read_table, to_coordinates, to_pixels
from geosynth.grid.vector_files import VECTOR_SUFFIXES
from geosynth.inputs import as_list
from geosynth.parallel import ahead
from geosynth.raster.images import open_image
from geosynth.raster.names import files_named
from geosynth.raster.stores.open import open_sources
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.tiles import TileView

_LOG = logging.getLogger(__name__)
_STRETCHED = 0.02  # share by which metres of a CRS may differ from metres on the ground without a warning


def check_split(
    data: str | Path | PatchSource | Sequence[PatchSource] | None = None,
    *,
    folds: Mapping[str, str | Path | Sequence[str | Path]] | None = None,
    distance: float | str = 0.0,
    patch_size: int | None = None,
) -> list[Leak]:
    """Measure whether places of two folds touch, or are nearer to each other than a distance, in any split.

    Args:
        data: a store, whose areas are measured, or a table of polygons with a column `fold`.
        folds: instead of `data`: for each fold its rasters (folders, globs, files) or tables of polygons.
        distance: metres, or pixels as in "64px"; without a CRS only pixels.
        patch_size: in pixels; measure patches of this size in the store's folds instead of whole areas.

    Returns:
        one measurement for each pair of folds; those whose `num_pairs` is above zero leak.

    Raises:
        SettingsError, DataError, GridError, RasterError: one line each.
    """
    if (data is None) == (folds is None):
        raise SettingsError("a check needs either a store or table, or the rasters of each fold")
    table = data if isinstance(data, str | Path) and is_table(data) else None
    if patch_size is not None and (folds is not None or table is not None):
        raise SettingsError("of a store's folds; of rasters and tables all is measured", setting="patch_size")
    if folds is not None:
        return measure_leaks(footprints_of_files(folds), distance)
    if table is not None:
        return measure_leaks(footprints_of_table(table), distance)
    assert data is not None
    return measure_leaks(footprints_of_sources(open_sources(data), patch_size), distance)


@dataclass(frozen=True)
class Footprints:
    """The places of each fold.

    Attributes:
        folds: polygons, a series for each CRS or table, indexed by name.
        grids: of the rasters or stores, in whose pixels a distance can be given. Empty for tables.
    """

    folds: Mapping[str, Sequence[gpd.GeoSeries]]
    grids: Sequence[GeoBox] = ()


def is_table(path: str | Path) -> bool:
    """Whether this is the name of a table of polygons."""
    return Path(path).suffix.lower() in VECTOR_SUFFIXES


def footprints_of_files(folds: Mapping[str, str | Path | Sequence[str | Path]]) -> Footprints:
    """Extents of the rasters in each fold's files, folders or globs, and polygons of tables.

    Raises:
        DataError: if a fold has none.
        GridError: if a raster has no georeference.
        RasterError: if one cannot be opened.
    """
    found: dict[str, list[gpd.GeoSeries]] = {}
    grids: list[GeoBox] = []
    for fold, paths in folds.items():
        listed = as_list(paths)
        files = [Path(file) for entry in listed for file in files_named(entry, deep=True)]
        tables = [_polygons_of(file) for file in files if is_table(file)]
        rasters = [file for file in files if not is_table(file)]
        of_fold = list(ahead(_grid, rasters))
        by_crs: dict[str | None, dict[str, Any]] = {}
        for file, grid in zip(rasters, of_fold, strict=True):
            extent = to_coordinates(shapely.box(0, 0, grid.width, grid.height), grid)
            by_crs.setdefault(crs_wkt(grid.crs), {})[str(file)] = extent
        series = [gpd.GeoSeries(list(extents.values()), list(extents), crs=crs) for crs, extents in by_crs.items()]
        if not series and not tables:
            raise DataError(f"{', '.join(map(str, listed))}: no rasters and no tables of polygons")
        found[fold] = [*tables, *series]
        grids += of_fold
    return Footprints(found, grids)


def footprints_of_table(path: str | Path) -> Footprints:
    """The polygons of a table with a column `fold`.

    Raises:
        DataError: if it cannot be read, or has no such column.
    """
    table = read_table(Path(path), "fold")
    of_fold = {
        str(fold): [gpd.GeoSeries(rows.geometry.to_numpy(), _names(rows, Path(path)), crs=table.crs)]
        for fold, rows in table.groupby(table["fold"].map(str, na_action="ignore"))  # even a list can be a name
    }
    return Footprints({fold: of_fold[fold] for fold in (*FOLDS, *of_fold) if fold in of_fold})


def footprints_of_sources(sources: Sequence[PatchSource], patch_size: int | None = None) -> Footprints:
    """The areas of each fold, or with `patch_size` its tiles at a stride of half a patch, where patches could be."""
    found: dict[str, list[gpd.GeoSeries]] = {fold: [] for fold in FOLDS}
    for source in sources:
        for fold in FOLDS:
            area = source.split.area(fold)
            if area.is_empty:
                continue
            if patch_size is None:
                parts = shapely.get_parts(area)
                names = [f"{fold} area {index}" for index in range(len(parts))]
            else:
                view = TileView(source, fold, patch_size, max_nodata=1.0)
                parts = boxes_of(view.windows)
                names = [view.name(index) for index in range(len(view))]
            found[fold].append(
                gpd.GeoSeries(to_coordinates(parts, source.geobox), names, crs=crs_wkt(source.geobox.crs))
            )
    if patch_size is not None and not any(len(part) for parts in found.values() for part in parts):
        raise SettingsError(f"no fold holds a patch of {patch_size} px; choose smaller patches", setting="patch_size")
    return Footprints(found, [source.geobox for source in sources])


def measure_leaks(found: Footprints, distance: float | str = 0.0) -> list[Leak]:
    """Measure the leaks between folds.

    Metres are measured in the first CRS of the places that has them, else in the UTM zone of their centre; a warning
    says so if they are not metres on the ground, as in Web Mercator. Pixels are measured in the grid of the rasters.
    Without any CRS the unit is the pixel, or for tables the unit of their coordinates.

    Args:
        found: the places.
        distance: metres, or pixels as in "64px".

    Raises:
        GridError: if only some places have a CRS; if metres are asked for without a CRS, or pixels without a common
            grid; if no CRS of the places has metres and there is no UTM zone, as near the poles.
        SettingsError: if the distance is neither, or if fewer than two folds have places.
    """
    number, unit = parse_distance(distance, "distance")
    series = [one for group in found.folds.values() for one in group if len(one)]
    without = [one for one in series if one.crs is None]
    if without and len(without) < len(series):
        raise GridError(f"{without[0].index[0]}: has no CRS, but others have, so their distance is unknown")
    if without and unit == "m" and number:
        remedy = "give pixels, as in 64px" if found.grids else "assign the right one"
        what = f"{without[0].index[0]} has no CRS, so metres mean nothing here; {remedy}"
        raise GridError(what, setting="distance")
    if unit == "px" or (without and found.grids):
        return find_leaks(_in_pixels(found), number, "px")
    return find_leaks(_in_metres(found), number, "" if without else "m")


def _in_pixels(found: Footprints) -> dict[str, Places]:
    """The places as (column, row) of the common grid of all rasters."""
    if not found.grids:
        raise GridError("tables of polygons have no pixels; give metres, as in 200", setting="distance")
    grid = found.grids[0]
    if not all(same_pixels(grid, other) for other in found.grids):
        what = "the rasters' pixels differ in CRS, size or orientation; a CRS and metres are needed"
        raise GridError(what, setting="distance")
    crs = crs_wkt(grid.crs)
    moved = {fold: [one if crs is None else one.to_crs(crs) for one in group] for fold, group in found.folds.items()}
    return _places(moved, lambda polygons: to_pixels(polygons, grid))


def _in_metres(found: Footprints) -> dict[str, Places]:
    """The places in a CRS that has metres; unchanged if they have no CRS."""
    series = [one for group in found.folds.values() for one in group if len(one)]
    if not series or series[0].crs is None:
        return _places(found.folds, lambda polygons: polygons)
    try:
        crs = next((one.crs for one in series if has_metres(CRS(one.crs))), None) or series[0].estimate_utm_crs()
        moved = {fold: [one.to_crs(crs) for one in group] for fold, group in found.folds.items()}
    except RuntimeError as error:  # no UTM zone near the poles, or a place not on Earth
        name = series[0].index[0]
        raise GridError(f"distance: {name}: {one_line(error)}; bring all places to one projected CRS") from error
    factor = crs.axis_info[0].unit_conversion_factor
    _warn_of_stretching(crs, np.concatenate([one.to_numpy() for group in moved.values() for one in group]))
    return _places(moved, lambda polygons: shapely.transform(polygons, lambda points: points * factor))


def _warn_of_stretching(crs: Any, places: npt.NDArray[Any]) -> None:
    """Warn if a metre of `crs`, northwards from the middle of any place, is far from a metre on the ground."""
    if crs.is_engineering:  # no way leads from it to the Earth, and its metres are those on the ground
        return
    middles = shapely.get_coordinates(shapely.centroid(places))
    lines = gpd.GeoSeries.from_xy(*np.concatenate([middles, middles + np.array([0, 1])]).T, crs=crs).to_crs(4326)
    (x, to_x), (y, to_y) = (np.split(axis.to_numpy(), 2) for axis in (lines.x, lines.y))
    *_, ground = crs.get_geod().inv(x, y, to_x, to_y)
    ground = ground[np.isfinite(ground)] / crs.axis_info[0].unit_conversion_factor
    worst = max(ground, key=lambda metres: abs(metres - 1), default=1.0)
    if abs(worst - 1) > _STRETCHED:
        _LOG.warning(
            "%s: its metres, in which distances are told, are %.2f m on the ground where that differs most",
            crs.name,
            worst,
        )


def _places(folds: Mapping[str, Sequence[gpd.GeoSeries]], change: Callable[[Any], Any]) -> dict[str, Places]:
    """The places of folds that have any, with `change` applied to the polygons."""
    return {
        fold: Places(
            change(np.array([part for one in group for part in one.to_numpy()])),
            [str(name) for one in group for name in one.index],
        )
        for fold, group in folds.items()
        if sum(map(len, group))
    }


def _grid(path: Path) -> GeoBox:
    geobox = open_image(path).geobox
    if is_nowhere(geobox):
        raise GridError(f"{path}: has no georeference, so its distance from others is unknown")
    return geobox


def _polygons_of(path: Path) -> gpd.GeoSeries:
    table = read_table(path)
    return gpd.GeoSeries(table.geometry.to_numpy(), _names(table, path), crs=table.crs)


def _names(table: gpd.GeoDataFrame, path: Path) -> list[str]:
    if "name" in table.columns:
        return [str(name) for name in table["name"]]
    return [f"{path.name} row {index}" for index in table.index]
