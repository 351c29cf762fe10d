"""Recipes: generators, twins and results of cells, each described by everything that it depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from geosynth.config import GenerateSettings, SegmentSettings, TrainSettings
from geosynth.download import model_path
from geosynth.inputs import sha256_once
from geosynth.models.state import weights_digest
from geosynth.version import __version__

LOOK = "target"
"""Name of the look of a transfer's target."""

# Settings that affect how a generator is trained and what is shown meanwhile, but not the result.
_NOT_OF_THE_MODEL = {"workers", "save_every", "save_minutes", "preview_every", "log_every"}
_CHOOSE_TILES = {"tile_size", "stride", "max_nodata", "real_tiles", "synthetic_tiles", "pool_tiles", "seed"}


def _of_training(train: TrainSettings) -> dict[str, Any]:
    values = train.model_dump(mode="json", exclude=_NOT_OF_THE_MODEL)
    if train.init is not None:  # the file at this path may change
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
"""Settings of a training; a recipe contains only those that the model depends on."""
Segmentation = Annotated[SegmentSettings, PlainSerializer(_of_segmenter)]
"""Settings of a segmenter; a recipe contains the digest of the file of initial weights instead of its name."""
TileChoice = Annotated[SegmentSettings, PlainSerializer(lambda one: one.model_dump(mode="json", include=_CHOOSE_TILES))]
"""Settings of a segmenter; a recipe contains only those that choose its tiles."""


class _Artifact(BaseModel):
    """Something that is made once and kept, described by what it is made from."""

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
    """The segmenter whose real tiles it is trained on; None for the whole fold."""


class LookedGenerator(_Artifact):
    """The given generator with one more look, `LOOK`: that of a transfer's target."""

    generator: GivenGenerator
    fold: str
    """The target's fold in whose imagery the look is measured."""
    tile_size: int
    """Side, in pixels, of the tiles in which the look is measured."""
    kept: TileChoice | None = None
    """The segmenter in whose real tiles, with their labels, it is measured; None for all imagery of the fold, without
    labels."""


class AdaptedGenerator(TrainedGenerator):
    """The given generator, trained further on labelled tiles of a transfer's target."""

    train: Annotated[TrainSettings, PlainSerializer(_of_adaptation)]
    """Settings of the training, which starts from `init`, whose path is not part of the key."""
    init: GivenGenerator


# A field serialises only what its declared type has, so all kinds are listed, not only their parents.
Generator = GivenGenerator | AdaptedGenerator | TrainedGenerator | LookedGenerator


class Twin(_Artifact):
    """Synthetic imagery on the places of the data."""

    generator: Generator
    generate: GenerateSettings
    """How it is painted, with its seed."""
    fold: str
    """The fold that is painted."""
    tiles: TileChoice | None = None
    """The segmenter for whose synthetic tiles the fold is painted; None for the whole fold."""


class EmphasisedTwin(Twin):
    """A twin of recombined labels, with as many tiles, drawn from the same places."""

    emphasise: tuple[tuple[str, float], ...]
    """How many times as often each class shall occur."""


AnyTwin = EmphasisedTwin | Twin


class Recipe(_Artifact):
    """The recipe of a cell: one segmenter and, if asked for, distances of the images that it learned from."""

    segment: Segmentation
    """Settings of the segmenter, with its seed, numbers of tiles and augmentation."""
    train_fold: str
    test_fold: str
    twin: AnyTwin | None = None
    """The twin with its synthetic tiles; None for none."""
    judge: Recipe | None = None
    """The cell whose segmenter decides which synthetic pixels are left out; None to keep all."""
    compared: tuple[Twin, Twin] | None = None
    """The test fold, painted by the same generator with two seeds, to measure distances; None for none."""


class TransferRecipe(_Artifact):
    """The recipe of a cell of a transfer: a segmenter that is tested on the target's real tiles."""

    segment: Segmentation
    """Settings of the segmenter, with its seed, steps and augmentation; the tiles it sees are chosen below."""
    train_fold: str
    test_fold: str
    imagery: tuple[Literal["real", "matched"] | AnyTwin, ...] = ()
    """Kinds of the source's tiles that it sees: real, real with the target's histogram, or painted; may be empty."""
    tiles: TileChoice | None = None
    """The segmenter whose synthetic tiles are at their places; None if there are none."""
    kept: TileChoice | None = None
    """The segmenter whose real tiles of the target it sees; None for none."""
    init: TransferRecipe | None = None
    """The cell whose segmenter is trained further; None for a new one."""
    judge: TransferRecipe | None = None
    """The cell whose segmenter decides which painted pixels are left out; None to keep all."""


class NearerRecipe(_Artifact):
    """The recipe of a cell of a transfer that takes over the result of one of two others.

    It takes the one whose tiles are nearer to the target's imagery, see `evaluation.nearness`.
    """

    real: TransferRecipe
    """The cell whose segmenter learns from the source's real tiles (and then from the target's labelled ones)."""
    painted: TransferRecipe
    """The cell whose segmenter learns from painted tiles, in the look of the target, in place of the real ones."""


CellRecipe = Recipe | TransferRecipe | NearerRecipe
Artifact = Generator | AnyTwin | CellRecipe
"""What a study makes and keeps: generators, twins, and results of cells, each named after what it is made from.

Equal ones on equal data are made only once.
"""


Task = TrainedGenerator | CellRecipe
"""Artifacts that are handed out as tasks; all others are made by the first task that needs them."""


def needs(artifact: Artifact) -> Iterator[Artifact]:
    """Everything that must exist before an artifact is made, in an order in which it can be made."""
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
    """The cells whose segmenters an artifact needs, as a judge or to train further."""
    match artifact:
        case Recipe(judge=judge):
            asked: tuple[CellRecipe | None, ...] = (judge,)
        case TransferRecipe(init=init, judge=judge):
            asked = (init, judge)
        case _:
            asked = ()
    return tuple(one for one in asked if one is not None)


def key_of(artifact: Artifact, data: str) -> str:
    """20 hex digits that identify an artifact, its data and the version of geosynth.

    Args:
        artifact: of a study.
        data: digest of the data, see `PatchSource.digest`.
    """
    made_of = {type(artifact).__name__: artifact.model_dump(mode="json"), "data": data, "version": __version__}
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:20]
