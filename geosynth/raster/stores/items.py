"""Items: which image and label files belong together, from folders and globs, from a list, or in a known data set."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from geosynth.errors import DataError, SettingsError, first_of, one_line
from geosynth.files import check_name
from geosynth.grid.split import FOLDS
from geosynth.inputs import as_list, band_files, check_input, is_remote, kind_of, name_of_band_files, read_values
from geosynth.raster.bands import BANDS_APART
from geosynth.raster.drivers import RASTER_SUFFIXES
from geosynth.raster.names import files_named, image_name

Paths = str | Path | Sequence[str | Path]

_TABLE_SUFFIXES = {".csv", ".tsv", ".json", ".geojson", ".parquet", ".geoparquet"}
# Asset keys that are tried, in this order, if none is named.
_IMAGE_KEYS = ("image", "imagery", "data", "visual")
_LABELS_KEYS = ("labels", "label", "mask", "land_cover", "landcover")


@dataclass(frozen=True, slots=True)
class Item:
    """An image and the labels of the same place."""

    image: str
    """File or URL."""
    labels: str
    """File or URL."""
    name: str = ""
    """Name of the scene in messages; if empty, the image's file name, with folders if several images have it."""
    fold: str | None = None
    """"train", "val" or "test", if it is chosen already."""
    date: str | None = None
    """Date of the imagery, as listed."""
    extras: Mapping[str, str] = field(default_factory=dict)
    """Files of further maps of the same place, by name."""


def pair_files(images: Paths, labels: Paths) -> list[Item]:
    """Pair the files of two folders, globs or lists by name.

    Names are compared without suffix; if that finds no partners, without the words that all images, or all labels, have
    at the same place, as in `12_naip.tif` and `12_lc.tif`, `s1_sar_12.tif` and `s1_map_12.tif`; then together with
    their folders, as in `accra/1.tif`. A single label file belongs to all images, unless it has the name of one.

    Raises:
        DataError: if there are no files, if there are Zarr stores, or if some have no partner.
    """
    pairs = _pair(_expand(images, "images"), _expand(labels, "labels"))
    return _named([Item(image, label) for image, label in pairs])


def list_items(images: Paths | None, labels: Paths | None, items: str | Path | Sequence[Item] | None) -> list[Item]:
    """Items from `pair_files` or from a list (see `read_items`); given items are returned unchanged.

    Raises:
        SettingsError: if both are given, or neither, or if the items are none.
        DataError: if there are none, or if an image is listed twice.
    """
    if items is None:
        if images is None or labels is None:
            raise SettingsError("images and labels are needed, or a list of items")
        return pair_files(images, labels)
    if images is not None or labels is not None:
        raise SettingsError("either images and labels, or a list of items")
    listed = read_items(items) if isinstance(items, str | Path) else as_list(items)
    if strange := [item for item in listed if not isinstance(item, Item)]:
        raise SettingsError(
            f"a file that lists pairs, or what read_items returns, not {kind_of(strange[0])}", setting="items"
        )
    if not listed:
        raise DataError("the list of items is empty")
    first: dict[str, int] = {}
    for number, item in enumerate(listed, start=1):
        if (before := first.setdefault(item.image, number)) != number:
            raise DataError(f"{item.image}: is in the list of items twice, as number {before} and {number}")
    return _named(listed)


