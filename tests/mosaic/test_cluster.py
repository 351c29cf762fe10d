"""Painting by real worker processes: the same bytes, whoever dies; and what is said when they cannot."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rioxarray
import torch
from distributed import Client, LocalCluster

import geosynth
from geosynth.checkpoint import GeneratorModel
from geosynth.config import GenerateSettings
from geosynth.errors import ClusterError, RasterError, SettingsError
from geosynth.mosaic import portable
from rasters import draw_labels

Write = Callable[..., Path]
SETTINGS = GenerateSettings(precision="fp32", block_size=128, seed=3)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two processes of one thread each."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as workers,
        Client(workers, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture
def labels(write_raster: Write) -> Path:
    codes = draw_labels(360, 496)
    codes[130:, 100:390] = 15
    return write_raster(codes, nodata=15)


@pytest.fixture
def expected(labels: Path, tmp_path: Path, tiny_model: GeneratorModel) -> bytes:
    """The image that one process makes, on one thread as well."""
    with one_thread():
        return geosynth.generate(labels, tmp_path / "expected.tif", tiny_model, SETTINGS).read_bytes()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def pids(client: Client) -> set[int]:
    return set(client.run(os.getpid).values())


@pytest.mark.slow
def test_workers_make_the_same_bytes_and_load_the_model_once(
    client: Client, labels: Path, expected: bytes, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    told = []
    image = geosynth.generate(
        labels, tmp_path / "a.tif", tiny_model, SETTINGS, client=client, progress=lambda *step: told.append(step)
    )
    assert image.read_bytes() == expected
    painting = [done for stage, done, _ in told if stage == "painting"]
    assert painting == list(range(len(painting)))

    again = geosynth.generate(labels, tmp_path / "b.tif", tiny_model, SETTINGS, client=client)
    assert again.read_bytes() == expected
    assert {loads.misses for loads in client.run(portable._loaded.cache_info).values()} == {1}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "b.tif", "expected.tif", "labels.tif"]
    assert not any(client.run(plugins).values()), "nothing stays with the workers"


def plugins(dask_worker: object) -> list[str]:
    return [name for name in dask_worker.plugins if name.startswith("geosynth")]  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_loses_nothing(
    client: Client, labels: Path, expected: bytes, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    victim = min(pids(client))

    def kill(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("painting", 3):
            assert total > 8, "in the middle"
            os.kill(victim, signal.SIGKILL)

    image = geosynth.generate(labels, tmp_path / "image.tif", tiny_model, SETTINGS, client=client, progress=kill)
    assert image.read_bytes() == expected
    client.wait_for_workers(2)
    assert victim not in pids(client)


@pytest.mark.slow
def test_workers_that_do_not_see_the_folder_send_their_pixels(
    client: Client,
    labels: Path,
    expected: bytes,
    tmp_path: Path,
    tiny_model: GeneratorModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    touch = Path.touch
    monkeypatch.setattr(Path, "touch", lambda path: path.name == "lock" and touch(path))  # hence no mark in the folder
    image = geosynth.generate(labels, tmp_path / "image.tif", tiny_model, SETTINGS, client=client)
    assert image.read_bytes() == expected


@pytest.mark.slow
def test_what_a_cluster_began_one_process_ends(
    client: Client, labels: Path, expected: bytes, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("painting", 4):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        geosynth.generate(labels, tmp_path / "image.tif", tiny_model, SETTINGS, client=client, progress=interrupt)
    assert not (tmp_path / "image.tif").exists()
    begun = []
    with one_thread():
        image = geosynth.generate(
            labels,
            tmp_path / "image.tif",
            tiny_model,
            SETTINGS,
            progress=lambda stage, done, _: begun.append((stage, done)),
        )
    assert next(done for stage, done in begun if stage == "painting") >= 3, "of four, one may have had no data"
    assert image.read_bytes() == expected


@pytest.mark.slow
def test_an_error_of_a_worker_is_told_here(
    client: Client, labels: Path, tmp_path: Path, tiny_model: GeneratorModel
) -> None:
    def damage(stage: str, done: int, total: int) -> None:
        if (stage, done) == ("painting", 0):
            labels.write_bytes(b"not a raster any more")

    with pytest.raises(RasterError, match=r"labels.tif: cannot be opened as a raster"):
        geosynth.generate(labels, tmp_path / "image.tif", tiny_model, SETTINGS, client=client, progress=damage)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.tif"]


@pytest.mark.slow
def test_the_lazy_image_can_be_computed_by_a_cluster(client: Client, labels: Path, tiny_model: GeneratorModel) -> None:
    image = geosynth.generate(rioxarray.open_rasterio(labels, masked=True), model=tiny_model, settings=SETTINGS)
    window = image.isel(y=slice(150, 260), x=slice(60, 200))
    np.testing.assert_array_equal(client.compute(window).result(), window.compute())


def die(work: object, index: int) -> None:
    os._exit(1)


@pytest.mark.slow
def test_a_block_that_kills_worker_after_worker_is_told(
    client: Client, labels: Path, tmp_path: Path, tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portable, "_paint_block", die)
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 0)
    with pytest.raises(ClusterError, match=r"image.tif: workers died repeatedly"):
        geosynth.generate(labels, tmp_path / "image.tif", tiny_model, SETTINGS, client=client)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.tif"]


def test_a_scheduler_that_does_not_answer_is_named(
    labels: Path, tmp_path: Path, tiny_model: GeneratorModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geosynth.cluster._PATIENCE", "200ms")
    with pytest.raises(ClusterError, match=r"^tcp://127.0.0.1:1: no Dask scheduler answers there"):
        geosynth.generate(labels, tmp_path / "image.tif", tiny_model, SETTINGS, scheduler="tcp://127.0.0.1:1")
    with pytest.raises(ClusterError, match=r"^nowhere: "):
        geosynth.generate(labels, tmp_path / "image.tif", tiny_model, SETTINGS, scheduler="nowhere")
    assert [path.name for path in tmp_path.iterdir()] == ["labels.tif"]


def test_only_one_way_to_say_who_paints(labels: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="give one of them"):
        geosynth.generate(labels, tmp_path / "image.tif", scheduler="tcp://127.0.0.1:1", workers=2)
