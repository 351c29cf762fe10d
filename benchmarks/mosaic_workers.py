"""How much faster two Dask workers paint than one, one torch thread each.

    python benchmarks/mosaic_workers.py [--quick] [--json FILE] [--labels RASTER] [--model FILE]

The whole of `generate`, from the label file to the finished COG, alternately on a cluster of one process and on one of
two; both are running and have loaded the model before the clock starts. Alternating with these, the limit of the
machine: the same image painted by one process alone, and by two independent ones at once. Also part of
`benchmarks/mosaic.py`.
Last line: one JSON object.

    workers_2_vs_1                        seconds with one worker over seconds with two (median of pairs)
    workers_ceiling                       images in a time by two processes over those by one (median of pairs)
    seconds_1_worker, seconds_2_workers   medians
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
import torch
from distributed import Client, LocalCluster

from geosynth import GenerateSettings, generate
from last_line import print_result
from mosaic_memory import EXAMPLE

# Small blocks, so that no worker waits long for the last one; and the network sees 512 px at most anyway.
BLOCK_SIZE = 512


def main() -> None:
    """Measure, print a table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one repetition, on the labels as they are")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--labels", type=Path, default=EXAMPLE)
    parser.add_argument("--model", type=Path)
    arguments = parser.parse_args()
    result = compare_workers(arguments.labels, arguments.model, quick=arguments.quick)
    for name, value in result.items():
        print(f"{name:18} {value}")
    print_result(result, arguments.json)


def compare_workers(labels: Path, model: Path | None, *, quick: bool) -> dict[str, float]:
    """See above. Not quick: on the labels twice side by side and twice below, so that the work divides well."""
    settings = GenerateSettings(block_size=BLOCK_SIZE)
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        source = labels if quick else _repeated(labels, Path(folder) / "labels.tif", 2)
        out = Path(folder) / "image.tif"

        def seconds(client: Client) -> float:
            start = time.perf_counter()
            generate(source, out, model, settings, client=client, overwrite=True)
            return time.perf_counter() - start

        clients = [stack.enter_context(_cluster(number)) for number in (1, 2)]
        workers = list(clients[1].scheduler_info()["workers"])

        def seconds_apart(number: int) -> float:
            """By processes that each paint an image of their own."""
            start = time.perf_counter()
            images = [(Path(folder) / f"{index}.tif", worker) for index, worker in enumerate(workers[:number])]
            clients[1].gather(
                [clients[1].submit(_alone, source, out, model, workers=[at], pure=False) for out, at in images]
            )
            return time.perf_counter() - start

        for client in clients:  # each worker has loaded the model and has its memory
            generate(labels, out, model, settings, client=client, overwrite=True)
        seconds_apart(2)
        pairs, apart = [], []
        for _ in range(1 if quick else 3):
            pairs.append([seconds(client) for client in clients])
            apart.append([seconds_apart(number) for number in (1, 2)])
    return {
        "workers_2_vs_1": round(statistics.median(one / two for one, two in pairs), 3),
        "workers_ceiling": round(statistics.median(2 * one / two for one, two in apart), 3),
        "seconds_1_worker": round(statistics.median(one for one, _ in pairs), 2),
        "seconds_2_workers": round(statistics.median(two for _, two in pairs), 2),
    }


def _alone(labels: Path, out: Path, model: Path | None) -> None:
    torch.set_num_threads(1)
    generate(labels, out, model, block_size=BLOCK_SIZE, overwrite=True)


@contextlib.contextmanager
def _cluster(workers: int) -> Iterator[Client]:
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs=logging.ERROR
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _repeated(labels: Path, path: Path, times: int) -> Path:
    """The labels `times` times side by side and below each other."""
    with rasterio.open(labels) as source:
        codes = np.tile(source.read(), (1, times, times))
        profile = {**source.profile, "width": codes.shape[2], "height": codes.shape[1]}
    with rasterio.open(path, "w", **profile) as target:
        target.write(codes)
    return path


if __name__ == "__main__":
    main()
