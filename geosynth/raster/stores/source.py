"""PatchSource: aligned imagery and labels on one pixel grid, wherever they are stored."""

from __future__ import annotations

import copy
import hashlib
import json
import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import shapely
from odc.geo.geobox import GeoBox

from geosynth.config.bands import Quantity
from geosynth.errors import SettingsError, counted
from geosynth.files import check_name
from geosynth.grid import SpatialSplit, Window, ground_sampling_distance
from geosynth.grid.alignment import describe_grid
from geosynth.grid.groups import blocks_over
from geosynth.grid.split import FOLDS
from geosynth.legend import ClassIndices, Legend
from geosynth.parallel import ahead
from geosynth.progress import Progress, silent
from geosynth.raster.class_table import ClassTable
from geosynth.raster.read import SCAN_BLOCK, Array, Mask, Raster, check_inside
from geosynth.raster.zarr_group import files_in

FOLDS_AND_ALL = (*FOLDS, "all")
"""Areas in which pixels of classes are counted: the folds, and all pixels, including those in no fold."""

_SAMPLES = 64  # scenes from which a block is read to distinguish data


@dataclass(frozen=True, slots=True)
class Scene:
    """The part of a source that comes from one image and its labels."""

    name: str
    """Name in messages."""
    window: Window
    """Place on the source's grid."""
    class_pixels: tuple[int, ...]
    """Number of pixels with imagery of each class, in the legend's order; empty if they were not counted."""
    image_sha256: str
    """Of the image file; empty if it was not read as a whole (files in place, URLs)."""
    labels_sha256: str
    """Of the label file; empty likewise."""
    image: str = ""
    """The image file."""
    labels: str = ""
    """The label file."""
    date: str | None = None
    """Date of the imagery, as listed."""

    def __post_init__(self) -> None:
        check_name(self.name, self.image or "a scene")  # tiles are named after it

    @property
    def is_complete(self) -> bool:
        """Whether all pixels are known to have imagery and a class."""
        return sum(self.class_pixels) == self.window.height * self.window.width

    def to_values(self) -> dict[str, Any]:
        """The scene as plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_values`."""
        window = Window(**{name: operator.index(pixels) for name, pixels in values["window"].items()})
        return cls(**{**values, "window": window, "class_pixels": tuple(map(operator.index, values["class_pixels"]))})


