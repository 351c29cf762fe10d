"""Settings of the study: a class for each of the four sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, model_validator

from geosynth.config.base import Settings, read_yaml
from geosynth.config.train import TrainSettings
from geosynth.config.verbs import GenerateSettings, SegmentSettings, check_test_fold
from geosynth.errors import SettingsError, settings_of

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Lambda = Annotated[float, Field(ge=0)]
ReplaceArm = Literal["mixed", "judged mixed"]
Arm = Literal[
    "real",
    "real + ordinary",
    "real + synthetic",
    "real + synthetic + ordinary",
    "real + judged synthetic + ordinary",
    "real + emphasised synthetic + ordinary",
]
TransferArm = Literal[
    "source",
    "source + ordinary",
    "matched + ordinary",
    "painted + ordinary",
    "source + painted + ordinary",
    "nearer + ordinary",
    "target + ordinary",
    "adapted + ordinary",
    "judged painted + ordinary",
    "emphasised painted + ordinary",
]


def _usual(arms: tuple[Any, ...]) -> tuple[Any, ...]:
    """The default arms: without those with a judge or with emphasised classes, which must be asked for."""
    return tuple(arm for arm in arms if "judged" not in arm and "emphasised" not in arm)


ARMS: tuple[Arm, ...] = _usual(get_args(Arm))
TRANSFER_ARMS: tuple[TransferArm, ...] = _usual(get_args(TransferArm))

# Settings of segmenters, generators and twins that only the study sets.
_SET_BY_STUDY = {
    "segment": ("seed", "subset_seed", "real_tiles", "synthetic_tiles", "pool_tiles", "augment"),
    "train": ("seed",),
    "generate": ("seed", "unknown", "resample", "preview", "stac"),
}


class StudySettings(Settings):
    """What the sweeps share; use `ReplaceSettings`, `AugmentSettings`, `DiversitySettings` or `TransferSettings`."""

    sweep: ClassVar[str]

    seeds: int = Field(default=3, ge=1, le=1000)
    """Number of seeds; intervals need at least two.

    Each means another choice of tiles, another generator (if the study trains it), another synthetic twin and another
    initialisation of the segmenter.
    """
    first_seed: int = Field(default=0, ge=0, lt=2**31)
    """The first seed; the others follow it."""
    train_fold: Literal["train", "val", "test"] = "train"
    """Fold whose tiles segmenters are trained on."""
    test_fold: Literal["train", "val", "test"] = "test"
    """Fold whose real tiles they are tested on."""
    segment: SegmentSettings = SegmentSettings()
    """Settings of every segmenter; the study sets its seed, numbers of tiles and augmentation."""
    train: TrainSettings = TrainSettings()
    """Settings of the generators that the study trains; it sets their seeds."""
    generate: GenerateSettings = GenerateSettings()
    """Settings of the twins' images; the study sets their seeds."""

    @staticmethod
    def resolve(sweep: str, /, *, config: str | Path | None = None, **changes: Any) -> StudySettings:
        """The settings of a sweep: defaults, overridden by a YAML file, overridden by single settings.

        Args:
            sweep: "replace", "augment", "diversity" or "transfer".
            config: a YAML file, in which `segment`, `train` and `generate` are mappings; `train` may name a preset.
            changes: settings by name; those of parts have a dot, as in `**{"segment.steps": 200}`.

        Raises:
            SettingsError: if there is no such sweep, or the file or a setting cannot be used.
        """
        kinds = {kind.sweep: kind for kind in StudySettings.__subclasses__()}
        if sweep not in kinds:
            raise SettingsError(f"there is no {sweep!r}; choose from {', '.join(kinds)}", setting="sweep")
        values = read_yaml(Path(config)) if config else {}
        for name, value in changes.items():
            part, dot, inner = name.partition(".")
            own = values.get(part) or {}
            if dot and isinstance(own, dict):
                values[part] = {**own, inner: value}
            else:
                values[name] = value
        if isinstance(values.get("train"), dict):
            with settings_of("train"):
                values["train"] = TrainSettings.over_preset(values["train"])
        return kinds[sweep].parse(values)

    @property
    def all_seeds(self) -> range:
        """All seeds, in order."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @model_validator(mode="after")
    def _check_shared(self) -> Self:
        for part, names in _SET_BY_STUDY.items():
            given = getattr(self, part)
            for name in names:
                if getattr(given, name) != type(given).model_fields[name].default:
                    raise SettingsError("the study sets it itself; leave it out", setting=f"{part}.{name}")
        if self.train.devices > 1:
            raise SettingsError("a study trains each generator on one device", setting="train.devices")
        check_test_fold(self.train_fold, self.test_fold)
        return self


class ReplaceSettings(StudySettings):
    """The sweep "replace": of a fixed number of tiles, a growing share is synthetic."""

    sweep: ClassVar[str] = "replace"

    tiles: Count = 100
    """Total number of tiles."""
    shares: tuple[Share, ...] = Field(default=(0.0, 0.25, 0.5, 0.75, 1.0), min_length=1)
    """Shares of synthetic tiles to compare, 0 to 1."""
    arms: tuple[ReplaceArm, ...] = Field(default=_usual(get_args(ReplaceArm)), min_length=1)
    """What is compared if there are synthetic tiles.

    "judged mixed", which is not a default arm, leaves out synthetic pixels that the segmenter of the real tiles (share
    0) doubts, see `segment`'s judge.
    """


class EmphasisSettings(Settings):
    """Settings of sweeps that may have an emphasised arm."""

    arms: tuple[str, ...]
    emphasise: dict[str, float] = Field(default_factory=dict)
    """For the emphasised arm: by class name, how many times as often the class shall occur. As many tiles are drawn as
    there are other synthetic ones, and from their places. See `geosynth twin --emphasise`."""

    @model_validator(mode="after")
    def _check_emphasis(self) -> Self:
        if any("emphasised" in arm for arm in self.arms) != bool(self.emphasise):
            raise ValueError("the emphasised arm and emphasise, as in {road: 3}, go together; give both or neither")
        return self


class AugmentSettings(StudySettings, EmphasisSettings):
    """The sweep "augment": to few real tiles, synthetic tiles, ordinary augmentation or both are added.

    Ordinary augmentation is flips, brightness and contrast. All arms take the same number of steps. If no model is
    given, the generator is trained on the real tiles alone.
    """

    sweep: ClassVar[str] = "augment"

    real_tiles: tuple[Count, ...] = Field(default=(10, 20, 40, 80), min_length=1)
    """Numbers of real tiles to compare."""
    synthetic_tiles: Count = 100
    """Number of synthetic tiles that are added."""
    arms: tuple[Arm, ...] = Field(default=ARMS, min_length=1)
    """What is compared; "ordinary" means ordinary augmentation.

    Two kinds are not default arms: "judged" leaves out synthetic pixels that the segmenter of "real + ordinary" doubts,
    see `segment`'s judge; "emphasised" has synthetic tiles of recombined labels, see `emphasise`.
    """


class DiversitySettings(StudySettings):
    """The sweep "diversity": generators with growing weights of the DSGAN term, segmenters trained on their images."""

    sweep: ClassVar[str] = "diversity"

    lambdas: tuple[Lambda, ...] = Field(default=(0.0, 2.0, 4.0, 6.0, 8.0, 10.0), min_length=1)
    """The weights of the term, see `TrainSettings.diversity_weight`."""
    tiles: Count = 100
    """Number of synthetic tiles that a segmenter is trained on."""

    def train_with(self, weight: float, seed: int) -> TrainSettings:
        """Settings of the generator for one weight of the term and one seed."""
        chosen = self.train.model_dump(exclude_unset=True)  # the networks of `init` override all others
        return TrainSettings.parse({**chosen, "diversity_weight": weight, "seed": seed})

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if self.train.diversity_weight:
            what = "the study sets it itself, from lambdas; leave it out"
            raise SettingsError(what, setting="train.diversity_weight")
        for weight in self.lambdas:
            self.train_with(weight, 0)
        return self


class TransferSettings(StudySettings, EmphasisSettings):
    """The sweep "transfer": from a source, with labels and imagery, to a target, with imagery and k labelled tiles.

    Segmenters are trained on the source's tiles and tested on real tiles of the target. For k > 0 they continue from
    the segmenter for k = 0, on the k tiles alone. All with the same k take the same number of steps. The target's
    unlabelled imagery is that of its train fold.
    """

    sweep: ClassVar[str] = "transfer"

    seeds: int = Field(default=5, ge=1, le=1000)
    """As in the other sweeps, but more by default, as a target has few places, on which segmenters differ much."""
    tiles: Count = 100
    """Number of the source's tiles that a segmenter is trained on."""
    target_tiles: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(0,), min_length=1)
    """The values of k, numbers of labelled tiles of the target's train fold, to compare."""
    target_steps: int = Field(default=200, ge=1, lt=2**31)
    """Steps on the k tiles, after `segment.steps` on those of the source."""
    arms: tuple[TransferArm, ...] = Field(default=TRANSFER_ARMS, min_length=1)
    """What is compared.

    "source": the source's real imagery. "matched": the same, matched to the target's histogram in each band. "painted":
    painted in the look of the target, as measured in the k tiles, or in the unlabelled imagery if k is 0. "nearer": the
    result of "source" or "painted", whichever has tiles that are nearer to the target's unlabelled imagery, see
    `evaluation.nearness`; this uses no labels of the target. "adapted": painted by the given generator after adapting
    it to the k tiles; only for k > 0. "target": the k tiles alone, in all steps; only for k > 0. "ordinary": with
    ordinary augmentation. Two kinds are not default arms: "judged" leaves out painted pixels that the segmenter of
    "source + ordinary" doubts, see `segment`'s judge; "emphasised" is painted for recombined labels, see `emphasise`.
    """

    @model_validator(mode="after")
    def _check_look(self) -> Self:
        if self.generate.look is not None:
            raise SettingsError("the study sets it itself; leave it out", setting="generate.look")
        return self
