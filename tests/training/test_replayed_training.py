"""A training whose steps are replayed, as on a GPU, is to the byte the one whose steps are not; told on a processor."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from trainings import TINY, checkpoint_in, equal, ready, start_and_break

from geosynth.training import step as step_module
from geosynth.training.train import train

sys.path.append(str(Path(__file__).parents[1] / "models"))
from graphs import replay_on_cpu, take_forms_of_a_gpu

# Three steps run as they are before one is recorded. Rates and the average's memory change with each step.
LONG = TINY.model_copy(update={"steps": 7, "preview_every": 2, "save_every": 1, "warmup": 0.3, "decay_from": 0.6})
CHOICES = {
    "defaults": {},
    "oasis": {"discriminator": "oasis", "augment": 0.5, "head_start": 0.4},
    "features": {"diversity_weight": 4.0, "diversity_distance": "features", "parts": 2, "diversity_limit": 0.01},
    "told": {"style_lengths": (24,), "augment": 0.5, "class_balance": 0.3, "precision": "bf16"},
    "reference": {"start": "linear", "padding": "zeros", "noise_channels": 0, "stage_noise": False},
    "perceptual, projected": {"perceptual_weight": 1.0, "projected_weight": 1.0},
}


@pytest.fixture(autouse=True)
def _as_on_a_gpu(monkeypatch):
    take_forms_of_a_gpu(monkeypatch)


@pytest.fixture
def graphs(monkeypatch):
    """Recorded from now on."""
    return replay_on_cpu(monkeypatch, step_module)


def settings_of(choice):
    return LONG.model_copy(update=CHOICES[choice])


@pytest.mark.parametrize("choice", CHOICES)
def test_a_replayed_training_is_the_one_that_is_not(store, tmp_path, choice, request):
    settings = settings_of(choice)
    expected = train(store, tmp_path / "as_it_is", settings)
    graphs = request.getfixturevalue("graphs")
    found = train(store, tmp_path / "replayed", settings)
    assert [graph.replays for graph in graphs] == [4]
    assert found.read_bytes() == expected.read_bytes()
    assert equal(checkpoint_in(found.parent), checkpoint_in(expected.parent))
    for one in expected.parent.glob("*.png"):
        assert (found.parent / one.name).read_bytes() == one.read_bytes()


def test_so_is_one_that_adapts_a_model(store, tmp_path, request):
    told = TINY.model_copy(update={"style_lengths": (24,) * 6})
    changes = {"init": str(train(store, tmp_path / "init", told)), "learn": "styles", "keep_norms": True}
    settings = LONG.model_copy(update={**changes, "style_lengths": (24,) * 6, "look_name": ("adapted",)})
    expected = train(store, tmp_path / "as_it_is", settings)
    graphs = request.getfixturevalue("graphs")
    found = train(store, tmp_path / "replayed", settings)
    assert [graph.replays for graph in graphs] == [4]
    assert found.read_bytes() == expected.read_bytes()


def test_so_is_one_that_is_interrupted_while_steps_are_replayed(store, tmp_path, request):
    settings = settings_of("defaults")
    expected = train(store, tmp_path / "as_it_is", settings)
    graphs = request.getfixturevalue("graphs")
    start_and_break(store, tmp_path / "replayed", settings, 5)
    found = train(store, tmp_path / "replayed", settings)
    assert [graph.replays for graph in graphs] == [2], "and the last three steps run as they are"
    assert found.read_bytes() == expected.read_bytes()


@pytest.mark.skipif(not hasattr(torch, "accelerator"), reason="torch before 2.6 asks another function for a GPU")
@pytest.mark.filterwarnings("error:This instance was constructed with capturable:UserWarning")
def test_torch_does_not_warn_that_the_first_steps_are_not_recorded(monkeypatch):
    step = ready(TINY)
    monkeypatch.setattr(step._replay, "enabled", True)
    adam = step._build_adam()
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **options: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda: SimpleNamespace(is_capturing=lambda: False))
    names = "_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"  # the latter before 2.10
    next(getattr(adam, name) for name in names if hasattr(adam, name))()
