"""What a cell of a study is made of. Equal recipes on equal data are one piece of work, named by its content."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from geosynth.config import GenerateSettings, SegmentSettings, Settings, TrainSettings
from geosynth.raster.stores.store import Store
from geosynth.version import __version__

# They change how long a generator trains and what is shown meanwhile, not what it becomes.
_NOT_OF_THE_MODEL = {"workers", "save_every", "save_minutes", "preview_every", "log_every"}
_CHOOSE_TILES = {"tile_size", "stride", "max_nodata", "real_tiles", "synthetic_tiles", "pool_tiles", "seed"}


@dataclass(frozen=True)
class GivenGenerator:
    """A model file of the user's.

    Attributes:
        path: of the file.
        sha256: of its bytes.
    """

    path: str
    sha256: str

    def inputs(self) -> dict[str, Any]:
        """What it is made of, as plain values."""
        return {"model": self.sha256}


@dataclass(frozen=True)
class TrainedGenerator:
    """A generator that the study trains.

    Attributes:
        settings: its seed included.
        fold: whose patches it sees.
        kept: settings of the segmenter whose real tiles are all that it sees; None for the whole fold.
    """

    settings: TrainSettings
    fold: str
    kept: SegmentSettings | None = None

    def inputs(self) -> dict[str, Any]:
        """What it is made of, as plain values."""
        return {"train": _dump(self.settings, _NOT_OF_THE_MODEL), "fold": self.fold, "kept": _choice(self.kept)}


Generator = GivenGenerator | TrainedGenerator


@dataclass(frozen=True)
class Twin:
    """Synthetic imagery on the places of the data.

    Attributes:
        generator: what paints it.
        settings: its seed included.
        fold: that is painted.
        tiles: settings of the segmenter whose synthetic tiles are all that is painted of it; None for the whole fold.
    """

    generator: Generator
    settings: GenerateSettings
    fold: str
    tiles: SegmentSettings | None = None

    def inputs(self) -> dict[str, Any]:
        """What it is made of, as plain values."""
        return {
            "generator": self.generator.inputs(),
            "generate": _dump(self.settings),
            "painted": self.fold,
            "tiles": _choice(self.tiles),
        }


@dataclass(frozen=True)
class Recipe:
    """One segmenter and, if asked for, distances of the images that it learned from.

    Attributes:
        segment: its seed, numbers of tiles and augmentation included.
        train_fold, test_fold: of the tiles.
        twin: where its synthetic tiles come from; None without any.
        compared: the test fold painted by the same generator with two seeds, for distances; None for none.
    """

    segment: SegmentSettings
    train_fold: str
    test_fold: str
    twin: Twin | None = None
    compared: tuple[Twin, Twin] | None = None

    def inputs(self) -> dict[str, Any]:
        """What it is made of, as plain values."""
        return {
            "segment": _dump(self.segment),
            "folds": [self.train_fold, self.test_fold],
            "twin": None if self.twin is None else self.twin.inputs(),
            "compared": None if self.compared is None else [twin.inputs() for twin in self.compared],
        }


Piece = Generator | Twin | Recipe


def key_of(piece: Piece, data: str) -> str:
    """20 hex digits that stand for a piece, its data and the version of geosynth.

    Args:
        piece: of a study.
        data: digest of the data, see `digest_of_data`.
    """
    return _digest({"piece": piece.inputs(), "data": data, "version": __version__})[:20]


def digest_of_data(store: Store) -> str:
    """SHA-256 of what a store says about itself: sources (by their own hashes), places, folds, classes and bands."""
    scenes = [
        {name: value for name, value in scene.to_values().items() if name not in ("image", "labels")}
        for scene in store.scenes
    ]
    return _digest(
        {
            "scenes": scenes,
            "split": store.split.to_values(),
            "legend": store.legend.model_dump(mode="json"),
            "bands": list(store.band_names),
            "dtype": str(store.dtype),
            "grid": [*store.geobox.shape, *store.geobox.affine[:6], str(store.geobox.crs)],
        }
    )


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _choice(tiles: SegmentSettings | None) -> dict[str, Any] | None:
    return None if tiles is None else tiles.model_dump(mode="json", include=_CHOOSE_TILES)


def _dump(settings: Settings, without: set[str] | None = None) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude=without)
