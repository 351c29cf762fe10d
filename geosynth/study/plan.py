"""The cells of a sweep, what each is made of, and which of them are compared."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from geosynth.config import (
    AugmentSettings,
    DiversitySettings,
    GenerateSettings,
    ReplaceSettings,
    SegmentSettings,
    StudySettings,
    TrainSettings,
    TransferSettings,
)
from geosynth.config.study import EmphasisSettings
from geosynth.download import model_path
from geosynth.files import sha256_once
from geosynth.models.state import weights_digest
from geosynth.version import __version__

# They change how long a generator trains and what is shown meanwhile, not what it becomes.
_NOT_OF_THE_MODEL = {"workers", "save_every", "save_minutes", "preview_every", "log_every"}
_CHOOSE_TILES = {"tile_size", "stride", "max_nodata", "real_tiles", "synthetic_tiles", "pool_tiles", "seed"}


def _of_training(train: TrainSettings) -> dict[str, Any]:
    values = train.model_dump(mode="json", exclude=_NOT_OF_THE_MODEL)
    if train.init is not None:  # another model may come to stand there
        values["init"] = sha256_once(model_path(train.init))
    if train.perceptual_path is not None:  # likewise
        values["perceptual_path"] = weights_digest(train.perceptual_file)
    return values


def _of_adaptation(train: TrainSettings) -> dict[str, Any]:
    values = _of_training(train.model_copy(update={"init": None}))
    del values["init"]
    return values


def _of_segmenter(segment: SegmentSettings) -> dict[str, Any]:
    values = segment.model_dump(mode="json")
    if segment.weights_file is not None:  # likewise
        values["weights"] = weights_digest(segment.weights_file)
    return values


Training = Annotated[TrainSettings, PlainSerializer(_of_training)]
"""Settings of a training, of which only what the model depends on is told."""
Segmentation = Annotated[SegmentSettings, PlainSerializer(_of_segmenter)]
"""Settings of a segmenter, with the content of the file that its encoder starts from in place of its name."""
TileChoice = Annotated[SegmentSettings, PlainSerializer(lambda one: one.model_dump(mode="json", include=_CHOOSE_TILES))]
"""Settings of a segmenter, of which only what chooses its tiles is told."""


class _Artifact(BaseModel):
    """What is made once and kept, told by what it is made of."""

    model_config = ConfigDict(frozen=True)


class GivenGenerator(_Artifact):
    """A model file of the user's."""

    path: str = Field(exclude=True)
    sha256: str
    """Of its bytes."""


class TrainedGenerator(_Artifact):
    """A generator that the study trains."""

    train: Training
    """Its seed included."""
    fold: str
    """Whose patches it sees."""
    kept: TileChoice | None = None
    """The segmenter whose real tiles are all that it sees; None for the whole fold."""


class LookedGenerator(_Artifact):
    """The given generator with one more look, `LOOK`: that of a transfer's target."""

    generator: GivenGenerator
    fold: str
    """Of the target, whose imagery tells the look."""
    tile_size: int
    """Of the pieces that it is measured in, pixels."""
    kept: TileChoice | None = None
    """The segmenter whose real tiles, with their labels, tell it; None: all imagery of the fold, without labels."""


class AdaptedGenerator(TrainedGenerator):
    """A generator that the study trains on from the given one, on kept tiles of a transfer's target."""

    train: Annotated[TrainSettings, PlainSerializer(_of_adaptation)]
    """That goes on from `init`, by its path, which the key leaves out."""
    init: GivenGenerator


# A field tells only what its type names: so each kind is named, not its parent alone.
Generator = GivenGenerator | AdaptedGenerator | TrainedGenerator | LookedGenerator


class Twin(_Artifact):
    """Synthetic imagery on the places of the data."""

    generator: Generator
    generate: GenerateSettings
    """Its seed included."""
    fold: str
    """That is painted."""
    tiles: TileChoice | None = None
    """The segmenter whose synthetic tiles are all that is painted of the fold; None for the whole fold."""


class EmphasisedTwin(Twin):
    """A twin of recombined labels: of as many tiles, drawn from the same places."""

    emphasise: tuple[tuple[str, float], ...]
    """How many times as often each class shall come."""


AnyTwin = EmphasisedTwin | Twin


class Recipe(_Artifact):
    """What a cell's result is made of: one segmenter and, if asked for, distances of the images it learned from."""

    segment: Segmentation
    """Its seed, numbers of tiles and augmentation included."""
    train_fold: str
    test_fold: str
    twin: AnyTwin | None = None
    """Where its synthetic tiles come from; None without any."""
    judge: Recipe | None = None
    """Whose segmenter leaves out synthetic pixels; None: all count."""
    compared: tuple[Twin, Twin] | None = None
    """The test fold painted by the same generator with two seeds, for distances; None for none."""


