"""Tables of polygons: GeoParquet, GeoPackage, GeoJSON. A file appears when it is complete.

GeoPandas takes half a second to import, so it is imported where a table is used.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from geosynth.errors import DataError, OutputError, one_line
from geosynth.files import replacing
from geosynth.grid.vector_files import PARQUET, check_can_be_read

if TYPE_CHECKING:
    import geopandas as gpd

_DRIVERS = {".geojson": "GeoJSON", ".json": "GeoJSON", ".gpkg": "GPKG", ".fgb": "FlatGeobuf"}


def check_suffix(path: Path) -> None:
    """Refuse a name without the suffix of a format that can be written.

    Raises:
        OutputError: one line.
    """
    if path.suffix.lower() not in (*PARQUET, *_DRIVERS):
        known = ", ".join((*PARQUET, *_DRIVERS))
        raise OutputError(f"{path}: a table of polygons has one of the suffixes {known}")


def write_table(table: gpd.GeoDataFrame, path: Path, name: str | None = None) -> None:
    """Write a table in the format of the suffix. GeoJSON is in longitude and latitude, as its standard (RFC 7946) says.

    Args:
        table: of polygons.
        path: of the file.
        name: of the layer; None for the file's name without suffix.

    Raises:
        OutputError: if the suffix is unknown, or the file cannot be written.
    """
    import geopandas as gpd
    import pyogrio.errors

    check_suffix(path)
    suffix = path.suffix.lower()
    layer = re.sub(r"\W", "_", name or path.stem)
    failures = pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError
    with replacing(path, *failures) as partial, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided")  # a grid may have none
        if suffix in PARQUET:
            table.to_parquet(partial, index=False)
        elif _DRIVERS[suffix] == "GeoJSON":
            moved = _on_earth(table)
            # RFC 7946's seven decimals are centimetres, not enough to find a pixel's corner again.
            moved.to_file(partial, driver="GeoJSON", layer=layer, COORDINATE_PRECISION=12)
        else:
            with _undated():
                table.to_file(partial, driver=_DRIVERS[suffix], layer=layer)
        if suffix not in PARQUET and len(gpd.read_file(partial)) != len(table):  # see raster.written
            raise pyogrio.errors.DataSourceError("its rows cannot be read back")


def _on_earth(table: gpd.GeoDataFrame) -> gpd.GeoDataFrame:
    """The table in longitude and latitude; unchanged without a CRS."""
    try:
        return table.to_crs("EPSG:4326") if table.crs else table
    except RuntimeError as error:  # pyproj's, for Mars or a local CRS
        raise OutputError(
            f"GeoJSON is in longitude and latitude, which the CRS {table.crs.name} does not give; choose"
            " another suffix, as in .gpkg"
        ) from error


@contextmanager
def _undated() -> Iterator[None]:
    """A GeoPackage tells when it was written: always the same, so that the same table gives the same bytes."""
    import pyogrio

    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": "1970-01-01T00:00:00.000Z"})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": None})


def read_table(path: Path, column: str | None = None) -> gpd.GeoDataFrame:
    """Read a table of polygons, which must have a column if one is named.

    Raises:
        DataError: if the file cannot be read, has no such column, or has a row without a polygon.
    """
    import geopandas as gpd
    import pyarrow
    import pyogrio.errors

    check_can_be_read(path)
    try:
        parquet = path.suffix.lower() in PARQUET
        table = gpd.read_parquet(path) if parquet else gpd.read_file(path)
    except (
        OSError,
        ValueError,
        pyarrow.ArrowException,
        pyogrio.errors.DataSourceError,
        RuntimeError,  # pyproj's
        LookupError,  # pyogrio's, for a file without a layer
        shapely.errors.ShapelyError,
    ) as error:
        raise DataError(f"{path}: cannot be read as a table of polygons: {one_line(error)}") from error
    if not isinstance(table, gpd.GeoDataFrame) or column not in (None, *table.columns):
        shown = ", ".join(map(str, table.columns)) or "none"
        wanted = f" with a column {column!r}" if column else ""
        raise DataError(f"{path}: needs polygons{wanted}; its columns are {shown}")
    flat = table.index[~table.geom_type.isin(["Polygon", "MultiPolygon"])]
    if len(flat):
        raise DataError(f"{path}: row {flat[0]} holds no polygon")
    return table


def reprojected(geometries: Any, start: Any, end: Any) -> npt.NDArray[Any]:
    """Geometries in another CRS, by their vertices; coordinates that do not exist there are not finite.

    Args:
        geometries: (n,).
        start: their CRS, an object with `to_wkt`.
        end: the other CRS, likewise.
    """
    import geopandas as gpd

    try:
        moved: npt.NDArray[Any] = gpd.GeoSeries(geometries, crs=start.to_wkt()).to_crs(end.to_wkt()).to_numpy()
    except RuntimeError:  # pyproj's: a local CRS, or one of another planet, cannot be transformed to others
        moved = shapely.transform(geometries, lambda points: np.full_like(points, np.inf))
    return moved


def to_pixels(geometry: Any, geobox: GeoBox) -> Any:
    """A geometry, or an array of them, from coordinates of the grid's CRS to (column, row)."""
    return shapely.transform(geometry, lambda points: _apply(~geobox.affine, points))


def to_coordinates(geometry: Any, geobox: GeoBox) -> Any:
    """A geometry, or an array of them, from (column, row) to coordinates of the grid's CRS."""
    return shapely.transform(geometry, lambda points: _apply(geobox.affine, points))


def _apply(transform: Affine, points: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    x, y = transform @ (points[:, 0], points[:, 1])
    return np.column_stack([x, y])
