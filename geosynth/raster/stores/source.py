"""PatchSource: aligned imagery and labels on one pixel grid, whatever holds them."""

from __future__ import annotations

import copy
import hashlib
import json
import operator
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import shapely
from odc.geo.geobox import GeoBox

from geosynth.config.bands import Quantity
from geosynth.errors import SettingsError
from geosynth.files import check_name
from geosynth.grid import SpatialSplit, Window, ground_sampling_distance
from geosynth.grid.alignment import describe_grid
from geosynth.grid.groups import blocks_over
from geosynth.grid.split import FOLDS
from geosynth.legend import ClassIndices, Legend
from geosynth.progress import Progress, silent
from geosynth.raster.read import SCAN_BLOCK, Array

FOLDS_AND_ALL = (*FOLDS, "all")
"""What class pixels are counted of: the folds, and all pixels, those of no fold too."""

_SAMPLES = 64  # scenes of which a block is read to tell data apart


@dataclass(frozen=True, slots=True)
class Scene:
    """One source raster pair on the grid of a source."""

    name: str
    """By which messages call it."""
    window: Window
    """On the source's grid."""
    class_pixels: tuple[int, ...]
    """Pixels of each class that have imagery too, in the legend's order; empty where nobody counted."""
    image_sha256: str
    """Of the image file; empty where it was not read as a whole (files in place, URLs)."""
    labels_sha256: str
    """Of the label file, likewise."""
    image: str = ""
    """The image file."""
    labels: str = ""
    """The label file."""
    date: str | None = None
    """Of the imagery, as its source says it."""

    def __post_init__(self) -> None:
        check_name(self.name, self.image or "a scene")  # tiles are called by it

    @property
    def is_complete(self) -> bool:
        """Whether each pixel is known to have imagery and a class."""
        return sum(self.class_pixels) == self.window.height * self.window.width

    def to_values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_values`."""
        window = Window(**{name: operator.index(pixels) for name, pixels in values["window"].items()})
        return cls(**{**values, "window": window, "class_pixels": tuple(map(operator.index, values["class_pixels"]))})


class PatchSource(ABC):
    """Aligned imagery and labels on one pixel grid: a `Store`, or files read in place (`open_in_place`).

    Sources may be pickled, used after a fork, and by several threads at a time. A pickled source is how another
    process opens the same data.
    """

    path: str
    """A name for messages."""
    geobox: GeoBox
    """The whole grid."""
    legend: Legend
    """Of the labels."""
    band_names: tuple[str, ...]
    """Of the imagery."""
    dtype: np.dtype[Any]
    """Of the imagery."""
    quantities: tuple[Quantity, ...] = ()
    """What the values of each band mean; empty where that is not known."""
    scenes: tuple[Scene, ...]
    """The places on the grid that hold data."""
    split: SpatialSplit
    """Which parts of the grid are train, val and test."""
    chunk_size: int
    """Side of the blocks that the imagery is stored in, pixels: windows on their edges are the cheapest."""

    extras: Mapping[str, tuple[np.dtype[Any], float]] = MappingProxyType({})
    """Type and nodata value of further maps, by name."""
    synthetic: Mapping[str, str] = MappingProxyType({})
    """How the imagery was made, by a generator; empty where it is what the source rasters hold."""

    _class_pixels: dict[str, tuple[int, ...]] | None = None

    @property
    def name(self) -> str:
        """What a store of the data is called among those of other CRSs."""
        return Path(self.path).name

    @abstractmethod
    def read(self, window: Window) -> tuple[Array, ClassIndices]:
        """Imagery and classes of a window inside the grid, in one pass.

        Returns:
            (bands, height, width) of `dtype`, and (height, width) class indices, `num_classes` where image or labels
            have no data.

        Raises:
            RasterError: if it cannot be read; names the file.
            LegendError: if a label file holds codes that its legend does not know.
        """

    @abstractmethod
    def read_labels(self, window: Window) -> ClassIndices:
        """The classes of `read` alone; the imagery is not read where it need not be."""

    def read_image(self, window: Window) -> Array:
        """The imagery of `read` alone."""
        return self.read(window)[0]

    def extra_type(self, name: str) -> tuple[np.dtype[Any], float]:
        """Type and nodata value of a further map.

        Raises:
            SettingsError: if there is no such map.
        """
        if name not in self.extras:
            raise SettingsError(f"{self.path}: no map {name!r}; there are: {', '.join(self.extras) or 'none'}")
        return self.extras[name]

    def read_extra(self, name: str, window: Window) -> Array:
        """(height, width) raw values of a further map.

        Raises:
            SettingsError: if there is no such map.
            RasterError: if it cannot be read; names the file.
        """
        raise NotImplementedError(f"{type(self).__name__}: {self.extra_type(name)}")

    @property
    def window(self) -> Window:
        """The whole grid."""
        return Window(0, 0, *self.geobox.shape)

    @property
    def gsd(self) -> float | None:
        """Ground sampling distance, metres a pixel; None without a projected CRS."""
        return ground_sampling_distance(self.geobox)

    def scenes_in(self, fold: str) -> tuple[Scene, ...]:
        """The scenes that have a part in the fold."""
        return tuple(scene for scene in self.scenes if self.split.meets(scene.window, fold))

    def blocks(self, size: int, fold: str | None = None) -> list[Window]:
        """Blocks of a square lattice that hold a part of a scene, cropped to the grid, row by row.

        Args:
            size: of their side, pixels; the lattice starts at the grid's first pixel.
            fold: of which they hold a part; None for any.
        """
        scenes = self.scenes if fold is None else self.scenes_in(fold)
        blocks = blocks_over([scene.window for scene in scenes], size)
        inside = [part for block in blocks if (part := block.intersection(self.window))]
        return inside if fold is None else [part for part in inside if self.split.meets(part, fold)]

    def describe(self) -> dict[str, Any]:
        """What it holds, as plain values."""
        return {
            "path": self.path,
            **describe_grid(self.geobox),
            "gsd": self.gsd,
            "bands": list(self.band_names),
            "dtype": str(self.dtype),
            **self._told_quantities(),
            "legend": self.legend.model_dump(mode="json"),
            "buffer": self.split.buffer,
            "folds": {fold: {"scenes": len(self.scenes_in(fold))} for fold in FOLDS},
        }

    def with_split(self, split: SpatialSplit) -> Self:
        """The same data under another split; nothing is copied, and nothing written."""
        other = copy.copy(self)
        other.split, other._class_pixels = split, None
        return other

    def facts(self, fold: str | None = None) -> dict[str, Any]:
        """What decides imagery, classes and folds, as plain values by topic; where the data lie plays no part.

        Args:
            fold: of which alone to speak; None for all.
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
        """Plain values; nothing where nothing is told, as sources of old say it."""
        return {"quantities": [quantity.told() for quantity in self.quantities]} if self.quantities else {}

    def _evidence(self, scenes: Sequence[Scene]) -> Any:
        """What tells other pixels of scenes that nobody hashed: SHA-256 of a block each of 64 of them."""
        unknown = [scene.window for scene in scenes if not (scene.image_sha256 and scene.labels_sha256)]
        digest = hashlib.sha256()
        for place in np.unique(np.linspace(0, len(unknown) - 1, min(len(unknown), _SAMPLES)).astype(int)):
            for values in self.read(unknown[place].middle(self.chunk_size, self.chunk_size)):
                digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def digest(self, fold: str | None = None) -> str:
        """SHA-256 of the `facts`: sources of one digest hold the same data."""
        return hashlib.sha256(json.dumps(self.facts(fold), sort_keys=True).encode()).hexdigest()

    def class_pixels(self, fold: str = "all", progress: Progress = silent) -> tuple[int, ...]:
        """Pixels of each class in a fold, in the legend's order; where scenes overlap they count once.

        Labels are read at the first question, unless a store has kept the counts.

        Args:
            fold: "train", "val", "test", or "all", which counts pixels of no fold too.
            progress: told blocks read and blocks in all.
        """
        known = self._class_pixels or {}
        if fold not in known:
            blocks = self.blocks(SCAN_BLOCK, None if fold == "all" else fold)
            counts = dict(zip(FOLDS_AND_ALL, self.count_classes(blocks, progress).sum(axis=0).tolist(), strict=True))
            found = counts if fold == "all" else {fold: counts[fold]}
            self._class_pixels = known = known | {name: tuple(pixels) for name, pixels in found.items()}
        return known[fold]

    def count_classes(self, windows: Sequence[Window], progress: Progress = silent) -> npt.NDArray[np.int64]:
        """Read labels and count.

        Args:
            windows: which may reach beyond the grid.
            progress: told windows done and windows in all.

        Returns:
            (windows, 4, classes): pixels of each class in train, val, test, and in all of a window.
        """
        num_classes = self.legend.num_classes

        def count(window: Window) -> npt.NDArray[np.int64]:
            inside = window.intersection(self.window)
            total = np.zeros((len(FOLDS_AND_ALL), num_classes), dtype=np.int64)
            for piece in inside.pieces(SCAN_BLOCK) if inside else ():
                total += count_by_fold(self.read_labels(piece), piece, self.split, num_classes)
            return total

        counts = np.zeros((len(windows), len(FOLDS_AND_ALL), num_classes), dtype=np.int64)
        with ThreadPoolExecutor() as pool:
            for index, found in enumerate(pool.map(count, windows)):
                counts[index] = found
                progress(index + 1, len(windows))
        return counts


def count_by_fold(
    indices: ClassIndices, window: Window, split: SpatialSplit, num_classes: int
) -> npt.NDArray[np.int64]:
    """(4, classes): pixels of each class in train, val, test, and in all of a window.

    Args:
        indices: (height, width) class indices of the window; `num_classes` where there is none.
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
