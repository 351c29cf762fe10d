"""Label rasters: codes checked against a legend before any work starts, then read as class indices."""

from __future__ import annotations

import glob
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import dask.array as da
import numpy as np
import numpy.typing as npt
import xarray as xr
from odc.geo.geobox import GeoBox

from geosynth.errors import DataError, GridError, LegendError, RasterError, SettingsError
from geosynth.grid import TilePlan, Window
from geosynth.legend import CodeCounts, Legend
from geosynth.raster.class_table import ClassTable, legend_of_table, plain, read_class_table
from geosynth.raster.mosaic import TileInMosaic, TileMosaic
from geosynth.raster.read import RASTER_SUFFIXES, Array, Mask, Raster, RasterFile, has_data, open_raster
from geosynth.raster.warp import unwarped
from geosynth.raster.zarr import ZarrLabels, grid_of, single_layer

# --- One way to open what a user calls labels: a file, a Zarr store, a folder or a glob of tiles.

_LOG = logging.getLogger(__name__)


def open_labels(labels: str | Path | Sequence[str | Path]) -> Raster:
    """Labels as one raster.

    Args:
        labels: a file that GDAL reads, or its URL; a Zarr store; a folder or glob of tiles, or a list of them, which
            are joined to a `TileMosaic`.

    Raises:
        RasterError, DataError, GridError: one line that names the file at fault.
    """
    if isinstance(labels, str | Path) and is_zarr(labels):
        return ZarrLabels(labels)
    files = label_files(labels)
    if len(files) == 1:
        return open_raster(files[0])
    mosaic = TileMosaic(files, _name(labels))
    differing = mosaic.count_disagreements()
    if differing:
        _LOG.warning(
            "%s: tiles overlap and differ in %d px; there the tile whose name sorts later is taken",
            mosaic.path,
            differing,
        )
    return mosaic


def label_files(labels: str | Path | Sequence[str | Path]) -> list[str | Path]:
    """The files that a name stands for, in the order of their names: itself, or what a folder or glob holds.

    Raises:
        RasterError: if there are none.
    """
    if not isinstance(labels, str | Path):
        if not labels:
            raise RasterError("labels: an empty list of files")
        return sorted(labels, key=str)
    path = Path(labels)
    if "://" in str(labels) or path.is_file() or is_zarr(labels):
        return [labels]
    found: list[str | Path] = []
    if path.is_dir():
        found += sorted(file for file in path.iterdir() if file.suffix.lower() in RASTER_SUFFIXES)
    elif glob.has_magic(str(labels)):
        found += sorted(Path(name) for name in glob.glob(str(labels), recursive=True) if Path(name).is_file())
    else:
        return [labels]  # whoever opens it says what is wrong
    if not found:
        what = "is a folder without rasters" if path.is_dir() else "no file has such a name"
        raise RasterError(f"{labels}: {what}; label tiles end in {', '.join(RASTER_SUFFIXES)}")
    return found


def is_zarr(path: str | Path) -> bool:
    """Whether there is a Zarr group, of any version, in a folder `path`."""
    return any((Path(path) / name).is_file() for name in ("zarr.json", ".zgroup", ".zmetadata"))


def _name(labels: str | Path | Sequence[str | Path]) -> str:
    if isinstance(labels, str | Path):
        return str(labels)
    return f"{labels[0]} and {len(labels) - 1} more"


# --- Which legend reads a label raster: the one that is named, the raster's own, or the model's.

FROM_RASTER = "from-raster"


def choose_legend(raster: Raster, legend: str | Path | Legend | None, target: Legend) -> Legend:
    """The legend of a label raster, in the class order of the model's.

    Where none is named, codes mean what they mean to the model, unless the raster names its classes by the model's
    names under other codes: then its own class table decides, and a warning says so.

    Args:
        raster: the labels.
        legend: a legend, its built-in name or file; "from-raster" for the raster's own class table.
        target: the model's.

    Raises:
        LegendError: if there is no such legend, or its classes are not the model's.
    """
    if legend is not None and legend != FROM_RASTER:
        return Legend.load(legend).translation_to(target)
    table = class_table_of(raster)
    if legend == FROM_RASTER:
        if not table:
            raise LegendError(f"{raster.path}: has no class table (names or colours of its codes); name a legend file")
        return legend_of_table(table, target, raster.path)
    of_target = {plain(entry.name): entry.code for entry in target.classes}
    names = {code: name for code, (name, _) in table.items() if name}
    known = {code: of_target[plain(name)] for code, name in names.items() if plain(name) in of_target}
    if any(code != expected for code, expected in known.items()):
        own = legend_of_table(table, target, raster.path)
        told = ", ".join(f"{code} {names[code]}" for code in list(known)[:8])
        _LOG.warning(
            "%s: its class table has other codes than legend %r and is used: %s", raster.path, target.name, told
        )
        return own
    for entry in target.classes:
        name = names.get(entry.code)
        if name is not None and plain(name) != plain(entry.name):
            _LOG.warning(
                "%s: calls code %d %r; it is taken for %r, as in legend %r (--legend decides otherwise)",
                raster.path,
                entry.code,
                name,
                entry.name,
                target.name,
            )
    return target


