"""split and check_split: give the pixels of a store to train, val and test, and measure how far folds are apart."""

from __future__ import annotations

import csv
import glob
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import geopandas as gpd
import numpy as np
import numpy.typing as npt
import shapely
from odc.geo.geobox import GeoBox

from geosynth.errors import DataError, GridError, SettingsError
from geosynth.files import check_output
from geosynth.grid import SpatialSplit, Window, buffer_pixels, parse_distance
from geosynth.grid.alignment import same_pixels
from geosynth.grid.groups import blocks_over
from geosynth.grid.leakage import Leak, Places, find_leaks
from geosynth.grid.split import FOLDS, SHARES, load_split, part_neighbours
from geosynth.grid.vector import PARQUET, check_suffix, read_table, to_coordinates, to_pixels
from geosynth.raster.read import RASTER_SUFFIXES, open_raster
from geosynth.raster.stores.in_place import open_sources
from geosynth.raster.stores.source import PatchSource, Progress
from geosynth.raster.stores.store import Store
from geosynth.raster.stores.tiles import TileView

# --- Where tiles lie: footprints of raster files, tables of polygons, and folds of stores, brought into one unit.

_TABLES = {*PARQUET, ".geojson", ".json", ".gpkg", ".fgb", ".shp"}


@dataclass(frozen=True)
class Footprints:
    """The places of each fold.

    Attributes:
        folds: polygons, one series a CRS or table; the index names each.
        grids: whose pixels a distance may be counted in: those of the rasters or stores. None for tables.
    """

    folds: Mapping[str, Sequence[gpd.GeoSeries]]
    grids: Sequence[GeoBox] = ()


def is_table(path: str | Path) -> bool:
    """Whether a name is that of a table of polygons."""
    return Path(path).suffix.lower() in _TABLES


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
        listed = [paths] if isinstance(paths, str | Path) else list(paths)
        files = [file for entry in listed for file in _expand(Path(entry))]
        tables = [_polygons_of(Path(file)) for file in files if is_table(file)]
        rasters = [file for file in files if not is_table(file)]
        with ThreadPoolExecutor() as pool:
            of_fold = list(pool.map(_grid, rasters))
        by_crs: dict[str | None, dict[str, Any]] = {}
        for file, grid in zip(rasters, of_fold, strict=True):
            extent = to_coordinates(shapely.box(0, 0, grid.width, grid.height), grid)
            by_crs.setdefault(grid.crs.to_wkt() if grid.crs else None, {})[str(file)] = extent
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
        for fold, rows in table.groupby("fold")
    }
    return Footprints({fold: of_fold[fold] for fold in (*FOLDS, *of_fold) if fold in of_fold})


def footprints_of_sources(sources: Sequence[PatchSource], patch_size: int | None = None) -> Footprints:
    """The areas of each fold, or with `patch_size` the tiles in them at half a patch's stride, as patches would lie."""
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
    return Footprints(found, [source.geobox for source in sources])


def measure_leaks(found: Footprints, distance: float | str = 0.0) -> list[Leak]:
    """Leaks between folds.

    Metres are measured in the first projected CRS among them, else in the UTM zone of their middle; pixels in the grid
    of the rasters. Without any CRS the unit is the pixel, or, of tables, that of their coordinates.

    Args:
        found: the places.
        distance: metres, or pixels as in "64px".

    Raises:
        GridError: if some have a CRS and some none; if metres are asked for where there is no CRS, or pixels where
            there is no one grid.
        SettingsError: if the distance is neither, or fewer than two folds have places.
    """
    number, unit = parse_distance(distance, "distance")
    series = [one for group in found.folds.values() for one in group if len(one)]
    without = [one for one in series if one.crs is None]
    if without and len(without) < len(series):
        raise GridError(f"{without[0].index[0]}: has no CRS, but others have, so their distance is unknown")
    if without and unit == "m" and number:
        remedy = "say pixels, as in 64px" if found.grids else "assign the right one"
        raise GridError(f"distance: {without[0].index[0]} has no CRS, so metres mean nothing here; {remedy}")
    if unit == "px" or (without and found.grids):
        return find_leaks(_in_pixels(found), number, "px")
    return find_leaks(_in_metres(found), number, "" if without else "m")


def _in_pixels(found: Footprints) -> dict[str, Places]:
    """As (column, row) of the one grid of all rasters."""
    if not found.grids:
        raise GridError("distance: tables of polygons have no pixels; say metres, as in 200")
    grid = found.grids[0]
    if not all(same_pixels(grid, other) for other in found.grids):
        raise GridError("distance: the rasters' pixels differ in CRS, size or orientation; a CRS and metres are needed")
    crs = grid.crs.to_wkt() if grid.crs else None
    moved = {fold: [one if crs is None else one.to_crs(crs) for one in group] for fold, group in found.folds.items()}
    return _places(moved, lambda polygons: to_pixels(polygons, grid))


