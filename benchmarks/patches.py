"""Random 256 px image and label patches per second: geosynth, stock TorchGeo and bare rasterio.

    python benchmarks/patches.py [--quick] [--json FILE] [--data FOLDER]

One scene of 8192 px (2048 and batches of 4 with --quick), 4 bands uint8, as COGs (deflate, 512 px blocks, nodata
declared) and as a store. It is tiled from real NAIP imagery and labels where FOLDER (../shared/data) holds ohio_naip,
else drawn.
Medians of ratios, measured alternately in one run; each round opens its files again, so that no decoded block is in
memory. Random orders read the same patches; the pixels of all ways are compared first. Last line: one JSON object.

    chunk_aware_vs_torchgeo    our store, PatchBatchSampler, batches of 32 scaled for the network, over stock TorchGeo:
                               RasterDataset & RasterDataset, RandomGeoSampler (float32 too)
    chunk_aware_vs_rasterio    the same batches as stored (uint8), over windowed reads, one handle a file (uint8 too)
    random_vs_rasterio         our store, independent random patches, one by one, as stored
    random_vs_torchgeo, chunk_aware_cog_vs_rasterio, chunk_aware_cog_vs_torchgeo   _cog: read in place from the COGs
    *_per_s                    patches a second; *_workers_per_s: read ahead by 2 workers (TorchGeo's are processes)
    workers_vs_one, workers_vs_torchgeo   chunk-aware with 2 workers over without any, and over TorchGeo with 2
    workers_ceiling            the limit of the machine: two independent processes, over one
    wait_ms, wait_torchgeo_ms  what a training step of 100 ms waits for its batch of 32, with 2 workers (median)
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import rasterio.shutil
import torch
from affine import Affine
from rasterio.windows import Window as RasterioWindow
from torch.utils.data import DataLoader
from torchgeo.datasets import RasterDataset, stack_samples
from torchgeo.samplers import RandomGeoSampler

from geosynth.config import BandSettings
from geosynth.grid import Window
from geosynth.legend import Legend, LegendClass
from geosynth.models.process_settings import keep_freed_memory
from geosynth.patches.dataset import PatchDataset, PatchSet
from geosynth.patches.module import PatchModule
from geosynth.patches.sampler import Draw
from geosynth.raster.stores.folds import SplitRule
from geosynth.raster.stores.open import open_in_place
from geosynth.raster.stores.source import PatchSource
from geosynth.raster.stores.store import Store
from last_line import print_result

SIZE, WORKERS, STEP = 256, 2, 0.1
TRANSFORM = Affine(0.6, 0, 266115.6, 0, -0.6, 4303356.0)
BANDS = ("red", "green", "blue", "nir")
RATIOS = (
    ("chunk_aware_vs_torchgeo", "chunk_aware", "torchgeo"),
    ("chunk_aware_vs_rasterio", "stored", "rasterio"),
    ("random_vs_rasterio", "random", "rasterio"),
    ("random_vs_torchgeo", "random", "torchgeo"),
    ("chunk_aware_cog_vs_rasterio", "chunk_aware_cog", "rasterio"),
    ("chunk_aware_cog_vs_torchgeo", "chunk_aware_cog", "torchgeo"),
)
LEGEND = Legend(
    name="benchmark",
    classes=tuple(LegendClass(code=code, name=f"class {code}") for code in range(6)),
    nodata=(15,),
)


def main() -> None:
    """Measure, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smaller scene, smaller batches, fewer rounds")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = make_scene(folder, 2048 if arguments.quick else 8192, arguments.data / "ohio_naip")
        batch = 4 if arguments.quick else 32
        check_equal(folder, store, batch)
        result = measure(folder, store, batch, rounds=1 if arguments.quick else 9)
        with keep_freed_memory():  # as trainings do
            result |= measure_workers(folder, store, batch, rounds=1 if arguments.quick else 5)
    for key, value in result.items():
        print(f"{key:30} {value}")
    print_result(result, arguments.json)


