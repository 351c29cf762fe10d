"""The tiles of an evaluation: real and synthetic imagery with labels, from rasters or from a store and its twins."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox

from geosynth.config import BandSettings
from geosynth.config.bands import Quantity
from geosynth.errors import DataError, GridError, counted
from geosynth.estimate import MIN_PLACES, Indices
from geosynth.evaluation.levels import Levels
from geosynth.grid import TilePlan, Window, offset_in
from geosynth.grid.alignment import absolute_origin
from geosynth.legend import Legend
from geosynth.progress import Progress
from geosynth.raster.bands import check_image_type, given_names, open_chosen, told_names, warn_of_descriptions
from geosynth.raster.labels import LabelRaster
from geosynth.raster.quantities import agreed_quantities
from geosynth.raster.read import Array, ImageRaster
from geosynth.raster.stores.alike import check_twin, common_quantities
from geosynth.raster.stores.source import PatchSource, Scene
from geosynth.raster.stores.statistics import BLOCK, percentiles, scaled_bands
from geosynth.raster.stores.tiles import TileView

_READ_SIZE = 1024  # pixels of a raster read at once, at least
_MAX_PLACES = 100
_TRAIN = "train"

Pixels = npt.NDArray[np.uint8]


class Block(NamedTuple):
    """The pixels of a window."""

    real: Array
    """(bands, height, width)."""
    synthetic: Array
    """(bands, height, width)."""
    indices: Pixels
    """(height, width) class indices; `num_classes` where there is no class or an image has no data."""

    def crop(self, window: Window) -> Block:
        """A part of the block; `window` counts from its first pixel."""
        place = (..., *window.slices)
        return Block(self.real[place], self.synthetic[place], self.indices[place])

    def seen(self, levels: Levels) -> Block:
        """The same, in levels."""
        return self._replace(real=levels.of(self.real), synthetic=levels.of(self.synthetic))


class Tile(NamedTuple):
    """A square, or the part of one at the edge of the area."""

    number: int
    """Number of the tile in the pair, from 0."""
    window: Window
    """As for `TilePair.read`."""
    place: int
    """Number of the tile's place; places are drawn for intervals."""
    block: Block

    def seen(self, levels: Levels) -> Tile:
        """The same, in levels."""
        return self._replace(block=self.block.seen(levels))


class Chunk(NamedTuple):
    """One or more tiles that are read at once."""

    block: Block
    """Its pixels; for a raster with one more row and column if the area continues."""
    tiles: list[Tile]
    shape: tuple[int, int]
    """Height and width without that row and column."""
    origin: tuple[int, int] | None
    """Absolute (row, column) of the first pixel, by which `generate` cuts a raster into blocks; None for a store."""


class TilePair(ABC):
    """Real and synthetic imagery with labels, as tiles that do not overlap."""

    legend: Legend
    bands: tuple[str, ...]
    dtype: np.dtype[Any]
    """Type of all imagery."""
    quantities: tuple[Quantity, ...]
    """What the values of each band mean; empty if that is not known."""
    geobox: GeoBox
    """Grid of the real imagery."""
    tile_size: int
    num_tiles: int
    """Number of tiles, including those that are not whole."""
    num_places: int
    """Number of places, which are drawn for intervals."""
    place_kind: str
    """What a place is, in words."""
    num_chunks: int
    """Number of chunks that `chunks` yields."""
    reference: str
    """Name of the tiles' real images in a report."""

    @abstractmethod
    def chunks(self) -> Iterator[Chunk]:
        """All tiles, each once, always in the same order."""

    @abstractmethod
    def read(self, window: Window) -> Block:
        """The pixels of a window inside the evaluated area."""

    @abstractmethod
    def find_levels(self, progress: Progress) -> Levels:
        """Levels from the 0.1 to the 99.9 percentile of each band of the real imagery, which is read unless uint8.

        Args:
            progress: called with the number of blocks read and of all blocks.

        Raises:
            DataError: if a band is constant, or there is no pixel to compare.
        """

    @abstractmethod
    def frame(self, window: Window, height: int, width: int) -> Window:
        """A window of about this size around the middle of another one, moved and cropped to be inside the area."""

    @abstractmethod
    def describe(self, window: Window) -> str:
        """Where a window is, in words."""

    @property
    @abstractmethod
    def sources(self) -> dict[str, Any]:
        """What is compared, with the names in the report: real, synthetic, labels, fold and area."""

    @property
    @abstractmethod
    def tags(self) -> Mapping[str, str]:
        """Tags of the synthetic imagery that record how it was made."""

    @property
    @abstractmethod
    def nothing(self) -> str:
        """The message if there is no pixel to compare."""

    def is_whole(self, tile: Tile) -> bool:
        """Whether a tile is a full square, and every pixel of it has a class and both images."""
        indices = tile.block.indices
        return indices.shape == (self.tile_size, self.tile_size) and bool((indices < self.legend.num_classes).all())


