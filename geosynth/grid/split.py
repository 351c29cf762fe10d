"""SpatialSplit: the areas of train, val and test on a pixel grid, separated by a buffer.

Splits are saved as tables of polygons, which open in QGIS; polygons drawn there can be loaded as splits.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely
from odc.geo.geobox import GeoBox

from geosynth.errors import DataError, GridError, SettingsError, counted, first_of
from geosynth.grid.areas import INSET, boxes_of, clean_polygons, cut_near, quarters
from geosynth.grid.crs import crs_wkt
from geosynth.grid.groups import allocate, blocks_over, cut_by_blocks, pixels_of, touching_groups
from geosynth.grid.vector import read_table, reprojected, to_coordinates, to_pixels, write_table
from geosynth.grid.window import Window, as_array

if TYPE_CHECKING:
    import geopandas as gpd

FOLDS = ("train", "val", "test")
SHARES = (0.7, 0.1, 0.2)

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class SpatialSplit:
    """Which pixels belong to which fold.

    Areas are polygons in pixel coordinates of one grid: x is the column, y the row, and the first pixel extends from
    (0, 0) to (1, 1). A pixel belongs to a fold if it is entirely in the fold's area. No pixels of two folds are nearer
    to each other than `buffer`, edge to edge; the pixels that val and train lose by that are in no fold.
    """

    areas: tuple[shapely.MultiPolygon, shapely.MultiPolygon, shapely.MultiPolygon]
    """Areas of train, val and test, in this order; empty for a fold that is not used."""
    buffer: int = 0
    """Pixels between folds."""
    _of_thread: threading.local = field(default_factory=threading.local, init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return SpatialSplit, (self.areas, self.buffer)

    @classmethod
    def none(cls) -> SpatialSplit:
        """A split without any pixel in a fold."""
        nothing = shapely.MultiPolygon()
        return cls((nothing, nothing, nothing))

    @staticmethod
    def check_shares(shares: Sequence[float]) -> npt.NDArray[np.floating]:
        """Shares of train, val and test in any unit, scaled to sum one.

        Raises:
            SettingsError: if shares are negative, all zero, or not three.
        """
        if len(shares) != len(FOLDS) or not min(shares) >= 0 or not 0 < sum(shares) < np.inf:
            what = f"three numbers, each 0 or more, for {', '.join(FOLDS)}; got {tuple(shares)}"
            raise SettingsError(what, setting="shares")
        return np.asarray(shares) / sum(shares)

    @classmethod
    def by_clusters(
        cls,
        windows: Sequence[Window],
        shares: Sequence[float] = SHARES,
        seed: int = 0,
        *,
        buffer: int = 0,
        class_pixels: npt.ArrayLike | None = None,
    ) -> SpatialSplit:
        """Assign whole clusters of scenes that touch or overlap to folds, so that neighbours are never separated.

        Args:
            windows: of the scenes, on one grid; they may overlap.
            shares: of the pixels, for train, val and test; in any unit.
            seed: of the order in which clusters are assigned.
            buffer: pixels between folds.
            class_pixels: (scenes, classes), to give each fold its share of each class; None for a share of all pixels.

        Raises:
            SettingsError: if shares are negative, all zero, or not three; or if the buffer is negative.
            DataError: if there are fewer clusters than folds with a share, or if the buffer leaves a fold empty.
        """
        wanted = cls.check_shares(shares)
        clusters = touching_groups(windows)
        groups = [[windows[index] for index in cluster] for cluster in clusters]
        if class_pixels is None:
            sums = pixels_of(groups)
        else:
            of_scenes = np.asarray(class_pixels)
            sums = np.array([of_scenes[cluster].sum(axis=0) for cluster in clusters])
        return cls._by_groups(groups, sums, wanted, seed, buffer, "separate scene cluster")

    @classmethod
    def by_blocks(
        cls,
        windows: Sequence[Window],
        block_size: int,
        shares: Sequence[float] = SHARES,
        seed: int = 0,
        *,
        buffer: int = 0,
        class_pixels: npt.ArrayLike | None = None,
    ) -> SpatialSplit:
        """Assign square blocks to folds, which may divide a scene.

        Blocks are on the lattice of `block_size` from the grid's first pixel; pixels outside all scenes are in no fold.
        The buffer is cut from train and val blocks, so blocks should be several times as large.

        Args:
            windows: of the scenes, on one grid; they may overlap.
            block_size: in pixels.
            shares: of the pixels, for train, val and test; in any unit. The buffer then takes most from train.
            seed: of the order in which blocks are assigned.
            buffer: pixels between folds.
            class_pixels: (blocks, classes) in the order of `blocks_over(windows, block_size)`, to give each fold its
                share of each class; None for a share of all pixels.

        Raises:
            SettingsError: if shares are negative, all zero, or not three; or if a size is not positive.
            DataError: if there are fewer blocks than folds with a share, or if the buffer leaves a fold empty.
        """
        wanted = cls.check_shares(shares)
        if block_size < 1:
            raise SettingsError(f"must be 1 px or more, got {block_size}", setting="block_size")
        blocks = blocks_over(windows, block_size)
        groups = cut_by_blocks(windows, blocks, block_size)
        pixels = pixels_of(groups) if class_pixels is None else np.asarray(class_pixels)
        if len(pixels) != len(blocks):
            raise SettingsError(f"class pixels of {len(pixels)} blocks were given for {len(blocks)} blocks")
        kept = np.flatnonzero((pixels > 0).any(axis=1))  # blocks without data need no fold
        groups = [groups[index] for index in kept]
        return cls._by_groups(groups, pixels[kept], wanted, seed, buffer, "block")

    @classmethod
    def by_scenes(cls, windows: Mapping[str, Sequence[Window]], *, buffer: int = 0) -> SpatialSplit:
        """A split by the scenes of each fold; where they overlap, test takes precedence over val, and val over train.

        Raises:
            SettingsError: if a fold has another name, or if the buffer is negative.
            DataError: if the buffer, or overlap, leaves a fold empty.
        """
        return cls.by_polygons(
            {fold: shapely.unary_union(boxes_of(as_array(scenes))) for fold, scenes in windows.items()}, buffer=buffer
        )

    @classmethod
    def by_polygons(
        cls,
        polygons: Mapping[str, shapely.Geometry],
        windows: Sequence[Window] | None = None,
        *,
        buffer: int = 0,
    ) -> SpatialSplit:
        """A split by polygons; where they overlap, test takes precedence over val, and val over train.

        Args:
            polygons: of each fold, in pixel coordinates (x = column, y = row).
            windows: of the scenes; pixels outside them are in no fold. None for no limit.
            buffer: pixels between folds.

        Raises:
            SettingsError: if a fold has another name, or if the buffer is negative.
            DataError: if overlap or the buffer leaves a fold empty.
        """
        unknown = sorted(set(polygons) - set(FOLDS))
        if unknown:
            raise SettingsError(f"fold {', '.join(unknown)}: the folds are {', '.join(FOLDS)}")
        if buffer < 0:
            raise SettingsError(f"must be 0 px or more, got {buffer}", setting="buffer")
        given = [clean_polygons(polygons.get(fold, shapely.MultiPolygon())) for fold in FOLDS]
        inside = None if windows is None else shapely.unary_union(boxes_of(as_array(windows)))
        areas = [area if inside is None else clean_polygons(area & inside) for area in given]
        for fold, before, area in zip(FOLDS, given, areas, strict=True):
            if area.is_empty and not before.is_empty:
                _LOG.warning("fold %s has no pixel of a scene on this grid", fold)
        apart = _separate(areas, buffer)
        lacking = [
            fold for fold, old, new in zip(FOLDS, areas, apart, strict=True) if new.is_empty and not old.is_empty
        ]
        if lacking:
            raise DataError(
                f"a buffer of {buffer} px leaves fold {', '.join(lacking)} nothing;"
                " take a smaller buffer, larger blocks or places further apart"
            )
        train, val, test = apart
        return cls((train, val, test), buffer)

    def away_from(self, foreign: Mapping[str, shapely.Geometry]) -> SpatialSplit:
        """This split without the parts that are within `buffer` of another grid's folds.

        Args:
            foreign: areas of the other grid's folds, in pixel coordinates of this grid. Val loses what is near a
                foreign test area, train what is near a foreign val or test area. One pixel and two thousandths are
                added to the buffer, since two projections do not agree on lengths.

        Raises:
            DataError: if nothing is left of a fold.
        """
        test, val = (clean_polygons(foreign.get(fold, shapely.MultiPolygon())) for fold in ("test", "val"))
        if test.is_empty and val.is_empty:
            return self
        reach = math.ceil(self.buffer * 1.002) + 1
        cut = dict(zip(FOLDS, self.areas, strict=True))
        cut["val"] = cut_near(cut["val"], test, reach)
        cut["train"] = cut_near(cut["train"], clean_polygons(val | test), reach)
        for fold in FOLDS:
            if cut[fold].is_empty and not self.area(fold).is_empty:
                raise DataError(f"fold {fold} lies wholly within the buffer of folds of a neighbouring grid")
        return SpatialSplit.by_polygons(cut, buffer=self.buffer)

    @classmethod
    def _by_groups(
        cls,
        groups: list[list[Window]],
        pixels: npt.NDArray[np.floating],
        wanted: npt.NDArray[np.floating],
        seed: int,
        buffer: int,
        kind: str,
    ) -> SpatialSplit:
        folds = np.flatnonzero(wanted)
        if len(groups) < len(folds):
            lacking = ", ".join(FOLDS[fold] for fold in folds[len(groups) :])
            raise DataError(
                f"none left for fold {lacking}, of {counted(len(groups), kind)} in all; give that fold a share of 0,"
                " or more places"
            )
        chosen = folds[allocate(pixels, wanted[folds], seed)]
        members: dict[str, list[Window]] = {FOLDS[fold]: [] for fold in folds}
        for group, fold in zip(groups, chosen, strict=True):
            members[FOLDS[fold]] += group
        return cls.by_scenes(members, buffer=buffer)

    def area(self, fold: str) -> shapely.MultiPolygon:
        """The area of a fold, in pixel coordinates.

        Raises:
            SettingsError: if there is no such fold.
        """
        return self.areas[_position(fold)]

    def _indexed(self, fold: str) -> shapely.MultiPolygon:
        """The area, prepared for many queries; a copy for each thread, as GEOS writes into prepared geometries."""
        if not hasattr(self._of_thread, "areas"):
            copies = shapely.from_wkb(shapely.to_wkb(self.areas))
            shapely.prepare(copies)
            self._of_thread.areas = copies
        indexed: shapely.MultiPolygon = self._of_thread.areas[_position(fold)]
        return indexed

    def holds(self, window: Window, fold: str) -> bool:
        """Whether all pixels of a window belong to the fold."""
        return bool(shapely.covers(self._indexed(fold), boxes_of(as_array([window]), INSET)[0]))

    def holds_each(self, windows: npt.NDArray[np.integer[Any]], fold: str) -> npt.NDArray[np.bool_]:
        """`holds` for many windows, (n, 4) with row, column, height and width."""
        held: npt.NDArray[np.bool_] = shapely.covers(self._indexed(fold), boxes_of(windows, INSET))
        return held

    def meets(self, window: Window, fold: str) -> bool:
        """Whether a part of a window is in the fold's area."""
        return bool(shapely.intersects(self._indexed(fold), boxes_of(as_array([window]), INSET)[0]))

    def fold_of(self, window: Window) -> str | None:
        """The fold to which all pixels of a window belong; None if there is none."""
        return next((fold for fold in FOLDS if self.holds(window, fold)), None)

    def mask(self, window: Window, fold: str) -> npt.NDArray[np.bool_]:
        """Which pixels belong to the fold, (height, width); a window is quartered as long as its pixels differ."""
        area = self._indexed(fold)
        mask = np.zeros((window.height, window.width), dtype=bool)
        parts = as_array([window])
        while len(parts):
            boxes = boxes_of(parts, INSET)
            inside = shapely.covers(area, boxes)
            for row, column, height, width in parts[inside] - (window.row, window.column, 0, 0):
                mask[row : row + height, column : column + width] = True
            mixed = ~inside & (parts[:, 2:].max(axis=1) > 1)
            mixed[mixed] = shapely.intersects(area, boxes[mixed])
            parts = quarters(parts[mixed])
        return mask

    def to_values(self) -> dict[str, Any]:
        """The split as plain values for JSON, with areas as WKT."""
        areas = {
            fold: shapely.to_wkt(area, rounding_precision=-1) for fold, area in zip(FOLDS, self.areas, strict=True)
        }
        return {"buffer": self.buffer, **areas}

    @classmethod
    def from_values(cls, values: Mapping[str, Any]) -> SpatialSplit:
        """The inverse of `to_values`."""
        train, val, test = (shapely.from_wkt(str(values[fold])) for fold in FOLDS)
        return cls((train, val, test), values["buffer"])

    def save(self, path: str | Path, geobox: GeoBox, name: str | None = None) -> None:
        """Write a row for each polygon: `fold`, `buffer` (pixels), `pixels` (its area) and geometry in the grid's CRS.

        GeoParquet (.parquet) and GeoPackage (.gpkg) keep the CRS of the grid; GeoJSON is in longitude and latitude,
        where a straight edge of the grid is not quite straight: its corners are exact, points between them are not.
        `load` returns the same split from each format, since it uses only corners.

        Args:
            path: of the file.
            geobox: the grid.
            name: of the table; None for the file's name without suffix.

        Raises:
            OutputError: if the suffix is unknown, or the file cannot be written.
        """
        import geopandas as gpd

        parts, folds = shapely.get_parts(self.areas, return_index=True)
        table = gpd.GeoDataFrame(
            {"fold": [FOLDS[fold] for fold in folds], "buffer": self.buffer, "pixels": shapely.area(parts)},
            geometry=to_coordinates(parts, geobox),
            crs=crs_wkt(geobox.crs),
        )
        write_table(table, Path(path), name)

    @classmethod
    def load(
        cls, path: str | Path, geobox: GeoBox, windows: Sequence[Window] | None = None, buffer: int | None = None
    ) -> SpatialSplit:
        """Read polygons with a column `fold` (train, val or test), in any CRS, as a split of a grid.

        Polygons in another CRS are reprojected by their vertices, with a warning.

        Args:
            path: GeoParquet, GeoPackage, GeoJSON or another vector file that GDAL reads.
            geobox: the grid.
            windows: of the scenes; pixels outside them are in no fold. None for no limit.
            buffer: pixels between folds; None for the value in the file's column `buffer`, else 0.

        Raises:
            DataError: if the file cannot be read, a fold has another name, or the buffer leaves a fold empty.
            GridError: if only one of file and grid has a CRS.
        """
        table = read_table(Path(path), "fold")
        if not len(table):
            raise DataError(f"{path}: holds no polygon")
        unknown = sorted({str(fold) for fold in table["fold"]} - set(FOLDS))
        if unknown:
            raise DataError(f"{path}: fold {first_of(unknown, 5)}; the folds are {', '.join(FOLDS)}")
        table = _in_crs_of(geobox, table, Path(path))
        if not np.isfinite(shapely.get_coordinates(table.geometry.to_numpy())).all():
            raise DataError(f"{path}: has polygons without a place on the grid: their coordinates are not finite")
        valid = shapely.make_valid(to_pixels(table.geometry.to_numpy(), geobox))
        polygons = {fold: shapely.union_all(valid[(table["fold"] == fold).to_numpy()]) for fold in FOLDS}
        for one, other in itertools.combinations(FOLDS, 2):
            if (shared := (polygons[one] & polygons[other]).area) >= 1:
                _LOG.warning(
                    "%s: polygons of %s and %s overlap in %d px, which go to %s", path, one, other, shared, other
                )
        if buffer is None:
            buffer = _buffer_of(table, Path(path))
        return cls.by_polygons(polygons, windows, buffer=buffer)


