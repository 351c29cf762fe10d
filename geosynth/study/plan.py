"""The cells of a sweep, and which of them are compared."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from geosynth.config import (
    AugmentSettings,
    DiversitySettings,
    GenerateSettings,
    ReplaceSettings,
    SegmentSettings,
    Settings,
    StudySettings,
    TrainSettings,
)
from geosynth.version import __version__

# --- What a cell of a study is made of. Equal recipes on equal data are one piece of work, named by its content.

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
        data: digest of the data, see `PatchSource.digest`.
    """
    return _digest({"piece": piece.inputs(), "data": data, "version": __version__})[:20]


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _choice(tiles: SegmentSettings | None) -> dict[str, Any] | None:
    return None if tiles is None else tiles.model_dump(mode="json", include=_CHOOSE_TILES)


def _dump(settings: Settings, without: set[str] | None = None) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude=without)


_SECOND_SEED = 2**31  # of a twin that is compared with the first one: no seed of the study reaches it


@dataclass(frozen=True)
class Place:
    """Where a cell stands in tables and figures.

    Attributes:
        arm: the line: "mixed", "real + synthetic", "synthetic", ...
        x: the setting: share of synthetic tiles, real tiles kept, or lambda.
    """

    arm: str
    x: float


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Attributes:
        place: in the sweep.
        seed: of it.
        recipe: what is done.
    """

    place: Place
    seed: int
    recipe: Recipe

    def __str__(self) -> str:
        return f"{self.place.arm}, {self.place.x:g}, seed {self.seed}"


@dataclass(frozen=True)
class Contrast:
    """A difference that is of interest, taken seed by seed: `place` minus `baseline`."""

    place: Place
    baseline: Place


def plan_cells(settings: StudySettings, given: GivenGenerator | None) -> tuple[Cell, ...]:
    """All cells, seed by seed, so that a study that was stopped early has whole seeds.

    Args:
        settings: of a sweep.
        given: the generator; None: the study trains one for each seed (and number of kept tiles, or lambda).
    """
    kinds: dict[type[StudySettings], Any] = {
        ReplaceSettings: _replace,
        AugmentSettings: _augment,
        DiversitySettings: _diversity,
    }
    return tuple(cell for seed in settings.all_seeds for cell in kinds[type(settings)](settings, given, seed))


def contrasts(settings: StudySettings) -> tuple[Contrast, ...]:
    """Replace: each share against the smallest. Augment: each addition against the arms without it, at equal real
    tiles. Diversity: each lambda against the smallest.
    """  # noqa: D205 - one sentence a sweep
    if isinstance(settings, AugmentSettings):
        pairs = [
            ("real + ordinary", "real"),
            ("real + synthetic", "real"),
            ("real + synthetic", "real + ordinary"),
            ("real + synthetic + ordinary", "real + ordinary"),
        ]
        arms = set(settings.arms)
        return tuple(
            Contrast(Place(arm, kept), Place(baseline, kept))
            for arm, baseline in pairs
            if {arm, baseline} <= arms
            for kept in sorted(set(settings.real_tiles))
        )
    places = list(dict.fromkeys(cell.place for cell in plan_cells(settings, None)))
    places.sort(key=lambda place: place.x)
    return tuple(Contrast(place, places[0]) for place in places[1:])


def _replace(settings: ReplaceSettings, given: GivenGenerator | None, seed: int) -> list[Cell]:
    def segmenter(synthetic: int) -> SegmentSettings:
        # The pool is all: synthetic tiles stand in for the very real ones that they replace.
        counts = {"real_tiles": settings.tiles - synthetic, "synthetic_tiles": synthetic, "pool_tiles": settings.tiles}
        return _segment(settings, seed, **counts)

    shares = {share: round(share * settings.tiles) for share in sorted(set(settings.shares))}
    generator = given or TrainedGenerator(settings.train.model_copy(update={"seed": seed}), settings.train_fold)
    twin = _twin(settings, generator, seed, segmenter(max(shares.values())))
    cells = []
    for share, synthetic in shares.items():
        segment = segmenter(synthetic)
        recipe = Recipe(segment, settings.train_fold, settings.test_fold, twin if synthetic else None)
        cells.append(Cell(Place("mixed", share), seed, recipe))
    return cells


def _augment(settings: AugmentSettings, given: GivenGenerator | None, seed: int) -> list[Cell]:
    cells = []
    painted = _segment(settings, seed, real_tiles=0, synthetic_tiles=settings.synthetic_tiles)
    for kept in sorted(set(settings.real_tiles)):
        own = TrainedGenerator(
            settings.train.model_copy(update={"seed": seed}),
            settings.train_fold,
            _segment(settings, seed, real_tiles=kept, synthetic_tiles=0),
        )
        twin = _twin(settings, given or own, seed, painted)
        for arm in dict.fromkeys(settings.arms):
            added = settings.synthetic_tiles if "synthetic" in arm else 0
            augment = "flips+colour" if "ordinary" in arm else "none"
            segment = _segment(settings, seed, real_tiles=kept, synthetic_tiles=added, augment=augment)
            recipe = Recipe(segment, settings.train_fold, settings.test_fold, twin if added else None)
            cells.append(Cell(Place(arm, kept), seed, recipe))
    return cells


def _diversity(settings: DiversitySettings, given: GivenGenerator | None, seed: int) -> list[Cell]:
    segment = _segment(settings, seed, real_tiles=0, synthetic_tiles=settings.tiles)
    cells = []
    for weight in sorted(set(settings.lambdas)):
        generator = TrainedGenerator(settings.train_with(weight, seed), settings.train_fold)
        twin = _twin(settings, generator, seed, segment)
        first, second = (_generate(settings, one) for one in (seed, seed + _SECOND_SEED))
        compared = Twin(generator, first, settings.test_fold), Twin(generator, second, settings.test_fold)
        recipe = Recipe(segment, settings.train_fold, settings.test_fold, twin, compared)
        cells.append(Cell(Place("synthetic", weight), seed, recipe))
    return cells


def _twin(settings: StudySettings, generator: Generator, seed: int, tiles: SegmentSettings) -> Twin:
    """Only what is needed is painted: the train fold of a large store would take days."""
    return Twin(generator, _generate(settings, seed), settings.train_fold, tiles)


def _generate(settings: StudySettings, seed: int) -> GenerateSettings:
    return settings.generate.model_copy(update={"seed": seed})


def _segment(settings: StudySettings, seed: int, **values: Any) -> SegmentSettings:
    return SegmentSettings.parse({**settings.segment.model_dump(), "seed": seed, **values})
