"""A helper of the default's recipe: the average of models that went on from the same one."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from geosynth.checkpoint import ModelCard, load_generator, save_generator
from geosynth.config import BandSettings, EncoderSettings, GeneratorSettings
from geosynth.grid import Window
from geosynth.legend import CHESAPEAKE
from geosynth.models.encoder import StyleEncoder
from geosynth.models.generator import SpadeGenerator
from rasters import random_codes
from scene_stores import make_scene_store

SCRIPT = Path(__file__).parents[1] / "examples" / "average_models.py"
SETTINGS = GeneratorSettings(num_classes=6, num_bands=4, base_width=2, max_multiple=2, hidden_channels=2, latent_size=3)


def make_model(path: Path, seed: int, settings: GeneratorSettings = SETTINGS) -> Path:
    torch.manual_seed(seed)
    data = [{"name": "both.tif"}, {"name": f"{seed}.tif"}]
    bands = BandSettings(names=("red", "green", "blue", "nir"))
    card = ModelCard(
        settings=settings, legend=CHESAPEAKE, bands=bands, gsd=1.0, provenance={"data": data, "seed": seed}
    )
    encoder = StyleEncoder(EncoderSettings(num_bands=4, base_width=2, latent_size=3))
    return save_generator(path, SpadeGenerator(settings), card, encoder, dtype=torch.float32)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["average_models.py", *map(str, arguments)])
    runpy.run_path(str(SCRIPT), run_name="__main__")


def test_weights_are_the_mean_and_norms_are_measured(tmp_path, monkeypatch):
    store = make_scene_store(tmp_path / "store.zarr", {"one": Window(0, 0, 192, 192)}, codes=random_codes(0, 192, 192))
    models = [make_model(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2)]
    out = tmp_path / "average.safetensors"
    run(monkeypatch, store.path, *models, "--out", out)
    result, parts = load_generator(out), [load_generator(path) for path in models]
    for name in ("generator", "encoder"):
        weights = [dict(getattr(part, name).named_parameters()) for part in parts]
        for key, value in getattr(result, name).named_parameters():
            np.testing.assert_allclose(value, (weights[0][key] + weights[1][key]) / 2, rtol=2e-3, atol=1e-6)
    norms = [module for module in result.generator.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert all(int(norm.num_batches_tracked) == 50 for norm in norms)
    provenance = result.card.provenance
    assert [entry["name"] for entry in provenance["data"]] == ["both.tif", "1.tif", "2.tif"]
    assert [part["seed"] for part in provenance["average_of"]] == [1, 2]
    assert [part["sha256"] for part in provenance["average_of"]] == [part.sha256 for part in parts]


def test_other_networks_have_no_average(tmp_path, monkeypatch):
    wider = SETTINGS.model_copy(update={"base_width": 3})
    models = [make_model(tmp_path / "a.safetensors", 1), make_model(tmp_path / "b.safetensors", 2, wider)]
    out = tmp_path / "average.safetensors"
    with pytest.raises(SystemExit, match="networks differ"):
        run(monkeypatch, tmp_path / "none.zarr", *models, "--out", out)
    assert not out.exists()
