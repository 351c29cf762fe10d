"""What has gone wrong elsewhere: each of these gave wrong pixels or a hang in some way of reading patches."""

from __future__ import annotations

import itertools
import pickle
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
import rioxarray  # noqa: F401 - registers the accessor `.rio`
import torch
import xarray as xr
from affine import Affine
from independent import draw_independently
from numcodecs import blosc
from stores import HEIGHT, SCENES, WIDTH, make_store
from torch.utils.data import DataLoader
from torchgeo.datasets import stack_samples
from torchgeo.samplers import GridGeoSampler

from geosynth.config import BandSettings
from geosynth.grid import SpatialSplit, Window
from geosynth.legend import CHESAPEAKE
from geosynth.patches.dataset import PatchDataset, PatchSet
from geosynth.patches.module import PatchModule
from geosynth.patches.sampler import Draw
from geosynth.raster.stores.folds import SplitRule
from geosynth.raster.stores.open import open_in_place, open_zarr_in_place
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.store import Store
from rasters import north_up, random_codes, random_image, write_raster
from scene_stores import set_split

BANDS = ("red", "green", "blue", "nir")
SIDE = 1200
DRAWS = [
    Draw(0, number, Window(int(row), int(column), 64, 64))
    for number, (row, column) in enumerate(np.random.default_rng(0).integers(0, SIDE - 64, (160, 2)))
]


def start_worker(number: int) -> None:
    """What a worker process needs before it reads: no thread pools, whose threads do not survive a fork.

    Ctrl-C reaches it too, but is left to the process that takes the batches.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    dask.config.set(scheduler="synchronous")
    blosc.set_nthreads(1)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def pixels() -> tuple[np.ndarray, np.ndarray]:
    return random_image(5, SIDE, SIDE), random_codes(5, SIDE, SIDE)


@pytest.fixture(scope="module", params=["files", "somebody's Zarr"])
def source(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, pixels: tuple[np.ndarray, np.ndarray]
) -> PatchSource:
    folder = tmp_path_factory.mktemp("source")
    image, codes = pixels
    split = SplitRule(shares=(1, 0, 0))
    if request.param == "files":
        blocks = {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
        write_raster(folder / "image.tif", image, north_up(), **blocks)
        write_raster(folder / "labels.tif", codes, north_up(), **blocks)
        return open_in_place(folder / "image.tif", folder / "labels.tif", bands=BANDS, split=split)[0]
    affine = north_up()
    axes = {"x": affine.c + 0.6 * (np.arange(SIDE) + 0.5), "y": affine.f - 0.6 * (np.arange(SIDE) + 0.5)}
    cube = xr.Dataset({"image": (("band", "y", "x"), image), "labels": (("y", "x"), codes)}, axes)
    encoding = {"image": {"chunks": (4, 128, 128)}, "labels": {"chunks": (128, 128)}}
    for name in encoding:  # a chain of codecs that is left to zarr-python, with its threads
        encoding[name]["compressors"] = None  # type: ignore[assignment]
        encoding[name]["filters"] = [zarr_delta(cube[name].dtype)]  # type: ignore[assignment]
    cube.rio.write_crs("EPSG:26917").to_zarr(folder / "cube.zarr", zarr_format=2, encoding=encoding)
    return open_zarr_in_place(folder / "cube.zarr", bands=BANDS, split=split)


def zarr_delta(dtype: Any) -> Any:
    from numcodecs import Delta

    return Delta(dtype=dtype)


def fresh(source: PatchSource) -> PatchSource:
    """As newly opened: with no handle, and no block in GDAL's memory."""
    opened: PatchSource = pickle.loads(pickle.dumps(source))
    return opened


def check(samples: Iterator[dict[str, torch.Tensor]] | list[Any], pixels: tuple[np.ndarray, np.ndarray]) -> None:
    image, codes = pixels
    count = 0
    for batch in samples:
        window = Window(*batch["window"][0].tolist())
        np.testing.assert_array_equal(batch["image"][0], image[(slice(None), *window.slices)])
        np.testing.assert_array_equal(batch["mask"][0], CHESAPEAKE.encode(codes[window.slices]))
        count += 1
    assert count == len(DRAWS)


def test_handles_that_are_open_before_a_fork(source: PatchSource, pixels: tuple[np.ndarray, np.ndarray]) -> None:
    dataset = PatchSet([fresh(source)])
    _ = dataset[DRAWS[:1]]  # opens files, starts threads
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=[[draw] for draw in DRAWS],
        num_workers=4,
        multiprocessing_context="fork",
        worker_init_fn=start_worker,
        timeout=60,
    )
    for _ in range(2):
        check(loader, pixels)
    check([dataset[[draw]] for draw in DRAWS], pixels)


def test_one_source_in_many_threads(source: PatchSource, pixels: tuple[np.ndarray, np.ndarray]) -> None:
    dataset = PatchSet([fresh(source)])
    with ThreadPoolExecutor(8) as pool:
        check(list(pool.map(lambda draw: dataset[[draw]], DRAWS)), pixels)


