"""What several rooms' tests need."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

# Before torch is loaded: threads that wait spin but for a moment, as under the command line (see there), and the
# processes of pytest-xdist share the cores.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
if processes := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 0)):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

import rasters
from geosynth.checkpoint import GeneratorModel, load_generator
from geosynth.config import GeneratorSettings
from geosynth.models.looks.look import OBJECTS, Look
from geosynth.models.looks.styles import style_size
from geosynth_cli import app
from rasters import NORTH_UP, UTM_18N
from tiny_models import TINY, write_random_model, write_tiny_model

if sys.platform == "linux":
    # A forked process holds the pipes of its parent: pytest-xdist would wait for it after a timeout. The function is
    # looked up here, as the loader's lock may be held by another thread when the process is forked.
    _prctl = ctypes.CDLL(None).prctl
    os.register_at_fork(after_in_child=lambda: _prctl(1, signal.SIGKILL))  # PR_SET_PDEATHSIG

# Repeatable and never flaky: the same examples in each run, and each may take its time on a busy machine. What examples
# share of a fixture, tests leave as it is.
_no_fault = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile("geosynth", derandomize=True, deadline=None, suppress_health_check=_no_fault)
settings.load_profile("geosynth")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests come first: else one process waits while another is at the last ones, which cannot be stolen."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def ctrl_c_is_pythons() -> Iterator[None]:
    """Jobs in the background start with SIGINT ignored; what is tested is a command that a user sees."""
    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, earlier)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real rasters; the test is skipped where it is absent."""
    folder = Path(os.environ.get("GEOSYNTH_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> GeneratorModel:
    """A random generator for the Chesapeake legend, small, with strong contrast."""
    return load_generator(write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors"))


@pytest.fixture(scope="session")
def linear_model(tmp_path_factory: pytest.TempPathFactory) -> GeneratorModel:
    """The same with the reference start, for windows of 64 px."""
    settings = GeneratorSettings.reference(
        6, 4, crop_size=64, base_width=4, max_multiple=4, hidden_channels=8, depth="less", latent_size=4
    )
    return load_generator(write_random_model(settings, tmp_path_factory.mktemp("model") / "linear.safetensors"))


@pytest.fixture(scope="session")
def told_model(tmp_path_factory: pytest.TempPathFactory) -> GeneratorModel:
    """A model conditioned on looks, which knows two: "dim", its default, and "bright"."""
    told = {"latent_size": 0, "style_lengths": (72, 24, 72, 72, 24, 40), "style_width": 4, "style_regions": (4,)}
    settings = GeneratorSettings.parse({**TINY.model_dump(), **told})
    rng = torch.Generator().manual_seed(0)
    size = style_size(4)
    dim = Look(
        0.1 * torch.randn(6, size, generator=rng) - 0.3,
        0.2 * torch.randn(5, 6, OBJECTS, size, generator=rng),
        torch.full((6,), 1 / 6),
        around=torch.rand(5, 6, OBJECTS, generator=rng),
        edge_effect=0.3 * torch.randn(6, 2, size, generator=rng) * torch.tensor([0.0] * 4 + [1.0] * 6 + [0.0] * 2),
    )
    looks = {"dim": dim, "bright": replace(dim, mean=dim.mean + 0.6)}
    return load_generator(write_random_model(settings, tmp_path_factory.mktemp("model") / "told.safetensors", looks))


@pytest.fixture
def write_raster(tmp_path: Path) -> Callable[..., Path]:
    """`rasters.write_raster` into the test's folder, in Maryland unless told otherwise."""

    def write(values: np.ndarray, name: str = "labels.tif", **profile: Any) -> Path:
        return rasters.write_raster(tmp_path / name, values, **{"crs": UTM_18N, "transform": NORTH_UP, **profile})

    return write


class Ran(NamedTuple):
    """The exit code of a command, and what it printed on stdout and stderr."""

    code: int
    out: str
    err: str


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Calls the command line in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> Ran:
        capfd.readouterr()  # what fixtures printed
        with pytest.raises(SystemExit) as exit_:
            app([str(argument) for argument in arguments])
            sys.exit(0)  # what the console script does when the function returns
        return Ran(int(exit_.value.code or 0), *capfd.readouterr())

    return call
