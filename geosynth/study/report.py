"""StudyReport: the numbers of a sweep, finished or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from geosynth.estimate import Estimate, mean_over_seeds
from geosynth.evaluation.measures import Part
from geosynth.segmentation.scores import miou_estimate
from geosynth.study.operations import CellResult
from geosynth.study.plan import Condition, Contrast


def _from_json(value: Any) -> Any:
    """A mean over seeds in results.json, where its value is called "mean"."""
    if isinstance(value, dict):
        return {"value" if name == "mean" else name: one for name, one in value.items()}
    return value


def _to_json(mean: Estimate) -> dict[str, Any]:
    return {"mean": mean.value, "low": mean.low, "high": mean.high, "n": mean.n}


SeedMean = Annotated[Estimate, BeforeValidator(_from_json), PlainSerializer(_to_json, when_used="json")]
"""A mean over seeds and its t interval."""


class Row(Part):
    """One setting of one arm (see `plan.Condition`), over its finished seeds."""

    arm: str
    x: float
    seeds: tuple[int, ...]
    real_tiles: int
    """Number of real tiles that each of its segmenters was trained on."""
    synthetic_tiles: int
    """Number of synthetic tiles that each was trained on."""
    miou: SeedMean
    """Mean IoU on the real test tiles, 0 to 1."""
    over_places: Estimate | None = None
    """The same mean IoU, with the interval from draws of the test places; None for old cells without these."""
    accuracy: SeedMean | None = None
    """Share of the test pixels that are right; None for old cells without it."""
    class_iou: dict[str, float | None]
    """IoU of each class, mean over seeds; None if the class never occurs."""
    frechet: dict[str, SeedMean]
    """Squared Frechet distance by feature space; empty if no images were compared."""
    diversity: SeedMean | None
    """Mean absolute difference of two realisations; None if no images were compared."""


class Difference(Part):
    """Difference between an arm and its baseline, paired by seed, over the seeds that both have."""

    arm: str
    x: float
    baseline: str
    baseline_x: float
    miou: SeedMean
    over_places: Estimate | None = None
    """The same difference, with the interval from draws of places, which are drawn for both sides together."""


class Missing(Part):
    """A cell without a result: what it is, and why."""

    cell: str
    reason: str


class CellRow(Part):
    """One finished cell."""

    arm: str
    x: float
    seed: int
    key: str
    """See `recipes.key_of`."""
    result: CellResult


class StudyReport(Part):
    """A sweep's results."""

    sweep: str
    """ "replace", "augment", "diversity" or "transfer"."""
    software: str
    data: str
    """Path of the store."""
    digest: str
    """Of the store's content, see `PatchSource.digest`."""
    generator: str
    """What the synthetic tiles come from, in words."""
    settings: dict[str, Any]
    test_tiles: int | None
    """Number of real tiles that every segmenter is tested on; None before the first cell is finished."""
    rows: tuple[Row, ...]
    """One for each arm and setting."""
    differences: tuple[Difference, ...]
    cells: tuple[CellRow, ...]
    """Finished cells."""
    missing: tuple[Missing, ...]
    """Cells without a result."""
    notes: tuple[str, ...]
    """What a reader must know, one sentence each."""

    @property
    def feature_spaces(self) -> list[str]:
        """Names of the spaces in which Frechet distances were measured."""
        return sorted({name for row in self.rows for name in row.frechet})

    def to_json(self) -> str:
        """The report as JSON, with a line feed at the end."""
        return self.model_dump_json(indent=1) + "\n"


def tabulate_rows(cells: Sequence[CellRow]) -> tuple[Row, ...]:
    """Combine cells with the same arm and setting to one row, in the order of their first cells."""
    groups: dict[tuple[str, float], list[CellRow]] = {}
    for cell in cells:
        groups.setdefault((cell.arm, cell.x), []).append(cell)
    return tuple(_row(arm, x, members) for (arm, x), members in groups.items())


def _row(arm: str, x: float, cells: Sequence[CellRow]) -> Row:
    results = [cell.result for cell in cells]
    accurate = [result.accuracy for result in results if result.accuracy is not None]
    diverse = [result.diversity for result in results if result.diversity is not None]
    spaces = {name for result in results for name in result.frechet or {}}
    return Row(
        arm=arm,
        x=x,
        seeds=tuple(cell.seed for cell in cells),
        real_tiles=results[0].num_real,
        synthetic_tiles=results[0].num_synthetic,
        miou=mean_over_seeds([result.miou for result in results]),
        over_places=_over_places(results),
        accuracy=mean_over_seeds(accurate) if accurate else None,
        class_iou={name: _mean_known([one.class_iou[name] for one in results]) for name in results[0].class_iou},
        frechet={
            name: mean_over_seeds([(result.frechet or {})[name] for result in results]) for name in sorted(spaces)
        },
        diversity=mean_over_seeds(diverse) if diverse else None,
    )


def _over_places(results: Sequence[CellResult], baselines: Sequence[CellResult] = ()) -> Estimate | None:
    """The estimate over places for cells with the same arm and setting; None if one has no results by place."""
    models, others = ([one.place_confusions for one in side] for side in (results, baselines))
    return miou_estimate(models, others) if all(models) and all(others) else None


def _mean_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean_over_seeds(known).value if known else None


def tabulate_differences(cells: Sequence[CellRow], contrasts: Sequence[Contrast]) -> tuple[Difference, ...]:
    """Differences paired by seed; contrasts without a seed that has both sides are left out."""
    results: dict[tuple[Condition, int], CellResult] = {
        (Condition(cell.arm, cell.x), cell.seed): cell.result for cell in cells
    }
    seeds = sorted({cell.seed for cell in cells})
    found = []
    for contrast in contrasts:
        pairs = [
            (results[contrast.condition, seed], results[contrast.baseline, seed])
            for seed in seeds
            if (contrast.condition, seed) in results and (contrast.baseline, seed) in results
        ]
        if pairs:
            found.append(
                Difference(
                    arm=contrast.condition.arm,
                    x=contrast.condition.x,
                    baseline=contrast.baseline.arm,
                    baseline_x=contrast.baseline.x,
                    miou=mean_over_seeds([one.miou - other.miou for one, other in pairs]),
                    over_places=_over_places(*zip(*pairs, strict=True)),
                )
            )
    return tuple(found)
