"""evaluate: how far synthetic images are from real ones, per land-cover class, in numbers and pictures."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from geosynth.config import EvaluateSettings
from geosynth.errors import DataError, OutputError, SettingsError
from geosynth.evaluation.compare import DistributionComparer, compare_seams, compare_spectra, compare_tiles
from geosynth.evaluation.distances import Bootstrap
from geosynth.evaluation.features import (
    Embed,
    FeatureObserver,
    Space,
    TileFeatures,
    drawn,
    embed_fold,
    open_spaces,
)
from geosynth.evaluation.observers import (
    DiversityObserver,
    Measurements,
    Observer,
    Progress,
    SegmentObserver,
    SpectraObserver,
)
from geosynth.evaluation.page import draw_closest, draw_pictures, render_page
from geosynth.evaluation.report import (
    ConsistencyComparison,
    DiversityComparison,
    FeatureComparison,
    MemorisationComparison,
    Places,
    Report,
)
from geosynth.evaluation.tiles import Inputs, RasterTiles, StoreTiles, open_real, open_twin, paint_twins
from geosynth.files import check_output, writing
from geosynth.legend import Legend
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.store import Store
from geosynth.raster.stores.tiles import TileView
from geosynth.version import __version__

if TYPE_CHECKING:
    from geosynth.checkpoint import GeneratorModel

# --- Where a report lands: all of its files, or none.

CACHE = "cache"  # in the folder: what another run may use again


def check_folder(folder: Path, overwrite: bool) -> None:
    """Refuse before the work what would fail after it. A folder that holds only a cache is as good as none.

    Raises:
        OutputError: one line.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; the report needs a folder")
    only_cache = folder.is_dir() and all(path.name == CACHE for path in folder.iterdir())
    check_output(folder, overwrite=overwrite or only_cache)


def write_files(folder: Path, files: dict[str, str]) -> None:
    """Under a temporary name first. Other files in an existing folder stay.

    Raises:
        OutputError: if they cannot be written.
    """
    place = folder.resolve()
    partial = place.with_name(place.name + ".partial")
    try:
        with writing(folder):
            partial.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (partial / name).write_text(text, encoding="utf-8")
            if place.exists():
                for name in files:
                    (partial / name).replace(place / name)
            else:
                partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


# --- From tiles to the report and its page: one pass, then the comparisons.

_TRAIN = "train"


def measure(
    pair: StoreTiles | RasterTiles,
    settings: EvaluateSettings,
    segmenter: str | Path | None,
    cache: Path | None,
    progress: Progress,
) -> tuple[Report, str]:
    """The report, and its page.

    Args:
        pair: what is compared.
        settings: as given.
        segmenter: a file, or None.
        cache: folder for features, or None.
        progress: called with (tiles or blocks done, in all).

    Raises:
        DataError: if there is no pixel to compare, or the segmenter does not fit.
        CheckpointError: if a network cannot be had.
    """
    spaces = open_spaces(pair.bands, settings.inception, settings.device) if settings.features else []
    embed = _embedder(cache)
    numbers = drawn(pair.num_tiles, settings.max_tiles, settings.seed)
    texture = SpectraObserver(pair)
    features = FeatureObserver(spaces, embed, numbers) if spaces else None
    diversity = _diversity_observer(pair, spaces, embed, numbers, settings.seed)
    consistency = _segment_observer(pair, segmenter, settings)
    observers: list[Observer] = [one for one in (texture, features, diversity, consistency) if one is not None]

    train = _train_view(pair) if spaces else None
    train_numbers = drawn(0 if train is None else len(train), settings.max_tiles, settings.seed)
    total = pair.num_pieces + len(train_numbers)
    measured = Measurements(pair, settings.block_size)
    measured.gather(lambda done, _: progress(done, total), observers)
    if not measured.bands.any():
        raise DataError(_nothing(pair))
    seen = None
    if train is not None and len(train_numbers):
        steps = iter(range(pair.num_pieces + 1, total + 1))
        seen = embed_fold(train, spaces, embed, train_numbers, lambda: progress(next(steps), total))

    compared = [] if features is None else _in_spaces(pair, spaces, features, seen, settings.seed)
    memory = _memory(pair, spaces, features, seen, settings.seed)
    bootstrap = Bootstrap.draw(pair.num_units, settings.seed)
    distributions = DistributionComparer(pair.legend, pair.bands, measured, bootstrap)
    classes = distributions.classes()
    counts = measured.bands.sum(axis=0)
    report = Report(
        software=f"geosynth {__version__}",
        **_sources(pair),
        legend=pair.legend.name,
        bands=pair.bands,
        pixels=sum(entry.pixels for entry in classes),
        tile_size=pair.tile_size,
        seed=settings.seed,
        places=Places(kind=pair.unit_kind, count=int(measured.bands.any(axis=(1, 2, 3, 4)).sum())),
        headline=distributions.headline(),
        classes=classes,
        ndvi_reason=None if measured.ndvi is not None else "needs bands named red and nir",
        frechet=compare_tiles(measured, len(pair.bands), bootstrap, pair.tile_size),
        spectrum=compare_spectra(measured, pair.bands),
        class_spectra=texture.result(),
        seams=compare_seams(measured),
        features=tuple(compared),
        features_reason=None if spaces else "not asked for (features)",
        inception_reason=None if settings.inception and spaces else _NO_INCEPTION,
        memorisation=memory,
        diversity=_LONELY if diversity is None else diversity.result(),
        consistency=_UNSEGMENTED if consistency is None else consistency.result(),
    )
    pictures = draw_pictures(pair, measured.tiles or measured.windows, settings.seed)
    closest = draw_closest(pair, memory.closest) if isinstance(pair, StoreTiles) else []
    return report, render_page(report, counts, pictures, closest)


