"""Recombined labels: tiles of a source, drawn so that rare classes occur more often, on a grid that is no place."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple

import numpy as np
import numpy.typing as npt
from affine import Affine
from odc.geo.geobox import GeoBox
from scipy.optimize import minimize
from scipy.special import logsumexp

from geosynth.errors import DataError, SettingsError
from geosynth.grid import SpatialSplit, Window, WindowIndex
from geosynth.legend import ClassIndices, Legend, plain
from geosynth.raster.read import Array
from geosynth.raster.stores.source import PatchSource, Scene
from geosynth.raster.stores.tiles import TileView

EMPHASIS = "GEOSYNTH_EMPHASIS"
"""Tag of a twin with recombined labels: the classes that occur more often, and how much."""

_MAX_NODATA = 0.5  # share of a tile, as in segment
_CLOSE = 0.01  # relative; by which the expected share of a class may differ from the wanted one
_STEEPEST = 100.0  # bound for the tilt of a class, relative to the spread of its shares
_LEAST = 4  # effective number of tiles in a draw; fewer would repeat the same few


def is_recombined(source: PatchSource) -> bool:
    """Whether a source has recombined labels, so that its tiles are not at the places of real ones."""
    return EMPHASIS in source.synthetic


class Recombined(PatchSource):
    """Tiles of a source, laid out on a new grid, each as a scene, all in one fold.

    The layout is no place on Earth: the grid has the source's pixel size but no CRS, and adjacent tiles are unrelated,
    so a strip without data separates them. A tile that was drawn several times occurs as often.

    Args:
        view: the tiles.
        drawn: indices of the drawn tiles, in order.
    """

    def __init__(self, view: TileView, drawn: Sequence[int]) -> None:
        source = self._source = view.source
        self.path, self.legend = f"{source.path} (recombined)", source.legend
        self.band_names, self.dtype, self.chunk_size = source.band_names, source.dtype, source.chunk_size
        self.quantities = source.quantities
        pitch = view.size + max(1, view.size // 4)
        self._origins = [view[number] for number in drawn]
        columns = math.ceil(math.sqrt(len(drawn)))
        shape = (math.ceil(len(drawn) / columns) * pitch, columns * pitch)
        side = abs(source.geobox.affine.determinant) ** 0.5
        self.geobox = GeoBox(shape, Affine.scale(side, -side), None)
        content = source.digest(view.fold)
        places = [divmod(place, columns) for place in range(len(drawn))]
        self._tiles = WindowIndex([Window(row * pitch, column * pitch, view.size, view.size) for row, column in places])
        self.scenes = tuple(self._scene(place, view.name(number), content) for place, number in enumerate(drawn))
        self.split = SpatialSplit.by_scenes({view.fold or "train": self._tiles.windows})

    @property
    def name(self) -> str:
        """The source's name."""
        return self._source.name

    def _scene(self, place: int, name: str, content: str) -> Scene:
        digest = hashlib.sha256(repr((content, astuple(self._origins[place]))).encode()).hexdigest()
        return Scene(f"{place:05d}_{name}", self._tiles.windows[place], (), digest, digest)

    def read(self, window: Window) -> tuple[Array, ClassIndices]:
        """See `PatchSource`; the imagery is that of the real tiles."""
        image = np.zeros((len(self.band_names), window.height, window.width), self.dtype)
        labels = np.full((window.height, window.width), self.legend.num_classes, np.uint8)
        for origin, place in self._origins_of(window):
            image[:, *place], labels[place] = self._source.read(origin)
        return image, labels

    def read_labels(self, window: Window) -> ClassIndices:
        """See `PatchSource`."""
        labels = np.full((window.height, window.width), self.legend.num_classes, np.uint8)
        for origin, place in self._origins_of(window):
            labels[place] = self._source.read_labels(origin)
        return labels

    def _origins_of(self, window: Window) -> Iterator[tuple[Window, tuple[slice, slice]]]:
        """Where in the source the tiles in a window come from, each with its place as slices of the window."""
        for number, part, place in self._tiles.touching(window):
            yield part.shift(self._origins[number].row, self._origins[number].column), place


