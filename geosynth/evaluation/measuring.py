"""From a pair of images to the report: one pass over their tiles for all measures, then the comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from geosynth.config import EvaluateSettings
from geosynth.errors import DataError
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
from geosynth.grid import Window
from geosynth.progress import Progress
from geosynth.version import __version__

if TYPE_CHECKING:
    from geosynth.segmentation.segmenter import Segmenter


@dataclass(frozen=True)
class Judges:
    """Networks that see the tiles, and tiles of the target with which these are compared."""

    spaces: list[Space]
    segmenter: Segmenter | None
    target: TargetTiles | None


def open_judges(
    pair: TilePair,
    settings: EvaluateSettings,
    segmenter: str | Path | None,
    targets: Sequence[str | Path],
    bands: Sequence[str] | None,
    cache: Path | None,
) -> Judges:
    """Open them, and check that they fit.

    Args:
        pair: what is compared; its twins need not exist yet.
        settings: as given.
        segmenter: a file, or None.
        targets: images of another place.
        bands: names that the user gave for their bands; None for none.
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
    target = TargetTiles(targets, pair, settings.max_tiles, settings.seed, bands) if targets else None
    spaces = (
        open_spaces(pair.bands, settings.inception, settings.judges, settings.device, cache)
        if settings.features
        else []
    )
    return Judges(spaces, network, target)


def measure(pair: TilePair, settings: EvaluateSettings, judges: Judges, progress: Progress) -> tuple[Report, str]:
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
_NO_FEATURES = "not asked for"
_NO_INCEPTION = "need the Inception weights: give a file of them, or have them downloaded"
_NO_SEGMENTER = "needs a segmenter trained on real tiles, as `geosynth segment` makes"
_NO_TARGET = "needs unlabelled imagery of the target"
_ONE_TWIN = "needs a store with two twins or more, painted with different seeds"


class _Measures:
    """All measures that see the pixels of both images, which are read once for all of them.

    Args:
        pair: what is read.
        settings: of the evaluation.
        judges: for features and consistency.
        progress: for finding the levels, see `TilePair.find_levels`.
    """

    def __init__(self, pair: TilePair, settings: EvaluateSettings, judges: Judges, progress: Progress) -> None:
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
        is_known = networks is not None or name != "efficientnet-lite0"
        in_training = name in (networks or "").split(",") if is_known else None
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
