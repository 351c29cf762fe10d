"""Long work: memory, open files and threads of `generate` and `train` over their course, which must not grow.

    nice python benchmarks/long_work.py [--side 20000] [--steps 5000] [--json FILE]

`generate` paints a square of SIDE pixels that holds data everywhere, with an untrained network of two base channels;
`train` makes STEPS small steps. Each is a process of its own. Prints a table of each, at every tenth of the work. Last
line: one JSON object, by work the growth from the second tenth (all is loaded, caches are full) to the highest later:
megabytes, open files, threads.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rasterio

import geosynth
from mosaic_memory import paint, write_square

TENTHS = 10
HEAD = ("part", "minutes", "MB", "open files", "threads")
Row = tuple[str, float, int, int, int]


class Watch:
    """Writes down, at each tenth of a stage, what the process holds."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._started = time.monotonic()
        self._process = psutil.Process()
        self._seen: set[tuple[str, int]] = set()

    def __call__(self, stage: str, done: int, total: int) -> None:
        tenth = TENTHS * done // max(total, 1)
        if (stage, tenth) in self._seen:
            return
        self._seen.add((stage, tenth))
        minutes = (time.monotonic() - self._started) / 60
        megabytes = self._process.memory_info().rss >> 20
        held = megabytes, self._process.num_fds(), self._process.num_threads()
        self.rows.append((f"{stage} {tenth}/{TENTHS}", round(minutes, 2), *held))


def long_generate(folder: Path, side: int, watch: Watch) -> None:
    """A mosaic of a square."""
    paint(str(write_square(folder / "labels.tif", side)), str(folder / "image.tif"), watch)


def long_train(folder: Path, steps: int, watch: Watch) -> None:
    """A training of small steps on random imagery."""
    labels = write_square(folder / "labels.tif", 1024)
    with rasterio.open(labels) as dataset:
        place = {name: dataset.profile[name] for name in ("crs", "transform", "height", "width")}
    with rasterio.open(folder / "image.tif", "w", driver="GTiff", count=4, dtype="uint8", **place) as image:
        image.write(np.random.default_rng(0).integers(1, 255, (4, 1024, 1024), dtype=np.uint8))
        image.descriptions = ("red", "green", "blue", "nir")
    image, store = folder / "image.tif", folder / "store"
    geosynth.ingest([image], [labels], store, by="blocks", block_size=256, shares=(1, 0, 0))
    small: dict[str, Any] = {"base_width": 4, "hidden_channels": 4, "encoder_width": 4, "discriminator_width": 4}
    settings = geosynth.TrainSettings.parse(
        {**small, "steps": steps, "crop_size": 64, "batch_size": 1, "perceptual_weight": 0, "precision": "fp32"}
    )
    geosynth.train(store, folder / "run", settings, progress=lambda done, total, left: watch("step", done, total))


WORKS: dict[str, Callable[[Path, int, Watch], None]] = {"generate": long_generate, "train": long_train}


def growth(rows: list[Row]) -> dict[str, int]:
    """From the second tenth of the longest stage to the highest value after it."""
    stages = [row[0].split()[0] for row in rows]
    longest = "painting" if "painting" in stages else "step"
    own = [row for row, stage in zip(rows, stages, strict=True) if stage == longest]
    first, later = own[min(2, len(own) - 1)], own[min(2, len(own) - 1) :]
    names = ("megabytes", "open_files", "threads")
    return {name: int(max(row[2 + n] for row in later) - first[2 + n]) for n, name in enumerate(names)}


def main() -> None:
    """Each work in a process of its own; the table and the growth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=20000, help="pixels")
    parser.add_argument("--steps", type=int, default=5000, help="of the training")
    parser.add_argument("--quick", action="store_true", help="only try it: 1500 px, 20 steps")
    parser.add_argument("--json", type=Path, help="also write the last line there")
    parser.add_argument("--only", choices=WORKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = {"generate": 1500, "train": 20} if options.quick else {"generate": options.side, "train": options.steps}
    if options.only:
        watch = Watch()
        with tempfile.TemporaryDirectory() as folder:
            WORKS[options.only](Path(folder), sizes[options.only], watch)
        print(json.dumps(watch.rows))
        return
    found = {}
    for name, size in sizes.items():
        command = [sys.executable, __file__, "--only", name, "--side", str(size), "--steps", str(size)]
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows: list[Row] = json.loads(run.stdout.splitlines()[-1])
        print(f"\n{name}, {size} {'px a side' if name == 'generate' else 'steps'}")
        for row in (HEAD, *rows):
            print(f"{row[0]:<16}" + "".join(f"{value!s:>12}" for value in row[1:]))
        found[name] = growth(rows)
    line = json.dumps(found)
    if options.json:
        options.json.write_text(line)
    print(line)


if __name__ == "__main__":
    main()
