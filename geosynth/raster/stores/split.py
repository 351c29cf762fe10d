"""split and check_split: give the pixels of a store to train, val and test, and measure how far folds are apart."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from geosynth.errors import DataError, SettingsError
from geosynth.grid import SpatialSplit, Window, buffer_pixels
from geosynth.grid.groups import blocks_over
from geosynth.grid.leakage import Leak
from geosynth.grid.neighbours import part_neighbours
from geosynth.grid.split import FOLDS, SHARES
from geosynth.grid.split_file import load_split
from geosynth.grid.vector import check_suffix
from geosynth.outputs import check_output
from geosynth.raster.stores.class_pixels import count_blocks, count_folds
from geosynth.raster.stores.footprints import (
    footprints_of_files,
    footprints_of_sources,
    footprints_of_table,
    is_table,
    measure_leaks,
)
from geosynth.raster.stores.in_place import open_sources
from geosynth.raster.stores.scene import FoldPixels
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.store import Store

By = Literal["blocks", "clusters", "polygons", "scenes"]
Progress = Callable[[int, int], None]

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
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Split a store (or each store of several CRSs) into folds by place, and say what each fold got.

    Args:
        data: a store, a folder of stores, or sources opened already.
        by: "blocks" of `block_size` pixels; "clusters" of touching scenes (of one CRS); "polygons" of a file with a
            column `fold`; or "scenes", listed by name.
        shares: of the pixels, for train, val and test; of blocks and clusters.
        seed: of the choice of blocks and clusters.
        buffer: what is left out between folds: metres (rounded up to whole pixels), or pixels as in "64px".
        block_size: pixels; several times the buffer, or little is left of a block.
        stratify: whether each fold gets its share of each class, not only of all pixels; of blocks and clusters.
        polygons: file of polygons, in any CRS.
        scenes: a CSV file with columns `scene` and `fold`, or a mapping of scene names to folds.
        out: also write the split as a table of polygons (.parquet, .gpkg, .geojson). With several stores, one file
            each, named after it.
        keep: write the split into the store; False leaves the store as it was.
        overwrite: replace files at `out`.
        progress: told steps done and steps in all.

    Returns:
        The split and, for each store, pixels and class shares of each fold as it came out, as plain values.

    Raises:
        SettingsError, DataError, GridError, OutputError: one line each.
    """
    sources = list(open_sources(data)) if isinstance(data, str | Path) else list(data)
    files = _files(sources, None if out is None else Path(out), overwrite)
    if keep and not all(isinstance(source, Store) for source in sources):
        raise SettingsError(f"{data}: is read in place and cannot keep a split; give --out and --file-only")
    if (polygons is None) == (by == "polygons") or (scenes is None) == (by == "scenes"):
        raise SettingsError("a split by polygons needs a file of them, one by scenes a list of them, others neither")
    listed = {} if scenes is None else _read_folds(sources, scenes)
    splits = []
    for source in sources:
        pixels = buffer_pixels(buffer, source.geobox)
        if by == "polygons":
            splits.append(load_split(Path(str(polygons)), source.geobox, _windows(source), buffer=pixels or None))
        elif by == "scenes":
            splits.append(SpatialSplit.by_scenes(_listed(source, listed), buffer=pixels))
        elif by == "clusters":
            found = count_blocks(source, _windows(source), progress) if stratify else None
            splits.append(SpatialSplit.by_clusters(_windows(source), shares, seed, buffer=pixels, class_pixels=found))
        elif by == "blocks":
            found = count_blocks(source, blocks_over(_windows(source), block_size), progress) if stratify else None
            splits.append(
                SpatialSplit.by_blocks(_windows(source), block_size, shares, seed, buffer=pixels, class_pixels=found)
            )
        else:
            raise SettingsError(f"split by {by!r}: blocks, clusters, polygons or scenes")
    if all(area.is_empty for chosen in splits for area in chosen.areas):
        raise DataError(f"{polygons or scenes}: gives no scene to a fold")
    splits = part_neighbours([source.geobox for source in sources], splits)
    described = []
    for source, chosen, file in zip(sources, splits, files, strict=True):
        if file is not None:
            chosen.save(file, source.geobox)
        if keep and isinstance(source, Store):
            source.set_split(chosen, progress)
            counts = {fold: list(source.class_pixels_in(fold)) for fold in (*FOLDS, "all")}
        else:
            counts = count_folds(source, chosen, progress)
        described.append(_describe(source, chosen, file, counts))
    return {"by": by, "seed": seed, "stores": described}