def _in_metres(found: Footprints) -> dict[str, Places]:
    """In a projected CRS; as they are if they have none."""
    series = [one for group in found.folds.values() for one in group if len(one)]
    if not series or series[0].crs is None:
        return _places(found.folds, lambda polygons: polygons)
    crs = next((one.crs for one in series if one.crs.is_projected), None) or series[0].estimate_utm_crs()
    factor = crs.axis_info[0].unit_conversion_factor
    moved = {fold: [one.to_crs(crs) for one in group] for fold, group in found.folds.items()}
    return _places(moved, lambda polygons: shapely.transform(polygons, lambda points: points * factor))


def _places(folds: Mapping[str, Sequence[gpd.GeoSeries]], change: Callable[[Any], Any]) -> dict[str, Places]:
    """The folds that have any, their polygons changed."""
    return {
        fold: Places(
            change(np.array([part for one in group for part in one.to_numpy()])),
            [str(name) for one in group for name in one.index],
        )
        for fold, group in folds.items()
        if sum(map(len, group))
    }


def _expand(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.suffix.lower() in RASTER_SUFFIXES)
    if glob.has_magic(str(path)) and not path.exists():
        return sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    return [path]


def _grid(path: Path) -> GeoBox:
    geobox = open_raster(path).geobox
    if geobox.crs is None and geobox.affine.is_identity:
        raise GridError(f"{path}: has no georeference, so its distance from others is unknown")
    return geobox


def _polygons_of(path: Path) -> gpd.GeoSeries:
    table = read_table(path)
    return gpd.GeoSeries(table.geometry.to_numpy(), _names(table, path), crs=table.crs)


def _names(table: gpd.GeoDataFrame, path: Path) -> list[str]:
    if "name" in table.columns:
        return [str(name) for name in table["name"]]
    return [f"{path.name} row {index}" for index in table.index]


By = Literal["blocks", "clusters", "polygons", "scenes"]

_LOG = logging.getLogger(__name__)


