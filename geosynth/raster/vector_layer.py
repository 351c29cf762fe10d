"""VectorLayer: the polygons and lines in one layer of a vector file, read in batches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow
import pyarrow.parquet
import pyogrio
import pyogrio.errors
import pyogrio.raw
import shapely
from odc.geo.crs import CRS
from odc.geo.geobox import GeoBox

from geosynth.errors import DataError, GeosynthError, GridError, SettingsError, first_of, one_line
from geosynth.grid import metres_per_unit
from geosynth.grid.crs import crs_in_short, has_metres
from geosynth.grid.vector import reprojected
from geosynth.grid.vector_files import PARQUET, check_can_be_read

EARTH = 4e7  # metres; circumference of the Earth
FAILURES = (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError)
"""Errors by which pyogrio says that a file cannot be read or written."""

_BATCH = 4096  # features read at once
_LINES = (shapely.GeometryType.LINESTRING, shapely.GeometryType.LINEARRING, shapely.GeometryType.MULTILINESTRING)
_POLYGONS = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)


class VectorLayer(NamedTuple):
    """One layer of a vector file, read in batches."""

    path: Path
    layer: str | None  # None in a Parquet file
    column: str
    width: float | str | None  # of lines: metres, or the name of a column; None refuses lines
    crs: CRS
    total: int  # number of features; -1 if it is not known

    @classmethod
    def open(cls, path: Path, column: str, layer: str | None, width: float | str | None) -> Self:
        """Choose the layer, and check that it has the columns and a CRS."""
        if isinstance(width, float | int) and not 0 < width < np.inf:
            raise SettingsError(f"of lines, a positive number of metres, or a column, not {width}", setting="width")
        check_can_be_read(path)
        try:
            columns, crs, total, layer = _describe(path, layer)
        except GeosynthError:  # which may be ValueErrors
            raise
        except (*FAILURES, pyarrow.ArrowException, OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as a vector file: {one_line(error)}") from error
        for wanted in (column, width) if isinstance(width, str) else (column,):
            if not columns and not total:  # as GDAL describes GeoJSON without features
                raise DataError(f"{path}: is empty: it has no features, and so no column {wanted!r}")
            if wanted not in columns:
                raise DataError(f"{path}: has no column {wanted!r}; it has {', '.join(columns) or 'none'}")
        if not crs:
            raise GridError(f"{path}: has no CRS; assign the right one (set_crs of geopandas)")
        return cls(path, layer, column, width, _parsed(crs, path), total)

    @property
    def name(self) -> str:
        """Name for messages."""
        return str(self.path)

    def batches(self) -> Iterator[tuple[list[Any], list[Any], Any]]:
        """Classes, widths and WKB of the features, in the file's order."""
        columns = [self.column, *([self.width] if isinstance(self.width, str) else [])]
        try:
            for batch, geometry in _record_batches(self.path, self.layer, columns):
                widths = batch.column(columns[-1]).to_pylist() if len(columns) == 2 else [self.width] * batch.num_rows
                yield (
                    batch.column(self.column).to_pylist(),
                    widths,
                    batch.column(geometry).to_numpy(zero_copy_only=False),
                )
        except (*FAILURES, pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{self.name}: cannot be read: {one_line(error)}") from error

    def widened(self, wkb: npt.NDArray[Any], widths: list[Any], lattice: GeoBox) -> tuple[npt.NDArray[Any], int]:
        """Polygons in the CRS of `lattice`: the file's polygons, and its lines widened to their widths.

        Also returns the number of lines.
        """
        try:
            with np.errstate(invalid="ignore"):
                geometries: npt.NDArray[Any] = shapely.force_2d(shapely.from_wkb(wkb))
        except shapely.errors.ShapelyError as error:
            raise DataError(f"{self.name}: a feature's geometry cannot be read: {error}") from error
        if not np.isfinite(shapely.get_coordinates(geometries)).all():
            raise DataError(f"{self.name}: a feature has coordinates that are NaN or infinite")
        if self.crs != lattice.crs:
            before = _of_the_earth(geometries, self.crs)
            geometries = reprojected(geometries, self.crs, lattice.crs)
            if not np.isfinite(shapely.get_coordinates(geometries)).all():
                end = crs_in_short(lattice.crs)
                raise GridError(f"{self.name}: a feature lies where {end} has no coordinates; choose another CRS")
            if ((before < 0.5) & (_of_the_earth(geometries, lattice.crs) > 0.6)).any():
                raise both_ends(self, lattice)
        kinds = shapely.get_type_id(geometries)  # -1 if there is none
        lines, polygons = np.isin(kinds, _LINES), np.isin(kinds, _POLYGONS)
        if (other := ~lines & ~polygons & (kinds >= 0)).any():
            kind = geometries[other][0].geom_type
            raise DataError(f"{self.name}: holds a {kind}; labels are polygons, or lines with --width")
        if lines.any():
            if self.width is None:
                also = " beside polygons" if polygons.any() else ""
                raise DataError(f"{self.name}: holds lines{also}; give their width, in metres or as a column: --width")
            try:
                metres = np.array([np.nan if width is None else float(width) for width in widths])[lines]
            except (TypeError, ValueError):
                metres = np.zeros(1)
            if not (metres > 0).all():
                raise DataError(f"{self.name}: column {self.width!r} has no positive width for each line")
            if not has_metres(lattice.crs):
                raise GridError(f"{self.name}: holds lines, whose width is in metres; a grid in degrees cannot show it")
            geometries[lines] = shapely.buffer(geometries[lines], metres / metres_per_unit(lattice.crs) / 2)
        return geometries, int(lines.sum())


def _parsed(crs: str, path: Path) -> CRS:
    try:
        return CRS(crs)
    except RuntimeError as error:  # pyproj's
        raise GridError(f"{path}: its CRS cannot be read: {one_line(error)}") from error


def _of_the_earth(geometries: npt.NDArray[Any], crs: CRS) -> npt.NDArray[np.floating]:
    """Extent from west to east as a share of the Earth's circumference; NaN for no geometry."""
    left, _, right, _ = shapely.bounds(geometries).T
    around = 360 if crs.geographic else EARTH / metres_per_unit(crs)
    return np.asarray((right - left) / around)


def both_ends(source: VectorLayer, lattice: GeoBox) -> GridError:
    """The error for features that are neighbours on the Earth, but at the two ends of a CRS."""
    end = crs_in_short(lattice.crs)
    return GridError(
        f"{source.name}: features lie on both sides of the line (often the antimeridian) at which {end} ends, and would"
        " be at the two ends of a raster around the Earth; choose a CRS that does not end there, as --crs EPSG:3832"
    )


def _describe(path: Path, layer: str | None) -> tuple[list[str], str | None, int, str | None]:
    """Columns, CRS, number of features (-1 if counting takes long) and layer."""
    if path.suffix.lower() in PARQUET:
        if layer is not None:
            raise SettingsError(f"{path}: has no layers; leave out --layer")
        file = pyarrow.parquet.ParquetFile(path)
        geometry, crs = _geoparquet(path, file)
        return [name for name in file.schema_arrow.names if name != geometry], crs, file.metadata.num_rows, None
    layers = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
    if layer is None and len(layers) != 1:
        some = f"several layers ({first_of(layers)}); choose one with --layer" if layers else "no layer with shapes"
        raise DataError(f"{path}: has {some}")
    if layer not in (None, *layers):
        raise DataError(f"{path}: has no layer {layer!r}; it has {', '.join(layers) or 'none'}")
    layer = layer or layers[0]
    found = pyogrio.read_info(path, layer=layer)
    return [str(name) for name in found["fields"]], found["crs"], found["features"], layer


def _geoparquet(path: Path, file: Any) -> tuple[str, str | None]:
    """Name of the geometry column, and the CRS as JSON."""
    try:
        described = json.loads((file.schema_arrow.metadata or {}).get(b"geo", b"null"))
    except ValueError as error:
        raise DataError(f"{path}: its description as GeoParquet is damaged: {error}") from error
    if not isinstance(described, dict):
        raise DataError(f"{path}: holds no geometries; GeoParquet does (geopandas' to_parquet)")
    geometry, columns = described.get("primary_column"), described.get("columns")
    column = columns.get(geometry) if isinstance(columns, dict) and isinstance(geometry, str) else None
    if not isinstance(geometry, str) or not isinstance(column, dict) or geometry not in file.schema_arrow.names:
        raise DataError(f"{path}: its description as GeoParquet names no column of geometries that it has")
    if column.get("encoding") != "WKB":
        raise DataError(f"{path}: its geometries are encoded as {column.get('encoding')}; WKB is read here")
    crs = column.get("crs", "OGC:CRS84")  # the standard's default
    return geometry, json.dumps(crs) if isinstance(crs, dict) else crs


def _record_batches(path: Path, layer: str | None, columns: list[str]) -> Iterator[tuple[Any, str]]:
    """Batches of features, and the name of their geometry column."""
    if layer is None:
        file = pyarrow.parquet.ParquetFile(path)
        geometry, _ = _geoparquet(path, file)
        for batch in file.iter_batches(_BATCH, columns=[*columns, geometry]):
            yield batch, geometry
        return
    with pyogrio.raw.open_arrow(path, layer=layer, columns=columns, batch_size=_BATCH, use_pyarrow=True) as (
        meta,
        stream,
    ):
        for batch in stream:
            yield batch, meta["geometry_name"] or "wkb_geometry"