def read_items(
    path: str | Path,
    *,
    extras: Sequence[str] = (),
    image_asset: str | Sequence[str] | None = None,
    labels_asset: str | None = None,
    labels: Paths | None = None,
) -> list[Item]:
    """Read a list of pairs.

    CSV, TSV, GeoJSON (properties) and GeoParquet need columns `image` and `labels`, and may have `name`, `fold` and
    `date`; others are ignored. STAC Items, ItemCollections (JSON) and stac-geoparquet need two assets. Relative paths
    start at the list's folder.

    Args:
        path: of the list.
        extras: columns, or asset keys, of further maps.
        image_asset: STAC asset key, or several keys of assets with one band each, which give the bands their names;
            None to try image, imagery, data, visual.
        labels_asset: STAC asset key; None to try labels, label, mask, land_cover, landcover.
        labels: one label file for all images, instead of the labels in the list.

    Raises:
        DataError: if it cannot be read, if a row lacks what it needs, or if `labels` are several files.
    """
    check_input(path, "a list of pairs")
    path = Path(path)
    of_all = None if labels is None else _one_file(labels)
    try:
        rows = list(_rows(path))
    except (OSError, ValueError, csv.Error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: cannot be read as a list of pairs: {one_line(error)}") from error
    if not rows:
        raise DataError(f"{path}: lists no pairs")
    items = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise DataError(f"{path}, row {number}: holds no columns, and no assets")
        where = f"{path}, {'item' if 'assets' in row else 'row'} {str(row.get('id') or number)[:80]}"
        if "assets" in row:
            keys = [image_asset] if isinstance(image_asset, str) else image_asset or ()
            row = _from_stac(row, where, extras, keys, labels_asset, of_all)
        elif of_all is not None:
            row = {**row, "labels": of_all}
        items.append(_item(row, where, extras, path.absolute().parent))
    return items


def _rows(path: Path) -> Iterable[Any]:
    suffix = path.suffix.lower()
    if suffix in (".parquet", ".geoparquet"):
        import pandas as pd  # takes a while

        return [{str(key): value for key, value in row.items()} for row in pd.read_parquet(path).to_dict("records")]
    if suffix in (".json", ".geojson"):
        values = read_values(path)
        features = values.get("features", [values]) if isinstance(values, dict) else []
        if not isinstance(features, list):
            return []
        return [one.get("properties") if isinstance(one, dict) and "assets" not in one else one for one in features]
    if suffix in (".csv", ".tsv"):
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ","))
    raise DataError(f"{path}: not a list of pairs; it would end in {', '.join(sorted(_TABLE_SUFFIXES))}")


def _from_stac(
    item: dict[str, Any],
    where: str,
    extras: Sequence[str],
    image_assets: Sequence[str],
    labels_asset: str | None,
    labels: str | None,
) -> dict[str, Any]:
    """The columns of a STAC item."""
    assets, properties = item["assets"], item.get("properties") or item
    if not isinstance(assets, dict) or not isinstance(properties, dict):
        raise DataError(f"{where}: its assets and properties are no mappings of names")
    assets = {key: asset for key, asset in assets.items() if asset}  # stac-geoparquet fills missing ones with None

    def href(option: str, wanted: Sequence[str]) -> str:
        key = next((one for one in wanted if one in assets), None)
        if key is None:
            raise DataError(
                f"{where}: no asset {' or '.join(wanted)}; it has {', '.join(assets)}: choose with {option}"
            )
        where_to = assets[key].get("href") if isinstance(assets[key], dict) else None
        if not isinstance(where_to, str):
            raise DataError(f"{where}: its asset {key} has no href")
        return where_to if "://" in where_to else unquote(where_to)  # a URI reference (RFC 3986)

    if len(image_assets) > 1:
        image = name_of_band_files({key: href("--image-asset", [key]) for key in image_assets})
    else:
        image = href("--image-asset", image_assets or _IMAGE_KEYS)
    return {
        "image": image,
        "labels": labels or href("--labels-asset", [labels_asset] if labels_asset else _LABELS_KEYS),
        "name": item.get("id"),
        "date": properties.get("datetime"),
        "fold": properties.get("fold"),
        **{name: href("--extra", [name]) for name in extras},
    }