class RasterTiles(TilePair):
    """Tiles of the common area of three rasters; a place is a tile, or a square of tiles where there are many.

    Args:
        real: image raster.
        synthetic: image raster of the same bands.
        labels: label raster.
        legend: of the classes as reported.
        label_legend: of the label raster.
        bands: names of the bands, or of those to use, see `open_chosen`; None for those in the files.
        tile_size: in pixels.

    Attributes:
        real, synthetic, labels: the rasters.
        area: the pixels that all three cover, on the grid of `real`.

    Raises:
        DataError: if dtypes differ or are not supported, if numbers, names or quantities of bands differ, or if the
            meaning of a band is unclear.
        GridError: if pixel grids differ, or there is no common pixel.
        LegendError: if `label_legend` has a class that `legend` lacks.
        RasterError: if a file cannot be opened.
    """

    reference = "area"

    def __init__(
        self,
        real: str | Path,
        synthetic: str | Path,
        labels: str | Path,
        legend: Legend,
        label_legend: Legend,
        bands: Sequence[str] | None,
        tile_size: int,
    ) -> None:
        self.real, self.synthetic = open_chosen(real, bands), open_chosen(synthetic, bands)
        self.labels = LabelRaster(labels, label_legend.translation_to(legend))
        self.legend, self.tile_size, self.geobox = legend, tile_size, self.real.geobox
        for image in (self.real, self.synthetic):
            check_image_type(image.dtype, image.path)
        if self.real.types != self.synthetic.types:
            raise DataError(
                f"{self.synthetic.path}: holds {self.synthetic.types} values, but {self.real.path} holds"
                f" {self.real.types}; evaluate compares values of one type and unit"
            )
        self.dtype = self.real.dtype
        if self.real.count != self.synthetic.count:
            fewer = told_names(min(self.real, self.synthetic, key=lambda image: image.count))
            remedy = f"; --bands {','.join(fewer)} compares these" if fewer else ""
            raise DataError(
                f"{self.synthetic.path}: has {counted(self.synthetic.count, 'band')}, but {self.real.path} has"
                f" {self.real.count}{remedy}"
            )
        self.bands = _band_names(self.real, self.synthetic, bands)
        quantities = [(image.path, image.quantities) for image in (self.real, self.synthetic)]
        self.quantities = agreed_quantities(quantities, self.bands)
        others = self.synthetic, self.labels.raster
        self._offsets = [offset_in(self.real.geobox, other.geobox, other.path) for other in others]
        area: Window | None = self.real.window
        for other, offset in zip(others, self._offsets, strict=True):
            area = area and area.intersection(other.window.shift(*offset))
        if area is None:
            raise GridError(
                f"{self.real.path}, {self.synthetic.path} and {self.labels.raster.path} have no pixel in common"
            )
        self.area = area
        self._whole = Window(0, 0, area.height, area.width)
        rows, self._columns = -(-area.height // tile_size), -(-area.width // tile_size)
        self.num_tiles = rows * self._columns
        # The smallest squares of tiles that are not too many.
        self._group = next(
            side for side in itertools.count(1) if -(-rows // side) * -(-self._columns // side) <= _MAX_PLACES
        )
        self._places_across = -(-self._columns // self._group)
        self.num_places = -(-rows // self._group) * self._places_across
        self.place_kind = f"squares of {self._group * tile_size} px, which touch: intervals may be too narrow"
        self._plan = TilePlan(area.height, area.width, tile_size * max(1, _READ_SIZE // tile_size))
        self.num_chunks = len(self._plan)

    @property
    def origin(self) -> tuple[int, int]:
        """Absolute (row, column) of the area's first pixel in the synthetic raster, see `grid.BlockPlan`."""
        (down, across), (row, column) = self._offsets[0], absolute_origin(self.synthetic.geobox)
        return self.area.row - down + row, self.area.column - across + column

    def chunks(self) -> Iterator[Chunk]:  # noqa: D102
        row, column = self.origin
        for window in self._plan:
            # One more row and column, for the steps to the neighbouring blocks.
            grown = self._whole.intersection(Window(window.row, window.column, window.height + 1, window.width + 1))
            assert grown is not None
            block = self.read(grown)
            tiles = [
                self._tile(inside.shift(window.row, window.column), block.crop(inside))
                for inside in TilePlan(window.height, window.width, self.tile_size)
            ]
            yield Chunk(block, tiles, (window.height, window.width), (row + window.row, column + window.column))

    def read(self, window: Window) -> Block:
        """The pixels of `window`, which counts from the first pixel of the area and is inside it."""
        place = window.shift(self.area.row, self.area.column)
        in_synthetic, in_labels = (place.shift(-row, -column) for row, column in self._offsets)
        real, real_valid = self.real.read(place)
        synthetic, synthetic_valid = self.synthetic.read(in_synthetic)
        return Block(real, synthetic, self.labels.read_known(in_labels, real_valid & synthetic_valid))

    def find_levels(self, progress: Progress) -> Levels:  # noqa: D102
        if self.dtype == np.uint8:
            return Levels(BandSettings(names=self.bands))

        def read(window: Window) -> Array:
            block = self.read(window)
            return block.real[:, block.indices < self.legend.num_classes]

        limits = percentiles(self._whole.pieces(BLOCK), read, progress)
        if limits is None:
            raise DataError(self.nothing)
        return Levels(scaled_bands(self.bands, str(self.dtype), limits, self.real.path))

    def frame(self, window: Window, height: int, width: int) -> Window:  # noqa: D102
        return centred(window, self._whole, height, width)

    def describe(self, window: Window) -> str:  # noqa: D102
        return f"real raster, {window.shift(self.area.row, self.area.column)}"

    @property
    def sources(self) -> dict[str, Any]:  # noqa: D102
        area = self.area
        return {
            "real": self.real.path,
            "synthetic": (self.synthetic.path,),
            "labels": self.labels.raster.path,
            "fold": None,
            "area": (area.row, area.column, area.height, area.width),
        }

    @property
    def tags(self) -> Mapping[str, str]:  # noqa: D102
        return self.synthetic.tags

    @property
    def nothing(self) -> str:  # noqa: D102
        return f"{self.real.path}: no pixel to compare: where all three rasters lie, none has a class and both images"

    def _tile(self, window: Window, block: Block) -> Tile:
        row, column = window.row // self.tile_size, window.column // self.tile_size
        place = row // self._group * self._places_across + column // self._group
        return Tile(row * self._columns + column, window, place, block)


class StoreTiles(TilePair):
    """Tiles of a fold, side by side from the first pixel of each scene on; incomplete ones are left out.

    A place is a cluster of touching scenes. If the fold has fewer than 8 of these, it is a square of tiles.

    Args:
        source: the real imagery.
        twins: the synthetic imagery; the first is evaluated, all are used to measure diversity. Empty if they are still
            to be painted.
        fold: "train", "val" or "test".
        tile_size: in pixels.

    Raises:
        DataError: if a twin is not one of the source, or if the fold has no tile.
    """

    def __init__(self, source: PatchSource, twins: Sequence[PatchSource], fold: str, tile_size: int) -> None:
        for twin in twins:
            check_twin(twin, source)
        self.source, self.twins, self.tile_size = source, tuple(twins), tile_size
        self.fold = self.reference = fold
        self.legend, self.bands, self.geobox = source.legend, source.band_names, source.geobox
        self.dtype, self.quantities = source.dtype, common_quantities([source, *twins])
        self._view = TileView(source, fold, tile_size, tile_size, edge="skip", max_nodata=1.0)
        self.num_tiles = self.num_chunks = len(self._view)
        if not self.num_tiles:
            raise DataError(f"{source.path}: fold {fold!r} has no tile of {tile_size} px; choose smaller tiles")
        self.places, self.place_kind = _places(self._view)
        self.num_places = int(np.max(self.places)) + 1

    def chunks(self) -> Iterator[Chunk]:  # noqa: D102
        for number, place in enumerate(self.places.tolist()):
            window = self._view[number]
            block = self.read(window)
            yield Chunk(block, [Tile(number, window, place, block)], (self.tile_size, self.tile_size), None)

    def read(self, window: Window) -> Block:  # noqa: D102
        real, labels = self.source.read(window)
        return Block(real, *self._read_twin(self.twins[0], window, labels))

    def read_latents(self, window: Window) -> Array:
        """Images of all twins in a window that the first twin covers, (twins, bands, height, width).

        Raises:
            DataError: if another twin does not cover it.
        """
        labels = self.source.read_labels(window)
        images: list[Array] = []
        for twin in self.twins:
            image, found = self._read_twin(twin, window, labels)
            if images and (found == self.legend.num_classes).any():
                raise DataError(f"{twin.path}: has no image of {window}, but {self.twins[0].path} has")
            images.append(image)
        return np.stack(images)

    def _read_twin(self, twin: PatchSource, window: Window, labels: Pixels) -> tuple[Array, Pixels]:
        """The twin's image, and the store's labels where there is an image; elsewhere there is no class."""
        image, found = twin.read(window)
        covered = found < self.legend.num_classes
        if (labels != found)[covered].any():
            raise DataError(f"{twin.path}: its labels are not those of {self.source.path}; make a twin of that store")
        return image, found

    def train_view(self) -> TileView | None:
        """Tiles of the fold that the generator was trained on; None if this is the evaluated fold."""
        if self.fold == _TRAIN:
            return None
        return TileView(self.source, _TRAIN, self.tile_size, self.tile_size, edge="skip")

    def find_levels(self, progress: Progress) -> Levels:  # noqa: D102
        return Levels.of_fold(self.source, self.fold, progress)

    def frame(self, window: Window, height: int, width: int) -> Window:  # noqa: D102
        return centred(window, self._scene_of(window).window, height, width)

    def describe(self, window: Window) -> str:
        """The scene that contains a window, and where the window is in it."""
        scene = self._scene_of(window)
        return f"{scene.name}, {window.shift(-scene.window.row, -scene.window.column)}"

    @property
    def sources(self) -> dict[str, Any]:  # noqa: D102
        path, twins = self.source.path, tuple(twin.path for twin in self.twins)
        return {"real": path, "synthetic": twins, "labels": path, "fold": self.fold, "area": None}

    @property
    def tags(self) -> Mapping[str, str]:  # noqa: D102
        return self.twins[0].synthetic

    @property
    def nothing(self) -> str:  # noqa: D102
        return f"{self.twins[0].path}: has no image in the fold {self.fold!r} of {self.source.path}; paint that fold"

    def _scene_of(self, window: Window) -> Scene:
        return next(scene for scene in self.source.scenes if scene.window.contains(window))


def centred(window: Window, inside: Window, height: int, width: int) -> Window:
    """A window around the middle of another one, moved (and cropped if too large) to be inside a third."""
    height, width = min(height, inside.height), min(width, inside.width)
    row = window.row + window.height // 2 - height // 2
    column = window.column + window.width // 2 - width // 2
    return Window(
        min(max(row, inside.row), inside.bottom - height),
        min(max(column, inside.column), inside.right - width),
        height,
        width,
    )


def _band_names(real: ImageRaster, synthetic: ImageRaster, bands: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the bands: as given, else from the files, else numbers."""
    if bands is not None:
        warn_of_descriptions(real, bands)
        warn_of_descriptions(synthetic, bands)
        return given_names(real, bands)
    first, second = (told_names(image) for image in (real, synthetic))
    if first and second and first != second:
        raise DataError(
            f"{synthetic.path}: its bands are {', '.join(second)}, but those of {real.path} are {', '.join(first)};"
            " name them with bands if they are the same"
        )
    names = first or second
    if not names and any("alpha" in image.colour_interpretation for image in (real, synthetic)):
        raise DataError(
            f"{real.path}: one of its bands is marked alpha, which near infrared often is by mistake;"
            " name the bands, as in --bands red,green,blue,nir, or which to take"
        )
    return names or tuple(f"band {number}" for number in range(1, real.count + 1))


def _places(view: TileView) -> tuple[Indices, str]:
    """The place of each tile, (tiles,) from 0 to n - 1, and what a place is, in words."""
    found, places = np.unique(view.clusters(), return_inverse=True)
    if len(found) >= MIN_PLACES:
        # Independent places remain independent when they are pooled.
        return (places % _MAX_PLACES).astype(np.int64), "clusters of touching scenes"
    # Squares of the lattice from the grid's first pixel on, the smallest that are not too many.
    cells = view.windows[:, :2] // view.size
    for side in itertools.count(1):
        places = np.unique(cells // side, axis=0, return_inverse=True)[1].ravel()
        if np.max(places) < _MAX_PLACES:
            break
    kind = f"squares of {side * view.size} px, which touch: intervals may be too narrow"
    return places.astype(np.int64), kind
