"""ingest: image and label files into chunked Zarr stores, one a CRS, without changing a pixel that need not change."""

from __future__ import annotations

import functools
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geosynth.errors import DataError, GridError, LegendError, OutputError, RasterError
from geosynth.files import check_output, sha256_of, writing
from geosynth.grid import SpatialSplit, Window
from geosynth.legend import Legend
from geosynth.raster.bands import common_bands
from geosynth.raster.label_files import FROM_RASTER, choose_legend, class_table_of
from geosynth.raster.labels import LabelRaster
from geosynth.raster.parallel import work
from geosynth.raster.read import Array, Raster, RasterFile, bounded_cache
from geosynth.raster.stores.items import Item, Paths, list_items
from geosynth.raster.stores.pairs import (
    LegendOf,
    Pair,
    PairGroup,
    TargetGrid,
    compare_colours,
    open_pairs,
    split_groups,
    warn_of_colours,
)
from geosynth.raster.stores.source import FOLDS_AND_ALL, Progress, Scene, count_by_fold
from geosynth.raster.stores.store import Store, create_group, is_store, open_stores
from geosynth.raster.unfinished import Journal, Plan
from geosynth.raster.warp import unwarped

# --- The parts of an ingest: looking at a pair of files, and filling a shard. Each runs alone, on any thread or worker.


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
    labels = LabelRaster(unwarped(labels.raster), labels.legend)  # each pixel, not only those that a new grid takes
    counts = labels.check_codes()
    return {
        "colours": compare_colours(class_table_of(labels.raster), labels.legend, counts),
        "class_pixels": [counts.get(code, 0) for code in labels.legend.codes],
        "image_sha256": _sha256(pair.image),
        "labels_sha256": _sha256(pair.labels.raster),
    }


