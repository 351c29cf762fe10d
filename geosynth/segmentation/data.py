"""What a segmenter is trained and tested on: opening, checking and choosing tiles, and their digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from geosynth.config import SegmentSettings
from geosynth.config.verbs import check_test_fold
from geosynth.errors import DataError, SettingsError, counted
from geosynth.grid import Window
from geosynth.legend import ClassIndices
from geosynth.models.super_resolution import CoarseShares, estimate_shares
from geosynth.raster.read import Array
from geosynth.raster.stores.alike import check_alike, check_fits, check_twin
from geosynth.raster.stores.open import open_sources
from geosynth.raster.stores.recombined import is_recombined
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.tiles import TileView, clusters_of
from geosynth.segmentation.segmenter import Segmenter

_KEEP_BYTES = 512 << 20  # of decoded tiles in memory


class Tile(NamedTuple):
    """A window on the grid of one of several sources."""

    source: int
    window: Window


@dataclass(frozen=True)
class Mixture:
    """A fixed choice of train tiles."""

    real: tuple[Tile, ...]
    """Tiles with the real image and labels."""
    synthetic: tuple[Tile, ...]
    """Tiles with the image of the twin."""
    others: tuple[Tile, ...]
    """Tiles of the pool that are not in `real`, whose fine labels are ignored."""


def mixture(
    views: Sequence[TileView],
    real: int | None = None,
    synthetic: int | None = 0,
    *,
    pool: int | None = None,
    seed: int = 0,
) -> Mixture:
    """Choose tiles: the first `real` of one random order of the pool, and the last `synthetic` of the same order.

    So choices are nested: 20 real tiles are among 40, 20 synthetic ones among 40. Real and synthetic tiles are from
    different places unless their sum exceeds the pool; if it equals the pool, synthetic tiles replace exactly the real
    ones that were left out. The pool is the first `pool` tiles of the order. (With several dates, a place has one tile
    for each; some of these may be real and others synthetic.)

    Args:
        views: the tiles of the train fold, one view per source.
        real: number of real tiles; None for all of the pool.
        synthetic: number of synthetic tiles; None for all of the pool.
        pool: number of tiles to choose from; None for all.
        seed: of the order.

    Raises:
        DataError: if there is no tile, or there are fewer than asked for.
    """
    total = sum(map(len, views))
    if not total:
        first = views[0]
        raise DataError(f"{first.source.path}: fold {first.fold!r} holds no whole tile of {first.size} px to train on")
    pool = _at_most(total, pool, "pool_tiles", views[0])
    real = _at_most(pool, real, "real_tiles", views[0])
    synthetic = _at_most(pool, synthetic, "synthetic_tiles", views[0])
    if real + synthetic == 0:
        raise DataError("no real and no synthetic tiles are asked for: there is nothing to train on")
    tiles = [Tile(number, window) for number, view in enumerate(views) for window in view]
    order = [tiles[place] for place in np.random.default_rng(seed).permutation(total)[:pool].tolist()]
    return Mixture(tuple(order[:real]), tuple(order[::-1][:synthetic]), tuple(order[real:]))


def _at_most(available: int, wanted: int | None, name: str, view: TileView) -> int:
    if wanted is None:
        return available
    if wanted > available:
        raise DataError(
            f"{view.source.path}: {name}={wanted}, but there is a choice of {counted(available, 'tile')} of"
            f" {view.size} px in fold {view.fold!r}"
        )
    return wanted


class TileSet(Sequence[tuple[Array, ClassIndices]]):
    """Tiles as (image (bands, N, N), labels (N, N) class indices), read when they are needed.

    Decoded tiles are kept in memory if all of them fit in 512 MiB.

    Args:
        places: for each tile its source and its window in it.
        num_real: tiles from this index on are synthetic, as are those of sources that say so; None for only the latter.
        judge: segmenter for synthetic tiles: pixels whose class it finds less likely than `agreement` get no class.
        agreement: a probability, 0 to 1.

    Attributes:
        num_real: as given; the number of all tiles for None.

    Raises:
        RasterError: from `[]`, if a tile cannot be read.
    """

    def __init__(
        self,
        places: Sequence[tuple[PatchSource, Window]],
        num_real: int | None = None,
        judge: Segmenter | None = None,
        agreement: float = 0.0,
    ) -> None:
        self.places = tuple(places)
        self.num_real = len(self.places) if num_real is None else num_real
        self._judge, self._agreement = judge, agreement
        self._kept: dict[int, tuple[Array, ClassIndices]] = {}
        size = sum(
            window.height * window.width * (len(source.band_names) * source.dtype.itemsize + 1)
            for source, window in self.places
        )
        self._keeps = size <= _KEEP_BYTES

    def __len__(self) -> int:
        return len(self.places)

    def is_synthetic(self, index: int) -> bool:
        """Whether the image of a tile is synthetic."""
        return index >= self.num_real or bool(self.places[index][0].synthetic)

    def __getitem__(self, index: Any) -> Any:
        if index in self._kept:
            return self._kept[index]
        source, window = self.places[index]
        tile = source.read(window)
        if self._judge is not None and self.is_synthetic(index):
            image, labels = tile
            doubtful = self._judge.agreement(image[np.newaxis], labels[np.newaxis])[0] < self._agreement
            tile = image, np.where(doubtful, np.uint8(source.legend.num_classes), labels)
        if self._keeps:
            self._kept[index] = tile
        return tile


def left_out(tiles: TileSet) -> float:
    """The share of the synthetic pixels with a class that the tiles' judge leaves out; 0 if there are none."""
    before = after = 0
    for index, (source, window) in enumerate(tiles.places):
        if tiles.is_synthetic(index):
            nothing = source.legend.num_classes
            before += int((source.read_labels(window) < nothing).sum())
            after += int((tiles[index][1] < nothing).sum())
    return 1 - after / before if before else 0.0


