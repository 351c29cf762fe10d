"""Long work: memory, open files and threads of `generate` and `train` over time, which must not grow.

    nice python benchmarks/long_work.py [--side 20000] [--steps 5000] [--json FILE] [--figure FILE]

`generate` paints a square of SIDE pixels with data everywhere, with an untrained network of two base channels; `train`
makes STEPS small steps. Each is a separate process. Prints a table for each, at every tenth of the work; the figure
shows every fiftieth. Last line: one JSON object, for each work the growth from the second tenth (everything is loaded,
caches are full) to the highest value afterwards: megabytes, open files, threads.
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
from matplotlib.figure import Figure

import geosynth
from last_line import print_result
from mosaic_memory import paint, write_square

PARTS, TENTH = 50, 5
HEAD = ("part", "minutes", "MB", "open files", "threads")
Row = tuple[str, int, float, int, int, int]
"""Stage, finished fiftieths of it, minutes since the start, and the last three values of the header."""


class Watch:
    """Records, at each fiftieth of a stage, memory, open files and threads of the process."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._started = time.monotonic()
        self._process = psutil.Process()
        self._seen: set[tuple[str, int]] = set()

    def __call__(self, stage: str, done: int, total: int) -> None:
        part = PARTS * done // max(total, 1)
        if (stage, part) in self._seen:
            return
        self._seen.add((stage, part))
        minutes = (time.monotonic() - self._started) / 60
        megabytes = self._process.memory_info().rss >> 20
        held = megabytes, self._process.num_fds(), self._process.num_threads()
        self.rows.append((stage, part, round(minutes, 2), *held))


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


def longest(rows: list[Row]) -> list[Row]:
    """The rows of the work's main stage."""
    return [row for row in rows if row[0] in ("painting", "step")]


def growth(rows: list[Row]) -> dict[str, int]:
    """From the second tenth of the main stage to the highest value after it."""
    own = [row[3:] for row in longest(rows) if row[1] >= 2 * TENTH]
    names = ("megabytes", "open_files", "threads")
    return {name: max(row[n] for row in own) - own[0][n] for n, name in enumerate(names)}


def draw(works: dict[str, list[Row]], path: Path) -> None:
    """Draw a column for each work, with rows for memory, open files and threads."""
    figure = Figure(figsize=(9, 6), dpi=100, layout="constrained")
    axes = figure.subplots(3, len(works), sharex="col", squeeze=False)
    for column, (title, rows) in enumerate(works.items()):
        axes[0][column].set_title(title)
        axes[2][column].set_xlabel("minutes")
        minutes, *held = np.array([row[2:] for row in rows]).T
        for panel, name, values in zip(axes[:, column], HEAD[2:], held, strict=True):
            panel.plot(minutes, values, color="#1b6ca8", linewidth=1.3)
            panel.set_ylabel(name)
            panel.set_ylim(0, 1.2 * values.max())
            panel.yaxis.get_major_locator().set_params(integer=True)
            panel.grid(alpha=0.3)
    figure.savefig(path)


def main() -> None:
    """Run each work in a separate process; print the tables and the growth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=20000, help="pixels")
    parser.add_argument("--steps", type=int, default=5000, help="of the training")
    parser.add_argument("--quick", action="store_true", help="only try it: 600 px, 10 steps")
    parser.add_argument("--json", type=Path, help="also write the last line there")
    parser.add_argument("--figure", type=Path, help="also draw both over time, as PNG")
    parser.add_argument("--only", choices=WORKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = {"generate": 600, "train": 10} if options.quick else {"generate": options.side, "train": options.steps}
    if options.only:
        watch = Watch()
        with tempfile.TemporaryDirectory() as folder:
            WORKS[options.only](Path(folder), sizes[options.only], watch)
        print(json.dumps(watch.rows))
        return
    found, works = {}, {}
    for name, size in sizes.items():
        command = [sys.executable, __file__, "--only", name, "--side", str(size), "--steps", str(size)]
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows: list[Row] = json.loads(run.stdout.splitlines()[-1])
        title = f"{name}, {size:,} {'px a side' if name == 'generate' else 'steps'}"
        print(f"\n{title}")
        tenths = [(f"{stage} {part / PARTS:.0%}", *held) for stage, part, *held in rows if part % TENTH == 0]
        for row in (HEAD, *tenths):
            print(f"{row[0]:<16}" + "".join(f"{value!s:>12}" for value in row[1:]), flush=True)
        found[name], works[title] = growth(rows), rows
    if options.figure:
        draw(works, options.figure)
    print_result(found, options.json)


if __name__ == "__main__":
    main()