def measure(folder: Path, store: Store, batch: int, rounds: int) -> dict[str, float]:
    """Single process."""
    patches = PatchSet([store])
    stored, ready = batches(module(store, batch), scaled=False), batches(module(store, batch))
    numbers: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        windows = random_windows(store, batch * 3 // 2, seed=number)
        cog = batches(module(in_place(folder), batch))  # reads the labels once, to find nodata
        draws = [Draw(0, visit, window) for visit, window in enumerate(windows)]
        rates = {
            "torchgeo": rate(torchgeo_patches(folder, store, windows[: batch // 2])),
            "rasterio": rate(rasterio_patches(folder, windows)),
            "random": rate(partial(map, lambda draw: patches[[draw]], draws)),
            "stored": rate(partial(flat, stored, 12)),
            "chunk_aware": rate(partial(flat, ready, 12)),
            "chunk_aware_cog": rate(partial(flat, cog, 4)),
        }
        if number == 0:
            continue  # a warm-up
        for key, value in rates.items():
            numbers.setdefault(f"{key}_per_s", []).append(value)
        for name, ours, theirs in RATIOS:
            numbers.setdefault(name, []).append(rates[ours] / rates[theirs])
    return {key: round(statistics.median(values), 2) for key, values in sorted(numbers.items())}


def measure_workers(folder: Path, store: Store, batch: int, rounds: int) -> dict[str, float]:
    """With workers, as fast as they can and beside training steps; each alone on the machine, in turn."""
    numbers: dict[str, list[float]] = {}
    apart = ProcessPoolExecutor(WORKERS, get_context("spawn"), _wait_for_all, (get_context("spawn").Barrier(WORKERS),))
    for number in range(rounds):
        rates = {}
        both = apart.map(_rate_alone, [folder / "store"] * WORKERS, [batch] * WORKERS, range(WORKERS))
        numbers.setdefault("apart_per_s", []).append(sum(both))
        for key, count in (("chunk_aware", 32), ("chunk_aware_workers", 32), ("torchgeo_workers", 4)):
            if key == "torchgeo_workers":
                stream = iter(torchgeo_loader(folder, batch, number))
            else:
                stream = batches(module(store, batch, WORKERS if "workers" in key else 0, seed=number))
            for one in islice(stream, 5):  # what workers had read ahead
                assert len(one["image"]) == batch
            rates[key] = rate(partial(flat, stream, count))
            if "workers" in key:
                numbers.setdefault(f"{key}_per_s", []).append(rates[key])
                waits = wait_for(stream, 20 if key == "chunk_aware_workers" else 6)
                name = "wait_ms" if key == "chunk_aware_workers" else "wait_torchgeo_ms"
                numbers.setdefault(name, []).append(1000 * statistics.median(waits))
            del stream  # ends its workers
        for key, other in (("workers_vs_one", "chunk_aware"), ("workers_vs_torchgeo", "torchgeo_workers")):
            numbers.setdefault(key, []).append(rates["chunk_aware_workers"] / rates[other])
        numbers.setdefault("workers_ceiling", []).append(numbers["apart_per_s"][-1] / rates["chunk_aware"])
    apart.shutdown()
    return {key: round(statistics.median(values), 2) for key, values in sorted(numbers.items())}


def _wait_for_all(gate: Any) -> None:
    _rate_alone.gate = gate  # type: ignore[attr-defined]


def _rate_alone(path: Path, batch: int, seed: int) -> float:
    """In a process of its own, at the same time as in the others."""
    with keep_freed_memory():
        stream = batches(module(Store(path), batch, seed=seed))
        assert sum(1 for _ in islice(stream, 5)) == 5
        _rate_alone.gate.wait()  # type: ignore[attr-defined]
        return rate(partial(flat, stream, 32))


def wait_for(stream: Any, steps: int) -> list[float]:
    """Seconds that each step of some waits for its batch; the step itself leaves the processor idle."""
    waits = []
    for _ in range(steps):
        start = time.perf_counter()
        next(stream)
        waits.append(time.perf_counter() - start)
        time.sleep(STEP)
    return waits


def module(source: PatchSource, batch: int, workers: int = 0, seed: int = 0) -> PatchModule:
    return PatchModule(
        source,
        BandSettings(names=BANDS),
        crop_size=SIZE,
        batch_size=batch,
        num_batches=10**6,
        seed=seed,
        num_workers=workers,
    )


def batches(patches: PatchModule, scaled: bool = True) -> Any:
    """Train batches as the network takes them, or as they are stored."""
    for batch in patches.train_dataloader():
        yield patches.on_after_batch_transfer(batch, 0) if scaled else batch


def flat(stream: Any, count: int) -> Iterator[torch.Tensor]:
    """The images of some batches, each batch let go of before the next."""
    for batch in islice(stream, count):
        yield from batch["image"]


def random_windows(source: PatchSource, count: int, seed: int) -> list[Window]:
    """TorchGeo's random patches, on whole pixels."""
    dataset = PatchDataset(source, "train")
    sampler = RandomGeoSampler(dataset, SIZE, count, generator=torch.Generator().manual_seed(seed))
    return [dataset.window_of(query) for query in sampler]


def torchgeo_dataset(folder: Path) -> Any:
    class Imagery(RasterDataset):  # type: ignore[misc]
        filename_glob = "scene.tif"

    class Labels(RasterDataset):  # type: ignore[misc]
        filename_glob = "scene.tif"
        is_image = False

    return Imagery(folder / "images") & Labels(folder / "labels")


def torchgeo_patches(folder: Path, store: Store, windows: list[Window]) -> Callable[[], Iterator[Any]]:
    dataset, patches = torchgeo_dataset(folder), PatchDataset(store, "train")
    queries = [patches.query(window) for window in windows]
    return lambda: (dataset[query] for query in queries)


def torchgeo_loader(folder: Path, batch: int, seed: int) -> DataLoader[Any]:
    dataset = torchgeo_dataset(folder)
    sampler = RandomGeoSampler(dataset, SIZE, 10**4, generator=torch.Generator().manual_seed(seed))
    return DataLoader(dataset, batch, sampler=sampler, num_workers=WORKERS, collate_fn=stack_samples)


def rasterio_patches(folder: Path, windows: list[Window]) -> Callable[[], Iterator[Any]]:
    def read() -> Iterator[Any]:
        with rasterio.open(folder / "images/scene.tif") as image, rasterio.open(folder / "labels/scene.tif") as labels:
            places = [RasterioWindow(w.column, w.row, w.width, w.height) for w in windows]
            yield from ((image.read(window=place), labels.read(1, window=place)) for place in places)

    return read


def rate(read: Callable[[], Iterator[Any]]) -> float:
    """Patches a second."""
    start = time.perf_counter()
    number = sum(1 for _ in read())
    return number / (time.perf_counter() - start)


def check_equal(folder: Path, store: Store, batch: int) -> None:
    """All ways give the same pixels."""
    windows = random_windows(store, 12, seed=99)
    bare = rasterio_patches(folder, windows)()
    ours, cog = PatchDataset(store, "train"), PatchDataset(in_place(folder), "train")
    for window, (image, labels), stock in zip(windows, bare, torchgeo_patches(folder, store, windows)(), strict=True):
        for sample in (ours.patch(window), cog.patch(window), stock):
            np.testing.assert_array_equal(sample["image"].numpy(), image)
            np.testing.assert_array_equal(sample["mask"].numpy().squeeze(), labels)
    patches = module(store, batch)
    first = patches.dataset[next(iter(patches.sampler))]
    for place, image, mask in zip(first["window"].tolist(), first["image"], first["mask"], strict=True):
        bare_image, bare_labels = next(rasterio_patches(folder, [Window(*place)])())
        np.testing.assert_array_equal(image.numpy(), bare_image)
        np.testing.assert_array_equal(mask.numpy(), bare_labels)


def in_place(folder: Path) -> PatchSource:
    rule = SplitRule(shares=(1, 0, 0))
    return open_in_place(folder / "images/scene.tif", folder / "labels/scene.tif", LEGEND, bands=BANDS, split=rule)[0]


def make_scene(folder: Path, side: int, real: Path) -> Store:
    """Write the scene as COGs and as a store."""
    image, labels = real_pixels(side, real) if real.is_dir() else drawn_pixels(side)
    image = np.maximum(image, 1)  # 0 is declared nodata below
    for name, values, nodata in (("images", image, 0), ("labels", labels[None], 15)):
        (folder / name).mkdir()
        shape = {"count": len(values), "height": side, "width": side, "dtype": "uint8"}
        place = {"crs": "EPSG:26917", "transform": TRANSFORM, "nodata": nodata}
        plain = folder / "plain.tif"
        with rasterio.open(plain, "w", driver="GTiff", tiled=True, **shape, **place) as file:
            file.write(values)
        options = {"COMPRESS": "DEFLATE", "BLOCKSIZE": 512, "OVERVIEWS": "NONE"}
        rasterio.shutil.copy(plain, folder / name / "scene.tif", driver="COG", **options)
        plain.unlink()
    source = in_place(folder)
    pixels = tuple(np.bincount(labels.ravel(), minlength=6).tolist())
    source.scenes = tuple(replace(scene, class_pixels=pixels) for scene in source.scenes)
    store = Store.create(folder / "store", source)
    for shard in store.shards():
        store.write(shard, image[(slice(None), *shard.slices)], labels[shard.slices])
    return Store(folder / "store")


def real_pixels(side: int, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """NAIP tiles and their labels in random order, turned at random."""
    names = sorted(path.name for path in (folder / "images").glob("*.tif"))
    rng = np.random.default_rng(0)
    image, labels = np.empty((4, side, side), np.uint8), np.empty((side, side), np.uint8)
    for place in squares(side):
        name, turns = names[int(rng.integers(len(names)))], int(rng.integers(4))
        with rasterio.open(folder / "images" / name) as one, rasterio.open(folder / "labels" / name) as other:
            image[(slice(None), *place.slices)] = np.rot90(one.read(), turns, (1, 2))
            labels[place.slices] = np.rot90(other.read(1), turns)
    return image, labels


def drawn_pixels(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Fields of one class and colour each, with noise that compresses about as imagery does."""
    rng = np.random.default_rng(0)
    fields = rng.integers(6, size=(side // 64, side // 64)).astype(np.uint8)
    labels = np.kron(fields, np.ones((64, 64), np.uint8))
    image = np.empty((4, side, side), np.uint8)
    for band in image:
        colours = rng.integers(60, 180, 6)
        band[:] = np.clip(colours[labels] + rng.normal(0, 9, labels.shape), 0, 255)
    return image, labels


def squares(side: int) -> list[Window]:
    return [Window(row, column, SIZE, SIZE) for row in range(0, side, SIZE) for column in range(0, side, SIZE)]


if __name__ == "__main__":
    main()
