"""A whole study with real, tiny networks."""

import pytest
from studies import AUGMENT, DIVERSITY

from geosynth.study.run import run_study


@pytest.mark.slow
def test_sweeps_with_real_networks(study_store, tmp_path):
    arms = ("real", "real + synthetic + ordinary", "real + emphasised synthetic + ordinary")
    values = {"seeds": 1, "real_tiles": (2,), "synthetic_tiles": 6, "arms": arms, "emphasise": {"water": 1.1}}
    augment = AUGMENT.model_copy(update=values)
    report = run_study(study_store.path, tmp_path / "out", augment)
    assert not report.missing
    assert [(row.arm, row.real_tiles, row.synthetic_tiles) for row in report.rows] == [
        ("real", 2, 0),
        ("real + synthetic + ordinary", 2, 6),
        ("real + emphasised synthetic + ordinary", 2, 6),
    ]
    assert all(0 <= row.miou.value <= 1 for row in report.rows)
    assert report.test_tiles == 4
    assert all(row.over_places.n == 1 for row in report.rows)
    assert len(list((tmp_path / "out" / "generators").glob("*/model.safetensors"))) == 1

    segment = augment.segment
    diversity = DIVERSITY.model_copy(update={"seeds": 1, "lambdas": (2.0,), "segment": segment, "tiles": 2})
    [row] = run_study(study_store, tmp_path / "out", diversity).rows
    assert row.diversity.value > 0
    assert all(distance.value > 0 for distance in row.frechet.values())
    assert (tmp_path / "out" / "diversity" / "frechet_2.png").exists()
