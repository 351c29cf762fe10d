"""PatchModule: the loaders of a training, with and without workers, and what goes wrong in them."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from stores import SCENES, make_store

from geosynth.config import BandSettings
from geosynth.errors import DataError, GeosynthError, GridError, RasterError
from geosynth.grid import SpatialSplit, Window
from geosynth.legend import Legend, LegendClass
from geosynth.patches.module import PatchModule
from geosynth.raster.raster_file import open_raster
from geosynth.raster.stores.folds import SplitRule
from geosynth.raster.stores.open import open_in_place
from geosynth.raster.stores.statistics import band_settings
from geosynth.raster.stores.store import Store
from memory_source import MemorySource
from rasters import north_up, random_codes, random_image, write_raster

BANDS = BandSettings(names=("red", "green", "blue", "nir"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("stores") / "store")


def make(source: Any, **options: Any) -> PatchModule:
    return PatchModule(source, BANDS, **{"crop_size": 24, "batch_size": 8, "num_batches": 6, "seed": 0, **options})


def ready(module: PatchModule) -> list[dict[str, torch.Tensor]]:
    return [module.on_after_batch_transfer(batch, 0) for batch in module.train_dataloader()]


def assert_same(one: list[dict[str, torch.Tensor]], other: list[dict[str, torch.Tensor]]) -> None:
    for first, second in zip(one, other, strict=True):
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("crs", ["EPSG:26917", None])
def test_batches_for_a_trainer(tmp_path: Path, crs: str | None) -> None:
    store = make_store(tmp_path / "store", crs=crs)
    module = make(store)
    batches = ready(module)
    assert len(batches) == len(module.train_dataloader()) == 6
    for batch in batches:
        assert (batch["image"].shape, batch["image"].dtype) == ((8, 4, 24, 24), torch.float32)
        assert (batch["mask"].shape, batch["mask"].dtype) == ((8, 24, 24), torch.int64)
        assert batch["mask"].max() < store.legend.num_classes
        for image, mask, place, affine in zip(*(batch[k] for k in ("image", "mask", "window", "affine")), strict=True):
            window = Window(*place.tolist())
            torch.testing.assert_close(image, BANDS.to_network(torch.from_numpy(store.read_image(window)).float()))
            np.testing.assert_array_equal(mask, store.read_labels(window))
            corner = store.geobox.affine @ (window.column, window.row)
            assert (float(affine[2]), float(affine[5])) == corner
    assert_same(batches, ready(make(store)))


def test_workers_and_interruptions_change_nothing(store: Store) -> None:
    whole = ready(make(store))
    assert_same(ready(make(store, num_workers=2)), whole)
    assert_same(ready(make(store, start=4, num_workers=1)), whole[4:])


def test_a_few_batches_are_read_ahead_and_no_more(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    module = make(store, num_batches=100, num_workers=2)
    read, reads = type(module.dataset).__getitem__, []

    def note(self: Any, draws: Any) -> Any:
        reads.append(threading.current_thread())
        return read(self, draws)

    monkeypatch.setattr(type(module.dataset), "__getitem__", note)
    before = set(threading.enumerate())
    loader = iter(module.train_dataloader())
    for _ in range(10):
        next(loader)
    loader.close()
    assert 10 <= len(reads) <= 15  # two a thread are on the way beside the one that is given
    assert threading.main_thread() not in reads
    assert set(threading.enumerate()) <= before


def test_several_sources(store: Store, tmp_path: Path) -> None:
    other = make_store(tmp_path / "other", north_up(0, 90_000), "EPSG:26918")
    module = make([store, other], num_batches=20)
    for batch in ready(module):
        parts = (batch[name] for name in ("source", "window", "mask", "affine"))
        for number, place, mask, affine in zip(*parts, strict=True):
            source, window = (store, other)[int(number)], Window(*place.tolist())
            np.testing.assert_array_equal(mask, source.read_labels(window))
            moved = source.geobox.affine @ source.geobox.affine.translation(window.column, window.row)
            assert tuple(affine.tolist()) == tuple(moved[:6])
    assert {int(number) for batch in ready(module) for number in batch["source"]} == {0, 1}
    small = [Window(0, 0, 20, 20)]
    tiny = MemorySource((64, 64), small, SpatialSplit.by_scenes({"train": small}))
    assert {int(n) for batch in ready(make([tiny, store])) for n in batch["source"]} == {1}  # no room in the first


def test_sources_that_do_not_go_together_are_refused(store: Store, tmp_path: Path) -> None:
    scenes = [Window(0, 0, 64, 64)]
    split = SpatialSplit.by_scenes({"train": scenes})
    with pytest.raises(
        DataError, match=r"memory: its pixel values \(uint16\) differ from .*; ingest --dtype uint8 if they fit$"
    ):
        make([store, MemorySource((64, 64), scenes, split, dtype="uint16")])
    coarse = make_store(tmp_path / "coarse", north_up(size=1.2))
    with pytest.raises(GridError, match=r"pixels of 1.2 m"):
        make([store, coarse])


def test_pixels_without_a_size_are_taken_to_fit(store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Which is said once, whatever their number and order; those of a known size must fit each other."""
    nowhere, lost = (make_store(tmp_path / name, crs=None) for name in ("nowhere", "lost"))
    make([nowhere, store, lost, store])
    [said] = caplog.messages
    assert said.startswith(
        f"{nowhere.path}, {lost.path}: pixels of unknown size (no CRS in metres), taken for the 0.6 m"
    )
    assert f"of {store.path}; resample them first" in said
    with pytest.raises(GridError, match=r"pixels of 1.2 m"):
        make([nowhere, store, make_store(tmp_path / "coarse", north_up(size=1.2))])