def test_dask_threads_before_a_fork(tmp_path: Path) -> None:
    """Workers that inherit Dask's idle pool would wait for its threads for ever."""
    store = make_store(tmp_path / "store")
    assert float(da.ones((400, 400), chunks=20).sum().compute(scheduler="threads")) == 160_000
    loader = DataLoader(
        _DaskReader(store),
        batch_size=None,
        sampler=range(4),
        num_workers=1,
        multiprocessing_context="fork",
        worker_init_fn=start_worker,
        timeout=60,
    )
    assert [int(total) for total in loader] == [int(store.image[:].sum())] * 4


class _DaskReader(torch.utils.data.Dataset[int]):
    """Reads through Dask in the worker, as a user's transform may."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __getitem__(self, _: int) -> int:
        return int(da.from_array(self.store.image[:], chunks=40).sum().compute())


def test_the_crs_of_a_store_is_there_for_xarray_and_for_patches(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    opened = xr.open_zarr(tmp_path / "store", decode_coords="all", consolidated=False)
    assert opened.rio.crs.to_epsg() == PatchDataset(store, "train").crs.to_epsg() == 26917
    dataset = open_zarr_in_place(tmp_path / "store", bands=BANDS, split=SplitRule(shares=(1, 0, 0)))
    assert dataset.geobox.crs == store.geobox.crs


def test_places_are_exact_where_single_precision_is_not(tmp_path: Path) -> None:
    """At UTM northings neighbouring float32 numbers lie half a metre apart."""
    store = make_store(tmp_path / "store", Affine(0.25, 0, 612345.125, 0, -0.25, 4812345.375))
    dataset = PatchDataset(store, "train")
    for row, column in ((11, 21), (12, 22), (13, 21)):
        window = Window(row, column, 7, 9)
        for sample in (
            dataset[dataset.query(window)],
            {name: values[0] for name, values in PatchSet([store])[[Draw(0, 0, window)]].items()},
        ):
            assert (sample["window"].dtype, sample["affine"].dtype) == (torch.int64, torch.float64)
            assert sample["window"].tolist() == [row, column, 7, 9]
            place = Affine(*sample["affine"].tolist())
            assert place @ (0, 0) == (612345.125 + 0.25 * column, 4812345.375 - 0.25 * row)


def test_cells_of_a_fraction_of_a_pixel_move_neither_image_nor_mask(tmp_path: Path) -> None:
    """Grid cells with fractional edges: others resample the image there, and not the mask."""
    store = make_store(tmp_path / "store")
    dataset = PatchDataset(store, "train")
    x, y, time = dataset.query(SCENES["a"][0])
    edges = np.linspace(x.start, x.stop, 8)  # 50 px into sevenths
    for left, right in itertools.pairwise(edges):
        sample = dataset[slice(left, right), y, time]
        window = Window(*sample["window"].tolist())
        np.testing.assert_array_equal(sample["image"], store.read_image(window))
        np.testing.assert_array_equal(sample["mask"], store.read_labels(window))


def test_no_sampler_reads_across_the_edge_of_a_fold(tmp_path: Path) -> None:
    """A split by blocks cuts through scenes; sequential samplers run over its edges."""
    store = make_store(tmp_path / "store")
    whole = Window(0, 0, HEIGHT, WIDTH)
    set_split(store, SpatialSplit.by_blocks([w for w, _ in SCENES.values()], 20, (2, 1, 1), seed=1, buffer=2))
    for fold in ("train", "val", "test"):
        dataset = PatchDataset(store, fold)
        own = store.split.mask(whole, fold) & (store.read_labels(whole) < CHESAPEAKE.num_classes)
        in_scene = np.zeros_like(own)
        for window, _ in SCENES.values():
            in_scene[window.slices] = True
        own &= in_scene
        seen = np.zeros_like(own)
        for batch in DataLoader(
            dataset, batch_size=4, sampler=GridGeoSampler(dataset, size=8, stride=8), collate_fn=stack_samples
        ):
            for mask, image, place in zip(batch["mask"], batch["image"], batch["window"].tolist(), strict=True):
                rows, columns = np.nonzero(mask.numpy() < CHESAPEAKE.num_classes)
                assert own[rows + place[0], columns + place[1]].all()
                assert not image[:, mask == CHESAPEAKE.num_classes].any()
                seen[rows + place[0], columns + place[1]] = True
        assert seen.sum() > 0.5 * own.sum()  # TorchGeo passes over what is narrower than a patch
        for drawn in draw_independently(store, 6, 50, seed=0, fold=fold):
            assert own[drawn.slices].all()
        module = PatchModule(
            store, BandSettings(names=BANDS), fold, crop_size=6, batch_size=10, num_batches=5, num_workers=0
        )
        for draws in module.sampler:
            assert all(own[draw.window.slices].all() for draw in draws)
