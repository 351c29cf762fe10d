"""What a study makes and keeps, each thing told by all that it is made of: generators, twins, results of cells."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from geosynth.config import GenerateSettings, SegmentSettings, TrainSettings
from geosynth.download import model_path
from geosynth.files import sha256_once
from geosynth.models.state import weights_digest
from geosynth.version import __version__

LOOK = "target"
"""What the look of a transfer's target is called."""

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
    """SHA-256 of its bytes."""


class TrainedGenerator(_Artifact):
    """A generator that the study trains."""

    train: Training
    """Settings of the training, with its seed."""
    fold: str
    """The fold whose patches it sees."""
    kept: TileChoice | None = None
    """The segmenter whose real tiles are all that it sees; None for the whole fold."""


class LookedGenerator(_Artifact):
    """The given generator with one more look, `LOOK`: that of a transfer's target."""

    generator: GivenGenerator
    fold: str
    """The target's fold whose imagery tells the look."""
    tile_size: int
    """Side of the pieces that the look is measured in, pixels."""
    kept: TileChoice | None = None
    """The segmenter whose real tiles, with their labels, tell it; None: all imagery of the fold, without labels."""


class AdaptedGenerator(TrainedGenerator):
    """A generator that the study trains on from the given one, on kept tiles of a transfer's target."""

    train: Annotated[TrainSettings, PlainSerializer(_of_adaptation)]
    """Settings of the training, which goes on from `init`; the key leaves out the path of that."""
    init: GivenGenerator


# A field tells only what its type names: so each kind is named, not its parent alone.
Generator = GivenGenerator | AdaptedGenerator | TrainedGenerator | LookedGenerator


class Twin(_Artifact):
    """Synthetic imagery on the places of the data."""

    generator: Generator
    generate: GenerateSettings
    """How it is painted, with its seed."""
    fold: str
    """The fold that is painted."""
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
    """Settings of the segmenter, with its seed, numbers of tiles and augmentation."""
    train_fold: str
    test_fold: str
    twin: AnyTwin | None = None
    """Where its synthetic tiles come from; None without any."""
    judge: Recipe | None = None
    """The cell whose segmenter says which synthetic pixels are left out; None: all count."""
    compared: tuple[Twin, Twin] | None = None
    """The test fold painted by the same generator with two seeds, for distances; None for none."""


class TransferRecipe(_Artifact):
    """What a cell of a transfer is made of: a segmenter that is tested on the target's real tiles."""

    segment: Segmentation
    """Settings of the segmenter, with its seed, steps and augmentation; the tiles it sees are chosen below."""
    train_fold: str
    test_fold: str
    imagery: tuple[Literal["real", "matched"] | AnyTwin, ...] = ()
    """Of the source's tiles that it sees: real, real with the target's histogram, or painted; () for none of them."""
    tiles: TileChoice | None = None
    """The segmenter whose synthetic tiles are the places of them; None without any."""
    kept: TileChoice | None = None
    """The segmenter whose real tiles of the target it sees; None for none."""
    init: TransferRecipe | None = None
    """The cell whose segmenter it goes on from; None for a new one."""
    judge: TransferRecipe | None = None
    """The cell whose segmenter says which painted pixels are left out; None: all count."""


class NearerRecipe(_Artifact):
    """What a cell of a transfer is made of that takes over the result of one of two others.

    It takes that of the tiles which are nearer to the target's imagery, see `evaluation.nearness`.
    """

    real: TransferRecipe
    """The cell whose segmenter learns from the source's real tiles (and then from the target's labelled ones)."""
    painted: TransferRecipe
    """The cell whose segmenter learns from painted tiles, in the look of the target, in place of the real ones."""


CellRecipe = Recipe | TransferRecipe | NearerRecipe
Artifact = Generator | AnyTwin | CellRecipe
"""What a study makes and keeps: generators, twins, and results of cells, each named by what it is made of.

Equal ones on equal data are made once.
"""


Task = TrainedGenerator | CellRecipe
"""What is handed out to be made; all else is made by the first task that needs it."""


def needs(artifact: Artifact) -> Iterator[Artifact]:
    """All that must be there before an artifact is made, in an order in which it can be made."""
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


def asked_segmenters(artifact: Artifact) -> tuple[CellRecipe, ...]:
    """The cells whose segmenters an artifact asks for, to judge or to go on from."""
    match artifact:
        case Recipe(judge=judge):
            asked: tuple[CellRecipe | None, ...] = (judge,)
        case TransferRecipe(init=init, judge=judge):
            asked = (init, judge)
        case _:
            asked = ()
    return tuple(one for one in asked if one is not None)


def key_of(artifact: Artifact, data: str) -> str:
    """20 hex digits that stand for an artifact, its data and the version of geosynth.

    Args:
        artifact: of a study.
        data: digest of the data, see `PatchSource.digest`.
    """
    made_of = {type(artifact).__name__: artifact.model_dump(mode="json"), "data": data, "version": __version__}
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:20]
