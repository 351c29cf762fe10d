"""The parts of an ingest: looking at a pair of files, and filling a shard. Each runs alone, on any thread or worker."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geosynth.digest import sha256_of
from geosynth.errors import RasterError
from geosynth.grid import SpatialSplit, Window
from geosynth.raster.label_legend import class_table_of
from geosynth.raster.labels import LabelRaster
from geosynth.raster.read import Array, Raster, bounded_cache
from geosynth.raster.stores.pairs import Pair, PairGroup
from geosynth.raster.stores.palettes import compare_colours
from geosynth.raster.stores.scene import add_pixels, count_by_fold
from geosynth.raster.stores.store import Store
from geosynth.raster.warped import WarpedRaster


@dataclass(frozen=True)
class Job:
    """What every part needs to know; sent once to each worker.

    Attributes:
        groups: the scenes of each grid.
        stores: being filled, one for each group.
        splits: likewise.
        shards: of each store, those that hold a part of a scene.
        present: of each shard, the positions of its scenes, in their order.
    """

    groups: tuple[PairGroup, ...]
    stores: tuple[Store, ...]
    splits: tuple[SpatialSplit, ...]
    shards: tuple[tuple[Window, ...], ...]
    present: tuple[tuple[tuple[int, ...], ...], ...]

    @classmethod
    def plan(cls, groups: Sequence[PairGroup], stores: Sequence[Store], splits: Sequence[SpatialSplit]) -> Job:
        """Find which scenes lie in which shard."""
        shards, present = [], []
        for group, store in zip(groups, stores, strict=True):
            found: dict[Window, list[int]] = {}
            for position, pair in enumerate(group.pairs):
                for shard in store.shards_over([pair.window]):
                    found.setdefault(shard, []).append(position)
            shards.append(tuple(sorted(found)))
            present.append(tuple(tuple(found[shard]) for shard in sorted(found)))
        return cls(tuple(groups), tuple(stores), tuple(splits), tuple(shards), tuple(present))


def look_at_pair(job: Job, key: tuple[int, int]) -> dict[str, Any]:
    """Check the labels of pair `key` (group, position), and hash the files.

    Returns:
        `class_pixels` of the label file, `image_sha256` and `labels_sha256`; `colours`, see `compare_colours`.

    Raises:
        LegendError, DataError, RasterError: one line each.
    """
    pair = job.groups[key[0]].pairs[key[1]]
    labels = pair.labels
    if isinstance(labels.raster, WarpedRaster):  # each pixel of the file, not only those that a new grid takes
        labels = copy.copy(labels)
        labels.raster = labels.raster.source  # type: ignore[attr-defined]
    counts = labels.check_codes()
    return {
        "colours": compare_colours(class_table_of(labels.raster), labels.legend, counts),
        "class_pixels": [counts.get(code, 0) for code in labels.legend.codes],
        "image_sha256": _sha256(pair.image),
        "labels_sha256": _sha256(pair.labels.raster),  # type: ignore[arg-type]
    }


def fill_shard(job: Job, key: tuple[int, int]) -> dict[str, Any]:
    """Write shard `key` (group, number).

    Returns:
        `scenes`: [position, pixels of each class] of its scenes, `folds`: pixels of each class of each fold.

    Raises:
        RasterError: if a file cannot be read.
        OSError: if the store cannot be written.
    """
    group, number = key
    store, pairs, window = job.stores[group], job.groups[group].pairs, job.shards[group][number]
    no_class = store.legend.num_classes
    image = np.zeros((len(store.band_names), window.height, window.width), dtype=store.dtype)
    indices = np.full((window.height, window.width), no_class, dtype=np.uint8)
    extras = store.blank_extras(window)
    scenes = []
    for position in job.present[group][number]:
        pair = pairs[position]
        part = pair.window.intersection(window)
        assert part is not None
        local = part.shift(-pair.window.row, -pair.window.column)
        values, found = _read_pair(pair, local, no_class)
        scenes.append([position, np.bincount(found.ravel(), minlength=no_class + 1)[:no_class].tolist()])
        place = part.shift(-window.row, -window.column).slices
        # Never erase an earlier scene by nodata.
        taken = (found < no_class) | (indices[place] == no_class)
        np.copyto(image[(slice(None), *place)], values, where=taken)
        np.copyto(indices[place], found, where=taken)
        for name, raster in pair.extras.items():
            np.copyto(extras[name][place], raster.read(local)[0], where=raster.read_valid(local))
    codes = store.legend.decode(indices, store.nodata).astype(store.labels.dtype)
    store.write(window, image, codes, extras)
    folds: dict[str, list[int]] = {}
    add_pixels(folds, count_by_fold(indices, window, job.splits[group], store.legend))
    return {"scenes": scenes, "folds": folds}


def _read_pair(pair: Pair, local: Window, no_class: int) -> tuple[Array, npt.NDArray[np.uint8]]:
    """Image values, and class indices where both files have data (else `no_class`)."""
    with bounded_cache():  # on a cluster's worker nobody else sets it
        values = pair.image.read(local)
    # Band names are known here, so a fourth band that GDAL marks alpha is data. NaN never is.
    has_data = pair.image.read_valid(local, trust_alpha=False)
    if np.issubdtype(values.dtype, np.floating):
        has_data &= ~np.isnan(values).any(axis=0)
    return values, _indices(pair.labels, local, has_data, no_class)


def _indices(
    labels: LabelRaster, local: Window, has_data: npt.NDArray[np.bool_], no_class: int
) -> npt.NDArray[np.uint8]:
    codes, has_label = labels.read_codes(local)
    return np.where(has_data & has_label, labels.legend.encode(codes), no_class).astype(np.uint8)


def files_of(raster: Raster) -> list[str]:
    """The file itself, then those that belong to it; empty if one of them is not on a disk."""
    names = [raster.path, *sorted(set(raster.files) - {raster.path})]
    return names if all(Path(name).is_file() for name in names) else []


def _sha256(raster: Raster) -> str:
    """Of all files of a raster, one after the other; empty if they are not on a disk."""
    names = files_of(raster)
    try:
        return sha256_of(*names) if names else ""
    except OSError as error:
        raise RasterError(f"{error.filename}: cannot be read: {error.strerror}") from error
