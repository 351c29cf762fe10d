"""The lines that each part of a report has in the summary: with numbers, and with the reason why there are none."""

from __future__ import annotations

from typing import Any

import pytest

from geosynth.estimate import Estimate
from geosynth.evaluation.measures import (
    BandLevels,
    ConsistencyComparison,
    Distance,
    DiversityComparison,
    FeatureComparison,
    FrechetComparison,
    ImageLevels,
    MemorisationComparison,
    Nearness,
    SeamComparison,
    SpectrumComparison,
)

ONE, TWO, THREE = (Estimate(value=value, low=value - 0.5, high=value + 0.5, n=9) for value in (1.5, 2.5, 3.5))
DISTANCE = Distance(estimate=ONE, real=Estimate(value=0.25, low=0.125, high=0.5), across=TWO, turned=THREE)
FREE: dict[str, Any] = {"feature_space": "simple", "num_features": 4, "min_tiles": 2}
SPECTRUM: dict[str, Any] = {"num_tiles": 1, "frequencies": (), "ratio": {}}
SETS: dict[str, Any] = {"num_features": 4, "reference": "test", "num_real": 9, "num_synthetic": 8, "num_places": 7}
RED = BandLevels(band="red", low=1, high=900, real_beyond=0.002, synthetic_beyond=0.01)
NIR = BandLevels(band="nir", low=2.5, high=800, real_beyond=0.004, synthetic_beyond=0)


@pytest.mark.parametrize(
    ("part", "rows"),
    [
        (
            FrechetComparison(**FREE, num_tiles=12, distance=ONE, halves_real=0.5, halves_across=0.75),
            [
                ("Frechet, all places", "1.5 [1, 2]", "12 tiles; simple"),
                ("Frechet, across halves", "0.75", "real against real, halves of the area: 0.5"),
            ],
        ),
        (
            FrechetComparison(**FREE, num_tiles=1, reason="too few"),
            [("Frechet, all places", "-", "too few"), ("Frechet, across halves", "-", "too few")],
        ),
        (
            SpectrumComparison(**SPECTRUM, fine_detail=0.25),
            [("fine detail", "0.25", "power, synthetic / real; 1 is best")],
        ),
        (SpectrumComparison(**SPECTRUM, fine_detail=None, reason="why"), [("fine detail", "-", "why")]),
        (
            SeamComparison(synthetic=1.5, real=1.25),
            [("seams", "1.5", "1 is best; real on the same lines: 1.25")],
        ),
        (SeamComparison(reason="why"), [("seams", "-", "why")]),
        (
            Nearness(real=0.5, synthetic=0.25, nearer="synthetic", num_target=3),
            [
                (
                    "nearer to the target",
                    "synthetic",
                    "kernel distance of 3 tiles to real ones 0.5, to synthetic ones 0.25: train on the synthetic ones",
                )
            ],
        ),
        (Nearness(reason="why"), [("nearer to the target", "-", "why")]),
        (
            MemorisationComparison(
                num_synthetic=1,
                **{"num_train": 5, "num_other": 5, "other": "val"},
                **{"share_nearer_train": ONE, "control": TWO, "membership_auc": THREE},
            ),
            [
                ("nearer to train", "1.5 [1, 2]", "real tiles: 2.5 [2, 3]; 1 tile, 5 of train, 5 of val"),
                (
                    "membership inference, AUC",
                    "3.5 [3, 4]",
                    "0.5: tiles that were trained on cannot be told from others",
                ),
            ],
        ),
        (
            MemorisationComparison(reason="why"),
            [("nearer to train", "-", "why"), ("membership inference, AUC", "-", "why")],
        ),
        (
            DiversityComparison(num_latents=2, num_tiles=3, pixels=ONE),
            [("diversity", "1.5 [1, 2] DN", "2 latents, 3 tiles")],
        ),
        (DiversityComparison(reason="why"), [("diversity", "-", "why")]),
        (
            ConsistencyComparison(num_tiles=3, real=ONE, synthetic=TWO, difference=THREE),
            [("mIoU, synthetic - real", "3.5 [3, 4]", "2.5 [2, 3] and 1.5 [1, 2]; 3 tiles")],
        ),
        (ConsistencyComparison(reason="why"), [("mIoU, synthetic - real", "-", "why")]),
        (
            ImageLevels(dtype="uint16", bands=(RED, NIR)),
            [
                (
                    "seen in 256 levels",
                    "uint16",
                    "red 1 to 900, nir 2.5 to 800; share of values outside, in the band with most: real 0.4 %,"
                    " synthetic 1 %",
                )
            ],
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, list) else "",
)
def test_lines_of_the_summary(part: Any, rows: list[tuple[str, str, str]]) -> None:
    assert [tuple(row) for row in part.rows()] == rows


@pytest.mark.parametrize(
    ("space", "names", "in_training", "mark"),
    [
        ("inception-v3-compat", ("FID", "KID"), False, ""),
        ("wavelets", ("Frechet, wavelets", "kernel distance, wavelets"), True, " *"),
        ("wavelets", ("Frechet, wavelets", "kernel distance, wavelets"), None, " ?"),
    ],
)
def test_lines_of_a_feature_space(space: str, names: tuple[str, str], in_training: bool | None, mark: str) -> None:
    shares = ("precision", "recall", "density", "coverage")

    def rows(**values: Any) -> list[tuple[str, ...]]:
        found = FeatureComparison(feature_space=space, in_training=in_training, **SETS, **values).rows()
        assert [row.measure for row in found] == [
            *(f"{name}, to test{mark}" for name in names),
            *(f"{share}, test{mark}" for share in shares),
        ]
        return [row[1:] for row in found]

    halves = "halves: real to real 0.25 [0.125, 0.5], real to synthetic 2.5 [2, 3], real to turned 3.5 [3, 4]"
    found = rows(frechet=DISTANCE, kid=Distance(estimate=TWO), precision=ONE, recall=TWO, density=THREE, coverage=ONE)
    assert found[:2] == [("1.5 [1, 2]", f"n 9, 8; {halves}"), ("2.5 [2, 3]", "n 9, 8")]
    assert found[2:] == [(value, space) for value in ("1.5 [1, 2]", "2.5 [2, 3]", "3.5 [3, 4]", "1.5 [1, 2]")]
    few = rows(frechet=Distance(note="few"), kid=Distance(note="fewer"), note="no shares")
    assert few == [("-", "few"), ("-", "fewer"), *[("-", "no shares")] * 4]
    assert rows(frechet=Distance(note="few"), reason="no tiles") == [("-", "no tiles")] * 6
