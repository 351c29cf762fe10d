"""Label rasters: codes checked against a legend before any work starts, then read as class indices."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from odc.geo.geobox import GeoBox
from PIL import Image

from geosynth.errors import DataError, GridError, SettingsError, first_of
from geosynth.grid import Window
from geosynth.legend import MOST_UNKNOWN_COLOURS, ClassIndices, CodeCounts, ColourLegend, Legend
from geosynth.parallel import ahead
from geosynth.progress import Progress, silent
from geosynth.raster.class_table import shows_colours_of
from geosynth.raster.label_files import open_labels
from geosynth.raster.mosaic import TileInMosaic
from geosynth.raster.read import SCAN_BLOCK, Array, Mask, Raster, filled

_LOG = logging.getLogger(__name__)

_READERS = 4  # threads, for codes of one byte; fewer for larger ones, which take more memory
_FILL_STEPS = 16
_WHOLE = 2**53  # beyond it, floats skip whole numbers
_SURROUNDINGS = 1024  # pixels; more than the halo of any generator


class Survey(NamedTuple):
    """What reading a whole label raster has found."""

    counts: CodeCounts
    """Number of pixels with data of each code."""
    digest: str
    """Of all codes, of where there is data, and of the grid, whatever the file or folder. For a tile in a mosaic, also
    of its surroundings."""


class LabelRaster:
    """A single-band raster of whole numbers, of any dtype, with the legend that reads it."""

    def __init__(
        self, source: str | Path | Raster, legend: Legend, *, unknown: Literal["error", "nodata"] = "error"
    ) -> None:
        """Open the labels, unless they are open already.

        Args:
            source: what `open_labels` takes, or an open raster.
            legend: of its codes or colours.
            unknown: what `survey` and `read_known` do about codes that the legend does not list: "error" refuses them,
                "nodata" takes them for pixels without a class.

        Raises:
            RasterError: if the file cannot be opened.
            DataError: if it is not a label raster.
            LegendError: if it contains colours, and these do not distinguish the legend's classes.
            SettingsError: if `unknown` is neither.
        """
        self.raster: Raster = source if isinstance(source, Raster) else open_labels(source)
        self.legend = legend.by_colour(self.raster.path) if self.raster.holds_colours else legend
        if unknown not in ("error", "nodata"):
            raise SettingsError(f"unknown codes: 'error' or 'nodata', not {unknown!r}")
        self.unknown = unknown
        _check_is_labels(self.raster)
        nodata = self.raster.nodata
        if nodata is not None and nodata in self.legend.class_of:
            _LOG.warning(
                "%s: declares nodata %s, which is class %r in the legend; treated as nodata",
                self.raster.path,
                self.legend.say(int(nodata)),
                legend.names[self.legend.class_of[int(nodata)]],
            )

    @property
    def name(self) -> str:
        """Name for messages and provenance."""
        return self.raster.path

    @property
    def geobox(self) -> GeoBox:
        """Grid of the raster."""
        return self.raster.geobox

    def survey(self, progress: Progress = silent) -> Survey:
        """Read the whole raster once, block by block, and refuse what cannot be painted.

        Raises:
            LegendError: if there are codes that the legend does not list, unless they are treated as nodata.
            DataError: if no pixel has a class.
        """
        grid = f"{' '.join(map(str, self.geobox.shape))} {self.geobox.affine[:6]} {self.geobox.crs}"
        plan = self.surveyed()
        counts: CodeCounts = {}
        digest = hashlib.blake2b(grid.encode(), digest_size=16)

        def read(window: Window) -> tuple[Array, Array, CodeCounts]:
            codes, valid = self.read_codes(window)
            known = filled(codes, valid)
            part = known if valid.any() else known[:0]  # large mosaics are mostly empty
            return np.packbits(valid), part, dict(_count(known, valid))

        threads = max(1, _READERS // self.raster.dtype.itemsize)
        for done, (where, known, found) in enumerate(ahead(read, plan, threads), start=1):
            digest.update(where.data)
            digest.update(np.ascontiguousarray(known).data)
            for code, count in found.items():
                counts[code] = counts.get(code, 0) + count
            if isinstance(self.legend, ColourLegend) and self.unknown == "error" and len(counts) > MOST_UNKNOWN_COLOURS:
                self.legend.check_is_mask(counts, self.name)
            progress(done, len(plan))
        around, place = self._around
        if around is not self.raster:
            for part in place.buffer(_SURROUNDINGS).overlap(around.window).pieces(SCAN_BLOCK):
                codes, valid = around.read(part)
                digest.update(np.where(valid, codes, codes.dtype.type(around.nodata or 0)).tobytes())
                digest.update(np.packbits(valid).tobytes())
        self._check(counts)
        return Survey(counts, digest.hexdigest())

    @property
    def _around(self) -> tuple[Raster, Window]:
        """The raster that continues this one beyond its edges (itself, unless it is a tile), and its place there."""
        if isinstance(self.raster, TileInMosaic):
            return self.raster.mosaic, self.raster.place
        return self.raster, self.raster.window

    def surveyed(self) -> Sequence[Window]:
        """The windows that `survey` reads, in its order; together they are the whole raster."""
        return self.raster.window.pieces(SCAN_BLOCK)

    def _check(self, counts: CodeCounts) -> None:
        if strange := self._refuse_unknown(counts):
            message = "%s: %d px of unknown %s (%s) are treated as nodata"
            shown = first_of(map(self.legend.say, strange))
            _LOG.warning(message, self.name, sum(strange.values()), self.legend.known_by, shown)
        if not any(self.legend.count(counts)):
            raise DataError(f"{self.name}: no pixel has a class: all of it is nodata")

    def read_known(self, window: Window, where: Mask | None = None) -> ClassIndices:
        """Class indices of a window inside the raster, (height, width); `num_classes` where there is no class.

        Args:
            window: inside the raster.
            where: (height, width), which pixels are wanted; others get no class. None for all.

        Raises:
            LegendError: if there are codes that the legend does not list, unless they are treated as nodata.
            DataError: if a value is not a whole number.
        """
        codes, valid = self.read_codes(window)
        if where is not None:
            valid = valid & where
        indices = self.legend.encode(codes)
        unclear = valid & (indices == self.legend.num_classes)
        if unclear.any():
            self._refuse_unknown(dict(_count(filled(codes, unclear), unclear)))
        indices[~valid] = self.legend.num_classes
        return indices

    def _refuse_unknown(self, counts: CodeCounts) -> CodeCounts:
        """The codes that the legend does not list, if they are treated as nodata; else an error."""
        strange = self.legend.unknown(counts)
        if strange and self.unknown == "error":
            table = self.raster.class_table
            names = {code: name for code, (name, _) in table.items()}
            if shows_colours_of(table, self.legend, strange):
                remedy = "its palette has the legend's colours: --label-legend from-raster (of generate, --legend"
                self.legend.check(counts, self.name, names, f"{remedy} from-raster) reads the codes by these")
            self.legend.check(counts, self.name, names)
        return strange

    def read(self, window: Window) -> tuple[ClassIndices, Mask]:
        """Class indices, and where there is a class, both (height, width), of a window that may exceed the raster.

        Beyond the edge the nearest pixel of the raster is repeated; around a tile of a mosaic, neighbouring tiles are
        read. For the network, pixels without a class get the class of a pixel within 16 px along rows and columns, else
        the first class; the second array is False there.

        Raises:
            GridError: if the window lies wholly outside the raster.
        """
        own = window.intersection(self.raster.window)
        if own is None:
            raise GridError(f"{self.raster.path}: {window} lie outside it")
        around, tile = self._around
        place = window.shift(tile.row, tile.column)
        inside = needed_around(place).overlap(around.window)
        codes, valid = _read_codes(around, inside)
        indices, labelled = to_indices(codes, valid, inside, place, self.legend)
        if around is not self.raster:
            labelled[own.slices_in(window)] &= self.raster.read(own)[1]
        return indices, labelled

    def read_codes(self, window: Window) -> tuple[Array, Mask]:
        """Codes as stored, and where there is data, both (height, width), of a window inside the raster.

        Raises:
            DataError: if a value is not a whole number.
        """
        return _read_codes(self.raster, window)


def _read_codes(raster: Raster, window: Window) -> tuple[Array, Mask]:
    values, valid = raster.read(window)
    return whole_codes(values[0], valid, raster.path), valid


def whole_codes(values: Array, valid: Mask, name: str) -> Array:
    """Integer codes of values that may be floats.

    Args:
        values: of any shape and numeric type.
        valid: where there is data, of the same shape; elsewhere floats become 0.
        name: of the labels, for messages.

    Raises:
        DataError: if a value is not a whole number.
    """
    if values.dtype.kind != "f":
        return values
    fractions = valid & ((values != np.round(values)) | (np.abs(values) > _WHOLE))
    if fractions.any():
        raise DataError(f"{name}: holds {values[fractions][0]:g}; class codes are whole numbers")
    return filled(values, valid).astype(np.int64)


def to_indices(codes: Array, valid: Mask, inside: Window, window: Window, legend: Legend) -> tuple[ClassIndices, Mask]:
    """What `LabelRaster.read` returns for `window`, from codes that have been read already.

    Args:
        codes: (height, width) of `inside`.
        valid: where there is data, (height, width) of `inside`.
        inside: the part of `needed_around(window)` that is in the raster.
        window: may exceed `inside`.
        legend: of the codes.
    """
    grown = needed_around(window)
    indices = legend.encode(codes)
    indices[~valid] = legend.num_classes
    beyond = (
        (inside.row - grown.row, grown.bottom - inside.bottom),
        (inside.column - grown.column, grown.right - inside.right),
    )
    indices = np.pad(indices, beyond, "edge")
    crop = (slice(_FILL_STEPS, -_FILL_STEPS),) * 2
    labelled = indices[crop] < legend.num_classes
    return fill_holes(indices, legend.num_classes, _FILL_STEPS)[crop], labelled


def needed_around(window: Window) -> Window:
    """A window extended by the pixels that may fill its holes, so that the cut of a raster does not matter."""
    return window.buffer(_FILL_STEPS)


def fill_holes(indices: ClassIndices, hole: int, steps: int) -> ClassIndices:
    """Grow classes into pixels equal to `hole`, one pixel per step, from above, below, left, right, in this order.

    The class of a pixel depends only on pixels up to `steps` away. Pixels that are not reached get class 0.
    """
    padded = np.pad(indices, 1, constant_values=hole)
    values, across = padded.reshape(-1), padded.shape[1]
    around = np.array([[-across], [across], [-1], [1]])
    holes = padded == hole
    inner = holes[1:-1, 1:-1]
    deep = holes[:-2, 1:-1] & holes[2:, 1:-1] & holes[1:-1, :-2] & holes[1:-1, 2:]  # all neighbours are holes
    left, front = np.pad(inner, 1).reshape(-1), np.flatnonzero(np.pad(inner & ~deep, 1))
    last = np.empty(len(values), np.int32)  # for each pixel, its last position among the next ones
    for _ in range(steps):
        if not len(front):
            break
        found = values[front - across]
        for (step,) in around[1:]:
            missing = np.flatnonzero(found == hole)
            found[missing] = values[front[missing] + step]
        values[front], left[front] = found, False
        next_to = (front + around).reshape(-1)
        next_to = next_to[left[next_to]]
        order = np.arange(len(next_to), dtype=np.int32)
        last[next_to] = order
        front = next_to[last[next_to] == order]  # each pixel once, faster than by sorting
    values[left] = 0
    return padded[1:-1, 1:-1]


def _check_is_labels(raster: Raster) -> None:
    if raster.count != 1:
        raise DataError(
            f"{raster.path}: has {raster.count} bands; a label raster has one band of class codes, or red, green and"
            " blue bytes in the colours of its classes, or from four bands on one for each class, of 0 and 1 or 255"
            " (rio stack --bidx N FILE NEW takes band N)"
        )
    if raster.dtype.kind not in "iuf":
        raise DataError(f"{raster.path}: holds {raster.dtype} values; a label raster holds class codes, whole numbers")


def _count(codes: Array, valid: Mask) -> Iterator[tuple[int, int]]:
    """(code, number of pixels) of each code among the valid pixels of (height, width); other pixels are 0."""
    if codes.dtype == np.uint8:  # faster than numpy, which converts each to int64 first
        histogram = Image.fromarray(codes).histogram()
        histogram[0] -= int(np.count_nonzero(~valid))
        yield from ((code, count) for code, count in enumerate(histogram) if count)
    elif codes.dtype == np.uint16:  # thirty times faster than sorting
        counts = np.bincount(codes[valid])
        yield from ((int(code), int(counts[code])) for code in np.flatnonzero(counts))
    elif valid.any():  # by runs of equal codes, so that there are few to sort
        known = codes[valid]
        starts = np.flatnonzero(np.append(True, known[1:] != known[:-1]))
        found, kind = np.unique(known[starts], return_inverse=True)
        pixels = np.bincount(kind, np.diff(starts, append=len(known)))
        yield from ((int(code), int(count)) for code, count in zip(found, pixels, strict=True))
