"""Items: an image and the labels of the same place; and how the files of folders and globs are paired."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from geosynth.errors import DataError, first_of
from geosynth.inputs import as_list, band_files, is_remote
from geosynth.raster.bands import BANDS_APART
from geosynth.raster.drivers import RASTER_SUFFIXES
from geosynth.raster.names import files_named, image_name

Paths = str | Path | Sequence[str | Path]


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
    pairs = _pair(expand_files(images, "images"), expand_files(labels, "labels"))
    return with_names([Item(image, label) for image, label in pairs])


def expand_files(paths: Paths, what: str) -> list[str]:
    """The files that names stand for (see `files_named`), at least one, in the order of the names.

    Args:
        paths: files, folders or globs.
        what: the setting that errors name.

    Raises:
        DataError: if there are none, or one does not exist.
    """
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


def with_names(items: Sequence[Item]) -> list[Item]:
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