def part_neighbours(grids: Sequence[GeoBox], splits: Sequence[SpatialSplit]) -> list[SpatialSplit]:
    """Cut from each grid's train and val the parts near another grid's folds, as at the border of two UTM zones."""
    parted = []
    for place, (grid, own) in enumerate(zip(grids, splits, strict=True)):
        near: dict[str, list[shapely.Geometry]] = {fold: [] for fold in FOLDS}
        for other, (foreign, split) in enumerate(zip(grids, splits, strict=True)):
            if other != place and foreign.crs and grid.crs:
                for fold in FOLDS:
                    near[fold].append(_moved(split.area(fold), foreign, grid))
        parted.append(own.away_from({fold: shapely.unary_union(areas) for fold, areas in near.items()}))
    return parted


def _position(fold: str) -> int:
    if fold not in FOLDS:
        raise SettingsError(f"fold {fold!r}: the folds are {', '.join(FOLDS)}")
    return FOLDS.index(fold)


def _separate(areas: list[shapely.MultiPolygon], buffer: int) -> list[shapely.MultiPolygon]:
    """Cut from val the parts near test, and from train the parts near either."""
    train, val, test = areas
    val = cut_near(val, test, buffer)
    train = cut_near(train, clean_polygons(val | test), buffer)
    return [train, val, test]


def _buffer_of(table: gpd.GeoDataFrame, path: Path) -> int:
    if "buffer" not in table.columns:
        return 0
    try:
        buffer = int(table["buffer"].max())
    except (ValueError, TypeError, OverflowError) as error:  # text, missing, infinite
        raise DataError(f"{path}: its column buffer holds no whole pixels") from error
    return buffer


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
    return table.set_geometry(reprojected(table.geometry.to_numpy(), table.crs, wanted))


def _moved(area: shapely.Geometry, start: GeoBox, end: GeoBox) -> shapely.Geometry:
    # A straight edge is not straight in another projection; over a kilometre, the error is millimetres.
    dense = shapely.segmentize(to_coordinates(area, start), 1000)
    moved = reprojected(np.array([dense]), start.crs, end.crs)[0]
    if not np.isfinite(shapely.get_coordinates(moved)).all():
        return shapely.MultiPolygon()  # too far away for the projection
    return to_pixels(moved, end)
