"""The cells of a sweep, and which of them are compared."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from geosynth.config import (
    AugmentSettings,
    DiversitySettings,
    GenerateSettings,
    ReplaceSettings,
    SegmentSettings,
    StudySettings,
    TransferSettings,
)
from geosynth.config.study import EmphasisSettings
from geosynth.study.recipes import (
    LOOK,
    AdaptedGenerator,
    Artifact,
    CellRecipe,
    EmphasisedTwin,
    Generator,
    GivenGenerator,
    LookedGenerator,
    NearerRecipe,
    Recipe,
    TrainedGenerator,
    TransferRecipe,
    Twin,
    needs,
)

_SECOND_SEED = 2**31  # added for the twin that is compared with the first one; no seed of the study is as large


class Condition(NamedTuple):
    """What is varied: the place of a cell in tables and figures."""

    arm: str
    """The arm, a line in figures: "mixed", "real + synthetic", "synthetic", ..."""
    x: float
    """The setting: share of synthetic tiles, number of real tiles, lambda, or labelled tiles of the target."""


class Cell(NamedTuple):
    """One measurement of a sweep."""

    condition: Condition
    seed: int
    recipe: CellRecipe

    def __str__(self) -> str:
        return f"{self.condition.arm}, {self.condition.x:g}, seed {self.seed}"


class Contrast(NamedTuple):
    """A difference of interest, for each seed: `condition` minus `baseline`."""

    condition: Condition
    baseline: Condition


def plan_cells(settings: StudySettings, given: GivenGenerator | None) -> tuple[Cell, ...]:
    """All cells, seed by seed, so that a study that is stopped early has complete seeds.

    Args:
        settings: of a sweep.
        given: the generator; None if the study trains one for each seed (and number of real tiles, or lambda).
    """
    kinds: dict[type[StudySettings], Any] = {
        ReplaceSettings: _replace,
        AugmentSettings: _augment,
        DiversitySettings: _diversity,
        TransferSettings: _transfer,
    }
    return tuple(cell for seed in settings.all_seeds for cell in kinds[type(settings)](settings, given, seed))


def artifacts_of(cells: Sequence[Cell]) -> list[Artifact]:
    """Cells and everything that they need, each once, and after what it needs itself."""
    return list(dict.fromkeys(one for cell in cells for one in (*needs(cell.recipe), cell.recipe)))


def contrasts(settings: StudySettings) -> tuple[Contrast, ...]:
    """Replace: each share against the smallest; judged ones also against the same share as it is. Augment: each
    addition against the arms without it, at equal real tiles. Diversity: each lambda against the smallest. Transfer:
    each arm with a generator against each one without, at equal labelled tiles of the target.
    """  # noqa: D205 - one sentence a sweep
    if isinstance(settings, AugmentSettings):
        pairs = [
            ("real + ordinary", "real"),
            ("real + synthetic", "real"),
            ("real + synthetic", "real + ordinary"),
            ("real + synthetic + ordinary", "real + ordinary"),
            ("real + judged synthetic + ordinary", "real + ordinary"),
            ("real + judged synthetic + ordinary", "real + synthetic + ordinary"),
            ("real + emphasised synthetic + ordinary", "real + ordinary"),
            ("real + emphasised synthetic + ordinary", "real + synthetic + ordinary"),
        ]
        arms = set(settings.arms)
        return tuple(
            Contrast(Condition(arm, kept), Condition(baseline, kept))
            for arm, baseline in pairs
            if {arm, baseline} <= arms
            for kept in sorted(set(settings.real_tiles))
        )
    if isinstance(settings, TransferSettings):
        found = dict.fromkeys(cell.condition for cell in _transfer(settings, _ANY, settings.first_seed))
        return tuple(
            Contrast(condition, baseline)
            for condition in found
            if paints(condition.arm)
            for baseline in found
            if baseline.x == condition.x and not paints(baseline.arm)
        )
    found = dict.fromkeys(cell.condition for cell in plan_cells(settings, None))
    first, *others = sorted(found, key=lambda condition: condition.x)
    judged = [condition for condition in others if "judged" in condition.arm]
    at_equal_shares = [(one, other) for one in judged for other in others if one.x == other.x and one != other]
    return tuple(Contrast(*pair) for pair in [*((each, first) for each in others), *at_equal_shares])


def _replace(settings: ReplaceSettings, given: GivenGenerator | None, seed: int) -> list[Cell]:
    def segmenter(synthetic: int) -> SegmentSettings:
        # Real and synthetic tiles are the whole pool, so synthetic tiles are at the places of those they replace.
        counts = {"real_tiles": settings.tiles - synthetic, "synthetic_tiles": synthetic, "pool_tiles": settings.tiles}
        return _segment(settings, seed, **counts)

    shares = {share: round(share * settings.tiles) for share in sorted(set(settings.shares))}
    generator = given or _own(settings, seed)
    twin = _twin(settings, generator, seed, segmenter(max(shares.values())))
    cells = []
    for share, synthetic in shares.items():
        for arm in dict.fromkeys(settings.arms) if synthetic else ("mixed",):
            judge = _recipe(settings, segmenter(0)) if "judged" in arm else None
            recipe = _recipe(settings, segmenter(synthetic), twin=twin if synthetic else None, judge=judge)
            cells.append(Cell(Condition(arm, share), seed, recipe))
    return cells


def _augment(settings: AugmentSettings, given: GivenGenerator | None, seed: int) -> list[Cell]:
    cells = []
    painted = _segment(settings, seed, real_tiles=0, synthetic_tiles=settings.synthetic_tiles)
    for kept in sorted(set(settings.real_tiles)):
        seen = _segment(settings, seed, real_tiles=kept, synthetic_tiles=0)
        twin = _twin(settings, given or _own(settings, seed, seen), seed, painted)
        for arm in dict.fromkeys(settings.arms):
            added = settings.synthetic_tiles if "synthetic" in arm else 0
            augment = "flips+colour" if "ordinary" in arm else "none"
            segment = _segment(settings, seed, real_tiles=kept, synthetic_tiles=added, augment=augment)
            of_arm = _emphasised(twin, settings) if "emphasised" in arm else twin
            alone = segment.model_copy(update={"synthetic_tiles": 0})
            judge = _recipe(settings, alone) if "judged" in arm else None
            recipe = _recipe(settings, segment, twin=of_arm if added else None, judge=judge)
            cells.append(Cell(Condition(arm, kept), seed, recipe))
    return cells


def _diversity(settings: DiversitySettings, given: GivenGenerator | None, seed: int) -> list[Cell]:
    segment = _segment(settings, seed, real_tiles=0, synthetic_tiles=settings.tiles)
    cells = []
    for weight in sorted(set(settings.lambdas)):
        generator = TrainedGenerator(train=settings.train_with(weight, seed), fold=settings.train_fold)
        twin = _twin(settings, generator, seed, segment)
        first, second = (
            Twin(generator=generator, generate=_generate(settings, one), fold=settings.test_fold)
            for one in (seed, seed + _SECOND_SEED)
        )
        recipe = _recipe(settings, segment, twin=twin, compared=(first, second))
        cells.append(Cell(Condition("synthetic", weight), seed, recipe))
    return cells


def _transfer(settings: TransferSettings, given: GivenGenerator | None, seed: int) -> list[Cell]:
    assert given is not None
    cells = []
    for k in sorted(set(settings.target_tiles)):
        for arm in dict.fromkeys(settings.arms):
            recipe: CellRecipe | None
            if "nearer" in arm:
                real, painted = (
                    _transferred(settings, given, seed, arm.replace("nearer", one), k) for one in ("source", "painted")
                )
                assert real is not None
                assert painted is not None
                recipe = NearerRecipe(real=real, painted=painted)
            else:
                recipe = _transferred(settings, given, seed, arm, k)
            if recipe is not None:
                cells.append(Cell(Condition(arm, k), seed, recipe))
    return cells


def _transferred(
    settings: TransferSettings, given: GivenGenerator, seed: int, arm: str, k: int
) -> TransferRecipe | None:
    """The recipe of an arm with `k` labelled tiles of the target; None where it knows nothing without any."""
    folds = {"train_fold": settings.train_fold, "test_fold": settings.test_fold}
    # The tiles are the whole pool, so that real and painted tiles are of the same places.
    places = _segment(settings, seed, real_tiles=0, synthetic_tiles=settings.tiles, pool_tiles=settings.tiles)
    augment = "flips+colour" if "ordinary" in arm else "none"
    first = _segment(settings, seed, augment=augment)

    def learned() -> TransferRecipe:
        """A recipe for training on the imagery listed so far, with the source's labels."""
        judge = TransferRecipe(segment=first, **folds, imagery=("real",), tiles=places) if "judged" in arm else None
        return TransferRecipe(segment=first, **folds, imagery=tuple(imagery), tiles=places, judge=judge)

    kept = _segment(settings, seed, real_tiles=k, synthetic_tiles=0) if k else None
    looked = LookedGenerator(generator=given, fold=settings.train_fold, tile_size=settings.segment.tile_size, kept=kept)
    imagery: list[Any] = [name for word, name in (("source", "real"), ("matched", "matched")) if word in arm]
    if "painted" in arm:
        twin = _twin(settings, looked, seed, places)
        imagery.append(_emphasised(twin, settings) if "emphasised" in arm else twin)
    if kept is None:
        return learned() if imagery else None
    if "adapted" in arm:
        adapted = AdaptedGenerator(
            train=settings.train.model_copy(update={"seed": seed, "init": given.path}),
            fold=settings.train_fold,
            kept=kept,
            init=given,
        )
        imagery.append(_twin(settings, adapted, seed, places))
    steps = settings.target_steps + (0 if imagery else first.steps)
    then = _segment(settings, seed, augment=augment, steps=steps)
    return TransferRecipe(segment=then, **folds, kept=kept, init=learned() if imagery else None)


