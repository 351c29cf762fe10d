"""evaluate: how far synthetic images are from real ones, per land-cover class, in numbers and pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from geosynth.config import EvaluateSettings
from geosynth.errors import SettingsError
from geosynth.evaluation.files import CACHE, check_folder, write_files
from geosynth.evaluation.gather import Progress
from geosynth.evaluation.inputs import Inputs
from geosynth.evaluation.measure import measure
from geosynth.evaluation.report import Report
from geosynth.evaluation.store_tiles import StoreTiles
from geosynth.evaluation.tiles import RasterTiles
from geosynth.evaluation.twins import open_real, open_twin, paint_twins
from geosynth.legend import Legend
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.store import Store

if TYPE_CHECKING:  # loads torch
    from geosynth.checkpoint import GeneratorModel

Twin = str | Path | Store


@overload
def evaluate(
    real: str | Path,
    synthetic: str | Path,
    labels: str | Path,
    out: str | Path | None = None,
    settings: EvaluateSettings | None = None,
    *,
    legend: str | Path | Legend | None = None,
    label_legend: str | Path | Legend | None = None,
    bands: Sequence[str] | None = None,
    segmenter: str | Path | None = None,
    cache: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = ...,
    **changes: Any,
) -> Report: ...
@overload
def evaluate(
    *,
    data: str | Path | PatchSource,
    synthetic: Twin | Sequence[Twin] | None = None,
    model: str | Path | GeneratorModel | None = None,
    fold: str = "test",
    out: str | Path | None = None,
    settings: EvaluateSettings | None = None,
    segmenter: str | Path | None = None,
    cache: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = ...,
    **changes: Any,
) -> Report: ...
def evaluate(
    real: str | Path | None = None,
    synthetic: Twin | Sequence[Twin] | None = None,
    labels: str | Path | None = None,
    out: str | Path | None = None,
    settings: EvaluateSettings | None = None,
    *,
    data: str | Path | PatchSource | None = None,
    model: str | Path | GeneratorModel | None = None,
    fold: str = "test",
    legend: str | Path | Legend | None = None,
    label_legend: str | Path | Legend | None = None,
    bands: Sequence[str] | None = None,
    segmenter: str | Path | None = None,
    cache: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = lambda done, total: None,
    **changes: Any,
) -> Report:
    """Compare 8-bit real and synthetic images, class by class; with `out`, write report.json and report.html there.

    `evaluate(real, synthetic, labels)` compares two rasters on one pixel grid: what all three cover, every pixel of it.
    `evaluate(data=store, synthetic=twin)` compares the tiles of a fold of a store with those of its twin (`twin`);
    without `synthetic`, the twins that the report needs are painted first, by `model`.

    Memory does not grow with the images, but for the features of at most `max_tiles` tiles (and GDAL's cache of blocks:
    a twentieth of the machine's memory unless GDAL_CACHEMAX says otherwise). What cannot be computed is None in the
    report, with the reason.

    Args:
        real: image raster, uint8.
        synthetic: image raster, uint8, of the same bands; or a twin, or several of different latents, of `data`: the
            first is compared, all of them give the diversity.
        labels: label raster.
        out: folder of the report; nothing is written without it.
        settings: tile size, seed, which networks, ...
        data: a store, or a YAML file that names files to read in place.
        model: a generator's file, or one already loaded, to paint with; None for the embedded default.
        fold: of the store, to compare: "train", "val" or "test". Take one that the generator has not seen.
        legend: of rasters, of the labels and of the report: a built-in name ("chesapeake" if not said), a YAML file or
            a Legend.
        label_legend: of rasters: of the label file, if its codes differ; classes are matched by name.
        bands: of rasters: names of the bands, where the files do not tell them; NDVI needs "red" and "nir".
        segmenter: a file made by `segment`, trained on real tiles: gives the segmentation consistency.
        cache: folder for features and twins, which the next call takes from there; None: "cache" in `out`.
        overwrite: replace a report in `out`.
        progress: called with (parts done, parts in all).
        **changes: single settings by name, as `tile_size=128`.

    Raises:
        CheckpointError, DataError, GridError, LegendError, OutputError, RasterError, SettingsError: one line each; no
            report is written.
    """
    settings = EvaluateSettings.parse({**(settings or EvaluateSettings()).model_dump(), **changes})
    folder = None if out is None else Path(out)
    if folder is not None:
        check_folder(folder, overwrite)
    keep = Path(cache) if cache is not None else folder / CACHE if folder is not None else None
    with ExitStack() as stack:
        pair: StoreTiles | RasterTiles
        if data is None:
            if real is None or not isinstance(synthetic, str | Path) or labels is None or model is not None:
                raise SettingsError(
                    "evaluate compares rasters (real, synthetic, labels), or data with synthetic or model"
                )
            target = Legend.load("chesapeake" if legend is None else legend)
            own = target if label_legend is None else Legend.load(label_legend)
            inputs = Inputs.open(real, synthetic, labels, target, own, bands)
            inputs.labels.check_codes()
            pair = RasterTiles(inputs, settings.tile_size)
        else:
            of_rasters = {
                "real": real,
                "labels": labels,
                "legend": legend,
                "label_legend": label_legend,
                "bands": bands,
            }
            given = [name for name, value in of_rasters.items() if value is not None]
            if given:
                raise SettingsError(f"{', '.join(given)}: for rasters; with data, the store tells it")
            if synthetic is not None and model is not None:
                raise SettingsError(
                    "with data, say synthetic (twins that are there) or model (to paint them), not both"
                )
            source = open_real(data)
            if synthetic is None:
                place = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="geosynth-")))
                seeds = range(settings.seed, settings.seed + settings.latents)
                twins = paint_twins(source, model, fold, place, seeds=seeds, device=settings.device, progress=progress)
            else:
                several = [synthetic] if isinstance(synthetic, str | Path | Store) else list(synthetic)
                twins = [open_twin(path) for path in several]
            pair = StoreTiles(source, twins, fold, settings.tile_size)
        report, page = measure(pair, settings, segmenter, keep, progress)
    if folder is not None:
        write_files(folder, {"report.json": report.to_json(), "report.html": page})
    return report
