"""Whether real tiles of one place or synthetic ones are nearer to imagery of another one, whose labels nobody knows."""

from __future__ import annotations

from geosynth.errors import DataError
from geosynth.estimate import Floats
from geosynth.evaluation.compare import drawn, embed_fold
from geosynth.evaluation.distances import kernel_distance
from geosynth.evaluation.features import open_spaces
from geosynth.evaluation.report import Nearness
from geosynth.raster.stores.tiles import TileView

_MOST = 256  # tiles of a set: the distance is unbiased, and more change it little


def compare_to_target(target: Floats, real: Floats, synthetic: Floats) -> Nearness:
    """What a segmenter for the target is better trained on, by kernel distances of features.

    Labels are needed of neither. Synthetic tiles of the same labels differ from the real ones in what the generator
    makes of them: the look of the target brings them nearer to it, what the generator paints badly takes them away.

    Args:
        target: (n, d) features of tiles of its imagery.
        real: (m, d) of real tiles of a place with labels.
        synthetic: (m, d) of tiles painted for the same labels.

    Raises:
        DataError: as `kernel_distance`.
    """
    of_real, of_synthetic = (kernel_distance(target, tiles) for tiles in (real, synthetic))
    return Nearness(
        real=of_real,
        synthetic=of_synthetic,
        nearer="synthetic" if of_synthetic < of_real else "real",
        num_target=len(target),
    )


def measure_nearness(target: TileView, real: TileView, synthetic: TileView) -> Nearness:
    """Of tiles of sources with the same bands, natural colours as EfficientNet-Lite0 sees them.

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
        if view.source.dtype != "uint8":
            raise DataError(f"{view.source.path}: the features need uint8 imagery, not {view.source.dtype}")
        if len(view) < 2:
            raise DataError(
                f"{view.source.path}: fold {view.fold!r} has {len(view)} tiles of {view.size} px, too few for a"
                " distance: two at least"
            )
    spaces = open_spaces(target.source.band_names, None, (), "auto", None)[:1]
    of_all = (
        embed_fold(view, spaces, drawn(len(view), _MOST, 0), lambda: None).of(spaces[0].name)
        for view in (target, real, synthetic)
    )
    return compare_to_target(*of_all)
