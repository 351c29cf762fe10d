"""What is evaluated, as tiles: a window of real and synthetic pixels and their classes, and the place it belongs to."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from geosynth.errors import DataError, GridError, SettingsError
from geosynth.evaluation.statistics import MIN_PLACES
from geosynth.files import writing
from geosynth.grid import TilePlan, Window, offset_in
from geosynth.grid.groups import touching_groups
from geosynth.legend import Legend
from geosynth.raster.bands import given_names, told_names
from geosynth.raster.labels import LabelRaster
from geosynth.raster.read import RasterFile, open_raster
from geosynth.raster.stores.in_place import open_sources
from geosynth.raster.stores.source import PatchSource, Scene, check_twin
from geosynth.raster.stores.store import Store
from geosynth.raster.stores.tiles import TileView

if TYPE_CHECKING:
    from geosynth.checkpoint import GeneratorModel

# --- The three rasters of an evaluation, on one pixel grid, read in windows of their common area.


class Block(NamedTuple):
    """What a window holds.

    Attributes:
        real, synthetic: (bands, height, width).
        indices: (height, width): class indices; `num_classes` where there is no class or an image has no data.
    """

    real: npt.NDArray[np.uint8]
    synthetic: npt.NDArray[np.uint8]
    indices: npt.NDArray[np.uint8]

    def crop(self, window: Window) -> Block:
        """A part; `window` counts from the first pixel of this one."""
        place = (..., *window.slices)
        return Block(self.real[place], self.synthetic[place], self.indices[place])


@dataclass(frozen=True)
class Inputs:
    """Opened, checked and placed.

    Attributes:
        real, synthetic, labels: the rasters.
        legend: of the classes as reported.
        bands: names; "band 1" and so on where nobody knows them.
        area: the pixels that all three cover, on the grid of `real`.
        synthetic_offset, labels_offset: (row, column) of the first pixel of the others on the grid of `real`.
    """

    real: RasterFile
    synthetic: RasterFile
    labels: LabelRaster
    legend: Legend
    bands: tuple[str, ...]
    area: Window
    synthetic_offset: tuple[int, int]
    labels_offset: tuple[int, int]

    @classmethod
    def open(
        cls,
        real: str | Path,
        synthetic: str | Path,
        labels: str | Path,
        legend: Legend,
        label_legend: Legend,
        bands: Sequence[str] | None,
    ) -> Inputs:
        """Open, then refuse what cannot be compared.

        Raises:
            DataError: other dtypes than uint8, different band counts or names, a band of unclear meaning.
            GridError: different pixel grids, or no common pixel.
            LegendError: `label_legend` has a class that `legend` lacks.
            RasterError: a file cannot be opened.
        """
        first, second = open_raster(real), open_raster(synthetic)
        mask = LabelRaster(labels, label_legend.translation_to(legend))
        for image in (first, second):
            if set(image.dtypes) != {"uint8"}:
                raise DataError(
                    f"{image.path}: holds {'/'.join(sorted(set(image.dtypes)))} values; evaluate needs uint8"
                )
        if first.count != second.count:
            raise DataError(f"{second.path}: has {second.count} bands, but {first.path} has {first.count}")
        names = _band_names(first, second, bands)
        offsets = [offset_in(first.geobox, other.geobox, other.path) for other in (second, mask.raster)]
        area: Window | None = first.window
        for other, offset in zip((second, mask.raster), offsets, strict=True):
            area = area and area.intersection(other.window.shift(*offset))
        if area is None:
            raise GridError(f"{first.path}, {second.path} and {mask.raster.path} have no pixel in common")
        return cls(first, second, mask, legend, names, area, *offsets)

    @property
    def synthetic_origin(self) -> tuple[int, int]:
        """(row, column) of the area's first pixel in the synthetic raster, from whose corner its blocks count."""
        return self.area.row - self.synthetic_offset[0], self.area.column - self.synthetic_offset[1]

    def read(self, window: Window) -> Block:
        """The pixels of `window`, which counts from the first pixel of the area and lies inside it."""
        place = window.shift(self.area.row, self.area.column)
        fake_place = place.shift(-self.synthetic_offset[0], -self.synthetic_offset[1])
        codes, labelled = self.labels.read_codes(place.shift(-self.labels_offset[0], -self.labels_offset[1]))
        real, real_valid = self.real.read(place)
        synthetic, synthetic_valid = self.synthetic.read(fake_place)
        indices = np.where(
            labelled & real_valid & synthetic_valid, self.labels.legend.encode(codes), self.legend.num_classes
        )
        return Block(real, synthetic, indices.astype(np.uint8))