def test_tiles_of_the_test_fold_in_order(store: Store) -> None:
    batches = list(make(store, batch_size=3).test_dataloader())
    windows = [Window(*place) for batch in batches for place in batch["window"].tolist()]
    own = [window for window, fold in SCENES.values() if fold == "test"]
    assert windows == sorted(windows)
    covered = np.zeros(store.geobox.shape, dtype=bool)
    for window in windows:
        assert own[0].contains(window)
        covered[window.slices] = True
    assert covered.sum() == own[0].height * own[0].width
    with pytest.raises(DataError, match="'val' holds no whole tile"):
        make(store).val_dataloader()


class Counting(LightningModule):
    """Notes what it is trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[torch.Tensor] = []

    def training_step(self, batch: dict[str, torch.Tensor], _: int) -> torch.Tensor:
        assert batch["image"].abs().max() <= 1
        self.seen.append(batch["window"].clone())
        return self.weight * batch["image"].mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_lightning_trainer_takes_it(store: Store, tmp_path: Path) -> None:
    task = Counting()
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_epochs=1, accelerator="cpu", default_root_dir=tmp_path, enable_model_summary=False, **options)
    trainer.fit(task, make(store))
    wanted = [batch["window"] for batch in make(store).train_dataloader()]
    assert all(torch.equal(one, other) for one, other in zip(task.seen, wanted, strict=True))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("which", ["image", "labels"])
def test_a_truncated_file_is_named_in_the_middle_of_an_epoch(tmp_path: Path, which: str, num_workers: int) -> None:
    for name in ("0", "1"):
        place = north_up(300 * int(name))
        blocks = {"tiled": True, "blockxsize": 32, "blockysize": 32, "compress": "deflate"}
        write_raster(tmp_path / "images" / f"{name}.tif", random_image(int(name), 256, 256), place, **blocks)
        write_raster(tmp_path / "labels" / f"{name}.tif", random_codes(int(name), 256, 256), place, **blocks)
    bands = BANDS.names
    split = SplitRule(shares=(1, 0, 0))
    source = open_in_place(tmp_path / "images", tmp_path / "labels", bands=bands, split=split)[0]
    module = make(source, num_batches=50, num_workers=num_workers)  # counts positions in files that are whole
    victim = tmp_path / ("images" if which == "image" else "labels") / "1.tif"
    content = victim.read_bytes()
    victim.write_bytes(content[: len(content) // 2])
    module.dataset = pickle.loads(pickle.dumps(module.dataset))  # GDAL still knows the blocks it has read
    loader = iter(module.train_dataloader())
    with pytest.raises(RasterError, match=rf"{'images' if which == 'image' else 'labels'}/1\.tif: cannot read"):
        for _ in range(50):
            next(loader)


def test_a_damaged_store_names_the_file(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store")
    module = make(store)
    shard = next(path for path in sorted((tmp_path / "store/image/c").rglob("*")) if path.is_file())
    shard.write_bytes(shard.read_bytes()[:-200])
    with pytest.raises(RasterError, match="store/image/c/"):
        ready(module)


def test_progress_is_told(store: Store) -> None:
    told: list[tuple[int, int]] = []
    note: Callable[[int, int], None] = lambda done, total: told.append((done, total))  # noqa: E731
    make(store, class_weights={"water": 1.0}, progress=note)
    assert told == [(number, len(told)) for number in range(1, len(told) + 1)]


@pytest.mark.realdata
@pytest.mark.parametrize("role", ["image", "labels"])
def test_odd_files_give_patches_or_one_line(role: str, real_data: Path, tmp_path: Path) -> None:
    classes = tuple(LegendClass(code=code, name=f"class {code}") for code in range(8))
    legend = Legend(name="any", classes=classes, nodata=(255,))
    trained, refusals = 0, []
    for file in sorted(file for file in (real_data / "robustness").rglob("*") if file.suffix in (".tif", ".vrt")):
        try:
            grid = open_raster(file).geobox
            values = np.random.default_rng(0).integers(0, 8, (1 if role == "image" else 3, *grid.shape)).astype("uint8")
            crs = grid.crs.to_wkt() if grid.crs else None
            other = write_raster(tmp_path / "other.tif", values, grid.affine, crs=crs)
            image, labels = (file, other) if role == "image" else (other, file)
            bands = [f"band {number}" for number in range(open_raster(image).count)]
            sources = open_in_place(image, labels, legend, bands=bands, split=SplitRule(shares=(1, 0, 0)))
            size = min(32, *grid.shape)
            module = PatchModule(sources, band_settings(sources), crop_size=size, batch_size=4, num_batches=2)
            for batch in ready(module):
                assert torch.isfinite(batch["image"]).all()
                assert batch["mask"].max() < legend.num_classes
            trained += 1
        except GeosynthError as error:
            refusals.append((file.name, str(error)))
    assert trained >= (20 if role == "image" else 2)
    for name, message in refusals:
        assert name in message
        assert "\n" not in message
