"""Opening imagery with labels: a store, the stores of several CRSs, or data in place that a YAML file describes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from geosynth.errors import DataError, RasterError, SettingsError, counted, first_fault_line
from geosynth.grid import offset_in
from geosynth.inputs import as_list, is_remote, kind_of, read_values
from geosynth.legend import Legend
from geosynth.raster.bands import chosen_numbers, given_names, told_names
from geosynth.raster.coded_labels import labels_as_codes
from geosynth.raster.label_legend import legend_of_files
from geosynth.raster.labels import LabelRaster
from geosynth.raster.stores.folds import SplitRule
from geosynth.raster.stores.in_place import InPlace, open_scenes
from geosynth.raster.stores.items import Item, Paths, pair_files
from geosynth.raster.stores.pairs import Pair, TargetGrid
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.store import open_stores

_LOG = logging.getLogger(__name__)


class DataDescription(BaseModel):
    """The content of a YAML file that describes data in place."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    images: str | tuple[str, ...] | None = None
    """Files, folders, globs or URLs of the images; or, with `zarr`, the name of a variable."""
    labels: str | tuple[str, ...] | None = None
    """The same for the labels."""
    zarr: str | None = None
    """A Zarr store that xarray reads, with one image and one label variable."""
    legend: str | dict[str, Any] = "chesapeake"
    """Name of a built-in legend, a legend file, or the legend itself."""
    label_legend: str | dict[str, Any] | None = None
    """Legend of the label files, if their codes differ; classes are matched by name."""
    bands: tuple[str, ...] | None = None
    """Names of the image bands, if the files do not have them; or of those to read, if they do."""
    apart: bool = False
    """Whether images without a georeference show different places, which are laid out far apart."""
    split: SplitRule | str = SplitRule()
    """How scenes are assigned to folds; or a file of polygons."""

    @model_validator(mode="after")
    def _check_parts(self) -> Self:
        if self.zarr is None and (self.images is None or self.labels is None):
            raise ValueError("images and labels are needed (or zarr)")
        if self.zarr is not None and tuple in (type(self.images), type(self.labels)):
            raise ValueError("with zarr, images and labels are names of variables")
        return self


def open_in_place(
    images: Paths,
    labels: Paths,
    legend: str | Path | Legend = "chesapeake",
    *,
    label_legend: str | Path | Legend | None = None,
    bands: Sequence[str] | None = None,
    apart: bool = False,
    split: SplitRule | None = None,
) -> list[InPlace]:
    """Files (or URLs) as sources of patches, one for each CRS; nothing is copied, and no pixel is read yet.

    Args:
        images: files, folders, globs or URLs of anything GDAL opens; or images in Zarr stores.
        labels: likewise; paired with images by file name, see `pair_files`; or one file for all images.
        legend: of the class indices.
        label_legend: of the label files, if their codes differ; classes are matched by name.
        bands: names of the image bands, if the files do not have them; or of those to read, if they do. With
            numbers or descriptions, as in "red=4", "red=B04", those of files that do not have these names.
        apart: whether images without a georeference show different places, see `ingest`.
        split: how scenes are assigned to folds; None for 70 % train, 10 % val, 20 % test, with touching scenes in one
            fold.

    Raises:
        DataError, GridError, LegendError, RasterError: one line each, as from `ingest`.
    """
    target = Legend.load(legend)
    own, grid = legend_of_files(label_legend, target), TargetGrid(apart=apart)
    return _split(open_scenes(pair_files(images, labels), target, own, bands, grid), split)


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
    """Two variables of a Zarr store, with coordinates and CRS that rioxarray reads, as a source of patches.

    Args:
        path: of the group; a URL is read through fsspec.
        image: name of a variable (band, y, x).
        labels: name of a variable (y, x) on the same pixels, or (band, y, x) of colours or of a band for each class.
        legend: of the class indices.
        label_legend: of the labels, if their codes differ.
        bands: names of the image bands, if the store does not have them; or of those to read, see `open_chosen`.
        split: see `open_in_place`.

    Raises:
        DataError, GridError, LegendError, RasterError: one line each.
    """
    from geosynth.raster.zarr import ZarrRaster  # takes a second to import

    target = Legend.load(legend)
    own = legend_of_files(label_legend, target)
    imagery = ZarrRaster(path, image)
    if numbers := chosen_numbers(imagery, bands):
        imagery = ZarrRaster(path, image, numbers)
    codes = LabelRaster(labels_as_codes(ZarrRaster(path, labels)), own)
    apart = offset_in(imagery.geobox, codes.geobox, codes.name)
    if apart != (0, 0) or codes.geobox.shape != imagery.geobox.shape:
        raise DataError(f"{path}: {labels!r} does not cover the same pixels as {image!r}")
    names = told_names(imagery) if bands is None else given_names(imagery, bands)
    if not names:
        raise DataError(
            f"{path}: {image!r} has {counted(imagery.count, 'band')}; name them, as in bands: [red, green, blue]"
        )
    pair = Pair(Item(imagery.path, codes.name), imagery, codes, {}, imagery.window)
    return _split([InPlace([pair], imagery.geobox, target, names, imagery.quantities)], split)[0]