@dataclass(frozen=True)
class SegmentData:
    """What one training needs."""

    sources: Sequence[PatchSource]
    """The real imagery and its labels."""
    train: TileSet
    """Train tiles: real ones, then synthetic ones."""
    coarse: TileSet | None
    """Tiles with only coarse labels; None without a coarse map."""
    test: TileSet
    """Test tiles: real ones, side by side."""
    test_places: tuple[int, ...]
    """The cluster of touching scenes, as a number, of each test tile, see `clusters_of`."""
    digest: str
    """SHA-256 of everything that this depends on."""


def open_data(
    data: str | Path | PatchSource | Sequence[PatchSource],
    synthetic: str | Path | PatchSource | None,
    settings: SegmentSettings,
    train_fold: str,
    test_fold: str,
    judge: Segmenter | None = None,
) -> SegmentData:
    """Open the data, refuse what cannot work, and choose tiles.

    Raises:
        RasterError: if a store cannot be opened or read.
        SettingsError: if synthetic tiles are asked for without a twin, a fold is unknown, both folds are the same, or
            there is no coarse map.
        DataError: if a fold has no tile, there are fewer than asked for, the twin is not one of the data, or the train
            images have a single value.
    """
    check_test_fold(train_fold, test_fold)
    sources = _open(data)
    if judge is not None:
        check_fits(sources, judge.path, judge.card.legend.names, judge.card.bands)
    views = train_views(sources, settings, train_fold)
    tests = [_view(source, test_fold, settings, None, "skip") for source in sources]
    if not any(map(len, tests)):
        raise DataError(
            f"{sources[0].path}: fold {test_fold!r} holds no whole tile of {settings.tile_size} px to test on; choose"
            " smaller tiles, or another fold"
        )
    seed = settings.seed if settings.subset_seed is None else settings.subset_seed
    if synthetic is None and settings.synthetic_tiles:
        raise SettingsError("synthetic tiles need a twin: a store that `geosynth twin` made of the same data")
    found = [] if synthetic is None else _open(synthetic)
    if found and all(map(is_recombined, found)):
        check_alike([*sources, *found])
        twins, chosen = found, _beside(views, train_views(found, settings, train_fold), settings, seed)
    else:
        twins = [_twin_of(source, found, train_fold) for source in sources] if found else []
        added = settings.synthetic_tiles if found else 0
        chosen = mixture(views, settings.real_tiles, added, pool=settings.pool_tiles, seed=seed)
    places = [*_places(sources, chosen.real), *_places(twins, chosen.synthetic)]
    train = TileSet(places, len(chosen.real), judge, settings.agreement)
    coarse = None if settings.coarse is None else _coarse_set(sources, chosen, settings, train_fold)
    test = TileSet([(source, window) for source, view in zip(sources, tests, strict=True) for window in view])
    _refuse_constant(train)
    used = (*sources, *(twins if chosen.synthetic else ()))
    facts = [
        [source.digest(fold) for source in used for fold in (train_fold, test_fold)],
        [[astuple(window) for _, window in part.places] for part in (train, coarse, test) if part is not None],
        train.num_real,
    ]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return SegmentData(sources, train, coarse, test, tuple(np.concatenate(clusters_of(tests)).tolist()), digest)


def _coarse_set(sources: Sequence[PatchSource], chosen: Mixture, settings: SegmentSettings, train_fold: str) -> TileSet:
    """The tiles of the pool whose fine labels are ignored, or as many of them as are asked for."""
    others, wanted = chosen.others[: settings.coarse_tiles], settings.coarse_tiles or 1
    if len(others) < wanted:
        raise DataError(
            f"{sources[0].path}: coarse_tiles={wanted}, but beside {len(chosen.real)} real tiles there are"
            f" {len(others)} of fold {train_fold!r}; use fewer real ones"
        )
    return TileSet(_places(sources, others))