class PatchSource(ABC):
    """Aligned imagery and labels on one pixel grid: a `Store`, or files read in place (`open_in_place`).

    Sources can be pickled, used after a fork, and used by several threads at a time. An unpickled source opens the same
    data in another process.
    """

    path: str
    """Its name in messages."""
    geobox: GeoBox
    """The whole grid."""
    legend: Legend
    """Legend of the labels."""
    band_names: tuple[str, ...]
    """Names of the imagery's bands."""
    dtype: np.dtype[Any]
    """Type of the imagery."""
    quantities: tuple[Quantity, ...] = ()
    """What the values of each band mean; empty if that is not known."""
    scenes: tuple[Scene, ...]
    """The scenes, which are the parts of the grid with data."""
    split: SpatialSplit
    """Which parts of the grid are train, val and test."""
    chunk_size: int
    """Side, in pixels, of the blocks in which the imagery is stored: windows aligned to them are read fastest."""

    extras: Mapping[str, tuple[np.dtype[Any], float]] = MappingProxyType({})
    """Dtype and nodata value of further maps, by name."""
    synthetic: Mapping[str, str] = MappingProxyType({})
    """How a generator made the imagery; empty for real imagery."""

    _class_pixels: dict[str, tuple[int, ...]] | None = None

    def __repr__(self) -> str:
        height, width = self.geobox.shape
        shape = f"{len(self.band_names)} x {height} x {width}, {self.dtype}"
        return f"{type(self).__name__}({self.path!r}, {shape}, {counted(len(self.scenes), 'scene')})"

    @property
    def name(self) -> str:
        """Name for a store of the data among those of other CRSs."""
        return Path(self.path).name

    @abstractmethod
    def read(self, window: Window) -> tuple[Array, ClassIndices]:
        """Imagery and classes of a window inside the grid, in one pass.

        Returns:
            imagery (bands, height, width) of `dtype`, 0 (or NaN) where it has no data, and class indices (height,
            width), `num_classes` where image or labels have no data.

        Raises:
            RasterError: if it cannot be read; it names the file.
            LegendError: if labels have codes that their legend does not list.
        """

    @abstractmethod
    def read_labels(self, window: Window) -> ClassIndices:
        """The classes of `read` alone; the imagery is read only where needed."""

    def read_image(self, window: Window) -> Array:
        """The imagery of `read` alone."""
        return self.read(window)[0]

    def read_holed(self, window: Window) -> tuple[Array, ClassIndices]:
        """As `read`, but with imagery in float32 and NaN where it has no data: where it is 0 beside no class."""
        image, indices = self.read(window)
        hole = (indices == self.legend.num_classes) & (image == 0).all(axis=0)
        return np.where(hole, np.float32(np.nan), image.astype(np.float32)), indices

    def extra_type(self, name: str) -> tuple[np.dtype[Any], float]:
        """Dtype and nodata value of a further map.

        Raises:
            SettingsError: if there is no such map.
        """
        if name not in self.extras:
            raise SettingsError(f"{self.path}: no map {name!r}; there are: {', '.join(self.extras) or 'none'}")
        return self.extras[name]

    def read_extra(self, name: str, window: Window) -> Array:
        """Values of a further map as stored, (height, width).

        Raises:
            SettingsError: if there is no such map.
            RasterError: if it cannot be read; it names the file.
        """
        raise NotImplementedError(f"{type(self).__name__}: {self.extra_type(name)}")

    @property
    def window(self) -> Window:
        """The whole grid."""
        return Window(0, 0, *self.geobox.shape)

    @property
    def gsd(self) -> float | None:
        """Ground sampling distance, in metres per pixel; None unless the CRS has metres."""
        return ground_sampling_distance(self.geobox)

    def scenes_in(self, fold: str) -> tuple[Scene, ...]:
        """The scenes with a part in the fold."""
        return tuple(scene for scene in self.scenes if self.split.meets(scene.window, fold))

    def blocks(self, size: int, fold: str | None = None) -> list[Window]:
        """Blocks of a square lattice that contain a part of a scene, cropped to the grid, row by row.

        Args:
            size: side in pixels; the lattice starts at the grid's first pixel.
            fold: only blocks that contain a part of this fold; None for all.
        """
        scenes = self.scenes if fold is None else self.scenes_in(fold)
        blocks = blocks_over([scene.window for scene in scenes], size)
        inside = [part for block in blocks if (part := block.intersection(self.window))]
        return inside if fold is None else [part for part in inside if self.split.meets(part, fold)]

    def describe(self) -> dict[str, Any]:
        """Description of the source, as plain values."""
        return {
            "path": self.path,
            **describe_grid(self.geobox),
            "gsd": self.gsd,
            "bands": list(self.band_names),
            "dtype": str(self.dtype),
            **self._told_quantities(),
            "legend": self.legend.model_dump(mode="json"),
            "buffer_px": self.split.buffer,
            "folds": {fold: {"scenes": len(self.scenes_in(fold))} for fold in FOLDS},
        }

    def with_split(self, split: SpatialSplit) -> Self:
        """The same data with another split; nothing is copied or written."""
        other = copy.copy(self)
        other.split, other._class_pixels = split, None
        return other

    def facts(self, fold: str | None = None) -> dict[str, Any]:
        """Everything that determines imagery, classes and folds, as plain values by topic; paths are left out.

        Args:
            fold: limit them to one fold; None for all.
        """
        scenes = self.scenes if fold is None else self.scenes_in(fold)
        areas = self.split.to_values() if fold is None else shapely.to_wkt(self.split.area(fold), rounding_precision=-1)
        known = ("name", "class_pixels", "image_sha256", "labels_sha256")
        return {
            "scenes": [[*astuple(scene.window), *(getattr(scene, name) for name in known)] for scene in scenes],
            "areas": areas,
            "legend": self.legend.model_dump(mode="json"),
            "bands": list(self.band_names),
            "dtype": str(self.dtype),
            **self._told_quantities(),
            "grid": [*self.geobox.affine[:6], str(self.geobox.crs)],
            "pixels": self._evidence(scenes),
        }

    def _told_quantities(self) -> dict[str, Any]:
        """Quantities as plain values; empty if there are none, as for sources made before there were quantities."""
        return {"quantities": [quantity.to_values() for quantity in self.quantities]} if self.quantities else {}

    def _evidence(self, scenes: Sequence[Scene]) -> Any:
        """What distinguishes scenes without file hashes: SHA-256 of one block from each of 64 scenes."""
        unknown = [scene.window for scene in scenes if not (scene.image_sha256 and scene.labels_sha256)]
        digest = hashlib.sha256()
        for place in np.unique(np.linspace(0, len(unknown) - 1, min(len(unknown), _SAMPLES)).astype(int)):
            for values in self.read(unknown[place].middle(self.chunk_size, self.chunk_size)):
                digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def digest(self, fold: str | None = None) -> str:
        """SHA-256 of the `facts`: sources with the same digest have the same data."""
        return hashlib.sha256(json.dumps(self.facts(fold), sort_keys=True).encode()).hexdigest()

    def class_pixels(self, fold: str = "all", progress: Progress = silent) -> tuple[int, ...]:
        """Number of pixels of each class in a fold, in the legend's order; where scenes overlap they count once.

        Labels are read at the first call, unless a store has the counts.

        Args:
            fold: "train", "val", "test", or "all", which includes pixels in no fold.
            progress: called with the number of blocks read and of all blocks.
        """
        known = self._class_pixels or {}
        if fold not in known:
            blocks = self.blocks(SCAN_BLOCK, None if fold == "all" else fold)
            counts = dict(zip(FOLDS_AND_ALL, self.count_classes(blocks, progress).sum(axis=0).tolist(), strict=True))
            found = counts if fold == "all" else {fold: counts[fold]}
            self._class_pixels = known = known | {name: tuple(pixels) for name, pixels in found.items()}
        return known[fold]

    def count_classes(self, windows: Sequence[Window], progress: Progress = silent) -> npt.NDArray[np.int64]:
        """Read labels and count the pixels of each class.

        Args:
            windows: may exceed the grid.
            progress: called with the number of finished windows and of all windows.

        Returns:
            (windows, 4, classes): pixels of each class in train, val, test, and in the whole window.
        """
        num_classes = self.legend.num_classes

        def count(window: Window) -> npt.NDArray[np.int64]:
            inside = window.intersection(self.window)
            total = np.zeros((len(FOLDS_AND_ALL), num_classes), dtype=np.int64)
            for piece in inside.pieces(SCAN_BLOCK) if inside else ():
                total += count_by_fold(self.read_labels(piece), piece, self.split, num_classes)
            return total

        counts = np.zeros((len(windows), len(FOLDS_AND_ALL), num_classes), dtype=np.int64)
        for index, found in enumerate(ahead(count, windows)):
            counts[index] = found
            progress(index + 1, len(windows))
        return counts