def fill_shard(job: Job, key: tuple[int, int]) -> dict[str, Any]:
    """Write shard `key` (group, number).

    Returns:
        `scenes`: [position, pixels of each class] of its scenes, `folds`: pixels of each class, see `count_by_fold`.

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
            extra, has_data = raster.read(local)
            np.copyto(extras[name][place], extra[0], where=has_data)
    codes = store.legend.decode(indices, store.nodata).astype(store.labels.dtype)
    store.write(window, image, codes, extras)
    return {"scenes": scenes, "folds": count_by_fold(indices, window, job.splits[group], no_class).tolist()}


def _read_pair(pair: Pair, local: Window, no_class: int) -> tuple[Array, npt.NDArray[np.uint8]]:
    """Image values, and class indices where both files have data (else `no_class`)."""
    with bounded_cache():  # on a cluster's worker nobody else sets it
        values, has_data = pair.image.read(local)
    return values, _indices(pair.labels, local, has_data, no_class)


def _indices(
    labels: LabelRaster, local: Window, has_data: npt.NDArray[np.bool_], no_class: int
) -> npt.NDArray[np.uint8]:
    codes, has_label = labels.read_codes(local)
    return np.where(has_data & has_label, labels.legend.encode(codes), no_class).astype(np.uint8)


def files_of(raster: Raster) -> list[str]:
    """The file itself, then those that belong to it; empty if one of them is not on a disk."""
    file = unwarped(raster)
    names = [file.path, *sorted(set(file.files) - {file.path})] if isinstance(file, RasterFile) else [file.path]
    return names if all(Path(name).is_file() for name in names) else []


def _sha256(raster: Raster) -> str:
    """Of all files of a raster, one after the other; empty if they are not on a disk."""
    names = files_of(raster)
    try:
        return sha256_of(*names) if names else ""
    except OSError as error:
        raise RasterError(f"{error.filename}: cannot be read: {error.strerror}") from error


Part = tuple[int, int]  # number of a grid, and of a pair or shard on it

_LOG = logging.getLogger(__name__)
_LAID_OUT = "stores"  # key in the journal
_REFUSALS = (DataError, GridError, LegendError)  # after these the same work will not go on


def ingest(
    images: Paths | None,
    labels: Paths | None,
    out: str | Path,
    *,
    items: str | Path | Sequence[Item] | None = None,
    legend: str | Path | Legend | None = None,
    label_legend: str | Path | Legend | None = None,
    bands: Sequence[str] | None = None,
    crs: str | None = None,
    resolution: float | None = None,
    like: str | Path | None = None,
    resample_images: str | None = None,
    resample_labels: str | None = None,
    by: str = "clusters",
    shares: Sequence[float] | None = None,
    block_size: int = 1024,
    buffer: float | str = 0.0,
    seed: int = 0,
    scheduler: str | None = None,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
) -> list[Store]:
    """Copy image and label rasters into one store, or, in several CRSs, into one for each, side by side in one group.

    Where scenes overlap, the later one (in the order given, by name in a folder) wins, but its nodata does not. What
    lies on the common grid is not changed by a bit. The store's `image` holds the values of the files; its `labels` are
    nodata wherever image or label is.

    An ingest that was killed, however, goes on where it was when it is called again with the same arguments: what is
    done is kept in a folder `out`.partial. If arguments or files changed since, it starts anew and says so.

    Args:
        images: files, folders or globs; None with `items`.
        labels: likewise; paired with images by file name without suffix, or one to one if there is one of each.
        out: folder of the store; it appears when it is whole.
        items: instead of both: a list file (see `read_items`), or items.
        legend: of the store; None for "chesapeake". A warning tells of label files whose colours speak against it, see
            `palettes.warn_of_colours`.
        label_legend: of the label files, if their codes differ; classes are matched by name. "from-raster": each
            file's own class table, by names, or by colours if it has none.
        bands: names of the image bands; needed where a file does not tell them.
        crs: of one common grid for all; None: a grid for each CRS.
        resolution: size of the grid's pixels, in units of the CRS; None: that of the first image.
        like: instead of both, a raster whose pixels are those of the common grid.
        resample_images: how images that do not lie on the common grid are brought to it: "nearest", "bilinear",
            "average", "cubic", "cubic_spline", "lanczos"; None: they are refused.
        resample_labels: likewise, and the other maps: "nearest" or "mode".
        by: how folds are chosen, unless the items name theirs: "clusters" of touching scenes, or "blocks".
        shares: of the folds train, val, test; None for 0.7, 0.1, 0.2.
        block_size: of "blocks", pixels.
        buffer: what is left out between folds: metres, or pixels as in "64px".
        seed: of the split.
        scheduler: address of a Dask scheduler whose workers see the same files; None for threads.
        overwrite: replace a store at `out`, once the new one is whole.
        progress: told parts done and parts in all.

    Returns:
        The stores, in the order of their first images.

    Raises:
        SettingsError, DataError, GridError, LegendError, RasterError, OutputError: one line each.
    """
    to_legend = Legend.load("chesapeake" if legend is None else legend)
    from_legend: LegendOf
    if label_legend == FROM_RASTER:
        from_legend = functools.partial(choose_legend, legend=FROM_RASTER, target=to_legend)
    else:
        from_legend = (to_legend if label_legend is None else Legend.load(label_legend)).translation_to(to_legend)
    target = TargetGrid(crs, resolution, like, resample_images, resample_labels)
    out = Path(out)
    partial = out.with_name(out.name + ".partial")
    _check_output(out, partial, overwrite)
    listed = list_items(images, labels, items)
    if scheduler is not None:  # workers may run in another folder
        listed, out, partial = [_absolute(item) for item in listed], out.absolute(), partial.absolute()

    groups = open_pairs(listed, from_legend, target)
    band_names = common_bands([pair.image for group in groups for pair in group.pairs], bands)
    how: dict[str, Any] = {"by": by, "shares": shares, "seed": seed, "block_size": block_size, "buffer": buffer}
    splits = split_groups(groups, **how)  # for its refusals; the real one counts classes
    arguments = {
        **how,
        "legend": to_legend.model_dump(mode="json"),
        "label_legend": from_legend.model_dump(mode="json") if isinstance(from_legend, Legend) else FROM_RASTER,
        "bands": list(band_names),
        "target": {name: str(value) for name, value in asdict(target).items()},
        "items": [asdict(_absolute(item)) for item in listed],
    }
    with writing(out), bounded_cache(), Journal(partial, _plan(groups, arguments)) as journal:
        try:
            stores = _lay_out(journal, groups, splits, to_legend, band_names)
            is_default = legend is None and label_legend is None
            _fill(journal, Job.plan(groups, stores, splits), how, is_default, scheduler, progress)
            _move(journal, out)
        except BaseException as error:
            if isinstance(error, _REFUSALS) or set(journal.records) <= {_LAID_OUT}:
                journal.remove()
            else:
                _LOG.warning("%s: keeps what is done; the same command goes on from there", journal.folder)
            raise
    return open_stores(out)


def _check_output(out: Path, partial: Path, overwrite: bool) -> None:
    if out.exists() and (partial / "moved").exists():  # killed after all was done
        shutil.rmtree(partial, ignore_errors=True)
    check_output(out, overwrite=overwrite)
    if (out.exists() or out.is_symlink()) and not is_store(out):
        raise OutputError(f"{out}: is not a geosynth store and will not be overwritten; choose another name")


def _absolute(item: Item) -> Item:
    def local(path: str) -> str:
        return path if "://" in path or path.startswith("/vsi") else str(Path(path).absolute())

    extras = {name: local(path) for name, path in item.extras.items()}
    return replace(item, image=local(item.image), labels=local(item.labels), extras=extras)


def _plan(groups: Sequence[PairGroup], arguments: dict[str, Any]) -> Plan:
    """Arguments, and size and time of all files: what an interrupted ingest must have in common with this one."""
    files: dict[str, Any] = {}
    for group in groups:
        for pair in group.pairs:
            for raster in (pair.image, pair.labels.raster, *pair.extras.values()):
                for name in files_of(raster):
                    status = Path(name).stat()
                    files[str(Path(name).absolute())] = [status.st_size, status.st_mtime_ns]
    return {"arguments": arguments, "source files": files}


def _lay_out(
    journal: Journal, groups: list[PairGroup], splits: list[SpatialSplit], legend: Legend, band_names: tuple[str, ...]
) -> list[Store]:
    """The stores, empty; or as an interrupted ingest left them."""
    folder = journal.folder / "store"
    names = [""] if len(groups) == 1 else [f"/{name}" for name in _names(groups)]
    if _LAID_OUT not in journal.records:
        if len(groups) > 1:
            create_group(folder, [name[1:] for name in names])
        for name, group, split in zip(names, groups, splits, strict=True):
            Store.create(
                f"{folder}{name}",
                group.geobox,
                legend=legend,
                nodata=legend.nodata_code,
                band_names=band_names,
                dtype=group.pairs[0].image.dtype,
                scenes=(),
                split=split,
                extras=_extras(groups),
            )
        journal.add(_LAID_OUT, names)
    for leftover in folder.rglob("*.partial"):  # of files that zarr was writing when it was killed
        leftover.unlink()
    return [Store(f"{folder}{name}", mode="r+") for name in names]


def _names(groups: Sequence[PairGroup]) -> list[str]:
    names = [group.name for group in groups]
    return [name if names.count(name) == 1 else f"{name}_{place}" for place, name in enumerate(names)]


def _extras(groups: Sequence[PairGroup]) -> dict[str, tuple[np.dtype[Any], float]]:
    """Type and nodata value of further maps, the same in all files."""
    found: dict[str, Raster] = {}
    for group in groups:
        for pair in group.pairs:
            for name, raster in pair.extras.items():
                first = found.setdefault(name, raster)
                if (raster.dtype, raster.nodata) != (first.dtype, first.nodata):
                    raise DataError(
                        f"{raster.path}: is {raster.dtype} with nodata {raster.nodata}, but {first.path} is"
                        f" {first.dtype} with nodata {first.nodata}; bring {name} into one form"
                    )
    return {name: (raster.dtype, 0 if raster.nodata is None else raster.nodata) for name, raster in found.items()}


def _fill(
    journal: Journal, job: Job, how: dict[str, Any], is_default: bool, scheduler: str | None, progress: Progress
) -> None:
    """Look at all pairs, choose their folds, and write all shards; what the journal knows is left out."""
    pairs = [(group, place) for group, members in enumerate(job.groups) for place in range(len(members.pairs))]
    shards = [(group, number) for group, windows in enumerate(job.shards) for number in range(len(windows))]
    keys = [*(f"pair/{g}/{n}" for g, n in pairs), *(f"shard/{g}/{n}" for g, n in shards)]
    done = sum(key in journal.records for key in keys)
    if done:
        _LOG.warning("%s: going on; %d of %d parts are done already", journal.folder, done, len(keys))
        progress(done, len(keys))

    def run(kind: str, function: Callable[[Job, Part], dict[str, Any]], parts: list[Part]) -> None:
        def tell(part: Part, result: dict[str, Any]) -> None:
            nonlocal done
            journal.add(f"{kind}/{part[0]}/{part[1]}", result)
            done += 1
            progress(done, len(keys))

        left = [part for part in parts if f"{kind}/{part[0]}/{part[1]}" not in journal.records]
        work(function, job, left, tell, scheduler)

    run("pair", look_at_pair, pairs)
    looks = [
        [journal.records[f"pair/{group}/{place}"] for place in range(len(members.pairs))]
        for group, members in enumerate(job.groups)
    ]
    all_pairs = [pair for members in job.groups for pair in members.pairs]
    verdicts = [look.get("colours", "") for of_group in looks for look in of_group]
    warn_of_colours(zip((pair.labels for pair in all_pairs), verdicts, strict=True), is_default=is_default)
    counts = [np.array([look["class_pixels"] for look in of_group]) for of_group in looks]
    job = replace(job, splits=tuple(split_groups(job.groups, **how, class_pixels=counts)))
    run("shard", fill_shard, shards)
    for group, store in enumerate(job.stores):
        results = [journal.records[f"shard/{group}/{number}"] for number in range(len(job.shards[group]))]
        _finish(store, job.groups[group], job.splits[group], looks[group], results)


def _finish(
    store: Store, group: PairGroup, split: SpatialSplit, looks: list[dict[str, Any]], results: list[dict[str, Any]]
) -> None:
    """Sum what was counted in the shards, and note it with the files' hashes."""
    pixels = np.zeros((len(group.pairs), store.legend.num_classes), dtype=np.int64)
    folds = np.sum([result["folds"] for result in results], axis=0)
    for result in results:
        for position, counts in result["scenes"]:
            pixels[position] += counts
    scenes = [
        Scene(
            name=pair.item.name or Path(pair.item.image).name,
            window=pair.window,
            class_pixels=tuple(row.tolist()),
            image_sha256=look["image_sha256"],
            labels_sha256=look["labels_sha256"],
            image=pair.item.image,
            labels=pair.item.labels,
            date=pair.item.date,
        )
        for pair, look, row in zip(group.pairs, looks, pixels, strict=True)
    ]
    store.finish(scenes, split, dict(zip(FOLDS_AND_ALL, folds.tolist(), strict=True)))


def _move(journal: Journal, out: Path) -> None:
    """Give the whole store its name; an old one goes only then."""
    whole, old = journal.folder / "store", out.with_name(out.name + ".replaced")
    replaced = out.exists()
    if replaced:
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
    (journal.folder / "moved").touch()
    try:
        whole.rename(out)
    except BaseException:
        (journal.folder / "moved").unlink()
        if replaced:
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
    journal.remove()
