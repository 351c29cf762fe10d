"""`geosynth train`, as typed."""

from pathlib import Path

import pytest
from trainings import TINY

import geosynth


@pytest.fixture
def asked(monkeypatch):
    """What the command hands to `geosynth.train`, which is not called."""
    calls = []

    def train(data, out, settings, *, fold, progress):
        calls.append((data, settings, fold))
        progress(7, 7, 0.0)
        return out / "model.safetensors"

    monkeypatch.setitem(vars(geosynth), "train", train)
    return calls


def test_options_become_settings(run, asked, tmp_path):
    config = tmp_path / "train.yaml"
    config.write_text("batch_size: 6\nbase_width: 5\nseed: 1\n")
    (tmp_path / "earlier.safetensors").touch()
    code, out, err = run(
        *("train", "--data", tmp_path, "--out", tmp_path / "run", "--fold", "val", "--preset", "tiny"),
        *("--config", config, "--max-time", "1h30m", "--seed", "2", "--set", "generator_rate=1e-3"),
        *("--init", tmp_path / "earlier.safetensors"),
        *("--set", "adam_betas=[0, 0.999]", "--set", "perceptual_path=null"),
    )
    assert (code, err) == (0, "7 of at most 1,000 steps; now the batch norms are measured\n"), "done by --max-time"
    assert out.strip() == str(tmp_path / "run" / "model.safetensors")
    [(data, settings, fold)] = asked
    assert (data, fold) == (str(tmp_path), "val")
    assert settings == geosynth.TrainSettings.resolve(
        preset="tiny",
        init=str(tmp_path / "earlier.safetensors"),
        batch_size=6,
        base_width=5,
        max_time=5400,
        seed=2,
        generator_rate=1e-3,
        adam_betas=(0, 0.999),
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--max-time", "soon"), "error: --max-time: give a time, as in 90m"),
        (("--set", "max_time=soon"), "error: max_time: give a time, as in 90m"),
        (("--config", "own.yaml"), "error: max_time: give a time, as in 90m"),
        (("--batch-size", "7", "--devices", "2"), "error: --batch-size: must be a multiple of devices"),
        (("--steps", "-1"), "error: --steps: must be greater than"),
        (("--set", "seed=1", "--set", "crop_size=64", "--set", "seed=2"), "error: --set seed: is given twice"),
        (("--preset", "huge"), "preset: there is no 'huge'"),
        (("--set", "base_width"), "--set base_width: write NAME=VALUE"),
        (("--set", "base_width=[1"), "not YAML"),
        (("--set", "base_widht=4"), "base_widht"),
        (("--set", "preset=huge"), "preset: there is no 'huge'"),
        (("--set", "config=nowhere.yaml"), "nowhere.yaml: cannot be read"),
        (("--set", "cls=1"), "cls: there is no such setting"),
        (("--config", "nowhere.yaml"), "nowhere.yaml: cannot be read"),
        (("--precision", "fp8"), "precision"),
    ],
)
def test_mistakes_are_one_line(run, asked, tmp_path, arguments, words, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text("max_time: soon\n")
    code, out, err = run("train", "--data", tmp_path, "--out", tmp_path / "run", *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert words in err
    assert not asked


def test_a_file_that_is_called_like_an_option_keeps_its_name(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    code, _, err = run("train", "--data", "data", "--out", "run")
    assert code == 1
    assert err.startswith("error: data: ")


def test_presets_are_listed_without_other_options(run):
    code, out, _ = run("train", "--list-presets")
    assert code == 0
    lines = out.splitlines()
    for name, line in zip(geosynth.TrainSettings.presets(), lines[1:], strict=True):
        assert line.split()[0] == name


def test_a_store_trains(run, store, tmp_path):
    values = TINY.model_dump(mode="json", exclude_defaults=True)
    options = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    code, out, err = run("train", "--data", store.path, "--out", tmp_path / "run", *options)
    assert (code, err) == (0, f"{TINY.steps} steps; now the batch norms are measured\n")
    assert out.strip() == str(tmp_path / "run" / "model.safetensors")
    code, _, err = run("train", "--data", tmp_path / "nothing", "--out", tmp_path / "other")
    assert code == 1
    assert err.count("\n") == 1
    assert not (tmp_path / "other").exists()
