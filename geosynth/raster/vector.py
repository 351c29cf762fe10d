"""Vector labels: polygons, and lines with a width, of one class each, presented as a label raster."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyogrio
import pyogrio.errors
import pyogrio.raw
import rasterio.features
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.errors import NotGeoreferencedWarning

from geosynth.errors import DataError, GridError, LegendError, RasterError, SettingsError, counted, first_of
from geosynth.files import output_path, writing
from geosynth.grid import Window, crop, metres_per_unit, parse_crs
from geosynth.grid.crs import crs_in_short, has_metres
from geosynth.grid.vector import to_pixels
from geosynth.inputs import check_input
from geosynth.legend import ClassIndices, Legend, plain
from geosynth.progress import StageProgress, silent
from geosynth.raster.class_table import NO_CLASS
from geosynth.raster.images import open_image
from geosynth.raster.label_writer import check_label_output, label_writer
from geosynth.raster.read import Array, Mask, Raster, bounded_cache, check_inside
from geosynth.raster.vector_layer import EARTH, FAILURES, VectorLayer, both_ends
from geosynth.unfinished import UnfinishedWork

_BLOCK = 2048  # pixels; side of what is rasterised at once
_MOST = 2**45  # pixels in a GeoTIFF
_SPILL = 0.05  # of a pixel: features that reach less far into a row add none, as degrees are rounded to a centimetre

_LOG = logging.getLogger(__name__)


class VectorLabels(Raster):
    """Features of a vector file as a raster of class codes, made window by window.

    A pixel gets the class of the feature that contains its centre; if several do, of the last one in the file. A
    feature with a nodata code, or called "nodata", removes what is below it. Where there is no feature there is no
    data. Lines get the width `width`.

    All features are read once, checked, transformed to the grid and kept in a temporary file with a spatial index, so
    that memory depends neither on their number nor on the raster's size. To remove that file, use the object as a
    context manager or call `close`.

    Args:
        path: GeoPackage, GeoJSON, FlatGeobuf, Shapefile or GeoParquet.
        column: with the class: names (compared without regard to case, spaces, hyphens and underscores) or codes of the
            legend. Features without a value are left out, with a warning.
        legend: of the classes.
        layer: name of the layer; None for the only one.
        resolution: pixel size in metres; pixel edges are at multiples of it, and the raster covers all features.
        like: instead of `resolution`, a raster whose grid is used.
        crs: of the raster, with `resolution`; None for that of the features. Vertices are transformed to it, lines
            between them stay straight.
        width: of lines, in metres; or the name of a column that has it for each line.
        progress: called with ("features", number read, number of all).

    Raises:
        SettingsError: if settings contradict each other.
        DataError: if the file, layer or column cannot be used, or if features are neither polygons nor lines with a
            width.
        LegendError: if a feature's class is not in the legend.
        GridError: if the CRS is unknown or in degrees, or if features cannot be transformed to it.
        RasterError: if `like` cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        column: str,
        legend: str | Path | Legend = "chesapeake",
        *,
        layer: str | None = None,
        resolution: float | None = None,
        like: str | Path | None = None,
        crs: str | None = None,
        width: float | str | None = None,
        progress: StageProgress = silent,
    ) -> None:
        check_input(path, "a vector file")
        self.path = str(path)
        self.legend = Legend.load(legend)
        self.nodata: float | None = self.legend.nodata_code
        self.dtype = self.legend.code_dtype
        source = VectorLayer.open(Path(path), column, layer, width)
        lattice = _lattice(source, resolution, like, crs)
        self._folder = tempfile.TemporaryDirectory(prefix="geosynth-", ignore_cleanup_errors=True)
        self._features = Path(self._folder.name) / "features.gpkg"
        bounds = self._prepare(
            source, lattice, None if like is None else shapely.box(0, -lattice.shape.y, lattice.shape.x, 0), progress
        )
        left, top = np.floor(bounds[:2] + _SPILL).tolist() if like is None else (0, 0)
        right, bottom = np.ceil(bounds[2:] - _SPILL).tolist() if like is None else lattice.shape.xy
        rows, columns = max(1, bottom - top), max(1, right - left)
        if rows * columns > _MOST or max(rows, columns) >= 2**31:
            raise GridError(f"{self.path}: would be {rows:.15g} x {columns:.15g} pixels; is the resolution in metres?")
        if like is None and max(bounds[2:] - bounds[:2]) < 1:
            _LOG.warning("%s: pixels of %g m, larger than all features together", self.path, resolution)
        self._place = Window(*map(int, (top, left, rows, columns)))
        self.geobox = crop(lattice, self._place)

    @staticmethod
    def check(
        path: str | Path,
        column: str,
        *,
        layer: str | None = None,
        resolution: float | None = None,
        crs: str | None = None,
        width: float | str | None = None,
    ) -> None:
        """Refuse at once what can be refused before a legend is known and features are read.

        The arguments are those of the class. Without a resolution, which may not be known either, any is possible.

        Raises:
            SettingsError, DataError, GridError: one line.
        """
        source = VectorLayer.open(Path(path), column, layer, width)
        _lattice(source, 1.0 if resolution is None else resolution, None, crs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary file."""
        self._folder.cleanup()

    def read(self, window: Window) -> tuple[Array, Mask]:
        """Codes (1, height, width) and where there is a class (height, width); see `Raster.read`."""
        indices = self.read_indices(window)
        return self.legend.decode(indices)[np.newaxis], indices < self.legend.num_classes

    def read_indices(self, window: Window) -> ClassIndices:
        """Class indices of a window, (height, width); `num_classes` where there is no class.

        Raises:
            GridError: if the window reaches beyond the raster.
            RasterError: if the temporary file does not exist, after `close` or on another machine.
        """
        check_inside(window, self)
        place = window.shift(self._place.row, self._place.column)
        indices = np.full((window.height, window.width), self.legend.num_classes, np.uint8)
        try:
            _, ids, shapes, (classes,) = pyogrio.raw.read(
                self._features, bbox=(place.column, -place.bottom, place.right, -place.row), return_fids=True
            )
        except pyogrio.errors.DataSourceError as error:
            raise RasterError(
                f"{self.path}: its features are closed, or on another machine; make a raster of them first"
                " (geosynth rasterize)"
            ) from error
        if len(ids):
            order = np.argsort(ids)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NotGeoreferencedWarning)  # the first window's transform is the identity
                rasterio.features.rasterize(
                    zip(shapely.from_wkb(shapes[order]), classes[order], strict=True),
                    out=indices,
                    transform=Affine(1, 0, place.column, 0, -1, -place.row),
                )
        return indices

    def _prepare(
        self, source: VectorLayer, lattice: GeoBox, area: shapely.Geometry | None, progress: StageProgress
    ) -> npt.NDArray[np.floating]:
        """Write all features, in pixel coordinates of the lattice, with their class indices.

        Args:
            source: the features.
            lattice: the pixel grid.
            area: in pixel coordinates; features outside it are left out. None for all features.
            progress: called with the number of features read.

        Returns:
            bounds of the features in pixels: first column, first row, end of columns, end of rows.
        """
        classes = _Classes(self.legend, source.name)
        bounds = np.array([np.inf, np.inf, -np.inf, -np.inf])
        west, east = (
            -np.inf,
            np.inf,
        )  # end of features that begin west of the CRS's origin; start of those that end east of it
        done = written = left_out = num_lines = 0
        for values, widths, wkb in source.batches():
            geometries, lines = source.widened(wkb, widths, lattice)
            num_lines += lines
            indices = classes.indices(values)
            # y points up: on which side of an edge GDAL counts a pixel depends on the direction of y.
            geometries = shapely.transform(to_pixels(geometries, lattice), lambda points: points * (1, -1))
            kept = (indices >= 0) & ~shapely.is_missing(geometries) & ~shapely.is_empty(geometries)
            left_out += int((~kept).sum())
            if area is not None:
                kept &= shapely.intersects(shapely.box(*shapely.bounds(geometries).T), area)
            if kept.any():
                own = shapely.bounds(geometries[kept])
                west = max(west, own[own[:, 0] < 0, 2].max(initial=-np.inf))
                east = min(east, own[own[:, 2] > 0, 0].min(initial=np.inf))
                bounds = np.concatenate(
                    [np.minimum(bounds[:2], own[:, :2].min(0)), np.maximum(bounds[2:], own[:, 2:].max(0))]
                )
                self._append(geometries[kept], indices[kept].astype(np.uint8), first=not written)
                written += int(kept.sum())
            done += len(values)
            progress("features", done, max(done, source.total))
        if not written:
            where = "" if area is None else " on the grid of --like"
            raise DataError(f"{source.name}: {f'has no feature with a class{where}' if done else 'is empty'}")
        if source.width is not None and not num_lines:
            _LOG.warning("%s: has no lines, so their width has no effect", source.name)
        if left_out:
            _LOG.warning("%s: left out, without class or shape: %s", source.name, counted(left_out, "feature"))
        left, low, right, high = bounds
        gap = (east - west) * abs(lattice.affine.a) * metres_per_unit(lattice.crs)
        if area is None and EARTH / 2 < gap < np.inf:
            raise both_ends(source, lattice)
        return np.array([left, -high, right, -low])

    def _append(self, geometries: npt.NDArray[Any], indices: ClassIndices, *, first: bool) -> None:
        with writing(self._features, *FAILURES), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "'crs' was not provided")
            pyogrio.raw.write(
                self._features,
                shapely.to_wkb(geometries),
                [indices],
                ["class_index"],
                layer="features",
                driver="GPKG",
                geometry_type="Unknown",
                append=not first,
            )


class _Classes:
    """Class indices of the values in the column."""

    def __init__(self, legend: Legend, source: str) -> None:
        self._legend, self._source = legend, source
        codes = {**dict.fromkeys(legend.nodata_codes, legend.num_classes), **legend.class_of}
        self._known: dict[Any, int] = {**dict.fromkeys(NO_CLASS, legend.num_classes), **codes}
        self._known |= {str(code): index for code, index in codes.items()}
        self._known |= {plain(name): index for index, name in enumerate(legend.names)}  # names precede codes

    def indices(self, values: list[Any]) -> npt.NDArray[np.int16]:
        """Class index of each value; `num_classes` for nodata, -1 for no value.

        Raises:
            LegendError: if there are values that the legend does not list.
        """
        keys = [str(value) if isinstance(value, list | dict) else value for value in values]
        keys = [plain(key) if isinstance(key, str) else key for key in keys]
        found = [
            -1 if key in (None, "") or key != key else self._known.get(key) for key in keys
        ]  # NaN does not equal itself
        if None in found:
            unknown = Counter(str(value) for value, index in zip(values, found, strict=True) if index is None)
            shown = first_of(f"{value!r} ({count})" for value, count in unknown.most_common())
            known = ", ".join(f"{entry.name} ({entry.code})" for entry in self._legend.classes)
            raise LegendError(
                f"{self._source}: classes that legend {self._legend.name!r} does not know: {shown}; it knows {known}"
            )
        return np.array(found, np.int16)


def _lattice(source: VectorLayer, resolution: float | None, like: str | Path | None, crs: str | None) -> GeoBox:
    """The grid of `like`, or one pixel at the origin of the CRS."""
    if (resolution is None) == (like is None) or (like is not None and crs is not None):
        raise SettingsError("give either resolution (and crs), or like, whose grid has both")
    if like is not None:
        grid = open_image(like).geobox
        if grid.crs is None:
            raise GridError(f"{like}: has no CRS, so features cannot be placed on it; assign the right one")
        return grid
    assert resolution is not None
    if not 0 < resolution < EARTH:
        what = f"a positive size in metres, smaller than the Earth, is needed, not {resolution:g}"
        raise SettingsError(what, setting="resolution")
    target = parse_crs(crs) if crs else source.crs
    if not has_metres(target):
        raise GridError(
            f"{source.name}: {crs_in_short(target)} is not in metres; give a projected CRS, such as --crs EPSG:26917"
        )
    size = resolution / metres_per_unit(target)
    return GeoBox((1, 1), Affine.scale(size, -size), target)


def rasterize(
    vector: str | Path,
    out: str | Path,
    column: str,
    legend: str | Path | Legend = "chesapeake",
    *,
    overwrite: bool = False,
    progress: StageProgress = silent,
    **grid: Any,
) -> Path:
    """Make a label raster from the features of a vector file: a Cloud Optimized GeoTIFF with colours and class names.

    Args:
        vector: the file, as `path` of `VectorLabels`, which describes what class a pixel gets.
        out: the label raster, a name that ends in .tif; it appears when it is complete. Names and attribute table go
            into `out`.aux.xml.
        column: with the class, names or codes.
        legend: a legend, its built-in name or file.
        overwrite: replace an existing output.
        progress: called with ("features" or "pixels", number done, number of all).
        **grid: `layer`, `resolution`, `like`, `crs` and `width`, as for `VectorLabels`.

    Returns:
        the path of the label raster.

    Raises:
        GeosynthError: as `VectorLabels`; OutputError if the output exists or cannot be written.
    """
    out, legend = output_path(out), Legend.load(legend)
    check_label_output(out, [vector, grid.get("like")], overwrite=overwrite)
    work = UnfinishedWork(out)
    work.check(overwrite=overwrite)
    with (
        bounded_cache(),
        work.open({}),  # no parts are kept
        VectorLabels(vector, column, legend, progress=progress, **grid) as labels,
    ):
        plan = labels.window.pieces(_BLOCK)
        tags = {"GEOSYNTH_VECTOR": Path(vector).name, "GEOSYNTH_COLUMN": column}
        with label_writer(work, labels.geobox, legend, tags) as write:
            for done, window in enumerate(plan, start=1):
                indices = labels.read_indices(window)
                write(window, indices, indices < legend.num_classes)
                progress("pixels", done, len(plan))
    return out
