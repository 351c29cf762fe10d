"""What a segmenter is trained and tested on: opened, checked, chosen, and its fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geosynth.config import SegmentSettings
from geosynth.errors import DataError, SettingsError
from geosynth.grid import Window
from geosynth.grid.groups import touching_groups
from geosynth.patches.module import check_alike
from geosynth.raster.stores.in_place import open_sources
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.tile_view import TileView
from geosynth.raster.stores.twin_store import check_twin
from geosynth.segmentation.mixture import Tile, mixture

Array = npt.NDArray[Any]

_SAMPLED = 64  # tiles of a set whose pixels go into its fingerprint
_KEEP_BYTES = 512 << 20  # of decoded tiles in memory


class TileSet(Sequence[tuple[Array, npt.NDArray[np.uint8]]]):
    """Tiles as (image (bands, N, N), labels (N, N) class indices), read when asked for.

    Decoded tiles are kept if all of them fit into 512 MiB.

    Args:
        places: a source and a window of it for each tile.

    Raises:
        RasterError: from `[]`, if a tile cannot be read.
    """

    def __init__(self, places: Sequence[tuple[PatchSource, Window]]) -> None:
        self.places = tuple(places)
        self._kept: dict[int, tuple[Array, npt.NDArray[np.uint8]]] = {}
        size = sum(
            window.height * window.width * (len(source.band_names) * source.dtype.itemsize + 1)
            for source, window in self.places
        )
        self._keeps = size <= _KEEP_BYTES

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: Any) -> Any:
        if index in self._kept:
            return self._kept[index]
        source, window = self.places[index]
        tile = source.read_image(window), source.read_labels(window)
        if self._keeps:
            self._kept[index] = tile
        return tile

    def fingerprint(self) -> str:
        """sha256 of all windows and of the pixels of 64 tiles, evenly spread: cheap, and tells other data apart."""
        digest = hashlib.sha256(json.dumps([astuple(window) for _, window in self.places]).encode())
        for index in np.unique(np.linspace(0, len(self) - 1, min(len(self), _SAMPLED)).astype(int)).tolist():
            for values in self[index]:
                digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


@dataclass(frozen=True)
class SegmentData:
    """What one training needs.

    Attributes:
        sources: of the real imagery.
        train: real tiles, then synthetic ones.
        num_real: how many of them are real.
        coarse: tiles that have coarse labels only; None without a coarse map.
        test: real tiles, side by side.
        test_places: for each of them the number of its cluster of touching scenes.
        fingerprint: sha256 of all of them.
    """

    sources: Sequence[PatchSource]
    train: TileSet
    num_real: int
    coarse: TileSet | None
    test: TileSet
    test_places: tuple[int, ...]
    fingerprint: str


def open_data(
    data: str | Path | PatchSource,
    synthetic: str | Path | PatchSource | None,
    settings: SegmentSettings,
    train_fold: str,
    test_fold: str,
) -> SegmentData:
    """Open, refuse what cannot work, and choose tiles.

    Raises:
        RasterError: if a store cannot be opened or read.
        SettingsError: if synthetic tiles are asked for without a twin, a fold is unknown, or there is no coarse map.
        DataError: if a fold has no tile, there are fewer than asked for, the twin is not one of the data, or the train
            images hold one value only.
    """
    sources = _open(data)
    views = train_views(sources, settings, train_fold)
    tests = [_view(source, test_fold, settings, None, "skip") for source in sources]
    if not any(map(len, tests)):
        raise DataError(
            f"{sources[0].path}: fold {test_fold!r} holds no whole tile of {settings.tile_size} px to test on; choose a"
            " smaller tile_size, or another test fold"
        )
    seed = settings.seed if settings.subset_seed is None else settings.subset_seed
    if synthetic is None and settings.synthetic_tiles != 0:
        raise SettingsError("synthetic tiles need a twin: a store that `geosynth twin` made of the same data")
    chosen = mixture(views, settings.real_tiles, settings.synthetic_tiles, pool=settings.pool_tiles, seed=seed)
    found = [] if synthetic is None else _open(synthetic)
    twins = [_twin_of(source, found, train_fold) for source in sources] if found else []
    train = TileSet([*_places(sources, chosen.real), *_places(twins, chosen.synthetic)])
    coarse = None
    if settings.coarse is not None:
        others = chosen.others[: settings.coarse_tiles]
        if len(others) < (settings.coarse_tiles or 1):
            raise DataError(
                f"{sources[0].path}: coarse_tiles={settings.coarse_tiles or 1}, but beside {len(chosen.real)} real"
                f" tiles there are {len(others)} of fold {train_fold!r}; lower real_tiles"
            )
        coarse = TileSet(_places(sources, others))
    test = TileSet([(source, window) for source, view in zip(sources, tests, strict=True) for window in view])
    parts = [part.fingerprint() for part in (train, coarse, test) if part is not None]
    _refuse_constant(train)
    facts = [sources[0].legend.model_dump(mode="json"), list(sources[0].band_names), len(chosen.real), *parts]
    fingerprint = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    return SegmentData(sources, train, len(chosen.real), coarse, test, _clusters(tests), fingerprint)


def train_views(sources: Sequence[PatchSource], settings: SegmentSettings, fold: str = "train") -> list[TileView]:
    """The tiles among which `mixture` chooses, one view a source.

    Raises:
        SettingsError: if there is no such fold.
    """
    return [_view(source, fold, settings, settings.stride, "align") for source in sources]


def _view(source: PatchSource, fold: str, settings: SegmentSettings, stride: int | None, edge: Any) -> TileView:
    size = settings.tile_size
    return TileView(source, fold, size, stride or size, edge=edge, max_nodata=settings.max_nodata)


def _open(data: str | Path | PatchSource) -> Sequence[PatchSource]:
    sources: Sequence[PatchSource] = open_sources(data) if isinstance(data, str | Path) else [data]
    check_alike(sources)
    return sources


def _twin_of(source: PatchSource, found: Sequence[PatchSource], fold: str) -> PatchSource:
    """Its twin among those found; a source without a part in the fold, which needs none, stands for itself."""
    twin = next((twin for twin in found if twin.geobox == source.geobox), None)
    if twin is None and not source.scenes_in(fold):
        return source
    twin = twin or found[0]
    check_twin(twin, source)
    return twin


def _places(sources: Sequence[PatchSource], tiles: Sequence[Tile]) -> list[tuple[PatchSource, Window]]:
    return [(sources[tile.source], tile.window) for tile in tiles]


def _clusters(views: Sequence[TileView]) -> tuple[int, ...]:
    """For each tile of all views the number of its cluster of touching scenes."""
    numbers: list[int] = []
    count = 0
    for view in views:
        used = np.unique(view.scene_index).tolist()
        groups = touching_groups([view.source.scenes[index].window for index in used])
        of_scene = {used[member]: count + number for number, group in enumerate(groups) for member in group}
        numbers += [of_scene[index] for index in view.scene_index.tolist()]
        count += len(groups)
    return tuple(numbers)


def _refuse_constant(tiles: TileSet) -> None:
    """Images without any difference teach nothing, and are mostly a store whose imagery was not written."""
    if all((image == image[:, :1, :1]).all() for image, _ in tiles):
        path = tiles.places[0][0].path
        raise DataError(f"{path}: each train image holds one value only; there is nothing to learn from")
