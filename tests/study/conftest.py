"""What the tests of studies share."""

import pytest
from studies import FakeOperations, make_study_store

from geosynth.checkpoint import ModelCard, save_generator
from geosynth.config import BandSettings, GeneratorSettings
from geosynth.legend import CHESAPEAKE
from geosynth.models.generator import SpadeGenerator


@pytest.fixture(scope="session")
def study_store(tmp_path_factory):
    return make_study_store(tmp_path_factory.mktemp("study") / "store.zarr")


@pytest.fixture
def operations(tmp_path):
    return FakeOperations(tmp_path / "calls.txt")


def save_narrow_model(path, bands, **provenance):
    settings = GeneratorSettings(
        **{"num_classes": 6, "num_bands": len(bands), "base_width": 2, "max_multiple": 2, "hidden_channels": 4},
        **{"latent_size": 2, "noise_channels": 1},
    )
    return save_generator(
        path,
        SpadeGenerator(settings),
        ModelCard(
            settings=settings, legend=CHESAPEAKE, bands=BandSettings(names=bands), gsd=1.0, provenance=provenance
        ),
    )


@pytest.fixture(scope="session")
def narrow_model(tmp_path_factory):
    """A model of the store's bands that paints fast."""
    path = tmp_path_factory.mktemp("narrow") / "four.safetensors"
    return save_narrow_model(path, ("red", "green", "blue", "nir"))


@pytest.fixture(scope="session")
def other_model(tmp_path_factory):
    """A model of two bands."""
    return save_narrow_model(tmp_path_factory.mktemp("other") / "two.safetensors", ("red", "green"))


@pytest.fixture
def model_that_saw(tmp_path):
    """A model of the store's bands that was trained on some of its scenes, by name."""

    def save(*scenes):
        data = [{"name": name, "sha256": f"sha of {name}"} for name in scenes]
        return save_narrow_model(tmp_path / "seen.safetensors", ("red", "green", "blue", "nir"), data=data)

    return save
