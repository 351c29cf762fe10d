"""What all parts of `gpu.py` share: device and sizes, the numbers and where they go, and how time is taken."""

from __future__ import annotations

import contextlib
import json
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from generator import label_tiles
from geosynth.errors import first_line

Numbers = dict[str, float | str]


class Sizes(NamedTuple):
    """Of what is measured."""

    width: int
    """Base width of the generator that is painted with."""
    tile: int
    """Pixels; 128 at least, for which the plain encoder of styles is made."""
    batches: tuple[int, ...]
    """Of that generator."""
    trained: tuple[int, int]
    """Base widths of the trained networks of the reference."""
    presets: tuple[str, str]
    preset_changes: dict[str, Any]
    models: tuple[str, ...]
    """Whose cells are painted."""
    cells: int
    """Of a launch."""
    block: int
    """Side of the squares that are painted to be compared, pixels."""
    raster: int
    """Side of the label raster of `generate`, pixels."""
    ceiling: int
    """Side of the matrices by which products are measured."""
    seconds: float
    """For which each call is repeated."""
    in_a_row: int
    """Calls between two events; a single one would wait for the host."""


FULL = Sizes(64, 256, (4, 16, 64), (32, 64), ("small", "base"), {}, ("embedded", "base"), 4, 512, 20_000, 8192, 0.3, 4)
_SMALL = {"crop_size": 64, "batch_size": 2, "base_width": 4, "discriminator_width": 4, "encoder_width": 4}
QUICK = Sizes(8, 128, (2,), (4, 8), ("tiny", "small"), _SMALL, ("embedded",), 1, 64, 300, 64, 0.0, 1)


class Bench:
    """One part of the benchmark.

    Args:
        part: its name, with which the names of its numbers begin.
        device: "cuda", or "cpu" to try the scripts.
        sizes: of what is measured.
        path: of a JSON file to which numbers are added at once; those of an earlier run of the part are forgotten.
    """

    def __init__(self, part: str, device: str, sizes: Sizes, path: Path | None) -> None:
        self.part, self.device, self.sizes, self.path = part, device, sizes, path
        self.numbers = {name: value for name, value in numbers_in(path).items() if not name.startswith(f"{part}/")}
        write_numbers(path, self.numbers)

    @property
    def on_gpu(self) -> bool:
        """Whether this is more than a trial."""
        return self.device != "cpu"

    def add(self, name: str, value: float) -> float:
        """Print a number and write it."""
        self.numbers[f"{self.part}/{name}"] = float(value)
        print(f"    {self.part}/{name:70} {value:.4g}", flush=True)
        write_numbers(self.path, self.numbers)
        return value

    def attempt(self, what: str, function: Callable[..., object], *arguments: Any, **options: Any) -> None:
        """Call a function; an error is printed and written, and does not stop what follows."""
        try:
            function(*arguments, **options)
        except Exception as error:
            traceback.print_exc()
            sys.stderr.flush()
            self.numbers[f"{self.part}/{what} failed"] = f"{type(error).__name__}: {first_line(error)}"
            write_numbers(self.path, self.numbers)

    def milliseconds(self, call: Callable[..., object], *arguments: Any) -> float:
        """Median time of one call among several in a row, between events on a GPU."""
        warm_ups, least = (5, 3) if self.on_gpu else (1, 1)
        for _ in range(warm_ups):
            call(*arguments)
        self.wait()
        times: list[float] = []
        started = time.perf_counter()
        while len(times) < least or time.perf_counter() - started < self.sizes.seconds:
            with self._timed(times):
                for _ in range(self.sizes.in_a_row):
                    call(*arguments)
        return statistics.median(times) / self.sizes.in_a_row

    @contextlib.contextmanager
    def _timed(self, times: list[float]) -> Iterator[None]:
        if not self.on_gpu:
            before = time.perf_counter()
            yield
            times.append(1000 * (time.perf_counter() - before))
            return
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        first.record()
        yield
        last.record()
        last.synchronize()
        times.append(first.elapsed_time(last))

    def wait(self) -> None:
        """Until the device has done all that was begun."""
        if self.on_gpu:
            torch.cuda.synchronize()

    @contextlib.contextmanager
    def waits_forbidden(self) -> Iterator[None]:
        """A context in which the host's waiting for a GPU is an error."""
        if not self.on_gpu:
            yield
            return
        self.wait()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def show_kernels(self, name: str, call: Callable[..., object], *arguments: Any, count: int = 16) -> None:
        """Print the time by kernel."""
        from torch.profiler import ProfilerActivity, profile

        rounds = 5 if self.on_gpu else 1
        for _ in range(rounds - 1):
            call(*arguments)
        self.wait()
        with profile(activities=[ProfilerActivity.CUDA if self.on_gpu else ProfilerActivity.CPU]) as found:
            for _ in range(rounds):
                call(*arguments)
            self.wait()
        events = sorted(found.key_averages(), key=lambda each: -each.device_time_total)
        total = sum(each.device_time_total for each in events) / rounds / 1000
        launches = sum(each.count for each in events) / rounds
        print(f"  {name}: {total:.2f} ms in {launches:.0f} kernels", flush=True)
        for each in events[:count]:
            took = each.device_time_total / rounds / 1000
            print(f"    {took:7.3f} ms {each.count / rounds:6.1f}  {each.key[:90]}", flush=True)


def numbers_in(path: Path | None) -> Numbers:
    """What a file holds so far."""
    return json.loads(path.read_text()) if path is not None and path.exists() else {}


def write_numbers(path: Path | None, numbers: Numbers) -> None:
    """Write all numbers to a file; it is never half written, although a part may be killed meanwhile."""
    if path is not None:
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text(json.dumps(numbers, indent=1))
        partial.replace(path)


def label_raster(side: int, seed: int = 0) -> np.ndarray:
    """Class indices (side, side): tiles in rows and columns, each rotated at random."""
    tiles = label_tiles(256, 64)[0].numpy().astype(np.uint8)
    rng = np.random.default_rng(seed)
    count = -(-side // 256)
    rows = [
        np.concatenate([np.rot90(tiles[rng.integers(len(tiles))], int(rng.integers(4))) for _ in range(count)], axis=1)
        for _ in range(count)
    ]
    return np.concatenate(rows)[:side, :side]
