"""Which notes a study's reader gets, and that their numbers are those of the study."""

from types import SimpleNamespace

import pytest
from studies import AUGMENT, REPLACE, TRANSFER

from geosynth.study.notes import plan_notes, result_notes


def notes_of(settings, num_tiles=100, *, is_given=False):
    return " ".join(plan_notes(settings, num_tiles, is_given=is_given))


@pytest.mark.parametrize("settings", [REPLACE, AUGMENT, TRANSFER])
@pytest.mark.parametrize("seeds", [1, 2])
def test_verdicts_are_explained_where_there_are_intervals(settings, seeds):
    notes = notes_of(settings.model_copy(update={"seeds": seeds}))
    assert notes.startswith("1 seed: " if seeds == 1 else "2 seeds: ")
    assert ("One seed gives no interval" in notes) == (seeds == 1)
    assert ("Verdicts are read off" in notes) == (seeds == 2)


def test_what_a_sweep_does_is_told_of_it_alone():
    for told, sweep in (
        ("stands at the very place", REPLACE),
        ("further places", AUGMENT),
        ("on the target", TRANSFER),
    ):
        assert [told in notes_of(settings) for settings in (REPLACE, AUGMENT, TRANSFER)] == [
            settings is sweep for settings in (REPLACE, AUGMENT, TRANSFER)
        ]


def test_arms_and_shares_are_explained_where_they_are():
    assert "GAN-train" in notes_of(REPLACE)
    assert "GAN-train" not in notes_of(REPLACE.model_copy(update={"shares": (0, 0.5)}))
    assert "nearer arm" in notes_of(TRANSFER)
    assert "nearer arm" not in notes_of(TRANSFER.model_copy(update={"arms": ("source", "painted + ordinary")}))


@pytest.mark.parametrize(
    ("settings", "arm", "judge"),
    [
        (REPLACE, "judged mixed", "the real tiles"),
        (AUGMENT, "real + judged synthetic + ordinary", "the arm real + ordinary"),
        (TRANSFER, "judged painted + ordinary", "the arm source + ordinary"),
    ],
)
def test_who_judges_is_said_where_there_is_a_judge(settings, arm, judge):
    judged = settings.model_copy(update={"arms": (*settings.arms, arm)})
    assert f"the segmenter of {judge} finds less likely than {settings.segment.agreement:g}" in notes_of(judged)
    assert "Judged" not in notes_of(settings)


def test_a_given_generator_has_seen_more():
    """More than what `augment` keeps; the other sweeps keep all."""
    assert [
        "has seen more real tiles" in notes_of(settings, is_given=given)
        for settings, given in ((AUGMENT, True), (AUGMENT, False), (REPLACE, True))
    ] == [True, False, False]


def test_places_that_are_both_real_and_synthetic_are_counted():
    needed = max(AUGMENT.real_tiles) + AUGMENT.synthetic_tiles
    assert "places are both" not in notes_of(AUGMENT, needed)
    assert f"of {needed - 2} tiles, 2 places are both" in notes_of(AUGMENT, needed - 2)


@pytest.mark.parametrize(("tiles", "is_biased"), [(5, True), (1280, True), (1281, False)])
def test_distances_are_explained_where_they_were_measured(tiles, is_biased):
    rows = [SimpleNamespace(result=SimpleNamespace(num_compared=number)) for number in (None, tiles)]
    assert result_notes(rows[:1]) == []
    notes = " ".join(result_notes(rows))
    assert f"those of {tiles} real test tiles" in notes
    assert (f"{tiles} tiles span at most {tiles - 1} of 1280 directions" in notes) == is_biased