def class_table_of(raster: Raster) -> ClassTable:
    """What a raster says of its codes; of many tiles, what the first says. Empty where it says nothing."""
    raster = unwarped(raster)
    if isinstance(raster, TileMosaic):
        raster = raster.tiles[0]
    if isinstance(raster, TileInMosaic):
        raster = raster.tile
    if isinstance(raster, RasterFile):
        return read_class_table(raster.path)
    return raster.class_table if isinstance(raster, ZarrLabels) else {}


_SCAN_BLOCK = 2048
_FILL_STEPS = 16
_SURROUNDINGS = 1024  # pixels; more than the halo of any generator


class Survey(NamedTuple):
    """What reading a whole label raster told.

    Attributes:
        counts: pixels of each code, valid pixels only.
        digest: of all codes, of where they are valid, and of the grid: whatever file or folder they stand in. Of a
            tile in a mosaic, also of what lies around it.
    """

    counts: CodeCounts
    digest: str


class LabelRaster:
    """A single-band integer raster and the legend that reads it.

    Attributes:
        raster: where codes are read from.
        legend: what they mean.
        unknown: what `check_codes` does about codes that the legend does not know: "error" refuses them, "nodata"
            counts them as pixels without a class.
    """

    def __init__(
        self, source: str | Path | Raster, legend: Legend, *, unknown: Literal["error", "nodata"] = "error"
    ) -> None:
        """Open what is not open yet.

        Args:
            source: what `open_labels` takes, or a raster already open.
            legend: of its codes.
            unknown: see above.

        Raises:
            RasterError: if the file cannot be opened.
            DataError: if it is not a label raster.
            SettingsError: if `unknown` is neither.
        """
        self.raster: Raster = open_labels(source) if isinstance(source, str | Path) else source
        self.legend = legend
        if unknown not in ("error", "nodata"):
            raise SettingsError(f"unknown codes: 'error' or 'nodata', not {unknown!r}")
        self.unknown = unknown
        _check_is_labels(self.raster)
        nodata = self.raster.nodata
        if nodata is not None and nodata in legend.codes:
            name = legend.names[legend.codes.index(int(nodata))]
            _LOG.warning(
                "%s: declares nodata %d, which is class %r in the legend; taken as nodata",
                self.raster.path,
                nodata,
                name,
            )

    @property
    def name(self) -> str:
        """For messages and provenance."""
        return self.raster.path

    @property
    def geobox(self) -> GeoBox:
        """Of the raster."""
        return self.raster.geobox

    def survey(self, progress: Callable[[int, int], None] = lambda done, total: None) -> Survey:
        """Read the whole raster once, block by block; then refuse what cannot be painted.

        Raises:
            LegendError: if there are codes that the legend does not know, unless they are taken as nodata.
            DataError: if no pixel has a class.
        """
        height, width = self.geobox.shape
        plan = self.surveyed()
        counts: CodeCounts = {}
        digest = hashlib.blake2b(
            f"{height} {width} {self.geobox.affine[:6]} {self.geobox.crs}".encode(), digest_size=16
        )
        for done, window in enumerate(plan, start=1):
            codes, valid = self.read_codes(window)
            digest.update(np.packbits(valid).tobytes())
            if valid.any():
                for code, count in _count(codes[valid]):
                    counts[code] = counts.get(code, 0) + count
                digest.update(np.where(valid, codes, np.zeros_like(codes)).tobytes())
            progress(done, len(plan))
        if isinstance(self.raster, TileInMosaic):
            around = self.raster.place.buffer(_SURROUNDINGS).intersection(self.raster.mosaic.window)
            assert around is not None
            for part in TilePlan(around.height, around.width, _SCAN_BLOCK):
                place = part.shift(around.row, around.column)
                values, valid = self.raster.mosaic.read(place)
                digest.update(np.where(valid, values, 0).tobytes())
                digest.update(np.packbits(valid).tobytes())
        self._check(counts)
        return Survey(counts, digest.hexdigest())

    def surveyed(self) -> Sequence[Window]:
        """The windows that `survey` reads, in its order: all of the raster."""
        height, width = self.geobox.shape
        return list(TilePlan(height, width, _SCAN_BLOCK))

    def check_codes(self, progress: Callable[[int, int], None] = lambda done, total: None) -> CodeCounts:
        """The counts of `survey`, which see for what is refused."""
        return self.survey(progress).counts

    def _check(self, counts: CodeCounts) -> None:
        if self.unknown == "error":
            self.legend.check(counts, self.name)
        elif strange := self.legend.unknown(counts):
            listed = ", ".join(map(str, list(strange)[:12])) + (", ..." if len(strange) > 12 else "")
            _LOG.warning(
                "%s: %d px of unknown codes (%s) are taken as nodata", self.name, sum(strange.values()), listed
            )
        if not any(code in counts for code in self.legend.codes):
            raise DataError(f"{self.name}: no pixel has a class: all of it is nodata")

    def read(self, window: Window) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Class indices and where there are any, both (height, width), for a window that may reach beyond the raster.

        Beyond the edge the nearest pixel of the raster is repeated. Pixels without a class take the class of a near
        pixel (within 16 px, along rows and columns; the first class beyond), so that the network sees no hole; the
        second array tells them.

        Raises:
            GridError: if the window lies wholly outside the raster.
        """
        if window.intersection(self.raster.window) is None:
            raise GridError(f"{self.raster.path}: {window} lie outside it")
        if isinstance(self.raster, TileInMosaic):
            return self._read_in_mosaic(self.raster, window)
        inside = needed_around(window).intersection(self.raster.window)
        assert inside is not None
        codes, valid = self.read_codes(inside)
        return to_indices(codes, valid, inside, window, self.legend)

    def _read_in_mosaic(
        self, tile: TileInMosaic, window: Window
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """As `read`, but what lies beyond the tile's edge is the neighbours'."""
        place = window.shift(tile.place.row, tile.place.column)
        inside = needed_around(place).intersection(tile.mosaic.window)
        assert inside is not None
        values, valid = tile.mosaic.read(inside)
        indices, labelled = to_indices(values[0], valid, inside, place, self.legend)
        own = window.intersection(tile.window)
        assert own is not None
        labelled[own.shift(-window.row, -window.column).slices] &= tile.read(own)[1]
        return indices, labelled

    def read_codes(self, window: Window) -> tuple[Array, Mask]:
        """Raw codes and where there is data, both (height, width), for a window inside the raster."""
        values, valid = self.raster.read(window)
        return values[0], valid


def to_indices(
    codes: Array, valid: npt.NDArray[np.bool_], inside: Window, window: Window, legend: Legend
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """What `LabelRaster.read` gives for `window`, from codes at hand.

    Args:
        codes: (height, width) of `inside`.
        valid: where there is data, (height, width) of `inside`.
        inside: the part of `needed_around(window)` that lies in the raster.
        window: may reach beyond `inside`.
        legend: reads the codes.
    """
    grown = needed_around(window)
    indices = legend.encode(codes)
    indices[~valid] = legend.num_classes
    rows = np.clip(np.arange(grown.row, grown.bottom), inside.row, inside.bottom - 1) - inside.row
    columns = np.clip(np.arange(grown.column, grown.right), inside.column, inside.right - 1) - inside.column
    indices = indices[np.ix_(rows, columns)]
    crop = (slice(_FILL_STEPS, -_FILL_STEPS),) * 2
    labelled = indices[crop] < legend.num_classes
    return fill_holes(indices, legend.num_classes, _FILL_STEPS)[crop], labelled


def needed_around(window: Window) -> Window:
    """A window grown by what fills its holes, so that filling does not depend on how a raster is cut."""
    return window.buffer(_FILL_STEPS)


def fill_holes(indices: npt.NDArray[np.uint8], hole: int, steps: int) -> npt.NDArray[np.uint8]:
    """Grow classes into pixels that hold `hole`, one pixel a step, from above, below, left, right, in this order.

    What a pixel gets depends on at most `steps` pixels around it. What is left gets class 0.
    """
    padded = np.pad(indices, 1, constant_values=hole)
    values, across = padded.reshape(-1), padded.shape[1]
    inside = np.zeros_like(padded, dtype=bool)
    inside[1:-1, 1:-1] = indices == hole
    holes = np.flatnonzero(inside)
    for _ in range(steps):
        if len(holes) in (0, indices.size):
            break
        found = values[holes - across]
        for step in (across, -1, 1):
            missing = found == hole
            found[missing] = values[holes[missing] + step]
        filled = found != hole
        values[holes[filled]] = found[filled]
        holes = holes[~filled]
    values[holes] = 0
    return padded[1:-1, 1:-1]


def _check_is_labels(raster: Raster) -> None:
    if raster.count != 1:
        raise DataError(f"{raster.path}: has {raster.count} bands; a label raster has one band of class codes")
    if not np.issubdtype(raster.dtype, np.integer):
        raise DataError(
            f"{raster.path}: holds {raster.dtype} values; a label raster holds integer class codes (gdal_translate -ot)"
        )


def _count(codes: Array) -> Iterator[tuple[int, int]]:
    """(code, pixels) of each code in a flat array."""
    if codes.dtype in (np.uint8, np.uint16):  # counting is thirty times faster than sorting
        counts = np.bincount(codes)
        yield from ((int(code), int(counts[code])) for code in np.flatnonzero(counts))
    else:
        found = np.unique(codes, return_counts=True)
        yield from ((int(code), int(count)) for code, count in zip(*found, strict=True))


# --- Label rasters that users hold as xarray arrays: their grid, their chunks, the coordinates of their images.


@dataclass(frozen=True)
class CodeReader:
    """Tells codes from missing data in pieces of an array.

    Attributes:
        nodata: value without a class, or None; NaN never has one.
        name: of the labels, for messages.
    """

    nodata: float | None
    name: str

    def split(self, values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Integer codes, and where there is data; both of the shape of `values`.

        Raises:
            DataError: if a value is not a whole number.
        """
        valid = has_data(values[np.newaxis], self.nodata)
        if values.dtype.kind == "f":
            fractions = valid & (values != np.round(values))
            if fractions.any():
                raise DataError(f"{self.name}: holds {values[fractions][0]:g}; class codes are whole numbers")
            values = np.where(valid, values, 0).astype(np.int64)
        return values, valid