_NO_INCEPTION = "need the Inception weights, which are a download: inception = a file of them, or download"
_LONELY = DiversityComparison(reason="needs a store with two twins or more, painted with different seeds")
_UNSEGMENTED = ConsistencyComparison(reason="needs a segmenter trained on real tiles, as `geosynth segment` makes")


def _sources(pair: StoreTiles | RasterTiles) -> dict[str, Any]:
    if isinstance(pair, StoreTiles):
        path, twins = pair.source.path, tuple(twin.path for twin in pair.twins)
        return {"real": path, "synthetic": twins, "labels": path, "fold": pair.fold, "area": None}
    inputs, area = pair.inputs, pair.inputs.area
    return {
        "real": inputs.real.path,
        "synthetic": (inputs.synthetic.path,),
        "labels": inputs.labels.raster.path,
        "fold": None,
        "area": (area.row, area.column, area.height, area.width),
    }


def _nothing(pair: StoreTiles | RasterTiles) -> str:
    if isinstance(pair, StoreTiles):
        return f"{pair.twins[0].path}: has no image in the fold {pair.fold!r} of {pair.source.path}; paint that fold"
    return (
        f"{pair.inputs.real.path}: no pixel to compare: where all three rasters lie, none has a class and both images"
    )


def _embedder(cache: Path | None) -> Embed:
    if cache is None:
        return lambda extractor, images: extractor.embed(images)
    from geosynth.evaluation.features import FeatureCache

    return FeatureCache(cache).embed


def _diversity_observer(
    pair: StoreTiles | RasterTiles, spaces: list[Space], embed: Embed, numbers: Any, seed: int
) -> DiversityObserver | None:
    if not isinstance(pair, StoreTiles) or len(pair.twins) < 2:
        return None
    return DiversityObserver(pair, _offline(spaces) if spaces else None, embed, numbers, seed)


def _segment_observer(
    pair: StoreTiles | RasterTiles, segmenter: str | Path | None, settings: EvaluateSettings
) -> SegmentObserver | None:
    if segmenter is None:
        return None
    from geosynth.segmentation.segmenter import load_segmenter

    return SegmentObserver(pair, load_segmenter(segmenter, settings.device), settings.seed)


def _offline(spaces: list[Space]) -> Space:
    """Natural colours in EfficientNet-Lite0: there on every machine."""
    return next(space for space in spaces if space.name == "efficientnet-lite0")


def _train_view(pair: StoreTiles | RasterTiles) -> TileView | None:
    if not isinstance(pair, StoreTiles) or pair.fold == _TRAIN:
        return None
    return TileView(pair.source, _TRAIN, pair.tile_size, pair.tile_size, edge="skip")


def _in_spaces(
    pair: StoreTiles | RasterTiles,
    spaces: list[Space],
    features: FeatureObserver,
    seen: TileFeatures | None,
    seed: int,
) -> list[FeatureComparison]:
    """In each space to the tiles' own real ones, and to those of the train fold."""
    from geosynth.evaluation.compare import compare_in_space

    own = pair.fold if isinstance(pair, StoreTiles) else "area"
    found = []
    for space in spaces:
        found.append(compare_in_space(space, own, features.real, features.synthetic, paired=True, seed=seed))
        if seen is not None:
            found.append(compare_in_space(space, _TRAIN, seen, features.synthetic, paired=False, seed=seed))
    return found


def _memory(
    pair: StoreTiles | RasterTiles,
    spaces: list[Space],
    features: FeatureObserver | None,
    seen: TileFeatures | None,
    seed: int,
) -> MemorisationComparison:
    if features is None:
        return MemorisationComparison(reason="not asked for (features)")
    if not isinstance(pair, StoreTiles):
        return MemorisationComparison(reason="needs a store, whose train fold the generator was trained on")
    if pair.fold == _TRAIN:
        return MemorisationComparison(reason="needs a fold that the generator has not seen, such as test")
    if seen is None:
        return MemorisationComparison(reason=f"the train fold has no whole tile of {pair.tile_size} px")
    from geosynth.evaluation.compare import compare_memory

    space = _offline(spaces).name
    return compare_memory(pair.source, space, seen, pair.fold, features.real, features.synthetic, seed)


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
