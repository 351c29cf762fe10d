"""From tiles to the report and its page: one pass, then the comparisons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geosynth.config import EvaluateSettings
from geosynth.errors import DataError
from geosynth.evaluation.compare import DistributionComparer, compare_seams, compare_spectra, compare_tiles
from geosynth.evaluation.distances import Bootstrap
from geosynth.evaluation.feature_gather import (
    Embed,
    FeatureObserver,
    Space,
    TileFeatures,
    drawn,
    embed_fold,
    open_spaces,
)
from geosynth.evaluation.gather import Measurements, Observer, Progress
from geosynth.evaluation.observers import DiversityObserver, SegmentObserver, SpectraObserver
from geosynth.evaluation.page import render_page
from geosynth.evaluation.pictures import draw_closest, draw_pictures
from geosynth.evaluation.report import Places, Report
from geosynth.evaluation.report_features import (
    ConsistencyComparison,
    DiversityComparison,
    FeatureComparison,
    MemorisationComparison,
)
from geosynth.evaluation.store_tiles import StoreTiles
from geosynth.evaluation.tiles import RasterTiles
from geosynth.raster.stores.tile_view import TileView
from geosynth.version import __version__

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
    from geosynth.evaluation.feature_cache import FeatureCache

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
    from geosynth.evaluation.compare_features import compare_in_space

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
    from geosynth.evaluation.compare_memory import compare_memory

    space = _offline(spaces).name
    return compare_memory(pair.source, space, seen, pair.fold, features.real, features.synthetic, seed)
