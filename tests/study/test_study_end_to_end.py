"""A whole study with real, tiny networks."""

import pytest
from studies import AUGMENT, DIVERSITY

from geosynth import checkpoint
from geosynth.progress import silent
from geosynth.segmentation import segment
from geosynth.segmentation.segmenter import load_segmenter
from geosynth.study.operations import Operations
from geosynth.study.run import run_study
from geosynth.training import train


@pytest.fixture
def asked(monkeypatch):
    """What each kind of network asks for, on a machine without a GPU; "auto" takes one where there is one."""
    asked = set()

    def spy(name):
        return lambda device="auto": asked.add((name, device)) or "cpu"

    for name, module in {"generator": train, "twin": checkpoint, "segmenter": segment}.items():
        monkeypatch.setattr(module, "choose_device", spy(name))
    return asked


def test_a_segmenter_that_was_not_kept_is_made_again_where_it_is_to_be(study_store, tmp_path):
    settings = AUGMENT.segment.model_copy(update={"real_tiles": 2})
    arguments = (study_store, tmp_path, settings, None, "train", "test", silent)
    first = Operations().segment(*arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
    assert Operations().segment(*arguments, keep=True) == first
    assert load_segmenter(tmp_path).card.settings == settings


@pytest.mark.slow
def test_sweeps_with_real_networks(study_store, tmp_path, asked):
    arms = ("real", "real + synthetic + ordinary", "real + emphasised synthetic + ordinary")
    values = {"seeds": 1, "real_tiles": (2,), "synthetic_tiles": 6, "arms": arms, "emphasise": {"water": 1.1}}
    augment = AUGMENT.model_copy(update=values)
    report = run_study(study_store.path, tmp_path / "out", augment)
    assert not report.missing
    assert asked == {("generator", "auto"), ("twin", "auto"), ("segmenter", "auto")}
    assert [(row.arm, row.real_tiles, row.synthetic_tiles) for row in report.rows] == [
        ("real", 2, 0),
        ("real + synthetic + ordinary", 2, 6),
        ("real + emphasised synthetic + ordinary", 2, 6),
    ]
    assert all(0 <= row.miou.value <= 1 for row in report.rows)
    assert report.test_tiles == 4
    assert all(row.over_places.n == 1 for row in report.rows)
    assert len(list((tmp_path / "out" / "generators").glob("*/model.safetensors"))) == 1

    settings = augment.segment
    diversity = DIVERSITY.model_copy(update={"seeds": 1, "lambdas": (2.0,), "segment": settings, "tiles": 2})
    [row] = run_study(study_store, tmp_path / "out", diversity).rows
    assert row.diversity.value > 0
    assert all(distance.value > 0 for distance in row.frechet.values())
    assert (tmp_path / "out" / "diversity" / "frechet_2.png").exists()
