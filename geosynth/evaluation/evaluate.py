"""evaluate: how far synthetic images are from real ones, class by class, in numbers and pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from geosynth.config import EvaluateSettings
from geosynth.errors import DataError, OutputError, SettingsError
from geosynth.evaluation.compare import (
    BATCH,
    PairFeatures,
    compare_in_space,
    compare_memory,
    drawn,
    embed_fold,
)
from geosynth.evaluation.consistency import Consistency
from geosynth.evaluation.diversity import Diversity
from geosynth.evaluation.features import Space, TileFeatures, open_spaces
from geosynth.evaluation.measures import (
    ClassComparison,
    ConsistencyComparison,
    DiversityComparison,
    FeatureComparison,
    Headline,
    MemorisationComparison,
    Nearness,
    Places,
    SeamComparison,
)
from geosynth.evaluation.nearness import TargetTiles, compare_to_target
from geosynth.evaluation.page import draw_closest, draw_pictures, render_report
from geosynth.evaluation.pixels import Distributions
from geosynth.evaluation.report import Report
from geosynth.evaluation.textures import ClassSpectra, Seams, Textures
from geosynth.evaluation.tiles import RasterTiles, StoreTiles, Tile, TilePair
from geosynth.evaluation.twins import open_model, open_real, paint_twins
from geosynth.files import check_output, delete, refuse_inputs, replacing
from geosynth.grid import Window
from geosynth.legend import Legend
from geosynth.locks import alone_in, drop_lock, is_unfinished
from geosynth.progress import Progress, silent
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.store import Store
from geosynth.version import __version__

if TYPE_CHECKING:
    from geosynth.checkpoint import GeneratorModel
    from geosynth.segmentation.segmenter import Segmenter

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
        bands: for rasters, names of the bands, if the files do not have them; or of those to use, if they do.
            With numbers, as in "red=4", those of files that do not have these names. NDVI needs "red" and "nir".
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
    twins_given = [synthetic] if isinstance(synthetic, str | Path | Store) else list(synthetic or ())
    if settings.look is not None and (data is None or twins_given):
        raise SettingsError("applies to what a model paints, but these images exist already", setting="look")
    targets = [target] if isinstance(target, str | Path) else list(target or ())
    if targets and not settings.features:
        raise SettingsError("distances to it are measured on features; turn features on", setting="target")
    folder = None if out is None else Path(out)
    if folder is not None:
        _check_folder(folder, overwrite)
        for path in (folder, folder / _REPORT, folder / _PAGE):
            refuse_inputs(
                path,
                [real, *twins_given, labels, data, model, legend, label_legend, segmenter, *targets],
                replaced=False,
            )
    keep = Path(cache) if cache is not None else folder / CACHE if folder is not None else None
    with ExitStack() as stack:
        if folder is not None:
            stack.enter_context(alone_in(folder))
        of_rasters = {"real": real, "labels": labels, "legend": legend, "label_legend": label_legend, "bands": bands}
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
        elif twins_given and model is not None:
            raise SettingsError("with data, give synthetic (existing twins) or model (to paint them), not both")
        else:
            source = open_real(data)
            twins = [path if isinstance(path, Store) else Store(path) for path in twins_given]
            pair = StoreTiles(source, twins, fold, settings.tile_size)
            if not twins:
                painter = open_model(model, settings)
        judges = _open_judges(pair, settings, segmenter, targets, keep)
        if painter is not None:  # may take hours, so everything else has been checked before
            place = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="geosynth-")))
            twins = paint_twins(source, painter, fold, place, settings, progress)
            pair = StoreTiles(source, twins, fold, settings.tile_size)
        report, page = _measure(pair, settings, judges, progress)
        if folder is not None:
            _write_files(folder, {_REPORT: report.to_json(), _PAGE: page})
    return report


@dataclass(frozen=True)
class _Judges:
    """Networks that see the tiles, and tiles of the target with which these are compared."""

    spaces: list[Space]
    segmenter: Segmenter | None
    target: TargetTiles | None


def _open_judges(
    pair: TilePair,
    settings: EvaluateSettings,
    segmenter: str | Path | None,
    targets: Sequence[str | Path],
    cache: Path | None,
) -> _Judges:
    """Open them, and check that they fit.

    Args:
        pair: what is compared; its twins need not exist yet.
        settings: as given.
        segmenter: a file, or None.
        targets: images of another place.
        cache: folder for features, or None.

    Raises:
        DataError, LegendError: if the segmenter, or an image, does not fit.
        CheckpointError: if a network is not available.
    """
    network = None
    if segmenter is not None:
        from geosynth.segmentation.segmenter import load_segmenter

        network = load_segmenter(segmenter, settings.device)
        Consistency(pair, network)  # refuses one that does not fit
    target = TargetTiles(targets, pair, settings.max_tiles, settings.seed) if targets else None
    spaces = (
        open_spaces(pair.bands, settings.inception, settings.judges, settings.device, cache)
        if settings.features
        else []
    )
    return _Judges(spaces, network, target)


def _measure(pair: TilePair, settings: EvaluateSettings, judges: _Judges, progress: Progress) -> tuple[Report, str]:
    """The report, and its page: one pass over the tiles, then the comparisons.

    Args:
        pair: what is compared.
        settings: as given.
        judges: opened for the pair.
        progress: called with (blocks read for the levels, in all), then with (chunks and train tiles done, in all).

    Raises:
        DataError: if there is no pixel to compare.
    """
    seed, spaces, there = settings.seed, judges.spaces, judges.target
    measures = _Measures(pair, settings, judges, progress)
    levels, features = measures.levels, measures.features
    train = pair.train_view() if spaces and isinstance(pair, StoreTiles) else None
    train_tiles = drawn(0 if train is None else len(train), settings.max_tiles, seed)
    total = pair.num_chunks + len(train_tiles) + (0 if there is None else len(there))
    compared = measures.read_all(lambda done: progress(done, total))
    if not compared:
        raise DataError(pair.nothing)
    seen, steps = None, iter(range(pair.num_chunks + 1, total + 1))
    if train is not None and len(train_tiles):
        seen = embed_fold(train, spaces, levels, train_tiles, lambda: progress(next(steps), total))
    nearness = Nearness(reason=_NO_TARGET)
    if there is not None:
        assert features is not None
        of_target = there.embed(spaces, levels, lambda: progress(next(steps), total))
        nearness = compare_to_target(of_target, features.real, features.synthetic, spaces)

    distributions, textures = measures.distributions, measures.textures
    seams, diversity, consistency = measures.seams, measures.diversity, measures.consistency
    classes, headline = distributions.result(seed)
    memorisation = _memorisation(pair, spaces, features, seen, seed)
    report = Report(
        software=f"geosynth {__version__}",
        **pair.sources,
        look=pair.tags.get("GEOSYNTH_LOOK"),
        legend=pair.legend.name,
        bands=pair.bands,
        levels=distributions.levels(),
        pixels=sum(entry.pixels for entry in classes),
        tile_size=pair.tile_size,
        seed=seed,
        places=Places(kind=pair.place_kind, count=distributions.num_places),
        headline=headline,
        classes=classes,
        ndvi_reason=_without_ndvi(classes, headline),
        frechet=textures.frechet(seed),
        spectrum=textures.spectrum(),
        class_spectra=measures.spectra.result(),
        seams=SeamComparison(reason=_NO_BLOCKS) if seams is None else seams.result(),
        features=tuple(_in_spaces(pair, spaces, features, seen, seed)),
        features_reason=None if spaces else _NO_FEATURES,
        inception_reason=None if settings.inception and spaces else _NO_INCEPTION,
        memorisation=memorisation,
        diversity=DiversityComparison(reason=_ONE_TWIN) if diversity is None else diversity.result(seed),
        consistency=ConsistencyComparison(reason=_NO_SEGMENTER) if consistency is None else consistency.result(seed),
        nearness=nearness,
    )
    pictures = draw_pictures(pair, levels, textures.windows or compared, seed)
    closest = draw_closest(pair, levels, memorisation.closest) if isinstance(pair, StoreTiles) else []
    return report, render_report(report, levels.counts(distributions.bands.sum(axis=0)), pictures, closest)


_NO_BLOCKS = "tiles of a store have no block lines; give rasters (real, synthetic, labels) for it"
_NO_FEATURES = "not asked for (features)"
_NO_INCEPTION = "need the Inception weights: set inception to a file of them, or to download"
_NO_SEGMENTER = "needs a segmenter trained on real tiles, as `geosynth segment` makes"
_NO_TARGET = "needs unlabelled imagery of the target (target)"
_ONE_TWIN = "needs a store with two twins or more, painted with different seeds"


class _Measures:
    """All measures that see the pixels of both images, which are read once for all of them.

    Args:
        pair: what is read.
        settings: of the evaluation.
        judges: for features and consistency.
        progress: for finding the levels, see `TilePair.find_levels`.
    """

    def __init__(self, pair: TilePair, settings: EvaluateSettings, judges: _Judges, progress: Progress) -> None:
        self._pair = pair
        self.seams = self.features = self.diversity = self.consistency = None
        spaces = judges.spaces
        if judges.segmenter is not None:
            self.consistency = Consistency(pair, judges.segmenter)
        self.levels = pair.find_levels(progress)
        self.distributions, self.textures = Distributions(pair, self.levels), Textures(pair)
        self.spectra = ClassSpectra(pair.legend.names, pair.bands)
        if isinstance(pair, RasterTiles):
            self.seams = Seams(pair.legend.num_classes, settings.block_size)
        chosen = drawn(pair.num_tiles, settings.max_tiles, settings.seed)
        if spaces:
            self.features = PairFeatures(spaces, chosen)
        if isinstance(pair, StoreTiles) and len(pair.twins) > 1:
            self.diversity = Diversity(pair, self.levels, _offline(spaces) if spaces else None, chosen)

    def read_all(self, progress: Callable[[int], None]) -> list[Window]:
        """Read everything once; returns the windows of the tiles with compared pixels.

        Args:
            progress: called with the number of finished chunks.
        """
        pair, windows, waiting = self._pair, list[Window](), list[Tile]()
        for done, chunk in enumerate(pair.chunks(), start=1):
            if self.seams is not None:  # sees the steps between tiles, too
                self.seams.add(chunk)
            self.distributions.add(chunk.tiles)
            windows += [tile.window for tile in chunk.tiles if (tile.block.indices < pair.legend.num_classes).any()]
            waiting += [tile for tile in chunk.tiles if pair.is_whole(tile)]
            while len(waiting) >= BATCH or (waiting and done == pair.num_chunks):
                self._show(waiting[:BATCH])
                del waiting[:BATCH]
            progress(done)
        return windows

    def _show(self, whole: Sequence[Tile]) -> None:
        """Give the other measures the tiles of which every pixel is compared, as values or in levels."""
        seen = [tile.seen(self.levels) for tile in whole]
        for measure, tiles in (
            (self.diversity, whole),
            (self.consistency, whole),
            (self.textures, seen),
            (self.spectra, seen),
            (self.features, seen),
        ):
            if measure is not None:
                measure.add(tiles)


def _offline(spaces: list[Space]) -> Space:
    """The space of natural colours in EfficientNet-Lite0, which exists on every machine."""
    return next(space for space in spaces if space.name == "efficientnet-lite0")


def _in_spaces(
    pair: TilePair, spaces: list[Space], features: PairFeatures | None, seen: TileFeatures | None, seed: int
) -> Iterator[FeatureComparison]:
    """Comparisons in each space, with the tiles' own real images and with the real tiles of the train fold."""
    networks = pair.tags.get("GEOSYNTH_LOSS_NETWORKS")
    for space in spaces:
        assert features is not None
        name = space.extractor.name
        # Of the judges, losses look through this one only (`models.perceptual`).
        told = networks is not None or name != "efficientnet-lite0"
        in_training = name in (networks or "").split(",") if told else None
        sets = [(pair.reference, features.real, features.turned)] + (
            [("train", seen, None)] if seen is not None else []
        )
        for reference, real, turned in sets:
            yield compare_in_space(
                space, reference, real, features.synthetic, in_training=in_training, turned=turned, seed=seed
            )