def _item(row: Mapping[str, Any], where: str, extras: Sequence[str], folder: Path) -> Item:
    def text(column: str) -> str | None:
        value = row.get(column)
        if isinstance(value, Mapping | list | tuple | set | np.ndarray):
            raise DataError(f"{where}: {column} is a {type(value).__name__}, not a text")
        # Missing: None, "", or pandas' NaN and NaT, which do not equal themselves.
        return None if value is None or value == "" or value != value else str(value)

    def file(column: str) -> str:
        name = text(column)
        if name is None:
            raise DataError(f"{where}: no value for {column!r}; there are: {', '.join(map(str, row))}")
        if name.startswith("file://"):
            name = unquote(name.removeprefix("file://"))
        return name if is_remote(name) else str(folder / name)

    name, fold = text("name") or "", text("fold")
    check_name(name, where)
    if fold is not None and fold not in FOLDS:
        raise DataError(f"{where}: fold {fold!r} is not one of {', '.join(FOLDS)}")
    maps = {name: file(name) for name in extras}
    return Item(file("image"), file("labels"), name, fold, text("date"), maps)


def _one_file(labels: Paths) -> str:
    found = _expand(labels, "labels")
    if len(found) > 1:
        raise DataError(f"{len(found)} files; with a list of items, one is that of all images", setting="labels")
    return found[0] if is_remote(found[0]) else str(Path(found[0]).absolute())  # not relative to the list's folder


def _expand(paths: Paths, what: str) -> list[str]:
    listed = as_list(paths)
    found = [file for entry in listed for file in files_named(entry)]
    for name in found:
        for file in band_files(name).values() or [name]:
            if not is_remote(file) and not Path(file).exists():
                raise DataError(f"{file}: no such file{'' if file != name else ' or folder'}", setting=what)
    if not found:
        folder = next((str(entry).rstrip("/") for entry in listed if not Path(entry).suffix), None)
        hint = f" (only {', '.join(RASTER_SUFFIXES)} of a folder; a glob takes others, as in '{folder}/*.png')"
        if folder and (deeper := files_named(folder, deep=True)) != [folder] and deeper:
            hint = f" (its folders hold some, which a glob takes, as '{folder}/**/*{Path(deeper[0]).suffix}')"
        where = ", ".join(map(str, listed))
        raise DataError(f"no raster files in {where}{hint if folder else ''}", setting=what)
    return found


def _pair(images: list[str], labels: list[str]) -> list[tuple[str, str]]:
    if len(labels) == 1 and (len(images) == 1 or _stem(labels[0]) not in map(_stem, images)):
        return [(image, labels[0]) for image in images]
    found = [(of_images, of_labels) for by in _KEYS if (of_images := by(images)) and (of_labels := by(labels))]
    best = min(found, key=lambda names: len(names[0].keys() ^ names[1].keys()), default=None)  # the first of equals
    of_images, of_labels = best or ({}, {})
    lonely = [path for key, path in of_images.items() if key not in of_labels]
    lonely += [path for key, path in of_labels.items() if key not in of_images]
    if best is None or lonely:
        for what, paths in (("images", images), ("labels", labels)):
            if twice := [stem for stem, count in Counter(map(_stem, paths)).items() if count > 1]:
                reason = f"{twice[0]} names several files, which their folders do not pair; {_LIST}"
                raise DataError(reason, setting=what)
        hint = f"; {BANDS_APART}" if any(_has_parts(*names) for names in found) else ""
        raise DataError(
            f"images and labels are paired by file name; {len(lonely)} have no partner: {first_of(lonely, 5)};"
            f" {_LIST}{hint}"
        )
    return [(path, of_labels[key]) for key, path in of_images.items()]