def _beside(real: Sequence[TileView], recombined: Sequence[TileView], settings: SegmentSettings, seed: int) -> Mixture:
    """As `mixture`, for a twin of recombined labels, whose tiles are at no real places: both are chosen separately."""
    chosen = Mixture((), (), ())
    if settings.real_tiles != 0 or settings.synthetic_tiles == 0:  # which refuses what is nothing
        chosen = mixture(real, settings.real_tiles, pool=settings.pool_tiles, seed=seed)
    if settings.synthetic_tiles != 0:
        found = mixture(recombined, 0, settings.synthetic_tiles, seed=seed)
        chosen = Mixture(chosen.real, found.synthetic, chosen.others)
    return chosen


def train_views(sources: Sequence[PatchSource], settings: SegmentSettings, fold: str = "train") -> list[TileView]:
    """The tiles from which `mixture` chooses, one view per source.

    Raises:
        SettingsError: if there is no such fold.
    """
    return [_view(source, fold, settings, settings.stride, "align") for source in sources]


def _view(source: PatchSource, fold: str, settings: SegmentSettings, stride: int | None, edge: Any) -> TileView:
    size = settings.tile_size
    return TileView(source, fold, size, stride or size, edge=edge, max_nodata=settings.max_nodata)


def _open(data: str | Path | PatchSource | Sequence[PatchSource]) -> Sequence[PatchSource]:
    sources = open_sources(data)
    if not sources:
        raise DataError("an empty list of stores", setting="data")
    check_alike(sources)
    return sources


def _twin_of(source: PatchSource, found: Sequence[PatchSource], fold: str) -> PatchSource:
    """The source's twin among those found; a source without a part in the fold needs none and is returned itself."""
    twin = next((twin for twin in found if twin.geobox == source.geobox), None)
    if twin is None and not source.scenes_in(fold):
        return source
    twin = twin or found[0]
    check_twin(twin, source)
    if twin.path == source.path:
        raise DataError(f"{twin.path}: is the data itself, not a twin of it; make one with `geosynth twin`")
    return twin


def _places(sources: Sequence[PatchSource], tiles: Sequence[Tile]) -> list[tuple[PatchSource, Window]]:
    return [(sources[tile.source], tile.window) for tile in tiles]


def _refuse_constant(tiles: TileSet) -> None:
    """Refuse images with a single value, which teach nothing; mostly the store's imagery was not written."""
    if all((image == image[:, :1, :1]).all() for image, _ in tiles):
        path = tiles.places[0][0].path
        raise DataError(f"{path}: each train image holds one value only; there is nothing to learn from")


@dataclass(frozen=True)
class CoarseTiles(Sequence[tuple[Array, npt.NDArray[np.uint8]]]):
    """Tiles as (image (bands, N, N), coarse classes (N, N)), and the shares of fine classes in the coarse ones."""

    tiles: TileSet
    """The images."""
    name: str
    """Name of the coarse map in the store."""
    values: Array
    """The map's value for each coarse class index; other values are no class and get the index `len(values)`."""
    shares: CoarseShares
    """The share of each fine class in each coarse one."""

    def __len__(self) -> int:
        return len(self.tiles)

    def __getitem__(self, index: Any) -> Any:
        source, window = self.tiles.places[index]
        return self.tiles[index][0], _encode(source.read_extra(self.name, window), self.values)


def coarse_tiles(data: SegmentData, name: str, crop_size: int | None) -> CoarseTiles:
    """Measure, on the real tiles, the share of each fine class in each coarse one.

    Args:
        data: with `coarse` tiles.
        name: of the coarse map.
        crop_size: side of the part of a tile that a step sees, over which the variation of shares is measured; None for
            the whole tile.

    Raises:
        SettingsError: if the data is not a store, or has no such map.
        DataError: if the map has no value, or more than 255 values, on the coarse tiles.
        RasterError: if it cannot be read.
    """
    assert data.coarse is not None
    found: set[Any] = set()
    for source, window in data.coarse.places:
        found |= set(np.unique(source.read_extra(name, window)).tolist()) - {source.extra_type(name)[1]}
    values = np.array(sorted(value for value in found if value == value))  # without NaN, which is no class
    if not 0 < len(values) < 256:
        raise DataError(f"{data.sources[0].path}: map {name!r} has {len(values)} values on the coarse tiles; 1 to 255")
    places = data.train.places[: data.train.num_real]
    coarse = np.stack([_encode(source.read_extra(name, window), values) for source, window in places])
    fine = np.stack([data.train[index][1] for index in range(len(places))])
    num_fine = data.sources[0].legend.num_classes
    shares = estimate_shares(torch.from_numpy(coarse).long(), torch.from_numpy(fine), len(values), num_fine, crop_size)
    return CoarseTiles(data.coarse, name, values, shares)


def _encode(raw: Array, values: Array) -> npt.NDArray[np.uint8]:
    place = np.minimum(np.searchsorted(values, raw), len(values) - 1)
    return np.where(values[place] == raw, place, len(values)).astype(np.uint8)
