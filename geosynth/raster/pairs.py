"""Which image and label files belong together, where they lie on one grid, and what their bands are."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from odc.geo.geobox import GeoBox

from geosynth.errors import DataError, GridError
from geosynth.grid import Window, offset_in
from geosynth.legend import Legend
from geosynth.raster.labels import LabelRaster
from geosynth.raster.read import Raster, open_raster

Paths = str | Path | Sequence[str | Path]

_RASTER_SUFFIXES = {".tif", ".tiff", ".vrt", ".img", ".jp2"}
_COLOUR_NAMES = {"red", "green", "blue", "nir", "gray", "undefined"}


@dataclass(frozen=True, slots=True)
class Pair:
    """An image, the labels of the same pixels, and their place on the common grid."""

    image: Raster
    labels: LabelRaster
    window: Window


def find_pairs(images: Paths, labels: Paths, legend: Legend) -> tuple[list[Pair], GeoBox]:
    """Pair the files of two folders (or globs, or lists), and the grid that spans them all.

    Args:
        images: files, folders or globs.
        labels: likewise.
        legend: of the label files.

    Raises:
        DataError: if files do not pair, or labels are no label rasters.
        GridError: if pixels of a pair, or the grids of two pairs, do not coincide.
        RasterError: if a file cannot be opened.
    """
    files = _pair_files(_expand(images, "images"), _expand(labels, "labels"))
    return _place([(open_raster(image), LabelRaster(label, legend)) for image, label in files])


def common_bands(images: Sequence[Raster], bands: Sequence[str] | None) -> tuple[str, ...]:
    """The band names of all images.

    Raises:
        DataError: if they differ in number, dtype or names, or are unknown.
    """
    first = images[0]
    names = _band_names(first, bands)
    for image in images:
        if image.count != first.count or set(image.dtypes) != {first.dtypes[0]}:
            raise DataError(
                f"{image.path}: {image.count} bands of {'/'.join(sorted(set(image.dtypes)))}, but {first.path} has"
                f" {first.count} of {first.dtypes[0]}; ingest them into separate stores"
            )
        if _band_names(image, bands) != names:
            raise DataError(
                f"{image.path}: its bands are {', '.join(_band_names(image, bands))}, but those of {first.path} are"
                f" {', '.join(names)}; bring them into one order, or name them with --bands"
            )
    return names


def _expand(paths: Paths, what: str) -> list[Path]:
    listed = [paths] if isinstance(paths, str | Path) else list(paths)
    found: list[Path] = []
    for entry in listed:
        path = Path(entry)
        if path.is_file():
            found.append(path)
        elif path.is_dir():
            found += sorted(file for file in path.iterdir() if file.suffix.lower() in _RASTER_SUFFIXES)
        elif glob.has_magic(str(entry)):
            found += sorted(Path(name) for name in glob.glob(str(entry), recursive=True))
        else:
            found.append(path)
    if not found:
        raise DataError(f"{what}: no raster files in {', '.join(map(str, listed))}")
    return found


def _pair_files(images: list[Path], labels: list[Path]) -> list[tuple[Path, Path]]:
    if len(images) == len(labels) == 1:
        return [(images[0], labels[0])]
    for what, paths in (("images", images), ("labels", labels)):
        twice = [stem for stem, count in Counter(path.stem for path in paths).items() if count > 1]
        if twice:
            raise DataError(f"{what}: {twice[0]} names several files, and pairs are made by name; rename or choose")
    by_name = {path.stem: path for path in labels}
    of_images = {path.stem for path in images}
    lonely = [str(path) for path in images if path.stem not in by_name]
    lonely += [str(path) for path in labels if path.stem not in of_images]
    if lonely:
        shown = ", ".join(lonely[:5]) + (" ..." if len(lonely) > 5 else "")
        raise DataError(f"images and labels are paired by file name; {len(lonely)} have no partner: {shown}")
    return [(path, by_name[path.stem]) for path in images]


def _place(files: list[tuple[Raster, LabelRaster]]) -> tuple[list[Pair], GeoBox]:
    """Put all scenes on the pixel grid of the first one, and span them with one geobox."""
    first = files[0][0].geobox
    placeless = [image.path for image, _ in files if image.geobox.crs is None and image.geobox.affine.is_identity]
    if len(files) > 1 and placeless:
        raise GridError(
            f"{placeless[0]}: has no georeference, so its place among the other scenes is unknown;"
            " give it one (gdal_translate -a_srs -a_ullr) or ingest it alone"
        )
    windows = []
    for image, labels in files:
        same_place = offset_in(image.geobox, labels.raster.geobox, labels.raster.path) == (0, 0)
        if not same_place or image.geobox.shape != labels.raster.geobox.shape:
            raise GridError(f"{labels.raster.path}: does not cover the same pixels as {image.path}")
        row, column = offset_in(first, image.geobox, image.path)
        windows.append(image.window.shift(row, column))
    top, left = min(window.row for window in windows), min(window.column for window in windows)
    bottom, right = max(window.bottom for window in windows), max(window.right for window in windows)
    transform = first.affine * first.affine.translation(left, top)
    geobox = GeoBox((bottom - top, right - left), transform, first.crs)
    pairs = [
        Pair(image, labels, window.shift(-top, -left)) for (image, labels), window in zip(files, windows, strict=True)
    ]
    return pairs, geobox


def _band_names(image: Raster, bands: Sequence[str] | None) -> tuple[str, ...]:
    if bands is not None:
        if len(bands) != image.count or len(set(bands)) != len(bands):
            raise DataError(f"{image.path}: has {image.count} bands, but the names given are {', '.join(bands)}")
        return tuple(bands)
    described = tuple(name for name in image.band_names if name)
    if len(described) == len(set(described)) == image.count:
        return described
    names = image.colour_interpretation
    if len(set(names)) < image.count or not set(names) <= _COLOUR_NAMES:
        raise DataError(
            f"{image.path}: its bands are marked {', '.join(names)}; say what they are, as in"
            " --bands red,green,blue,nir (a band that is transparency: gdal_translate -b 1 -b 2 -b 3 -mask 4)"
        )
    return names
