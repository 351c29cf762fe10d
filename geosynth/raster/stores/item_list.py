"""Lists of items: tables (CSV, GeoJSON, GeoParquet) and STAC items that say which image and label files are a pair."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from geosynth.errors import DataError, SettingsError, one_line
from geosynth.files import check_name
from geosynth.grid.split import FOLDS
from geosynth.inputs import as_list, check_input, is_remote, kind_of, name_of_band_files, read_values
from geosynth.raster.stores.items import Item, Paths, expand_files, pair_files, with_names

_TABLE_SUFFIXES = {".csv", ".tsv", ".json", ".geojson", ".parquet", ".geoparquet"}
# Asset keys that are tried, in this order, if none is named.
_IMAGE_KEYS = ("image", "imagery", "data", "visual")
_LABELS_KEYS = ("labels", "label", "mask", "land_cover", "landcover")


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
    return with_names(listed)


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
    found = expand_files(labels, "labels")
    if len(found) > 1:
        raise DataError(f"{len(found)} files; with a list of items, one is that of all images", setting="labels")
    return found[0] if is_remote(found[0]) else str(Path(found[0]).absolute())  # not relative to the list's folder
