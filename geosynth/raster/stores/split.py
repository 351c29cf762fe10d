"""split: assigns the pixels of a store to train, val and test, and reports what each fold got."""

from __future__ import annotations

import csv
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from geosynth.errors import DataError, SettingsError, first_of
from geosynth.files import (
    check_output,
    delete,
    output_path,
    parents_of,
    refuse_folder,
    refuse_inputs,
    replacing,
    writing,
)
from geosynth.grid.split import SHARES
from geosynth.grid.vector import check_suffix
from geosynth.inputs import is_remote
from geosynth.locks import alone_in
from geosynth.progress import Progress, silent
from geosynth.raster.stores.folds import SplitRule
from geosynth.raster.stores.open import open_sources
from geosynth.raster.stores.source import FOLDS_AND_ALL, PatchSource
from geosynth.raster.stores.store import Store
from geosynth.unfinished import UnfinishedWork

By = Literal["blocks", "clusters", "polygons", "scenes"]

_LOG = logging.getLogger(__name__)


def split(
    data: str | Path | Sequence[PatchSource],
    *,
    by: By = "blocks",
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    buffer: float | str = 0.0,
    block_size: int = 1024,
    stratify: bool = True,
    polygons: str | Path | None = None,
    scenes: str | Path | Mapping[str, str] | None = None,
    out: str | Path | None = None,
    keep: bool = True,
    overwrite: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Split a store (or each store of several CRSs) into folds by place, and report what each fold got.

    Args:
        data: a store, a folder of stores, or open sources.
        by: "blocks" of `block_size` pixels; "clusters" of touching scenes; "polygons" of a file with a
            column `fold`; or "scenes", listed by name.
        shares: with blocks or clusters, of the pixels, for train, val and test, in any unit.
        seed: of the order in which blocks or clusters are assigned.
        buffer: width of the gap between folds: metres (rounded up to whole pixels), or pixels as in "64px".
        block_size: in pixels; should be several times the buffer, else little is left of a block.
        stratify: with blocks or clusters, give each fold its share of each class, not only of all pixels.
        polygons: file of polygons, in any CRS.
        scenes: a CSV file with columns `scene` and `fold`, or a mapping of scene names to folds.
        out: also write the split as a table of polygons (.parquet, .gpkg, .geojson). With several stores, there is a
            file for each, named after it.
        keep: write the split into the store; False leaves the store unchanged.
        overwrite: replace files at `out`.
        progress: called with the number of finished steps and of all steps.

    Returns:
        the split and the resulting pixels and class shares of each fold, for each store and for all of them, as plain
        values.

    Raises:
        SettingsError, DataError, GridError, OutputError: one line each.
    """
    sources = open_sources(data, unfinished=keep)
    files = _files(sources, None if out is None else output_path(out))
    if keep:
        _check_keepable(data, sources)
    if by not in ("blocks", "clusters", "polygons", "scenes"):
        raise SettingsError(f"blocks, clusters, polygons or scenes, not {by!r}", setting="by")
    if (polygons is None) == (by == "polygons") or (scenes is None) == (by == "scenes"):
        raise SettingsError("a split by polygons needs a file of them, one by scenes a list of them, others neither")
    rule = SplitRule.of(
        file=None if polygons is None else str(polygons),
        scenes=None if scenes is None else _read_folds(sources, scenes),
        blocks=block_size if by == "blocks" else None,
        clusters=by == "clusters",
        shares=tuple(shares),
        seed=seed,
        stratify=stratify,
        buffer=buffer,
    )
    with ExitStack() as held:
        for place in [*(Path(source.path) for source in sources if keep), *filter(None, files)]:
            held.enter_context(parents_of(place))
            held.enter_context(UnfinishedWork(place).alone())
        for new in filter(None, files):
            check_output(new, overwrite=overwrite)
            refuse_folder(new)
            refuse_inputs(new, [polygons, scenes])
        splits = rule.apply(sources, progress)
        if all(area.is_empty for chosen in splits for area in chosen.areas):
            raise DataError(f"{polygons or scenes}: gives no scene to a fold")
        chosen = [source.with_split(split) for source, split in zip(sources, splits, strict=True)]
        for other in chosen:
            other.class_pixels("all", progress)
        _write(chosen, files, [source for source in sources if keep and isinstance(source, Store)])
    described = [_describe(other, file) for other, file in zip(chosen, files, strict=True)]
    return {"by": by, "seed": seed, "stores": described, "folds": _describe_folds(chosen)}


def _write(chosen: Sequence[PatchSource], files: Sequence[Path | None], stores: Sequence[Store]) -> None:
    """Write the splits of all sources to files, if there are any, and to stores, if any.

    Whenever a kill happens, a file that exists has the split of its store, and no store can be read while another one
    may still have its old split.

    Raises:
        OutputError: if one cannot be written; then all are unchanged.
    """
    with ExitStack() as written:
        for store in stores:
            written.enter_context(alone_in(Path(store.path)))
        for source, file in zip(chosen, files, strict=True):
            if file is None:
                continue
            folder = UnfinishedWork(file).folder
            for leftover in folder.glob(".*"):  # left by a kill
                delete(leftover)
            source.split.save(written.enter_context(replacing(file, folder=folder)), source.geobox, file.stem)
            written.enter_context(_aside(file, folder))
        for source, store in zip(chosen if stores else (), stores, strict=True):
            written.enter_context(_restored(store))
            with writing(Path(store.path)):
                store.finish(store.scenes, source.split, {fold: source.class_pixels(fold) for fold in FOLDS_AND_ALL})


@contextmanager
def _aside(file: Path, folder: Path) -> Iterator[None]:
    """A context in which a file is moved away; after an error it is moved back."""
    aside = folder / ".before"
    if file.exists():
        file.replace(aside)
    try:
        yield
    except BaseException:
        if aside.exists():
            aside.replace(file)
        raise
    delete(aside)


@contextmanager
def _restored(store: Store) -> Iterator[None]:
    """A context that, after an error, gives a store its old record back, for which no free space is needed."""
    record = Path(store.path) / "zarr.json"
    before = record.with_name(".before.partial")
    try:
        with writing(Path(store.path)):
            shutil.copy(record, before)
        yield
    except BaseException:
        if before.exists():
            before.replace(record)
        raise
    finally:
        delete(before)


def _check_keepable(data: str | Path | Sequence[PatchSource], sources: Sequence[PatchSource]) -> None:
    for source in sources:
        if not isinstance(source, Store) or is_remote(source.path):
            where = "is behind a URL" if isinstance(source, Store) else "is read in place"
            name = data if isinstance(data, str | Path) else source.path
            raise SettingsError(f"{name}: {where} and cannot keep a split; give --out and --file-only")


def _read_folds(sources: Sequence[PatchSource], scenes: str | Path | Mapping[str, str]) -> Mapping[str, str]:
    """The fold of each scene; scenes may be named with or without suffix."""
    given = scenes if isinstance(scenes, Mapping) else _read_list(Path(scenes))
    every = [scene.name for source in sources for scene in source.scenes]
    unknown = sorted(set(given) - {*every, *(Path(name).stem for name in every)})
    if unknown:
        raise DataError(f"no scene is called {first_of(unknown, 5)}")
    without = [name for name in every if name not in given and Path(name).stem not in given]
    if without:
        _LOG.warning("%d of %d scenes are in no fold, as %s", len(without), len(every), without[0])
    return given


def _read_list(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV: {error}") from error
    if not rows or not {"scene", "fold"} <= set(rows[0]):
        raise DataError(f"{path}: needs columns scene and fold, and a row for each scene")
    if short := next((number for number, row in enumerate(rows, 1) if None in (row["scene"], row["fold"])), None):
        raise DataError(f"{path}, row {short}: has no fold")
    folds: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        scene, fold = row["scene"].strip(), row["fold"].strip()
        if (before := folds.setdefault(scene, fold)) != fold:
            raise DataError(f"{path}, row {number}: puts {scene} into {fold}, but a row before into {before}")
    return folds


def _files(sources: Sequence[PatchSource], out: Path | None) -> list[Path | None]:
    if out is None:
        return [None] * len(sources)
    check_suffix(out)
    several = len(sources) > 1
    return [out.with_name(f"{out.stem}_{Path(s.name).stem}{out.suffix}") if several else out for s in sources]


def _describe(source: PatchSource, file: Path | None) -> dict[str, Any]:
    folds = _describe_folds([source])
    return {"path": source.path, "file": str(file) if file else None, "buffer_px": source.split.buffer, "folds": folds}


def _describe_folds(sources: Sequence[PatchSource]) -> dict[str, Any]:
    """What each fold of the sources together got, and under "none" the pixels in no fold."""
    names = list(dict.fromkeys(name for source in sources for name in source.legend.names))
    counts = {fold: np.zeros(len(names), np.int64) for fold in FOLDS_AND_ALL}
    for source in sources:
        classes = [names.index(name) for name in source.legend.names]
        for fold, count in counts.items():
            count[classes] += source.class_pixels(fold)
    every = counts.pop("all")
    counts["none"] = every - sum(counts.values())
    folds = {}
    for fold, of_fold in counts.items():
        pixels = int(of_fold.sum())
        shares = (of_fold / max(1, pixels)).tolist()
        folds[fold] = {
            "pixels": pixels,
            "share": pixels / max(1, int(every.sum())),
            "class_shares": dict(zip(names, shares, strict=True)),
        }
    return folds
