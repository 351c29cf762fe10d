"""PatchDataset: queries, windows and folds, with TorchGeo's own samplers and set operations."""

from __future__ import annotations

import copy
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
import torchgeo.samplers
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from stores import HEIGHT, NO_CLASS, SCENES, WIDTH, make_store
from torch.utils.data import DataLoader
from torchgeo.datasets import RasterDataset, stack_samples
from torchgeo.samplers import GridGeoSampler, RandomGeoSampler

import geosynth
from geosynth.errors import DataError, GridError, RasterError, SettingsError
from geosynth.grid import Window
from geosynth.patches.dataset import PatchDataset
from geosynth.raster.stores.store import Store
from rasters import UTM, north_up, write_raster
from strategies import few

GRIDS = {
    "north-up": (north_up(1000, 2000), "EPSG:26917"),
    "south-up": (Affine(0.5, 0, 266000, 0, 0.5, 4300000), "EPSG:26917"),
    "mirrored": (Affine(-0.5, 0, 266000, 0, -0.5, 4300000), "EPSG:26917"),
    "degrees": (Affine(1 / 3600, 0, -77.123, 0, -1 / 3600, 39.01), "EPSG:4326"),
    "no crs": (Affine.identity(), None),
}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    folder = tmp_path_factory.mktemp("stores")
    return {name: make_store(folder / name, transform, crs) for name, (transform, crs) in GRIDS.items()}


@st.composite
def inside(draw: st.DrawFn, outer: Window) -> Window:
    row, column = draw(st.integers(outer.row, outer.bottom - 1)), draw(st.integers(outer.column, outer.right - 1))
    return Window(row, column, draw(st.integers(1, outer.bottom - row)), draw(st.integers(1, outer.right - column)))


def assert_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=0, atol=0)


@pytest.mark.parametrize("grid", GRIDS)
@few
@given(data=st.data())
def test_a_query_is_its_pixel_window(stores: dict[str, Store], grid: str, data: st.DataObject) -> None:
    store = stores[grid]
    dataset = PatchDataset(store, "train")
    window = data.draw(inside(Window(0, 0, HEIGHT, WIDTH)))
    x, y, time = dataset.query(window)
    assert x.stop > x.start
    assert y.stop > y.start
    side = dataset.res
    nudge = data.draw(st.floats(-0.4, 0.4))  # queries off the grid are snapped to it
    moved = (
        slice(x.start + nudge * side[0], x.stop + nudge * side[0]),
        slice(y.start + nudge * side[1], y.stop + nudge * side[1]),
        time,
    )
    sample = dataset[moved]
    assert sample["window"].tolist() == [window.row, window.column, window.height, window.width]
    assert_equal(sample, dataset.patch(window))
    assert_equal(dataset[moved[:2]], sample)  # newer TorchGeo leaves out time


@few
@given(data=st.data())
def test_a_patch_of_a_scene_is_what_the_store_holds(stores: dict[str, Store], data: st.DataObject) -> None:
    store = stores["north-up"]
    window = data.draw(inside(SCENES["a"][0]))
    sample = PatchDataset(store, "train").patch(window)
    assert (sample["image"].dtype, sample["mask"].dtype) == (torch.float32, torch.int64)
    np.testing.assert_array_equal(sample["image"], store.read_image(window))
    np.testing.assert_array_equal(sample["mask"], store.read_labels(window))


@few
@given(
    row=st.integers(-20, HEIGHT - 1),
    column=st.integers(-20, WIDTH - 1),
    height=st.integers(21, 90),
    width=st.integers(21, 90),
)
def test_a_patch_shows_nothing_but_scenes_of_its_fold(
    stores: dict[str, Store], row: int, column: int, height: int, width: int
) -> None:
    store, window = stores["north-up"], Window(row, column, height, width)
    whole = Window(0, 0, HEIGHT, WIDTH)
    for fold in ("train", "test"):
        own = np.zeros((HEIGHT, WIDTH), dtype=bool)
        for place, belongs in SCENES.values():
            own[place.slices] |= belongs == fold
        image = np.pad(np.where(own, store.read_image(whole), 0), ((0, 0), (20, 90), (20, 90)))
        mask = np.pad(np.where(own, store.read_labels(whole), NO_CLASS), ((20, 90), (20, 90)), constant_values=NO_CLASS)
        place = window.shift(20, 20).slices
        sample = PatchDataset(store, fold).patch(window)
        np.testing.assert_array_equal(sample["image"], image[(slice(None), *place)])
        np.testing.assert_array_equal(sample["mask"], mask[place])