_ANY = GivenGenerator(path="any", sha256="")


def paints(arm: str) -> bool:
    """Whether an arm of a transfer needs the generator."""
    return any(word in arm for word in ("painted", "nearer", "adapted"))


def _recipe(
    settings: StudySettings,
    segment: SegmentSettings,
    *,
    twin: Twin | None = None,
    judge: Recipe | None = None,
    compared: tuple[Twin, Twin] | None = None,
) -> Recipe:
    folds = {"train_fold": settings.train_fold, "test_fold": settings.test_fold}
    return Recipe(segment=segment, **folds, twin=twin, judge=judge, compared=compared)


def _own(settings: StudySettings, seed: int, kept: SegmentSettings | None = None) -> TrainedGenerator:
    train = settings.train.model_copy(update={"seed": seed})
    return TrainedGenerator(train=train, fold=settings.train_fold, kept=kept)


def _twin(settings: StudySettings, generator: Generator, seed: int, tiles: SegmentSettings) -> Twin:
    """A twin of only the tiles that are needed, as painting the train fold of a large store would take days."""
    generate = _generate(settings, seed)
    if isinstance(generator, LookedGenerator):
        generate = generate.model_copy(update={"look": LOOK})
    return Twin(generator=generator, generate=generate, fold=settings.train_fold, tiles=tiles)


def _emphasised(twin: Twin, settings: EmphasisSettings) -> EmphasisedTwin:
    return EmphasisedTwin(**dict(twin), emphasise=tuple(sorted(settings.emphasise.items())))


def _generate(settings: StudySettings, seed: int) -> GenerateSettings:
    return settings.generate.model_copy(update={"seed": seed})


def _segment(settings: StudySettings, seed: int, **values: Any) -> SegmentSettings:
    return SegmentSettings.parse({**settings.segment.model_dump(), "seed": seed, **values})