class TransferRecipe(_Artifact):
    """What a cell of a transfer is made of: a segmenter that is tested on the target's real tiles."""

    segment: Segmentation
    """Its seed, steps and augmentation included; the tiles it sees are chosen below."""
    train_fold: str
    test_fold: str
    imagery: tuple[Literal["real", "matched"] | AnyTwin, ...] = ()
    """Of the source's tiles that it sees: real, real with the target's histogram, or painted; () for none of them."""
    tiles: TileChoice | None = None
    """The segmenter whose synthetic tiles are the places of them; None without any."""
    kept: TileChoice | None = None
    """The segmenter whose real tiles of the target it sees; None for none."""
    init: TransferRecipe | None = None
    """Whose segmenter it goes on from; None for a new one."""
    judge: TransferRecipe | None = None
    """Whose segmenter leaves out painted pixels; None: all count."""


class NearerRecipe(_Artifact):
    """What a cell of a transfer is made of that takes over the result of one of two others.

    That of the tiles which are nearer to the target's imagery, see `evaluation.nearness`.
    """

    real: TransferRecipe
    """Whose segmenter learns from the source's real tiles (and then from the target's labelled ones)."""
    painted: TransferRecipe
    """From a twin, in the look of the target, in place of them."""


CellRecipe = Recipe | TransferRecipe | NearerRecipe
Artifact = Generator | AnyTwin | CellRecipe
"""What a study makes and keeps: generators, twins, and results of cells, each named by what it is made of.

Equal ones on equal data are made once.
"""


Task = TrainedGenerator | CellRecipe
"""What is handed out to be made; all else is made by the first task that needs it."""


def needs(artifact: Artifact) -> Iterator[Artifact]:
    """What must be there before it is made, and what that needs; each thing after what it needs."""
    match artifact:
        case LookedGenerator(generator=given):
            direct: tuple[Artifact | str | None, ...] = (given,)
        case AdaptedGenerator(init=given):
            direct = (given,)
        case Twin(generator=generator):
            direct = (generator,)
        case Recipe():
            direct = (artifact.twin, *(artifact.compared or ()), artifact.judge)
        case TransferRecipe():
            direct = (*artifact.imagery, artifact.init, artifact.judge)
        case NearerRecipe():
            direct = (artifact.real, artifact.painted)
        case _:
            direct = ()
    for one in direct:
        if isinstance(one, _Artifact):
            yield from needs(one)
            yield one


def key_of(artifact: Artifact, data: str) -> str:
    """20 hex digits that stand for an artifact, its data and the version of geosynth.

    Args:
        artifact: of a study.
        data: digest of the data, see `PatchSource.digest`.
    """
    made_of = {type(artifact).__name__: artifact.model_dump(mode="json"), "data": data, "version": __version__}
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:20]


LOOK = "target"
"""What the look of a transfer's target is called."""

_SECOND_SEED = 2**31  # of a twin that is compared with the first one: no seed of the study reaches it


class Condition(NamedTuple):
    """What is varied: where a cell stands in tables and figures."""

    arm: str
    """The line: "mixed", "real + synthetic", "synthetic", ..."""
    x: float
    """The setting: share of synthetic tiles, real tiles kept, lambda, or labelled tiles of the target."""


class Cell(NamedTuple):
    """One measurement of a sweep."""

    condition: Condition
    seed: int
    recipe: CellRecipe

    def __str__(self) -> str:
        return f"{self.condition.arm}, {self.condition.x:g}, seed {self.seed}"


class Contrast(NamedTuple):
    """A difference that is of interest, taken seed by seed: `condition` minus `baseline`."""

    condition: Condition
    baseline: Condition


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
        TransferSettings: _transfer,
    }
    return tuple(cell for seed in settings.all_seeds for cell in kinds[type(settings)](settings, given, seed))


def asked_segmenters(artifact: Artifact) -> tuple[CellRecipe, ...]:
    """The cells whose segmenters it asks for, to judge or to go on from."""
    match artifact:
        case Recipe(judge=judge):
            asked: tuple[CellRecipe | None, ...] = (judge,)
        case TransferRecipe(init=init, judge=judge):
            asked = (init, judge)
        case _:
            asked = ()
    return tuple(one for one in asked if one is not None)


def judges_of(cells: Sequence[Cell]) -> frozenset[CellRecipe]:
    """The recipes of the segmenters that judge synthetic tiles of these cells."""
    recipes = {one for cell in cells for one in (*needs(cell.recipe), cell.recipe)}
    judges = (one.judge for one in recipes if isinstance(one, Recipe | TransferRecipe))
    return frozenset(judge for judge in judges if judge is not None)


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
        # The pool is all: synthetic tiles stand in for the very real ones that they replace.
        counts = {"real_tiles": settings.tiles - synthetic, "synthetic_tiles": synthetic, "pool_tiles": settings.tiles}
        return _segment(settings, seed, **counts)

    shares = {share: round(share * settings.tiles) for share in sorted(set(settings.shares))}
    generator = given or _own(settings, seed)
    twin = _twin(settings, generator, seed, segmenter(max(shares.values())))
    cells = []
    for share, synthetic in shares.items():
        recipe = _recipe(settings, segmenter(synthetic), twin if synthetic else None)
        for arm in dict.fromkeys(settings.arms) if synthetic else ("mixed",):
            judge = _recipe(settings, segmenter(0), None) if "judged" in arm else None
            cells.append(Cell(Condition(arm, share), seed, recipe.model_copy(update={"judge": judge})))
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
            recipe = _recipe(settings, segment, of_arm if added else None)
            if "judged" in arm:
                alone = segment.model_copy(update={"synthetic_tiles": 0})
                recipe = recipe.model_copy(update={"judge": _recipe(settings, alone, None)})
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
        recipe = _recipe(settings, segment, twin, (first, second))
        cells.append(Cell(Condition("synthetic", weight), seed, recipe))
    return cells