def check_split(
    data: str | Path | Sequence[PatchSource] | None = None,
    *,
    folds: Mapping[str, str | Path | Sequence[str | Path]] | None = None,
    distance: float | str = 0.0,
    patch_size: int | None = None,
) -> list[Leak]:
    """Measure whether places of two folds touch or lie nearer to each other than a distance, in any split.

    Args:
        data: a store (its areas are measured), or a table of polygons with a column `fold`.
        folds: instead: rasters of each fold (folders, globs, files), or tables of polygons.
        distance: metres, or pixels as in "64px"; without a CRS pixels only.
        patch_size: measure patches of this size in the store's folds instead of whole areas.

    Returns:
        One measurement for each pair of folds; those with `num_pairs` above zero leak.

    Raises:
        SettingsError, DataError, GridError, RasterError: one line each.
    """
    if (data is None) == (folds is None):
        raise SettingsError("a check needs either a store or table, or the rasters of each fold")
    if folds is not None:
        return measure_leaks(footprints_of_files(folds), distance)
    if isinstance(data, str | Path) and is_table(data):
        return measure_leaks(footprints_of_table(data), distance)
    sources = open_sources(data) if isinstance(data, str | Path) else list(data or ())
    return measure_leaks(footprints_of_sources(sources, patch_size), distance)


def _windows(source: PatchSource) -> list[Window]:
    return [scene.window for scene in source.scenes]


def _listed(source: PatchSource, listed: Mapping[str, str]) -> dict[str, list[Window]]:
    """Windows of the scenes of each fold."""
    chosen: dict[str, list[Window]] = {}
    for scene in source.scenes:
        fold = listed.get(scene.name, listed.get(Path(scene.name).stem))
        if fold is not None:
            chosen.setdefault(fold, []).append(scene.window)
    return chosen


def _read_folds(sources: Sequence[PatchSource], scenes: str | Path | Mapping[str, str]) -> Mapping[str, str]:
    """Scene to fold; a scene may be named with or without suffix."""
    listed = scenes if isinstance(scenes, Mapping) else _read_list(Path(scenes))
    every = [scene.name for source in sources for scene in source.scenes]
    unknown = sorted(set(listed) - {*every, *(Path(name).stem for name in every)})
    if unknown:
        raise DataError(f"no scene is called {', '.join(unknown[:5])}{' ...' if len(unknown) > 5 else ''}")
    without = [name for name in every if name not in listed and Path(name).stem not in listed]
    if without:
        _LOG.warning("%d of %d scenes are in no fold, as %s", len(without), len(every), without[0])
    return listed


def _read_list(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV: {error}") from error
    if not rows or not {"scene", "fold"} <= set(rows[0]):
        raise DataError(f"{path}: needs columns scene and fold, and a row for each scene")
    return {row["scene"].strip(): row["fold"].strip() for row in rows}


def _files(sources: Sequence[PatchSource], out: Path | None, overwrite: bool) -> list[Path | None]:
    if out is None:
        return [None] * len(sources)
    check_suffix(out)
    several = len(sources) > 1
    files = [out.with_name(f"{out.stem}_{Path(s.path).stem}{out.suffix}") if several else out for s in sources]
    for file in files:
        check_output(file, overwrite=overwrite)
    return list(files)


def _describe(source: PatchSource, chosen: SpatialSplit, file: Path | None, pixels: FoldPixels) -> dict[str, Any]:
    counts = {fold: np.array(of_fold) for fold, of_fold in pixels.items()}
    counts["none"] = counts["all"] - sum(counts.get(fold, 0) for fold in FOLDS)
    total = max(1, int(counts["all"].sum()))
    folds = {}
    for fold in (*FOLDS, "none"):
        of_fold = counts.get(fold, np.zeros(source.legend.num_classes))
        shares = (of_fold / max(1, of_fold.sum())).tolist()
        folds[fold] = {
            "pixels": int(of_fold.sum()),
            "share": float(of_fold.sum() / total),
            "class_shares": dict(zip(source.legend.names, shares, strict=True)),
        }
    return {"path": source.path, "file": str(file) if file else None, "buffer_px": chosen.buffer, "folds": folds}