def split(
    data: str | Path | Sequence[PatchSource],
    *,
    by: By = "blocks",
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    buffer: float | str = 0.0,
    block_size: int = 1024,
    stratify: bool = True,
    polygons: str | Path | None = None,
    scenes: str | Path | Mapping[str, str] | None = None,
    out: str | Path | None = None,
    keep: bool = True,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Split a store (or each store of several CRSs) into folds by place, and say what each fold got.

    Args:
        data: a store, a folder of stores, or sources opened already.
        by: "blocks" of `block_size` pixels; "clusters" of touching scenes (of one CRS); "polygons" of a file with a
            column `fold`; or "scenes", listed by name.
        shares: of the pixels, for train, val and test; of blocks and clusters.
        seed: of the choice of blocks and clusters.
        buffer: what is left out between folds: metres (rounded up to whole pixels), or pixels as in "64px".
        block_size: pixels; several times the buffer, or little is left of a block.
        stratify: whether each fold gets its share of each class, not only of all pixels; of blocks and clusters.
        polygons: file of polygons, in any CRS.
        scenes: a CSV file with columns `scene` and `fold`, or a mapping of scene names to folds.
        out: also write the split as a table of polygons (.parquet, .gpkg, .geojson). With several stores, one file
            each, named after it.
        keep: write the split into the store; False leaves the store as it was.
        overwrite: replace files at `out`.
        progress: told steps done and steps in all.

    Returns:
        The split and, for each store, pixels and class shares of each fold as it came out, as plain values.

    Raises:
        SettingsError, DataError, GridError, OutputError: one line each.
    """
    sources = list(open_sources(data)) if isinstance(data, str | Path) else list(data)
    files = _files(sources, None if out is None else Path(out), overwrite)
    if keep and not all(isinstance(source, Store) for source in sources):
        raise SettingsError(f"{data}: is read in place and cannot keep a split; give --out and --file-only")
    if (polygons is None) == (by == "polygons") or (scenes is None) == (by == "scenes"):
        raise SettingsError("a split by polygons needs a file of them, one by scenes a list of them, others neither")
    listed = {} if scenes is None else _read_folds(sources, scenes)
    splits = []
    for source in sources:
        pixels = buffer_pixels(buffer, source.geobox)
        if by == "polygons":
            splits.append(load_split(Path(str(polygons)), source.geobox, _windows(source), buffer=pixels or None))
        elif by == "scenes":
            splits.append(SpatialSplit.by_scenes(_listed(source, listed), buffer=pixels))
        elif by == "clusters":
            found = _count(source, _windows(source), progress) if stratify else None
            splits.append(SpatialSplit.by_clusters(_windows(source), shares, seed, buffer=pixels, class_pixels=found))
        elif by == "blocks":
            found = _count(source, blocks_over(_windows(source), block_size), progress) if stratify else None
            splits.append(
                SpatialSplit.by_blocks(_windows(source), block_size, shares, seed, buffer=pixels, class_pixels=found)
            )
        else:
            raise SettingsError(f"split by {by!r}: blocks, clusters, polygons or scenes")
    if all(area.is_empty for chosen in splits for area in chosen.areas):
        raise DataError(f"{polygons or scenes}: gives no scene to a fold")
    splits = part_neighbours([source.geobox for source in sources], splits)
    described = []
    for source, chosen, file in zip(sources, splits, files, strict=True):
        if file is not None:
            chosen.save(file, source.geobox)
        if keep and isinstance(source, Store):
            source.set_split(chosen, progress)
            described.append(_describe(source, file))
        else:
            divided = source.with_split(chosen)
            divided.class_pixels("all", progress)
            described.append(_describe(divided, file))
    return {"by": by, "seed": seed, "stores": described}


def check_split(
    data: str | Path | Sequence[PatchSource] | None = None,
    *,
    folds: Mapping[str, str | Path | Sequence[str | Path]] | None = None,
    distance: float | str = 0.0,
    patch_size: int | None = None,
) -> list[Leak]:
    """Measure whether places of two folds touch or lie nearer to each other than a distance, in any split.

    Args:
        data: a store (its areas are measured), or a table of polygons with a column `fold`.
        folds: instead: rasters of each fold (folders, globs, files), or tables of polygons.
        distance: metres, or pixels as in "64px"; without a CRS pixels only.
        patch_size: measure patches of this size in the store's folds instead of whole areas.

    Returns:
        One measurement for each pair of folds; those with `num_pairs` above zero leak.

    Raises:
        SettingsError, DataError, GridError, RasterError: one line each.
    """
    if (data is None) == (folds is None):
        raise SettingsError("a check needs either a store or table, or the rasters of each fold")
    if folds is not None:
        return measure_leaks(footprints_of_files(folds), distance)
    if isinstance(data, str | Path) and is_table(data):
        return measure_leaks(footprints_of_table(data), distance)
    sources = open_sources(data) if isinstance(data, str | Path) else list(data or ())
    return measure_leaks(footprints_of_sources(sources, patch_size), distance)


def _windows(source: PatchSource) -> list[Window]:
    return [scene.window for scene in source.scenes]


def _count(source: PatchSource, windows: Sequence[Window], progress: Progress) -> npt.NDArray[np.int64]:
    """(windows, classes): pixels of each class, whatever their fold."""
    return source.count_classes(windows, progress)[:, -1]


def _listed(source: PatchSource, listed: Mapping[str, str]) -> dict[str, list[Window]]:
    """Windows of the scenes of each fold."""
    chosen: dict[str, list[Window]] = {}
    for scene in source.scenes:
        fold = listed.get(scene.name, listed.get(Path(scene.name).stem))
        if fold is not None:
            chosen.setdefault(fold, []).append(scene.window)
    return chosen


def _read_folds(sources: Sequence[PatchSource], scenes: str | Path | Mapping[str, str]) -> Mapping[str, str]:
    """Scene to fold; a scene may be named with or without suffix."""
    listed = scenes if isinstance(scenes, Mapping) else _read_list(Path(scenes))
    every = [scene.name for source in sources for scene in source.scenes]
    unknown = sorted(set(listed) - {*every, *(Path(name).stem for name in every)})
    if unknown:
        raise DataError(f"no scene is called {', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}")
    without = [name for name in every if name not in listed and Path(name).stem not in listed]
    if without:
        _LOG.warning("%d of %d scenes are in no fold, as %s", len(without), len(every), without[0])
    return listed


def _read_list(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV: {error}") from error
    if not rows or not {"scene", "fold"} <= set(rows[0]):
        raise DataError(f"{path}: needs columns scene and fold, and a row for each scene")
    return {row["scene"].strip(): row["fold"].strip() for row in rows}


def _files(sources: Sequence[PatchSource], out: Path | None, overwrite: bool) -> list[Path | None]:
    if out is None:
        return [None] * len(sources)
    check_suffix(out)
    several = len(sources) > 1
    files = [out.with_name(f"{out.stem}_{Path(s.path).stem}{out.suffix}") if several else out for s in sources]
    for file in files:
        check_output(file, overwrite=overwrite)
    return list(files)


def _describe(source: PatchSource, file: Path | None) -> dict[str, Any]:
    """What each fold of a source got, and under "none" what is in no fold."""
    counts = {fold: np.array(source.class_pixels(fold)) for fold in FOLDS}
    every = np.array(source.class_pixels("all"))
    counts["none"] = every - sum(counts.values())
    folds = {}
    for fold, of_fold in counts.items():
        shares = (of_fold / max(1, of_fold.sum())).tolist()
        folds[fold] = {
            "pixels": int(of_fold.sum()),
            "share": float(of_fold.sum() / max(1, every.sum())),
            "class_shares": dict(zip(source.legend.names, shares, strict=True)),
        }
    return {"path": source.path, "file": str(file) if file else None, "buffer_px": source.split.buffer, "folds": folds}