def _transfer(settings: TransferSettings, given: GivenGenerator | None, seed: int) -> list[Cell]:
    assert given is not None
    folds = {"train_fold": settings.train_fold, "test_fold": settings.test_fold}
    # The pool is all, so that real and painted tiles are of the same places.
    places = _segment(settings, seed, real_tiles=0, synthetic_tiles=settings.tiles, pool_tiles=settings.tiles)

    def twin(generator: Generator, *, emphasised: bool = False) -> Twin:
        look = LOOK if isinstance(generator, LookedGenerator) else None
        generate = settings.generate.model_copy(update={"seed": seed, "look": look})
        painted = Twin(generator=generator, generate=generate, fold=settings.train_fold, tiles=places)
        return _emphasised(painted, settings) if emphasised else painted

    def learned(imagery: list[Any], segment: SegmentSettings, arm: str) -> TransferRecipe:
        judge = learned(["real"], segment, "") if "judged" in arm else None
        return TransferRecipe(segment=segment, **folds, imagery=tuple(imagery), tiles=places, judge=judge)

    def recipe_of(arm: str, k: int) -> TransferRecipe | None:
        """None where an arm knows nothing without labelled tiles."""
        kept = _segment(settings, seed, real_tiles=k, synthetic_tiles=0) if k else None
        looked = LookedGenerator(
            generator=given, fold=settings.train_fold, tile_size=settings.segment.tile_size, kept=kept
        )
        augment = "flips+colour" if "ordinary" in arm else "none"
        first = _segment(settings, seed, augment=augment)
        imagery: list[Any] = [name for word, name in (("source", "real"), ("matched", "matched")) if word in arm]
        if "painted" in arm:
            imagery.append(twin(looked, emphasised="emphasised" in arm))
        if kept is None:
            return learned(imagery, first, arm) if imagery else None
        if "adapted" in arm:
            adapted = AdaptedGenerator(
                train=settings.train.model_copy(update={"seed": seed, "init": given.path}),
                fold=settings.train_fold,
                kept=kept,
                init=given,
            )
            imagery.append(twin(adapted))
        init = learned(imagery, first, arm) if imagery else None
        steps = settings.target_steps + (0 if imagery else first.steps)
        then = _segment(settings, seed, augment=augment, steps=steps)
        return TransferRecipe(segment=then, **folds, kept=kept, init=init)

    cells = []
    for k in sorted(set(settings.target_tiles)):
        for arm in dict.fromkeys(settings.arms):
            recipe: CellRecipe | None
            if "nearer" in arm:
                real, painted = (recipe_of(arm.replace("nearer", one), k) for one in ("source", "painted"))
                assert real is not None
                assert painted is not None
                recipe = NearerRecipe(real=real, painted=painted)
            else:
                recipe = recipe_of(arm, k)
            if recipe is not None:
                cells.append(Cell(Condition(arm, k), seed, recipe))
    return cells


_ANY = GivenGenerator(path="any", sha256="")


def paints(arm: str) -> bool:
    """Whether an arm of a transfer needs the generator."""
    return any(word in arm for word in ("painted", "nearer", "adapted"))


def _recipe(
    settings: StudySettings, segment: SegmentSettings, twin: Twin | None, compared: tuple[Twin, Twin] | None = None
) -> Recipe:
    folds = {"train_fold": settings.train_fold, "test_fold": settings.test_fold}
    return Recipe(segment=segment, **folds, twin=twin, compared=compared)


def _own(settings: StudySettings, seed: int, kept: SegmentSettings | None = None) -> TrainedGenerator:
    train = settings.train.model_copy(update={"seed": seed})
    return TrainedGenerator(train=train, fold=settings.train_fold, kept=kept)


def _twin(settings: StudySettings, generator: Generator, seed: int, tiles: SegmentSettings) -> Twin:
    """Only what is needed is painted: the train fold of a large store would take days."""
    return Twin(generator=generator, generate=_generate(settings, seed), fold=settings.train_fold, tiles=tiles)


def _emphasised(twin: Twin, settings: EmphasisSettings) -> EmphasisedTwin:
    return EmphasisedTwin(**dict(twin), emphasise=tuple(sorted(settings.emphasise.items())))


def _generate(settings: StudySettings, seed: int) -> GenerateSettings:
    return settings.generate.model_copy(update={"seed": seed})


def _segment(settings: StudySettings, seed: int, **values: Any) -> SegmentSettings:
    return SegmentSettings.parse({**settings.segment.model_dump(), "seed": seed, **values})
