"""Whether real or synthetic tiles of one place are nearer to imagery of another place, whose labels are unknown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from geosynth.config import BandSettings
from geosynth.config.bands import ImageDtype
from geosynth.errors import counted
from geosynth.evaluation.compare import BATCH, check_tiles, drawn, embed_fold
from geosynth.evaluation.distances import MIN_TILES, kernel_distance
from geosynth.evaluation.features import Space, TileFeatures, open_spaces
from geosynth.evaluation.levels import Levels
from geosynth.evaluation.measures import Nearness
from geosynth.evaluation.tiles import TilePair
from geosynth.grid import TilePlan, ground_sampling_distance, warn_of_pixel_size
from geosynth.grid.alignment import is_south_up
from geosynth.raster.model_bands import NeededBands, open_bands
from geosynth.raster.stores.tiles import TileView

_MOST = 256  # tiles of a set; as the distance is unbiased, more change it little


def compare_to_target(
    target: TileFeatures, real: TileFeatures, synthetic: TileFeatures, spaces: Sequence[Space]
) -> Nearness:
    """The tiles on which a segmenter for the target is better trained, by kernel distances between features.

    This needs no labels of the target. Synthetic tiles differ from real ones of the same labels only by the generator:
    the look of the target brings them nearer to it, and what the generator paints badly takes them away.

    Args:
        target: tiles of the target's imagery.
        real: real tiles of a place with labels.
        synthetic: tiles painted for the same labels.
        spaces: of all three; the mean over those of EfficientNet-Lite0 counts. There is one for each three-band picture
            of the imagery, because a segmenter sees near infrared, too.
    """
    for what, tiles in (("of the target", target), ("with real imagery", real), ("with synthetic imagery", synthetic)):
        if len(tiles) < MIN_TILES:
            reason = f"{counted(len(tiles), 'whole tile')} {what}; a distance needs two, which smaller tiles may give"
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
    """The nearness of tiles of sources with the same bands, in the levels of the real tiles' fold.

    EfficientNet-Lite0 is installed with geosynth; losses of the generator may have used it. (The larger Lite2, which no
    loss uses, made the same choices wherever both were tried.) At most 256 tiles of each set are drawn.

    Args:
        target: tiles of the target's imagery.
        real: tiles of a fold of a place with labels.
        synthetic: tiles painted for the same labels.

    Raises:
        DataError: if there are fewer than two tiles, or a band is constant.
    """
    for view in (target, real, synthetic):
        check_tiles(view)
    spaces = open_spaces(target.source.band_names, None, (), "auto", None)
    assert real.fold is not None
    levels = Levels.of_fold(real.source, real.fold)
    of_target, of_real, of_synthetic = (
        embed_fold(view, spaces, levels, drawn(len(view), _MOST, 0), lambda: None) for view in (target, real, synthetic)
    )
    return compare_to_target(of_target, of_real, of_synthetic, spaces)


class TargetTiles:
    """Whole tiles of images of a target, side by side, or a random sample of them.

    Images stored south up are turned north up beside real imagery with north up, and the other way round.

    Args:
        images: rasters with the bands and the dtype of the real imagery; bands are found by name or, if they have no
            names, taken in their order. Nothing is resampled: another pixel size gives a warning.
        pair: with that imagery, and with the size of the tiles.
        most: largest number of tiles.
        seed: of the sample.
        named: names that the user gave for their bands, see `open_chosen`; None for none.

    Raises:
        RasterError, DataError: if an image cannot be used.
    """

    def __init__(
        self, images: Sequence[str | Path], pair: TilePair, most: int, seed: int, named: Sequence[str] | None = None
    ) -> None:
        gsd = ground_sampling_distance(pair.geobox)
        bands = BandSettings(names=pair.bands, dtype=cast(ImageDtype, str(pair.dtype)), quantities=pair.quantities)
        needed, tiles = NeededBands(bands, "real imagery", "the real imagery"), []
        for image in images:
            raster = open_bands(image, needed, named)
            what = "those of the real imagery are of %g m: distances to it include that difference"
            warn_of_pixel_size(raster.path, raster.geobox, gsd, what)
            is_turned = is_south_up(raster.geobox) != is_south_up(pair.geobox)
            height, width = raster.geobox.shape
            for window in TilePlan(height, width, pair.tile_size, edge="skip"):
                row = height - window.bottom if is_turned else window.row
                tiles.append((raster, replace(window, row=row), is_turned))
        self._tiles = [tiles[number] for number in drawn(len(tiles), most, seed).tolist()]

    def __len__(self) -> int:
        return len(self._tiles)

    def embed(self, spaces: Sequence[Space], levels: Levels, advance: Callable[[], None]) -> TileFeatures:
        """Features of the tiles that have data everywhere, all as one place.

        Args:
            spaces: feature spaces.
            levels: in which the tiles are seen.
            advance: called after each tile.
        """
        found = TileFeatures(spaces)
        for start in range(0, len(self), BATCH):
            whole = []
            for raster, window, is_turned in self._tiles[start : start + BATCH]:
                pixels, valid = raster.read(window)
                whole += [(window, pixels[:, ::-1] if is_turned else pixels)] if valid.all() else []
                advance()
            if whole:
                windows, images = zip(*whole, strict=True)
                found.add(windows, [0] * len(windows), levels.of(np.stack(images)))
        return found
