"""ingest on a Dask cluster of two processes gives the same store; and what goes wrong there is one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from distributed import LocalCluster

from geosynth.errors import ClusterError, LegendError
from geosynth.raster.stores.ingest import ingest
from rasters import north_up, random_codes, random_image, write_raster

RGBN = ("red", "green", "blue", "nir")
SIDE = 300


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with LocalCluster(n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(6):
        place = north_up(2000 * seed, 700 * seed)
        write_raster(tmp_path / "images" / f"{seed}.tif", random_image(seed, SIDE, SIDE), place)
        write_raster(tmp_path / "labels" / f"{seed}.tif", random_codes(seed, SIDE, SIDE), place)
    return tmp_path


def contents(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def test_a_cluster_writes_the_same_store(folder: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest(folder / "images", folder / "labels", folder / "threads", bands=RGBN)
    seen: list[tuple[int, int]] = []
    monkeypatch.chdir(folder)  # the workers are elsewhere
    ingest(
        "images",
        "labels",
        "cluster",
        bands=RGBN,
        scheduler=address,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(done, len(seen)) for done in range(1, len(seen) + 1)]
    assert contents(folder / "cluster") == contents(folder / "threads")
    assert not (folder / ".cluster.unfinished").exists()


def test_errors_come_back_in_one_line(folder: Path, address: str) -> None:
    write_raster(folder / "labels" / "3.tif", random_codes(3, SIDE, SIDE) + 90, north_up(6000, 2100))
    with pytest.raises(LegendError, match=r"labels/3\.tif: codes that legend") as caught:
        ingest(folder / "images", folder / "labels", folder / "out", bands=RGBN, scheduler=address)
    assert "\n" not in str(caught.value)
    assert not (folder / ".out.unfinished").exists()


def test_an_interrupted_one_goes_on_with_threads(folder: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(folder / "images", folder / "labels", folder / "out", bands=RGBN, scheduler=address, progress=interrupt)
    seen: list[int] = []
    monkeypatch.chdir(folder)
    (store,) = ingest("images", "labels", "out", bands=RGBN, progress=lambda done, total: seen.append(done))
    assert seen[0] >= 9
    for scene in store.scenes:
        np.testing.assert_array_equal(store.read_image(scene.window), random_image(int(scene.name[0]), SIDE, SIDE))


def test_no_scheduler_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geosynth.cluster._PATIENCE", "200ms")
    for address in ("tcp://127.0.0.1:1", "nonsense://x"):
        with pytest.raises(ClusterError, match=f"{address}: no Dask scheduler answers there") as caught:
            ingest(folder / "images", folder / "labels", folder / "out", bands=RGBN, scheduler=address)
        assert "\n" not in str(caught.value)