@dataclass(frozen=True)
class LabelArray:
    """Class codes in an `xarray.DataArray`, seen as a raster; nothing of them is read yet.

    Attributes:
        array: (y, x), as given but for dimensions of size one.
        codes: its values as a dask array (height, width).
        geobox: of its coordinates.
        reader: of pieces of `codes`.
    """

    array: xr.DataArray
    codes: da.Array
    geobox: GeoBox
    reader: CodeReader

    @classmethod
    def of(cls, labels: xr.DataArray, chunk_size: int) -> LabelArray:
        """From the coordinates, `.rio.crs` and `.rio.nodata` of an array.

        Args:
            labels: (y, x), or with further dimensions of size one; in memory, in dask chunks, or still in a file.
            chunk_size: pixels; side of the pieces in which values outside dask are read.

        Raises:
            GridError: if coordinates are missing, rotated or uneven.
            DataError: if it has more than one layer, or holds no numbers.
        """
        name = "labels" if labels.name is None else f"labels {labels.name!r}"
        array = single_layer(labels, name)
        nodata = labels.rio.nodata
        reader = CodeReader(None if nodata is None or np.isnan(nodata) else float(nodata), name)
        codes = array.data if array.chunks else array.chunk(chunk_size).data
        return cls(array, codes, grid_of(array, name), reader)

    @property
    def nodata(self) -> float | None:
        """Value without a class, or None."""
        return self.reader.nodata

    def keys(self, window: Window) -> list[list[tuple[Any, ...]]]:
        """Rows of keys of the chunks that `window` touches."""
        rows, columns = self._touched(window)
        return [[(self.codes.name, row, column) for column in columns] for row in rows]

    def corners(self, window: Window) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """First rows and first columns of the chunks that `keys` gives."""
        tops, lefts = (np.cumsum((0, *sizes)) for sizes in self.codes.chunks)
        rows, columns = self._touched(window)
        return tuple(int(tops[row]) for row in rows), tuple(int(lefts[column]) for column in columns)

    def _touched(self, window: Window) -> tuple[range, range]:
        spans = ((window.row, window.bottom), (window.column, window.right))
        touched = []
        for (start, stop), sizes in zip(spans, self.codes.chunks, strict=True):
            ends = np.cumsum(sizes)
            first, last = np.searchsorted(ends, (start, stop - 1), side="right")
            touched.append(range(int(first), int(last) + 1))
        return touched[0], touched[1]

    def image(
        self, pixels: da.Array, valid: da.Array, band_names: Sequence[str], attributes: Mapping[str, str]
    ) -> xr.DataArray:
        """An image on the coordinates of the labels.

        Args:
            pixels: (bands, height, width).
            valid: (height, width), True where there is data; becomes the coordinate `valid`.
            band_names: the coordinate `band`; `long_name` too, where rioxarray looks for descriptions.
            attributes: more of them.
        """
        y, x = self.array.dims
        places = {dim: self.array.coords[dim] for dim in (y, x)}
        image = xr.DataArray(
            pixels,
            dims=("band", y, x),
            coords={"band": list(band_names), **places, "valid": ((y, x), valid)},
            name="image",
            attrs={**attributes, "long_name": tuple(band_names)},
        )
        if self.geobox.crs is not None:
            image = image.rio.write_crs(self.geobox.crs.to_wkt())
        written: xr.DataArray = image.rio.write_transform(self.geobox.affine)
        return written
