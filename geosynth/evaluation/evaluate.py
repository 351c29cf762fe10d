"""evaluate: how far synthetic images are from real ones, class by class, in numbers and pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from geosynth.config import EvaluateSettings
from geosynth.config.base import takes
from geosynth.errors import OutputError, SettingsError
from geosynth.evaluation.measuring import measure, open_judges
from geosynth.evaluation.report import Report
from geosynth.evaluation.tiles import RasterTiles, StoreTiles, TilePair
from geosynth.evaluation.twins import open_model, open_real, paint_twins
from geosynth.files import check_output, output_path, refuse_inputs
from geosynth.inputs import as_list
from geosynth.legend import Legend
from geosynth.locks import alone_in, drop_lock
from geosynth.progress import Progress, silent
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.store import Store
from geosynth.unfinished import UnfinishedWork, making

if TYPE_CHECKING:
    from geosynth.checkpoint import GeneratorModel

Twin = str | Path | Store
_REPORT, _PAGE = "report.json", "report.html"
CACHE = "cache"  # in the folder: what later runs can use again


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
    target: str | Path | Sequence[str | Path] | None = None,
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
    target: str | Path | Sequence[str | Path] | None = None,
    cache: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = ...,
    **changes: Any,
) -> Report: ...
@takes(EvaluateSettings)
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
    target: str | Path | Sequence[str | Path] | None = None,
    cache: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
    **changes: Any,
) -> Report:
    """Compare real and synthetic images, class by class; with `out`, write report.json and report.html there.

    `evaluate(real, synthetic, labels)` compares two rasters on one pixel grid, in every pixel that all three cover.
    `evaluate(data=store, synthetic=twin)` compares the tiles of a fold of a store with those of its twin (`twin`);
    without `synthetic`, `model` first paints the twins that the report needs.

    Memory does not grow with the images, except for the features of at most `max_tiles` tiles (and GDAL's cache of
    blocks: a twentieth of the machine's memory unless GDAL_CACHEMAX says otherwise). What cannot be computed is None in
    the report, with the reason.

    Imagery of uint16, int16 or float32 is seen in 256 levels per band, from the 0.1 to the 99.9 percentile of the real
    image, which is read once more for that; the report has the levels, and the share of pixels beyond them. Means,
    distances and the like are still in units of the imagery.

    Args:
        real: image raster.
        synthetic: image raster of the same bands and dtype; or a twin of `data`, or several with different latents, of
            which the first is compared, and all are used to measure diversity.
        labels: label raster.
        out: folder of the report; None to write nothing.
        settings: tile size, seed, networks, ...
        data: a store, or a YAML file that describes data in place.
        model: a model file, or a loaded model, that paints twins; None for the embedded model.
        fold: of the store, to compare: "train", "val" or "test". Use one that the generator has not seen.
        legend: for rasters, of the labels and of the report: a built-in name, a YAML file or a Legend; None for
            "chesapeake".
        label_legend: for rasters, of the label file, if its codes differ; classes are matched by name.
        bands: for rasters and `target`, names of the bands, if the files do not have them; or of those to use, if they
            do. With numbers or descriptions, as in "red=4", "red=B04", those of files that do not have these names.
            NDVI needs "red" and "nir".
        segmenter: a file made by `segment`, trained on real tiles, to measure segmentation consistency.
        target: images of another place, without labels, in whose look the synthetic ones were painted, to find out
            whether a segmenter for that place is better trained on the real or on the synthetic tiles, see `Nearness`.
        cache: folder for features and twins, for use by later calls; None for "cache" in `out`.
        overwrite: replace a report in `out`.
        progress: called with the number of finished parts and of all parts, separately for painting twins, finding the
            levels, and comparing.
        **changes: single settings by name, as in `tile_size=128`.

    Returns:
        the report.

    Raises:
        CheckpointError, DataError, GridError, LegendError, OutputError, RasterError, SettingsError: one line each; then
            no report is written.
    """
    settings = EvaluateSettings.changed(settings, changes)
    twins: list[Twin] = as_list(synthetic)
    targets: list[str | Path] = as_list(target)
    if data is None or twins:
        settings.refuse_idle("on images that are painted already", "look", "latents")
    if not settings.features:
        settings.refuse_idle("without features", "inception", "judges")
        if targets:
            raise SettingsError("distances to it are measured on features; turn features on", setting="target")
    folder = None if out is None else output_path(out)
    if folder is not None:
        inputs = [real, *twins, labels, data, model, legend, label_legend, segmenter, *targets]
        _check_folder(folder, inputs, overwrite=overwrite)
    keep = Path(cache) if cache is not None else folder / CACHE if folder is not None else None
    of_rasters = {
        "real": real,
        "labels": labels,
        "legend": legend,
        "label_legend": label_legend,
        "bands": None if targets else bands,
    }
    with ExitStack() as stack:
        if folder is not None:
            stack.enter_context(alone_in(folder))
        pair: TilePair
        painter = None
        if data is None:
            if real is None or not isinstance(synthetic, str | Path) or labels is None or model is not None:
                raise SettingsError(
                    "evaluate compares rasters (real, synthetic, labels), or data with synthetic or model"
                )
            reported = Legend.load("chesapeake" if legend is None else legend)
            own = reported if label_legend is None else Legend.load(label_legend)
            pair = RasterTiles(real, synthetic, labels, reported, own, bands, settings.tile_size)
            pair.labels.survey()
        elif given := [name for name, value in of_rasters.items() if value is not None]:
            raise SettingsError(f"{', '.join(given)}: for rasters only; with data, the store defines it")
        elif twins and model is not None:
            raise SettingsError("with data, give synthetic (existing twins) or model (to paint them), not both")
        else:
            source, stores = open_real(data), [path if isinstance(path, Store) else Store(path) for path in twins]
            pair = StoreTiles(source, stores, fold, settings.tile_size)
            painter = None if twins else open_model(model, settings)
        judges = open_judges(pair, settings, segmenter, targets, bands, keep)
        if painter is not None:  # may take hours, so everything else has been checked before
            place = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="geosynth-")))
            stores = paint_twins(source, painter, fold, place, settings, progress)
            pair = StoreTiles(source, stores, fold, settings.tile_size)
        report, page = measure(pair, settings, judges, progress)
        if folder is not None:
            with making(folder / _REPORT, _PAGE) as made:
                made.write_text(report.to_json(), encoding="utf-8")
                made.with_name(_PAGE).write_text(page, encoding="utf-8")
    return report


def _check_folder(folder: Path, inputs: Sequence[Any], *, overwrite: bool) -> None:
    """Refuse, before the work, a folder that could not be written after it, or that is one of the inputs.

    A folder with only a cache, or leftovers of a kill, counts as empty.

    Raises:
        OutputError: one line.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; the report needs a folder")
    was_finishing = UnfinishedWork(folder / _REPORT).was_finishing()
    is_free = folder.is_dir() and all(path.name == CACHE or path.name[0] == "." for path in folder.iterdir())
    if not is_free:
        drop_lock(folder)
    check_output(folder, overwrite=overwrite or is_free or was_finishing)
    for path in (folder, folder / _REPORT, folder / _PAGE):
        refuse_inputs(path, inputs, replaced=False)
