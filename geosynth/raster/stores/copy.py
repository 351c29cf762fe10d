"""copy_sources: copies imagery and labels of any sources into stores, shard by shard.

`ingest` copies files, `twin` what a generator paints. Each shard is read and written as a whole, so memory depends only
on the shard's size, and a finished shard need not be written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from geosynth.files import delete
from geosynth.grid import Window
from geosynth.progress import Progress, silent
from geosynth.raster.read import bounded_cache
from geosynth.raster.stores.source import FOLDS_AND_ALL, PatchSource, count_by_fold
from geosynth.raster.stores.store import Store, create_group
from geosynth.unfinished import UnfinishedWork

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class _Copy:
    """One source and its store; can be sent to workers."""

    source: PatchSource
    store: Store
    shards: tuple[Window, ...]
    """Shards of the store that contain a part of a scene."""


def copy_sources(
    work: UnfinishedWork,
    sources: Sequence[PatchSource],
    *,
    client: Client | None = None,
    progress: Progress = silent,
) -> None:
    """Make a store from each source: its scenes, split, legend, imagery, labels and further maps.

    Args:
        work: the unfinished store, or group of several; open, with a job that distinguishes the sources.
        sources: each on its own grid.
        client: of a Dask cluster whose workers see the same files; None for threads.
        progress: called with the number of finished shards and of all shards.

    Raises:
        RasterError: if a source cannot be read.
        OutputError: if the stores cannot be written; finished shards are kept.
        ClusterError: if the cluster fails.
    """
    copies = _lay_out(work, sources)
    places = [(number, shard) for number, copy in enumerate(copies) for shard in range(len(copy.shards))]
    shards = {_part(*place): place for place in places}
    work.do_parts(_copy_shard, copies, shards, client=client, progress=progress)
    records = work.records()
    for number, copy in enumerate(copies):
        _finish(copy, [records[_part(number, shard)] for shard in range(len(copy.shards))])
    work.finish()


def store_names(sources: Sequence[PatchSource]) -> list[str]:
    """Names of the stores of several sources in their group, each a different one."""
    names = [source.name for source in sources]
    return [name if names.count(name) == 1 else f"{name}_{place}" for place, name in enumerate(names)]


def _part(number: int, shard: int) -> str:
    return f"shard-{number}-{shard}"


def _lay_out(work: UnfinishedWork, sources: Sequence[PatchSource]) -> tuple[_Copy, ...]:
    """Create the stores, or open them as an interrupted run left them."""
    inside = [""] if len(sources) == 1 else [f"/{name}" for name in store_names(sources)]
    if not work.result.exists():
        new = work.folder / "result.partial"
        delete(new)
        if len(sources) > 1:
            create_group(new, [name[1:] for name in inside])
        for name, source in zip(inside, sources, strict=True):
            Store.create(f"{new}{name}", source)
        new.rename(work.result)
    for leftover in work.result.rglob("*.partial"):  # files that zarr was writing when it was killed
        leftover.unlink()
    stores = [Store(f"{work.result}{name}", mode="r+") for name in inside]
    return tuple(_Copy(source, store, tuple(store.shards())) for source, store in zip(sources, stores, strict=True))


def _copy_shard(copies: Sequence[_Copy], shard: tuple[int, int]) -> dict[str, Any]:
    """Write one shard.

    Returns:
        `scenes`: [position, pixels of each class] of the scenes with a part in the shard; `folds`: see `count_by_fold`.
    """
    number, place = shard
    source, store, window = copies[number].source, copies[number].store, copies[number].shards[place]
    no_class = source.legend.num_classes
    with bounded_cache():  # on a cluster's worker nothing else sets it
        image, indices = source.read(window)
        extras = {name: source.read_extra(name, window) for name in source.extras}
    store.write(window, image, source.legend.decode(indices), extras)
    scenes = []
    for position, scene in enumerate(source.scenes):
        part = scene.window.intersection(window)
        if part is not None:
            found = indices[part.slices_in(window)]
            scenes.append([position, np.bincount(found.ravel(), minlength=no_class + 1)[:no_class].tolist()])
    return {"scenes": scenes, "folds": count_by_fold(indices, window, source.split, no_class).tolist()}


def _finish(copy: _Copy, records: Sequence[Mapping[str, Any]]) -> None:
    """Sum the counts of the shards, and complete the store's record."""
    scenes = np.zeros((len(copy.source.scenes), copy.source.legend.num_classes), dtype=np.int64)
    for record in records:
        for position, pixels in record["scenes"]:
            scenes[position] += pixels
    folds = np.sum([record["folds"] for record in records], axis=0)
    counted = [
        replace(scene, class_pixels=tuple(pixels))
        for scene, pixels in zip(copy.source.scenes, scenes.tolist(), strict=True)
    ]
    copy.store.finish(counted, copy.source.split, dict(zip(FOLDS_AND_ALL, folds.tolist(), strict=True)))