def test_paths_are_taken(stores: dict[str, Store], tmp_path: Path) -> None:
    store = stores["north-up"]
    assert geosynth.open_store(store.path).digest() == geosynth.open_store(store).digest() == store.digest()
    window = store.scenes[0].window
    for path in (store.path, Path(store.path)):
        assert_equal(PatchDataset(path, "train").patch(window), PatchDataset(store, "train").patch(window))
    view = geosynth.TileView(store.path, "train", 16)
    for data in (store.path, store):
        assert list(view) == list(geosynth.view_tiles(data, "train", 16)[0])
    assert (geosynth.export_tiles(view, tmp_path / "tiles") / "index.parquet").is_file()
    for wrong, error in ((7, SettingsError), (None, SettingsError), (tmp_path / "absent", RasterError)):
        for use in (
            geosynth.open_store,
            lambda one: PatchDataset(one, "train"),
            lambda one: geosynth.TileView(one, "train"),
        ):
            with pytest.raises(error):
                use(wrong)
    (tmp_path / "both").mkdir()
    for name in ("a", "b"):
        (tmp_path / "both" / name).symlink_to(Path(store.path).absolute())
    with pytest.raises(RasterError, match=r"holds several stores; choose one: .*both/a, .*both/b"):
        geosynth.open_store(tmp_path / "both")


def test_what_lies_outside_the_store_is_an_index_error(stores: dict[str, Store]) -> None:
    dataset = PatchDataset(stores["north-up"], "train")
    for window in (Window(HEIGHT, 0, 5, 5), Window(0, -5, 5, 5)):
        with pytest.raises(IndexError, match="outside"):
            dataset.patch(window)
        with pytest.raises(IndexError, match="outside"):
            dataset[dataset.query(window)]


@pytest.mark.parametrize("grid", GRIDS)
def test_random_sampler_of_torchgeo(stores: dict[str, Store], grid: str) -> None:
    dataset = PatchDataset(stores[grid], "train")
    sampler = RandomGeoSampler(dataset, size=16, length=12, generator=torch.Generator().manual_seed(0))
    seen = 0
    for batch in DataLoader(dataset, batch_size=4, sampler=sampler, collate_fn=stack_samples):
        assert batch["image"].shape == (4, 4, 16, 16)
        assert batch["mask"].shape == (4, 16, 16)
        assert (batch["mask"] < NO_CLASS).all()  # inside the scenes
        for sample in range(4):
            window = Window(*batch["window"][sample].tolist())
            np.testing.assert_array_equal(batch["image"][sample], dataset.source.read_image(window))
            seen += 1
    assert seen == 12


def test_the_batch_sampler_of_torchgeo(stores: dict[str, Store]) -> None:
    if not hasattr(torchgeo.samplers, "RandomBatchGeoSampler"):
        pytest.skip("this TorchGeo has no RandomBatchGeoSampler")
    dataset = PatchDataset(stores["north-up"], "train")
    sampler = torchgeo.samplers.RandomBatchGeoSampler(dataset, size=16, batch_size=3, length=6)
    batches = list(DataLoader(dataset, batch_sampler=sampler, collate_fn=stack_samples))
    assert [batch["image"].shape for batch in batches] == 2 * [(3, 4, 16, 16)]
    for batch in batches:
        for image, window in zip(batch["image"], batch["window"], strict=True):
            np.testing.assert_array_equal(image, dataset.source.read_image(Window(*window.tolist())))


def test_the_random_sampler_of_newer_torchgeo(stores: dict[str, Store]) -> None:
    if not hasattr(torchgeo.samplers, "RandomPatchSampler"):
        pytest.skip("this TorchGeo has no RandomPatchSampler")
    dataset = PatchDataset(stores["north-up"], "train")
    sampler = torchgeo.samplers.RandomPatchSampler(dataset, size=16, length=12, generator=0)
    for batch in DataLoader(dataset, batch_size=4, sampler=sampler, collate_fn=stack_samples):
        for sample in range(4):
            window = Window(*batch["window"][sample].tolist())
            np.testing.assert_array_equal(batch["image"][sample], dataset.source.read_image(window))


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("sampler", ["GridGeoSampler", "GriddedPatchSampler"])  # of TorchGeo up to 0.9, from 0.10 on
def test_grid_samplers_of_torchgeo_see_each_pixel_of_the_fold_once(
    stores: dict[str, Store], grid: str, sampler: str
) -> None:
    if not hasattr(torchgeo.samplers, sampler):
        pytest.skip(f"this TorchGeo has no {sampler}")
    dataset = PatchDataset(stores[grid], "train")
    visits = np.zeros((HEIGHT, WIDTH), dtype=int)
    for query in getattr(torchgeo.samplers, sampler)(dataset, size=16):  # the last chips of a scene reach beyond it
        sample = dataset[query]
        window = Window(*sample["window"].tolist())
        assert (window.height, window.width) == (16, 16)
        labelled = sample["mask"].numpy() < NO_CLASS
        rows, columns = np.nonzero(labelled)
        visits[rows + window.row, columns + window.column] += 1
    wanted = np.zeros((HEIGHT, WIDTH), dtype=int)
    for place, fold in SCENES.values():
        wanted[place.slices] += fold == "train"
    np.testing.assert_array_equal(visits, wanted)