def _has_parts(images: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Whether several images have the name of one label file with an addition, as files of single bands do."""
    beginnings = [tuple(stem + separator for separator in "_-.") for stem in labels if stem]
    return any(sum(stem.startswith(beginning) for stem in images) > 1 for beginning in beginnings)


def _stem(path: str) -> str:
    return Path(image_name(path)).stem


def _by_key(paths: Sequence[str], keys: Iterable[str]) -> dict[str, str]:
    """The files by their keys; empty if two have the same key."""
    found = dict(zip(keys, paths, strict=True))
    return found if len(found) == len(paths) else {}


def _differing(names: Iterable[str]) -> list[str]:
    """The names without words that all have at the same place, counted from the beginning or from the end."""
    words = [re.split(r"[_.\-/\\]", name) for name in names]
    shortest = min(map(len, words))
    common = [place for place in range(-shortest, shortest) if len({one[place] for one in words}) == 1]
    return [
        "_".join(word for n, word in enumerate(one) if n not in common and n - len(one) not in common) for one in words
    ]


# Keys that partners have in common and others do not, tried in this order.
_KEYS: tuple[Callable[[Sequence[str]], dict[str, str]], ...] = (
    lambda paths: _by_key(paths, map(_stem, paths)),
    lambda paths: _by_key(paths, _differing(map(_stem, paths))),
    lambda paths: _by_key(paths, _differing(f"{Path(path).parent}/{_stem(path)}" for path in paths)),
)
_LIST = "a list of pairs (--items) pairs files of any name"


def _named(items: Sequence[Item]) -> list[Item]:
    """The items; those without a name whose images share file name and date are named after their folders, too."""
    alike: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    for number, item in enumerate(items):
        if not item.name:
            alike[image_name(item.image), item.date].append(number)
    named = list(items)
    for (name, _), numbers in alike.items():
        if len(numbers) > 1:
            folders = _differing(str(Path(items[number].image).parent) for number in numbers)
            for number, folder in zip(numbers, folders, strict=True):
                named[number] = replace(items[number], name="_".join(filter(None, (folder, name))))
    return named


# The Chesapeake Land Cover data set as published (Robinson et al. 2019), and as TorchGeo's ChesapeakeCVPR stores it.
STATES = ("de", "md", "va", "wv", "pa", "ny")
_IMAGE, _LABELS = "naip-new", "lc"


def chesapeake_items(
    folder: str | Path,
    states: Sequence[str] = STATES,
    splits: Sequence[str] = FOLDS,
    *,
    extras: Sequence[str] = (),
) -> list[Item]:
    """NAIP and land cover of the Chesapeake tiles of some states and splits; each tile's fold is its split.

    Args:
        folder: the `root` of `torchgeo.datasets.ChesapeakeCVPR`.
        states: some of de, md, va, wv, pa, ny.
        splits: some of train, val, test.
        extras: single-band layers to add as further maps, such as "nlcd" or "buildings".

    Raises:
        SettingsError: if there is no such state or split.
        DataError: if a folder, or a layer of a tile, is missing.
    """
    for what, given, known in (("state", states, STATES), ("split", splits, FOLDS)):
        if strange := [one for one in given if one not in known]:
            raise SettingsError(f"{what} {', '.join(strange)}: the {what}s of Chesapeake are {', '.join(known)}")
    check_input(folder, "the folder of the data set")
    root = Path(folder)
    items = []
    for state in states:
        for split in splits:
            pattern = f"{state}_1m_201[34]_extended-debuffered-{split}_tiles"
            tiles = sorted(root.glob(f"{pattern}/*_{_IMAGE}.tif"))
            if not tiles:
                raise DataError(f"{root}: no tiles {pattern}/*_{_IMAGE}.tif; is the zip file unpacked there?")
            items += [_chesapeake_item(tile, split, extras) for tile in tiles]
    return items


def _chesapeake_item(image: Path, split: str, extras: Sequence[str]) -> Item:
    tile = image.name.removesuffix(f"_{_IMAGE}.tif")

    def layer(name: str) -> str:
        path = image.with_name(f"{tile}_{name}.tif")
        if not path.is_file():
            raise DataError(f"{path}: is missing beside {image.name}")
        return str(path)

    maps = {name: layer(name) for name in extras}
    return Item(str(image), layer(_LABELS), tile, split, None, maps)
