"""The helper of the default's recipe: a model without the noise of its finest blocks."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch

from geosynth.checkpoint import ModelCard, load_generator, save_generator
from geosynth.config import BandSettings, GeneratorSettings
from geosynth.legend import CHESAPEAKE
from geosynth.models.generator import SpadeGenerator

SCRIPT = Path(__file__).parents[1] / "examples" / "quiet_noise.py"


@pytest.mark.parametrize(
    ("options", "expected"), [((), [1, 1, 0, 0]), (("--factor", "0.5", "--blocks", "1"), [1, 0.5])]
)
def test_only_the_finest_blocks_are_quieter(tmp_path, monkeypatch, options, expected):
    settings = GeneratorSettings(num_classes=6, num_bands=4, base_width=2, max_multiple=2, hidden_channels=2)
    bands = BandSettings(names=("red", "green", "blue", "nir"))
    card = ModelCard(settings=settings, legend=CHESAPEAKE, bands=bands, gsd=0.6, provenance={"seed": 1})
    model, out = tmp_path / "loud.safetensors", tmp_path / "quiet.safetensors"
    save_generator(model, SpadeGenerator(settings), card)
    monkeypatch.setattr(sys, "argv", ["quiet_noise.py", str(model), str(out), *options])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    before, after = dict(load_generator(model).generator.named_parameters()), load_generator(out)
    strengths = [name for name in before if name.endswith("noise_strength")]
    now = dict(after.generator.named_parameters())
    for name, factor in zip(strengths[-len(expected) :], expected, strict=True):
        assert torch.allclose(now[name], before[name] * factor, rtol=1e-3)
    assert all(torch.equal(now[name], before[name]) for name in before if name not in strengths[-2:])
    assert after.card.provenance["seed"] == 1
    assert after.card.provenance["noise_scaled"]["blocks"]