def _band_names(real: RasterFile, synthetic: RasterFile, bands: Sequence[str] | None) -> tuple[str, ...]:
    """As given, as the files say, or by number."""
    if bands is not None:
        return given_names(real, bands)
    told = [told_names(image) for image in (real, synthetic)]
    if told[0] and told[1] and told[0] != told[1]:
        raise DataError(
            f"{synthetic.path}: its bands are {', '.join(told[1])}, but those of {real.path} are {', '.join(told[0])};"
            " name them with bands if they are the same"
        )
    names = told[0] or told[1]
    if not names and any("alpha" in image.colour_interpretation for image in (real, synthetic)):
        raise DataError(
            f"{real.path}: one of its bands is marked alpha, which near infrared often is by mistake;"
            " say what the bands are, as in red,green,blue,nir"
        )
    return names or tuple(f"band {number}" for number in range(1, real.count + 1))


_READ_SIZE = 1024  # pixels of a raster read at once, at least
MAX_UNITS = 100


class Tile(NamedTuple):
    """A square, or what the edge of the area leaves of one.

    Attributes:
        number: counts the tiles of the pair, 0 first.
        window: as `TilePair.read` takes it.
        unit: the place that the tile belongs to: what is drawn for intervals.
    """

    number: int
    window: Window
    unit: int


class Piece(NamedTuple):
    """What is read at once.

    Attributes:
        block: its pixels; of a raster with one more row and column where the area goes on.
        tiles: each with its window inside `block`.
        seam_origin: (row, column) of the first pixel in the raster that was made of blocks; None: there is none.
        shape: height and width of the block proper.
    """

    block: Block
    tiles: list[tuple[Tile, Window]]
    seam_origin: tuple[int, int] | None
    shape: tuple[int, int]


class TilePair(Protocol):
    """Real and synthetic imagery with labels, as tiles that do not overlap.

    Attributes:
        legend, bands, tile_size: of the tiles.
        num_tiles: whole ones and others.
        num_units: places.
        unit_kind: what a place is, in words.
        num_pieces: that `pieces` yields.
    """

    legend: Legend
    bands: tuple[str, ...]
    tile_size: int
    num_tiles: int
    num_units: int
    unit_kind: str
    num_pieces: int

    def pieces(self) -> Iterator[Piece]:
        """Each tile once, in an order that is always the same."""

    def read(self, window: Window) -> Block:
        """The pixels of a window inside of what is evaluated."""

    def frame(self, window: Window, height: int, width: int) -> Window:
        """A window of about that size around another's middle, moved and cropped to lie inside."""

    def describe(self, window: Window) -> str:
        """Where the window lies, for people."""