class SourceCodes(Raster):
    """The labels of a patch source as a raster of its legend's codes."""

    def __init__(self, source: PatchSource) -> None:
        self.source = source
        self.path, self.geobox = source.path, source.geobox
        self.dtype, self.nodata = source.legend.code_dtype, source.legend.nodata_code

    @property
    def files(self) -> tuple[str, ...]:
        """All files of a store on a disk."""
        return files_in(self.path)

    @property
    def class_table(self) -> ClassTable:
        """Names and colours of the legend."""
        return {entry.code: (entry.name, entry.colour) for entry in self.source.legend.classes}

    def read(self, window: Window) -> tuple[Array, Mask]:
        """Codes (1, height, width), and where there is a class (height, width); see `Raster.read`."""
        check_inside(window, self)
        indices = self.source.read_labels(window)
        return self.source.legend.decode(indices)[np.newaxis], indices < self.source.legend.num_classes


def count_by_fold(
    indices: ClassIndices, window: Window, split: SpatialSplit, num_classes: int
) -> npt.NDArray[np.int64]:
    """Pixels of each class in train, val, test, and in the whole window, (4, classes).

    Args:
        indices: class indices of the window, (height, width); `num_classes` where there is no class.
        window: on the split's grid.
        split: the folds.
        num_classes: of the legend.
    """
    counts = np.zeros((len(FOLDS_AND_ALL), num_classes), dtype=np.int64)
    for row, fold in enumerate(FOLDS):
        if split.meets(window, fold):
            part = indices if split.holds(window, fold) else indices[split.mask(window, fold)]
            counts[row] = np.bincount(part.ravel(), minlength=num_classes + 1)[:num_classes]
    counts[-1] = np.bincount(indices.ravel(), minlength=num_classes + 1)[:num_classes]
    return counts