def _split(sources: Sequence[InPlace], rule: SplitRule | None) -> list[InPlace]:
    for source in sources:
        if under := source.covered():
            _LOG.warning(
                "%s: %d of %d scenes, as %s, lie under later ones and are seen only where these have no data",
                source.path,
                len(under),
                len(source.scenes),
                under[0],
            )
    splits = (rule or SplitRule()).apply(sources)
    return [source.with_split(split) for source, split in zip(sources, splits, strict=True)]


def open_store(path: str | Path | PatchSource) -> PatchSource:
    """Open imagery with labels: a store made by `ingest` (a URL is read through fsspec), or data in place.

    Args:
        path: of the store, or of a YAML file that describes data in place. An open source is returned unchanged.

    Raises:
        RasterError: if there is no store, or several, which the message names.
        SettingsError: if it is not a path, or the YAML file is not a description.
        DataError, GridError, LegendError: if data in place cannot be used.
    """
    sources = open_sources(path)
    if len(sources) > 1:
        inner = ", ".join(source.path for source in sources)
        raise RasterError(f"{path}: holds several stores; choose one: {inner}")
    return sources[0]


def open_sources(
    path: str | Path | PatchSource | Sequence[PatchSource], *, unfinished: bool = False
) -> list[PatchSource]:
    """Open a store, the stores of several CRSs, or data in place; open sources are returned unchanged.

    Args:
        path: of a store or a folder of stores (a URL is read through fsspec), or of a YAML file, see `DataDescription`.
        unfinished: also open stores whose split was not completely written.

    Raises:
        SettingsError: if the YAML file is not a description.
        DataError, GridError, LegendError, RasterError: one line each.
    """
    if isinstance(path, str | Path):
        if Path(path).suffix.lower() in (".yaml", ".yml"):
            return _open_described(Path(path))
        return list(open_stores(path, unfinished=unfinished))
    sources: list[Any] = [None] if path is None else as_list(path)
    for source in sources:
        if not isinstance(source, PatchSource):
            raise SettingsError(f"a store, or the path of one, is needed, not {kind_of(source)}")
    return sources


def _open_described(file: Path) -> list[PatchSource]:
    try:
        description = DataDescription.model_validate(read_values(file, SettingsError))
    except ValidationError as error:
        raise SettingsError(f"{file}: {first_fault_line(error, 'a description of data in place')}") from error
    home = file.absolute().parent
    rule = description.split
    rule = SplitRule(file=rule) if isinstance(rule, str) else rule
    rule = rule.model_copy(update={"file": _at(home, rule.file)}) if rule.file else rule
    legend = _load_legend(description.legend, home, file)
    codes = None if description.label_legend is None else _load_legend(description.label_legend, home, file)
    if description.zarr is not None:
        image, labels = description.images or "image", description.labels or "labels"
        assert isinstance(image, str)
        assert isinstance(labels, str)
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
    bands, apart = description.bands, description.apart
    return list(open_in_place(images, labels_at, legend, label_legend=codes, bands=bands, apart=apart, split=rule))


def _at(home: Path, name: str) -> str:
    return name if is_remote(name) else str(home / name)


def _load_legend(legend: str | dict[str, Any], home: Path, file: Path) -> Legend:
    if isinstance(legend, dict):
        return Legend.from_values(legend, f"{file}: legend")
    return Legend.load(home / legend if (home / legend).is_file() else legend)
