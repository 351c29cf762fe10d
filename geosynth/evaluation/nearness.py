"""Whether real tiles of one place or synthetic ones are nearer to imagery of another one, whose labels nobody knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from odc.geo.geobox import GeoBox

from geosynth.errors import counted
from geosynth.evaluation.compare import BATCH, check_tiles, drawn, embed_fold
from geosynth.evaluation.distances import MIN_TILES, kernel_distance
from geosynth.evaluation.features import Space, TileFeatures, open_spaces
from geosynth.evaluation.report import Nearness
from geosynth.grid import TilePlan, ground_sampling_distance, warn_of_pixel_size
from geosynth.raster.bands import open_bands
from geosynth.raster.stores.tiles import TileView

_MOST = 256  # tiles of a set: the distance is unbiased, and more change it little


def compare_to_target(
    target: TileFeatures, real: TileFeatures, synthetic: TileFeatures, spaces: Sequence[Space]
) -> Nearness:
    """What a segmenter for the target is better trained on, by kernel distances of features.

    Labels are needed of neither. Synthetic tiles of the same labels differ from the real ones in what the generator
    makes of them: the look of the target brings them nearer to it, what the generator paints badly takes them away.

    Args:
        target: tiles of its imagery.
        real: real tiles of a place with labels.
        synthetic: tiles painted for the same labels.
        spaces: of all three; what counts is the mean over those of EfficientNet-Lite0. There is one for each three-band
            picture of the imagery: a segmenter sees near infrared, too.
    """
    for what, tiles in (("of the target", target), ("with real imagery", real), ("with synthetic imagery", synthetic)):
        if len(tiles) < MIN_TILES:
            reason = (
                f"{counted(len(tiles), 'whole tile')} {what}; a distance needs two, which a smaller tile_size may give"
            )
            return Nearness(reason=reason)
    names = [space.name for space in spaces if space.extractor.name == "efficientnet-lite0"]
    of_real, of_synthetic = (
        float(np.mean([kernel_distance(target.of(name), tiles.of(name)) for name in names]))
        for tiles in (real, synthetic)
    )
    return Nearness(
        real=of_real,
        synthetic=of_synthetic,
        nearer="synthetic" if of_synthetic < of_real else "real",
        num_target=len(target),
    )


def measure_nearness(target: TileView, real: TileView, synthetic: TileView) -> Nearness:
    """Of tiles of sources with the same bands, as EfficientNet-Lite0 sees them.

    That network comes with geosynth; losses of the generator may have looked through it. (Its larger sister Lite2,
    through which none looks, chose the same wherever both were asked.) At most 256 tiles of each set are drawn.

    Args:
        target: tiles of its imagery.
        real: of a place with labels.
        synthetic: painted for the same labels.

    Raises:
        DataError: if imagery is not uint8, or there are fewer than two tiles.
    """
    for view in (target, real, synthetic):
        check_tiles(view)
    spaces = open_spaces(target.source.band_names, None, (), "auto", None)
    of_target, of_real, of_synthetic = (
        embed_fold(view, spaces, drawn(len(view), _MOST, 0), lambda: None) for view in (target, real, synthetic)
    )
    return compare_to_target(of_target, of_real, of_synthetic, spaces)


class TargetTiles:
    """Whole tiles of images of a target, side by side, of which at most some are drawn.

    Args:
        images: uint8 rasters with the bands of the real imagery, by name or, if they name none, in the same order.
            Nothing is resampled: other pixels than its own give a warning.
        bands: names.
        geobox: of the real imagery.
        tile_size: pixels.
        most: tiles that are drawn.
        seed: of the draw.

    Raises:
        RasterError, DataError: if an image cannot be used.
    """

    def __init__(
        self,
        images: Sequence[str | Path],
        bands: Sequence[str],
        geobox: GeoBox,
        *,
        tile_size: int,
        most: int,
        seed: int,
    ) -> None:
        gsd = ground_sampling_distance(geobox)
        tiles = []
        for image in images:
            raster = open_bands(image, bands, "uint8", "real imagery")
            told = "those of the real imagery are of %g m: distances to it tell of that, too"
            warn_of_pixel_size(raster.path, raster.geobox, gsd, told)
            plan = TilePlan(raster.window.height, raster.window.width, tile_size, edge="skip")
            tiles += [(raster, window) for window in plan]
        self._tiles = [tiles[number] for number in drawn(len(tiles), most, seed).tolist()]

    def __len__(self) -> int:
        return len(self._tiles)

    def embed(self, spaces: Sequence[Space], advance: Callable[[], None]) -> TileFeatures:
        """Features of the tiles without a hole; all of one place.

        Args:
            spaces: to embed in.
            advance: called after each tile.
        """
        found = TileFeatures(spaces)
        for start in range(0, len(self), BATCH):
            whole = []
            for raster, window in self._tiles[start : start + BATCH]:
                pixels, valid = raster.read(window)
                whole += [(window, pixels)] if valid.all() else []
                advance()
            if whole:
                windows, images = zip(*whole, strict=True)
                found.add(windows, [0] * len(windows), np.stack(images))
        return found
