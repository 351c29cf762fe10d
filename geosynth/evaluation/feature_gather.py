"""Tiles as features of networks: of the tiles that a pass sees, and of the real tiles of a fold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from geosynth.evaluation.histograms import Floats
from geosynth.evaluation.inputs import Block
from geosynth.evaluation.store_tiles import cluster_of
from geosynth.evaluation.tiles import Tile
from geosynth.grid import Window
from geosynth.raster.stores.tile_view import TileView

if TYPE_CHECKING:  # loads torch
    from geosynth.evaluation.extractors import Extractor

Images = npt.NDArray[np.uint8]
Embed = Callable[["Extractor", Images], Floats]

_BATCH = 32  # tiles whose pixels are kept at once


@dataclass(frozen=True)
class Space:
    """A network, and the three bands that it sees as red, green and blue.

    Attributes:
        name: as reports call it.
        extractor: the network.
        bands: indices.
    """

    name: str
    extractor: Extractor
    bands: tuple[int, int, int]


@dataclass
class TileFeatures:
    """Features of tiles in several spaces.

    Attributes:
        windows: of the tiles.
        places: (n,) numbers of the places that they belong to.
        features: by name of the space: (n, d).
    """

    windows: list[Window] = field(default_factory=list)
    places: npt.NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    features: dict[str, Floats] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.windows)


def open_spaces(bands: tuple[str, ...], inception: str | None, device: str) -> list[Space]:
    """Natural colours, and near infrared where there is some, as EfficientNet-Lite0 sees them; first of all Inception.

    Args:
        bands: names.
        inception: a file of weights, or "download"; None for none.
        device: that the networks run on.

    Raises:
        CheckpointError: if weights cannot be had.
    """
    from geosynth.evaluation.extractors import load_extractor
    from geosynth.models.perceptual import composites

    (_, natural), *others = composites(bands).items()
    spaces = []
    if inception is not None:
        fetch = inception == "download"
        network = load_extractor("inception", None if fetch else inception, device, download=fetch)
        spaces.append(Space(network.name, network, natural))
    network = load_extractor("efficientnet-lite0", device=device)
    spaces.append(Space(network.name, network, natural))
    return spaces + [Space(f"{network.name} ({name})", network, indices) for name, indices in others]


def drawn(count: int, most: int, seed: int) -> npt.NDArray[np.int64]:
    """Up to `most` of the numbers 0 .. count - 1, in order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


class FeatureObserver:
    """Embeds the real and the synthetic image of each whole tile of a pass.

    Args:
        spaces: to embed in.
        embed: gives an extractor's features of images (n, 3, height, width).
        numbers: of the tiles to take.

    Attributes:
        real, synthetic: complete after `finish`.
    """

    def __init__(self, spaces: list[Space], embed: Embed, numbers: npt.NDArray[np.int64]) -> None:
        self._pair = _Batches(spaces, embed), _Batches(spaces, embed)
        self._numbers = frozenset(numbers.tolist())
        self._tiles: list[Tile] = []
        self.real, self.synthetic = TileFeatures(), TileFeatures()

    def add(self, tile: Tile, block: Block) -> None:  # noqa: D102
        if tile.number in self._numbers:
            self._tiles.append(tile)
            for batches, image in zip(self._pair, (block.real, block.synthetic), strict=True):
                batches.add(image)

    def finish(self) -> None:  # noqa: D102
        windows = [tile.window for tile in self._tiles]
        places = np.array([tile.unit for tile in self._tiles], dtype=np.int64)
        self.real, self.synthetic = (TileFeatures(windows, places, batches.result()) for batches in self._pair)


def embed_fold(
    view: TileView, spaces: list[Space], embed: Embed, numbers: npt.NDArray[np.int64], advance: Callable[[], None]
) -> TileFeatures:
    """Features of real tiles, with the clusters of touching scenes as places.

    Args:
        view: of the fold.
        spaces: to embed in.
        embed: gives an extractor's features of images (n, 3, height, width).
        numbers: of the tiles to take.
        advance: called after each tile.
    """
    batches = _Batches(spaces, embed)
    for number in numbers.tolist():
        batches.add(view.source.read_image(view[number]))
        advance()
    return TileFeatures([view[number] for number in numbers.tolist()], cluster_of(view)[numbers], batches.result())


class _Batches:
    """Keeps pixels until there are enough to embed."""

    def __init__(self, spaces: list[Space], embed: Embed) -> None:
        self._spaces, self._embed = spaces, embed
        self._waiting: list[Images] = []
        self._done: dict[str, list[Floats]] = {space.name: [] for space in spaces}

    def add(self, image: Images) -> None:
        self._waiting.append(image)
        if len(self._waiting) == _BATCH:
            self._flush()

    def result(self) -> dict[str, Floats]:
        if self._waiting:
            self._flush()
        empty = {space.name: np.empty((0, space.extractor.num_features)) for space in self._spaces}
        return {name: np.concatenate([empty[name], *parts]) for name, parts in self._done.items()}

    def _flush(self) -> None:
        images = np.stack(self._waiting)
        self._waiting.clear()
        for space in self._spaces:
            self._done[space.name].append(self._embed(space.extractor, images[:, list(space.bands)]))
