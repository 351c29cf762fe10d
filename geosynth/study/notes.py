"""Notes on what a reader of a study's results must know, of one or two sentences each."""

from __future__ import annotations

from collections.abc import Sequence

from geosynth.config import AugmentSettings, ReplaceSettings, StudySettings, TransferSettings
from geosynth.errors import counted
from geosynth.evaluation.distances import bias_note
from geosynth.study.report import CellRow

_NUM_FEATURES = 1280  # of EfficientNet-Lite0


def plan_notes(settings: StudySettings, num_tiles: int, *, is_given: bool) -> list[str]:
    """Notes that follow from the plan.

    Args:
        settings: of the sweep.
        num_tiles: number of tiles in the train fold.
        is_given: whether the user gave the generator.
    """
    notes = [
        f"{counted(settings.seeds, 'seed')}: each draws tiles, weights and images anew; the test tiles are the same for"
        " all, so the intervals over seeds say nothing of other areas. Those over places say how far the means rest on"
        " which clusters of touching test scenes there are; fewer than three make none.",
        f"Every segmenter takes {settings.segment.steps} steps of {settings.segment.batch_size} tiles, whatever it is"
        " trained on.",
    ]
    if settings.seeds < 2:
        notes.append("One seed gives no interval.")
    else:
        notes.append("Verdicts are read off one 95 % interval each: of twenty equal pairs about one looks different.")
    if isinstance(settings, TransferSettings):
        notes += _of_transfer(settings)
    if isinstance(settings, ReplaceSettings):
        notes += _of_replace(settings)
    if isinstance(settings, AugmentSettings):
        notes += _of_augment(settings, num_tiles)
        if is_given:
            notes.append("The generator was given: it has seen more real tiles than the few that are kept.")
    return notes


def _of_transfer(settings: TransferSettings) -> list[str]:
    notes = [
        "Tested on the target, whose unlabelled imagery (of its train fold) the matched and painted arms see."
        f" Cells of k > 0 labelled tiles take {settings.target_steps} further steps on them alone; the arm"
        " that knows only these takes as many in all."
    ]
    if any("nearer" in arm for arm in settings.arms):
        notes.append(
            "The nearer arm takes over, seed by seed, what came of the source's real tiles or of the painted ones:"
            " of those whose kernel distance to the target's unlabelled imagery is smaller, in features of"
            " EfficientNet-Lite0."
        )
    return [*notes, *_of_judged(settings, "the arm source + ordinary")]


def _of_replace(settings: ReplaceSettings) -> list[str]:
    notes = [
        "A synthetic tile stands at the very place of the real one that it replaces.",
        *_of_judged(settings, "the real tiles"),
    ]
    if 1 in settings.shares:
        notes.append(
            "With synthetic tiles only, the mIoU is what Shmelkov et al. (2018) call GAN-train, the accuracy the"
            " classification accuracy score of Ravuri and Vinyals (2019), both for pixels."
        )
    return notes


def _of_augment(settings: AugmentSettings, num_tiles: int) -> list[str]:
    notes = [
        "Synthetic tiles have the true labels of further places, which the arms without them do not see; what they"
        " add is the worth of these labels and of the images together."
    ]
    kept, added = max(settings.real_tiles), settings.synthetic_tiles
    if kept + added > num_tiles:
        notes.append(
            f"With {kept} real and {added} synthetic of {num_tiles} tiles, {kept + added - num_tiles} places are both."
        )
    return [*notes, *_of_judged(settings, "the arm real + ordinary")]


def _of_judged(settings: ReplaceSettings | AugmentSettings | TransferSettings, judge: str) -> list[str]:
    if not any("judged" in arm for arm in settings.arms):
        return []
    return [
        f"Judged tiles lack the synthetic pixels whose class the segmenter of {judge} finds less likely than"
        f" {settings.segment.agreement:g}: they hold what it knows, too."
    ]


def result_notes(rows: Sequence[CellRow]) -> list[str]:
    """Notes that follow from the finished cells: about distances, if some were measured."""
    compared = [row.result.num_compared for row in rows if row.result.num_compared is not None]
    if not compared:
        return []
    bias = bias_note(compared[0], _NUM_FEATURES)
    return [
        f"Frechet distances are those of {compared[0]} real test tiles and as many synthetic ones in features of"
        " EfficientNet-Lite0; they must not be compared with published FID values.",
        *([f"{bias[0].upper()}{bias[1:]}."] if bias else []),
        "Diversity is the mean absolute difference between two realisations of the same labels.",
    ]
