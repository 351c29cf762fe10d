"""Twins: stores with the places and labels of another, and images that were made for these labels."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from odc.geo.geobox import GeoBox

from geosynth.files import writing
from geosynth.grid import Window
from geosynth.legend import Legend
from geosynth.raster.labels import LabelRaster
from geosynth.raster.stores.layout import label_dtype
from geosynth.raster.stores.source import FOLDS_AND_ALL, PatchSource, Scene, count_by_fold
from geosynth.raster.stores.store import Store, create_group

Read = Callable[[Window], tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]]


@dataclass(frozen=True)
class SourceCodes:
    """The labels of a patch source, seen as a raster of its legend's codes."""

    source: PatchSource

    count = 1

    @property
    def path(self) -> str:
        """Of the source."""
        return self.source.path

    @property
    def geobox(self) -> GeoBox:
        """Of the source."""
        return self.source.geobox

    @property
    def nodata(self) -> int:
        """Code of pixels without a class."""
        return self.source.legend.nodata_code

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the codes."""
        return label_dtype(self.source.legend, self.nodata)

    @property
    def window(self) -> Window:
        """The whole grid."""
        return Window(0, 0, *self.geobox.shape)

    def read(self, window: Window) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Codes (1, height, width), and where there is a class (height, width)."""
        indices = self.source.read_labels(window)
        codes = self.source.legend.decode(indices, self.nodata).astype(self.dtype)
        return codes[np.newaxis], np.asarray(indices < self.source.legend.num_classes)


class FoldLabels(LabelRaster):
    """The labels of a patch source; those outside of some folds are seen, but count as without a class.

    Args:
        source: of the labels.
        legend: reads its codes as class indices.
        folds: whose pixels count.
    """

    def __init__(self, source: PatchSource, legend: Legend, folds: Sequence[str]) -> None:
        super().__init__(SourceCodes(source), legend)
        self._scenes, self._split, self._folds = source.scenes, source.split, tuple(folds)

    def surveyed(self) -> Sequence[Window]:
        """The scenes: what lies between them, often nearly all of the grid, has no labels."""
        return [scene.window for scene in self._scenes]

    def read(self, window: Window) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """As `LabelRaster.read`, which see."""
        indices, labelled = super().read(window)
        inside = window.intersection(self.raster.window)
        assert inside is not None
        masks = [self._split.mask(inside, fold) for fold in self._folds if self._split.meets(inside, fold)]
        wanted = np.logical_or.reduce([np.zeros((inside.height, inside.width), bool), *masks])
        labelled[inside.shift(-window.row, -window.column).slices] &= wanted
        return indices, labelled


def write_twins(
    out: Path,
    sources: Sequence[PatchSource],
    images: Sequence[Read],
    tags: Sequence[Mapping[str, str]],
    progress: Callable[[Literal["writing"], int, int], None],
) -> None:
    """Write a store for each source, with its places, labels and split, under a temporary name until all is whole.

    Args:
        out: of the store; of several, the group that holds them.
        sources: whose labels are copied.
        images: of each, gives (bands, height, width) and where there is data, (height, width), for any window.
        tags: of each, how its images were made.
        progress: told ("writing", shards done, shards in all).

    Raises:
        OutputError: if it cannot be written.
        RasterError: if labels cannot be read.
    """
    partial = out.with_name(f".{out.name}.partial")
    try:
        with writing(out):
            shutil.rmtree(partial, ignore_errors=True)
            names = [Path(source.path).name for source in sources]
            paths = [partial] if len(sources) == 1 else [partial / name for name in names]
            if len(sources) > 1:
                create_group(partial, names)
            stores = [_create(*parts) for parts in zip(paths, sources, tags, strict=True)]
            shards = [store.shards_over([scene.window for scene in store.scenes]) for store in stores]
            done, total = 0, sum(map(len, shards))
            for store, source, read, windows in zip(stores, sources, images, shards, strict=True):
                scenes: dict[Scene, npt.NDArray[np.int64]] = {}
                folds = np.zeros((len(FOLDS_AND_ALL), store.legend.num_classes), dtype=np.int64)
                for window in windows:
                    _copy_shard(store, source, read, window, scenes, folds)
                    done += 1
                    progress("writing", done, total)
                counted = [replace(scene, class_pixels=tuple(scenes[scene].tolist())) for scene in store.scenes]
                store.finish(counted, store.split, dict(zip(FOLDS_AND_ALL, folds.tolist(), strict=True)))
            if out.exists():
                shutil.rmtree(out)
            partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _create(path: Path, source: PatchSource, tags: Mapping[str, str]) -> Store:
    """Empty, with the scenes of the source; their hashes say how their images were made."""

    def made(scene: Scene) -> str:
        return hashlib.sha256(repr((sorted(tags.items()), scene.labels_sha256, scene.window)).encode()).hexdigest()

    return Store.create(
        path,
        source.geobox,
        legend=source.legend,
        nodata=source.legend.nodata_code,
        band_names=source.band_names,
        dtype=source.dtype,
        scenes=[replace(scene, image_sha256=made(scene), image="") for scene in source.scenes],
        split=source.split,
        synthetic=tags,
    )


def _copy_shard(
    store: Store,
    source: PatchSource,
    read: Read,
    window: Window,
    scenes: dict[Scene, npt.NDArray[np.int64]],
    folds: npt.NDArray[np.int64],
) -> None:
    """Write one shard, and count its classes by scene and by fold."""
    pixels, valid = read(window)
    no_class = store.legend.num_classes
    indices = np.where(valid, source.read_labels(window), no_class).astype(np.uint8)
    codes = store.legend.decode(indices, store.nodata).astype(store.labels.dtype)
    store.write(window, pixels, codes)
    folds += count_by_fold(indices, window, store.split, no_class)
    for scene in store.scenes:
        counts = scenes.setdefault(scene, np.zeros(no_class, dtype=np.int64))
        part = scene.window.intersection(window)
        if part is not None:
            found = indices[part.shift(-window.row, -window.column).slices]
            counts += np.bincount(found.ravel(), minlength=no_class + 1)[:no_class]
