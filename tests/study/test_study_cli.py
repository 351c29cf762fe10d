"""`geosynth study`, as typed."""

import pytest
from studies import FakeOperations

import geosynth

SMALL = ("--set", "segment.tile_size=32", "--set", "segment.steps=4", "--set", "train.steps=2", "--tiles", "8")


@pytest.fixture(autouse=True)
def fake_operations(monkeypatch, tmp_path):
    monkeypatch.setattr("geosynth.study.study.Operations", lambda: FakeOperations(tmp_path / "calls.txt", fails=2.0))


def test_a_study_is_planned_run_and_tabulated(run, study_store, tmp_path):
    out = tmp_path / "out"
    command = ("study", "replace", "--data", study_store.path, "--out", out, "--shares", "0,1", "--seeds", "2", *SMALL)
    code, plan, err = run(*command, "--dry-run")
    assert (code, err) == (0, "")
    assert plan.count("to do") == 4 + 1  # cells, and the head of a column
    assert "timed steps" in plan
    assert plan.endswith(" h\n")
    assert not out.exists()
    code, told, err = run(*command)
    assert (code, err) == (0, "")
    assert told.strip() == str(out / "replace" / "report.html")
    assert (out / "replace" / "report.html").exists()
    code, plan, _ = run(*command, "--dry-run", "--workers", "2")
    assert plan.count("finished") >= 4
    assert "about 0 h with 2 workers" in plan
    code, told, _ = run(*command, "--tabulate", "--seeds", "3")
    assert "4 cells finished, 2 missing" in told
    assert "Missing: 2 of 6" in (out / "replace" / "table.md").read_text()


def test_cells_that_fail_are_said(run, study_store, tmp_path):
    command = ("study", "diversity", "--data", study_store.path, "--out", tmp_path / "out", "--lambdas", "0,2", *SMALL)
    code, out, err = run(*command, "--seeds", "1")
    assert (code, out) == (1, "")
    lines = err.strip().splitlines()
    assert lines[0] == "warning: synthetic, 2, seed 0: the loss is not a finite number"
    assert lines[1].startswith("error: 1 of 2 cells without a result")
    assert len(lines) == 2


def test_options_become_settings(monkeypatch, run, tmp_path):
    asked = []

    def run_study(data, out, settings, **others):
        asked.append((settings, others["model"], others["workers"]))
        raise geosynth.GeosynthError("enough")

    monkeypatch.setitem(vars(geosynth), "run_study", run_study)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").touch()
    config = tmp_path / "study.yaml"
    config.write_text("real_tiles: [1]\nsynthetic_tiles: 5\n")
    code, _, err = run(
        *("study", "augment", "--data", tmp_path, "--out", "o", "--model", "m", "--config", config, "--workers", "2"),
        *("--real-tiles", "2,4", "--arms", "real,real + synthetic", "--set", "segment.augment=none"),
    )
    assert (code, err) == (1, "error: enough\n")
    [(settings, model, workers)] = asked
    assert settings == geosynth.AugmentSettings(real_tiles=(2, 4), synthetic_tiles=5, arms=("real", "real + synthetic"))
    assert (str(model), workers) == ("m", 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("replacement",), "sweep: there is no 'replacement'"),
        (("replace", "--lambdas", "0,2"), "lambdas"),
        (("augment", "--arms", "real,unreal"), "arms.1"),
        (("replace", "--shares", "0,2"), "shares.1"),
        (("replace", "--set", "segment.stepps=3"), "segment.stepps"),
        (("replace", "--config", "nowhere.yaml"), "nowhere.yaml: cannot be read"),
        (("replace", "--dry-run", "--tabulate"), "--tabulate: no effect with --dry-run"),
        (("replace", "--tabulate", "--workers", "2"), "--workers: no effect with --tabulate"),
        (("replace",), "not a geosynth store"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, arguments, words):
    (tmp_path / "none.zarr").mkdir()
    code, out, err = run("study", *arguments, "--data", tmp_path / "none.zarr", "--out", tmp_path / "out")
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err
    assert not (tmp_path / "out").exists()
