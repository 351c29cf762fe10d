"""open_in_place and open_sources: whatever holds imagery and labels, as `PatchSource`s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import yaml
from odc.geo.geobox import GeoBox
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from geosynth.errors import DataError, SettingsError
from geosynth.grid import SpatialSplit, Window, buffer_pixels, offset_in, parse_distance
from geosynth.grid.split import SHARES
from geosynth.legend import Legend
from geosynth.raster.bands import common_bands
from geosynth.raster.labels import LabelRaster
from geosynth.raster.read import Array, Mask, Raster, RasterFile
from geosynth.raster.remote import is_remote
from geosynth.raster.stores.items import Item, Paths, pair_files
from geosynth.raster.stores.pairs import open_pairs
from geosynth.raster.stores.source import PatchSource, Scene
from geosynth.raster.stores.store import open_stores
from geosynth.raster.warp import unwarped
from geosynth.raster.zarr import ZarrRaster

# --- InPlace: scenes read from where they are, files, URLs and Zarr arrays alike, without a copy.

_USUAL_BLOCK = 512
_LARGEST_BLOCK = 1024


class Piece(Protocol):
    """An image, the labels of the same pixels, and their place on the common grid: what a `Pair` is."""

    @property
    def item(self) -> Item:
        """Where they come from."""

    @property
    def image(self) -> Raster:
        """On the common grid."""

    @property
    def labels(self) -> LabelRaster:
        """Of the same pixels."""

    @property
    def window(self) -> Window:
        """On the common grid."""


class InPlace(PatchSource):
    """Scenes on one pixel grid, read from where they are. A `PatchSource`.

    Where scenes overlap, the later one wins, but its nodata does not: just as in a store. Codes that the legend does
    not know are refused when they are read.

    Attributes:
        path .. chunk_size: see `PatchSource`. The scenes' class pixels are not counted, so none counts as complete.

    Args:
        pieces: the scenes in order, on one grid of non-negative positions.
        geobox: that grid.
        legend: of the class indices; those of the label rasters may have other codes.
        band_names: of the images.
        split: of the grid.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        geobox: GeoBox,
        legend: Legend,
        band_names: Sequence[str],
        split: SpatialSplit,
    ) -> None:
        first = pieces[0].image
        self.path = first.path if len(pieces) == 1 else f"{first.path} and {len(pieces) - 1} more"
        self.geobox, self.legend, self.split = geobox, legend, split
        self.band_names = tuple(band_names)
        self.dtype = first.dtype
        self.pieces = tuple(pieces)
        self.scenes = tuple(
            Scene(
                piece.item.name or Path(piece.image.path).name,
                piece.window,
                (),
                "",
                "",
                piece.image.path,
                piece.labels.name,
                piece.item.date,
            )
            for piece in pieces
        )
        self.chunk_size = _block_size(first)
        windows = [piece.window for piece in pieces]
        self._edges = np.array([(w.row, w.column, w.bottom, w.right) for w in windows])

    def _evidence(self, scenes: Sequence[Scene]) -> Any:
        """Names, sizes and times of the scenes' files; of what is behind a URL, samples of its pixels."""
        pieces = [piece for piece, scene in zip(self.pieces, self.scenes, strict=True) if scene in scenes]
        files = [[files_of(raster) for raster in (piece.image, piece.labels.raster)] for piece in pieces]
        remote = [scene for scene, of_scene in zip(scenes, files, strict=True) if not all(of_scene)]
        states = [
            [file.name, file.stat().st_size, file.stat().st_mtime_ns]
            for of_scene in files
            for of_raster in of_scene
            for file in of_raster
        ]
        return [states, super()._evidence(remote)]

    def read(self, window: Window) -> tuple[Array, npt.NDArray[np.uint8]]:
        """See `PatchSource`; the imagery is 0 where no scene is."""
        near = self._near(window)
        if len(near) == 1 and near[0].window.contains(window):
            values, valid = near[0].image.read(_local(near[0], window))
            return values, self._indices(near[0], window, valid)
        image = np.zeros((len(self.band_names), window.height, window.width), dtype=self.dtype)
        indices = np.full((window.height, window.width), self.legend.num_classes, dtype=np.uint8)
        for piece in near:
            part = piece.window.intersection(window)
            assert part is not None
            place = part.shift(-window.row, -window.column).slices
            values, valid = piece.image.read(_local(piece, part))
            found = self._indices(piece, part, valid)
            taken = self._is_taken(found, indices[place])
            np.copyto(indices[place], found, where=taken)
            np.copyto(image[(slice(None), *place)], values, where=taken)
        return image, indices

    def read_image(self, window: Window) -> Array:
        """See `PatchSource`; labels are read only where scenes overlap."""
        near = self._near(window)
        if len(near) == 1 and near[0].window.contains(window):
            return near[0].image.read(_local(near[0], window))[0]
        return self.read(window)[0]

    def read_labels(self, window: Window) -> npt.NDArray[np.uint8]:
        """See `PatchSource`."""
        indices = np.full((window.height, window.width), self.legend.num_classes, dtype=np.uint8)
        for piece in self._near(window):
            part = piece.window.intersection(window)
            assert part is not None
            place = part.shift(-window.row, -window.column).slices
            found = self._indices(piece, part, piece.image.read(_local(piece, part))[1])
            np.copyto(indices[place], found, where=self._is_taken(found, indices[place]))
        return indices

    def _near(self, window: Window) -> list[Piece]:
        top, left, bottom, right = self._edges.T
        near = (top < window.bottom) & (left < window.right) & (bottom > window.row) & (right > window.column)
        return [self.pieces[place] for place in np.flatnonzero(near)]

    def _is_taken(self, new: npt.NDArray[np.uint8], old: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Where a later scene wins: its nodata never does, but over nodata."""
        taken: npt.NDArray[np.bool_] = (new < self.legend.num_classes) | (old == self.legend.num_classes)
        return taken

    def _indices(self, piece: Piece, part: Window, has_data: Mask) -> npt.NDArray[np.uint8]:
        codes, valid = piece.labels.read_codes(_local(piece, part))
        valid &= has_data
        legend = piece.labels.legend
        indices = legend.encode(codes)
        unclear = valid & (indices == legend.num_classes)
        if unclear.any():
            listed, counts = np.unique(codes[unclear], return_counts=True)
            legend.check(dict(zip(listed.tolist(), counts.tolist(), strict=True)), piece.labels.name)
        indices[~valid] = legend.num_classes
        return indices


def _local(piece: Piece, window: Window) -> Window:
    return window.shift(-piece.window.row, -piece.window.column)


def files_of(raster: Raster) -> list[Path]:
    """The files on a disk that a raster is read from: itself, and what belongs to it; none if it is behind a URL."""
    raster = unwarped(raster)
    path = Path(raster.path)
    if path.is_dir():  # Zarr
        return sorted(file for file in path.rglob("*") if file.is_file())
    names = [path]
    if isinstance(raster, RasterFile):
        names += sorted(Path(name) for name in set(raster.files) - {raster.path})
    return names if all(name.is_file() for name in names) else []


def _block_size(image: Any) -> int:
    """Side of the square blocks that a raster is stored in; a usual one where they are strips."""
    height, width = image.block_shape
    return min(height, _LARGEST_BLOCK) if height == width else _USUAL_BLOCK


class SplitRule(BaseModel):
    """How scenes read in place are given to folds.

    Attributes:
        file: a table of polygons with a column `fold` (GeoParquet, GeoPackage, GeoJSON); then the rest is not used.
        shares: of the pixels, for train, val and test.
        seed: of the order in which clusters or blocks find their fold.
        blocks: side of square blocks, pixels; None: whole clusters of touching scenes go to one fold.
        buffer: between folds: metres, or pixels as in "64px".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str | None = None
    shares: tuple[float, float, float] = SHARES
    seed: int = 0
    blocks: int | None = Field(None, ge=1)
    buffer: float | str = 0.0

    @field_validator("buffer")
    @classmethod
    def _check_buffer(cls, buffer: float | str) -> float | str:
        parse_distance(buffer)
        return buffer

    def apply(self, geobox: Any, windows: Sequence[Window]) -> SpatialSplit:
        """The split of scenes on one grid."""
        if self.file:
            return SpatialSplit.load(self.file, geobox, windows)
        buffer = buffer_pixels(self.buffer, geobox)
        if self.blocks:
            return SpatialSplit.by_blocks(windows, self.blocks, self.shares, self.seed, buffer=buffer)
        return SpatialSplit.by_clusters(windows, self.shares, self.seed, buffer=buffer)


class DataDescription(BaseModel):
    """A YAML file that says what is to be used in place.

    Attributes:
        images, labels: files, folders, globs or URLs; or, with `zarr`, names of variables.
        zarr: a Zarr store that xarray reads, of one image and one label variable.
        legend: a built-in legend, a legend file, or a legend.
        label_legend: of the label files, if their codes differ; classes are matched by name.
        bands: names of the image bands, where the files do not tell them.
        split: see `SplitRule`; or a file of polygons.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: str | tuple[str, ...] | None = None
    labels: str | tuple[str, ...] | None = None
    zarr: str | None = None
    legend: str | dict[str, Any] = "chesapeake"
    label_legend: str | dict[str, Any] | None = None
    bands: tuple[str, ...] | None = None
    split: SplitRule | str = SplitRule()

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if self.zarr is None and (self.images is None or self.labels is None):
            raise ValueError("images and labels are needed (or zarr)")
        if isinstance(self.images, tuple) and self.zarr is not None:
            raise ValueError("with zarr, images and labels are names of variables")
        return self


@dataclass(frozen=True)
class _ZarrPiece:
    item: Item
    image: Raster
    labels: LabelRaster
    window: Window


def open_in_place(
    images: Paths,
    labels: Paths,
    legend: str | Path | Legend = "chesapeake",
    *,
    label_legend: str | Path | Legend | None = None,
    bands: Sequence[str] | None = None,
    split: SplitRule | None = None,
) -> list[InPlace]:
    """Files (or URLs) as sources of patches, one for each CRS; nothing is copied, no pixel is read yet.

    Args:
        images: files, folders, globs or URLs of anything GDAL opens.
        labels: likewise; paired with images by file name without suffix, or one to one if there is one of each.
        legend: of the class indices.
        label_legend: of the label files, if their codes differ; classes are matched by name.
        bands: names of the image bands; needed where a file does not tell them.
        split: how scenes are given to folds; None: touching scenes to one, 70 % train, 10 % val, 20 % test.

    Raises:
        DataError, GridError, LegendError, RasterError: one line each, as from `ingest`.
    """
    target, own = _legends(legend, label_legend)
    groups = open_pairs(pair_files(images, labels), own)
    names = common_bands([pair.image for group in groups for pair in group.pairs], bands)
    rule = split or SplitRule()
    return [
        InPlace(
            group.pairs, group.geobox, target, names, rule.apply(group.geobox, [pair.window for pair in group.pairs])
        )
        for group in groups
    ]


def open_zarr_in_place(
    path: str | Path,
    image: str = "image",
    labels: str = "labels",
    legend: str | Path | Legend = "chesapeake",
    *,
    label_legend: str | Path | Legend | None = None,
    bands: Sequence[str] | None = None,
    split: SplitRule | None = None,
) -> InPlace:
    """Two variables of a Zarr store with coordinates and CRS as rioxarray reads them, as a source of patches.

    Args:
        path: of the group; a URL is read through fsspec.
        image: variable over (band, y, x).
        labels: variable over (y, x), of the same pixels.
        legend: of the class indices.
        label_legend: of the labels, if their codes differ.
        bands: names of the image bands, where the store does not tell them.
        split: see `open_in_place`.

    Raises:
        DataError, GridError, LegendError, RasterError: one line each.
    """
    target, own = _legends(legend, label_legend)
    imagery = ZarrRaster(path, image)
    codes = LabelRaster(ZarrRaster(path, labels), own)
    apart = offset_in(imagery.geobox, codes.geobox, codes.name)
    if apart != (0, 0) or codes.geobox.shape != imagery.geobox.shape:
        raise DataError(f"{path}: {labels!r} does not cover the same pixels as {image!r}")
    names = imagery.band_names if bands is None else tuple(bands)
    if len(names) != imagery.count:
        raise DataError(
            f"{path}: {image!r} has {imagery.count} bands; say what they are, as in bands: [red, green, blue]"
        )
    piece = _ZarrPiece(Item(imagery.path, imagery.path), imagery, codes, imagery.window)
    return InPlace(
        [piece], imagery.geobox, target, names, (split or SplitRule()).apply(imagery.geobox, [imagery.window])
    )


def open_sources(path: str | Path | PatchSource | Sequence[PatchSource]) -> list[PatchSource]:
    """A store, the stores of several CRSs, or what a YAML file describes; sources already open are passed on.

    Args:
        path: of a store (a URL is read through fsspec), or of a YAML file, see `DataDescription`.

    Raises:
        SettingsError: if the YAML file is not a description.
        DataError, GridError, LegendError, RasterError: one line each.
    """
    if isinstance(path, str | Path):
        if Path(path).suffix.lower() in (".yaml", ".yml"):
            return _describe(Path(path))
        return list(open_stores(path))
    return [path] if isinstance(path, PatchSource) else list(path)


def _describe(file: Path) -> list[PatchSource]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        description = DataDescription.model_validate(values)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{file}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if not str(part).startswith(("function", "str", "tuple")))
        what = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{file}: {where + ': ' if where else ''}{what}") from error
    home = file.absolute().parent
    rule = description.split
    rule = SplitRule(file=rule) if isinstance(rule, str) else rule
    rule = rule.model_copy(update={"file": _at(home, rule.file)}) if rule.file else rule
    legend = _load_legend(description.legend, home, file)
    codes = None if description.label_legend is None else _load_legend(description.label_legend, home, file)
    if description.zarr is not None:
        image, labels = description.images or "image", description.labels or "labels"
        assert isinstance(image, str)
        if not isinstance(labels, str):
            raise SettingsError(f"{file}: labels: with zarr, the name of a variable")
        path = _at(home, description.zarr)
        return [
            open_zarr_in_place(path, image, labels, legend, label_legend=codes, bands=description.bands, split=rule)
        ]
    assert description.images is not None
    assert description.labels is not None
    images, labels_at = (
        _at(home, paths) if isinstance(paths, str) else [_at(home, path) for path in paths]
        for paths in (description.images, description.labels)
    )
    return list(open_in_place(images, labels_at, legend, label_legend=codes, bands=description.bands, split=rule))


def _at(home: Path, name: str) -> str:
    return name if is_remote(name) else str(home / name)


def _load_legend(legend: str | dict[str, Any], home: Path, file: Path) -> Legend:
    if isinstance(legend, dict):
        return Legend.from_values(legend, f"{file}: legend")
    return Legend.load(home / legend if (home / legend).is_file() else legend)


def _legends(legend: str | Path | Legend, label_legend: str | Path | Legend | None) -> tuple[Legend, Legend]:
    """The legend of class indices, and that of the codes in its class order."""
    target = Legend.load(legend)
    return target, (target if label_legend is None else Legend.load(label_legend)).translation_to(target)
