"""Stores and trainings that several tests look at."""

import pytest
from trainings import TINY, make_store

from geosynth.training.train import train


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data") / "store.zarr")


@pytest.fixture(scope="session")
def trained(store, tmp_path_factory):
    """A finished training of three steps, and what it told of its progress."""
    told = []
    out = tmp_path_factory.mktemp("trained") / "run"
    train(store, out, TINY, progress=lambda *values: told.append(values))
    return out, told