class RasterTiles:
    """Tiles of the common area of three rasters; a place is a tile, or a square of tiles where there are many.

    Args:
        inputs: the rasters.
        tile_size: pixels.
    """

    def __init__(self, inputs: Inputs, tile_size: int) -> None:
        self.inputs, self.tile_size = inputs, tile_size
        self.legend, self.bands = inputs.legend, inputs.bands
        self._rows, self._columns = -(-inputs.area.height // tile_size), -(-inputs.area.width // tile_size)
        self._group, self._units_across, self.num_units = square_groups(self._rows, self._columns)
        self.num_tiles = self._rows * self._columns
        side = self._group * tile_size
        self.unit_kind = f"squares of {side} px, which touch: intervals may be too narrow"
        self._plan = TilePlan(inputs.area.height, inputs.area.width, tile_size * max(1, _READ_SIZE // tile_size))
        self.num_pieces = len(self._plan)

    def pieces(self) -> Iterator[Piece]:  # noqa: D102
        area = self.inputs.area
        whole = Window(0, 0, area.height, area.width)
        row, column = self.inputs.synthetic_origin
        for window in self._plan:
            # One more row and column, for the steps to the neighbouring blocks.
            grown = whole.intersection(Window(window.row, window.column, window.height + 1, window.width + 1))
            assert grown is not None
            tiles = [
                (self._tile(inside.shift(window.row, window.column)), inside)
                for inside in TilePlan(window.height, window.width, self.tile_size)
            ]
            origin = row + window.row, column + window.column
            yield Piece(self.inputs.read(grown), tiles, origin, (window.height, window.width))

    def read(self, window: Window) -> Block:  # noqa: D102
        return self.inputs.read(window)

    def frame(self, window: Window, height: int, width: int) -> Window:  # noqa: D102
        area = self.inputs.area
        return centred(window, Window(0, 0, area.height, area.width), height, width)

    def describe(self, window: Window) -> str:  # noqa: D102
        area = self.inputs.area
        return f"real raster, {window.shift(area.row, area.column)}"

    def _tile(self, window: Window) -> Tile:
        row, column = window.row // self.tile_size, window.column // self.tile_size
        unit = row // self._group * self._units_across + column // self._group
        return Tile(row * self._columns + column, window, unit)


def square_groups(rows: int, columns: int) -> tuple[int, int, int]:
    """Side (tiles), number across and number of the smallest squares of tiles of which there are at most 100."""
    side = next(side for side in range(1, rows + columns + 1) if -(-rows // side) * -(-columns // side) <= MAX_UNITS)
    return side, -(-columns // side), -(-rows // side) * -(-columns // side)


def centred(window: Window, inside: Window, height: int, width: int) -> Window:
    """A window around the middle of another, moved (and where too large, cropped) to lie inside of a third."""
    height, width = min(height, inside.height), min(width, inside.width)
    row = window.row + window.height // 2 - height // 2
    column = window.column + window.width // 2 - width // 2
    return Window(
        min(max(row, inside.row), inside.bottom - height),
        min(max(column, inside.column), inside.right - width),
        height,
        width,
    )


def is_whole(block: Block, num_classes: int, tile_size: int) -> bool:
    """Whether a tile is a full square of which every pixel has a class and both images."""
    return block.indices.shape == (tile_size, tile_size) and bool((block.indices < num_classes).all())


# --- Tiles of a fold of a store, and of its synthetic twin at the same windows.


class StoreTiles:
    """Tiles of a fold, laid side by side from the first pixel of each scene on; what does not fit is left out.

    A place is a cluster of touching scenes. Where the fold has fewer than 8 of these, it is a square of tiles.

    Args:
        source: the real imagery, uint8.
        twins: the synthetic ones; the first is evaluated, all of them give the diversity.
        fold: "train", "val" or "test".
        tile_size: pixels.

    Raises:
        DataError: if a twin is not one of the source, or the fold has no tile.
    """

    def __init__(self, source: PatchSource, twins: Sequence[PatchSource], fold: str, tile_size: int) -> None:
        for twin in twins:
            check_twin(twin, source)
        self.source, self.twins, self.fold, self.tile_size = source, tuple(twins), fold, tile_size
        self.legend, self.bands = source.legend, source.band_names
        self._view = TileView(source, fold, tile_size, tile_size, edge="skip", max_nodata=1.0)
        self.num_tiles = self.num_pieces = len(self._view)
        if not self.num_tiles:
            raise DataError(f"{source.path}: fold {fold!r} has no tile of {tile_size} px; choose a smaller tile_size")
        self.units, self.unit_kind = _places(self._view)
        self.num_units = int(self.units.max()) + 1

    def pieces(self) -> Iterator[Piece]:  # noqa: D102
        inside = Window(0, 0, self.tile_size, self.tile_size)
        for number, unit in enumerate(self.units.tolist()):
            window = self._view[number]
            yield Piece(self.read(window), [(Tile(number, window, unit), inside)], None, (self.tile_size,) * 2)

    def read(self, window: Window) -> Block:  # noqa: D102
        real, labels = self.source.read(window)
        return Block(real, *self._read_twin(self.twins[0], window, labels))

    def read_latents(self, window: Window) -> npt.NDArray[np.uint8]:
        """(twins, bands, height, width) of a window that the first twin covers.

        Raises:
            DataError: if another one does not.
        """
        labels = self.source.read_labels(window)
        images: list[npt.NDArray[Any]] = []
        for twin in self.twins:
            image, found = self._read_twin(twin, window, labels)
            if images and (found == self.legend.num_classes).any():
                raise DataError(f"{twin.path}: has no image of {window}, but {self.twins[0].path} has")
            images.append(image)
        return np.stack(images)

    def _read_twin(
        self, twin: PatchSource, window: Window, labels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint8]]:
        """The twin's image, and the store's labels where it has one; elsewhere the twin has no labels either."""
        image, found = twin.read(window)
        covered = found < self.legend.num_classes
        if (labels != found)[covered].any():
            raise DataError(f"{twin.path}: its labels are not those of {self.source.path}; make a twin of that store")
        return image, found

    def frame(self, window: Window, height: int, width: int) -> Window:  # noqa: D102
        scene = _scene_of(self.source, window)
        return centred(window, scene.window, height, width)

    def describe(self, window: Window) -> str:  # noqa: D102
        return describe_in(self.source, window)


def _places(view: TileView) -> tuple[npt.NDArray[np.int64], str]:
    """(tiles,) the place of each tile, 0 to n - 1, and what a place is."""
    clusters = cluster_of(view)
    found, places = np.unique(clusters, return_inverse=True)
    if len(found) >= MIN_PLACES:
        # Pooling independent places leaves independent ones.
        return (places % MAX_UNITS).astype(np.int64), "clusters of touching scenes"
    # Squares of the lattice from the grid's first pixel on, as small as there may be many.
    cells = view.windows[:, :2] // view.size
    for side in itertools.count(1):
        units = np.unique(cells // side, axis=0, return_inverse=True)[1].ravel()
        if units.max() < MAX_UNITS:
            break
    kind = f"squares of {side * view.size} px, which touch: intervals may be too narrow"
    return units.astype(np.int64), kind


def cluster_of(view: TileView) -> npt.NDArray[np.int64]:
    """(tiles,) the cluster of touching scenes that each tile belongs to."""
    scenes = view.source.scenes
    numbers = np.empty(len(scenes), dtype=np.int64)
    for number, members in enumerate(touching_groups([scene.window for scene in scenes])):
        numbers[members] = number
    return numbers[view.scene_index]


def describe_in(source: PatchSource, window: Window) -> str:
    """The scene that a tile was cut from, and where in it."""
    scene = _scene_of(source, window)
    return f"{scene.name}, {window.shift(-scene.window.row, -scene.window.column)}"


def _scene_of(source: PatchSource, window: Window) -> Scene:
    return next(scene for scene in source.scenes if scene.window.contains(window))


# --- The real store and its synthetic twins: opened, or painted first.


def open_real(data: str | Path | PatchSource) -> PatchSource:
    """The imagery of a store, or of a YAML file of data in place, or one already open.

    Raises:
        SettingsError: if there are several grids.
        DataError: if the imagery is not uint8.
        RasterError: if there is none.
    """
    sources = open_sources(data)
    if len(sources) > 1:
        inner = ", ".join(source.path for source in sources)
        raise SettingsError(f"{data}: holds several stores, one a CRS; evaluate one of them: {inner}")
    if sources[0].dtype != np.uint8:
        raise DataError(f"{sources[0].path}: holds {sources[0].dtype} values; evaluate needs uint8")
    return sources[0]


def open_twin(path: str | Path | Store) -> Store:
    """A twin that is there.

    Raises:
        RasterError: if it is no store.
    """
    return path if isinstance(path, Store) else Store(path)


def paint_twins(
    source: PatchSource,
    model: str | Path | GeneratorModel | None,
    fold: str,
    folder: Path,
    *,
    seeds: range,
    device: str,
    progress: Callable[[int, int], None],
) -> list[Store]:
    """Twins of a fold, one a seed; those that are in `folder` already are not painted again.

    Args:
        source: the real imagery.
        model: as for `twin`.
        fold: to paint.
        folder: of the twins; what stands in it is named by all that a twin depends on.
        seeds: of the latents.
        device: that the generator runs on.
        progress: called with (blocks done, blocks to do) of one twin after another.

    Raises:
        CheckpointError, DataError, LegendError, OutputError: as `twin`.
    """
    from geosynth.checkpoint import GeneratorModel, load_generator
    from geosynth.mosaic.twin import twin

    loaded = model if isinstance(model, GeneratorModel) else load_generator(model, device)
    made_of = repr((loaded.sha256, source.digest(fold), fold))
    digest = hashlib.sha256(made_of.encode()).hexdigest()[:16]
    twins = []
    for seed in seeds:
        path = folder / f"twin-{digest}-{seed}.zarr"
        if not path.exists():
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            twin(
                source,
                path,
                loaded,
                folds=(fold,),
                seed=seed,
                device=device,
                progress=lambda stage, done, total: progress(done, total) if stage == "painting" else None,
            )
        twins.append(Store(path))
    return twins
