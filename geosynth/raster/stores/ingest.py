"""ingest: copies image and label files into Zarr stores, one per CRS, changing no pixel that need not change."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geosynth.errors import DataError, GridError, LegendError, RasterError, SettingsError, counted
from geosynth.files import output_path, refuse_inputs, writing
from geosynth.grid import crop
from geosynth.inputs import absolute, sha256_once
from geosynth.legend import Legend
from geosynth.parallel import open_client
from geosynth.progress import Progress, silent
from geosynth.raster.bands import BANDS_APART
from geosynth.raster.label_legend import (
    FROM_RASTER,
    choose_legend,
    compare_colours,
    legend_of_files,
    warn_of_colours,
)
from geosynth.raster.labels import LabelRaster
from geosynth.raster.read import Raster, bounded_cache
from geosynth.raster.reprojection import cover
from geosynth.raster.stores.copy import copy_sources
from geosynth.raster.stores.folds import Folds, SplitRule
from geosynth.raster.stores.in_place import InPlace, Per, files_of, open_scenes
from geosynth.raster.stores.item_list import list_items
from geosynth.raster.stores.items import Item, Paths
from geosynth.raster.stores.layout import shard_edge
from geosynth.raster.stores.pairs import LegendOf, TargetGrid
from geosynth.raster.stores.store import Store, check_store_output, open_stores
from geosynth.raster.warp import WarpedRaster, unwarped
from geosynth.unfinished import UnfinishedWork

if TYPE_CHECKING:
    from distributed import Client

_LOG = logging.getLogger(__name__)
Surveys = list[list[Mapping[str, Any]]]
"""What `_survey_pair` found, by source and pair."""

_REFUSALS = (DataError, GridError, LegendError)  # to go on with the same work would give the same error


def ingest(
    images: Paths | None,
    labels: Paths | None,
    out: str | Path,
    *,
    items: str | Path | Sequence[Item] | None = None,
    legend: str | Path | Legend | None = None,
    label_legend: str | Path | Legend | None = None,
    bands: Sequence[str] | None = None,
    dtype: str | None = None,
    crs: str | None = None,
    resolution: float | None = None,
    like: str | Path | None = None,
    resample_images: str | None = None,
    resample_labels: str | None = None,
    apart: bool = False,
    by: str | None = None,
    shares: Sequence[float] | None = None,
    block_size: int = 1024,
    buffer: float | str = 0.0,
    seed: int | None = None,
    per: Per | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> list[Store]:
    """Copy image and label rasters into a store; if there are several CRSs, into one store for each, in one group.

    Where scenes overlap, the later one (in the order given; in a folder, by name) counts, except where it has no data.
    A warning counts the hidden pixels, and scenes that are entirely hidden are left out. Rasters on the common grid are
    copied bit by bit. The store's `image` has the values of the files, and 0 (or NaN, in floats) where these have no
    data; its `labels` are nodata wherever the image or the label raster has no data.

    After an interruption or a kill, the same call continues, see `UnfinishedWork`. If arguments or files have changed
    since, it starts over and says so.

    Args:
        images: files, Zarr stores, folders or globs; None with `items`.
        labels: likewise; paired with images by file name, see `pair_files`; or one file for all images.
        out: folder of the store; it appears when it is complete.
        items: instead of images and labels: a list file (see `read_items`), or items.
        legend: of the store; None for "chesapeake". Label files whose colours contradict it give a warning, see
            `warn_of_colours`.
        label_legend: of the label files, if their codes differ; classes are matched by name. "from-raster" for each
            file's own class table, matched by names, or by colours if it has no names.
        bands: names of the image bands, if the files do not have them; or of those to copy, if they do. With
            numbers or descriptions, as in "red=4", "red=B04", those of files that do not have these names.
        dtype: of the store's imagery, as in "uint16"; None for that of the files. A value that does not fit is refused.
        crs: of one common grid for all; None for a grid for each CRS.
        resolution: pixel size of the common grid, in units of the CRS; None for that of the first image.
        like: instead of both, a raster whose pixel grid becomes the common grid.
        resample_images: method for images that are not on the common grid: "nearest", "bilinear", "average", "cubic",
            "cubic_spline" or "lanczos"; None to refuse them.
        resample_labels: likewise for labels and further maps: "nearest" or "mode".
        apart: whether images without a georeference show different places, which are laid out far apart on a grid
            without a CRS; False to refuse several of them.
        by: how folds are chosen, unless the items name theirs: "clusters" of touching scenes, or "blocks"; None for
            clusters if there are enough of them, else blocks, see `SplitRule`.
        shares: of the folds train, val, test; None for 0.7, 0.1, 0.2.
        block_size: side of "blocks", in pixels.
        buffer: width of the gap between folds: metres, or pixels as in "64px".
        seed: of the split; None for 0.
        per: "year", "month" or "day": a store for each period in the items' dates, all on one grid with one split.
        scheduler: address of a Dask scheduler whose workers see the same files; None for threads.
        overwrite: replace a store at `out` once the new one is complete.
        progress: called with the number of finished parts and of all parts.

    Returns:
        the stores, in the order of their first images.

    Raises:
        SettingsError, DataError, GridError, LegendError, RasterError, OutputError, ClusterError: one line each.
    """
    to_legend = Legend.load("chesapeake" if legend is None else legend)
    # From the class table of each file, or one for all.
    from_legend: LegendOf = (
        functools.partial(choose_legend, legend=FROM_RASTER, target=to_legend)
        if label_legend == FROM_RASTER
        else legend_of_files(label_legend, to_legend)
    )
    target = TargetGrid(crs, resolution, like, resample_images, resample_labels, dtype, apart)
    rule = _rule(by, shares, block_size, buffer, seed)
    if per not in (None, "year", "month", "day"):
        raise SettingsError(f"year, month or day, not {per!r}", setting="per")
    if apart and per is not None:
        what = "images of several dates may show one place, which would be in several folds"
        raise SettingsError(what, setting="apart")
    work = UnfinishedWork(output_path(out))
    work.check(overwrite=overwrite)
    check_store_output(work.out)
    listed = list_items(images, labels, items)
    of_items = [path for item in listed for path in (item.image, item.labels, *item.extras.values())]
    refuse_inputs(work.out, [*of_items, items, legend, label_legend, like])
    if scheduler is not None:  # workers may run in another folder
        listed, work = [_absolute(item) for item in listed], UnfinishedWork(work.out.absolute())

    sources = open_scenes(listed, to_legend, from_legend, bands, target)
    if per is not None:
        sources = [part for source in sources for part in source.by_date(per)]
    folds = _chosen_folds(sources, {"by": by, "shares": shares, "seed": seed})
    rule = rule if folds else rule.settled(sources)
    rule.model_copy(update={"stratify": False}).apply(sources, folds=folds)  # refuses early, counts nothing
    options = {"by": by, "shares": shares, "seed": seed, "block_size": block_size, "buffer": buffer, "per": per}
    job = _job(options, to_legend, from_legend, target, listed, sources)
    edge = shard_edge(sources[0])
    num_pairs = sum(len(source.pairs) for source in sources)
    total = num_pairs + sum(len(source.blocks(edge)) for source in sources)
    with open_client(scheduler=scheduler) as client, bounded_cache(), writing(work.out), work.open(job, total):
        try:
            if before := len(work.done()):
                _LOG.warning("%s: going on; %d of %d parts are done already", work.out, before, total)
            surveys = _survey_pairs(work, sources, client, lambda done, _: progress(max(done, before), total))
            label_files = [pair.labels for source in sources for pair in source.pairs]
            verdicts = [survey["colours"] for of_source in surveys for survey in of_source]
            is_default = legend is None and label_legend is None
            warn_of_colours(zip(label_files, verdicts, strict=True), is_default=is_default)
            parted = [_without_hidden(*pair) for pair in zip(sources, surveys, strict=True)]
            kept = [source for source, _ in parted]
            if folds:
                folds = [[own[n] for n in seen] for own, (_, seen) in zip(folds, parted, strict=True)]
            splits = rule.apply(kept, folds=folds)
            split = [source.with_split(split) for source, split in zip(kept, splits, strict=True)]
            copy_sources(work, split, client=client, progress=lambda done, _: progress(num_pairs + done, total))
        except _REFUSALS:
            work.discard()
            raise
    return open_stores(work.out)


def _rule(
    by: str | None, shares: Sequence[float] | None, block_size: int, buffer: float | str, seed: int | None
) -> SplitRule:
    """How folds are chosen, unless the items name theirs."""
    if by not in (None, "clusters", "blocks"):
        raise SettingsError(f"clusters or blocks, not {by!r}", setting="by")
    return SplitRule.of(
        blocks=block_size if by == "blocks" else None,
        clusters=by == "clusters",
        shares=shares,
        seed=seed,
        stratify=by != "blocks",
        buffer=buffer,
    )


def _job(
    options: Mapping[str, Any],
    to_legend: Legend,
    from_legend: LegendOf,
    target: TargetGrid,
    items: Sequence[Item],
    sources: Sequence[InPlace],
) -> dict[str, Any]:
    """Everything that the parts depend on, under the names that users know."""
    return {
        "arguments": {
            **options,
            "legend": to_legend.model_dump(mode="json"),
            "label_legend": from_legend.model_dump(mode="json") if isinstance(from_legend, Legend) else FROM_RASTER,
            "bands": list(sources[0].band_names),
            "target": {name: str(value) for name, value in asdict(target).items()},
            "items": [asdict(_absolute(item)) for item in items],
        },
        "source files": _states(sources),
        # For `like` the arguments have only the raster's name.
        "grids": [[*one.geobox.shape, *one.geobox.affine[:6], str(one.geobox.crs)] for one in sources],
    }


def _absolute(item: Item) -> Item:
    extras = {name: absolute(path) for name, path in item.extras.items()}
    return replace(item, image=absolute(item.image), labels=absolute(item.labels), extras=extras)


def _states(sources: Sequence[InPlace]) -> dict[str, Any]:
    """Size and time of all files, which must be the same for an interrupted ingest to continue."""
    found: dict[str, Any] = {}
    for source in sources:
        for pair in source.pairs:
            for raster in (pair.image, pair.labels.raster, *pair.extras.values()):
                for file in files_of(raster):
                    status = file.stat()
                    found[str(file.absolute())] = [status.st_size, status.st_mtime_ns]
    return found


def _chosen_folds(sources: Sequence[InPlace], choice: Mapping[str, object]) -> Folds | None:
    """The folds of each source's scenes, as the items name them; None if they name none.

    Args:
        sources: of the scenes.
        choice: arguments that say how folds are chosen; None if not given.
    """
    items = [pair.item for source in sources for pair in source.pairs]
    without = [item for item in items if item.fold is None]
    if len(without) == len(items):
        return None
    if without:
        raise DataError(f"{without[0].image}: has no fold, but others in the list have; give it one")
    if told := next((name for name, value in choice.items() if value is not None), None):
        raise SettingsError("no effect: the items name their folds already; leave it out", setting=told)
    return [[pair.item.fold for pair in source.pairs] for source in sources]


def _survey_pairs(
    work: UnfinishedWork, sources: Sequence[InPlace], client: Client | None, progress: Progress
) -> Surveys:
    """Survey the pairs of each source, except those that an interrupted run has surveyed.

    Args:
        work: the unfinished store; open.
        sources: of the pairs.
        client: of a Dask cluster; None for threads.
        progress: called with the number of surveyed pairs and of all pairs.
    """
    pairs = [(number, place) for number, source in enumerate(sources) for place in range(len(source.pairs))]
    parts = {f"pair-{number}-{place}": (number, place) for number, place in pairs}
    work.do_parts(_survey_pair, sources, parts, client=client, progress=progress)
    records = work.records()
    found: Surveys = [[] for _ in sources]
    for part, (number, _) in parts.items():
        found[number].append(records[part])
    return found


def _without_hidden(source: InPlace, surveys: Sequence[Mapping[str, Any]]) -> tuple[InPlace, list[int]]:
    """A source with what surveys found, without scenes wholly under later ones; and the positions of those it keeps.

    A warning counts the hidden pixels.
    """
    seen = [n for n, one in enumerate(surveys) if not one["hidden"] or one["is_seen"]]
    gone = [scene.name for n, scene in enumerate(source.scenes) if n not in seen]
    if pixels := sum(one["hidden"] for one in surveys):
        wholly = f"; left out, as wholly under them: {counted(len(gone), 'scene')}, as {gone[0]}" if gone else ""
        dates = "--per year, month or day: a store for each date"
        remedy = f" ({BANDS_APART if len(source.band_names) == 1 else dates})" if gone else ""
        _LOG.warning("%s: later scenes hide %d px of earlier ones%s%s", source.path, pixels, wholly, remedy)
    kept = source.of(seen)
    kept.scenes = tuple(
        replace(
            scene,
            class_pixels=tuple(surveys[n]["class_pixels"]),
            image_sha256=surveys[n]["image_sha256"],
            labels_sha256=surveys[n]["labels_sha256"],
        )
        for n, scene in zip(seen, kept.scenes, strict=True)
    )
    return kept, seen


def _survey_pair(sources: Sequence[InPlace], pair: tuple[int, int]) -> dict[str, Any]:
    """Check the labels of a pair (source, place), and hash its files.

    Returns:
        `class_pixels` of the label file, `image_sha256` and `labels_sha256`; `colours`, see `compare_colours`;
        `hidden` and `is_seen`, see `InPlace.hidden`.

    Raises:
        LegendError, DataError, RasterError: one line each.
    """
    number, place = pair
    image, labels = sources[number].pairs[place].image, sources[number].pairs[place].labels
    labels = LabelRaster(_below(labels.raster), labels.legend)
    counts = labels.survey().counts
    hidden, is_seen = sources[number].hidden(place)
    return {
        "hidden": hidden,
        "is_seen": is_seen,
        "colours": compare_colours(labels.raster.class_table, labels.legend, counts),
        "class_pixels": labels.legend.count(counts),
        "image_sha256": _sha256(image),
        "labels_sha256": _sha256(labels.raster),
    }


def _below(raster: Raster) -> Raster:
    """All pixels of a resampled file under the new grid, not only those that resampling uses."""
    source = unwarped(raster)
    if source is raster:
        return raster
    below = cover(source.geobox, raster.geobox, raster.path).intersection(source.window)
    return source if below in (None, source.window) else WarpedRaster(source, crop(source.geobox, below), "nearest")


def _sha256(raster: Raster) -> str:
    """SHA-256 of all files of a raster, one after the other; empty if they are not on a disk."""
    try:
        files = files_of(raster)
        return sha256_once(*files) if files else ""  # many images may share a label file
    except OSError as error:
        raise RasterError(f"{error.filename}: cannot be read: {error.strerror}") from error