def recombine(
    source: PatchSource,
    emphasis: Mapping[str, float],
    fold: str,
    tile_size: int,
    *,
    num_tiles: int | None = None,
    seed: int = 0,
) -> Recombined:
    """Draw tiles of a fold with replacement, so that some classes occur more often; no label is changed or invented.

    Each tile of the fold (they overlap by half) is drawn with a probability proportional to exp(sum of b_c s_c), where
    s_c is the share of class c in it. The b are those for which the expected share of each class is the wanted multiple
    of its mean over all tiles. Of all probabilities that give these shares, these are nearest to uniform (exponential
    tilting, the least Kullback-Leibler divergence; Csiszar 1975).

    Args:
        source: of the labels.
        emphasis: by class name, compared as in legends: how many times as often as in the fold the class shall occur.
        fold: whose tiles are drawn.
        tile_size: in pixels.
        num_tiles: number of tiles to draw; None for as many as lie side by side in the fold, at least one.
        seed: of the draw.

    Raises:
        SettingsError: if there is no such class, or a number is out of range.
        DataError: if the fold has no tile of this size, or if its tiles have too little of a class.
    """
    classes = emphasised_classes(source.legend, emphasis)
    if num_tiles is not None and num_tiles < 1:
        raise SettingsError(f"recombined labels are of one tile or more, got {num_tiles}", setting="num_tiles")
    view = TileView(source, fold, tile_size, max_nodata=_MAX_NODATA)
    if not len(view):
        raise DataError(f"{source.path}: fold {fold!r} holds no tile of {tile_size} px; choose smaller tiles")
    pixels = source.count_classes(view[:])[:, -1].astype(np.float64)
    shares = pixels[:, list(classes)] / pixels.sum(axis=1, keepdims=True)
    chances = _tilted(shares, np.array(list(classes.values())))
    if chances is None:
        said = ", ".join(f"{source.legend.names[index]}={factor:g}" for index, factor in classes.items())
        raise DataError(
            f"{source.path}: {said}: too few tiles of {tile_size} px in fold {fold!r} hold so much; ask for less"
        )
    if num_tiles is None:
        num_tiles = max(1, len(TileView(source, fold, tile_size, tile_size, max_nodata=_MAX_NODATA)))
    drawn = np.random.default_rng(seed).choice(len(view), num_tiles, p=chances)
    return Recombined(view, drawn.tolist())


def emphasised_classes(legend: Legend, emphasis: Mapping[str, float]) -> dict[int, float]:
    """The factor of each emphasised class by its index.

    Raises:
        SettingsError: if the legend has no such class, one is named twice, or a factor is not a positive number.
    """
    index_of = {plain(name): index for index, name in enumerate(legend.names)}
    unknown = [name for name in emphasis if plain(name) not in index_of]
    if unknown or not emphasis:
        what = f"no class {', '.join(unknown)}; the legend has {', '.join(legend.names)}"
        raise SettingsError(what, setting="emphasise")
    if not all(0 < factor < math.inf for factor in emphasis.values()):
        raise SettingsError(f"positive numbers, as in roads=3, got {dict(emphasis)}", setting="emphasise")
    classes = {index_of[plain(name)]: float(factor) for name, factor in emphasis.items()}
    if len(classes) < len(emphasis):
        raise SettingsError(f"{', '.join(emphasis)} name one class twice; give it once", setting="emphasise")
    return classes


def _tilted(shares: npt.NDArray[np.float64], factors: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """Probabilities (tiles,) that multiply the mean of shares (tiles, classes) by `factors`; None if impossible.

    The b of the tilt minimise the convex function log sum exp(b s) - b wanted.
    """
    wanted = factors * shares.mean(axis=0)
    scale = np.maximum(shares.std(axis=0), 1e-9)
    if not wanted.all():
        return None
    units = (shares - wanted) / scale

    def dual(tilt: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        powers = units @ tilt
        total = float(logsumexp(powers))
        return total, np.exp(powers - total) @ units

    # Bounds, as for an impossible share the tilt would grow without limit.
    tilt = minimize(dual, np.zeros(len(wanted)), jac=True, bounds=[(-_STEEPEST, _STEEPEST)] * len(wanted)).x
    powers = units @ tilt
    chances: npt.NDArray[np.float64] = np.exp(powers - logsumexp(powers))
    reached = np.allclose(chances @ shares, wanted, rtol=_CLOSE, atol=0)
    return chances if reached and 1 / (chances**2).sum() >= _LEAST else None