@few
@given(
    size=st.sampled_from([0.5, 0.6, 1 / 3, 10]), column=st.integers(-(10**5), 10**5), row=st.integers(-(10**5), 10**6)
)
def test_samplers_of_torchgeo_lose_no_place_that_is_as_large_as_a_patch(
    stores: dict[str, Store], size: float, column: int, row: int
) -> None:
    source = copy.copy(stores["north-up"])
    source.geobox = GeoBox((HEIGHT, WIDTH), north_up(column, row, size), UTM)
    dataset = PatchDataset(source, "train")  # places of 40 x 50 and of 30 x 30 px
    for side, patches in ((30, 2 * 2 + 1), (10, 4 * 5 + 3 * 3)):
        assert len(list(GridGeoSampler(dataset, size=side))) == patches
    drawn = RandomGeoSampler(dataset, size=30, length=50, generator=torch.Generator().manual_seed(0))
    windows = [dataset.window_of(query) for query in drawn]
    assert SCENES["b"][0] in windows
    assert any(window.row < SCENES["b"][0].row for window in windows)


def elevation(folder: Path, transform: Affine, crs: str = "EPSG:26917") -> RasterDataset:
    """A raster beside the store that holds each pixel's row and column."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    write_raster(folder / "elevation.tif", np.stack([rows, columns]), transform, crs=crs)
    return RasterDataset(folder)


def test_intersection_with_another_dataset_of_torchgeo(stores: dict[str, Store], tmp_path: Path) -> None:
    patches = PatchDataset(stores["north-up"], "train")
    other = elevation(tmp_path, patches.source.geobox.affine)
    for both, first in ((patches & other, 0), (other & patches, 2)):  # images are stacked in the order of the datasets
        queries = list(RandomGeoSampler(both, size=16, length=5, generator=torch.Generator().manual_seed(1)))
        batch = stack_samples([both[query] for query in queries])
        assert batch["image"].shape == (5, 6, 16, 16)
        rows, columns = batch["image"].split([4, 2] if first == 0 else [2, 4], dim=1)[first == 0].split(1, dim=1)
        for sample, (row, column, _, _) in enumerate(batch["window"].tolist()):
            assert (rows[sample, 0] == torch.arange(row, row + 16)[:, None]).all()
            assert (columns[sample, 0] == torch.arange(column, column + 16)).all()


def test_patches_are_never_reprojected_or_resampled(stores: dict[str, Store], tmp_path: Path) -> None:
    patches = PatchDataset(stores["north-up"], "train")
    finer = elevation(tmp_path / "finer", patches.source.geobox.affine @ Affine.scale(0.5))
    elsewhere = elevation(tmp_path / "elsewhere", Affine(0.6, 0, -1e6, 0, -0.6, 5e6), "EPSG:32618")
    with pytest.raises(GridError, match=r"not resampled.*first"):
        finer & patches
    with pytest.raises(GridError, match=r"not reprojected.*first"):
        elsewhere & patches
    assert (patches & finer).res == patches.res


def test_union_of_two_folds(stores: dict[str, Store]) -> None:
    store = stores["north-up"]
    both = PatchDataset(store, "train") | PatchDataset(store, "test")
    assert len(both) == len(SCENES)


def test_samples_are_the_same_in_forked_workers(stores: dict[str, Store]) -> None:
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("workers are not forked here")
    dataset = PatchDataset(stores["north-up"], "train")
    queries = [dataset.query(Window(10 + step, 20 + step, 16, 16)) for step in range(8)]
    wanted = stack_samples([dataset[query] for query in queries])  # the store is in use before the fork
    loader = DataLoader(
        dataset,
        batch_size=4,
        sampler=queries,
        collate_fn=stack_samples,
        num_workers=2,
        multiprocessing_context="fork",
        timeout=60,
    )
    images = torch.cat([batch["image"] for batch in loader])
    torch.testing.assert_close(images, wanted["image"], rtol=0, atol=0)


def test_transforms_are_applied(stores: dict[str, Store]) -> None:
    dataset = PatchDataset(stores["north-up"], "train", transforms=lambda sample: {"mask": sample["mask"] + 1})
    window = Window(10, 20, 4, 4)
    assert_equal(dataset.patch(window), {"mask": PatchDataset(dataset.source, "train").patch(window)["mask"] + 1})


def test_bounds_are_those_of_the_scenes(stores: dict[str, Store]) -> None:
    for grid in ("north-up", "no crs"):
        dataset = PatchDataset(stores[grid], "test")
        x, y, _ = dataset.bounds
        wanted = dataset.query(SCENES["c"][0])
        assert (x.start, x.stop, y.start, y.stop) == pytest.approx(
            (wanted[0].start, wanted[0].stop, wanted[1].start, wanted[1].stop)
        )
    assert PatchDataset(stores["no crs"], "test").crs is None
    assert PatchDataset(stores["north-up"], "test").crs.to_epsg() == 26917


def test_refusals(stores: dict[str, Store], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'val' has no scenes"):
        PatchDataset(stores["north-up"], "val")
    rotated = make_store(tmp_path / "rotated", Affine.rotation(20) @ Affine.scale(2, -2))
    with pytest.raises(DataError, match="rotated"):
        PatchDataset(rotated, "train")