def _without_ndvi(classes: Sequence[ClassComparison], headline: Headline) -> str | None:
    """The reason why there is no mean distance of NDVI, which is undefined where red and nir are 0; else None."""
    if headline.ndvi_wasserstein.value is not None:
        return None
    measured = [(entry.name, entry.ndvi) for entry in classes if entry.ndvi is not None]
    if not measured:
        return "needs bands named red and nir"
    for name, ndvi in measured:
        if ndvi.pixels and ndvi.wasserstein.value is None:
            return f"red and nir of the synthetic image are 0 in all of class {name!r}"
    return "red and nir of the real image are 0 everywhere"


def _memorisation(
    pair: TilePair, spaces: list[Space], features: PairFeatures | None, seen: TileFeatures | None, seed: int
) -> MemorisationComparison:
    if features is None:
        reason = _NO_FEATURES
    elif not isinstance(pair, StoreTiles):
        reason = "needs a store, whose train fold the generator was trained on"
    elif seen is not None:
        return compare_memory(pair, _offline(spaces).name, seen, features.real, features.synthetic, seed)
    elif pair.fold == "train":
        reason = "needs a fold that the generator has not seen, such as test"
    else:
        reason = f"the train fold has no whole tile of {pair.tile_size} px"
    return MemorisationComparison(reason=reason)


def _check_folder(folder: Path, overwrite: bool) -> None:
    """Refuse, before the work, a folder that could not be written after it.

    A folder with only a cache, or leftovers of a kill, counts as empty.

    Raises:
        OutputError: one line.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; the report needs a folder")
    of_no_worth = {CACHE, _PAGE} if is_unfinished(folder) else {CACHE}
    is_free = folder.is_dir() and all(path.name in of_no_worth or path.name[0] == "." for path in folder.iterdir())
    if not is_free:
        drop_lock(folder)
    check_output(folder, overwrite=overwrite or is_free)


def _write_files(folder: Path, files: dict[str, str]) -> None:
    """Write all files or none, the first one last. Other files in an existing folder are kept.

    Raises:
        OutputError: if they cannot be written.
    """
    try:
        with ExitStack() as stack:
            for name, text in files.items():
                stack.enter_context(replacing(folder / name)).write_text(text, encoding="utf-8")
    except BaseException:
        if not (folder / _REPORT).exists():
            delete(folder / _PAGE)
        raise
